import copy
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import parse_yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.common import params
from stages.common.errors import InputError
from stages.learning.settings import Train
from tests import made

PROJECT = Path(__file__).resolve().parents[2]
VALUES: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / "params.yaml").read_text())
KEYS = [(group, key) for group, keys in VALUES.items() for key in keys]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.datetimes(),
    st.binary(max_size=10),
    st.sampled_from(["phantom", "fail", "1e-4", "adam", "max", "val_loss", "last", "nan", "1e999"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=8,
)


def changed(group: str, key: object, value: object) -> dict[str, Any]:
    values: dict[str, Any] = copy.deepcopy(VALUES)
    values[group][key] = value
    return values


def message(values: object) -> str:
    with pytest.raises(InputError) as caught:
        params.parse(values)
    text = str(caught.value)
    assert text.startswith("params.yaml can't be used:\n  ")
    return text.removeprefix("params.yaml can't be used:\n  ")


def load_message(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        params.load_all(path)
    text = str(caught.value)
    assert text.startswith(f"{path} ")
    return text.removeprefix(f"{path} ")


def test_the_file_of_the_project_is_read() -> None:
    assert params.load_all(PROJECT / "params.yaml").model_dump() == VALUES


def test_the_groups_are_found_beside_what_they_set(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {name: group.__module__ for name, group in params.groups().items()}
    assert modules == {
        "audit": "stages.intake.settings",
        "crossvalidate": "stages.learning.settings",
        "download": "stages.sources.settings",
        "evaluate": "stages.judging.settings",
        "external": "stages.judging.settings",
        "machine": "stages.learning.settings",
        "preprocess": "stages.learning.settings",
        "train": "stages.learning.settings",
    }
    monkeypatch.chdir(PROJECT)
    assert params.load(Train).model_dump() == VALUES["train"]


@pytest.mark.parametrize("first", ["sources", "intake", "learning", "judging"])
def test_whichever_stage_loads_first_refuses_what_no_group_knows(
    tmp_path: Path, first: str
) -> None:
    text = (PROJECT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(
        text.replace("train:\n", "train:\n  ephocs: 5\n") + "trian: {}\n"
    )
    code = f"""
from stages.common import params
from stages.{first} import settings
params.load(next(value for value in vars(settings).values()
    if isinstance(value, type) and value.__module__ == settings.__name__))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    for key, known in (("train.ephocs", "optimizer, learning_rate, "), ("trian", "audit, ")):
        assert f"\n  {key}: there is no such key, expected one of {known}" in done.stderr


def test_every_group_of_the_file_is_one_that_a_stage_of_dvc_yaml_depends_on() -> None:
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"].values()
    named = {key.split(".")[0] for stage in stages for key in stage.get("params", [])}
    assert named | {"machine"} == set(VALUES)  # on which no bit depends


@pytest.mark.parametrize(("monitor", "mode"), [("val_loss", "min"), ("val_accuracy", "max")])
def test_the_mode_follows_from_what_is_monitored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, monitor: str, mode: str
) -> None:
    made.write_params(tmp_path, monitor=monitor)
    monkeypatch.chdir(tmp_path)
    settings = params.load(Train)
    assert (settings.monitor, settings.mode) == (monitor, mode)


def parsed(content: str) -> Any:
    """What the loader sees, before it is checked, or the kind of its refusal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(params, "parse", lambda values, _: values)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "params.yaml"
            path.write_text(content, "utf-8", newline="\n")
            try:
                return params.load_all(path)
            except InputError:
                return "refused"


def parsed_by_dvc(content: str) -> Any:
    try:
        return parse_yaml(content, "params.yaml")
    except Exception:
        return "refused"


PLAIN = st.one_of(
    st.integers().map(str),
    st.integers(0).map(lambda number: f"0{number:o}"),
    st.integers(0).map(lambda number: f"0o{number:o}"),
    st.integers(0).map(hex),
    st.floats().map(str),
    st.integers(0, 10**9).map(lambda number: f"{number:_}"),
    st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda parts: "{}:{}".format(*parts)),
    st.dates().map(str),
    st.text("0123456789_+-.:eExoOb", min_size=1, max_size=8),
    st.sampled_from(["yes", "no", "on", "off", "y", "N", "True", "NULL", "~", "", ".inf", ".NaN"]),
)


@settings(max_examples=150, deadline=None)
@given(PLAIN)
@example("010")
@example("1:30")
@example("yes")
@example("1_000")
@example("0o10")
@example("1e-4")
@example("1.e4")
@example("=")
def test_a_scalar_is_read_as_dvc_reads_it(scalar: str) -> None:
    content = f"train:\n  epochs: {scalar}\n"
    ours, theirs = parsed(content), parsed_by_dvc(content)
    assert repr(ours) == repr(theirs)  # 1, 1.0 and True differ, NaN equals NaN


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("epochs: 010", 10),
        ("epochs: 0o10", 8),
        ("epochs: 1_000", 1000),
        ("epochs: 1:30", "found '1:30', expected a valid integer"),
        ("epochs: yes", "found 'yes', expected a valid integer"),
        ("learning_rate: 1e-4", 1e-4),
    ],
)
def test_what_yaml_readers_read_differently(tmp_path: Path, written: str, expected: object) -> None:
    key = written.split(":", maxsplit=1)[0]
    text = (PROJECT / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(rf"(?m)^  {key}: \S+", f"  {written}", text, count=1))
    if isinstance(expected, str):
        with pytest.raises(InputError, match=f"train.{key}: {expected}"):
            params.load_all(path)
    else:
        assert getattr(params.load_all(path).train, key) == expected


@pytest.mark.parametrize(
    ("group", "key", "value", "expected"),
    [
        ("train", "epochs", 0, "train.epochs: found 0, expected greater than or equal to 1"),
        ("train", "epochs", -5, "train.epochs: found -5, expected greater than or equal to 1"),
        ("train", "epochs", "50", "train.epochs: found '50', expected a valid integer"),
        ("train", "epochs", 50.0, "train.epochs: found 50.0, expected a valid integer"),
        ("train", "epochs", True, "train.epochs: found True, expected a valid integer"),
        ("train", "epochs", None, "train.epochs: found None, expected a valid integer"),
        ("train", "device", "GPU", "train.device: found 'GPU', expected 'cpu' or 'gpu'"),
        (
            "train",
            "precision",
            "bfloat16",
            "train.precision: found 'bfloat16', expected 'float32' or 'mixed_bfloat16'",
        ),
        (
            "machine",
            "memory_gigabytes",
            "8 GB",
            "machine.memory_gigabytes: found '8 GB', expected a valid number",
        ),
        (
            "machine",
            "memory_gigabytes",
            -1,
            "machine.memory_gigabytes: found -1, expected greater than or equal to 0",
        ),
        (
            "train",
            "batch_size",
            0,
            "train.batch_size: found 0, expected greater than or equal to 1",
        ),
        (
            "train",
            "learning_rate",
            0,
            "train.learning_rate: found 0, expected greater than 0",
        ),
        (
            "train",
            "learning_rate",
            "fast",
            "train.learning_rate: found 'fast', expected a valid number",
        ),
        (
            "train",
            "learning_rate",
            True,
            "train.learning_rate: found True, expected a valid number",
        ),
        (
            "train",
            "optimizer",
            "Adam",
            "train.optimizer: found 'Adam', expected 'adam', 'rmsprop' or 'sgd'",
        ),
        (
            "train",
            "mode",
            "max",
            "train.mode: there is no such key, expected one of optimizer, learning_rate, "
            "batch_size, epochs, monitor, patience, min_delta, weights, seed, threads, "
            "device, precision",
        ),
        (
            "train",
            "learning_rate",
            "1e-4",  # in quotes, and so text for DVC too
            "train.learning_rate: found '1e-4', expected a valid number",
        ),
        (
            "download",
            "source",
            "Kaggle",
            "download.source: found 'Kaggle', expected 'phantom', 'archive' or 'kaggle'",
        ),
        (
            "audit",
            "unreadable",
            "ignore",
            "audit.unreadable: found 'ignore', expected 'fail' or 'quarantine'",
        ),
        (
            "audit",
            "labels",
            "checked",
            "audit.labels: found 'checked', expected 'filed' or 'verified'",
        ),
        ("audit", "records", 1, "audit.records: found 1, expected a valid string"),
        (
            "audit",
            "patient_pattern",
            r"(\d+",
            r"audit.patient_pattern: found '(\\d+', expected a regular expression with a group "
            "(?P<patient>...), or nothing (missing ), unterminated subpattern at position 0)",
        ),
        (
            "audit",
            "patient_pattern",
            "(?P<person>.)",
            "audit.patient_pattern: found '(?P<person>.)', expected a regular expression with a "
            "group (?P<patient>...), or nothing",
        ),
        (
            "preprocess",
            "validation_share",
            0.9,
            "preprocess.validation_share: found 0.9, expected less than or equal to 0.5",
        ),
        (
            "preprocess",
            "validation_share",
            0.4,
            "preprocess.validation_share: found 0.4, expected one of equal parts, "
            "such as 0.333 or 0.5",
        ),
        (
            "preprocess",
            "validation_shares",
            0.2,
            "preprocess.validation_shares: there is no such key, "
            "expected one of validation, validation_share, seed",
        ),
        (
            "preprocess",
            7,
            0.2,
            "preprocess.7: there is no such key, "
            "expected one of validation, validation_share, seed",
        ),
        (
            "crossvalidate",
            "folds",
            1,
            "crossvalidate.folds: found 1, expected greater than or equal to 2",
        ),
        (
            "crossvalidate",
            "seeds",
            [4, 4],
            "crossvalidate.seeds: found [4, 4], expected every seed only once",
        ),
        (
            "crossvalidate",
            "seeds",
            [1, "2"],
            "crossvalidate.seeds.1: found '2', expected a valid integer",
        ),
    ],
)
def test_a_wrong_key_or_value_is_named(
    group: str, key: object, value: object, expected: str
) -> None:
    assert message(changed(group, key, value)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "external.classes: found None, expected a valid dictionary"),
        ({"A": 1}, "external.classes.A: found 1, expected a valid string"),
        ({2: "A"}, "external.classes.2.[key]: found 2, expected a valid string"),
        ({"a\nb": None}, r"external.classes.a\nb: found None, expected a valid string"),
    ],
)
def test_a_wrong_name_of_a_folder_or_a_class(value: object, expected: str) -> None:
    assert message(changed("external", "classes", value)) == expected


def test_several_faults_are_all_named() -> None:
    values = changed("train", "epochs", 0)
    values["audit"]["unreadable"] = 3
    del values["evaluate"]["seed"]
    text = message(values)
    assert len(text.splitlines()) == 3
    assert all(line[:2] == "  " and line[2].isalpha() for line in text.splitlines()[1:])
    assert "train.epochs: found 0" in text
    assert "audit.unreadable: found 3" in text
    assert "evaluate.seed: this key is missing" in text


@pytest.mark.parametrize("content", ["None", "[1, 2]", "'text'", "5"])
def test_a_file_without_groups(tmp_path: Path, content: str) -> None:
    text = load_message(tmp_path, b"" if content == "None" else content.encode())
    assert text == (
        f"can't be used:\n  found {content}, expected the keys {', '.join(params.groups())}"
    )


def test_a_group_that_is_no_group() -> None:
    values: dict[str, Any] = {**VALUES, "audit": [1]}
    assert message(values) == "audit: found [1], expected the keys " + ", ".join(VALUES["audit"])


def test_an_unknown_group() -> None:
    assert message({**VALUES, "trian": {}}) == (
        f"trian: there is no such key, expected one of {', '.join(params.groups())}"
    )


def test_a_long_value_is_cut() -> None:
    text = message(changed("train", "epochs", "x" * 5000))
    assert len(text) < 200
    assert text.endswith("…, expected a valid integer")


@pytest.mark.parametrize("written", ["1e-4", "1.0e-4", "0.0001", ".0001"])
def test_every_way_to_write_a_number(tmp_path: Path, written: str) -> None:
    text = (PROJECT / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("learning_rate: 0.0001", f"learning_rate: {written}"))
    assert params.load_all(path).train.learning_rate == 1e-4


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        params.load_all(tmp_path / "params.yaml")
    assert str(caught.value) == (
        f"{tmp_path}/params.yaml is not here. Stages are run from the folder that holds dvc.yaml: "
        "go there, or bring the file back with `git checkout params.yaml`."
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"train:\n\tepochs: 5\n", "that cannot start any token"),
        (b"train: [1, 2\n", "expected ',' or ']'"),
        ("train: größer".encode("latin-1"), "'utf-8' codec can't decode byte 0xf6"),
        (b"train: \x00", "unacceptable character"),
        (b"train:\n  epochs: 5\n  seed: 1\n  epochs: 6\n", 'found duplicate key "epochs"'),
        (b"audit: 1\naudit: 2\n", 'found duplicate key "audit"'),
        (b"train: !!python/object:os.system {}", "could not determine a constructor"),
        (b"a: 2024-13-45", "month must be in 1..12"),
        (b"a: " + b"1" * 5000, "4300 digits"),
        (b"a: !!timestamp x", "is not valid YAML: "),
        (b"[" * 1200, "while parsing a flow"),
        (b"a: 1\n---\na: 2\n", "expected a single document"),
    ],
)
def test_what_is_no_yaml(tmp_path: Path, content: bytes, expected: str) -> None:
    text = load_message(tmp_path, content)
    assert text.startswith("is not valid YAML: ")
    assert expected in text


def test_a_deeply_nested_value_is_not_shown(tmp_path: Path) -> None:
    text = load_message(tmp_path, b"[" * 2000 + b"]" * 2000)
    assert text.startswith("can't be used:\n  found something too long to be shown, expected")


def test_a_key_that_is_a_list(tmp_path: Path) -> None:
    assert "(1,): there is no such key" in load_message(tmp_path, b"? [1]\n: 2")


def test_a_fault_of_yaml_is_placed(tmp_path: Path) -> None:
    text = load_message(tmp_path, b"train:\n  epochs: 5\n  epochs: 6\n")
    assert "line 3, column 3" in text


def test_a_merged_group_may_override_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: &a {b: 1}\nc:\n  <<: *a\n  b: 2\n")
    with pytest.raises(InputError, match="a: there is no such key"):
        params.load_all(path)


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(KEYS), value=ANYTHING)
@example(("train", "learning_rate"), 10**400)
@example(("train", "epochs"), int("f" * 9000, 16))
@example(("train", "learning_rate"), "9" * 5000)
@example(("train", "learning_rate"), float("nan"))
@example(("crossvalidate", "seeds"), [1, 2, 3, 4])
@example(("audit", "patient_pattern"), "(?P<patient>x){9999999999}")
@example(("audit", "patient_pattern"), "(?P<patient>{y})[a]")
@example(("audit", "patient_pattern"), "(?P<a\n>x)")
def test_any_value_is_held_or_refused_by_name(place: tuple[str, str], value: object) -> None:
    group, key = place
    try:
        checked = params.parse(changed(group, key, value))
    except InputError as error:
        lines = str(error).splitlines()[1:]
        assert lines
        assert all(line.startswith(f"  {group}.{key}") for line in lines)
        assert all(len(line) < 300 for line in lines)
        return
    held = getattr(getattr(checked, group), key)
    assert held == value or held == float(value)  # type: ignore[arg-type]
    assert type(held) is type(VALUES[group][key])


@settings(max_examples=80, deadline=None)
@given(group=st.sampled_from(sorted(VALUES)), key=SCALARS, value=ANYTHING)
def test_any_other_key_is_refused_by_name(group: str, key: object, value: object) -> None:
    if key in VALUES[group]:
        return
    text = message(changed(group, key, value))
    assert text.startswith(f"{group}.")
    assert "there is no such key, expected one of" in text


@settings(max_examples=80, deadline=None)
@given(values=ANYTHING)
def test_any_content_is_refused_in_words(values: object) -> None:
    assert "expected" in message(values) or "missing" in message(values)


@settings(max_examples=150, deadline=None)
@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
@example(content=b"a: 0b_")
@example(content=b"a: !!bool x")
@example(content=b"&a [*a]")
def test_any_file_ends_in_words(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any-params.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"any-params\.yaml"):
        params.load_all(path)


BOUNDS = {
    "download.phantom_seed": (0, 2**32 - 1),
    "download.max_files": (1, 10_000_000),
    "preprocess.seed": (0, 2**32 - 1),
    "train.batch_size": (1, 100_000),
    "train.epochs": (1, 100_000),
    "train.patience": (1, 100_000),
    "train.seed": (0, 2**32 - 1),
    "train.threads": (1, 256),
    "evaluate.bootstrap_samples": (100, 1_000_000),
    "evaluate.gradcam_images": (1, 60),
    "evaluate.seed": (0, 2**32 - 1),
    "crossvalidate.folds": (2, 50),
}
"""Of the whole numbers: the least and the greatest value."""
RANGES = {
    "download.phantom_share": ([1e-9, 1.0], [0.0, 1.01]),
    "download.max_gigabytes": ([1e-9, 10_000.0], [0.0, 10_000.5]),
    "preprocess.validation_share": ([0.05, 0.5], [0.0499, 0.51]),
    "train.learning_rate": ([1e-9, 1.0], [0.0, 1.01]),
    "train.min_delta": ([0.0, 1.0], [-1e-9, 1.01]),
    "machine.memory_gigabytes": ([0.0, 10_000.0], [-1e-9, 10_000.5]),
}
"""Of the fractions: values at the ends, inside and outside."""


def accepts(name: str, value: object) -> bool:
    group, key = name.split(".")
    try:
        params.parse(changed(group, key, value))
    except InputError:
        return False
    return True


@pytest.mark.parametrize("name", BOUNDS)
def test_a_whole_number_is_bounded(name: str) -> None:
    least, greatest = BOUNDS[name]
    assert [accepts(name, value) for value in (least, greatest)] == [True, True]
    assert [accepts(name, value) for value in (least - 1, greatest + 1)] == [False, False]


@pytest.mark.parametrize("name", RANGES)
def test_a_fraction_is_bounded(name: str) -> None:
    inside, outside = RANGES[name]
    assert [accepts(name, value) for value in inside] == [True, True]
    assert [accepts(name, value) for value in outside] == [False, False]


def test_a_pattern_with_the_group_of_a_patient_is_held() -> None:
    for pattern in ("", r"(?P<patient>\d{8})_\d{3}", "(?P<patient>a)|(?P<other>b)"):
        assert accepts("audit.patient_pattern", pattern)


def test_the_number_of_seeds_is_bounded() -> None:
    for count, good in ((0, False), (1, True), (100, True), (101, False)):
        assert accepts("crossvalidate.seeds", list(range(count))) == good


def test_every_number_in_the_file_has_its_bounds_here() -> None:
    numbers = {
        f"{group}.{key}" for group, key in KEYS if isinstance(VALUES[group][key], int | float)
    }
    assert numbers == BOUNDS.keys() | RANGES.keys()


def test_a_value_of_a_hundred_characters_is_shown_whole() -> None:
    for length, ending in ((98, "x'"), (99, "x…")):  # two quotes come on top
        text = message(changed("train", "optimizer", "x" * length))
        assert text.startswith("train.optimizer: found 'xxx")
        assert f"{ending}, expected" in text


def test_settings_cannot_be_changed_by_accident() -> None:
    settings = params.parse(copy.deepcopy(VALUES)).train
    with pytest.raises(ValidationError, match="frozen"):
        settings.epochs = 1

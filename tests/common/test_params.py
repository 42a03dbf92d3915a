import copy
import functools
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
from stages.learning.settings import EARLY_STOPPING, Recipe, Train, Training

PROJECT = Path(__file__).resolve().parents[2]
VALUES: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / "params.yaml").read_text())
RECIPES = VALUES["recipes"]
KEYS = [
    *((group, key) for group, keys in VALUES.items() if group != "recipes" for key in keys),
    *((f"recipes.{name}", key) for name, keys in RECIPES.items() for key in keys),
]
"""Each with the group, or the recipe, that it is in."""
BY_NAME = {f"recipes.{name}": keys for name, keys in RECIPES.items()}
GROUPS = {name: keys for name, keys in VALUES.items() if name != "recipes"} | BY_NAME

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
    """VALUES with another value; the group may be a recipe, such as `recipes.tuned`."""
    values: dict[str, Any] = copy.deepcopy(VALUES)
    place: Any = values
    for name in group.split("."):
        place = place[name]
    place[key] = value
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
    read = {name: dict(group) for name, group in params.load_all(PROJECT / "params.yaml")}
    recipes = {
        name: recipe.model_dump(exclude_defaults=True)
        for name, recipe in read.pop("recipes").items()
    }
    train = read.pop("train")
    assert recipes == RECIPES
    assert train == {**VALUES["train"], **dict(Recipe(**RECIPES[VALUES["train"]["recipe"]]))}
    assert read == {name: VALUES[name] for name in VALUES if name not in ("train", "recipes")}


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
        "recipes": "stages.learning.settings",
        "train": "stages.learning.settings",
    }
    monkeypatch.chdir(PROJECT)
    assert params.load(Train) == params.load(Training) == params.load_all().train


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
    for key, known in (("train.ephocs", "recipe, seed, "), ("trian", "audit, ")):
        assert f"\n  {key}: there is no such key, expected one of {known}" in done.stderr


def test_every_group_of_the_file_is_one_that_a_stage_of_dvc_yaml_depends_on() -> None:
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"].values()
    named = {key.split(".")[0] for stage in stages for key in stage.get("params", [])}
    assert named | {"machine"} == set(VALUES)  # on which no bit depends


def test_no_stage_depends_on_a_recipe_that_is_not_used() -> None:
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"].values()
    named = [key for stage in stages for key in stage.get("params", []) if "recipes" in key]
    assert set(named) == {"recipes.${train.recipe}", "recipes.${train.recipe}.validation"}


@pytest.mark.parametrize(("monitor", "mode"), [("val_loss", "min"), ("val_accuracy", "max")])
def test_the_mode_follows_from_what_is_monitored(monitor: str, mode: str) -> None:
    settings = Recipe(**RECIPES["holdout"] | {"monitor": monitor})
    assert (settings.monitor, settings.mode) == (monitor, mode)


# ----------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_network_is_trained_by_is_the_recipe_that_is_named(name: str) -> None:
    training = params.parse(changed("train", "recipe", name)).train
    assert isinstance(training, Training)
    assert training.recipe == name
    for key, value in RECIPES[name].items():
        assert getattr(training, key) == value
    for key, value in VALUES["train"].items():
        assert key == "recipe" or getattr(training, key) == value


def test_a_recipe_of_ones_own() -> None:
    values = changed("recipes", "mine", RECIPES["tuned"] | {"epochs": 7})
    values["train"]["recipe"] = "mine"
    assert params.parse(values).train.epochs == 7


@settings(max_examples=80, deadline=None)
@given(
    validation=st.sampled_from(["none", "holdout", "original"]),
    present=st.sets(st.sampled_from(EARLY_STOPPING)),
)
def test_early_stopping_is_whole_or_not_at_all(validation: str, present: set[str]) -> None:
    whole = RECIPES["original"]
    recipe = {
        key: value for key, value in whole.items() if key not in set(EARLY_STOPPING) - present
    }
    values = changed("recipes", "mine", recipe | {"validation": validation})
    if len(present) == (0 if validation == "none" else len(EARLY_STOPPING)):
        assert dict(params.parse(values).recipes)["mine"].validation == validation
    else:
        named = ", ".join(key for key in EARLY_STOPPING if key in present) or "nothing"
        assert message(values) == (
            f"recipes.mine.validation: found {validation!r} with {named}, expected "
            f"{'none' if validation == 'none' else 'all'} of {', '.join(EARLY_STOPPING)} with it"
        )


@settings(max_examples=80, deadline=None)
@given(
    schedule=st.sampled_from(["constant", "cosine"]),
    warmup=st.integers(0, 5),
    epochs=st.integers(1, 5),
)
def test_the_warm_up_is_the_cosines_and_ends_before_the_training(
    schedule: str, warmup: int, epochs: int
) -> None:
    changes = {"schedule": schedule, "warmup_epochs": warmup, "epochs": epochs}
    values = changed("recipes", "tuned", RECIPES["tuned"] | changes)
    bound = epochs if schedule == "cosine" else 1
    if warmup < bound:
        assert params.parse(values).train.warmup_epochs == warmup
    else:
        assert message(values) == (
            f"recipes.tuned.warmup_epochs: found {warmup}, expected less than {bound}, as the "
            f"schedule is {schedule} over {epochs} epochs"
        )


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30).filter(lambda name: name not in RECIPES))
def test_a_recipe_that_is_not_there_is_named(name: str) -> None:
    assert message(changed("train", "recipe", name)) == (
        f"train.recipe: found {name!r}, expected one of {', '.join(RECIPES)}"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "recipes: found None, expected names, each with the keys validation, "),
        ([1], "recipes: found [1], expected names, each with the keys validation, "),
        ({2: {}}, "recipes.2: there is no such key, expected one of names, each with the keys "),
        ({"a": 3}, "recipes.a: found 3, expected the keys validation, optimizer, learning_rate, "),
        ({"a\nb": {}}, r"recipes.a\nb.validation: this key is missing"),
        ({}, "train.recipe: found 'tuned', expected one of "),
    ],
)
def test_recipes_that_are_none(value: object, expected: str) -> None:
    assert message({**VALUES, "recipes": value}).startswith(expected)


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
        ("threads: 010", 10),
        ("threads: 0o10", 8),
        ("threads: 1_00", 100),
        ("threads: 1:30", "found '1:30', expected a valid integer"),
        ("threads: yes", "found 'yes', expected a valid integer"),
        ("learning_rate: 1e-4", 1e-4),
    ],
)
def test_what_yaml_readers_read_differently(tmp_path: Path, written: str, expected: object) -> None:
    key = written.split(":", maxsplit=1)[0]
    text = (PROJECT / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(rf"(?m)^( +){key}: \S+", rf"\1{written}", text, count=1))
    if isinstance(expected, str):
        with pytest.raises(InputError, match=f"train.{key}: {expected}"):
            params.load_all(path)
    else:
        assert getattr(params.load_all(path).train, key) == expected


@pytest.mark.parametrize(
    ("group", "key", "value", "expected"),
    [
        (
            "recipes.tuned",
            "epochs",
            0,
            "recipes.tuned.epochs: found 0, expected greater than or equal to 1",
        ),
        (
            "recipes.tuned",
            "epochs",
            -5,
            "recipes.tuned.epochs: found -5, expected greater than or equal to 1",
        ),
        (
            "recipes.tuned",
            "epochs",
            "50",
            "recipes.tuned.epochs: found '50', expected a valid integer",
        ),
        (
            "recipes.tuned",
            "epochs",
            50.0,
            "recipes.tuned.epochs: found 50.0, expected a valid integer",
        ),
        (
            "recipes.tuned",
            "epochs",
            True,
            "recipes.tuned.epochs: found True, expected a valid integer",
        ),
        (
            "recipes.tuned",
            "epochs",
            None,
            "recipes.tuned.epochs: found None, expected a valid integer",
        ),
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
            "recipes.tuned",
            "batch_size",
            0,
            "recipes.tuned.batch_size: found 0, expected greater than or equal to 1",
        ),
        (
            "recipes.tuned",
            "learning_rate",
            0,
            "recipes.tuned.learning_rate: found 0, expected greater than 0",
        ),
        (
            "recipes.tuned",
            "learning_rate",
            "fast",
            "recipes.tuned.learning_rate: found 'fast', expected a valid number",
        ),
        (
            "recipes.tuned",
            "learning_rate",
            True,
            "recipes.tuned.learning_rate: found True, expected a valid number",
        ),
        (
            "recipes.tuned",
            "optimizer",
            "Adam",
            "recipes.tuned.optimizer: found 'Adam', expected 'adam', 'rmsprop' or 'sgd'",
        ),
        (
            "recipes.tuned",
            "mode",
            "max",
            "recipes.tuned.mode: there is no such key, expected one of validation, optimizer, "
            "learning_rate, schedule, warmup_epochs, label_smoothing, batch_size, epochs, monitor, "
            "patience, min_delta, weights",
        ),
        (
            "recipes.tuned",
            "learning_rate",
            "1e-4",  # in quotes, and so text for DVC too
            "recipes.tuned.learning_rate: found '1e-4', expected a valid number",
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
            "train",
            "learning_rate",
            0.1,
            "train.learning_rate: there is no such key, expected one of recipe, seed, threads, "
            "device, precision",
        ),
        ("train", "recipe", 3, "train.recipe: found 3, expected a valid string"),
        (
            "recipes.tuned",
            "schedule",
            "linear",
            "recipes.tuned.schedule: found 'linear', expected 'constant' or 'cosine'",
        ),
        (
            "recipes.original",
            "validation",
            "test",
            "recipes.original.validation: found 'test', expected 'none', 'holdout' or 'original'",
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
            "expected one of validation_share, seed",
        ),
        (
            "preprocess",
            7,
            0.2,
            "preprocess.7: there is no such key, expected one of validation_share, seed",
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
    values = changed("recipes.tuned", "epochs", 0)
    values["audit"]["unreadable"] = 3
    del values["evaluate"]["seed"]
    text = message(values)
    assert len(text.splitlines()) == 3
    assert all(line[:2] == "  " and line[2].isalpha() for line in text.splitlines()[1:])
    assert "recipes.tuned.epochs: found 0" in text
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
    text = message(changed("recipes.tuned", "epochs", "x" * 5000))
    assert len(text) < 200
    assert text.endswith("…, expected a valid integer")


@pytest.mark.parametrize("written", ["5e-4", "5.0e-4", "0.0005", ".0005"])
def test_every_way_to_write_a_number(tmp_path: Path, written: str) -> None:
    text = (PROJECT / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("learning_rate: 0.0005", f"learning_rate: {written}"))
    assert params.load_all(path).train.learning_rate == 5e-4


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
@example(("recipes.tuned", "learning_rate"), 10**400)
@example(("recipes.tuned", "epochs"), int("f" * 9000, 16))
@example(("recipes.tuned", "learning_rate"), "9" * 5000)
@example(("recipes.tuned", "learning_rate"), float("nan"))
@example(("recipes.tuned", "warmup_epochs"), 50)
@example(("recipes.original", "monitor"), None)
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
        together = (f"  {group}.validation: found", f"  {group}.warmup_epochs: found")
        named = (f"  {group}.{key}", *(together if group in BY_NAME else ()))
        assert all(line.startswith(named) for line in lines)
        assert all(len(line) < 300 for line in lines)
        return
    held = getattr(functools.reduce(getattr, group.split("."), checked), key)
    assert held == value or held == float(value)  # type: ignore[arg-type]
    assert type(held) is type(GROUPS[group][key])


@settings(max_examples=80, deadline=None)
@given(group=st.sampled_from(sorted(GROUPS)), key=SCALARS, value=ANYTHING)
def test_any_other_key_is_refused_by_name(group: str, key: object, value: object) -> None:
    if key in GROUPS[group] or key in Recipe.model_fields:
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
    "recipes.original.batch_size": (1, 100_000),
    "recipes.original.epochs": (1, 100_000),
    "recipes.original.patience": (1, 100_000),
    "recipes.tuned.warmup_epochs": (0, 39),
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
    "recipes.original.learning_rate": ([1e-9, 1.0], [0.0, 1.01]),
    "recipes.tuned.label_smoothing": ([0.0, 0.999], [-1e-9, 1.0]),
    "recipes.original.min_delta": ([0.0, 1.0], [-1e-9, 1.01]),
    "machine.memory_gigabytes": ([0.0, 10_000.0], [-1e-9, 10_000.5]),
}
"""Of the fractions: values at the ends, inside and outside."""


def accepts(name: str, value: object) -> bool:
    group, key = name.rsplit(".", 1)
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
    def named(group: str, key: str) -> str:
        return key if group in BY_NAME else f"{group}.{key}"

    numbers = {
        named(*place) for place in KEYS if isinstance(GROUPS[place[0]][place[1]], int | float)
    }
    assert numbers == {named(*name.rsplit(".", 1)) for name in (*BOUNDS, *RANGES)}


def test_a_value_of_a_hundred_characters_is_shown_whole() -> None:
    for length, ending in ((98, "x'"), (99, "x…")):  # two quotes come on top
        text = message(changed("recipes.tuned", "optimizer", "x" * length))
        assert text.startswith("recipes.tuned.optimizer: found 'xxx")
        assert f"{ending}, expected" in text


def test_settings_cannot_be_changed_by_accident() -> None:
    settings = params.parse(copy.deepcopy(VALUES)).train
    with pytest.raises(ValidationError, match="frozen"):
        settings.epochs = 1

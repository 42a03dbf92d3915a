import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages import preprocess
from stages.common import files
from stages.common.errors import InputError
from stages.intake import decode
from stages.learning import dataset
from stages.learning.settings import Preprocess
from tests import made

COLUMNS = ("path", "split", "class", "radiograph", "group", "leaked", "source", "label")
UNRECORDED = {"source": "", "label": "unknown"}


def write_table(rows: list[dict[str, str]]) -> None:
    with preprocess.TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def rows_of(raw: Path) -> list[dict[str, str]]:
    """What the audit would write of a folder without copies."""
    return [
        {
            "path": path.relative_to(raw).as_posix(),
            "split": path.parts[-3],
            "class": path.parts[-2],
            "radiograph": str(number),
            "group": str(number),
            "leaked": "no",
            **UNRECORDED,
        }
        for number, path in enumerate(sorted(raw.glob("*/*/*")))
    ]


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder data/raw of a scratch project, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    made.write_params(tmp_path)
    made.make_raw(tmp_path)
    write_table(rows_of(Path("data/raw")))
    return Path("data/raw")


def index() -> list[dict[str, str]]:
    with (dataset.PROCESSED / "index.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def written() -> dict[str, str]:
    """The SHA-256 of every file that is there."""
    return {
        path.relative_to(dataset.PROCESSED).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in dataset.PROCESSED.rglob("*")
        if path.is_file()
    }


def in_data() -> set[str]:
    return {path.name for path in Path("data").iterdir()} - {"kaggle-records.csv"}


def message() -> str:
    with pytest.raises(InputError) as caught:
        preprocess.main()
    assert not dataset.PROCESSED.exists()
    assert in_data() in ({"audit.csv", "raw"}, {"audit.csv"}, {"raw"})
    return str(caught.value)


# ------------------------------------------------------------------------------------- protocols


def test_holdout(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preprocess.main()
    rows = index()
    assert tuple(rows[0]) == dataset.INDEX_COLUMNS
    uses = [row["use"] for row in rows]
    assert (uses.count("train"), uses.count("validation"), uses.count("test")) == (14, 4, 9)
    assert {row["class"] for row in rows if row["use"] == "validation"} == set(made.CLASSES)
    for row in rows:
        kept_in = "test" if row["use"] == "test" else "train"
        assert row["path"].startswith(f"{kept_in}/")
        assert row["file"] == f"{row['use']}/{row['class']}/{Path(row['path']).name}.png"
    assert written().keys() == {
        "index.csv",
        "provenance.json",
        *(row["file"] for row in rows),
    }
    origin = json.loads((raw / "provenance.json").read_text())
    (dataset.PROCESSED / "provenance.json").rename(raw / "processed.json")
    content = json.loads((raw / "processed.json").read_text())
    assert content == origin | {"sha256": files.sha256_of_folder(dataset.PROCESSED)}
    out = capsys.readouterr().out
    assert out == "27 images written; validation holdout: 14 train, 4 validation, 9 test\n"


def test_original(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.write_params(tmp_path, recipe="original")
    preprocess.main()
    rows = index()
    test = [row for row in rows if row["use"] == "test"]
    assert [row for row in rows if row["use"] == "validation"] == [
        row | {"use": "validation"} for row in test
    ]
    assert len(written()) == 2 + 27
    assert not (dataset.PROCESSED / "validation").exists()
    out = capsys.readouterr().out
    assert out == "27 images written; validation original: 18 train, 9 validation, 9 test\n"
    assert len(dataset.load(["validation"])) == 9


def test_without_validation_all_of_train_is_trained_on(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.write_params(tmp_path, recipe="tuned")
    preprocess.main()
    assert [row["use"] for row in index()] == [row["split"] for row in rows_of(raw)]
    out = capsys.readouterr().out
    assert out == "27 images written; validation none: 18 train, 0 validation, 9 test\n"


def test_the_images_are_what_the_network_gets(raw: Path) -> None:
    preprocess.main()
    for row in index():
        with Image.open(dataset.PROCESSED / row["file"]) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (200, 200))
            expected = decode.resized(raw / row["path"], 200)
            assert (np.asarray(image) == np.asarray(expected)).all()


def test_names_that_differ_only_in_their_ending_and_odd_ones(raw: Path) -> None:
    folder = raw / "train" / "Covid"
    for number, name in enumerate(
        ["00.jpeg", "00.png.png", '-rf, "it\'s" größer 胸.bmp', "x" * 200]
    ):
        made.picture(500 + number).save(folder / name, "JPEG")
    write_table(rows_of(raw))
    preprocess.main()
    images = dataset.load(["train", "validation"])
    assert len(images) == 22
    assert len(set(images.table["file"])) == 22
    assert set(images.table["path"]) == {
        row["path"] for row in rows_of(raw) if row["split"] == "train"
    }


@pytest.mark.parametrize("recipe", ["tuned", "holdout", "original"])
def test_the_same_bytes_for_any_number_of_threads(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    made.write_params(tmp_path, recipe=recipe)
    outputs = []
    for cores in (1, 2, 5):
        monkeypatch.setattr("stages.common.parallel.available_cores", lambda cores=cores: cores)
        preprocess.main()
        outputs.append(written())
    assert outputs[0] == outputs[1] == outputs[2]


def test_another_seed_deals_anew_and_the_same_one_the_same(raw: Path, tmp_path: Path) -> None:
    outputs = []
    for seed in (0, 1, 0):
        made.write_params(tmp_path)
        text = Path("params.yaml").read_text()
        Path("params.yaml").write_text(text.replace("  seed: 0 ", f"  seed: {seed} ", 1))
        preprocess.main()
        outputs.append(written())
    assert outputs[0] == outputs[2]
    assert outputs[0] != outputs[1]


def test_what_was_there_before_is_gone(raw: Path) -> None:
    (dataset.PROCESSED / "train").mkdir(parents=True)
    (dataset.PROCESSED / "train" / "old.png").touch()
    preprocess.main()
    assert "train/old.png" not in written()
    assert in_data() == {"audit.csv", "processed", "raw"}


@st.composite
def audited(draw: st.DrawFn) -> tuple[list[dict[str, str]], Preprocess]:
    """A table with radiographs enough for the share that is held out, and copies of them."""
    parts = draw(st.integers(2, 8))
    rows = []
    for number, name in enumerate("ABC"):
        ways = st.integers(1, 3)  # copies of each radiograph
        copied = draw(st.lists(ways, min_size=parts, max_size=parts + 10))
        groups = [group for group, count in enumerate(copied) for _ in range(count)]
        groups = draw(st.permutations(groups))
        for split, of_split in (("train", groups), ("test", draw(st.lists(st.integers(0, 30))))):
            rows += [
                {
                    "path": f"{split}/{name}/{place}.png",
                    "split": split,
                    "class": name,
                    "radiograph": str(1000 * number + place),
                    "group": str(100 * number + group),
                    "leaked": "yes" if place % 2 else "no",
                    **UNRECORDED,
                }
                for place, group in enumerate(of_split)
            ]
    seed = draw(st.integers(0, 1000))
    return rows, Preprocess(validation_share=1 / parts, seed=seed)


@settings(max_examples=50, deadline=None)
@given(audited())
def test_no_radiograph_is_trained_on_and_validated_on(
    table: tuple[list[dict[str, str]], Preprocess],
) -> None:
    rows, chosen = table
    entries = preprocess.index_of(rows, "holdout", chosen)
    assert [entry["path"] for entry in entries] == [row["path"] for row in rows]
    assert len({entry["file"] for entry in entries}) == len(entries)
    groups = {
        use: {entry["group"] for entry in entries if entry["use"] == use}
        for use in ("train", "validation")
    }
    assert groups["train"].isdisjoint(groups["validation"])
    for use in ("train", "validation"):
        assert {entry["class"] for entry in entries if entry["use"] == use} == {"A", "B", "C"}
    plain = preprocess.index_of(rows, "none", chosen)
    assert [entry["use"] for entry in plain] == [row["split"] for row in rows]
    for entry, row in zip(entries, rows, strict=True):
        assert (entry["use"] == "test") == (row["split"] == "test")
        assert (entry["group"], entry["leaked"]) == (row["group"], row["leaked"])


# ------------------------------------------------------------------------------------ bad inputs


def test_the_table_is_missing(raw: Path) -> None:
    preprocess.TABLE.unlink()
    assert message() == (
        "data/audit.csv is not there; the stage `audit` writes it. Run `dvc repro audit`."
    )


def test_an_image_is_gone(raw: Path) -> None:
    (raw / "test/Covid/01.png").unlink()
    assert message() == (
        "data/raw/test/Covid/01.png is not there, but data/audit.csv lists it. "
        "Run `dvc repro preprocess`."
    )


def test_an_image_is_damaged_since_the_audit(raw: Path) -> None:
    (raw / "test/Covid/01.png").write_bytes(b"")
    assert message() == "data/raw/test/Covid/01.png: it is empty (0 bytes)"


def test_a_class_too_small_to_hold_a_share_out(raw: Path) -> None:
    rows = rows_of(raw)
    for row in rows:
        if row["split"] == "train" and row["class"] == "Normal":
            row["group"] = "0"
    write_table(rows)
    assert message().startswith(
        "class 'Normal': found 1 different radiographs to train on, expected at least 5"
    )


def test_an_unknown_parameter(raw: Path) -> None:
    with Path("params.yaml").open("a") as file:
        file.write("prepocess: {}\n")
    assert "prepocess: there is no such key" in message()


def test_as_a_program(raw: Path, tmp_path: Path) -> None:
    made.write_params(tmp_path, recipe="original")  # needs no scikit-learn
    done = made.run_stage(tmp_path, "preprocess")
    assert (done.returncode, done.stderr) == (0, "")
    (raw / "test/Covid/00.png").unlink()
    done = made.run_stage(tmp_path, "preprocess")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "preprocess: data/raw/test/Covid/00.png is not there, but data/audit.csv lists it. "
        "Run `dvc repro preprocess`.\n"
    )


def test_nothing_was_downloaded(raw: Path) -> None:
    shutil.rmtree(raw)
    assert message() == (
        "data/raw/provenance.json is not there; the stage `download` writes it. "
        "Run `dvc repro download`."
    )


# ----------------------------------------------------------------------------------------- memory

MEMORY = """
import re
from pathlib import Path
from stages import preprocess
def most_after(count):
    preprocess.write_images(
        [(Path("a.jpg"), Path("out") / f"{number}.png") for number in range(count)], 2
    )
    # ru_maxrss would be the test process's own at the least
    return 1024 * int(re.search("VmHWM:(.*) kB", Path("/proc/self/status").read_text())[1])

print([most_after(20), most_after(200)])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    made.picture(1, (500, 600)).save(tmp_path / "a.jpg")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        cwd=tmp_path,
        env={"PYTHONPATH": str(made.PROJECT), "MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        check=True,
        timeout=120,
    )
    few, many = json.loads(done.stdout)
    assert len(list((tmp_path / "out").iterdir())) == 200
    # 180 pictures of 120,000 bytes would be 22 MB
    assert many - few < 8e6, (few, many)

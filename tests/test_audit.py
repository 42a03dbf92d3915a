import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages import audit
from stages.common import files, parallel
from stages.common.errors import InputError
from stages.intake import contact_sheet, copies, known, records
from tests import made, made_dicom

PRINTS: dict[object, copies.Fingerprint] = {}
fingerprint = copies.fingerprint


def remembered(image: Image.Image) -> copies.Fingerprint:
    """The fingerprint, made once only: most tests audit the same pictures."""
    key = image.mode, image.size, image.tobytes()
    if key not in PRINTS:
        PRINTS[key] = fingerprint(image)
    return PRINTS[key]


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder data/raw of a scratch project, which is the working folder."""
    monkeypatch.setattr(copies, "fingerprint", remembered)
    monkeypatch.chdir(tmp_path)
    made.write_params(tmp_path)
    made.make_raw(tmp_path)
    shutil.copy(made.PROJECT / records.KAGGLE, records.KAGGLE)
    return Path("data/raw")


def table() -> list[dict[str, str]]:
    with audit.TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def details() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(audit.DETAILS.read_text())
    return content


def message() -> str:
    with pytest.raises(InputError) as caught:
        audit.main()
    assert not audit.TABLE.exists()
    assert not audit.DETAILS.exists()
    return str(caught.value)


BAD = {
    "empty.png": b"",
    "text.png": b"no picture here",
    "page.jpg": b"<!DOCTYPE html><title>403</title>",
    "cut.jpg": made.encoded(made.picture(50), "JPEG")[:900],
    "tiny.png": made.encoded(made.picture(50, (5, 5)), "PNG"),
    "animated.gif": made.encoded(
        made.picture(50), "GIF", save_all=True, append_images=[made.picture(51)]
    ),
    '-rf "it\'s" 胸部.png': b"",
    "two\nlines.png": b"",
}
REASONS = {
    "empty.png": "it is empty (0 bytes)",
    "text.png": "it is text, not an image",
    "page.jpg": "it is a web page, not an image; the download probably failed",
    "cut.jpg": "its image data is damaged (image file is truncated (",
    "tiny.png": "it has 5 x 5 pixels; expected at least 32 x 32",
    "animated.gif": "it holds 2 pictures; expected one",
    '-rf "it\'s" 胸部.png': "it is empty (0 bytes)",
    "two\\nlines.png": "it is empty (0 bytes)",
}


def add_bad_files(raw: Path) -> None:
    for name, content in BAD.items():
        (raw / "train" / "Covid" / name).write_bytes(content)


# ------------------------------------------------------------------------------ what comes out


def test_one_row_per_file(raw: Path) -> None:
    path = raw / "train" / "Covid" / "00.png"
    path.unlink()
    name = 'it\'s, "quoted" & größer 胸.jpg'
    picture = made.picture(99, (300, 240)).convert("RGB")
    picture.save(raw / "train" / "Covid" / name, quality=90)
    audit.main()
    rows = table()
    assert len(rows) == 27
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    row = next(row for row in rows if row["path"] == f"train/Covid/{name}")
    data = (raw / "train" / "Covid" / name).read_bytes()
    with Image.open(raw / "train" / "Covid" / name) as image:
        pixels = image.convert("RGB").tobytes()
    assert row == {
        "path": f"train/Covid/{name}",
        "split": "train",
        "class": "Covid",
        "bytes": str(len(data)),
        "format": "JPEG",
        "mode": "RGB",
        "width": "300",
        "height": "240",
        "sha256": hashlib.sha256(data).hexdigest(),
        "pixels_sha256": hashlib.sha256(b"300x240:" + pixels).hexdigest(),
        "patient": "",
        "source": "",
        "finding": "",
        "view": "",
        "label": "unknown",
        "radiograph": row["group"],
        "group": row["group"],
        "leaked": "no",
    }


def test_counts(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit.main()
    written = details()
    assert written["provenance"] == {"data": "made for a test"}
    assert written["images"] == {
        "train": dict.fromkeys(made.CLASSES, 6),
        "test": dict.fromkeys(made.CLASSES, 3),
    }
    assert (written["radiographs"], written["groups"]) == (27, 27)
    assert written["unreadable"] == 0
    assert set(written["copies"].values()) == {0}
    assert written["copy_groups"] == []
    assert len({row["group"] for row in table()}) == 27
    assert capsys.readouterr().out.splitlines()[0] == (
        "27 images (train 18, test 9) of 27 radiographs in 27 groups of copies or patients; "
        "0 unreadable"
    )
    assert audit.CONTACT_SHEET.is_file()


def test_copies_within_and_across_the_splits(raw: Path) -> None:
    shutil.copy(raw / "train/Covid/00.png", raw / "test/Covid/other.png")
    shutil.copy(raw / "train/Normal/00.png", raw / "train/Normal/other.png")
    with Image.open(raw / "train/Normal/01.png") as image:
        image.resize((150, 120)).save(raw / "train/Normal/small.png")
    with Image.open(raw / "test/Normal/01.png") as image:
        image.convert("RGB").save(raw / "test/Viral Pneumonia/same.bmp")
    audit.main()
    written = details()
    assert (written["radiographs"], written["groups"]) == (27, 27)
    assert written["leaked_test_images"] == {"Covid": 1, "Normal": 0, "Viral Pneumonia": 0}
    assert written["copies"] == {
        "groups_with_copies": 4,
        "within_train": 2,
        "within_test": 1,
        "across_splits": 1,
        "identical_pairs": 2,
        "contradicting_classes": 1,
        "leaked_test_images": 1,
    }
    assert [(group["kinds"], group["files"]) for group in written["copy_groups"]] == [
        (["bytes"], ["test/Covid/other.png", "train/Covid/00.png"]),
        (["pixels"], ["test/Normal/01.png", "test/Viral Pneumonia/same.bmp"]),
        (["bytes"], ["train/Normal/00.png", "train/Normal/other.png"]),
        (["near"], ["train/Normal/01.png", "train/Normal/small.png"]),
    ]
    assert [row["path"] for row in table() if row["leaked"] == "yes"] == ["test/Covid/other.png"]


def test_the_contact_sheet_shows_copies_that_a_person_has_to_judge(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(raw / "train/Covid/00.png", raw / "test/Covid/other.png")  # no doubt about these
    for name in ("a.jpg", "b.png"):
        made.picture(700, (600, 500)).save(raw / "train/Normal" / name)
    drawn: list[Any] = []
    monkeypatch.setattr(contact_sheet, "write", lambda *arguments: drawn.extend(arguments))
    audit.main()
    target, title, groups, picture_of = drawn
    assert (target, title) == (audit.CONTACT_SHEET, "Near copies: made for a test")
    assert groups == [["train/Normal/a.jpg", "train/Normal/b.png"]]
    assert [picture_of(path).size for path in groups[0]] == [(240, 200)] * 2


def test_the_same_bytes_whatever_the_number_of_threads(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(raw / "train/Covid/00.png", raw / "test/Covid/other.png")
    with Image.open(raw / "train/Normal/00.png") as image:
        image.resize((150, 120)).save(raw / "train/Normal/large.png")
    outputs = []
    for cores in (1, 4):
        monkeypatch.setattr(parallel, "available_cores", lambda cores=cores: cores)
        audit.main()
        places = (audit.TABLE, audit.DETAILS, audit.CONTACT_SHEET)
        prints = made.contents_of(known.FINGERPRINTS)
        outputs.append([prints, *(place.read_bytes() for place in places)])
        for place in places:
            place.unlink()
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("treatment", ["fail", "quarantine"])
def test_no_fingerprints_are_left_in_the_scratch_folder(
    raw: Path, tmp_path: Path, treatment: str
) -> None:
    audit.SCRATCH.parent.mkdir(parents=True)
    audit.SCRATCH.write_bytes(b"left by a killed run")
    add_bad_files(raw)
    made.write_params(tmp_path, unreadable=treatment)
    if treatment == "fail":
        message()
    else:
        audit.main()
    assert [path.name for path in audit.SCRATCH.parent.iterdir()] in ([], ["partial"])


def test_files_that_cant_be_used_shift_no_fingerprint(raw: Path, tmp_path: Path) -> None:
    (raw / "train/Normal/00.png").write_bytes(b"")
    with Image.open(raw / "train/Normal/03.png") as image:
        image.resize((150, 120)).save(raw / "train/Viral Pneumonia/copy.png")
    made.write_params(tmp_path, unreadable="quarantine")
    audit.main()
    assert [group["files"] for group in details()["copy_groups"]] == [
        ["train/Normal/03.png", "train/Viral Pneumonia/copy.png"]
    ]
    with Image.open(raw / "train/Viral Pneumonia/05.png") as image:
        (found,) = known.Known.load().find(image)
    assert found == ("train/Viral Pneumonia/05.png", 1)


def test_copies_of_training_images_are_known_afterwards(raw: Path) -> None:
    audit.main()
    training = known.Known.load()
    with Image.open(raw / "train/Normal/01.png") as image:
        assert [path for path, _ in training.find(image.resize((150, 120)))] == [
            "train/Normal/01.png"
        ]
    with Image.open(raw / "test/Normal/01.png") as image:
        assert training.find(image) == []


# ------------------------------------------------------------------ records, patients, labels


def write_records(raw: Path, findings: dict[str, str] | None = None) -> None:
    """Writes data/raw/records.csv: two sources, and the class as finding but for some paths."""
    paths = sorted(path.relative_to(raw).as_posix() for path in raw.glob("*/*/*"))
    rows = [
        {
            "path": path,
            "source": "north" if "Covid" in path else "south",
            "finding": (findings or {}).get(path, path.split("/")[1].lower()),
        }
        for path in paths
    ]
    files.write_csv(raw / "records.csv", list(rows[0]), rows)


def test_without_records_nothing_is_known(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit.main()
    unknown = {"patient": "", "source": "", "finding": "", "view": "", "label": "unknown"}
    assert all(row.items() >= unknown.items() for row in table())
    written = details()
    assert written["records"] is None
    assert written["patients"] == {
        "known": 0,
        "patients": 0,
        "in_both_splits": 0,
        "leaked_test_images": 0,
    }
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "patients: unknown"
    assert lines[4] == "records: none, so sources and what they say of the labels are unknown"
    assert len(lines) == 5


def test_records_that_came_with_the_images(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_records(raw, {"train/Covid/01.png": "SARS", "test/Covid/00.png": ""})
    with (raw / "records.csv").open("a") as file:
        file.write("train/Covid/00.png,west,Normal\ntrain/Covid/gone.png,west,Covid\n")
    audit.main()
    by_path = {row["path"]: row for row in table()}
    assert by_path["train/Covid/01.png"]["label"] == "contradicts"
    assert by_path["train/Covid/00.png"]["source"] == "north"
    written = details()["records"]
    assert written["table"] == "data/raw/records.csv"
    assert [written[key] for key in ("rows", "rows_without_file", "double_rows")] == [29, 1, 1]
    assert written["contradicting"] == [
        {"file": "train/Covid/01.png", "class": "Covid", "source": "north", "finding": "SARS"}
    ]
    assert capsys.readouterr().out.splitlines()[4:] == [
        "records: data/raw/records.csv, 29 rows, 1 double, 1 without a file; 0 files without a row",
        "labels by their source: train/ 17 agree, 1 contradict, 0 unknown; "
        "test/ 8 agree, 0 contradict, 1 unknown",
        "filed as Covid, by their source: SARS 1",
        "source north: Covid 9",
        "source south: Normal 9, Viral Pneumonia 9",
    ]


def test_a_table_that_is_named_and_whose_paths_are_others(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(raw)
    (tmp_path / "mine.csv").write_text("path,source\ndata/raw/train/Covid/00.png,x\n")
    made.write_params(tmp_path, records="mine.csv")
    audit.main()
    written = details()["records"]
    assert (written["table"], written["files_without_row"]) == ("mine.csv", 27)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "no row names a file; expected paths such as test/Covid/00.png"


def test_radiographs_of_one_patient_leak_too(raw: Path, tmp_path: Path) -> None:
    for split, number in (("train", "000"), ("train", "001"), ("test", "002")):
        made.picture(int(number) + 900).save(raw / split / "Normal" / f"00012141_{number}.png")
    shutil.copy(raw / "train/Covid/00.png", raw / "test/Covid/other.png")
    made.write_params(tmp_path, patient_pattern=r"(?P<patient>\d{8})_\d{3}")
    audit.main()
    assert [row["path"] for row in table() if row["leaked"] == "yes"] == [
        "test/Covid/other.png",
        "test/Normal/00012141_002.png",
    ]
    written = details()
    assert (written["radiographs"], written["groups"]) == (30, 28)
    assert written["patients"] == {
        "known": 3,
        "patients": 1,
        "in_both_splits": 1,
        "leaked_test_images": 1,
    }
    assert written["leaked_test_images"] == {"Covid": 1, "Normal": 1, "Viral Pneumonia": 0}


def test_radiographs_of_one_patient_in_dicom_files_leak_too(raw: Path, tmp_path: Path) -> None:
    for number, (path, name) in enumerate(
        {
            "train/Covid/a.dcm": "7",
            "test/Covid/b": "7",
            "train/Normal/c.dcm": "8",
            "test/Normal/d.dcm": "",
            "test/Normal/e.dcm": "7",
            "test/Normal/f.dcm": "8",
        }.items()
    ):
        pixels = np.asarray(made.picture(number + 800))
        (raw / path).write_bytes(made_dicom.picture(pixels, PatientID=name))
    (raw / "records.csv").write_text("path,patient\ntest/Normal/f.dcm,another\n")
    made.write_params(tmp_path, patient_pattern="(?P<patient>e).dcm")
    audit.main()
    rows = {row["path"]: row for row in table()}
    patient = {path: row["patient"] for path, row in rows.items()}
    assert len(patient["test/Covid/b"]) == 16
    assert patient["test/Covid/b"] == patient["train/Covid/a.dcm"]
    assert patient["train/Normal/c.dcm"] != patient["train/Covid/a.dcm"]
    # a table and a pattern are believed more
    assert patient["test/Normal/e.dcm"] == "e"
    assert patient["test/Normal/f.dcm"] == "another"
    assert patient["test/Normal/d.dcm"] == patient["train/Covid/00.png"] == ""
    assert [path for path, row in rows.items() if row["leaked"] == "yes"] == ["test/Covid/b"]
    assert rows["test/Covid/b"]["format"] == "DICOM"


def test_what_is_known_of_a_patient_is_not_shown_in_errors() -> None:
    examined = audit.Examined({}, identity=(b"", b"St-Elsewhere", b"KH4711"))
    assert "KH4711" not in repr(examined)


def test_a_pattern_that_finds_nobody_is_told(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.write_params(tmp_path, patient_pattern=r"(?P<patient>\d{8})_\d{3}")
    audit.main()
    assert capsys.readouterr().out.splitlines()[-1] == (
        r"audit.patient_pattern = (?P<patient>\d{8})_\d{3} finds no patient in any of the "
        "27 paths, such as test/Covid/00.png"
    )


def test_many_sources_and_long_names_fit_a_terminal(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = sorted(path.relative_to(raw).as_posix() for path in raw.glob("*/*/*"))
    rows = [
        {"path": path, "source": f"s{number:02d}", "finding": f"something {number:02d}"}
        for number, path in enumerate(paths)
    ]
    files.write_csv(raw / "records.csv", list(rows[0]), rows)
    audit.main()
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) < 120
    assert output.splitlines()[-2:] == ["source s09: Covid 1", "and 17 more sources"]
    assert len(details()["records"]["sources"]) == 27


def test_verified_leaves_out_what_contradicts_or_is_unknown(raw: Path, tmp_path: Path) -> None:
    shutil.copy(raw / "train/Covid/00.png", raw / "test/Covid/other.png")
    write_records(raw, {"train/Covid/00.png": "SARS", "test/Normal/00.png": ""})
    made.write_params(tmp_path, labels="verified")
    audit.main()
    rows = table()
    assert len(rows) == 26
    assert {row["label"] for row in rows} == {"agrees"}
    assert {row["leaked"] for row in rows} == {"no"}
    with Image.open(raw / "train/Covid/00.png") as image:
        assert known.Known.load().find(image) == []
    written = details()
    assert written["images"]["train"]["Covid"] == 5
    assert written["images"]["test"] == {"Covid": 4, "Normal": 2, "Viral Pneumonia": 3}
    assert written["radiographs"] == 26
    assert written["copy_groups"] == []
    assert written["records"]["left_out"] == 2
    assert written["records"]["labels"]["train"]["contradicts"] == 1


def test_verified_with_too_few_images_left(raw: Path, tmp_path: Path) -> None:
    write_records(raw, {"test/Normal/00.png": "flu", "test/Normal/01.png": ""})
    made.write_params(tmp_path, labels="verified")
    assert message() == (
        "data/raw/test/Normal: found 1 images whose label agrees with the source by "
        "data/raw/records.csv, expected at least 2. audit.labels = verified leaves out the others "
        "(in all classes 1 contradict, 1 are unknown). Correct the table, or use all images with "
        "`dvc exp run -S audit.labels=filed`."
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "found no table"),
        ("path,patient\n", "data/raw/records.csv has no column finding"),
    ],
)
def test_verified_needs_findings(
    raw: Path, tmp_path: Path, content: str | None, found: str
) -> None:
    if content:
        (raw / "records.csv").write_text(content)
    made.write_params(tmp_path, labels="verified")
    text = message()
    assert f"verified needs a table that says what the images show, but {found}. Bring" in text
    assert text.endswith("or use all images with `dvc exp run -S audit.labels=filed`.")


# ------------------------------------------------------------------------------ unreadable files


def test_fail_lists_every_bad_file_with_its_reason(raw: Path) -> None:
    add_bad_files(raw)
    lines = message().splitlines()
    assert lines[0] == "8 of 35 files can't be used:"
    assert lines[-1] == (
        "Repair or remove them where they come from, or leave them out with "
        "`dvc exp run -S audit.unreadable=quarantine`."
    )
    assert len(lines) == 10
    for name, reason in REASONS.items():
        assert any(line.startswith(f"  data/raw/train/Covid/{name}: {reason}") for line in lines)


def test_quarantine_goes_on_without_them_and_lists_them(raw: Path, tmp_path: Path) -> None:
    add_bad_files(raw)
    made.write_params(tmp_path, unreadable="quarantine")
    audit.main()
    written = details()
    assert written["unreadable"] == 8
    assert written["images"]["train"]["Covid"] == 6
    listed = {record["file"]: record["reason"] for record in written["unreadable_files"]}
    assert listed.keys() == {f"train/Covid/{name}" for name in REASONS}
    for name, reason in REASONS.items():
        assert listed[f"train/Covid/{name}"].startswith(reason)
    assert len(table()) == 27
    assert not any("\n" in row["path"] for row in table())


def test_two_images_are_enough(raw: Path, tmp_path: Path) -> None:
    made.write_params(tmp_path, unreadable="quarantine")
    (raw / "test" / "Normal" / "00.png").write_bytes(b"")
    audit.main()
    assert details()["images"]["test"]["Normal"] == 2


@pytest.mark.parametrize("left", [0, 1])
def test_quarantine_refuses_if_too_few_are_left(raw: Path, tmp_path: Path, left: int) -> None:
    made.write_params(tmp_path, unreadable="quarantine")
    for number in range(left, 3):
        (raw / "test" / "Normal" / f"{number:02d}.png").write_bytes(b"")
    lines = message().splitlines()
    assert lines[0] == (
        f"data/raw/test/Normal: found {left} readable images, expected at least 2. Unreadable are:"
    )
    assert lines[-1] == "  data/raw/test/Normal/02.png: it is empty (0 bytes)"
    assert len(lines) == 1 + 3 - left


@pytest.mark.parametrize("treatment", ["fail", "quarantine"])
def test_too_few_images_to_begin_with(raw: Path, tmp_path: Path, treatment: str) -> None:
    made.write_params(tmp_path, unreadable=treatment)
    for number in (1, 2):
        (raw / "test" / "Normal" / f"{number:02d}.png").unlink()
    assert message() == "data/raw/test/Normal: found 1 readable images, expected at least 2."


def test_an_image_that_may_not_be_read_is_no_bad_image(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quarantine must not leave out what only this machine can't read."""
    made.write_params(tmp_path, unreadable="quarantine")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "data/raw/train/Covid/00.png")

    monkeypatch.setattr(Image, "open", denied)
    with pytest.raises(PermissionError):
        audit.main()


# --------------------------------------------------------------------------------- what goes in


def test_a_class_without_images_in_one_split(raw: Path) -> None:
    shutil.rmtree(raw / "test" / "Normal")
    assert message() == "data/raw/test/Normal: found 0 readable images, expected at least 2."


def test_a_split_without_images(raw: Path) -> None:
    shutil.rmtree(raw / "test")
    assert message() == "data/raw/test/Covid: found 0 readable images, expected at least 2."


def test_what_file_managers_leave_behind_is_passed_over(raw: Path) -> None:
    for place in ("Thumbs.db", "train/.DS_Store", "train/Covid/.DS_Store", "test/Covid/Thumbs.db"):
        (raw / place).write_bytes(b"x")
    audit.main()
    assert len(table()) == 27


def test_dvc_ignores_what_is_passed_over() -> None:
    ignored = (made.PROJECT / ".dvcignore").read_text().split()
    assert set(ignored) >= audit._FILE_MANAGERS


def test_nothing_was_downloaded(raw: Path) -> None:
    shutil.rmtree(raw)
    assert message() == (
        "data/raw/provenance.json is not there; the stage `download` writes it. "
        "Run `dvc repro download`."
    )


def test_as_a_program(raw: Path, tmp_path: Path) -> None:
    """In a locale without UTF-8, too."""
    add_bad_files(raw)
    done = made.run_stage(
        tmp_path, "audit", LC_ALL="POSIX", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0"
    )
    assert done.returncode == 1
    assert done.stderr.startswith("audit: 8 of 35 files can't be used:\n")
    assert "Traceback" not in done.stderr
    made.write_params(tmp_path, unreadable="quarantine")
    done = made.run_stage(
        tmp_path, "audit", LC_ALL="POSIX", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "; 8 unreadable\n" in done.stdout

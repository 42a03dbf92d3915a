import csv
import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stages import download
from stages.common.errors import InputError
from stages.sources import phantom
from tests import made

PROJECT = Path(__file__).resolve().parents[1]
IMAGES = {
    f"{split}/{name}/{number}.png": f"{split} {name} {number}".encode()
    for split in ("train", "test")
    for name in ("A", "B b")
    for number in (1, 2)
}


@pytest.fixture
def choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a scratch folder the working folder; called, it sets parameters of `download`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/archive").mkdir(parents=True)
    text = (PROJECT / "params.yaml").read_text()

    def set_parameters(**values: object) -> None:
        changed = text
        for key, value in values.items():
            changed, count = re.subn(rf"(?m)^  {key}: \S+", f"  {key}: {value}", changed)
            assert count == 1
        Path("params.yaml").write_text(changed)

    set_parameters(source="archive")
    return set_parameters


def write_folder(folder: Path, images: dict[str, bytes]) -> None:
    for path, data in images.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def write_zip(path: Path, images: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, data in images.items():
            zipped.writestr(name, data)


def raw_images() -> dict[str, bytes]:
    return {
        path.relative_to(download.RAW).as_posix(): path.read_bytes()
        for path in download.RAW.rglob("*/*/*")
        if path.is_file()
    }


def provenance() -> dict[str, object]:
    record = json.loads((download.RAW / "provenance.json").read_text(encoding="utf-8"))
    assert isinstance(record, dict)
    return record


@pytest.mark.usefixtures("choose")
def test_a_zip_is_unpacked(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("data/archive/mine.zip")
    inside = {f"My set/{path}": data for path, data in IMAGES.items()}
    write_zip(path, {**inside, "__MACOSX/x": b"", "My set/._x": b""})
    download.main()
    assert raw_images() == IMAGES
    data = f"archive mine.zip (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}…)"
    assert provenance() == {
        "source": "archive",
        "data": data,
        "licence": "unknown",
        "files": 8,
        "sha256": made.digest_of(IMAGES),
    }
    assert capsys.readouterr().out == f"download: 8 files in data/raw: {data}\n"


@pytest.mark.usefixtures("choose")
def test_a_folder_is_copied_and_its_digest_tells_its_content() -> None:
    folder = Path("data/archive/mine")
    write_folder(folder, IMAGES)
    (folder / "train/A/.DS_Store").write_bytes(b"junk")
    download.main()
    assert raw_images() == IMAGES
    first = provenance()
    assert re.fullmatch(r"folder mine \(sha256 over its files [0-9a-f]{12}…\)", str(first["data"]))
    (folder / "train/A/.DS_Store").write_bytes(b"other junk")
    download.main()
    assert provenance() == first
    (folder / "train/A/1.png").write_bytes(b"changed")
    download.main()
    assert provenance() != first


@pytest.mark.usefixtures("choose")
@pytest.mark.parametrize("around", ["", "My set/"])
@pytest.mark.parametrize("zipped", [True, False])
def test_records_beside_the_splits_come_along_and_are_no_image(
    around: str, zipped: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = {f"{around}{path}": data for path, data in IMAGES.items()}
    inside[f"{around}records.csv"] = b"path\n"
    if zipped:
        write_zip(Path("data/archive/mine.zip"), inside)
    else:
        write_folder(Path("data/archive/mine"), inside)
    download.main()
    assert raw_images() == IMAGES
    assert (download.RAW / "records.csv").read_bytes() == b"path\n"
    assert provenance()["files"] == 8
    assert provenance()["sha256"] == made.digest_of(IMAGES | {"records.csv": b"path\n"})
    printed = capsys.readouterr().out
    assert printed.startswith("download: 8 files and records.csv in data/raw: ")


@pytest.mark.usefixtures("choose")
@pytest.mark.parametrize(
    ("images", "words"),
    [
        ({}, "holds no file"),
        ({**IMAGES, "test/C/1.png": b""}, "test/C has no counterpart"),
        ({**IMAGES, "../evil.png": b""}, "would land outside"),
    ],
)
def test_a_refused_zip_leaves_what_was_there(images: dict[str, bytes], words: str) -> None:
    write_zip(Path("data/archive/mine.zip"), IMAGES)
    download.main()
    write_zip(Path("data/archive/mine.zip"), images)
    before = sorted(Path().rglob("*"))
    with pytest.raises(InputError) as caught:
        download.main()
    assert words in str(caught.value)
    assert "data/archive/mine.zip" in str(caught.value)
    assert sorted(Path().rglob("*")) == before
    assert raw_images() == IMAGES


@pytest.mark.usefixtures("choose")
def test_a_zip_damaged_in_its_last_member_leaves_nothing() -> None:
    path = Path("data/archive/mine.zip")
    write_zip(path, IMAGES)
    path.write_bytes(path.read_bytes().replace(b"test B b 2", b"test B b 3"))
    with pytest.raises(InputError, match=r"mine\.zip is damaged: 'test/B b/2\.png': Bad CRC"):
        download.main()
    assert [path.name for path in Path("data").iterdir()] == ["archive"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_files": 7}, "8 members, more than download.max_files = 7"),
        ({"max_gigabytes": "5e-8"}, "beyond download.max_gigabytes = 5e-08"),
    ],
)
def test_the_limits_are_parameters(
    choose: Callable[..., None], values: dict[str, object], words: str
) -> None:
    choose(source="archive", **values)
    write_zip(Path("data/archive/mine.zip"), IMAGES)
    with pytest.raises(InputError, match=re.escape(words)):
        download.main()
    assert not download.RAW.exists()


@pytest.mark.usefixtures("choose")
def test_an_empty_archive_folder_is_named() -> None:
    Path("data/archive/README.md").write_text("about")
    with pytest.raises(InputError, match="data/archive: found nothing, expected exactly one zip"):
        download.main()


def test_phantoms_are_the_same_bytes_twice(
    choose: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = phantom.plan
    monkeypatch.setattr(phantom, "plan", lambda *given: [made.small(one) for one in plan(*given)])
    choose(source="phantom", phantom_share=0.01, phantom_seed=7)
    leftover = download.KAGGLE_PARTIAL / "fragment.zip"
    leftover.parent.mkdir()
    leftover.touch()
    download.main()
    assert not leftover.parent.exists()
    first = raw_images()
    described = provenance()
    assert described["source"] == "phantom"
    assert described["data"] == "SYNTHETIC PHANTOM (seed 7)"
    assert described["files"] == len(first) > 0
    assert {path.split("/")[0] for path in first} == {"train", "test"}
    with (download.RAW / "records.csv").open(encoding="utf-8", newline="") as file:
        records = csv.DictReader(file)
        assert {row["path"] for row in records} == set(first)
        assert records.fieldnames == ["path", "patient", "source", "finding", "view"]
    assert capsys.readouterr().out.endswith(": SYNTHETIC PHANTOM (seed 7)\n")
    download.main()
    assert raw_images() == first
    choose(source="phantom", phantom_share=0.01, phantom_seed=8)
    download.main()
    assert raw_images() != first

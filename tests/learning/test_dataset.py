import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.common import files
from stages.common.errors import InputError
from stages.learning import dataset
from stages.learning.dataset import Images
from tests import made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = []
    for number, (use, name) in enumerate(
        [("train", "B b"), ("train", "A"), ("test", "A"), ("validation", "B b")]
    ):
        place = f"{use}/{name}/{number}.png.png"
        (tmp_path / place).parent.mkdir(parents=True)
        made.picture(number, (200, 200)).convert("RGB").save(tmp_path / place)
        rows.append(
            {
                "file": place,
                "path": f"{use}/{name}/{number}.png",
                "use": use,
                "class": name,
                "radiograph": number,
                "group": number,
                "leaked": "yes" if number == 2 else "no",
                "source": "",
                "label": "unknown",
            }
        )
    files.write_csv(tmp_path / "index.csv", dataset.INDEX_COLUMNS, rows)
    return tmp_path


def message(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        dataset.load(["train", "test", "validation"], folder).pixels[:]
    return str(caught.value)


def test_images_of_one_use(folder: Path) -> None:
    images = dataset.load(["train"], folder)
    assert len(images) == 2
    assert images.classes == ("A", "B b")  # all classes, whichever are used
    assert images.labels.tolist() == [1, 0]
    assert images.one_hot.tolist() == [[0, 1], [1, 0]]
    assert images.one_hot.dtype == np.float32
    assert images.pixels[:].shape == (2, 200, 200, 3)
    assert images.pixels[:].dtype == np.uint8
    expected = np.asarray(made.picture(0, (200, 200)).convert("RGB"))
    assert (images.pixels[0] == expected).all()


def test_images_of_several_uses(folder: Path) -> None:
    images = dataset.load(["test", "validation"], folder)
    assert images.table["use"].tolist() == ["test", "validation"]
    assert images.table["leaked"].tolist() == [True, False]
    assert images.table["group"].tolist() == [2, 3]


def test_no_images_of_a_use(folder: Path) -> None:
    assert len(dataset.load(["nothing"], folder)) == 0


def test_what_is_taken_has_the_same_columns(folder: Path) -> None:
    taken = dataset.load(["train"], folder).take(np.array([1, 0]))
    assert tuple(taken.table.columns) == dataset.INDEX_COLUMNS
    assert taken.table.index.tolist() == [0, 1]


@pytest.fixture(params=["files", "memory", "disk"])
def four(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    """Four images, in each of the places that their pixels are read from."""
    monkeypatch.chdir(folder)
    images = dataset.load(["train", "test", "validation"], folder)
    least = 4 * 200 * 200 * 3 / 1e9
    return {
        "files": images,
        "memory": images.unpacked(least),
        "disk": images.unpacked(least - 1e-9),
    }[request.param]


def test_pixels_are_indexed_like_an_array_wherever_they_are(four: Images) -> None:
    expected = np.array([made.picture(number, (200, 200)).convert("RGB") for number in range(4)])
    for pixels, array in (
        (four.pixels, expected),
        (four.take(np.array([3, 1, 2])).pixels, expected[[3, 1, 2]]),
        (four.take(np.array([3, 1, 2])).take(np.array([2, 0])).pixels, expected[[2, 3]]),
    ):
        assert len(pixels) == len(array)
        for where in (slice(None), slice(1, 9), slice(0, 0), np.array([1, 0, 1]), 1, -1):
            assert np.array_equal(pixels[where], array[where])
            assert pixels[where].dtype == np.uint8
        assert [np.array_equal(*both) for both in zip(pixels, array, strict=True)] == [True] * len(
            array
        )
        with pytest.raises(IndexError):
            pixels[4]


def test_what_is_unpacked_is_in_memory_up_to_the_limit_and_else_in_a_file_without_a_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    images = dataset.load(["train"], folder)
    images.unpacked(240_000 / 1e9)
    assert not Path(".dvc").exists()
    kept = images.unpacked(239_999 / 1e9)
    assert list(Path(".dvc/tmp").iterdir()) == []
    before = images.pixels[:]
    for name in images.table["file"]:
        (folder / name).unlink()
    assert np.array_equal(kept.pixels[:], before)  # decoded once, and not again
    with pytest.raises(InputError, match=r"0\.png\.png is not the 200 x 200 RGB image"):
        images.unpacked(0)


def test_rows_of_any_kind_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).random((7, 3, 2), np.float32)
    stored = dataset.Stored.in_file(iter(rows))
    assert np.array_equal(stored[:], rows)
    assert stored[2:5].dtype == np.float32
    assert len(dataset.Stored.in_file([])) == 0


def test_take(folder: Path) -> None:
    images = dataset.load(["train", "test"], folder)
    taken = images.take(np.array([2, 0]))
    assert taken.labels.tolist() == [0, 1]
    assert taken.table["use"].tolist() == ["test", "train"]
    assert taken.table.index.tolist() == [0, 1]
    assert (taken.pixels[1] == images.pixels[0]).all()


def test_class_names_that_look_like_something_else(folder: Path) -> None:
    table = (folder / "index.csv").read_text()
    (folder / "index.csv").write_text(table.replace(",A,", ",NA,").replace(",B b,", ",007,"))
    assert dataset.load(["train"], folder).classes == ("007", "NA")


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\xff\xfe,a\n",
        b"file,use\na,b\n",
        b"file,source,use,class,group,leaked\na,b,train,A,first,no\n",
        b'file,source,use,class,group,leaked\n"a,b,train,A,1,no\n',
    ],
)
def test_a_missing_or_damaged_table_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "index.csv").write_bytes(content)
    text = message(tmp_path)
    assert text.startswith(f"{tmp_path}/index.csv is not the table that the stage `preprocess`")
    assert text.endswith("Run `dvc repro --force preprocess`.")


WHOLE = made.encoded(made.picture(1, (200, 200)).convert("RGB"), "PNG")


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"text",
        WHOLE[:500],
        made.encoded(Image.new("RGB", (1, 1)), "PNG"),  # numpy would spread it over all pixels
        made.encoded(Image.new("RGB", (1, 200)), "PNG"),
        made.encoded(Image.new("L", (200, 200)), "PNG"),
        made.encoded(Image.new("RGBA", (200, 200)), "PNG"),
    ],
)
def test_a_missing_or_damaged_image_is_named(folder: Path, content: bytes | None) -> None:
    path = folder / "test/A/2.png.png"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    text = message(folder)
    assert text.startswith(
        f"{path} is not the 200 x 200 RGB image that the stage `preprocess` writes ("
    )
    assert text.endswith("). Run `dvc repro --force preprocess`.")


def test_where_the_images_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"provenance\.json is not there.*dvc repro preprocess`\."):
        dataset.provenance()
    files.write_json(dataset.PROCESSED / "provenance.json", {"data": "made for a test"})
    assert dataset.provenance() == {"data": "made for a test"}


def test_a_record_per_prediction(folder: Path) -> None:
    images = dataset.load(["train", "test"], folder)
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5], [0.125, 0.875]])
    records = dataset.prediction_records(images, probabilities)
    assert records[0] == {
        "file": "train/B b/0.png",
        "actual": "B b",
        "predicted": "B b",
        "leaked": False,
        "probability A": 0.25,
        "probability B b": 0.75,
    }
    assert [record["predicted"] for record in records] == ["B b", "A", "B b"]
    assert [record["leaked"] for record in records] == [False, False, True]
    json.dumps(records)

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.common import files
from stages.learning import dataset
from stages.common.errors import InputError
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
                "source": f"{use}/{name}/{number}.png",
                "use": use,
                "class": name,
                "group": number,
                "leaked": "yes" if number == 2 else "no",
            }
        )
    files.write_csv(tmp_path / "index.csv", dataset.INDEX_COLUMNS, rows)
    return tmp_path


def message(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        dataset.load(["train", "test", "validation"], folder)
    return str(caught.value)


def test_images_of_one_use(folder: Path) -> None:
    found = dataset.load(["train"], folder)
    assert len(found) == 2
    assert found.classes == ("A", "B b")  # all classes, whichever are used
    assert found.labels.tolist() == [1, 0]
    assert found.one_hot.tolist() == [[0, 1], [1, 0]]
    assert found.one_hot.dtype == np.float32
    assert found.pixels.shape == (2, 200, 200, 3)
    assert found.pixels.dtype == np.uint8
    expected = np.asarray(made.picture(0, (200, 200)).convert("RGB"))
    assert (found.pixels[0] == expected).all()


def test_images_of_several_uses(folder: Path) -> None:
    found = dataset.load(["test", "validation"], folder)
    assert found.table["use"].tolist() == ["test", "validation"]
    assert found.table["leaked"].tolist() == [True, False]
    assert found.table["group"].tolist() == [2, 3]


def test_no_images_of_a_use(folder: Path) -> None:
    assert len(dataset.load(["nothing"], folder)) == 0


def test_take(folder: Path) -> None:
    found = dataset.load(["train", "test"], folder)
    taken = found.take(np.array([2, 0]))
    assert taken.labels.tolist() == [0, 1]
    assert taken.table["use"].tolist() == ["test", "train"]
    assert taken.table.index.tolist() == [0, 1]
    assert (taken.pixels[1] == found.pixels[0]).all()


def test_class_names_that_look_like_something_else(folder: Path) -> None:
    table = (folder / "index.csv").read_text()
    (folder / "index.csv").write_text(table.replace(",A,", ",NA,").replace(",B b,", ",007,"))
    assert dataset.load(["train"], folder).classes == ("007", "NA")


def test_the_table_is_missing(tmp_path: Path) -> None:
    assert message(tmp_path) == (
        f"{tmp_path}/index.csv is not there; the stage `preprocess` writes it. "
        "Run `dvc repro preprocess`."
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe,a\n",
        b"file,use\na,b\n",
        b"file,source,use,class,group,leaked\na,b,train,A,first,no\n",
        b'file,source,use,class,group,leaked\n"a,b,train,A,1,no\n',
    ],
)
def test_the_table_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "index.csv").write_bytes(content)
    text = message(tmp_path)
    assert text.startswith(f"{tmp_path}/index.csv is not the table that the stage `preprocess`")
    assert text.endswith("Run `dvc repro --force preprocess`.")


def test_an_image_is_missing(folder: Path) -> None:
    (folder / "train/A/1.png.png").unlink()
    text = message(folder)
    assert f"{folder}/train/A/1.png.png: expected a PNG of 200 x 200 RGB" in text
    assert "No such file" in text


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (Image.new("RGB", (1, 1)), "found 1 x 1 RGB"),  # numpy would spread it over all pixels
        (Image.new("RGB", (1, 200)), "found 1 x 200 RGB"),
        (Image.new("L", (200, 200)), "found 200 x 200 L"),
        (Image.new("RGBA", (200, 200)), "found 200 x 200 RGBA"),
    ],
)
def test_an_image_of_another_kind(folder: Path, image: Image.Image, found: str) -> None:
    image.save(folder / "train/A/1.png.png")
    assert message(folder).endswith(f"({found}). Run `dvc repro --force preprocess`.")


@pytest.mark.parametrize("content", [b"", b"text", made.encoded(made.picture(1), "JPEG")])
def test_an_image_is_damaged(folder: Path, content: bytes) -> None:
    (folder / "test/A/2.png.png").write_bytes(content)
    assert "cannot identify" in message(folder)


def test_an_image_is_cut_short(folder: Path) -> None:
    path = folder / "test/A/2.png.png"
    path.write_bytes(path.read_bytes()[:500])
    assert "truncated" in message(folder)

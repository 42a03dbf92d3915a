import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.judging import drawing


def draw(target: Path, title: str = "Accuracy") -> bytes:
    with drawing.drawing(target, (3, 2)) as figure:
        axes = figure.subplots()
        axes.plot([1, 2, 3], [0.2, 0.8, 0.6])
        axes.set_title(title)
    return target.read_bytes()


def test_the_same_bytes_each_time_whatever_the_user_has_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib as mpl

    first = draw(tmp_path / "first.png")
    monkeypatch.setitem(mpl.rcParams, "font.size", 30.0)
    monkeypatch.setitem(mpl.rcParams, "savefig.dpi", 20.0)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    assert draw(tmp_path / "again.png") == first
    assert mpl.rcParams["font.size"] == 30.0


def test_it_is_a_png_of_the_size_asked_for_without_date_or_version(tmp_path: Path) -> None:
    draw(tmp_path / "charts/plot.png")
    with Image.open(tmp_path / "charts/plot.png") as image:
        assert (image.format, image.size) == ("PNG", (330, 220))
        assert not set(image.info) - {"dpi"}
        assert len(set(image.convert("L").tobytes())) > 10


def test_nothing_is_written_when_the_drawing_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), drawing.drawing(tmp_path / "plot.png", (3, 2)):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_dollar_sign_is_no_formula(tmp_path: Path) -> None:
    assert draw(tmp_path / "a.png", r"cost_$\frac{$.png") != draw(tmp_path / "b.png", "cost")


def test_a_rectangle_is_not_filled() -> None:
    frame = drawing.rectangle(40, 50, 60, 70, edgecolor="white")
    assert (*frame.get_xy(), frame.get_width(), frame.get_height()) == (40, 50, 60, 70)
    assert not frame.get_fill()


def test_a_scale_has_the_colours_given() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots(1, 2)
    drawing.scale(figure, axes, np.array([[0, 0, 255], [255, 0, 0]], np.uint8), "from a to b")
    bar = figure.axes[-1]
    assert bar.get_xlabel() == "from a to b"
    assert bar.get_xticks().tolist() == [0, 1]
    (mesh,) = (part for part in bar.collections if part.get_array() is not None)
    assert mesh.to_rgba(np.array([0.0, 1.0]))[:, :3].tolist() == [[0, 0, 1], [1, 0, 0]]


def test_text_is_written_where_it_is_said_and_without_matplotlib() -> None:
    image = Image.new("RGB", (200, 60), "white")
    drawing.write_on(image, [(10, 5, "Ковид"), (100, 35, "second\nline")])
    dark = np.asarray(image.convert("L")) < 128
    assert dark[5:25, 10:70].any()
    assert dark[35:, 100:].any()
    for part in (dark[:5], dark[:, :10], dark[25:, :100], dark[:35, 100:]):
        assert not part.any()
    code = """
import sys
from PIL import Image
from stages.judging import drawing
drawing.write_on(Image.new("RGB", (9, 9)), [(0, 0, "x")])
print("matplotlib" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

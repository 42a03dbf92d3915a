import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.judging import drawing, gradcam
from stages.judging.baselines import FRAME
from stages.learning import network
from stages.learning.dataset import SIZE


def pixels_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def blob(top: int, left: int) -> np.ndarray:
    activation = np.zeros((SIZE, SIZE), np.float32)
    activation[top : top + 10, left : left + 10] = 1
    return activation


def test_the_share_outside_the_centre() -> None:
    half = blob(100, FRAME - 5)  # five columns on either side of the line
    maps = np.array([blob(100, 100), blob(0, 0), half, np.ones((SIZE, SIZE), np.float32)])
    shares = gradcam.outside_share(maps)
    assert shares == pytest.approx([0, 1, 0.5, 1 - (120 / 200) ** 2])
    assert shares.dtype == np.float64


def test_a_map_without_any_activation_has_no_share() -> None:
    shares = gradcam.outside_share(np.zeros((2, SIZE, SIZE), np.float32))
    assert np.isnan(shares).all()
    assert pytest.approx(0.64) == gradcam.UNIFORM_SHARE


@pytest.mark.parametrize("count", [1, 4])
def test_the_picture_has_the_same_bytes_each_time(tmp_path: Path, count: int) -> None:
    maps = np.random.default_rng(1).random((count, SIZE, SIZE), np.float32)
    captions = ["correct: $x_\nof a file"] * count
    for name in ("first", "again"):
        target = tmp_path / f"{name}.png"
        gradcam.draw(pixels_of(count), maps, captions, "Grad-CAM: a $ource_", target)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    with Image.open(tmp_path / "first.png") as image:
        assert image.width == pytest.approx(110 * 4.2 * min(3, count), abs=1)


@pytest.mark.tensorflow
class TestActivations:
    @pytest.fixture(autouse=True)
    def _started(self) -> None:
        network.start(2)

    def test_shape_and_range(self) -> None:
        maps = gradcam.activations(network.build(3), pixels_of(34), np.arange(34) % 3)
        assert maps.shape == (34, SIZE, SIZE)
        assert maps.dtype == np.float32
        assert maps.min() >= 0
        peaks = maps.max(axis=(1, 2))
        assert set(np.unique(peaks)) <= {np.float32(0), np.float32(1)}
        assert (peaks == 1).mean() > 0.5

    def test_an_image_has_its_own_map_in_whatever_company(self) -> None:
        trained, pixels, labels = network.build(3), pixels_of(34), np.arange(34) % 3
        together = gradcam.activations(trained, pixels, labels)
        alone = gradcam.activations(trained, pixels[33:], labels[33:])
        assert alone[0] == pytest.approx(together[33], abs=1e-4)

    def test_it_is_the_class_asked_for_that_is_explained(self) -> None:
        trained, pixels = network.build(3), np.repeat(pixels_of(1), 3, axis=0)
        first, second, third = gradcam.activations(trained, pixels, np.arange(3))
        assert abs(first - second).max() > 0.01
        assert abs(second - third).max() > 0.01

    def test_it_follows_the_definition(self) -> None:
        """Against the gradient taken through all of the network, one image and filter at a time."""
        import keras
        import tensorflow

        trained, image = network.build(3), pixels_of(1)
        layer = trained.get_layer("conv2d_2")
        kernel, bias = trained.get_layer("dense_1").get_weights()
        inner = keras.Model(trained.inputs[0], [layer.output, trained.get_layer("dense").output])
        features, hidden = (np.asarray(value) for value in inner(image))
        pooled = keras.Model(layer.output, trained.get_layer("dense").output)
        variable = tensorflow.Variable(features)
        with tensorflow.GradientTape() as tape:
            score = (pooled(variable) @ kernel + bias)[0, 1]
        slopes = np.asarray(tape.gradient(score, variable))[0]
        wanted = np.maximum((features[0] * slopes).sum(axis=-1), 0)
        result = gradcam.activations(trained, image, np.array([1]))[0]
        large = np.asarray(tensorflow.image.resize(wanted[..., None], (SIZE, SIZE)))[..., 0]
        assert hidden.shape == (1, 64)
        assert result == pytest.approx(large / large.max(), abs=1e-4)

    def test_where_nothing_favours_the_class_the_map_is_empty(self) -> None:
        trained = network.build(3)
        trained.get_layer("dense_1").set_weights([np.zeros((64, 3)), np.zeros(3)])
        maps = gradcam.activations(trained, pixels_of(1), np.array([0]))
        assert not maps.any()


def test_the_rectangle_drawn_is_the_central_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    rectangle = drawing.rectangle

    def record(*place: float, **style: Any) -> object:
        drawn.append(place)
        return rectangle(*place, **style)

    monkeypatch.setattr(drawing, "rectangle", record)
    pixels = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    gradcam.draw(pixels, np.zeros((1, SIZE, SIZE), np.float32), ["x"], "x", tmp_path / "x.png")
    assert drawn == [(FRAME, FRAME, SIZE - 2 * FRAME, SIZE - 2 * FRAME)]


def test_each_image_stands_beside_the_same_one_under_its_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = []
    original = drawing.drawing

    @contextlib.contextmanager
    def recorded(target: Path, inches: tuple[float, float]) -> Iterator[Any]:
        with original(target, inches) as figure:
            figures.append(figure)
            yield figure

    monkeypatch.setattr(drawing, "drawing", recorded)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
    maps = generator.random((4, SIZE, SIZE), np.float32)
    gradcam.draw(pixels, maps, list("abcd"), "title", tmp_path / "x.png")
    (figure,) = figures
    assert tuple(figure.get_size_inches()) == pytest.approx((12.6, 5.6))
    for number, caption in enumerate("abcd"):  # three pairs in a row
        plain, covered = figure.axes[2 * number : 2 * number + 2]
        assert plain.get_title("left") == caption
        for axes in (plain, covered):
            assert (axes.images[0].get_array() == pixels[number]).all()
        heat = covered.images[1]
        assert (heat.get_array() == maps[number]).all()
        assert (heat.norm.vmin, heat.norm.vmax, heat.get_alpha()) == (0, 1, 0.45)
        assert len(plain.images) == 1


def test_a_faint_map_has_a_share_too() -> None:
    maps = np.zeros((1, SIZE, SIZE), np.float32)
    maps[0, 0, 0] = 0.25
    assert gradcam.outside_share(maps).tolist() == [1.0]

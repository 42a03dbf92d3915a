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
from stages.learning.classifier import Head
from stages.learning.dataset import SIZE
from tests import made_processed

SIDE = 46
STEP = 4


def pixels_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def dot(row: int, column: int, value: float = 1) -> np.ndarray:
    activation = np.zeros((SIDE, SIDE), np.float32)
    activation[row, column] = value
    return activation


def small_head(generator: np.random.Generator, inputs: int, classes: int = 3) -> Head:
    shapes = ((inputs, 64), (64,)), ((64, classes), (classes,))
    first, second = (
        tuple(generator.normal(0, 0.1, shape).astype(np.float32) for shape in both)
        for both in shapes
    )
    return first, second  # type: ignore[return-value]


def test_an_activation_counts_where_the_middle_of_what_it_sees_is() -> None:
    # the ninth sees pixels 32 to 49, about the line between 40 and 41
    maps = np.array([dot(20, 20), dot(0, 0), dot(20, 7), dot(20, 8), dot(37, 20), dot(38, 20)])
    assert gradcam.outside_centre(maps).tolist() == [0, 1, 1, 0, 0, 1]
    both = dot(20, 20) + dot(0, 0, 3)
    assert gradcam.outside_centre(both[None]).tolist() == [0.75]
    assert gradcam.outside_centre(maps).dtype == np.float64


def test_a_map_without_any_activation_has_no_share() -> None:
    assert np.isnan(gradcam.outside_centre(np.zeros((2, SIDE, SIDE), np.float32))).all()
    assert pytest.approx(1 - (30 / 46) ** 2) == gradcam.UNIFORM_SHARE


def test_a_faint_map_has_a_share_too() -> None:
    assert gradcam.outside_centre(dot(0, 0, 0.25)[None]).tolist() == [1.0]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (20, 8), (45, 3)])
def test_enlarged_a_dot_is_a_region_as_wide_as_what_the_activation_sees(
    row: int, column: int
) -> None:
    (large,) = gradcam.enlarged(dot(row, column, 0.1)[None])
    assert large.shape == (SIZE, SIZE)
    assert large.dtype == np.float32
    assert large.max() == 1
    seen = slice(STEP * row, STEP * row + 18), slice(STEP * column, STEP * column + 18)
    middle = STEP * row + 9, STEP * column + 9  # where four pixels meet
    assert large[middle[0] - 1 : middle[0] + 1, middle[1] - 1 : middle[1] + 1].min() > 0.99
    assert (large[middle[0]] >= 0.5).sum() == (large[:, middle[1]] >= 0.5).sum() == 18
    assert (large[seen][:, 8] > 0.49).all()
    outer = large.copy()
    outer[seen] = 0
    assert outer.max() < 0.51


def test_enlarged_every_dot_weighs_the_same_at_the_edge_too() -> None:
    maps = np.array([dot(20, 20) + dot(0, 0), dot(20, 20)])
    both, one = gradcam.enlarged(maps)
    scale = both[89, 89] / one[89, 89]
    assert both.sum() == pytest.approx(2 * scale * one.sum(), rel=1e-4)


def test_an_empty_map_stays_empty() -> None:
    assert not gradcam.enlarged(np.zeros((1, SIDE, SIDE), np.float32)).any()


def test_the_receptive_field_is_that_of_the_network() -> None:
    """By the definition: which pixels have a part in one activation of three valid layers."""
    low = high = 20
    for size, stride in ((3, 1), (2, 2), (3, 1), (2, 2), (3, 1)):  # from the last to the first
        low, high = low * stride, high * stride + size - 1
    assert (low, high) == (STEP * 20, STEP * 20 + gradcam.RECEPTIVE_FIELD - 1)
    assert gradcam._CENTRES[20] == (low + high + 1) / 2
    assert len(gradcam._CENTRES) == SIDE


def test_the_maps_follow_from_activations_and_weights() -> None:
    """Against the slope of the logit, one activation after another."""
    generator = np.random.default_rng(0)
    activations = np.maximum(generator.normal(0.5, 1, (2, 4, 6, 3)), 0).astype(np.float32)
    head = small_head(generator, 2 * 3 * 3)
    labels = np.array([2, 0])
    (kernel, bias), (last_kernel, last_bias) = (
        [values.astype(np.float64) for values in layer] for layer in head
    )

    def logit(values: np.ndarray, label: int) -> float:
        pooled = values.reshape(2, 2, 3, 2, 3).max(axis=(1, 3)).reshape(-1)
        hidden = np.maximum(pooled @ kernel + bias, 0)
        return float((hidden @ last_kernel + last_bias)[label])

    maps = gradcam.hirescam(activations, head, labels)
    assert maps.dtype == np.float32
    for values, label, found in zip(activations.astype(np.float64), labels, maps, strict=True):
        expected = np.zeros((4, 6))
        for place in np.ndindex(4, 6, 3):
            moved = values.copy()
            moved[place] += 1e-6
            slope = (logit(moved, label) - logit(values, label)) / 1e-6
            expected[place[:2]] += values[place] * slope
        assert found == pytest.approx(np.maximum(expected, 0), abs=1e-4)
        assert found.max() > 0.01


def test_it_is_the_class_asked_for_that_is_explained() -> None:
    generator = np.random.default_rng(0)
    head = small_head(generator, SIDE // 2 * SIDE // 2 * 2)
    activations = np.repeat(generator.random((1, SIDE, SIDE, 2), np.float32), 3, axis=0)
    first, second, third = gradcam.hirescam(activations, head, np.arange(3))
    assert abs(first - second).max() > 0.001
    assert abs(second - third).max() > 0.001


def test_where_nothing_favours_the_class_the_map_is_empty() -> None:
    generator = np.random.default_rng(0)
    first, (kernel, bias) = small_head(generator, SIDE // 2 * SIDE // 2)
    activations = generator.random((1, SIDE, SIDE, 1), np.float32)
    head = first, (np.zeros_like(kernel), bias)
    assert not gradcam.hirescam(activations, head, np.array([0])).any()


@pytest.mark.tensorflow
def test_the_maps_are_those_of_the_gradient_that_tensorflow_takes() -> None:
    network.start(2)
    import keras
    import tensorflow

    trained = network.build(3)
    generator = np.random.default_rng(0)
    for layer in trained.layers:
        if layer.get_weights():
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, generator.normal(0, 0.05, bias.shape)])
    flat = np.full((1, SIZE, SIZE, 3), 90, np.uint8)  # activations that are all alike
    half = [made_processed.class_in_the_centre(generator, number % 3) for number in range(6)]
    pixels = np.concatenate([pixels_of(2), np.array(half), flat, np.zeros_like(flat)])
    labels = np.arange(len(pixels)) % 3
    layer = trained.get_layer(network.LAST_CONVOLUTION)
    features = keras.Model(trained.inputs[0], layer.output)(pixels)
    hidden = keras.Model(layer.output, trained.get_layer("dense").output)
    last = trained.get_layer("dense_1")
    with tensorflow.GradientTape() as tape:
        tape.watch(features)
        logits = tensorflow.matmul(hidden(features), last.kernel) + last.bias
        explained = tensorflow.reduce_sum(logits * tensorflow.one_hot(labels, 3))
    slopes = tape.gradient(explained, features)
    expected = tensorflow.nn.relu(tensorflow.reduce_sum(features * slopes, axis=-1)).numpy()
    head = tuple(
        tuple(weights.numpy() for weights in trained.get_layer(name).weights)
        for name in ("dense", "dense_1")
    )
    found = gradcam.hirescam(features.numpy(), head, labels)  # type: ignore[arg-type]
    assert found == pytest.approx(expected, abs=1e-4 * float(expected.max()))
    assert (expected.max(axis=(1, 2)) > 0.01 * expected.max()).all()


def test_under_its_map_a_radiograph_is_as_it_was_where_the_map_is_0() -> None:
    (pixels,) = pixels_of(1)
    heat = np.zeros((SIZE, SIZE), np.float32)
    assert np.array_equal(np.asarray(gradcam.overlay(pixels, heat)), pixels)
    heat[50:60] = 1
    covered = np.asarray(gradcam.overlay(pixels, heat))
    assert covered.dtype == np.uint8
    assert np.array_equal(covered[:50], pixels[:50])
    assert np.array_equal(covered[60:], pixels[60:])
    wanted = 0.25 * pixels[50:60] + 0.75 * np.array([252, 255, 164])
    assert abs(covered[50:60] - wanted).max() <= 0.5


def test_the_colours_are_those_of_inferno_ever_lighter() -> None:
    from matplotlib import colormaps

    positions = np.linspace(0, 1, len(gradcam._COLOURS))
    inferno = np.rint(colormaps["inferno"](positions)[:, :3] * 255)
    assert gradcam._COLOURS.tolist() == inferno.tolist()
    grey = np.full((1, 101, 3), 40, np.uint8)
    heat = np.linspace(0, 1, 101, dtype=np.float32)[None]
    lightness = np.asarray(gradcam.overlay(grey, heat).convert("L"), int)[0]
    assert (np.diff(lightness[35:]) >= 0).all()
    assert lightness[-1] > 190


def test_the_scale_shows_the_colours_as_they_are_over_grey() -> None:
    scale = np.asarray(gradcam.scale())
    assert scale.shape == (12, SIZE, 3)
    assert (scale == scale[0]).all()
    assert scale[0, 0].tolist() == [128] * 3
    grey = np.full((1, 1, 3), 128, np.uint8)
    half = np.array([[100 / 199]], np.float32)
    assert scale[0, 100].tolist() == np.asarray(gradcam.overlay(grey, half))[0, 0].tolist()


def test_the_picture_has_both_the_scale_and_the_lines() -> None:
    (pixels,) = pixels_of(1)
    heat = np.random.default_rng(1).random((SIZE, SIZE), np.float32)
    image = gradcam.picture(pixels, heat, ["a\\nb.png", "Ковид 0.913", "x" * 900])
    assert image.size == (830, 540)
    sheet = np.asarray(image)
    plain, covered = sheet[82:482, 10:410], sheet[82:482, 420:820]
    enlarge = (400, 400), Image.Resampling.BICUBIC
    assert np.array_equal(plain, np.asarray(Image.fromarray(pixels).resize(*enlarge)))
    overlay = gradcam.overlay(pixels, heat)
    assert np.array_equal(covered, np.asarray(overlay.resize(*enlarge)))
    bar = np.asarray(gradcam.scale().resize((400, 24)))
    assert np.array_equal(sheet[492:516, 420:820], bar)
    for top in (5, 29, 53, 492, 509):  # lines of text
        assert (sheet[top : top + 17, 10:400] < 90).any()
    assert (sheet[:, :10] > 90).all()
    assert "18 of 200 pixels" in gradcam.SCALE_WORDS


@pytest.mark.parametrize("count", [1, 4])
def test_the_chart_has_the_same_bytes_each_time(tmp_path: Path, count: int) -> None:
    maps = np.random.default_rng(1).random((count, SIZE, SIZE), np.float32)
    captions = ["correct: $x_\nof a file"] * count
    for name in ("first", "again"):
        target = tmp_path / f"{name}.png"
        gradcam.draw(pixels_of(count), maps, captions, "Grad-CAM: a $ource_", target)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    with Image.open(tmp_path / "first.png") as image:
        assert image.width == pytest.approx(110 * 4.2 * min(3, count), abs=1)


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
    assert tuple(figure.get_size_inches()) == pytest.approx((12.6, 6.2))
    for number, caption in enumerate("abcd"):  # three pairs in a row
        plain, covered = figure.axes[2 * number : 2 * number + 2]
        assert plain.get_title("left") == caption
        assert (plain.images[0].get_array() == pixels[number]).all()
        overlay = np.asarray(gradcam.overlay(pixels[number], maps[number]))
        assert (covered.images[0].get_array() == overlay).all()
    assert figure.get_suptitle() == "title"
    bar = figure.axes[-1]
    assert bar.get_xlabel() == gradcam.SCALE_WORDS
    assert bar.get_xlim() == (0, 1)


def test_the_rank_correlation_is_one_of_a_map_with_itself_and_zero_of_unlike_ones() -> None:
    generator = np.random.default_rng(0)
    maps, others = generator.random((2, 8, SIDE, SIDE), np.float32)
    assert gradcam.rank_correlation(maps, maps) == pytest.approx(1)
    assert gradcam.rank_correlation(maps, 3 * maps) == pytest.approx(1, abs=1e-6)
    assert abs(gradcam.rank_correlation(maps, others).mean()) < 0.1
    left, right = np.zeros((2, SIDE, SIDE), np.float32)
    left[:, :20], right[:, 30:] = 1, 1
    (opposite,) = gradcam.rank_correlation(left[None], right[None])
    assert opposite < -0.3


def test_a_map_without_any_activation_has_no_rank_correlation() -> None:
    maps = np.array([dot(3, 3), np.zeros((SIDE, SIDE), np.float32)])
    found = gradcam.rank_correlation(maps, maps[::-1])
    assert np.isnan(found).all()
    assert np.isfinite(gradcam.rank_correlation(maps, maps)).tolist() == [True, False]

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from stages.common import parallel
from stages.intake import copies
from stages.intake.copies import Pair

SIZE = (400, 360)


def chest(seed: int) -> Image.Image:
    """Something like a radiograph: the same large shapes for all, details of its own."""
    random = np.random.default_rng(seed)
    width, height = SIZE
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    grey = np.full((height, width), 170.0)
    for side in (-1, 1):
        middle = side * random.normal(0.45, 0.03), random.normal(0, 0.03)
        far = ((x - middle[0]) / 0.32) ** 2 + ((y - middle[1]) / 0.7) ** 2
        grey -= 110 / (1 + np.exp(12 * (far - 1)))
    grey += 30 * np.exp(-(((x + 0.15) / 0.3) ** 2) - ((y - 0.35) / 0.3) ** 2)  # the heart
    grey += 14 * np.sin(random.uniform(16, 24) * (y + 0.3 * x * x + random.uniform(0, 1)))
    for lumps in (8, 16, 32):
        noise = Image.fromarray(random.standard_normal((lumps, lumps), dtype=np.float32))
        grey += 40 / lumps**0.5 * np.asarray(noise.resize(SIZE, Image.Resampling.BICUBIC))
    return Image.fromarray(np.uint8(np.clip(grey, 0, 255)))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def cropped(image: Image.Image, *shares: float) -> Image.Image:
    left, top, right, bottom = shares
    width, height = image.size
    return image.crop(
        (
            round(left * width),
            round(top * height),
            round((1 - right) * width),
            round((1 - bottom) * height),
        )
    )


def scaled(image: Image.Image, across: float, down: float) -> Image.Image:
    return image.resize((round(image.width * across), round(image.height * down)))


def windowed(image: Image.Image, brightness: float, contrast: float, gamma: float) -> Image.Image:
    curved = image.point([round(255 * (value / 255) ** gamma) for value in range(256)])
    bright = ImageEnhance.Brightness(curved).enhance(brightness)
    return ImageEnhance.Contrast(bright).enhance(contrast)


TRANSFORMED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": lambda image: jpeg(image, 40),
    "colour": lambda image: image.convert("RGB"),
    "half": lambda image: scaled(image, 0.5, 0.5),
    "enlarged": lambda image: scaled(image, 1.6, 1.6),
    "aspect lost": lambda image: scaled(image, 0.8, 1.2),
    "cropped all round": lambda image: cropped(image, 0.07, 0.07, 0.07, 0.07),
    "cropped aside": lambda image: cropped(image, 0.1, 0.0, 0.02, 0.08),
    "cropped below": lambda image: cropped(image, 0.0, 0.0, 0.0, 0.15),
    "brighter": lambda image: windowed(image, 1.15, 1.0, 1.0),
    "less contrast": lambda image: windowed(image, 1.0, 0.6, 1.0),
    "gamma": lambda image: windowed(image, 1.0, 1.0, 1.5),
    "everything": lambda image: jpeg(
        windowed(scaled(cropped(image, 0.06, 0.02, 0.0, 0.07), 0.6, 0.55), 0.9, 1.2, 0.8), 50
    ),
}


def hashes(images: list[Image.Image]) -> list[str]:
    return [hashlib.sha256(image.convert("RGB").tobytes()).hexdigest() for image in images]


def pairs_among(images: list[Image.Image]) -> list[Pair]:
    names = [str(number) for number in range(len(images))]
    return copies.find(names, hashes(images), [copies.fingerprint(image) for image in images])


@pytest.fixture(scope="module")
def others() -> list[copies.Fingerprint]:
    """Of twenty different chests."""
    return parallel.each(lambda seed: copies.fingerprint(chest(seed)), range(100, 120), "chests")


def in_company(images: list[Image.Image], others: list[copies.Fingerprint]) -> list[Pair]:
    """The pairs where other chests could be mistaken for those of the images."""
    prints = others + [copies.fingerprint(image) for image in images]
    names = [str(number) for number in range(len(prints))]
    return copies.find(names, names, prints)


@pytest.mark.parametrize("kind", TRANSFORMED)
def test_a_transformed_picture_is_a_copy_of_its_original_alone(kind, others):
    for seed in (1, 2):
        original = chest(seed)
        pairs = in_company([original, TRANSFORMED[kind](original)], others)
        assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [(20, 21, "near")]
        assert copies.SIMILAR <= pairs[0].similarity <= 1


def test_two_crops_of_one_picture_are_copies_without_their_original(others):
    original = chest(3)
    crops = [cropped(original, 0.07, 0.0, 0.0, 0.06), cropped(original, 0.0, 0.05, 0.07, 0.0)]
    assert [(pair.first, pair.second) for pair in in_company(crops, others)] == [(20, 21)]


def test_a_mirrored_picture_is_no_copy(others):
    original = chest(4)
    turned = [ImageOps.mirror(original), ImageOps.flip(original), original.rotate(180)]
    assert in_company([original, *turned], others) == []


def test_a_picture_that_differs_in_its_details_is_no_copy(others):
    """The same large shapes, as of one patient on another day."""
    large = [chest(seed).reduce(12).resize(SIZE, Image.Resampling.BICUBIC) for seed in (5, 5)]
    random = np.random.default_rng(5)
    images = []
    for image in large:
        noise = random.standard_normal((90, 100), dtype=np.float32)
        detail = np.asarray(Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC))
        images.append(Image.fromarray(np.uint8(np.clip(np.asarray(image) + 9 * detail, 0, 255))))
    coarse = [np.asarray(image.reduce(20), float).ravel() for image in images]
    assert np.corrcoef(coarse)[0, 1] > 0.98
    assert in_company(images, others) == []


def noisy(image: Image.Image, seed: int, strength: float, lumps: int = 90) -> Image.Image:
    """With detail of its own, `lumps` per side, about `strength` grey values strong."""
    noise = np.random.default_rng(seed).standard_normal((lumps, lumps), dtype=np.float32)
    detail = np.asarray(Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC))
    return Image.fromarray(np.uint8(np.clip(np.asarray(image) + strength * detail, 0, 255)))


@pytest.mark.parametrize("seed", range(3))
def test_the_threshold_of_similarity(seed, monkeypatch):
    """Just above it are copies, just below it none: similarities at both were measured."""
    original = chest(seed)
    above, below = ([noisy(original, each, strength) for each in (20, 21)] for strength in (2.8, 4))
    (pair,) = pairs_among(above)
    assert 0.78 <= pair.similarity < 0.84
    assert round(pair.similarity, 2) != pair.similarity == round(pair.similarity, 4)
    assert pairs_among(below) == []
    monkeypatch.setattr(copies, "SIMILAR", 0.5)
    (pair,) = pairs_among(below)
    assert 0.68 < pair.similarity < 0.78


def test_copies_that_differ_in_their_shadows_are_still_compared_closely():
    original = chest(0)
    pairs = pairs_among([noisy(original, seed, 15, lumps=14) for seed in (30, 31)])
    assert [pair.kind for pair in pairs] == ["near"]


def test_pictures_that_differ_at_the_coarse_size_are_not_compared_closely(monkeypatch):
    original = chest(1)
    sides = []
    aligned = copies._aligned

    def recorded(one, *arguments, **options):
        sides.append(one.shape[1])
        return aligned(one, *arguments, **options)

    monkeypatch.setattr(copies, "_aligned", recorded)
    assert pairs_among([noisy(original, seed, 15, lumps=18) for seed in (30, 31)]) == []
    assert sides == [64]


def test_pictures_that_hardly_overlap_are_unlike():
    picture = copies.fingerprint(chest(14)).coarse[None].astype(np.float32)
    aligned, far = np.array([[[1, 0, 1, 0]], [[1, 1.2, 1, 0]]], np.float32)
    assert copies._correlation(picture, picture, aligned) == pytest.approx(1)
    assert copies._correlation(picture, picture, far) == 0


def test_faint_pictures_are_compared_too(others):
    faint = chest(13).point([100 + value // 16 for value in range(256)])
    assert np.asarray(faint).std() < 4
    pairs = in_company([faint, scaled(faint, 0.5, 0.5)], others)
    assert [(pair.first, pair.second) for pair in pairs] == [(20, 21)]


def test_equal_bytes_and_pixels_are_told_from_near_copies():
    image, other = chest(6), chest(7)
    images = [image, other, image, image, jpeg(image, 60)]
    prints = [copies.fingerprint(each) for each in images]
    pairs = copies.find(["a", "b", "a", "c", "d"], hashes(images), prints)
    assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [
        (0, 2, "bytes"),
        (0, 3, "pixels"),
        (0, 4, "near"),
    ]
    assert pairs[0].similarity == pairs[1].similarity == 1
    assert copies.groups(5, pairs) == [0, 1, 0, 0, 0]


def test_there_are_no_copies_among_none_and_one():
    assert copies.find([], [], []) == []
    assert pairs_among([chest(8)]) == []


def test_blank_pictures_are_copies_only_if_equal():
    blanks = [Image.new("L", (64, 64), grey) for grey in (0, 128, 0)]
    specks = [image.copy() for image in blanks[:2]]
    specks[0].putpixel((30, 30), 1)
    specks[1].putpixel((30, 30), 129)
    pairs = pairs_among([*blanks, *specks])
    assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [(0, 2, "pixels")]


def test_pictures_of_any_size_and_shape_are_taken():
    images = [Image.new("L", size, 90) for size in ((32, 32), (2000, 40), (40, 1500))]
    images += [scaled(chest(9), 0.1, 0.1), chest(9).resize((3000, 2500))]
    assert all(copies.fingerprint(image).hashes.shape == (36, 4) for image in images)


def test_the_order_of_the_files_and_the_number_of_threads_change_nothing(others, monkeypatch):
    original = chest(10)
    images = [make(original) for make in TRANSFORMED.values()]
    prints = [*others, *(copies.fingerprint(image) for image in images)]
    names = [str(number) for number in range(len(prints))]
    pairs = copies.find(names, names, prints)
    monkeypatch.setattr(parallel, "available_cores", lambda: 1)
    assert copies.find(names, names, prints) == pairs
    order = np.random.default_rng(1).permutation(len(prints)).tolist()
    shuffled = copies.find(names, names, [prints[number] for number in order])
    assert all(pair.first < pair.second for pair in shuffled)
    joined = copies.groups(len(prints), shuffled)
    group = dict(zip(order, joined, strict=True))
    assert len({group[number] for number in range(20, 32)}) == 1
    assert len(set(joined)) == 21
    assert pairs == sorted(pairs, key=lambda pair: (pair.first, pair.second))


def test_many_frames_of_one_picture_end_in_one_group_at_bounded_cost(monkeypatch):
    frame = copies.fingerprint(chest(11))
    random = np.random.default_rng(11)
    frames = [
        replace(frame, fine=frame.fine + random.integers(-3, 4, frame.fine.shape, np.int8))
        for _ in range(60)
    ]
    compared = []
    similarities = copies.compared

    def counted(prints, candidates, chosen):
        compared.extend(chosen)
        return similarities(prints, candidates, chosen)

    monkeypatch.setattr(copies, "compared", counted)
    monkeypatch.setattr(copies, "_BLOCK", 64)
    names = [str(number) for number in range(len(frames))]
    pairs = copies.find(names, names, frames)
    assert set(copies.groups(len(frames), pairs)) == {0}
    assert len(compared) < 2 * len(frames)  # of 1770 candidates


def crowd(seed: int, pictures: int) -> copies.Bits:
    """Hashes of pictures that look alike: most windows of any two are near."""
    random = np.random.default_rng(seed)
    middle = random.integers(0, 2, (36, 256)).astype(bool)
    bits = middle ^ (random.random((pictures, 36, 256)) < 0.06)
    hashes: copies.Bits = np.packbits(bits, axis=2, bitorder="little").view("<u8")
    return hashes.astype(np.uint64)


@pytest.mark.parametrize("sets", [None, np.arange(60) % 2])
def test_the_nearest_are_kept_whatever_is_dropped_on_the_way(sets, monkeypatch):
    """The same candidates as where nothing is dropped but at the end."""
    hashes = crowd(1, 60)
    found = copies.candidates_among(hashes, sets)
    monkeypatch.setattr(copies, "_CANDIDATES", 10**6)
    every = copies.candidates_among(hashes, sets)
    assert len(every.first) > len(found.first)
    ends = np.column_stack(every[:2])
    distance = np.bitwise_count(
        hashes[ends[:, 0], every.windows[:, 0]] ^ hashes[ends[:, 1], every.windows[:, 1]]
    ).sum(axis=1)
    order = np.lexsort((ends[:, 1], ends[:, 0], distance))
    rank = copies._rank(ends[order]).min(axis=1)
    kept = order[np.argsort(rank, kind="stable")][: (rank < 8).sum()]
    for one, other in zip(found, every, strict=True):
        assert (one == other[kept]).all()


@pytest.mark.parametrize(("count", "listed"), [(3, 3), (50, 50 * 49 // 2), (51, 50), (1000, 999)])
def test_many_equal_files_are_joined_without_listing_every_pair(count, listed):
    same = copies.fingerprint(chest(12))
    pairs = copies.find(["a"] * count, ["b"] * count, [same] * count)
    assert len(pairs) == listed
    assert set(copies.groups(count, pairs)) == {0}


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[Pair]]:
    count = draw(st.integers(1, 30))
    number = st.integers(0, count - 1)
    ends = draw(st.lists(st.tuples(number, number).filter(lambda pair: pair[0] < pair[1])))
    return count, [Pair(first, second, "near", 0.9) for first, second in ends]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 255))
def test_hashes_are_those_of_imagehash(seed, count, contrast):
    random = np.random.default_rng(seed)
    low = 128 - contrast // 2
    windows = random.integers(low, low + contrast + 1, (count, 32, 32)).astype(np.uint8)
    expected = [
        imagehash.phash(Image.fromarray(window), 16, highfreq_factor=2).hash.ravel()
        for window in windows
    ]
    hashes = copies._hashes(windows)
    bits = np.unpackbits(hashes.view(np.uint8), axis=1, bitorder="little").astype(bool)
    assert (bits == expected).all()


@given(graphs())
def test_groups_are_the_finest_that_join_every_pair(graph):
    count, pairs = graph
    numbers = copies.groups(count, pairs)
    assert len(numbers) == count
    assert all(numbers[pair.first] == numbers[pair.second] for pair in pairs)
    firsts = list(dict.fromkeys(numbers))
    assert firsts == list(range(len(firsts)))  # numbered in the order of their first files
    separate = [{number} for number in range(count)]
    for pair in pairs:
        one, other = separate[pair.first], separate[pair.second]
        if one is not other:
            one |= other
            for number in other:
                separate[number] = one
    assert len({id(each) for each in separate}) == len(firsts)


@given(graphs(), st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order_of_pairs(graph, random):
    count, pairs = graph
    shuffled = random.sample(pairs, len(pairs))
    assert copies.groups(count, shuffled) == copies.groups(count, pairs)


def test_an_alignment_is_recovered_from_near_by() -> None:
    side = copies._COARSE
    detail = np.stack([copies.fingerprint(chest(seed)).coarse for seed in range(3)])
    other = detail.astype(np.float32) / np.float32(copies._DETAIL_UNIT)
    true = np.array(
        [[0.97, 0.02, 0.98, -0.01], [1.03, -0.02, 1.0, 0.02], [1.0, 0.0, 0.97, 0.01]], np.float32
    )
    one, _ = copies._laid_over(other, true)
    start = np.tile(np.array([1, 0, 1, 0], np.float32), (3, 1))
    before = copies._correlation(one, other, start)
    found = copies._aligned(one, other, start, steps=6)
    assert one.shape == (3, side, side)
    assert np.abs(found - true).max() < 0.004
    assert (before < 0.98).all()
    assert (copies._correlation(one, other, found) > 0.99).all()

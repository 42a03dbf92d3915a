"""Files that show the same radiograph: the same bytes, the same pixels, or near copies.

A near copy was re-encoded, re-scaled, cropped at its borders or given another brightness,
contrast or gamma. A mirrored radiograph is none: its heart is on the other side.

1. *Candidates.* Perceptual hashes (those of imagehash's `phash`, 256 bits) of 36 windows of every
   picture, laid out so that, whatever two copies lost at their borders, some window of the one
   shows nearly what some window of the other shows. Locality-sensitive hashing (Indyk & Motwani
   1998) finds the pairs with near hashes: tables keyed by a few of the bits are sorted and
   neighbours compared. No step looks at all pairs.
2. *Comparison.* Chest radiographs look alike, so near hashes prove nothing. Each candidate pair
   is aligned (scale and shift along either axis, by Gauss-Newton steps from where the two
   windows put it; Lucas & Kanade 1981), and is a near copy if the local detail of the two,
   after division by the local contrast, correlates over the overlap by `SIMILAR` or more.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from stages.common import parallel

SIMILAR = 0.78
"""Near copies correlate by this or more: see `benchmarks/copies.py` for the gap it lies in."""

_PROMISING = 0.85  # at the coarse size, where pictures are more alike
_FINE, _COARSE = 128, 64  # sides in pixels of the two sizes that a comparison uses
_DETAIL_BLUR = {_FINE: 2.0, _COARSE: 4.0}  # standard deviation in pixels
_DETAIL_UNIT = 40  # steps that a local standard deviation is stored in
_BORDER = 0.12  # of half a side: left out, because frames, captions and letters are there
_LEAST_OVERLAP = 0.4  # of the picture
_LEAST_CONTRAST = 1.0  # grey values; a picture with less is blank

# Shares of the width (and of the height), from differential evolution: the six intervals of
# which one in the one copy most nearly shows what one in the other shows, whatever was cropped,
# up to 10 % a side of either copy or 15 % of one. The ends are off by 1.4 % of the interval's
# length in the root mean square, by 5 % at worst.
_BEGINS = 0.050, 0.092, 0.117, 0.154, 0.166, 0.170
_ENDS = 0.941, 0.936, 0.859, 0.817, 0.890, 0.931
_INTERVALS = tuple(zip(_BEGINS, _ENDS, strict=True))
_WINDOWS = tuple((x, y) for x in _INTERVALS for y in _INTERVALS)
_HASH_SIDE = 16  # 256 bits; the 64 of the usual size don't tell radiographs apart
_HASH_DISTANCE = 52  # of 256 bits; copies mostly differ in under 45, different patients in over 60
_TABLES = 48
_KEY_BITS = 20
_ORDER_BITS = 12  # sort a crowded bucket, so that the most similar are neighbours
_KEY_CORNER = 10  # keys are made of the coefficients of low frequency, which crops disturb least
_NEIGHBOURS = 16  # that an entry of a table is compared with
_CANDIDATES = 8  # that are kept per picture
_LISTED = 50  # files in a group of equals up to which all its pairs are listed
_BLOCK, _BATCH = 512, 8  # pairs between two looks at what is joined, and pairs per array
_MOST_BLOCKS = 100  # larger ones then: each look goes over all pictures
_SLICE = 1 << 16  # entries of a table that are compared at once, about 100 bytes each

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Bits = NDArray[np.uint64]
Detail = NDArray[np.int8]


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of a picture, about 22 kB.

    Attributes:
        hashes: (36, 4) uint64, a 256-bit hash per window.
        fine: (128, 128) int8, local detail in 40ths of the local standard deviation.
        coarse: (64, 64) int8, the same of the picture at half that size.
        blank: The picture shows nothing that could be compared.
    """

    hashes: Bits
    fine: Detail
    coarse: Detail
    blank: bool


class Fingerprints(Protocol):
    """A list of them, or what reads them from a file one by one, such as `stored.Stored`."""

    def __getitem__(self, number: int, /) -> Fingerprint:
        """The fingerprint of a picture by its number, from 0."""


@dataclass(frozen=True)
class Pair:
    """Two files that show the same radiograph.

    Attributes:
        first: Number of a file.
        second: Number of the other, greater than `first`.
        kind: "bytes", "pixels" or "near".
        similarity: Correlation of the local detail, from 0 to 1; 1 for equal bytes or pixels.
    """

    first: int
    second: int
    kind: str
    similarity: float


# ---------------------------------------------------------------------------------- fingerprints


def _detail(grey: Floats, contrast: float) -> Detail:
    """What stands out from its surroundings, in units of the local standard deviation.

    That makes it independent of brightness and contrast and nearly of gamma. Where hardly
    anything stands out, noise is not amplified: `contrast` / 20 is the least divisor.
    """
    from scipy import ndimage

    blur = _DETAIL_BLUR[len(grey)]
    difference = grey - ndimage.gaussian_filter(grey, blur, mode="nearest")
    variance = ndimage.gaussian_filter(difference * difference, blur, mode="nearest")
    detail = difference / np.sqrt(variance + (contrast / 20) ** 2 + 1e-6)
    scaled: Detail = np.rint(np.clip(detail, -3, 3) * _DETAIL_UNIT).astype(np.int8)
    return scaled


def _hashes(windows: NDArray[np.uint8]) -> Bits:
    """Perceptual hashes of pictures (n, 32, 32), uint64, (n, 4): imagehash's `phash`, all at once.

    A bit is 1 where a coefficient of the cosine transform is above the median of them.
    """
    from scipy.fft import dct

    waves = dct(dct(windows.astype(np.float64), axis=1), axis=2)[:, :_HASH_SIDE, :_HASH_SIDE]
    waves = waves.reshape(len(windows), -1)
    bits = waves > np.median(waves, axis=1, keepdims=True)
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def fingerprint(image: Image.Image) -> Fingerprint:
    """Makes the fingerprint of a picture.

    Args:
        image: Mode L or RGB, upright, of any size; more than 400 pixels per side add nothing.
    """
    small = image.resize((_FINE, _FINE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    grey = np.asarray(small.convert("L"), np.float32)
    contrast = float(grey.std())
    coarse = _detail(grey.reshape(_COARSE, 2, _COARSE, 2).mean((1, 3)), contrast)
    picture = Image.fromarray(np.uint8(coarse.astype(np.int16) + 128))
    windows = []
    for (left, right), (top, bottom) in _WINDOWS:
        box = (left * _COARSE, top * _COARSE, right * _COARSE, bottom * _COARSE)
        windows.append(picture.resize((2 * _HASH_SIDE,) * 2, Image.Resampling.BILINEAR, box))
    hashes = _hashes(np.array([np.asarray(window) for window in windows]))
    return Fingerprint(hashes, _detail(grey, contrast), coarse, contrast < _LEAST_CONTRAST)


# ------------------------------------------------------------------------------------ candidates


class Candidates(NamedTuple):
    """Pairs of pictures to compare, the nearest of every picture before its next ones.

    `first` < `second`, (n,), number the pictures; `windows`, (n, 2), their windows with the
    nearest hashes.
    """

    first: Integers
    second: Integers
    windows: Integers


def _tables() -> tuple[Bits, Bits]:
    """Masks and factors, (tables, 2, 4, 1) each and the same each time, for `_mixed`.

    The first of the two make the keys of a table, the second order its crowded buckets.
    """
    low = [16 * y + x for y in range(_KEY_CORNER) for x in range(_KEY_CORNER) if x or y]
    random = np.random.default_rng(0)
    bits = np.zeros((_TABLES, 2, 256), bool)
    factors = np.empty((_TABLES, 2, 4, 1), np.uint64)
    for number in range(_TABLES):
        chosen = random.choice(low, _KEY_BITS + _ORDER_BITS, replace=False)
        bits[number, 0, chosen[:_KEY_BITS]] = bits[number, 1, chosen[_KEY_BITS:]] = True
        factors[number] = random.integers(2**63, size=(2, 4, 1), dtype=np.uint64) | np.uint64(1)
    masks = np.packbits(bits, axis=2, bitorder="little").view("<u8").astype(np.uint64)
    return masks[..., None], factors


def _mixed(words: Bits, masks: Bits, factors: Bits) -> Bits:
    """Numbers equal for hashes with the same masked bits, mixed well into the upper digits.

    Args:
        words: (4, n) hashes, or (4, 1, n).
        masks: (4, 1), or (4, tables, 1).
        factors: Likewise; odd (multiplicative hashing, Dietzfelbinger et al. 1997).

    Returns:
        (n,), or (tables, n).
    """
    # one after another, in place: all at once would take four times the memory
    mixed: Bits = (words[0] & masks[0]) * factors[0]
    for word, mask, factor in zip(words[1:], masks[1:], factors[1:], strict=True):
        part = word & mask
        part *= factor
        mixed += part
    return mixed


def hashes_of(prints: Fingerprints, numbers: Sequence[int]) -> Bits:
    """(n, 36, 4) uint64: the hashes of n pictures, of which nothing else is kept in memory."""
    hashes = np.empty((len(numbers), len(_WINDOWS), 4), np.uint64)
    for place, number in enumerate(numbers):
        hashes[place] = prints[number].hashes
    return hashes


def _table(entries: Bits, shuffled: NDArray[np.uint32], masks: Bits, factors: Bits) -> Bits:
    """A sorted table of entries, (n, 4): (n,), equal keys together.

    Key, order and place in `shuffled` of each entry are the digits of one integer, from the highest
    on. `masks` and `factors` are those of one table.
    """
    table = np.zeros(len(entries), np.uint64)
    for begin in range(0, len(table), _SLICE):
        some = slice(begin, begin + _SLICE)
        words = entries[some].T
        key = _mixed(words, masks[0], factors[0]) >> (64 - _KEY_BITS)
        order = _mixed(words, masks[1], factors[1]) >> (64 - _ORDER_BITS)
        table[some] |= (key << _ORDER_BITS | order) << 32
        table[shuffled[some]] |= np.arange(begin, begin + len(key), dtype=np.uint64)
    table.sort()
    return table


def _neighbours(
    hashes: Bits, sets: Integers, masks: Bits, factors: Bits, shuffle: np.random.Generator
) -> list[Integers]:
    """Pairs of pictures with near hashes that one table brings together, as `candidates_among`.

    Returns:
        Arrays (n, 3): first * pictures + second, distance, and the same of the windows.
    """
    pictures, windows = hashes.shape[:2]
    entries = hashes.reshape(-1, 4)
    # equals come in another order in each table, so that each has many neighbours in all
    shuffled = np.arange(len(entries), dtype=np.uint32)
    shuffle.shuffle(shuffled)
    table = _table(entries, shuffled, masks, factors)
    ones = np.ones(4, np.uint16)
    found, compared = [], 0
    for step in range(1, _NEIGHBOURS + 1):
        before = compared
        for begin in range(0, len(table) - step, _SLICE):
            slots = table[begin : begin + _SLICE + step]
            bucket = slots >> (64 - _KEY_BITS)
            here = np.flatnonzero(bucket[step:] == bucket[:-step])
            compared += len(here)
            ends = shuffled[slots[[here, here + step]].astype(np.uint32)]  # the lower half
            ends = np.sort(ends, axis=0).astype(np.int64)
            ends = ends[:, np.not_equal(*sets[ends // windows])]
            different = np.bitwise_xor(*entries.take(ends, axis=0))
            distance = (np.bitwise_count(different) @ ones).astype(np.int64)
            near = distance <= _HASH_DISTANCE
            (one, other), (one_window, other_window) = np.divmod(ends[:, near], windows)
            pair, window_pair = one * pictures + other, one_window * windows + other_window
            found.append(np.column_stack((pair, distance[near], window_pair)))
        if compared == before or compared > len(table):
            break
    return found


def candidates_among(hashes: Bits, sets: Integers | None = None) -> Candidates:
    """Pairs of pictures of which some windows have near hashes.

    An entry of a table is a window of a picture. It is compared with the `_NEIGHBOURS` entries
    that follow it in the same bucket, or with fewer once there have been as many comparisons as
    entries; and a picture keeps at most `_CANDIDATES` pairs. So a set of 20,000 pictures that all
    look alike costs no more than a bounded number of comparisons per picture. That loses little:
    inside a crowded bucket further bits of the hash make neighbours of the most similar, the
    tables crowd in different ways, and copies need not all be paired with each other to end in
    one group. Takes 2 kB of memory per picture, and more where many are alike.

    Args:
        hashes: (pictures, 36, 4) uint64, of two pictures at least.
        sets: (pictures,), the set that each is in; only pairs across two sets are wanted. Without
            it every pair is.
    """
    pictures, windows = hashes.shape[:2]
    sets = np.arange(pictures) if sets is None else sets
    shuffle = np.random.default_rng(1)
    best = np.empty((0, 3), np.int64)
    for masks, factors in zip(*_tables(), strict=True):
        best = np.concatenate((best, *_neighbours(hashes, sets, masks, factors, shuffle)))
        best = best[np.lexsort(best.T[::-1])]
        best = best[np.diff(best[:, 0], prepend=-1) > 0]  # the least distance of each pair
        # what has no place among the nearest now gets none later either: they only become nearer
        nearest = best[np.argsort(best[:, 1], kind="stable")]
        ends = np.column_stack(np.divmod(nearest[:, 0], pictures))
        rank = _rank(ends).min(axis=1)
        best = nearest[rank < _CANDIDATES]
    order = np.argsort(rank, kind="stable")
    order = order[rank[order] < _CANDIDATES]
    met = np.column_stack(np.divmod(nearest[order, 2], windows))
    return Candidates(ends[order, 0], ends[order, 1], met)


class Index:
    """Finds the candidates for one picture among many, from tables that are built once.

    Looks through whole buckets, so it misses none that `candidates_among` would compare. Takes
    14 kB per picture. Threads may share it.

    Args:
        hashes: (pictures, 36, 4) uint64, of fingerprints that are not blank.
    """

    def __init__(self, hashes: Bits) -> None:
        self._entries = hashes.reshape(-1, 4)
        words = np.ascontiguousarray(self._entries.T)
        masks, factors = _tables()
        self._masks, self._factors = (each[:, 0].swapaxes(0, 1) for each in (masks, factors))
        self._first_keys = np.arange(_TABLES, dtype=np.uint64)[:, None] << _KEY_BITS
        numbers = np.arange(len(self._entries), dtype=np.uint64)
        tables = np.empty((_TABLES, len(numbers)), np.uint64)
        for number, table in enumerate(tables):
            key = _mixed(words, masks[number, 0], factors[number, 0]) >> (64 - _KEY_BITS)
            table[:] = (key | self._first_keys[number]) << 32 | numbers
            table.sort()
        self._table = tables.ravel()  # sorted as a whole too, because keys begin with the table

    def nearest(self, hashes: Bits) -> tuple[Integers, Integers]:
        """The pictures with the nearest hashes to those of a picture, at most `_CANDIDATES`.

        Args:
            hashes: (36, 4) uint64.

        Returns:
            The numbers of the pictures, (n,), the nearest first; for each the window of the
            picture asked about and its own, (n, 2), that are so near.
        """
        windows = len(hashes)
        mixed = _mixed(hashes.T[:, None], self._masks, self._factors)
        keys = mixed >> (64 - _KEY_BITS) | self._first_keys
        begins, ends = np.searchsorted(self._table, np.stack((keys, keys + 1)).reshape(2, -1) << 32)
        sizes = ends - begins
        places = np.arange(sizes.sum()) + np.repeat(ends - np.cumsum(sizes), sizes)
        entry = (self._table[places] & 0xFFFFFFFF).astype(np.int64)
        window = np.repeat(np.tile(np.arange(windows), len(keys)), sizes)
        distance = np.bitwise_count(self._entries[entry] ^ hashes[window]).sum(axis=1)
        near = np.flatnonzero(distance <= _HASH_DISTANCE)
        near = near[np.lexsort((entry[near], window[near], distance[near]))]
        picture, its_window = np.divmod(entry[near], windows)
        _, first = np.unique(picture, return_index=True)
        first = np.sort(first)[:_CANDIDATES]
        return picture[first], np.column_stack((window[near], its_window))[first]


def _rank(pairs: Integers) -> Integers:
    """How often each number has come up in the rows before; same shape as `pairs`, (n, 2)."""
    flat = pairs.ravel()
    order = np.argsort(flat, kind="stable")
    begins = np.searchsorted(flat[order], flat[order])
    rank = np.empty_like(flat)
    rank[order] = np.arange(len(flat)) - begins
    return rank.reshape(pairs.shape)


# ------------------------------------------------------------------------------------ comparison


def _points(side: int) -> Floats:
    """The middles of `side` pixels on an axis from -1 to 1."""
    return (np.arange(side, dtype=np.float32) + 0.5) * np.float32(2 / side) - 1


def _rows_at(pictures: Floats, scale: Floats, shift: Floats) -> tuple[Floats, Floats]:
    """Resamples the rows of pictures (n, side, side) by linear interpolation between them.

    All pictures at once in float32: twice as fast as scipy.ndimage.affine_transform for each.

    Args:
        pictures: What is resampled.
        scale: (n,), and
        shift: (n,): row y comes from y * `scale` + `shift`, on an axis from -1 to 1.

    Returns:
        The pictures; (n, side) 1 where a row comes from inside the picture, 0 elsewhere.
    """
    side = pictures.shape[1]
    points = scale[:, None] * _points(side) + shift[:, None]
    pixels = (points + 1) * np.float32(side / 2) - np.float32(0.5)
    inside = (np.abs(points) <= 1 - _BORDER) & (np.abs(_points(side)) <= 1 - _BORDER)
    above = np.clip(np.floor(pixels), 0, side - 2).astype(np.intp)
    share = np.clip(pixels - above, 0, 1)[:, :, None]
    each = np.arange(len(pictures))[:, None]
    upper, lower = pictures[each, above], pictures[each, above + 1]
    return upper + share * (lower - upper), inside.astype(np.float32)


def _laid_over(pictures: Floats, alignment: Floats) -> tuple[Floats, Floats]:
    """Pictures (n, side, side) under `alignment` (n, 4), and where they count: 1, elsewhere 0."""
    turned = np.ascontiguousarray(pictures.transpose(0, 2, 1))
    turned, across = _rows_at(turned, alignment[:, 0], alignment[:, 1])
    turned = np.ascontiguousarray(turned.transpose(0, 2, 1))
    laid, down = _rows_at(turned, alignment[:, 2], alignment[:, 3])
    return laid, down[:, :, None] * across[:, None, :]


def _aligned(one: Floats, other: Floats, alignment: Floats, steps: int) -> Floats:
    """Improves alignments by Gauss-Newton steps on the squared difference over the overlap.

    Args:
        one: (n, side, side) local detail.
        other: The same of the pictures to be laid over `one`.
        alignment: (n, 4): scale and shift along x, scale and shift along y. A point x of `one`
            lies at scale * x + shift in `other`; either runs from -1 to 1.
        steps: How many.
    """
    side = one.shape[1]
    points = _points(side)
    for _ in range(steps):
        laid, overlap = _laid_over(other, alignment)
        slope_y, slope_x = np.gradient(laid, np.float32(2 / side), axis=(1, 2))
        slope_x *= overlap / alignment[:, 0, None, None]
        slope_y *= overlap / alignment[:, 2, None, None]
        slopes = np.stack((slope_x * points, slope_x, slope_y * points[:, None], slope_y), axis=1)
        slopes = slopes.reshape(len(one), 4, -1)
        missing = ((one - laid) * overlap).reshape(len(one), -1, 1)
        curvature = slopes @ slopes.transpose(0, 2, 1)
        damping = 0.001 * np.trace(curvature, axis1=1, axis2=2) + 1e-3
        curvature += damping[:, None, None] * np.eye(4, dtype=np.float32)
        change = np.linalg.solve(curvature, slopes @ missing)[:, :, 0]
        alignment = alignment + np.clip(change, -0.1, 0.1)
        alignment[:, [0, 2]] = np.clip(alignment[:, [0, 2]], 0.65, 1.55)
    return alignment


def _correlation(one: Floats, other: Floats, alignment: Floats) -> Floats:
    """Normalised cross-correlation over the overlap, (n,); 0 where they hardly overlap."""
    laid, overlap = _laid_over(other, alignment)
    area = np.maximum(overlap.sum((1, 2), keepdims=True), 1)
    one = (one - (one * overlap).sum((1, 2), keepdims=True) / area) * overlap
    laid = (laid - (laid * overlap).sum((1, 2), keepdims=True) / area) * overlap
    spread = np.sqrt((one * one).sum((1, 2)) * (laid * laid).sum((1, 2)))
    correlation: Floats = (one * laid).sum((1, 2)) / np.maximum(spread, np.float32(1e-6))
    correlation[area[:, 0, 0] < _LEAST_OVERLAP * one[0].size] = 0
    return correlation


def _first_guess(windows: Integers) -> Floats:
    """The alignments (n, 4) that lay the second of two windows (n, 2) over the first."""
    intervals = 2 * np.array(_WINDOWS) - 1  # window, axis, begin and end
    one, other = intervals[windows[:, 0]], intervals[windows[:, 1]]
    scale = (other[:, :, 1] - other[:, :, 0]) / (one[:, :, 1] - one[:, :, 0])
    shift = other[:, :, 0] - scale * one[:, :, 0]
    return np.stack((scale, shift), axis=2).reshape(-1, 4).astype(np.float32)


def compared(prints: Fingerprints, candidates: Candidates, chosen: Integers) -> Floats:
    """Similarity of the `chosen` candidates, (n,) from 0 to 1; 0 if unlike at the coarse size."""

    def pictures(numbers: Integers, size: str) -> Floats:
        detail = np.stack([getattr(prints[number], size) for number in numbers])
        return detail.astype(np.float32) / np.float32(_DETAIL_UNIT)

    first, second = candidates.first[chosen], candidates.second[chosen]
    one, other = pictures(first, "coarse"), pictures(second, "coarse")
    alignment = _aligned(one, other, _first_guess(candidates.windows[chosen]), steps=2)
    close = np.flatnonzero(_correlation(one, other, alignment) >= _PROMISING)
    similarity = np.zeros(len(chosen), np.float32)
    if len(close):
        one, other = pictures(first[close], "fine"), pictures(second[close], "fine")
        alignment = _aligned(one, other, alignment[close], steps=3)
        similarity[close] = _correlation(one, other, alignment)
    return np.clip(similarity, 0, 1)


def similarities(prints: Fingerprints, candidates: Candidates, label: str) -> Floats:
    """Similarity of all candidates, (n,) from 0 to 1; 0 if unlike at the coarse size."""
    numbers = np.arange(len(candidates.first))
    batches = [numbers[begin : begin + _BATCH] for begin in range(0, len(numbers), _BATCH)]
    results = parallel.each(
        lambda batch: compared(prints, candidates, batch), batches, label, unit="batch"
    )
    return np.concatenate([np.empty(0, np.float32), *results])


def _near(prints: Fingerprints, numbers: Integers) -> tuple[Integers, Floats]:
    """Near copies: enough pairs, (n, 2), and their similarities, (n,), to tell every group.

    Candidates that would join what is joined already are left out: otherwise many frames of one
    radiograph would cost many comparisons each.

    Args:
        prints: Of all pictures.
        numbers: Of those that are compared, two or more, sorted.
    """
    among = candidates_among(hashes_of(prints, numbers.tolist()))
    candidates = Candidates(numbers[among.first], numbers[among.second], among.windows)
    ends = np.column_stack((candidates.first, candidates.second))
    size = max(_BLOCK, len(ends) // _MOST_BLOCKS)
    left = np.arange(len(ends))
    near, similarities = left[:0], np.empty(0, np.float32)
    bar = tqdm(total=len(left), desc="copies", unit="pair", delay=2, disable=None, leave=False)
    with bar, ThreadPoolExecutor(parallel.available_cores()) as pool:
        while len(left):
            bar.update(len(ends) - len(left) - bar.n)
            block, left = left[:size], left[size:]
            batches = [block[begin : begin + _BATCH] for begin in range(0, len(block), _BATCH)]
            results = pool.map(lambda batch: compared(prints, candidates, batch), batches)
            similarity = np.concatenate(list(results))
            near = np.append(near, block[similarity >= SIMILAR])
            similarities = np.append(similarities, similarity[similarity >= SIMILAR])
            group = _components(numbers[-1] + 1, ends[near])[ends[left]]
            left = left[group[:, 0] != group[:, 1]]
    return ends[near], similarities


# ---------------------------------------------------------------------------------------- groups


def _components(count: int, pairs: Integers) -> Integers:
    """The connected component that each of `count` files is in, (count,); `pairs` is (n, 2)."""
    from scipy import sparse

    graph = sparse.coo_array((np.ones(len(pairs), bool), pairs.T), (count, count))
    components: Integers = sparse.csgraph.connected_components(graph, directed=False)[1]
    return components


def _equals(values: Iterable[tuple[int, str]], kind: str) -> tuple[list[Pair], list[int]]:
    """Pairs of files (number, hash) with the same hash, and the first file of each hash.

    Of more than `_LISTED` equals only the pairs with the first are listed.
    """
    numbers: dict[str, list[int]] = {}
    for number, value in values:
        numbers.setdefault(value, []).append(number)
    pairs = []
    for same in numbers.values():
        listed = combinations(same, 2) if len(same) <= _LISTED else ((same[0], n) for n in same[1:])
        pairs += [Pair(first, second, kind, 1.0) for first, second in listed]
    return pairs, [same[0] for same in numbers.values()]


def find(
    sha256: Sequence[str], pixels_sha256: Sequence[str], fingerprints: Fingerprints
) -> list[Pair]:
    """Finds the pairs of files that show the same radiograph.

    Enough pairs to tell every group, not all that there are: of files with the same bytes only
    the first is compared with others, and near copies that other pairs join already are not
    compared. Blank pictures are copies only if their bytes or pixels are equal.

    Args:
        sha256: Per file, of its bytes.
        pixels_sha256: Per file, of its decoded pixels.
        fingerprints: Per file.

    Returns:
        The pairs, sorted by their numbers.
    """
    pairs, different = _equals(enumerate(sha256), "bytes")
    more, different = _equals(((number, pixels_sha256[number]) for number in different), "pixels")
    pairs += more
    comparable = [number for number in different if not fingerprints[number].blank]
    if len(comparable) > 1:
        near, similarities = _near(fingerprints, np.array(comparable))
        for (first, second), similarity in zip(near.tolist(), similarities.tolist(), strict=True):
            pairs.append(Pair(first, second, "near", round(similarity, 4)))
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def groups(count: int, pairs: Sequence[Pair]) -> list[int]:
    """Gives each of `count` files the number of its group: what pairs join, however indirectly.

    Groups are numbered from 0 in the order of their first files.
    """
    ends = np.array([(pair.first, pair.second) for pair in pairs], np.int64).reshape(-1, 2)
    numbers: dict[int, int] = {}
    components = _components(count, ends).tolist()
    return [numbers.setdefault(component, len(numbers)) for component in components]

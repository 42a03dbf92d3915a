"""How good and how fast the copy finder is.

usage: python -m benchmarks.copies [--archive ZIP]

On the radiographs of a zip: the recall of the copy finder and of the matching of two sets on copies
made from them, by the kind of copy, and how many pairs they join wrongly; and all pairs of the
radiographs compared, so that what the finder passes over is seen. That takes about ten minutes.

Without a zip, on pictures that it makes. Precision and recall by pairs, on 2,000 phantoms that know
which of them show the same radiograph: 30 % are copies of every kind, 5 % are mirrored. A pair
counts as found if it ends in one group. Then the finder's time at 2,000 and 20,000 pictures,
fingerprints given, and that of one look-up, fingerprint included. These pictures are not phantoms,
which would take half an hour to draw, but smooth random fields, 30 % of them cropped copies with
another gamma. Takes about five minutes on two cores.
"""

import argparse
import hashlib
import io
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tqdm import tqdm

from benchmarks import phantom_copies
from benchmarks.scratch import PROJECT
from stages import audit
from stages.common import parallel, params
from stages.intake import copies, decode, known, matching
from stages.sources import archive, layout, phantom

SEED = 20200131
PHANTOMS = 2_000
FEW, MANY = 2_000, 20_000
_BATCH = 10  # random fields, of which the last three are copies of others in the batch
_ORIGINALS = 7
_SIDE = 160


def same(values: Iterable[Hashable]) -> set[tuple[int, int]]:
    """The pairs of positions that hold equal values."""
    positions = defaultdict(list)
    for position, value in enumerate(values):
        positions[value].append(position)
    return {pair for equal in positions.values() for pair in combinations(equal, 2)}


def hashed(picture: phantom.Phantom) -> tuple[str, str, copies.Fingerprint]:
    """SHA-256 of the bytes and of the pixels, and the fingerprint of one phantom."""
    data = phantom.render(picture)
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return (
        hashlib.sha256(data).hexdigest(),
        audit.sha256_of_pixels(upright),
        copies.fingerprint(upright),
    )


def quality() -> None:
    """Prints precision and recall on phantoms, over all and by the kind of copy."""
    plan = phantom_copies.plan(SEED, PHANTOMS)
    sha256, pixels_sha256, prints = zip(*parallel.each(hashed, plan, "phantoms"), strict=True)
    begun = time.perf_counter()
    pairs = copies.find(sha256, pixels_sha256, prints)
    seconds = time.perf_counter() - begun
    # Two mirrored pictures of one original show the same, whatever their numbers.
    truth = same(
        ((picture.original or picture).radiograph, picture.kind == "mirrored") for picture in plan
    )
    grouped = same(copies.groups(len(plan), pairs))
    print(f"{len(plan):,} phantoms, {len(truth):,} pairs of copies; found in {seconds:.1f} s")
    print(f"  precision {len(grouped & truth) / len(grouped):.4f}")
    print(f"  recall    {len(grouped & truth) / len(truth):.4f}")
    kinds = Counter(" and ".join(sorted({plan[a].kind, plan[b].kind})) for a, b in truth)
    hits = Counter(" and ".join(sorted({plan[a].kind, plan[b].kind})) for a, b in truth & grouped)
    print(f"  recall by kind, of the {len(kinds)} combinations those with an original:")
    for kind, count in sorted(kinds.items()):
        if "original" in kind.split(" and "):
            copy = " and ".join(part for part in kind.split(" and ") if part != "original")
            print(f"    {copy:<45} {hits[kind] / count:.4f} of {count}")
    print_gap(prints, truth)


def print_gap(prints: Sequence[copies.Fingerprint], truth: set[tuple[int, int]]) -> None:
    """Prints how similar copies and different radiographs are, of all candidates compared."""
    candidates = copies.candidates_among(copies.hashes_of(prints, range(len(prints))))
    similarity = copies.similarities(prints, candidates, "gap")
    ends = zip(candidates.first.tolist(), candidates.second.tolist(), strict=True)
    print_similarities(similarity, np.array([pair in truth for pair in ends]))


def print_similarities(similarity: copies.Floats, copied: NDArray[np.bool_]) -> None:
    """Prints a histogram of the similarities (n,) of pairs that are copies (n,) or are not."""
    print("  similarity       different  copies")
    unlike = similarity == 0
    print(f"  unlike           {(unlike & ~copied).sum():9,} {(unlike & copied).sum():7,}")
    for low, high in pairwise(np.linspace(0, 1, 21)):
        inside = (similarity >= low) & ((similarity < high) | (high == 1)) & ~unlike
        different, same_one = (inside & ~copied).sum(), (inside & copied).sum()
        print(f"  {low:.2f} to {high:.2f}   {different:10,} {same_one:7,}")
    print(
        f"  most of different radiographs {similarity[~copied].max():.3f}, least of copies "
        f"{similarity[copied].min():.3f}, threshold {copies.SIMILAR}"
    )


# ------------------------------------------------------------------------------ real radiographs

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def cropped(image: Image.Image, random: np.random.Generator, most: float = 0.1) -> Image.Image:
    """Without up to `most` of the side at each border."""
    left, top, right, bottom = random.uniform(0, most, 4) * np.tile(image.size, 2)
    return image.crop((round(left), round(top), *np.rint(image.size - np.array((right, bottom)))))


def windowed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Cut off below and above, up to 15 % of the grey values each, and with a gamma of 0.5 to 2."""
    low, high = 255 * random.uniform((0, 0.85), (0.15, 1))
    shares = np.clip((np.arange(256) - low) / (high - low), 0, 1)
    return image.point(np.rint(255 * shares**2 ** random.uniform(-1, 1)).tolist())


def re_encoded(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """0.4 to 2 times as large, the aspect changed by up to 15 %, as a JPEG of quality 30."""
    scale, aspect = 2 ** random.uniform((-1.32, -0.1), (1, 0.1))
    size = round(image.width * scale * aspect), round(image.height * scale / aspect)
    file = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=30)
    return Image.open(file)


def equalised(image: Image.Image, _: np.random.Generator) -> Image.Image:
    """With a flat histogram."""
    return ImageOps.equalize(image)


CHANGES: dict[str, tuple[Change, ...]] = {
    "cropped (up to 10 % at each border)": (cropped,),
    "windowed": (windowed,),
    "equalised": (equalised,),
    "re-encoded (JPEG 30, 0.4 to 2 times as large)": (re_encoded,),
    "cropped, windowed, re-encoded": (cropped, windowed, re_encoded),
    "cropped, equalised, re-encoded": (cropped, equalised, re_encoded),
    "cropped (up to 20 % at each border)": (partial(cropped, most=0.2),),
}


def changed(image: Image.Image, number: int, changes: Sequence[Change]) -> Image.Image:
    """What the changes make of a grey picture; `number` seeds them."""
    random = np.random.default_rng([SEED, number])
    for change in changes:
        image = change(image, random)
    return image


def grouped_pairs(prints: Sequence[copies.Fingerprint]) -> set[tuple[int, int]]:
    """The pairs of pictures that the finder puts into one group."""
    names = [str(number) for number in range(len(prints))]
    return same(copies.groups(len(prints), copies.find(names, names, prints)))


def recall(paths: Sequence[Path], folder: Path) -> None:
    """Prints what share of copies of real radiographs is found.

    Args:
        paths: The radiographs.
        folder: An empty one, for the copies.
    """
    pictures = [decode.decode(path)[0].convert("L") for path in paths]
    originals = parallel.each(copies.fingerprint, pictures, "radiographs")
    ours = matching.prints(paths, "radiographs", folder / "ours")[1]
    count = len(paths)
    alike = grouped_pairs(originals)
    alike |= {(second, first) for first, second in alike} | {(n, n) for n in range(count)}
    targets = [folder / f"{number:05d}.png" for number in range(count)]
    print(f"{count} radiographs; copies found (wrong pairs in brackets), and the least similarity")
    print(f"{'':<48}copy finder    matching")
    for kind, changes in CHANGES.items():

        def write(number: int, changes: Sequence[Change] = changes) -> copies.Fingerprint:
            copy = changed(pictures[number], number, changes)
            copy.save(targets[number], compress_level=1)
            return copies.fingerprint(copy.convert("L"))

        made = parallel.each(write, range(count), kind)
        joined = grouped_pairs([*originals, *made])
        across = {(one, other - count) for one, other in joined if one < count <= other}
        matches = matching.matches(ours, matching.prints(targets, kind, folder / "theirs")[1])
        matched = {(match.ours, match.theirs) for match in matches}
        hits = [sum(one == other for one, other in found) for found in (across, matched)]
        wrong = [len(found - alike) for found in (across, matched)]
        least = min(match.similarity for match in matches if match.ours == match.theirs)
        print(
            f"  {kind:<46}{hits[0]:>5} ({wrong[0]}) {hits[1]:>10} ({wrong[1]})   {least:.3f}",
            flush=True,
        )


def nearest_windows(prints: Sequence[copies.Fingerprint]) -> copies.Candidates:
    """All pairs of pictures, each with the windows whose hashes are nearest."""
    hashes = np.stack([each.hashes for each in prints])
    first, second = np.triu_indices(len(prints), 1)
    windows = []
    for number in tqdm(range(len(prints) - 1), "windows", unit="image", disable=None):
        different = hashes[number][None, :, None] ^ hashes[number + 1 :, None]
        distance = np.bitwise_count(different).sum(axis=3, dtype=np.int64)
        windows.append(distance.reshape(len(distance), -1).argmin(axis=1))
    return copies.Candidates(
        first, second, np.column_stack(np.divmod(np.concatenate(windows), hashes.shape[1]))
    )


def exhaustive(paths: Sequence[Path]) -> None:
    """Compares all pairs of real radiographs closely, and the finder's groups with that.

    Each pair is aligned twice, from its windows with the nearest hashes and from where the whole
    pictures coincide; the higher correlation counts, and no pair is dropped at the coarse size.
    """
    prints = parallel.each(
        lambda path: copies.fingerprint(decode.decode(path)[0]), paths, "radiographs"
    )
    grouped = grouped_pairs(prints)
    begun = time.perf_counter()
    nearest = nearest_windows(prints)
    copies._PROMISING = -1.0
    similarity = np.maximum(
        copies.similarities(prints, nearest, "all pairs"),
        copies.similarities(
            prints, nearest._replace(windows=np.zeros_like(nearest.windows)), "all pairs again"
        ),
    )
    seconds = time.perf_counter() - begun
    ends = list(zip(nearest.first.tolist(), nearest.second.tolist(), strict=True))
    found = np.array([pair in grouped for pair in ends])
    missed = np.flatnonzero(~found & (similarity >= copies.SIMILAR))
    print(
        f"all {len(ends):,} pairs of {len(paths)} radiographs compared in {seconds:.0f} s: "
        f"{found.sum()} in one group of the copy finder, {len(missed)} others are as similar"
    )
    for number in missed:
        one, other = (paths[end].as_posix() for end in ends[number])
        print(f"    {similarity[number]:.3f} {one} {other}")
    print_similarities(similarity, found)


def real(zip_path: Path) -> None:
    """Measures on the radiographs of a zip."""
    settings = params.load_all(PROJECT / "params.yaml").download
    with tempfile.TemporaryDirectory() as scratch:
        raw, made = Path(scratch, "raw"), Path(scratch, "copies")
        made.mkdir()
        with archive.opened(zip_path, settings) as contents:
            contents.unpack(layout.arrange(contents.names, str(zip_path)), raw)
        paths = sorted(raw.glob("*/*/*"))
        recall(paths, made)
        exhaustive(paths)


# --------------------------------------------------------------------------------------- growth


def field(number: int) -> Image.Image:
    """A smooth random picture with lumps from a fourth to a sixtieth of its side."""
    random = np.random.default_rng([SEED, number])
    total = np.zeros((_SIDE, _SIDE), np.float32)
    for lumps in (4, 8, 16, 32, 64):
        coarse = Image.fromarray(random.standard_normal((lumps, lumps), dtype=np.float32))
        smooth = coarse.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        total += np.asarray(smooth) * np.float32(lumps**-0.7)
    return Image.fromarray(np.uint8(np.clip(128 + 110 * total, 0, 255)))


def picture(number: int) -> Image.Image:
    """A random picture, or a copy of one of the same batch."""
    if number % _BATCH < _ORIGINALS:
        return field(number)
    random = np.random.default_rng([SEED, number])
    original = field(number - number % _BATCH + int(random.integers(_ORIGINALS)))
    left, top, right, bottom = random.uniform(0, 0.07, 4) * _SIDE
    cropped = original.crop((round(left), round(top), round(_SIDE - right), round(_SIDE - bottom)))
    return cropped.point([round(255 * (v / 255) ** 1.2) for v in range(256)])


def fingerprint(number: int) -> copies.Fingerprint:
    """That of `picture`."""
    return copies.fingerprint(picture(number))


def fastest(prints: Sequence[copies.Fingerprint]) -> float:
    """The finder's seconds, the better of two runs."""
    hashes = [str(number) for number in range(len(prints))]
    times = []
    for _ in range(2):
        begun = time.perf_counter()
        copies.find(hashes, hashes, prints)
        times.append(time.perf_counter() - begun)
    return min(times)


def look_up(prints: Sequence[copies.Fingerprint]) -> str:
    """The processor's time to tell known pictures and others, as medians with the fingerprint."""
    names = [str(number) for number in range(len(prints))]
    arrays = [np.stack([getattr(each, name) for each in prints]) for name in known.ARRAYS]
    training = known.Known(names, *arrays)
    times = defaultdict(list)
    for number in range(60):
        picture = field(number)
        begun = time.process_time()
        found = training.find(picture)
        times[bool(found)].append(1000 * (time.process_time() - begun))
    copied, other = (statistics.median(times[found]) for found in (True, False))
    return f"{copied:.1f} ms for each of {len(times[True])} copies, {other:.1f} ms for others"


def growth() -> None:
    """Prints the finder's time, and that of one look-up, at some sizes."""
    prints = parallel.each(fingerprint, range(MANY), "random pictures")
    few, many = fastest(prints[:FEW]), fastest(prints)
    print(f"{FEW:,} random pictures {few:.2f} s, {MANY:,} {many:.2f} s: {many / few:.1f} times")
    for size in (300, FEW, MANY):
        print(f"one look-up among {size:,}: {look_up(prints[:size])}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.copies",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--archive", type=Path, metavar="ZIP", help="radiographs to measure on")
    if given := parser.parse_args().archive:
        real(given)
    else:
        quality()
        growth()


if __name__ == "__main__":
    main()

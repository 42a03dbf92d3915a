"""How good and how fast the copy finder is.

usage: python -m benchmarks.copies

Precision and recall by pairs, on 2,000 phantoms that know which of them show the same radiograph:
30 % are copies of every kind, 5 % are mirrored. A pair counts as found if it ends in one group.
Then the finder's time at 2,000 and 20,000 pictures, fingerprints given. These pictures are not
phantoms, which would take half an hour to draw, but smooth random fields, 30 % of them cropped
copies with another gamma. Takes about five minutes on two cores.
"""

import argparse
import hashlib
import io
import time
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations, pairwise

import numpy as np
from PIL import Image, ImageOps

from benchmarks import phantom_copies
from stages.common import parallel
from stages.intake import copies
from stages.sources import phantom

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
    pixels = f"{upright.size}".encode() + upright.tobytes()
    return (
        hashlib.sha256(data).hexdigest(),
        hashlib.sha256(pixels).hexdigest(),
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
    candidates = copies.candidates_among(prints)
    numbers = np.arange(len(candidates.first))
    batches = [numbers[begin : begin + _BATCH] for begin in range(0, len(numbers), _BATCH)]
    similarity = np.concatenate(
        parallel.each(lambda batch: copies._similarities(prints, candidates, batch), batches, "gap")
    )
    ends = zip(candidates.first.tolist(), candidates.second.tolist(), strict=True)
    copied = np.array([pair in truth for pair in ends])
    limits = np.linspace(0, 1, 21)
    print("  similarity       different  copies")
    unlike = similarity == 0
    print(f"  unlike at 64 px  {(unlike & ~copied).sum():9,} {(unlike & copied).sum():7,}")
    for low, high in pairwise(limits):
        inside = (similarity >= low) & ((similarity < high) | (high == 1)) & ~unlike
        different, same_one = (inside & ~copied).sum(), (inside & copied).sum()
        print(f"  {low:.2f} to {high:.2f}   {different:10,} {same_one:7,}")
    print(
        f"  most of different radiographs {similarity[~copied].max():.3f}, least of copies "
        f"{similarity[copied].min():.3f}, threshold {copies.SIMILAR}"
    )


def field(number: int) -> Image.Image:
    """A smooth random picture with lumps from a fourth to a sixtieth of its side."""
    random = np.random.default_rng([SEED, number])
    total = np.zeros((_SIDE, _SIDE), np.float32)
    for lumps in (4, 8, 16, 32, 64):
        coarse = Image.fromarray(random.standard_normal((lumps, lumps), dtype=np.float32))
        smooth = coarse.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        total += np.asarray(smooth) * np.float32(lumps**-0.7)
    return Image.fromarray(np.uint8(np.clip(128 + 110 * total, 0, 255)))


def fingerprint(number: int) -> copies.Fingerprint:
    """The fingerprint of a random picture, or of a copy of one of the same batch."""
    if number % _BATCH < _ORIGINALS:
        return copies.fingerprint(field(number))
    random = np.random.default_rng([SEED, number])
    original = field(number - number % _BATCH + int(random.integers(_ORIGINALS)))
    left, top, right, bottom = random.uniform(0, 0.07, 4) * _SIDE
    cropped = original.crop((round(left), round(top), round(_SIDE - right), round(_SIDE - bottom)))
    return copies.fingerprint(cropped.point([round(255 * (v / 255) ** 1.2) for v in range(256)]))


def fastest(prints: Sequence[copies.Fingerprint]) -> float:
    """The finder's seconds, the better of two runs."""
    hashes = [str(number) for number in range(len(prints))]
    times = []
    for _ in range(2):
        begun = time.perf_counter()
        copies.find(hashes, hashes, prints)
        times.append(time.perf_counter() - begun)
    return min(times)


def growth() -> None:
    """Prints the finder's time at two sizes."""
    prints = parallel.each(fingerprint, range(MANY), "random pictures")
    few, many = fastest(prints[:FEW]), fastest(prints)
    print(f"{FEW:,} random pictures {few:.2f} s, {MANY:,} {many:.2f} s: {many / few:.1f} times")


def main() -> None:
    """Measures and prints."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.copies",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    quality()
    growth()


if __name__ == "__main__":
    main()

"""`preprocess` beside Pillow's plain open-convert-resize, and its memory.

usage: python -m benchmarks.decoding speed|memory FOLDER COUNT

FOLDER holds JPEG files of 2.5 megapixels. `speed` prints the images per second of both, in the same
number of threads; `memory` the peak memory, in bytes, of preprocessing COUNT images (the files
taken over and over again). One JSON record.
"""

import json
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from stages import preprocess

THREADS, ROUNDS = 2, 5


def plain(path: Path) -> None:
    """What a notebook does with each file."""
    with Image.open(path) as image:
        image.convert("RGB").resize((200, 200), Image.Resampling.NEAREST)


def main() -> None:
    """Measures and prints."""
    what, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    files = sorted(folder.iterdir())
    sources = [files[number % len(files)] for number in range(count)]
    with tempfile.TemporaryDirectory() as scratch:
        pairs = [(path, Path(scratch) / f"{n}.png") for n, path in enumerate(sources)]
        if what == "memory":
            preprocess.write_images(pairs, THREADS)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps({"bytes": peak}))
            return
        rates: dict[str, list[float]] = {"pipeline": [], "plain": []}
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            preprocess.write_images(pairs, THREADS)
            rates["pipeline"].append(count / (time.perf_counter() - begun))
            begun = time.perf_counter()
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(plain, sources))
            rates["plain"].append(count / (time.perf_counter() - begun))
        print(json.dumps({name: statistics.median(values) for name, values in rates.items()}))


if __name__ == "__main__":
    main()

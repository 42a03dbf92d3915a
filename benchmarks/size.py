"""What the audit takes for a set of a given size.

usage: python -m benchmarks.size COUNT

Makes COUNT small pictures (those of `benchmarks.copies`, 30 % of them copies of others) and runs
`audit` on them as a program. Prints a JSON record: the `bytes` of its peak memory and the `seconds`
that it took. Takes a minute for 5,000 pictures.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import copies
from benchmarks.scratch import PROJECT, measured
from stages.common import files, parallel
from stages.intake import records


def make(folder: Path, count: int) -> None:
    """Writes what `audit` reads to `folder`: pictures of two classes, a fifth of them in test/."""
    raw = folder / "data/raw"
    for split in ("train", "test"):
        for name in ("A", "B"):
            (raw / split / name).mkdir(parents=True)

    def write(number: int) -> None:
        place = f"{'train' if number % 5 else 'test'}/{'AB'[number % 2]}/{number:06d}.jpg"
        copies.picture(number).save(raw / place, quality=90)

    parallel.each(write, range(count), "pictures")
    files.write_json(raw / "provenance.json", {"data": f"{count} pictures, made"})
    shutil.copy(PROJECT / "params.yaml", folder)
    shutil.copy(PROJECT / records.KAGGLE, folder / records.KAGGLE)


def main() -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as scratch:
        make(Path(scratch), int(sys.argv[1]))
        taken, memory = measured(sys.executable, "-m", "stages.audit", folder=Path(scratch))
    print(json.dumps({"bytes": memory, "seconds": taken}))


if __name__ == "__main__":
    main()

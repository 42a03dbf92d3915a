"""Which image is used for what, at 200 x 200 RGB.

Reads `data/raw` and `data/audit.csv`. Writes to `data/processed`: the images as
`{train,validation,test}/<class>/*.png`, `index.csv` (one row per image and use: file, path, use,
class and more, see `dataset.INDEX_COLUMNS`) and `provenance.json`, as it came with `data/raw` but
for the SHA-256 over all files, which here is that of these.

Where the recipe's validation is `none`, all of train/ is trained on and there are no validation
images. Under `holdout`, a grouped and stratified share of train/ becomes these and test/ is left
alone. Under `original`, all of train/ is trained on and the test images are the validation images
too, as in the original system; no file is written twice for that.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.common import files, parallel, params, stage
from stages.common.errors import InputError, shown
from stages.intake import decode
from stages.learning import splits
from stages.learning.dataset import INDEX_COLUMNS, PROCESSED, SIZE
from stages.learning.settings import Preprocess, Training

RAW = Path("data/raw")
TABLE = Path("data/audit.csv")


def read_table(path: Path = TABLE) -> list[dict[str, str]]:
    """The audit's table, one row per image.

    Raises:
        InputError: The table is missing.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise InputError(
            f"{path} is not there; the stage `audit` writes it. Run `dvc repro audit`."
        ) from None


def uses_of(rows: Sequence[dict[str, str]], validation: str, settings: Preprocess) -> list[str]:
    """What each image is used for: "train", "validation" or "test".

    Args:
        rows: The audit's table; split, class and group of each image.
        validation: The recipe's. Only under "holdout" is an image "validation" alone.
        settings: The share that is held out.

    Raises:
        InputError: A class is too small to hold a share out.
    """
    uses = [row["split"] for row in rows]
    if validation == "holdout":
        train = [position for position, use in enumerate(uses) if use == "train"]
        _, held_out = splits.hold_out(
            [rows[position]["class"] for position in train],
            [int(rows[position]["group"]) for position in train],
            settings.validation_share,
            settings.seed,
        )
        for position in held_out:
            uses[train[position]] = "validation"
    return uses


def index_of(
    rows: Sequence[dict[str, str]], validation: str, settings: Preprocess
) -> list[dict[str, Any]]:
    """The rows of `index.csv`, in the order of the audit's table.

    Raises:
        InputError: See `uses_of`.
    """
    index = [
        {
            # the whole file name, ending included: 01.png and 01.jpeg may be in one folder
            "file": f"{use}/{row['class']}/{Path(row['path']).name}.png",
            "use": use,
            **{name: row[name] for name in INDEX_COLUMNS if name not in ("file", "use")},
        }
        for row, use in zip(rows, uses_of(rows, validation, settings), strict=True)
    ]
    if validation == "original":
        index += [entry | {"use": "validation"} for entry in index if entry["use"] == "test"]
    return index


def write_image(pair: tuple[Path, Path]) -> None:
    """Writes the first file of the pair, as the network gets it, to the second as PNG.

    Raises:
        UnreadableImageError: See `decode.decode`.
        InputError: The file is missing.
    """
    source, target = pair
    try:
        picture = decode.resized(source, SIZE)
    except FileNotFoundError:
        raise InputError(
            f"{shown(source)} is not there, but {TABLE} lists it. Run `dvc repro preprocess`."
        ) from None
    # level 1 is six times as fast as the default and 15 % larger
    picture.save(target, format="PNG", compress_level=1)


def write_images(pairs: Sequence[tuple[Path, Path]], threads: int | None = None) -> None:
    """Does `write_image` with every pair.

    Memory: what `threads` images (default: one per core) take while they are decoded, however
    many there are.
    """
    for folder in {target.parent for _, target in pairs}:
        folder.mkdir(parents=True, exist_ok=True)
    parallel.each(write_image, pairs, "preprocess", threads, anywhere=True)


def main() -> None:
    """Runs the stage."""
    validation = params.load(Training).validation
    provenance = files.read_json(RAW / "provenance.json", "download")
    index = index_of(read_table(), validation, params.load(Preprocess))
    with files.atomic_write(PROCESSED) as partial:
        targets = {entry["file"]: entry["path"] for entry in index}
        write_images([(RAW / source, partial / target) for target, source in targets.items()])
        files.write_csv(partial / "index.csv", INDEX_COLUMNS, index)
        sha256 = files.sha256_of_folder(partial)
        files.write_json(partial / "provenance.json", provenance | {"sha256": sha256})
    uses = [entry["use"] for entry in index]
    counts = ", ".join(f"{uses.count(use)} {use}" for use in ("train", "validation", "test"))
    print(f"{len(targets)} images written; validation {validation}: {counts}")


if __name__ == "__main__":
    stage.script("preprocess", main, __doc__)

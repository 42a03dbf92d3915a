"""What is in the data: counts, sizes, unreadable files, copies and leaks.

Reads `data/raw`. Writes `data/audit.csv` (one row per readable file: what it is, and the group of
files that show the same radiograph), `metrics/details/audit.json` (the counts) and
`metrics/pictures/copies.png` (the near copies, for a person to confirm).
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from stages.common import files, parallel, params, stage
from stages.common.errors import InputError, shown
from stages.intake import contact_sheet, copies, decode
from stages.intake.settings import Audit

RAW = Path("data/raw")
TABLE = Path("data/audit.csv")
DETAILS = Path("metrics/details/audit.json")
CONTACT_SHEET = Path("metrics/pictures/copies.png")
SPLITS = ("train", "test")
_FACTS = ("path", "split", "class", "bytes", "format", "mode", "width", "height")
COLUMNS = (
    *(*_FACTS, "sha256", "pixels_sha256"),
    *("patient", "source", "finding", "view", "label"),
    *("radiograph", "group", "leaked"),
)
FEWEST_IMAGES = 2
"""Of each class in each split: with fewer, neither a share nor a rate can be formed."""
_CONTACT_SIDE = 240
_FILE_MANAGERS = {".DS_Store", "Thumbs.db"}  # what they leave behind; DVC ignores it too


@dataclass(frozen=True)
class Examined:
    """One file: its row of the table, and its fingerprint or the reason why it is unreadable."""

    row: dict[str, Any]
    fingerprint: copies.Fingerprint | None = None
    unreadable: str = ""


def examine(path: Path) -> Examined:
    """Decodes one file of data/raw in full and describes it."""
    relative = path.relative_to(RAW)
    split, label, _ = relative.parts
    row: dict[str, Any] = {"path": relative.as_posix(), "split": split, "class": label}
    try:
        picture, facts = decode.decode(path)
    except decode.UnreadableImageError as error:
        return Examined(row, unreadable=error.reason)
    pixels = hashlib.sha256(f"{picture.width}x{picture.height}:".encode())
    pixels.update(picture.convert("RGB").tobytes())
    row |= {
        "bytes": path.stat().st_size,
        **vars(facts),
        "sha256": files.sha256_of(path),
        "pixels_sha256": pixels.hexdigest(),
    }
    return Examined(row, copies.fingerprint(picture))


def check_readable(examined: Sequence[Examined], treatment: str) -> list[dict[str, str]]:
    """Lists the unreadable files, or refuses to go on with them.

    Args:
        examined: All files.
        treatment: "fail" or "quarantine", from audit.unreadable.

    Returns:
        One record per unreadable file: `file` and `reason`.

    Raises:
        InputError: There are some and the treatment is "fail", or a class of a split is left
            with fewer than FEWEST_IMAGES.
    """
    bad = [
        {"file": shown(file.row["path"]), "reason": file.unreadable}
        for file in examined
        if file.unreadable
    ]
    lines = "\n".join(f"  {RAW / record['file']}: {record['reason']}" for record in bad)
    if bad and treatment == "fail":
        raise InputError(
            f"{len(bad)} of {len(examined)} files can't be used:\n{lines}\n"
            "Repair or remove them where they come from, or leave them out with "
            "`dvc exp run -S audit.unreadable=quarantine`."
        )
    readable = Counter(Path(file.row["path"]).parent for file in examined if not file.unreadable)
    for split in sorted(SPLITS):
        for label in sorted({file.row["class"] for file in examined}):
            count = readable[Path(split, label)]
            if count < FEWEST_IMAGES:
                raise InputError(
                    f"{shown(RAW / split / label)}: found {count} readable images, "
                    f"expected at least {FEWEST_IMAGES}."
                    + (f" Unreadable are:\n{lines}" if bad else "")
                )
    return bad


def mark_copies(rows: Sequence[dict[str, Any]], pairs: Sequence[copies.Pair]) -> None:
    """Gives every row its `group`, and `leaked`: a test image that train/ has a copy of."""
    for row, group in zip(rows, copies.groups(len(rows), pairs), strict=True):
        row["radiograph"] = row["group"] = group
        row |= {"patient": "", "source": "", "finding": "", "view": "", "label": "unknown"}
    trained = {row["group"] for row in rows if row["split"] == "train"}
    for row in rows:
        row["leaked"] = "yes" if row["split"] == "test" and row["group"] in trained else "no"


def count_copies(rows: Sequence[dict[str, Any]], pairs: Sequence[copies.Pair]) -> dict[str, Any]:
    """Counts copies, and lists every group of them with the kinds of its pairs.

    Args:
        rows: The table with `group` and `leaked`.
        pairs: The pairs of rows, by number, that the groups come from.
    """
    members: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        members[row["group"]].append(row)
    kinds: dict[int, set[str]] = defaultdict(set)
    for pair in pairs:
        kinds[rows[pair.first]["group"]].add(pair.kind)
    copied = {group: same for group, same in members.items() if len(same) > 1}
    splits = [{row["split"] for row in same} for same in copied.values()]
    classes = [{row["class"] for row in same} for same in copied.values()]
    return {
        "groups": len(members),
        "copies": {
            "groups_with_copies": len(copied),
            "within_train": splits.count({"train"}),
            "within_test": splits.count({"test"}),
            "across_splits": splits.count({"train", "test"}),
            "identical_pairs": sum(pair.kind == "bytes" for pair in pairs),
            "contradicting_classes": sum(len(labels) > 1 for labels in classes),
            "leaked_test_images": sum(row["leaked"] == "yes" for row in rows),
        },
        "copy_groups": [
            {
                "group": group,
                "kinds": sorted(kinds[group]),
                "files": [row["path"] for row in same],
            }
            for group, same in copied.items()
        ],
    }


def _thumbnail(name: str) -> tuple[str, Image.Image]:
    picture, _ = decode.decode(RAW / name, at_least=_CONTACT_SIDE)
    picture.thumbnail((_CONTACT_SIDE, _CONTACT_SIDE))
    return name, picture


def main() -> None:
    """Runs the stage."""
    settings = params.load(Audit)
    origin = files.read_json(RAW / "provenance.json", "download")
    paths = sorted(path for path in RAW.glob("*/*/*") if path.name not in _FILE_MANAGERS)
    examined = parallel.each(examine, paths, "audit")
    unreadable = check_readable(examined, settings.unreadable)
    rows = [file.row for file in examined if file.fingerprint]
    pairs = copies.find(
        [row["sha256"] for row in rows],
        [row["pixels_sha256"] for row in rows],
        [file.fingerprint for file in examined if file.fingerprint],
    )
    mark_copies(rows, pairs)
    counts = count_copies(rows, pairs)
    images = Counter((row["split"], row["class"]) for row in rows)
    details = {
        "provenance": {"data": origin["data"]},
        "images": {
            split: {label: images[split, label] for label in sorted({row["class"] for row in rows})}
            for split in SPLITS
        },
        **counts,
        "unreadable": len(unreadable),
        "unreadable_files": unreadable,
    }
    hashes = {row["path"]: row["sha256"] for row in rows}
    near = [
        [_thumbnail(name) for name in group["files"]]
        for group in counts["copy_groups"]
        if len({hashes[name] for name in group["files"]}) > 1
    ]
    files.write_json(DETAILS, details)
    contact_sheet.write(CONTACT_SHEET, f"Near copies: {origin['data']}", near)
    files.write_csv(TABLE, COLUMNS, rows)
    number = counts["copies"]
    print(
        f"{len(rows)} images of {counts['groups']} radiographs; "
        f"{number['groups_with_copies']} radiographs more than once, "
        f"{number['leaked_test_images']} test images also in train/; {len(unreadable)} unreadable"
    )


if __name__ == "__main__":
    stage.script("audit", main, __doc__)

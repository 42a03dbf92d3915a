"""What is in the data: counts, sizes, unreadable files, copies and leaks.

Reads `data/raw`. Writes `data/audit.csv` (one row per readable file: what it is, and the group of
files that show the same radiograph), `metrics/details/audit.json` (the counts) and
`metrics/pictures/copies.png` (every group of near copies, for a person to confirm).
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from stages.common import files, parallel, params, stage
from stages.intake import copies, decode
from stages.intake.settings import Audit
from stages.sources import layout
from stages.common.errors import InputError, shown

RAW = Path("data/raw")
TABLE = Path("data/audit.csv")
DETAILS = Path("metrics/details/audit.json")
CONTACT_SHEET = Path("metrics/pictures/copies.png")
COLUMNS = (
    "path",
    "split",
    "class",
    "bytes",
    "format",
    "mode",
    "width",
    "height",
    "sha256",
    "pixels_sha256",
    "group",
    "leaked",
)
FEWEST_IMAGES = 2
"""Of each class in each split: with fewer, neither a share nor a rate can be formed."""
_CONTACT_SIDE = 240


@dataclass(frozen=True)
class Finding:
    """What was found out about one file: its row of the table, or why it is unreadable."""

    row: dict[str, Any]
    fingerprint: copies.Fingerprint | None
    unreadable: str | None = None


def image_paths(root: Path = RAW) -> list[Path]:
    """Every file at `root`/{train,test}/<class>/, sorted.

    Raises:
        InputError: Something else is there, or the classes of the splits differ, are empty, or
            are fewer than two: somebody has changed what `download` wrote.
    """
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path != root / "provenance.json" and not layout.is_junk(name):
            found[f"{name}/" if path.is_dir() else name] = path
    again = "`dvc repro --force download` makes it anew."
    try:
        places = layout.arrange(found, str(root))
    except InputError as error:
        raise InputError(f"{error} {again}") from None
    if any(name != place for name, place in places.items()):
        raise InputError(
            f"{root}: expected the folders train/ and test/ right in it, "
            f"found {min(found).split('/')[0]!r}. {again}"
        )
    return sorted(found[name] for name in places)


def look_at(path: Path, root: Path = RAW) -> Finding:
    """Decodes one file in full and describes it."""
    relative = path.relative_to(root)
    split, label, _ = relative.parts
    row: dict[str, Any] = {"path": relative.as_posix(), "split": split, "class": label}
    fault = layout.fault_of_name(relative.as_posix())
    if fault is not None:
        return Finding(row, None, f"it has {fault}; rename it")
    if not path.is_file():
        return Finding(row, None, "it is a link to nothing, or no regular file")
    try:
        picture, facts = decode.decode(path)
    except decode.UnreadableImageError as error:
        return Finding(row, None, error.reason)
    rgb = picture.convert("RGB")
    pixels = hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode())
    pixels.update(rgb.tobytes())
    row |= {
        "bytes": path.stat().st_size,
        "format": facts.format,
        "mode": facts.mode,
        "width": facts.width,
        "height": facts.height,
        "sha256": files.sha256_of(path),
        "pixels_sha256": pixels.hexdigest(),
    }
    return Finding(row, copies.fingerprint(picture))


def check_unreadable(findings: Sequence[Finding], treatment: str) -> list[dict[str, str]]:
    """Lists the unreadable files, or refuses to go on with them.

    Args:
        findings: One a file.
        treatment: "fail" or "quarantine", from audit.unreadable.

    Returns:
        One record an unreadable file: `file` and `reason`.

    Raises:
        InputError: There are some and the treatment is "fail", or a class of a split would be
            left with fewer than FEWEST_IMAGES.
    """
    bad = [
        {"file": shown(finding.row["path"]), "reason": finding.unreadable}
        for finding in findings
        if finding.unreadable is not None
    ]
    listed = "\n".join(f"  {RAW / record['file']}: {record['reason']}" for record in bad)
    if bad and treatment == "fail":
        raise InputError(
            f"{len(bad)} of {len(findings)} files can't be used:\n{listed}\n"
            "Mend or remove them where they come from, or leave them out with "
            "`dvc exp run -S audit.unreadable=quarantine`."
        )
    here = Counter((finding.row["split"], finding.row["class"]) for finding in findings)
    left = here - Counter(
        (finding.row["split"], finding.row["class"])
        for finding in findings
        if finding.unreadable is not None
    )
    for split, label in sorted(here):
        if left[split, label] < FEWEST_IMAGES:
            raise InputError(
                f"{shown(RAW / split / label)}: found {left[split, label]} readable images, "
                f"expected at least {FEWEST_IMAGES}."
                + (f" Unreadable are:\n{listed}" if bad else "")
            )
    return bad


def copy_metrics(rows: Sequence[dict[str, Any]], pairs: Sequence[copies.Pair]) -> dict[str, Any]:
    """Counts copies, and lists every group of them with the kind of its closest pair."""
    members: dict[int, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        members[row["group"]].append(position)
    kinds: dict[int, set[str]] = defaultdict(set)
    for pair in pairs:
        kinds[rows[pair.first]["group"]].add(pair.kind)
    copied = {group: found for group, found in members.items() if len(found) > 1}
    spread = {group: {rows[p]["split"] for p in found} for group, found in copied.items()}
    return {
        "groups": len(members),
        "copies": {
            "groups_with_copies": len(copied),
            "within_train": sum(splits == {"train"} for splits in spread.values()),
            "within_test": sum(splits == {"test"} for splits in spread.values()),
            "across_splits": sum(len(splits) > 1 for splits in spread.values()),
            "identical_pairs": sum(pair.kind == "bytes" for pair in pairs),
            "contradicting_classes": sum(
                len({rows[p]["class"] for p in found}) > 1 for found in copied.values()
            ),
            "leaked_test_images": sum(row["leaked"] == "yes" for row in rows),
        },
        "copy_groups": [
            {
                "group": group,
                "kinds": sorted(kinds[group]),
                "files": [rows[position]["path"] for position in found],
            }
            for group, found in sorted(copied.items())
        ],
    }


def mark_copies(rows: Sequence[dict[str, Any]], pairs: Sequence[copies.Pair]) -> None:
    """Gives every row its `group`, and `leaked`: a test image that train/ has a copy of."""
    for row, group in zip(rows, copies.groups(len(rows), pairs), strict=True):
        row["group"] = group
    trained = {row["group"] for row in rows if row["split"] == "train"}
    for row in rows:
        row["leaked"] = "yes" if row["split"] == "test" and row["group"] in trained else "no"


def write_contact_sheet(
    rows: Sequence[dict[str, Any]], groups: Sequence[dict[str, Any]], title: str
) -> None:
    """Draws every group of copies that is not byte-identical."""
    hashes = {row["path"]: row["sha256"] for row in rows}
    near = [
        [(name, _thumbnail(RAW / name)) for name in group["files"]]
        for group in groups
        if len({hashes[name] for name in group["files"]}) > 1
    ]
    copies.contact_sheet(near, CONTACT_SHEET, title)


def _thumbnail(path: Path) -> Image.Image:
    picture, _ = decode.decode(path, at_least=_CONTACT_SIDE)
    picture.thumbnail((_CONTACT_SIDE, _CONTACT_SIDE))
    return picture


def main() -> None:
    """Runs the stage."""
    settings = params.load(Audit)
    origin = files.read_json(RAW / "provenance.json", "download")
    findings = parallel.each(look_at, image_paths(), "audit")
    unreadable = check_unreadable(findings, settings.unreadable)
    readable = [finding for finding in findings if finding.fingerprint is not None]
    rows = [finding.row for finding in readable]
    pairs = copies.find(
        [row["sha256"] for row in rows],
        [row["pixels_sha256"] for row in rows],
        [finding.fingerprint for finding in readable if finding.fingerprint is not None],
    )
    mark_copies(rows, pairs)
    found = copy_metrics(rows, pairs)
    counts = Counter((row["split"], row["class"]) for row in rows)
    classes = sorted({row["class"] for row in rows})
    files.write_json(
        DETAILS,
        {
            "provenance": {"data": origin["data"]},
            "images": {
                split: {name: counts[split, name] for name in classes}
                for split in ("train", "test")
            },
            **found,
            "unreadable": len(unreadable),
            "unreadable_files": unreadable,
        },
    )
    write_contact_sheet(rows, found["copy_groups"], f"Near copies: {origin['data']}")
    files.write_csv(TABLE, COLUMNS, rows)
    count = found["copies"]
    print(
        f"{len(rows)} images of {found['groups']} radiographs; "
        f"{count['groups_with_copies']} radiographs more than once, "
        f"{count['leaked_test_images']} test images also in train/; {len(unreadable)} unreadable"
    )


if __name__ == "__main__":
    stage.script("audit", main, __doc__)

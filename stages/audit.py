"""What is in the data: counts, unreadable files, copies, patients, leaks, sources and their labels.

Reads `data/raw` and the table of records, if there is one that describes it. Writes
`data/audit.csv` (one row per image that is used: what it is, what is known about it, and the group
that must not stand on both sides of a split), `data/fingerprints` (of the training images, to tell
copies of them by), `metrics/details/audit.json` (the counts) and `metrics/pictures/copies.png` (the
near copies, for a person to confirm).
"""

import hashlib
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from stages.common import files, parallel, params, stage
from stages.common.errors import InputError, shown
from stages.intake import contact_sheet, copies, decode, groups, known, records, stored
from stages.intake.settings import Audit

RAW = Path("data/raw")
TABLE = Path("data/audit.csv")
DETAILS = Path("metrics/details/audit.json")
CONTACT_SHEET = Path("metrics/pictures/copies.png")
SCRATCH = Path(".dvc/tmp/audit")
"""Holds the fingerprints while they are compared."""
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
_LISTED = 10  # sources, and findings of a class, that are printed
_FILE_MANAGERS = {".DS_Store", "Thumbs.db"}  # what they leave behind; DVC ignores it too


@dataclass(frozen=True, slots=True)
class Examined:
    """One file: its row of the table, or the reason why it is unreadable.

    A DICOM file also has what `dicom.pseudonyms` is told of its patient, which stays in memory.
    """

    row: dict[str, Any]
    unreadable: str = ""
    identity: tuple[bytes, bytes, bytes] | None = field(default=None, repr=False)


def sha256_of_pixels(picture: Image.Image) -> str:
    """The hash, in hexadecimal digits, of a picture's width and height and of its pixels in RGB."""
    digest = hashlib.sha256(f"{picture.width}x{picture.height}:".encode())
    # all rows at once would take four times as long, most of it in the system's memory management
    for top in range(0, picture.height, decode.BLOCK_ROWS):
        bottom = min(top + decode.BLOCK_ROWS, picture.height)
        digest.update(picture.crop((0, top, picture.width, bottom)).convert("RGB").tobytes())
    return digest.hexdigest()


def examine(numbered: tuple[int, str]) -> Examined:
    """Decodes one file of data/raw in full and describes it.

    Args:
        numbered: The number under which its fingerprint goes to SCRATCH, and its path there.
    """
    number, name = numbered
    path, (split, label, _) = RAW / name, name.split("/")
    row: dict[str, Any] = {"path": name, "split": split, "class": label}
    identity = None
    try:
        picture, facts = decode.decode(path)
        if facts.format == "DICOM":
            from stages.intake import dicom

            identity = dicom.identity(path)
    except decode.UnreadableImageError as error:
        return Examined(row, unreadable=error.reason)
    row |= {
        "bytes": path.stat().st_size,
        **vars(facts),
        "sha256": files.sha256_of(path),
        "pixels_sha256": sha256_of_pixels(picture),
    }
    stored.write(SCRATCH, number, copies.fingerprint(picture))
    return Examined(row, identity=identity)


def _check_enough(
    rows: Sequence[dict[str, Any]], classes: Sequence[str], what: str, why: str
) -> None:
    """Refuses images of which a class of a split has fewer than FEWEST_IMAGES."""
    found = Counter((row["split"], row["class"]) for row in rows)
    for split in sorted(SPLITS):
        for name in classes:
            if found[split, name] < FEWEST_IMAGES:
                raise InputError(
                    f"{shown(RAW / split / name)}: found {found[split, name]} {what}, "
                    f"expected at least {FEWEST_IMAGES}.{why}"
                )


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
    _check_enough(
        [file.row for file in examined if not file.unreadable],
        sorted({file.row["class"] for file in examined}),
        "readable images",
        f" Unreadable are:\n{lines}" if bad else "",
    )
    return bad


def name_patients(examined: Sequence[Examined]) -> None:
    """Gives every image whose `patient` is unknown the pseudonym of its DICOM file's patient.

    Args:
        examined: The readable files, their rows as `records.describe` leaves them.
    """
    identities = [file.identity for file in examined]
    if any(identities):
        from stages.intake import dicom

        for file, pseudonym in zip(examined, dicom.pseudonyms(identities), strict=True):
            file.row["patient"] = file.row["patient"] or pseudonym


def used_of(
    rows: Sequence[dict[str, Any]], labels: str, table: records.Records | None
) -> list[dict[str, Any]]:
    """The images that are used: all, or those whose label agrees with their source.

    Args:
        rows: The readable images with `label`.
        labels: "filed" or "verified", from audit.labels.
        table: What the labels come from.

    Raises:
        InputError: Under "verified" there is nothing to verify labels by, or a class of a split
            is left with fewer than FEWEST_IMAGES.
    """
    if labels == "filed":
        return list(rows)
    filed = "or use all images with `dvc exp run -S audit.labels=filed`."
    if table is None or not {"finding", "label"} & set(table.columns):
        found = f"{shown(table.path)} has no column finding" if table else "found no table"
        raise InputError(
            "audit.labels = verified needs a table that says what the images show, but "
            f"{found}. Bring a records.csv with the columns path and finding beside train/ and "
            f"test/, name such a table in audit.records, {filed}"
        )
    used = [row for row in rows if row["label"] == "agrees"]
    others = Counter(row["label"] for row in rows)
    _check_enough(
        used,
        sorted({row["class"] for row in rows}),
        f"images whose label agrees with the source by {shown(table.path)}",
        f" audit.labels = verified leaves out the others (in all classes {others['contradicts']} "
        f"contradict, {others['unknown']} are unknown). Correct the table, {filed}",
    )
    return used


def _thumbnail(name: str) -> Image.Image:
    picture, _ = decode.decode(RAW / name, at_least=_CONTACT_SIDE)
    picture.thumbnail((_CONTACT_SIDE, _CONTACT_SIDE))
    return picture


def _listed(numbers: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{shown(name)} {number}" for name, number in numbers if number)


def in_words(details: Mapping[str, Any]) -> list[str]:
    """What audit.json says, in lines."""
    images, copied, patients = details["images"], details["copies"], details["patients"]
    leaked, table = details["leaked_test_images"], details["records"]
    splits = {split: sum(numbers.values()) for split, numbers in images.items()}
    by_class = ", ".join(
        f"{shown(name)} {number} of {images['test'][name]}" for name, number in leaked.items()
    )
    lines = [
        f"{sum(splits.values())} images ({_listed(splits.items())}) of {details['radiographs']} "
        f"radiographs in {details['groups']} groups of copies or patients; "
        f"{details['unreadable']} unreadable",
        f"copies: {copied['groups_with_copies']} radiographs more than once, "
        f"{copied['across_splits']} of them in train/ and in test/",
        f"patients: {patients['patients']}, known for {patients['known']} images; "
        f"{patients['in_both_splits']} of them in train/ and in test/"
        if patients["known"]
        else "patients: unknown",
        f"leaks: {sum(leaked.values())} of {splits['test']} test images, "
        f"{copied['leaked_test_images']} as copies, {patients['leaked_test_images']} by patient "
        f"alone ({by_class})",
    ]
    if table is None:
        return [*lines, "records: none, so sources and what they say of the labels are unknown"]
    others: dict[str, Counter[str]] = defaultdict(Counter)
    for record in table["contradicting"]:
        others[record["class"]][record["finding"] or "no finding given"] += 1
    lines += [
        f"records: {shown(table['table'])}, {table['rows']} rows, {table['double_rows']} double, "
        f"{table['rows_without_file']} without a file; {table['files_without_row']} files without "
        "a row",
        "labels by their source: "
        + "; ".join(
            f"{split}/ {numbers['agrees']} agree, {numbers['contradicts']} contradict, "
            f"{numbers['unknown']} unknown"
            for split, numbers in table["labels"].items()
        ),
    ]
    lines += [
        f"filed as {shown(name)}, by their source: {_listed(findings.most_common(_LISTED))}"
        for name, findings in sorted(others.items())
    ]
    sources = list(table["sources"].items())
    lines += [f"source {shown(name)}: {_listed(by.items())}" for name, by in sources[:_LISTED]]
    if len(sources) > _LISTED:
        lines.append(f"and {len(sources) - _LISTED} more sources")
    if table["left_out"]:
        lines.append(f"audit.labels = verified left out {table['left_out']} images")
    return lines


def audit() -> None:
    """Does the work; SCRATCH is there for it and empty."""
    settings = params.load(Audit)
    origin = files.read_json(RAW / "provenance.json", "download")
    names = [
        path.relative_to(RAW).as_posix()
        for path in sorted(RAW.glob("*/*/*"))
        if path.name not in _FILE_MANAGERS
    ]
    table = records.find(settings.records, RAW, names)
    examined = parallel.each(examine, list(enumerate(names)), "audit", anywhere=True)
    unreadable = check_readable(examined, settings.unreadable)
    places = [number for number, file in enumerate(examined) if not file.unreadable]
    readable = [examined[number] for number in places]
    rows = [file.row for file in readable]
    records.describe(rows, table, settings.patient_pattern)
    name_patients(readable)
    used = used_of(rows, settings.labels, table)
    pairs = copies.find(
        [row["sha256"] for row in rows],
        [row["pixels_sha256"] for row in rows],
        stored.Stored(SCRATCH, places),
    )
    groups.mark(rows, pairs)
    groups.mark_leaks(used)
    counts = groups.counts(rows, pairs, used)
    images = Counter((row["split"], row["class"]) for row in used)
    left_out = len(rows) - len(used)
    details = {
        "provenance": {"data": origin["data"]},
        "images": {
            split: {label: images[split, label] for label in sorted({row["class"] for row in rows})}
            for split in SPLITS
        },
        **counts,
        "records": table and records.counts(rows, table, names, left_out),
        "unreadable": len(unreadable),
        "unreadable_files": unreadable,
    }
    hashes = {row["path"]: row["sha256"] for row in rows}
    near = [
        group["files"]
        for group in counts["copy_groups"]
        if len({hashes[name] for name in group["files"]}) > 1
    ]
    files.write_json(DETAILS, details)
    contact_sheet.write(CONTACT_SHEET, f"Near copies: {origin['data']}", near, _thumbnail)
    place_of = dict(zip((row["path"] for row in rows), places, strict=True))
    training = [row["path"] for row in used if row["split"] == "train"]
    known.write(training, stored.Stored(SCRATCH, [place_of[path] for path in training]))
    files.write_csv(TABLE, COLUMNS, used)
    lines = in_words(details)
    if table and not table.rows.keys() & set(names):
        lines.append(f"no row names a file; expected paths such as {shown(names[0])}")
    pattern = settings.patient_pattern
    if pattern and not any(records.patient_in(name, pattern) for name in names):
        lines.append(
            f"audit.patient_pattern = {shown(pattern)} finds no patient in any of the "
            f"{len(names)} paths, such as {shown(names[0])}"
        )
    for line in lines:
        print(textwrap.fill(line, 119, subsequent_indent="  ", break_on_hyphens=False))


def main() -> None:
    """Runs the stage."""
    with files.scratch(SCRATCH):
        SCRATCH.touch()
        audit()


if __name__ == "__main__":
    stage.script("audit", main, __doc__)

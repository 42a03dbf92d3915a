"""What is known about the images beside their pixels: patients, sources and findings.

A table of records is a CSV file with one row per image; which columns it may have is in COLUMNS.
"""

import csv
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.common.errors import InputError, named, shown

NAME = "records.csv"
"""Of the table that came with the images, beside train/ and test/."""
KAGGLE = Path("data/kaggle-records.csv")
"""The table of the Kaggle data set: what `audit.records` names unless it was changed."""
LABELS = ("agrees", "contradicts", "unknown")
COLUMNS = ("path", "patient", "source", "source_file", "finding", "label", "view", "match")
"""`path` is split/class/file and must be there. `patient` is the same for all radiographs of one
person and for nobody else, `source` the collection that the image came from, `source_file` its name
there, `finding` what that collection says it shows, `label` (one of LABELS) whether the class
agrees with that, `view` the projection, `match` how the row was found."""


@dataclass(frozen=True)
class Records:
    """A table of records.

    Attributes:
        path: Where it was read.
        columns: Of COLUMNS, those that it has.
        rows: By the path of the image; of several rows for one image, the first.
        count: How many rows it has, double ones included.
    """

    path: Path
    columns: tuple[str, ...]
    rows: dict[str, dict[str, str]]
    count: int


def read(path: Path) -> Records:
    """Reads a table; white space around a value does not count.

    Raises:
        InputError: It is missing, no CSV in UTF-8, without the column `path` or with columns that
            are not in COLUMNS, or a line of it is not as it must be.
    """

    def refused(found: str) -> InputError:
        return InputError(
            f"{shown(path)}: {found}. Expected a CSV file in UTF-8 with the column path "
            f"(split/class/file) and any of {', '.join(COLUMNS[1:])}."
        )

    rows: dict[str, dict[str, str]] = {}
    count = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            columns = [name.strip() for name in next(lines, [])]
            unknown = [name for name in columns if name not in COLUMNS]
            if "path" not in columns:
                raise refused(f"found no column path, but {named(columns) or 'nothing'}")
            if unknown:
                raise refused(f"found the columns {named(unknown)}, which mean nothing here")
            if len(set(columns)) < len(columns):
                raise refused("found a column twice")
            for line in filter(None, lines):
                values = [value.strip() for value in line]
                place = f"in line {lines.line_num} found"
                if len(values) != len(columns):
                    raise refused(f"{place} {len(values)} values for {len(columns)} columns")
                row = dict(zip(columns, values, strict=True))
                if row.get("label", "") not in ("", *LABELS):
                    raise refused(
                        f"{place} the label {row['label']!r}, which is none of {', '.join(LABELS)}"
                    )
                count += 1
                rows.setdefault(row["path"], row)
    except FileNotFoundError:
        raise refused("it is not there") from None
    except IsADirectoryError:
        raise refused("it is a folder") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise refused(f"it is no such file ({error})") from None
    return Records(path, tuple(columns), rows, count)


def find(given: str, raw: Path, paths: Collection[str]) -> Records | None:
    """Reads the table that describes the images in `raw`.

    Args:
        given: The value of `audit.records`.
        raw: The folder of the images.
        paths: Theirs in it.

    Returns:
        The table that `given` names, if that was changed; else the one that came with the images;
        else, if these are the Kaggle data set's by their paths, that of this data set; else None.

    Raises:
        InputError: See `read`.
    """
    if Path(given) != KAGGLE:
        return read(Path(given))
    if (raw / NAME).exists():
        return read(raw / NAME)
    kaggle = read(KAGGLE)
    return kaggle if kaggle.rows.keys() == set(paths) else None


def _plain(text: str) -> str:
    return re.sub(r"[\s_-]", "", text).casefold()


def label_of(row: Mapping[str, str], class_name: str) -> str:
    """Whether the class agrees with what the source says the image shows: one of LABELS."""
    if label := row.get("label"):
        return label
    finding = row.get("finding")
    if "label" in row or not finding:
        return "unknown"
    return "agrees" if _plain(finding) == _plain(class_name) else "contradicts"


def patient_in(path: str, pattern: str) -> str:
    """What the group `patient` of a regular expression finds in a path, or ""."""
    found = re.search(pattern, path)
    return (found and found["patient"]) or ""


def describe(rows: Sequence[dict[str, Any]], table: Records | None, patient_pattern: str) -> None:
    """Gives every image its `patient`, `source`, `finding`, `view` ("": unknown) and `label`.

    Args:
        rows: The images, with `path` and `class`.
        table: What is known about them.
        patient_pattern: Searched in the paths of images to which the table gives no patient.
    """
    for row in rows:
        known = table.rows.get(row["path"], {}) if table else {}
        row |= {name: known.get(name, "") for name in ("patient", "source", "finding", "view")}
        row["label"] = label_of(known, row["class"])
        if patient_pattern and not row["patient"]:
            row["patient"] = patient_in(row["path"], patient_pattern)


def counts(
    rows: Sequence[Mapping[str, Any]], table: Records, paths: Collection[str], left_out: int
) -> dict[str, Any]:
    """What audit.json says of a table.

    Args:
        rows: The readable images as `describe` leaves them.
        table: The table.
        paths: Of all images, readable or not.
        left_out: How many images were left out because of their labels.
    """
    classes = sorted({row["class"] for row in rows})
    splits = sorted({row["split"] for row in rows}, reverse=True)
    labels = Counter((row["split"], row["class"], row["label"]) for row in rows)
    sources = Counter((row["source"], row["class"]) for row in rows)
    by_class = {
        split: {name: {label: labels[split, name, label] for label in LABELS} for name in classes}
        for split in splits
    }
    return {
        "table": table.path.as_posix(),
        "rows": table.count,
        "rows_without_file": len(table.rows.keys() - set(paths)),
        "files_without_row": len(set(paths) - table.rows.keys()),
        "double_rows": table.count - len(table.rows),
        "labels": {
            split: {
                label: sum(by_label[label] for by_label in by_class[split].values())
                for label in LABELS
            }
            for split in splits
        },
        "labels_by_class": by_class,
        "sources": {
            source: {name: sources[source, name] for name in classes}
            for source in sorted({row["source"] for row in rows} - {""})
        },
        "contradicting": [
            {
                "file": row["path"],
                **{name: row[name] for name in ("class", "source", "finding")},
            }
            for row in rows
            if row["label"] == "contradicts"
        ],
        "left_out": left_out,
    }

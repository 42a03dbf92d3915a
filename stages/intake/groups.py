"""What must not stand on both sides of a split: copies of a radiograph, radiographs of a patient.

The images are rows, as the stage `audit` writes them.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from stages.intake import copies


def mark(rows: Sequence[dict[str, Any]], pairs: Sequence[copies.Pair]) -> None:
    """Gives every image the numbers of its `radiograph` and its `group`.

    Images of one radiograph are copies; images of one group are joined by copies or patients,
    however indirectly. An image whose patient is "" shares it with none.

    Args:
        rows: The images with `patient`.
        pairs: The pairs of copies, by their numbers in `rows`.
    """
    first: dict[str, int] = {}
    of_one_patient = [
        copies.Pair(first.setdefault(row["patient"], number), number, "patient", 1.0)
        for number, row in enumerate(rows)
        if row["patient"]
    ]
    radiographs = copies.groups(len(rows), pairs)
    groups = copies.groups(len(rows), [*pairs, *of_one_patient])
    for row, radiograph, group in zip(rows, radiographs, groups, strict=True):
        row |= {"radiograph": radiograph, "group": group}


def mark_leaks(rows: Sequence[dict[str, Any]]) -> None:
    """Gives every image `leaked`: "yes" for a test image whose group is in train/, else "no"."""
    trained = {row["group"] for row in rows if row["split"] == "train"}
    for row in rows:
        row["leaked"] = "yes" if row["split"] == "test" and row["group"] in trained else "no"


def counts(
    rows: Sequence[dict[str, Any]], pairs: Sequence[copies.Pair], used: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What audit.json says of copies, patients and leaks.

    Args:
        rows: All images as `mark` leaves them.
        pairs: The pairs of copies, by their numbers in `rows`.
        used: Those of the images that are used, as `mark_leaks` leaves them; only these count,
            but one that is left out still joins those of which it is a copy.
    """
    members: dict[int, list[dict[str, Any]]] = defaultdict(list)
    splits_of: dict[str, set[str]] = defaultdict(set)
    for row in used:
        members[row["radiograph"]].append(row)
        if row["patient"]:
            splits_of[row["patient"]].add(row["split"])
    kinds: dict[int, set[str]] = defaultdict(set)
    for pair in pairs:
        kinds[rows[pair.first]["radiograph"]].add(pair.kind)
    copied = {radiograph: same for radiograph, same in members.items() if len(same) > 1}
    splits = [{row["split"] for row in same} for same in copied.values()]
    classes = [{row["class"] for row in same} for same in copied.values()]
    trained = {row["radiograph"] for row in used if row["split"] == "train"}
    names = {row["path"] for row in used}
    leaked = [row for row in used if row["leaked"] == "yes"]
    with_copy = sum(row["radiograph"] in trained for row in leaked)
    by_class = Counter(row["class"] for row in leaked)
    return {
        "radiographs": len(members),
        "groups": len({row["group"] for row in used}),
        "copies": {
            "groups_with_copies": len(copied),
            "within_train": splits.count({"train"}),
            "within_test": splits.count({"test"}),
            "across_splits": splits.count({"train", "test"}),
            "identical_pairs": sum(
                pair.kind == "bytes"
                and {rows[pair.first]["path"], rows[pair.second]["path"]} <= names
                for pair in pairs
            ),
            "contradicting_classes": sum(len(names) > 1 for names in classes),
            "leaked_test_images": with_copy,
        },
        "patients": {
            "known": sum(bool(row["patient"]) for row in used),
            "patients": len(splits_of),
            "in_both_splits": sum(len(found) > 1 for found in splits_of.values()),
            "leaked_test_images": len(leaked) - with_copy,
        },
        "leaked_test_images": {
            name: by_class[name] for name in sorted({row["class"] for row in used})
        },
        "copy_groups": [
            {
                "radiograph": radiograph,
                "kinds": sorted(kinds[radiograph]),
                "files": [row["path"] for row in same],
            }
            for radiograph, same in copied.items()
        ],
    }

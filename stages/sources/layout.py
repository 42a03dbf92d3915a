"""The layouts of sets of images: {train,test}/<class>/<file>, or <class>/<file> elsewhere."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

from stages.common.errors import InputError, listed, named

SPLITS = ("train", "test")
RECORDS = "records.csv"
"""What is known about the images, one row each: may stand beside train/ and test/."""
_NAME_BYTES = 200  # file systems take 255; what is made from a file appends to its name
_JUNK_NAMES = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"}


def is_junk(path: str) -> bool:
    """Whether a file is there only because macOS or Windows put it there."""
    parts = path.split("/")
    return any(part in _JUNK_NAMES or part.startswith("._") for part in parts)


def fault_of_name(path: str) -> str | None:
    """What a path, with `/` between its parts, has that no table and not every disk can hold."""
    categories = {unicodedata.category(character) for character in path}
    if "Cs" in categories:  # how Python holds bytes that are no UTF-8
        return "a name that is not written in UTF-8"
    if categories & {"Cc", "Zl", "Zp"}:
        return "a control character in its name"
    if max(len(part.encode()) for part in path.split("/")) > _NAME_BYTES:
        return f"a name of more than {_NAME_BYTES} bytes"
    return None


def arrange(names: Iterable[str], label: str) -> dict[str, str]:
    """Where each file goes: from its path in the archive to `split/class/file` or `records.csv`.

    Args:
        names: the paths, folders ending in `/`: {train,test}/<class>/<file> and, if there,
            records.csv, with or without one folder around it all.
        label: what the messages call the archive.

    Raises:
        InputError: a split is missing, the classes of the splits differ, there is only one class
            or an empty one, or a file stands at another level.
    """
    places = {name: name for name in names}
    if not places:
        raise InputError(f"{label} holds no file. Expected {{train,test}}/<class>/<images> in it.")
    tops = {place.split("/")[0] for place in places.values()}
    if len(tops) == 1 and not tops & set(SPLITS):
        (top,) = tops
        places = {name: name.removeprefix(f"{top}/") for name in places}
        tops = {place.split("/")[0] for place in places.values() if place}
    if tops - ({RECORDS} & set(places.values())) != set(SPLITS):
        raise InputError(
            f"{label}: expected the folders train/ and test/, with at most one folder around the "
            f"two and nothing beside them but {RECORDS}; found "
            f"{named(sorted(tops)) or 'nothing'}. "
            "Arrange it as {train,test}/<class>/<images>."
        )
    counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    misplaced = []
    for name, place in places.items():
        match place.split("/"):
            case [_, ""]:  # a split
                pass
            case [part] if part in ("", RECORDS):  # the folder around it, or the table
                pass
            case [split, class_name, file] if file:
                counts[split][class_name] += 1
            case [split, class_name, ""]:
                counts[split][class_name] += 0
            case _:
                misplaced.append(name)
    if misplaced:
        raise InputError(
            f"{label}: expected files at {{train,test}}/<class>/<file> and nowhere else; found at "
            f"another level:\n{listed(sorted(misplaced))}\nMove or remove them."
        )
    _check_classes(counts, label)
    return {name: place for name, place in places.items() if place and not place.endswith("/")}


def arrange_by_class(names: Iterable[str], label: str) -> dict[str, str]:
    """Where each file of a set without splits goes: from its path in the archive to `class/file`.

    Args:
        names: the paths, folders ending in `/`: <class>/<file>, with or without one folder around
            the classes.
        label: what the messages call the archive.

    Raises:
        InputError: there is no file, a class folder is empty, or a file stands at another level.
    """
    places = {name: name for name in names}
    if all(name.endswith("/") for name in places):
        raise InputError(f"{label} holds no file. Expected <class>/<images> in it.")
    tops = {name.split("/")[0] for name in places}
    if len(tops) == 1 and any(re.fullmatch("[^/]+/[^/]+/[^/]+", name) for name in places):
        places = {name: name.removeprefix(f"{min(tops)}/") for name in places}
    at_files = {name: place for name, place in places.items() if place and place[-1] != "/"}
    misplaced = [name for name, place in at_files.items() if place.count("/") != 1]
    if misplaced:
        raise InputError(
            f"{label}: expected files at <class>/<file>, with at most one folder around the "
            f"classes; found at another level:\n{listed(sorted(misplaced))}\nMove them into class "
            "folders, or remove them."
        )
    filled = {f"{place.split('/')[0]}/" for place in at_files.values()}
    empty = sorted(set(places.values()) - set(at_files.values()) - filled - {""})
    if empty:
        raise InputError(
            f"{label}: found no file in the folder {empty[0]}, expected images. Add some, or "
            "remove the folder."
        )
    return at_files


def _check_classes(counts: Mapping[str, Counter[str]], label: str) -> None:
    """Refuses class folders that are empty, alone in their split, or fewer than two."""
    for split, other in (SPLITS, SPLITS[::-1]):
        classes, others = sorted(counts[split]), sorted(counts[other])
        for name in classes:
            if name not in others:
                raise InputError(
                    f"{label}: the class folder {split}/{name} has no counterpart; {other}/ has "
                    f"{named(others) or 'no class'}. Expected the same class folders in "
                    "train/ and test/."
                )
        for name in classes:
            if not counts[split][name]:
                raise InputError(
                    f"{label}: the class folder {split}/{name} is empty, expected images in it. "
                    "Add some, or remove the class from both train/ and test/."
                )
    if len(counts["train"]) < 2:
        raise InputError(
            f"{label}: found {named(sorted(counts['train'])) or 'no class'} as the only class "
            "folder in train/ and test/, expected at least two classes to tell apart."
        )

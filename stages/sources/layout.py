"""The layout that every set of images has: {train,test}/<class>/<file>."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

from stages.common.errors import InputError, listed, named

SPLITS = ("train", "test")
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
    """Where each file goes: from its path in the archive to `split/class/file`.

    Args:
        names: the paths, folders ending in `/`: {train,test}/<class>/<file>, with or without one
            folder around it.
        label: what the messages call the archive.

    Raises:
        InputError: a split is missing, the classes of the splits differ, there is only one class
            or an empty one, or a file stands at another level.
    """
    places = _without_enclosing_folder(names, label)
    tops = {place.split("/")[0] for place in places.values()}
    absent = [split for split in SPLITS if split not in tops]
    if absent or tops != set(SPLITS):
        raise InputError(
            f"{label}: expected the folders train/ and test/, with at most one folder around the "
            f"two; found {named(sorted(tops)) or 'nothing'}. "
            "Arrange it as {train,test}/<class>/<images>."
        )
    files_in: Counter[str] = Counter()
    misplaced = []
    for name, place in places.items():
        depth = place.rstrip("/").count("/")
        if place.endswith("/") and depth <= 1:
            files_in[place.rstrip("/")] += 0
        elif not place.endswith("/") and depth == 2:
            files_in[place.rpartition("/")[0]] += 1
        else:
            misplaced.append(name)
    if misplaced:
        raise InputError(
            f"{label}: expected files at {{train,test}}/<class>/<file> and nowhere else; found at "
            f"another level:\n{listed(sorted(misplaced))}\nMove or remove them."
        )
    _check_classes({path: count for path, count in files_in.items() if "/" in path}, label)
    return {name: place for name, place in places.items() if not place.endswith("/")}


def _without_enclosing_folder(names: Iterable[str], label: str) -> dict[str, str]:
    names = list(names)
    tops = {name.split("/")[0] for name in names}
    if not tops:
        raise InputError(f"{label} holds no file. Expected {{train,test}}/<class>/<images> in it.")
    if tops & set(SPLITS):
        return {name: name for name in names}
    if len(tops) > 1:
        raise InputError(
            f"{label}: expected the folders train/ and test/, with at most one folder around the "
            f"two and nothing beside them; found {named(sorted(tops))}."
        )
    (top,) = tops
    inner = {name: name.removeprefix(f"{top}/") for name in names}
    return {name: place for name, place in inner.items() if place}


def _check_classes(files_in: Mapping[str, int], label: str) -> None:
    classes = {
        split: sorted(path.split("/")[1] for path in files_in if path.split("/")[0] == split)
        for split in SPLITS
    }
    for split, other in (SPLITS, SPLITS[::-1]):
        alone = [name for name in classes[split] if name not in classes[other]]
        if alone:
            raise InputError(
                f"{label}: the class folder {split}/{alone[0]} has no counterpart; {other}/ has "
                f"{named(classes[other]) or 'no class'}. Expected the same class folders in "
                "train/ and test/."
            )
    for path in sorted(files_in):
        if not files_in[path]:
            raise InputError(
                f"{label}: the class folder {path} is empty, expected images in it. "
                "Add some, or remove the class from both train/ and test/."
            )
    if len(classes["train"]) < 2:
        raise InputError(
            f"{label}: found {named(classes['train']) or 'no class'} as the only class folder in "
            "train/ and test/, expected at least two classes to tell apart."
        )

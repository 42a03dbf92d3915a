"""Zips and folders of unknown origin: judged before they are unpacked.

The names, kinds and declared sizes of all members are checked before the first byte is written,
and what is written is counted, since declared sizes may lie. The dangers are those of the PKWARE
APPNOTE 6.3 format in Python's zipfile: members that land outside the target (CWE-22), links
(CWE-59), zip bombs (CWE-409; Fifield, WOOT 2019, for overlapping members).
"""

import contextlib
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tqdm import tqdm

from stages.common import files
from stages.common.errors import InputError, named
from stages.sources.layout import fault_of_name, is_junk
from stages.sources.settings import Download

_PATH_BYTES = 1000
_RATIO = 200  # deflate reaches 1032, no picture comes near; small members are exempt
_RATIO_FROM_BYTES = 1 << 20
_ENCRYPTED = 0x2041  # flag bits: traditional, strong, central directory
_HARD_LINK = 0x000D  # an extra field: 12 bytes of other things, then the target of a link
_FAULTS_OF_PATHS = {
    r"\\": "has a backslash in its name",
    r"^[A-Za-z]:": "begins with a drive letter",
    r"^/": "has an absolute path",
    r"(^|/)\.\.(/|$)": "would land outside of its folder (`..` in its path)",
    r"(^|/)\.?(/|$)": "has an empty part or a single dot in its path",
    r"(?i)(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.[^/]*)?(/|$)": "has a name reserved on Windows",
    r"[. ](/|$)": "has a dot or a space at the end of a name, reserved on Windows",
}
_DAMAGE = (  # all that zipfile raises on one
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class Archive:
    """An opened zip or folder.

    Attributes:
        label: what the messages call it.
        names: its members without junk, all judged harmless, sorted; folders end in `/`.
        member: opens one member for reading.
        settings: of these, the most that may be unpacked.
    """

    label: str
    names: list[str]
    member: Callable[[str], AbstractContextManager[IO[bytes]]]
    settings: Download

    def unpack(self, places: Mapping[str, str], target: Path) -> None:
        """Writes each member that `places` names to `target` / its place; others are left out.

        Raises:
            InputError: a member is damaged, or more bytes came out than allowed.
        """
        written = 0
        for name in tqdm(sorted(places), "unpacking", unit="file", disable=None):
            path = target / places[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.member(name) as source, path.open("xb") as file:
                for count in _copy(source, file):
                    written += count
                    _check_bytes(written, self.settings, self.label)


def _copy(source: IO[bytes], target: IO[bytes]) -> Iterator[int]:
    """Copies to the end; gives how many bytes each piece has.

    The kernel copies from file to file and, where the file system has reflinks, shares the blocks
    until one of the two is written to. A hard link would not do: what is written, or its rights,
    would change at both ends, and one end is somebody's archive.
    """
    with contextlib.suppress(OSError, AttributeError):  # not a file; not on this system
        while count := os.copy_file_range(source.fileno(), target.fileno(), 1 << 20):
            yield count
    while chunk := source.read(1 << 20):
        yield target.write(chunk)


def entries(place: Path) -> list[str]:
    """The names in the folder `place`, sorted; README.md, junk and hidden files don't count."""
    names = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    return [name for name in names if name != "README.md" and not is_junk(name) and name[0] != "."]


def only_entry(place: Path, expected: str) -> Path:
    """The one zip or folder in `place`; see `entries`.

    Args:
        place: a folder.
        expected: the layout of the zip or folder, for the message.

    Raises:
        InputError: there is none, or more than one, or its name can't be used.
    """
    names = entries(place)
    if len(names) != 1:
        raise InputError(
            f"{place}: found {named(names) or 'nothing'}, expected exactly one zip or one folder "
            f"that holds {expected}. "
            + ("Leave only one there, or make one folder of them." if names else "Put it there.")
        )
    _check_paths(names, str(place))
    return place / names[0]


def described(source: Path, unpacked: Path) -> str:
    """A line that names a zip or a folder, with a hash of what is in it.

    Args:
        source: the zip or the folder.
        unpacked: where its files are, and nothing else.
    """
    if source.is_dir():
        digest = files.sha256_of_folder(unpacked)
        return f"folder {source.name} (sha256 over its files {digest[:12]}…)"
    return f"archive {source.name} (sha256 {files.sha256_of(source)[:12]}…)"


@contextlib.contextmanager
def opened(path: Path, settings: Download) -> Iterator[Archive]:
    """Opens a zip or a folder, after a check of all that is in it.

    Raises:
        InputError: it is no zip, or damaged; or a member is unsafe, or there are too many, or they
            have too many bytes.
    """
    label = str(path)
    if path.is_dir():
        names = _checked(list(_folder_members(path)), settings, label)
        yield Archive(label, names, lambda name: (path / name).open("rb"), settings)
        return
    with _open_zip(path) as zipped:
        # not `filename`, which zipfile has cut off at a NUL
        infos = [(info.orig_filename, info.file_size, _fault(info)) for info in zipped.infolist()]
        names = _checked(infos, settings, label)
        _check_overlap(zipped, label)
        yield Archive(label, names, lambda name: _zip_member(zipped, name, label), settings)


def _refused(label: str, why: str) -> InputError:
    return InputError(f"{label} is refused: {why}. Nothing was unpacked; make a clean archive.")


def _check_bytes(total: int, settings: Download, label: str) -> None:
    if total > settings.max_gigabytes * 1e9:
        raise InputError(
            f"{label} unpacks to {total / 1e9:.3g} GB or more, beyond download.max_gigabytes = "
            f"{settings.max_gigabytes:g}. If you trust it, raise that in params.yaml."
        )


def _checked(
    members: list[tuple[str, int, str | None]], settings: Download, label: str
) -> list[str]:
    """The names without junk, sorted, of members given as name, size in bytes and fault."""
    if len(members) > settings.max_files:
        raise InputError(
            f"{label} has {len(members)} members, more than download.max_files = "
            f"{settings.max_files}. If you trust it, raise that in params.yaml."
        )
    _check_paths([name for name, _, _ in members], label)
    kept = [member for member in members if not is_junk(member[0])]
    for name, _, fault in kept:
        if fault:
            raise _refused(label, f"{name!r} {fault}")
    _check_bytes(sum(size for _, size, _ in kept), settings, label)
    return sorted(name for name, _, _ in kept)


def _fault_of_path(path: str) -> str | None:
    """Why a relative path, with `/` between its parts, can't be used; None if it can."""
    if fault := fault_of_name(path):
        return f"has {fault}"
    if len(path.encode()) > _PATH_BYTES:
        return f"has a path of more than {_PATH_BYTES} bytes"
    faults = (why for pattern, why in _FAULTS_OF_PATHS.items() if re.search(pattern, path))
    return next(faults, None)


def _check_paths(names: list[str], label: str) -> None:
    """Refuses names that are unsafe, or that two files would share on some file system."""
    paths = [name.removesuffix("/") for name in names]
    for path, count in Counter(paths).items():
        if fault := _fault_of_path(path):
            raise _refused(label, f"{path!r} {fault}")
        if count > 1:
            raise _refused(label, f"{path!r} is in it twice")
    folders = {name[: slash.start()] for name in names for slash in re.finditer("/", name)}
    for name in names:
        if name in folders:
            raise _refused(label, f"{name!r} is both a file and a folder")
    spellings: dict[str, str] = {}
    for path in sorted(folders.union(paths)):
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
        first = spellings.setdefault(key, path)
        if first != path:
            raise _refused(
                label,
                f"{first!r} and {path!r} differ only in case or Unicode form, and would be one "
                "file on many systems",
            )


def _fault_of_mode(mode: int) -> str | None:
    if stat.S_ISLNK(mode):
        return "is a symbolic link"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a device, a pipe or a socket"
    return None


def _folder_members(folder: Path) -> Iterator[tuple[str, int, str | None]]:
    pending = [""]
    while pending:
        prefix = pending.pop()
        for entry in os.scandir(folder / prefix):
            name, status = prefix + entry.name, entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                pending.append(f"{name}/")
                yield f"{name}/", 0, None
            else:
                yield name, status.st_size, _fault_of_mode(status.st_mode)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        # Some programs write UTF-8 names without setting the flag that says so.
        return zipfile.ZipFile(path, metadata_encoding="utf-8")
    except UnicodeDecodeError as error:
        why = f"the name {error.object!r} in it is not written in UTF-8"
        raise _refused(str(path), why) from None
    except _DAMAGE as error:
        with path.open("rb") as file:
            head = file.read(512)
        if not head:
            why = "is empty (0 bytes), expected a zip. Fetch it again."
        elif head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            why = (
                "is a web page or XML, expected a zip. Most likely an error or log-in page was "
                "saved under this name: fetch the file again."
            )
        elif head.startswith(b"PK"):
            why = (
                "is damaged: it is cut off, or its table of contents can't be read "
                f"({error}). Fetch or make it again."
            )
        else:
            why = f"is not a zip (it begins with {head[:8]!r}). Pack it as a zip."
        raise InputError(f"{path} {why}") from None


def _fault(info: zipfile.ZipInfo) -> str | None:
    """Why a member of a zip can't be unpacked, apart from its name; None if it can."""
    if fault := _fault_of_mode(info.external_attr >> 16):
        return fault
    if _is_hard_link(info.extra):
        return "is a hard link"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # the other methods unpack without a bound
        return f"is compressed by method {info.compress_type}, expected 8 (deflate) or 0 (none)"
    if info.file_size > max(_RATIO * info.compress_size, _RATIO_FROM_BYTES):
        return (
            f"unpacks from {info.compress_size} to {info.file_size} bytes; more than "
            f"{_RATIO} times is a zip bomb, not a picture"
        )
    return None


def _is_hard_link(extra: bytes) -> bool:
    while len(extra) >= 4:
        identifier, length = struct.unpack_from("<HH", extra)
        if identifier == _HARD_LINK and length > 12:
            return True
        extra = extra[4 + length :]
    return False


def _check_overlap(zipped: zipfile.ZipFile, label: str) -> None:
    """Python's zipfile checks this itself from 3.11.8, 3.12.2 and 3.13 on, not before."""
    end = zipped.start_dir
    for info in sorted(zipped.infolist(), key=lambda info: info.header_offset, reverse=True):
        # 30 bytes of local header, the name and the data; an extra field may come on top.
        size = 30 + len(info.orig_filename.encode()) + info.compress_size
        if info.header_offset < 0 or info.header_offset + size > end:
            raise _refused(label, f"{info.filename!r} overlaps with what follows it (a zip bomb)")
        end = info.header_offset


@contextlib.contextmanager
def _zip_member(zipped: zipfile.ZipFile, name: str, label: str) -> Iterator[IO[bytes]]:
    try:
        with zipped.open(name) as source:
            yield source
            size, declared = source.tell(), zipped.getinfo(name).file_size
            if size != declared:
                raise zipfile.BadZipFile(f"has {size} bytes, declared are {declared}")
    except _DAMAGE as error:  # a wrong CRC among them
        # the text of a UnicodeDecodeError holds the bytes
        why = error.reason if isinstance(error, UnicodeDecodeError) else error
        raise InputError(f"{label} is damaged: {name!r}: {why}. Fetch or make it again.") from None

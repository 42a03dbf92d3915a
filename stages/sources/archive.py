"""Zips and folders from somebody else: looked at with suspicion, unpacked only where harmless.

The names, kinds and declared sizes of all members are judged before the first byte is written,
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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from stages.common.errors import InputError, named
from stages.sources.layout import fault_of_name, is_junk

_CHUNK = 1 << 20
_DEVICE_NAMES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_PATH_BYTES = 1000
_RATIO = 200  # deflate reaches 1032, no picture comes near; small members are let be
_RATIO_FROM_BYTES = 1 << 20
_UNIX_EXTRA_FIELD = 0x000D  # holds the target of a hard link, after 12 bytes of other things
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # the others unpack without a bound
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)


@dataclass(frozen=True)
class Limits:
    """The most that may be unpacked: a number of files, and bytes in all."""

    files: int
    gigabytes: float

    @property
    def bytes(self) -> int:
        """The limit in bytes, at 10^9 bytes a gigabyte."""
        return int(self.gigabytes * 1e9)


def _fault_of_name(name: str) -> str | None:
    """Why a relative path, with `/` between its parts, can't be used; None if it can."""
    fault = fault_of_name(name)
    if fault is not None:
        return f"has {fault}"
    if "\\" in name:
        return "has a backslash in its name"
    if re.match(r"[A-Za-z]:", name):
        return "begins with a drive letter"
    if name.startswith("/"):
        return "has an absolute path"
    if len(name.encode()) > _PATH_BYTES:
        return f"has a path of more than {_PATH_BYTES} bytes"
    for part in name.removesuffix("/").split("/"):
        if part == "..":
            return "would land outside of its folder (`..` in its path)"
        if part in ("", "."):
            return "has an empty part or a single dot in its path"
        if _DEVICE_NAMES.fullmatch(part) or part.endswith((".", " ")):
            return "has a name that is reserved on some systems"
    return None


def _check_names(names: Iterable[str], label: str) -> None:
    """Refuses names that are unsafe, or that two files would share on some file system.

    Raises:
        InputError: names the archive, the first name at fault and the reason.
    """
    spellings: dict[str, str] = {}
    kinds: dict[str, str] = {}
    seen: set[str] = set()
    for name in names:
        fault = _fault_of_name(name)
        if fault is not None:
            raise _refused(label, f"{name!r} {fault}")
        path = name.removesuffix("/")
        if path in seen:
            raise _refused(label, f"{path!r} is in it twice")
        seen.add(path)
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            part = "/".join(parts[:depth])
            key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", part).casefold())
            if spellings.setdefault(key, part) != part:
                raise _refused(
                    label,
                    f"{spellings[key]!r} and {part!r} differ only in case or Unicode form, and "
                    "would be one file on many systems",
                )
            kind = "folder" if depth < len(parts) or name.endswith("/") else "file"
            if kinds.setdefault(part, kind) != kind:
                raise _refused(label, f"{part!r} is both a file and a folder")


def _refused(label: str, why: str) -> InputError:
    return InputError(f"{label} is refused: {why}. Nothing was unpacked; make a clean archive.")


def _damaged(label: str, why: object) -> InputError:
    return InputError(f"{label} is damaged: {why}. Fetch or make it again.")


def only_entry(place: Path) -> Path:
    """The one zip or folder in `place`; README.md, junk and hidden files don't count.

    Raises:
        InputError: there is none, or more than one, or its name can't be used.
    """
    names = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    found = [name for name in names if name != "README.md" and not is_junk(name) and name[0] != "."]
    if len(found) != 1:
        raise InputError(
            f"{place}: found {named(found) or 'nothing'}, expected exactly one zip or one folder "
            "that holds {train,test}/<class>/<images>. "
            + ("Leave only one there." if found else "Put it there.")
        )
    fault = _fault_of_name(found[0])
    if fault is not None:
        raise _refused(str(place), f"{found[0]!r} {fault}")
    return place / found[0]


# --- zip ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Opens a zip for reading.

    Raises:
        InputError: it is empty, cut off, another kind of file (a web page, say), or has names
            that are not UTF-8.
    """
    with path.open("rb") as file:
        head = file.read(512)
        if not head:
            raise InputError(f"{path} is empty (0 bytes), expected a zip. Fetch it again.")
        try:
            # Some programs write UTF-8 names without setting the flag that says so.
            zipped = zipfile.ZipFile(file, metadata_encoding="utf-8")
        except UnicodeDecodeError as error:
            raise _refused(
                str(path), f"the name {error.object!r} in it is not written in UTF-8"
            ) from None
        except _DAMAGE as error:
            raise _not_a_zip(path, head, error) from None
        with zipped:
            yield zipped


def _not_a_zip(path: Path, head: bytes, error: Exception) -> InputError:
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return InputError(
            f"{path} is a web page or XML, expected a zip. Most likely an error or log-in page "
            "was saved under this name: fetch the file again."
        )
    if head.startswith(b"PK"):
        return _damaged(
            str(path), f"it is cut off, or its table of contents can't be read ({error})"
        )
    return InputError(f"{path} is not a zip (it begins with {head[:8]!r}). Pack it as a zip.")


def _is_hard_link(extra: bytes) -> bool:
    while len(extra) >= 4:
        identifier, length = struct.unpack_from("<HH", extra)
        if identifier == _UNIX_EXTRA_FIELD and length > 12:
            return True
        extra = extra[4 + length :]
    return False


def _fault_of_member(info: zipfile.ZipInfo) -> str | None:
    """Why a member can't be unpacked, apart from its name; None if it can."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if stat.S_ISLNK(kind):
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a device, a pipe or a socket"
    if _is_hard_link(info.extra):
        return "is a hard link"
    if info.flag_bits & 0x2041:
        return "is encrypted"
    if info.compress_type not in _METHODS:
        return f"is compressed by method {info.compress_type}, expected 8 (deflate) or 0 (none)"
    if info.is_dir() and info.file_size:
        return "is a folder that has bytes of its own"
    if info.file_size > max(_RATIO * info.compress_size, _RATIO_FROM_BYTES):
        return (
            f"unpacks from {info.compress_size} to {info.file_size} bytes; more than "
            f"{_RATIO} times is a zip bomb, not a picture"
        )
    return None


def _check_overlap(zipped: zipfile.ZipFile, label: str) -> None:
    members = sorted(zipped.infolist(), key=lambda info: info.header_offset)
    starts = [info.header_offset for info in members] + [zipped.start_dir]
    for info, end in zip(members, starts[1:], strict=True):
        # 30 bytes of local header, the name and the data; an extra field may come on top.
        size = 30 + len(info.orig_filename.encode()) + info.compress_size
        if info.header_offset < 0 or info.header_offset + size > end:
            raise _refused(label, f"{info.filename!r} overlaps with what follows it (a zip bomb)")


def members(zipped: zipfile.ZipFile, limits: Limits, label: str) -> list[str]:
    """The names of a zip's members without junk, all judged harmless; folders end in `/`.

    Raises:
        InputError: a member is unsafe, or there are too many, or they declare too many bytes.
    """
    infos = zipped.infolist()
    if len(infos) > limits.files:
        raise InputError(
            f"{label} has {len(infos)} members, more than download.max_files = {limits.files}. "
            "If you trust it, raise that in params.yaml."
        )
    # not `filename`, which zipfile has cut off at a NUL
    _check_names((info.orig_filename for info in infos), label)
    kept = [info for info in infos if not is_junk(info.filename)]
    for info in kept:
        fault = _fault_of_member(info)
        if fault is not None:
            raise _refused(label, f"{info.filename!r} {fault}")
    _check_overlap(zipped, label)
    total = sum(info.file_size for info in kept)
    if total > limits.bytes:
        raise _too_large(label, total, limits)
    return [info.filename for info in kept]


def _too_large(label: str, total: int, limits: Limits) -> InputError:
    return InputError(
        f"{label} unpacks to {total / 1e9:.3g} GB or more, beyond download.max_gigabytes = "
        f"{limits.gigabytes:g}. If you trust it, raise that in params.yaml."
    )


def _chunks(zipped: zipfile.ZipFile, name: str, label: str) -> Iterator[bytes]:
    """The bytes of one member; the CRC is checked by zipfile as the last of them is read."""
    info = zipped.getinfo(name)
    count = 0
    try:
        with zipped.open(info) as source:
            while chunk := source.read(_CHUNK):
                count += len(chunk)
                yield chunk
    except UnicodeDecodeError as error:
        raise _damaged(label, f"{name!r}: {error.reason} in its header") from None
    except _DAMAGE as error:
        raise _damaged(label, f"{name!r}: {error}") from None
    if count != info.file_size:
        raise _damaged(label, f"{name!r} has {count} bytes, declared are {info.file_size}")


def unpack(
    zipped: zipfile.ZipFile, places: Mapping[str, str], target: Path, limits: Limits, label: str
) -> None:
    """Writes each member that `places` names to `target` / its place; others are left out.

    Raises:
        InputError: a member is damaged, or more bytes came out than allowed.
    """
    size = sum(zipped.getinfo(name).file_size for name in places)
    contents = ((places[name], _chunks(zipped, name, label)) for name in sorted(places))
    _write(contents, target, limits, label, size)


def _write(
    contents: Iterable[tuple[str, Iterator[bytes]]],
    target: Path,
    limits: Limits,
    label: str,
    size: int,
) -> None:
    written = 0
    with tqdm(total=size, desc="unpacking", unit="B", unit_scale=True, disable=None) as bar:
        for place, chunks in contents:
            path = target / place
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                for chunk in chunks:
                    written += len(chunk)
                    if written > limits.bytes:
                        raise _too_large(label, written, limits)
                    file.write(chunk)
                    bar.update(len(chunk))


# --- folder ------------------------------------------------------------------------------------


def folder_members(folder: Path, limits: Limits) -> list[str]:
    """The paths in a folder without junk, all judged harmless, sorted; folders end in `/`.

    Raises:
        InputError: there is a link, a device or an unsafe name, or too much of all.
    """
    names: list[str] = []
    total = 0
    pending = [""]
    while pending:
        prefix = pending.pop()
        for entry in os.scandir(folder / prefix):
            name = prefix + entry.name
            if is_junk(name):
                continue
            if entry.is_symlink():
                raise _refused(str(folder), f"{name!r} is a symbolic link")
            if entry.is_dir():
                pending.append(f"{name}/")
                names.append(f"{name}/")
            elif entry.is_file():
                names.append(name)
                total += entry.stat().st_size
            else:
                raise _refused(str(folder), f"{name!r} is a device, a pipe or a socket")
            if len(names) > limits.files:
                raise InputError(
                    f"{folder} holds more files and folders than download.max_files = "
                    f"{limits.files}. If you trust it, raise that in params.yaml."
                )
    names.sort()
    _check_names(names, str(folder))
    if total > limits.bytes:
        raise _too_large(str(folder), total, limits)
    return names


def copy(folder: Path, places: Mapping[str, str], target: Path, limits: Limits) -> None:
    """Copies each file that `places` names from `folder` to `target` / its place.

    Raises:
        InputError: more bytes came out than allowed.
    """
    size = sum((folder / name).stat().st_size for name in places)
    contents = ((places[name], _file_chunks(folder / name)) for name in sorted(places))
    _write(contents, target, limits, str(folder), size)


def _file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


# --- layout ------------------------------------------------------------------------------------

import contextlib
import errno
import hashlib
import os
import random
import socket
import stat
import struct
import tempfile
import unicodedata
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.common import files
from stages.common.errors import InputError
from stages.sources import archive, layout
from stages.sources.settings import Download
from tests import made


def limits(files: int, gigabytes: float) -> Download:
    return Download(
        source="archive",
        phantom_seed=0,
        phantom_share=1,
        max_files=files,
        max_gigabytes=gigabytes,
    )


LIMITS = limits(1000, 0.05)


def zip_info(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo()  # its constructor would cut a name at NUL
    info.filename = info.orig_filename = name
    info.external_attr = mode << 16
    return info


def make_zip(path: Path, *contents: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # duplicate names are wanted here
        for name, data in contents:
            info = zip_info(name) if isinstance(name, str) else name
            zipped.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


def patch(path: Path, old: bytes, new: bytes) -> Path:
    data = path.read_bytes()
    assert old in data
    assert len(old) == len(new)
    path.write_bytes(data.replace(old, new))
    return path


def patch_directory(path: Path, offset: int, layout: str, value: int) -> Path:
    """Overwrites a field of the first entry of the central directory."""
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, data.index(b"PK\x01\x02") + offset, value)
    path.write_bytes(data)
    return path


def unpack(path: Path, target: Path, most: Download = LIMITS) -> dict[str, bytes]:
    """Unpacks everything under its own name; gives what then is under `target`."""
    with archive.opened(path, most) as contents:
        places = {name: name for name in contents.names if not name.endswith("/")}
        contents.unpack(places, target)
    return made.contents_of(target)


def members(folder: Path, most: Download = LIMITS) -> list[str]:
    with archive.opened(folder, most) as contents:
        return contents.names


def assert_refused(path: Path, words: str, most: Download = LIMITS) -> None:
    """Refused with `words`, and nothing written beside the zip itself."""
    before = {place for place in path.parent.rglob("*") if "target" not in place.parts}
    with pytest.raises(InputError) as caught:
        unpack(path, path.parent / "target", most)
    assert words in str(caught.value)
    assert path.name in str(caught.value)
    after = {place for place in path.parent.rglob("*") if "target" not in place.parts}
    assert after - before <= {path.parent / "target"}


def test_unpacks_what_is_there_and_passes_over_junk(tmp_path: Path) -> None:
    path = make_zip(
        tmp_path / "a.zip",
        ("train/", b""),
        ("train/Covid/Äpfel 'n\" 雪.png", b"one"),
        ("train/Covid/-x.jpg", b""),
        ("train/Covid/.DS_Store", b"junk"),
        ("train/Covid/Thumbs.db", b"junk"),
        ("train/desktop.ini", b"junk"),
        ("train/Covid/._x.jpg", b"junk"),
        ("__MACOSX/train/Covid/x.jpg", b"junk"),
    )
    assert unpack(path, tmp_path / "target") == {
        "train/Covid/Äpfel 'n\" 雪.png": b"one",
        "train/Covid/-x.jpg": b"",
    }


def test_names_in_utf8_without_the_flag_are_read_as_utf8(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", ("bild-aeoe.png", b"x"))
    patch(path, b"bild-aeoe.png", "bild-äö.png".encode())
    assert unpack(path, tmp_path / "target") == {"bild-äö.png": b"x"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil.png", "would land outside"),
        ("train/../../evil.png", "would land outside"),
        ("train/..", "would land outside"),
        ("/etc/evil.png", "an absolute path"),
        ("//server/evil.png", "an absolute path"),
        ("..\\evil.png", "a backslash"),
        ("C:/evil.png", "a drive letter"),
        ("c:evil.png", "a drive letter"),
        ("train//evil.png", "an empty part"),
        ("./evil.png", "a single dot"),
        ("", "an empty part"),
        ("train/evil\0.png", "a control character"),
        ("train/evil\n.png", "a control character"),
        ("train/evil\x1b[2J.png", "a control character"),
        ("train/evil\u2028.png", "a control character"),
        ("train/NUL.png", "reserved"),
        ("train/com1", "reserved"),
        ("train/evil. ", "reserved"),
        ("train/evil.", "reserved"),
        ("train/" + "x" * 201, "more than 200 bytes"),
        ("train/" + "雪" * 67, "more than 200 bytes"),
        ("x/" * 501, "more than 1000 bytes"),
        ("__MACOSX/../../evil.png", "would land outside"),
    ],
)
def test_unsafe_names_are_refused(tmp_path: Path, name: str, words: str) -> None:
    contents = (("train/first.png", b"harmless"), (name, b"evil"))
    assert_refused(make_zip(tmp_path / "a.zip", *contents), words)
    assert not (tmp_path / "target").exists()


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", ("bild-ae.png", b"x"))
    assert_refused(patch(path, b"bild-ae.png", b"bild-\xe4\xf6.png"), "not written in UTF-8")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a/x.png", "a/x.png"], "is in it twice"),
        (["a/", "a/"], "is in it twice"),
        (["a/x.png", "a/X.PNG"], "differ only in case or Unicode form"),
        (["Covid/x.png", "covid/y.png"], "differ only in case or Unicode form"),
        (["straße.png", "STRASSE.png"], "differ only in case or Unicode form"),
        (
            [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")],
            "differ only in case or Unicode form",
        ),
        (["a", "a/x.png"], "both a file and a folder"),
        (["a/x.png", "a"], "both a file and a folder"),
        (["a", "a/"], "is in it twice"),
    ],
)
def test_names_that_collide_are_refused(tmp_path: Path, names: list[str], words: str) -> None:
    assert_refused(make_zip(tmp_path / "a.zip", *((name, b"x") for name in names)), words)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (stat.S_IFLNK | 0o777, "a symbolic link"),
        (stat.S_IFBLK | 0o666, "a device"),
        (stat.S_IFCHR | 0o666, "a device"),
        (stat.S_IFIFO | 0o666, "a pipe"),
        (stat.S_IFSOCK | 0o666, "a socket"),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, mode: int, words: str) -> None:
    path = make_zip(tmp_path / "a.zip", ("first", b"x"), (zip_info("evil", mode), b"/etc/passwd"))
    assert_refused(path, words)
    assert not (tmp_path / "target").exists()


def test_hard_links_are_refused(tmp_path: Path) -> None:
    info = zip_info("evil")
    info.extra = struct.pack("<HHIIHH", 0x000D, 12 + 11, 0, 0, 0, 0) + b"/etc/passwd"
    assert_refused(make_zip(tmp_path / "a.zip", (info, b"")), "a hard link")


def test_a_bomb_by_ratio_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", ("x.png", bytes(20_000_000)))
    assert_refused(path, "is a zip bomb, not a picture")
    assert not (tmp_path / "target").exists()


def test_a_bomb_by_declared_size_is_refused(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(600_000)
    path = make_zip(tmp_path / "a.zip", ("x.png", noise), ("y.png", noise))
    assert_refused(path, "beyond download.max_gigabytes = 0.001", limits(1000, 0.001))
    assert not (tmp_path / "target").exists()


def test_a_bomb_by_number_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", *((f"{number}.png", b"") for number in range(1001)))
    assert_refused(path, "1001 members, more than download.max_files = 1000")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("declared", [1, 999])
def test_a_lie_about_the_unpacked_size_is_found(tmp_path: Path, declared: int) -> None:
    path = make_zip(tmp_path / "a.zip", ("x.png", bytes(100)))
    assert_refused(patch_directory(path, 24, "<I", declared), "'x.png'")


def test_what_comes_out_is_counted_whatever_was_declared(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "x.png").touch()
    with archive.opened(folder, limits(10, 0.001)) as contents:
        (folder / "x.png").write_bytes(bytes(1_500_000))
        with pytest.raises(InputError, match=r"beyond download\.max_gigabytes = 0\.001"):
            contents.unpack({"x.png": "x.png"}, tmp_path / "target")
    assert (tmp_path / "target/x.png").stat().st_size < 1_500_000


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", ("a.png", b"x"), ("b.png", b"x"))
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    struct.pack_into("<I", data, second + 42, 0)  # its data are the first member's
    path.write_bytes(data)
    assert_refused(path, "overlaps")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("bit", [0x1, 0x40, 0x2000])
def test_encrypted_members_are_refused(tmp_path: Path, bit: int) -> None:
    path = make_zip(tmp_path / "a.zip", ("x.png", b"x"))
    assert_refused(patch_directory(path, 8, "<H", bit), "is encrypted")


def test_other_methods_of_compression_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as zipped:
        zipped.writestr("x.png", b"x")
    assert_refused(path, "method 12, expected 8 (deflate)")


def test_a_wrong_crc_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("x.png", b"the right bytes")
    assert_refused(patch(path, b"right", b"wrong"), "Bad CRC-32")


@pytest.mark.parametrize("cut", [0.3, 0.9, 0.99])
def test_a_cut_off_zip_is_refused(tmp_path: Path, cut: float) -> None:
    path = make_zip(tmp_path / "a.zip", *((f"{number}.png", b"x" * 50) for number in range(9)))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    assert_refused(path, "is cut off")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b"<!DOCTYPE html><html>log in</html>", "is a web page"),
        (b"\xef\xbb\xbf\n <?xml version='1.0'?>", "is a web page"),
        (b"Rar!\x1a\x07\x01\x00", "is not a zip (it begins with b'Rar!"),
    ],
)
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    assert_refused(path, words)


PARTS = st.one_of(
    st.sampled_from(
        ["..", ".", "", "a", "A", "b", "é", "e\u0301", "train", "__MACOSX", "._a", "nul", "a:"]
    ),
    st.text(max_size=6),
)
NAMES = st.one_of(st.lists(PARTS, min_size=1, max_size=4).map("/".join), st.text(max_size=300))


@settings(max_examples=150, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=5))
@example(names=["a/b", "a/../../c"])
@example(names=["a", "a/b"])
@example(names=["train/Covid/é.png", "test/", "__MACOSX/x"])
@example(names=["a/", "a/b"])
def test_any_names_either_unpack_exactly_or_are_refused(names: list[str]) -> None:
    contents = {name: str(number).encode() for number, name in enumerate(names)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            path = make_zip(
                folder / "a.zip", *((n, b"" if n.endswith("/") else contents[n]) for n in names)
            )
        except UnicodeEncodeError:  # lone surrogates, which no zip can hold
            return
        with contextlib.suppress(InputError):
            assert unpack(path, folder / "target") == {
                name: data
                for name, data in contents.items()
                if not name.endswith("/") and not layout.is_junk(name)
            }
        assert {place.name for place in folder.iterdir()} <= {"a.zip", "target"}
        assert not [place for place in folder.rglob("*") if place.is_symlink()]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_zip_with_changed_bytes_either_unpacks_exactly_or_is_refused(
    data: st.DataObject,
) -> None:
    contents = {f"train/{number}.png": bytes([number]) * 40 for number in range(3)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = make_zip(folder / "a.zip", *contents.items())
        original = path.read_bytes()
        mutated = bytearray(original)
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, len(original) - 1))
            mutated[place] = data.draw(st.integers(0, 255))
        path.write_bytes(mutated)
        try:
            unpacked = unpack(path, folder / "target")
        except InputError:
            pass
        else:
            assert set(unpacked.values()) <= set(contents.values())
        assert {place.name for place in folder.iterdir()} <= {"a.zip", "target"}


def write_tree(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            (folder / path).write_text(path)
        else:
            (folder / path).mkdir()
    return folder


def test_a_folder_is_copied_without_junk(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "set", "train/A/1.png", "train/A/.DS_Store", "train/B/")
    with archive.opened(folder, LIMITS) as contents:
        assert contents.names == ["train/", "train/A/", "train/A/1.png", "train/B/"]
        contents.unpack({"train/A/1.png": "one/1.png"}, tmp_path / "target")
    assert made.contents_of(tmp_path / "target") == {"one/1.png": b"train/A/1.png"}


@pytest.mark.parametrize("number", [None, errno.EXDEV, errno.EINVAL])
def test_a_copy_is_the_original_and_is_not_tied_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    if number:  # file systems between which the kernel does not copy

        def refused(*_: int) -> int:
            raise OSError(number, "refused")

        monkeypatch.setattr(os, "copy_file_range", refused)
    folder = tmp_path / "set"
    original, copy = folder / "A/1.png", tmp_path / "target/A/1.png"
    original.parent.mkdir(parents=True)
    original.write_bytes(b"0123456789" * 300_000)
    original.chmod(0o640)
    with archive.opened(folder, LIMITS) as contents:
        contents.unpack({"A/1.png": "A/1.png"}, tmp_path / "target")
    assert copy.read_bytes() == original.read_bytes()
    copy.write_bytes(b"other")
    copy.chmod(0o444)
    assert original.read_bytes() == b"0123456789" * 300_000
    assert stat.S_IMODE(original.stat().st_mode) == 0o640


def test_links_in_a_folder_are_refused(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "set", "train/A/1.png")
    (folder / "train/A/2.png").symlink_to("1.png")
    with pytest.raises(InputError, match=r"'train/A/2\.png' is a symbolic link"):
        members(folder)
    (folder / "train/A/2.png").unlink()
    (folder / "train/B").symlink_to(tmp_path)
    with pytest.raises(InputError, match="'train/B' is a symbolic link"):
        members(folder)


def test_devices_in_a_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tree(tmp_path / "set", "train/A/1.png")
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match="'pipe' is a device, a pipe or a socket"):
        members(folder)
    (folder / "pipe").unlink()
    monkeypatch.chdir(folder)  # the path of a socket may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(InputError, match="'socket' is a device, a pipe or a socket"):
            members(folder)


def test_unsafe_and_colliding_names_in_a_folder_are_refused(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "set", "train/A/1.png", "train/A/x\ny.png")
    with pytest.raises(InputError, match="a control character"):
        members(folder)
    folder = write_tree(tmp_path / "other", "train/A/1.png", "train/a/2.png")
    with pytest.raises(InputError, match="differ only in case"):
        members(folder)


def test_limits_hold_for_a_folder(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "set", "train/A/1.png", "train/A/2.png")
    with pytest.raises(InputError, match=r"4 members, more than download\.max_files = 3"):
        members(folder, limits(3, 1))
    with pytest.raises(InputError, match=r"beyond download\.max_gigabytes = 1e-08"):
        members(folder, limits(10, 1e-8))


def test_only_entry(tmp_path: Path) -> None:
    place = tmp_path / "archive"
    expected = "found nothing, expected exactly one zip or one folder that holds <some>/<layout>"
    with pytest.raises(InputError, match=f"{expected}. Put it there"):
        archive.only_entry(place, "<some>/<layout>")
    write_tree(place, "README.md", ".gitignore", ".DS_Store")
    assert archive.entries(place) == []
    with pytest.raises(InputError, match="found nothing"):
        archive.only_entry(place, "")
    write_tree(place, "b.zip")
    assert archive.only_entry(place, "") == place / "b.zip"
    write_tree(place, "a/1.png")
    assert archive.entries(place) == ["a", "b.zip"]
    with pytest.raises(InputError, match=r"found 'a', 'b\.zip', .* Leave only one"):
        archive.only_entry(place, "")


def test_a_line_names_a_zip_or_a_folder_by_what_is_in_it(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", ("1.png", b"x"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert archive.described(path, tmp_path) == f"archive a.zip (sha256 {digest[:12]}…)"
    folder = write_tree(tmp_path / "set", "A/1.png", "A/2.png", "B/1.png")
    digest = files.sha256_of_folder(folder)
    line = f"folder set (sha256 over its files {digest[:12]}…)"
    assert archive.described(folder, folder) == line


def test_an_empty_zip_has_no_members(tmp_path: Path) -> None:
    assert unpack(make_zip(tmp_path / "a.zip"), tmp_path / "target") == {}

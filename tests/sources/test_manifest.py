import hashlib
from pathlib import Path

import pytest

from stages.common.errors import InputError
from stages.sources import manifest

PROJECT = Path(__file__).resolve().parents[2]
DIGEST = hashlib.sha256(b"x").hexdigest()


def test_the_committed_manifest_lists_the_data_set() -> None:
    entries = manifest.read(PROJECT / "data/kaggle-manifest.csv")
    assert len(entries) == 317
    assert sum(path.startswith("Covid19-dataset/train/") for path in entries) == 251
    assert sum(path.startswith("Covid19-dataset/test/") for path in entries) == 66
    assert 169_500_000 < sum(entry.size for entry in entries.values()) < 169_700_000


def test_differences(tmp_path: Path) -> None:
    entries = {name: manifest.Entry(1, DIGEST) for name in ("a/same", "a/other", "gone", "long")}
    (tmp_path / "a").mkdir()
    for name, text in [("a/same", "x"), ("a/other", "y"), ("long", "xx"), ("a/new", "x")]:
        (tmp_path / name).write_text(text)
    (tmp_path / "link").symlink_to("nowhere")
    assert manifest.differences(entries, tmp_path) == [
        "missing: gone",
        "extra: a/new",
        "extra: link",
        f"different: a/other has SHA-256 {hashlib.sha256(b'y').hexdigest()[:12]}…, "
        f"expected {DIGEST[:12]}…",
        "different: long has 2 bytes, expected 1",
    ]


def test_no_difference_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("x")
    assert manifest.differences({"one": manifest.Entry(1, DIGEST)}, tmp_path) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,bytes\n", "the header is ['path', 'bytes'], expected ['path', 'size', 'sha256']"),
        ("", "the header is None"),
        ("path,size,sha256\n", "lists no file"),
        (f"path,size,sha256\na,many,{DIGEST}\n", "line 2: found ['a', 'many'"),
        ("path,size,sha256\na,1,abc\n", "line 2"),
        ("path,size,sha256\na,1\n", "line 2"),
        (f"path,size,sha256\na,1,{DIGEST}\na,1,{DIGEST}\n", "line 3"),
        ("path,size,sha256\n\udcff\n", "is not a CSV file in UTF-8"),
    ],
)
def test_a_broken_manifest_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "manifest.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        manifest.read(path)
    assert words in str(caught.value)
    assert f"git checkout {path}" in str(caught.value)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.csv is not there"):
        manifest.read(tmp_path / "manifest.csv")

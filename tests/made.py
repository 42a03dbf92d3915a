"""Small images and data folders that tests make for themselves; the same each time."""

import hashlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from stages.sources import phantom

PROJECT = Path(__file__).resolve().parents[1]
CLASSES = ("Covid", "Normal", "Viral Pneumonia")


def picture(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """A smooth grey picture (mode L) of `size` (width, height), another for every seed.

    Two of them are far from being copies of each other.
    """
    numbers = np.random.default_rng(seed)
    noise = Image.fromarray(numbers.integers(0, 256, (9, 9), np.uint8))
    return noise.resize(size, Image.Resampling.BICUBIC)


def deep(grey: Image.Image) -> Image.Image:
    """A grey picture with 16 bits per pixel (mode I;16): 0 to 65535 for 0 to 255."""
    return Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)


def floats(grey: Image.Image) -> Image.Image:
    """A grey picture of fractions (mode F): 0.0 to 1.0 for 0 to 255."""
    return Image.fromarray(np.asarray(grey).astype(np.float32) / 255)


def colour_profile() -> bytes:
    """An ICC profile, as cameras and viewers put into their files."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file with its length and checksum."""
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(width: int, height: int, data: bytes, depth: int = 8, interlaced: bool = False) -> bytes:
    """A grey PNG file of any declared size whose compressed pixels are `data`."""
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", data)
        + png_chunk(b"IEND", b"")
    )


def interlaced_png(grey: Image.Image) -> bytes:
    """A grey picture as a PNG in the seven passes of Adam7, which Pillow can't write."""
    pixels = np.asarray(grey)
    passes = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    rows = b"".join(
        b"\0" + row.tobytes()
        for top, left, down, right in passes
        for row in pixels[top::down, left::right]
    )
    return png(grey.width, grey.height, zlib.compress(rows), interlaced=True)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def small(planned: phantom.Phantom) -> phantom.Phantom:
    """The same plan at a third of the size, so that drawing it is quick."""
    width, height = planned.size
    original = small(planned.original) if planned.original else None
    return replace(planned, size=(width // 3, height // 3), original=original)


def write_provenance(raw: Path, count: int) -> None:
    """Writes provenance.json as the stage `download` does."""
    record = {"source": "archive", "data": "made for a test", "licence": "none", "files": count}
    (raw / "provenance.json").write_text(json.dumps(record))


def make_raw(
    folder: Path, classes: Sequence[str] = CLASSES, counts: tuple[int, int] = (6, 3), seed: int = 0
) -> Path:
    """Writes what the stage `download` would to `folder`/data/raw, and returns that path.

    `counts` of train/ and test/ are for each class: data/raw/{train,test}/<class>/00.png and so
    on, no two of them alike.
    """
    raw = folder / "data" / "raw"
    number = 0
    for split, count in zip(("train", "test"), counts, strict=True):
        for name in classes:
            place = raw / split / name
            place.mkdir(parents=True)
            for position in range(count):
                picture(seed * 100_000 + number).save(
                    place / f"{position:02d}.png", compress_level=1
                )
                number += 1
    write_provenance(raw, number)
    return raw


def write_params(folder: Path, **values: object) -> None:
    """Writes the project's params.yaml to `folder`, with other values for some unique keys.

    And the table of records that it names. The recipe is `holdout` if it isn't changed.
    """
    text = (PROJECT / "params.yaml").read_text()
    for key, value in ({"recipe": "holdout"} | values).items():
        line = f"  {key}: {value}".replace("\\", r"\\")
        text, count = re.subn(rf"(?m)^  {key}: \S+", line, text)
        if count != 1:
            raise ValueError(f"params.yaml has the key {key} {count} times")
    (folder / "params.yaml").write_text(text)
    (folder / "data").mkdir(exist_ok=True)
    shutil.copy(PROJECT / "data/kaggle-records.csv", folder / "data")


def run_stage(
    folder: Path, name: str, *before: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a stage as a program in `folder`; `before` is a command that the program is put to."""
    return subprocess.run(
        [*before, sys.executable, "-m", f"stages.{name}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def contents_of(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder, by its path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if not path.is_dir()
    }


def digest_of(content: dict[str, bytes]) -> str:
    """What `sha256sum` prints for the files, hashed."""
    lines = [f"{hashlib.sha256(content[path]).hexdigest()}  {path}\n" for path in sorted(content)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()

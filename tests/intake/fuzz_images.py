"""Drives the decoder with mutated files; run as a program by test_decode.py, in its own process.

usage: python -m tests.intake.fuzz_images SEED COUNT

Prints one JSON record: how many files gave a picture and how many an error, the reasons, the
longest time a file took (seconds) and the most memory used (bytes). A file that takes over
SECONDS ends the process with a traceback; a crash ends it with a signal.
"""

import faulthandler
import io
import json
import math
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import uid

from stages.intake import decode
from tests import made, made_dicom

SECONDS = 5
SELDOM = 25  # one in so many files is a compressed DICOM file, which takes 50 ms


def encodings() -> dict[str, bytes]:
    """Small files as Pillow writes them, one for each decoder and most of its options."""
    grey = made.picture(seed=1, size=(72, 56))
    rgb = Image.merge("RGB", [made.picture(seed=seed, size=(72, 56)) for seed in (1, 2, 3)])
    rgba = rgb.copy()
    rgba.putalpha(made.picture(seed=4, size=(72, 56)))
    deep = made.deep(grey)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a chest"
    profile = made.colour_profile()
    recipes: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "jpeg": (rgb, "JPEG", {"exif": exif, "icc_profile": profile}),
        "jpeg-progressive": (rgb, "JPEG", {"progressive": True, "subsampling": 0}),
        "jpeg-cmyk": (rgb.convert("CMYK"), "JPEG", {}),
        "jpeg-grey": (grey, "JPEG", {"quality": 30, "restart_marker_rows": 2}),
        "png": (rgb, "PNG", {"exif": exif, "icc_profile": profile}),
        "png-16-bit": (deep, "PNG", {}),
        "png-alpha": (rgba, "PNG", {}),
        "png-palette": (rgb.quantize(40), "PNG", {"transparency": 3}),
        "png-1-bit": (grey.convert("1"), "PNG", {}),
        "tiff": (rgb, "TIFF", {"exif": exif}),
        "tiff-16-bit": (deep, "TIFF", {}),
        "tiff-float": (made.floats(grey), "TIFF", {}),
        "tiff-lzw": (rgb, "TIFF", {"compression": "tiff_lzw"}),
        "tiff-deflate": (grey, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "tiff-jpeg": (rgb, "TIFF", {"compression": "jpeg"}),
        "tiff-fax": (grey.convert("1"), "TIFF", {"compression": "group4"}),
        "tiff-packbits": (rgb.convert("CMYK"), "TIFF", {"compression": "packbits"}),
        "bmp": (rgb, "BMP", {}),
        "bmp-palette": (grey.quantize(16), "BMP", {}),
        "gif": (rgb.quantize(60), "GIF", {"transparency": 5}),
        "webp": (rgba, "WEBP", {"exif": exif}),
        "webp-lossless": (rgb, "WEBP", {"lossless": True}),
    }
    encoded = {}
    for name, (picture, kind, options) in recipes.items():
        file = io.BytesIO()
        picture.save(file, kind, **options)
        encoded[name] = file.getvalue()
    encoded["png-interlaced"] = made.interlaced_png(grey)
    return encoded


def dicom_encodings() -> dict[str, bytes]:
    """Small DICOM files that tell secrets, with each kind of table and number that is read."""
    grey = np.asarray(made.picture(seed=1, size=(72, 56))).astype(np.uint16) * 16
    window = {"WindowCenter": [2000, 5], "WindowWidth": [3000, 5], "VOILUTSequence": None}
    rescaled = {"RescaleSlope": "0.5", "RescaleIntercept": "-100", **window}
    little, implicit, big = made_dicom.UNCOMPRESSED
    table = made_dicom.lut([number % 4096 for number in range(0, 8000, 7)], -300, 16)
    recipes: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "window": (grey, {"bits": 12, "photometric": "MONOCHROME1", "syntax": little, **window}),
        "rescaled": (grey.astype(np.int16) - 2048, {"bits": 12, "syntax": implicit, **rescaled}),
        "big-endian": (grey, {"bits": 16, "syntax": big}),
        "modality-lut": (grey, {"bits": 12, "syntax": big, "ModalityLUTSequence": table}),
        "8-bit": ((grey >> 4).astype(np.uint8), {"VOILUTSequence": None}),
    }
    return {
        f"dicom-{name}": made_dicom.secretive(pixels, **options)
        for name, (pixels, options) in recipes.items()
    }


def compressed_encodings() -> dict[str, bytes]:
    """Small DICOM files, one for each way to compress them."""
    grey = np.asarray(made.picture(seed=1, size=(72, 56)))
    return {
        f"dicom-{uid.UID(syntax).keyword}": made_dicom.secretive(grey, syntax=syntax)
        for syntax in (*made_dicom.LOSSLESS, *made_dicom.LOSSY)
    }


def mutated(data: bytes, dice: random.Random) -> bytes:
    """The file with a few bytes changed, more often near its beginning, where its headers are."""
    content = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        if not content:
            break
        place = dice.randrange(len(content))
        if dice.random() < 0.3:
            place = min(place, dice.randrange(min(len(content), 400)))
        match dice.randrange(8):
            case 0:
                del content[place:]
            case 1:
                del content[place : place + dice.randrange(1, 64)]
            case 2:
                content[place:place] = content[: dice.randrange(1, 64)]
            case 3:
                content[place:place] = bytes(dice.randrange(1, 64))
            case 4:
                content[place] ^= 1 << dice.randrange(8)
            case 5:
                content[place] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 6:
                content[place : place + 4] = dice.choice(
                    (
                        b"\xff\xff\xff\xff",
                        b"\x7f\xff\xff\xff",
                        b"\x00\x00\x20\x00",
                        b"\x00\x20\x00\x00",
                    )
                )
            case _:
                content[place] = dice.randrange(256)
    return bytes(content)


def check(picture: Image.Image, facts: decode.Facts, at_least: int | None) -> None:
    """Whether a picture is what the file's facts promise, upright or turned by a quarter."""
    promised = {(facts.width, facts.height), (facts.height, facts.width)}
    if at_least is not None and facts.format in ("JPEG", "MPO"):
        promised |= {
            (math.ceil(width / scale), math.ceil(height / scale))
            for width, height in promised
            for scale in (2, 4, 8)
            if min(width, height) >= at_least
        }
    if picture.mode not in ("L", "RGB") or picture.size not in promised:
        raise AssertionError(f"{facts}: got {picture.mode} {picture.size}")
    picture.tobytes()


def main(seed: int, count: int) -> None:
    """Decodes `count` mutated files."""
    samples = sorted({**encodings(), **dicom_encodings()}.items())
    compressed = sorted(compressed_encodings().items())
    dice = random.Random(seed)
    reasons: Counter[str] = Counter()
    pictures, slowest = 0, (0.0, "")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "image"
        for number in range(count):
            name, data = samples[number % len(samples)]
            if number % SELDOM == 0:
                name, data = compressed[number // SELDOM % len(compressed)]
            path.write_bytes(mutated(data, dice))
            begin = time.perf_counter()
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            at_least = dice.choice((None, 16))
            try:
                picture, facts = decode.decode(path, at_least)
                check(picture, facts, at_least)
                pictures += 1
            except decode.UnreadableImageError as error:
                reasons[error.reason] += 1
            except BaseException:
                print(f"{name}, file {number} of seed {seed}", file=sys.stderr)
                raise
            finally:
                faulthandler.cancel_dump_traceback_later()
            slowest = max(slowest, (time.perf_counter() - begin, f"{name}, file {number}"))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        json.dumps(
            {
                "pictures": pictures,
                "errors": reasons.total(),
                "reasons": reasons,
                "slowest": slowest,
                "memory": memory,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

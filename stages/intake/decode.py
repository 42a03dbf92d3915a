"""Image files as a person sees them: upright, eight bits per channel, on black, grey or RGB.

Of DICOM files see `stages.intake.dicom`, which is imported only where there is one.
"""

import codecs
import contextlib
import errno
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from stages.common.errors import InputError, shown

_PILLOW = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")
FORMATS = (*_PILLOW, "DICOM")
MAX_PIXELS = 40_000_000
"""Nearly three times the largest radiograph of the real set. Decodes in under 700 MB in every
format and mode but WebP, which takes up to 950 MB."""
MIN_SIDE = 32
"""A picture with a shorter side shows no chest."""
DAMAGED = "its DICOM header or image data is damaged or cut short"

BLOCK_ROWS = 64
"""Of a large picture, so many are worked on at once."""
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_IMAGE_ENDINGS = {
    *(".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp"),
    *(".dcm", ".dicom"),
}


class UnreadableImageError(InputError):
    """A file that is no readable image; `reason` says why, without the file's name."""

    def __init__(self, path: Path | None, reason: str) -> None:
        super().__init__(f"{shown(path)}: {reason}" if path else reason)
        self.reason = reason


class RefusedError(ValueError):
    """The reason to refuse an image whose header can be read."""


@dataclass(frozen=True)
class Facts:
    """What a file's header states: format, Pillow mode, width and height in pixels.

    Width and height are as stored, before the picture is turned upright; but Pillow tells those
    of an upright TIFF. For the mode of a DICOM file see `dicom.decode`.
    """

    format: str
    mode: str
    width: int
    height: int


def _is_dicom(file: BinaryIO) -> bool:
    """Whether a file begins as one of DICOM does (PS3.10, 7.1); it then stands at its beginning."""
    file.seek(128)
    mark = file.read(4)
    file.seek(0)
    return mark == b"DICM"


def _why_no_image(file: BinaryIO) -> str:
    """The reason for a file in which Pillow recognises no image."""
    file.seek(0)
    head = file.read(1024)
    if not head:
        return "it is empty (0 bytes)"
    with contextlib.suppress(UnicodeDecodeError):
        # incrementally, because the last character may be cut in two
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
        if all(character.isprintable() or character in "\t\n\r\f" for character in text):
            if text.lstrip().lower().startswith(("<!doctype html", "<html")):
                return "it is a web page, not an image; the download probably failed"
            return "it is text, not an image"
    for name in _PILLOW:
        accepts = Image.OPEN[name][1]
        if accepts is not None and accepts(head):
            return f"it begins as a {name} file does, but its header is damaged or cut short"
    return f"it is not an image in one of the formats read here ({', '.join(FORMATS)})"


def _too_large(pixels: int) -> str:
    return f"it has {pixels:,} pixels; expected at most {MAX_PIXELS:,}, so scale it down"


def check_size(width: int, height: int) -> None:
    """Refuses an image before its pixels are decoded.

    Raises:
        RefusedError: It has over MAX_PIXELS pixels or a side of under MIN_SIDE.
    """
    if width * height > MAX_PIXELS:
        raise RefusedError(_too_large(width * height))
    if min(width, height) < MIN_SIDE:
        raise RefusedError(
            f"it has {width} x {height} pixels; expected at least {MIN_SIDE} x {MIN_SIDE}"
        )


def _check_header(image: Image.Image) -> None:
    """Refuses an image before its pixels are decoded."""
    check_size(*image.size)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a camera's JPEG, with its preview as a second frame
        raise RefusedError(f"it holds {frames} pictures; expected one")


def _to_grey(values: np.ndarray) -> Image.Image:
    """Integers or floats of a wide range, (height, width), as grey from 0 to 255.

    Fractions from 0 to 1 and integers of 8 or 16 bits are scaled by their full range, as an
    image viewer does; anything else from its own minimum to its maximum.
    """
    if not np.isfinite(values).all():
        raise RefusedError("it has pixels that are not finite numbers (NaN, infinity)")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 65535:
        bottom, top = low, high
    elif values.dtype.kind == "f" and high <= 1:
        bottom, top = 0.0, 1.0
    else:
        bottom, top = 0.0, 255.0 if high <= 255 and values.dtype.itemsize > 2 else 65535.0
    grey = np.empty(values.shape, np.uint8)
    for begin in range(0, len(values), BLOCK_ROWS):  # because 64-bit floats take much memory
        rows = slice(begin, begin + BLOCK_ROWS)
        grey[rows] = np.rint((values[rows] - np.float64(bottom)) * (255 / ((top - bottom) or 1)))
    return Image.fromarray(grey)


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    """A new image of mode L or RGB from one of any mode; transparency is black, as air is."""
    if image.mode.startswith(("I", "F")):
        return _to_grey(np.asarray(image))
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _decoded(file: BinaryIO, at_least: int | None) -> tuple[Image.Image, Facts]:
    """What `decode` gives, by Pillow."""
    with Image.open(file, formats=_PILLOW) as image:
        facts = Facts(image.format or "", image.mode, *image.size)
        _check_header(image)
        if at_least is not None:
            image.draft(None, (at_least, at_least))
        image.load()  # also turns a TIFF upright and reads a PNG's EXIF block
        picture = _grey_or_rgb(image)
        turn = None
        with contextlib.suppress(Exception):  # half a dozen kinds come of damaged EXIF blocks
            turn = _TURNS.get(int(image.getexif()[_ORIENTATION_TAG]))
        return picture if turn is None else picture.transpose(turn), facts


def decode(source: Path | BinaryIO, at_least: int | None = None) -> tuple[Image.Image, Facts]:
    """Decodes an image file as a person would expect to see it.

    Args:
        source: Where the file is, or the file itself, in which one can seek. It is not closed.
        at_least: JPEGs may be decoded at a half, a quarter or an eighth of their size, as long
            as both sides keep this many pixels (ITU-T T.81's DCT scaled inside libjpeg, which is
            an exact low-pass and much faster); None decodes all pixels.

    Returns:
        The upright picture in mode L or RGB, and the file's facts.

    Raises:
        UnreadableImageError: The file is no image of a format in FORMATS, is damaged, animated,
            has over MAX_PIXELS pixels or a side of under MIN_SIDE, or is a DICOM file that
            `dicom.decode` refuses. Its text names the file where `source` is a path.
        InputError: An annotation is burned into a DICOM file's picture, and params.yaml, which
            says what to do then, can't be used.
        OSError: The file can't be read at all.
        MemoryError: There is too little memory for it.
    """
    path = source if isinstance(source, Path) else None
    opened = source.open("rb") if isinstance(source, Path) else contextlib.nullcontext(source)
    with opened as stream:
        # in a pipe one can't seek
        file = stream if stream.seekable() else io.BytesIO(stream.read())
        try:
            is_dicom = _is_dicom(file)
            if is_dicom:
                from stages.intake import dicom

                return dicom.decode(file)
            return _decoded(file, at_least)
        except (MemoryError, InputError):
            raise
        except RefusedError as refusal:
            reason = str(refusal)
        except UnidentifiedImageError:
            reason = _why_no_image(file)
        except Image.DecompressionBombError as error:  # raised before there is an image to ask
            reason = _too_large(int(re.findall(r"\d+", str(error))[0]))
        except Exception as error:
            # On damaged data the decoders raise nearly anything: OSError, SyntaxError,
            # ValueError, struct.error, EOFError. An OSError with a number is the machine's, except
            # for EINVAL, which comes of seeking to where a damaged header points.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            detail = " ".join(str(error).split()) or type(error).__name__
            reason = f"its image data is damaged ({detail})"
            if is_dicom:  # the detail may be somebody's name
                reason = DAMAGED
    raise UnreadableImageError(path, reason)


def _looks_like_image(path: Path) -> bool:
    """Whether a file's name ends as an image's, or not at all and it begins as a DICOM file.

    A number after the last dot, as in names that are UIDs, is no ending.
    """
    if path.suffix.lower() in _IMAGE_ENDINGS:
        return path.is_file()
    if path.suffix.strip(".0123456789") or path.name == "DICOMDIR" or not path.is_file():
        return False
    with contextlib.suppress(OSError), path.open("rb") as file:
        return _is_dicom(file)
    return False


def image_files(folder: Path) -> list[Path]:
    """The files below a folder that look like images by their names or beginnings, sorted.

    Hidden files and folders (macOS writes a `._01.jpeg` beside 01.jpeg) are passed over, and so is
    the index of a DICOM medium; for a file it gives none.
    """
    return sorted(
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and _looks_like_image(path)
    )


def both(source: Path | BinaryIO, size: int) -> tuple[Image.Image, Image.Image]:
    """What `decode` gives to make `resized` of, and what `resized` gives.

    Raises:
        UnreadableImageError: See `decode`.
    """
    picture, _ = decode(source, at_least=3 * size // 2)
    small = picture.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return picture, small.convert("RGB")


def resized(source: Path | BinaryIO, size: int) -> Image.Image:
    """Decodes a file to `size` x `size` pixels, RGB; the aspect is not kept.

    Lanczos, from at least one and a half times that size where the file has it. `preprocess` and
    `predict` both use this, so that a network is asked about what it was trained on.

    Raises:
        UnreadableImageError: See `decode`.
    """
    return both(source, size)[1]

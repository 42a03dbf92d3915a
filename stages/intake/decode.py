"""Image files as a person sees them: upright, eight bits a channel, on black, RGB."""

import codecs
import errno
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from stages.common.errors import InputError, shown

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")
MAX_PIXELS = 40_000_000
"""Nearly three times the largest radiograph of the real set. Decodes in under 700 MB in every
format and mode but WebP, which takes up to 950 MB."""
MIN_SIDE = 32
"""A picture with a shorter side shows no chest."""

_BEGINNINGS = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "BMP": (b"BM",),
    "GIF": (b"GIF8",),
    "WEBP": (b"RIFF",),
}
_ROWS = 64
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}


class UnreadableImageError(InputError):
    """A file that is no readable image. `reason` says why, without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{shown(path)}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class Facts:
    """What a file says of itself: format and Pillow mode, width and height in pixels.

    Width and height are as stored, before the picture is turned upright; those of a TIFF are
    upright, since Pillow gives no others.
    """

    format: str
    mode: str
    width: int
    height: int


def _what_it_is_instead(path: Path) -> str:
    """A reason for a file in which Pillow finds no image."""
    with path.open("rb") as file:
        head = file.read(1024)
    if not head:
        return "it is empty (0 bytes)"
    if _is_text(head):
        text = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
        if text.startswith((b"<!doctype html", b"<html")):
            return "it is a web page, not an image; the download probably failed"
        return "it is text, not an image"
    for name, beginnings in _BEGINNINGS.items():
        if head.startswith(beginnings):
            return f"it begins as a {name} file does, but its header is damaged or cut short"
    return f"it is not an image in one of the formats read here ({', '.join(FORMATS)})"


def _is_text(head: bytes) -> bool:
    """Whether the beginning of a file is text in UTF-8."""
    try:
        # not final: the last character may be cut in two
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\n\r\f\ufeff" for character in text)


def _stretched(values: np.ndarray, path: Path) -> Image.Image:
    """Integers or floats of a wide range as grey from 0 to 255.

    Fractions from 0 to 1 and integers of 8 or 16 bits are scaled by their full range, as an
    image viewer does; anything else from its own minimum to its maximum.
    """
    if not np.isfinite(values).all():
        raise UnreadableImageError(
            path, "it has pixels that are not finite numbers (NaN, infinity)"
        )
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 65535:
        bottom, top = low, high
    elif values.dtype.kind == "f" and high <= 1:
        bottom, top = 0.0, 1.0
    else:
        bottom, top = 0.0, 255.0 if high <= 255 and values.dtype.itemsize > 2 else 65535.0
    grey = np.empty(values.shape, np.uint8)
    for begin in range(0, len(values), _ROWS):  # some at a time: 64-bit floats take much memory
        rows = slice(begin, begin + _ROWS)
        grey[rows] = np.rint((values[rows] - np.float64(bottom)) * (255 / ((top - bottom) or 1)))
    return Image.fromarray(grey)


def _grey_or_rgb(image: Image.Image, path: Path) -> Image.Image:
    """Any Pillow mode as L or RGB; what is transparent shows black, as air does."""
    if image.mode.startswith(("I", "F")):
        return _stretched(np.asarray(image), path)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            image = Image.alpha_composite(black, image)
        return image.convert("RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or the EXIF block is damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow's EXIF parser raises half a dozen kinds on damaged blocks
        return 1


def decode(path: Path, at_least: int | None = None) -> tuple[Image.Image, Facts]:
    """Decodes an image file as a person would expect to see it.

    Args:
        path: The file.
        at_least: JPEGs may be decoded at a half, a quarter or an eighth of their size, as long
            as both sides keep this many pixels (ITU-T T.81's DCT scaled inside libjpeg, which is
            an exact low-pass and much faster); None decodes all pixels.

    Returns:
        The upright picture in mode L or RGB, and the file's facts.

    Raises:
        UnreadableImageError: The file is no image of a format in FORMATS, is damaged, animated,
            has over MAX_PIXELS pixels or a side of under MIN_SIDE.
        OSError: The file can't be read at all.
        MemoryError: There is too little memory for it.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            facts = Facts(image.format or "", image.mode, *image.size)
            _check_size(path, facts)
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise UnreadableImageError(
                    path, f"it holds {getattr(image, 'n_frames', 1)} pictures; expected one"
                )
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            image.load()
            picture = _grey_or_rgb(image, path)
            # after loading, which turns a TIFF upright and takes the orientation away, and is
            # when a PNG's EXIF block is found
            for turn in _UPRIGHT.get(_orientation(image), ()):
                picture = picture.transpose(turn)
            return picture.copy() if picture is image else picture, facts
    except (InputError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError(path, _what_it_is_instead(path)) from None
    except Image.DecompressionBombError as error:
        found = re.search(r"\d+", str(error))  # Pillow refuses before it gives an image
        pixels = f"{int(found[0]):,}" if found else "far too many"
        raise UnreadableImageError(path, _too_large(pixels)) from None
    except Exception as error:
        # On damaged data Pillow's decoders raise nearly anything: OSError, SyntaxError,
        # ValueError, struct.error, EOFError. An OSError with a number is the machine's, except
        # for EINVAL, which comes of seeking to where a damaged header points.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        detail = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(path, f"its image data is damaged ({detail})") from None


def _too_large(pixels: str) -> str:
    return f"it has {pixels} pixels; expected at most {MAX_PIXELS:,}, so scale it down"


def _check_size(path: Path, facts: Facts) -> None:
    pixels = facts.width * facts.height
    if pixels > MAX_PIXELS:
        raise UnreadableImageError(path, _too_large(f"{pixels:,}"))
    if min(facts.width, facts.height) < MIN_SIDE:
        raise UnreadableImageError(
            path,
            f"it has {facts.width} x {facts.height} pixels; "
            f"expected at least {MIN_SIDE} x {MIN_SIDE}",
        )


def resized(path: Path, size: int) -> Image.Image:
    """Decodes a file to what the network gets: `size` x `size` pixels, RGB, aspect not kept.

    Lanczos, from at least one and a half times that where the file has that much. The same
    function serves `preprocess` and `predict`.

    Raises:
        UnreadableImageError: see `decode`.
    """
    picture, _ = decode(path, at_least=3 * size // 2)
    small = picture.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return small.convert("RGB")

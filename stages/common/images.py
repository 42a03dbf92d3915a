"""Image files as a person sees them: upright, eight bits a channel, on black, RGB."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stages.common.errors import InputError

SIZE = 200
"""Width and height, in pixels, of every image that the network gets."""
FRAME = 40
"""Pixels: what is left of such an image without a frame of this width is taken for the chest."""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")
MAX_PIXELS = 64_000_000
"""Four times the largest radiograph of the real set; decodes in under 400 MB."""
MIN_SIDE = 32
"""A picture with a shorter side shows no chest."""

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
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class Facts:
    """What a file says of itself: format and Pillow mode, width and height as stored, in pixels."""

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
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html")):
        return "it is a web page, not an image; the download probably failed"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        return "it is text, not an image"
    return f"it is not an image in one of the formats read here ({', '.join(FORMATS)})"


def _stretched(values: np.ndarray, path: Path) -> Image.Image:
    """Integers or floats of a wide range as grey from 0 to 255.

    Fractions from 0 to 1 and integers of 8 or 16 bits are scaled by their full range, as an
    image viewer does; anything else from its own minimum to its maximum.
    """
    if not np.isfinite(values).all():
        raise UnreadableImageError(path, "it has pixels that are not finite numbers (NaN)")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 65535:
        bottom, top = low, high
    elif values.dtype.kind == "f" and high <= 1:
        bottom, top = 0.0, 1.0
    else:
        bottom, top = 0.0, 255.0 if high <= 255 and values.dtype != np.uint16 else 65535.0
    scaled = (values.astype(np.float32) - bottom) * (255 / ((top - bottom) or 1))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _grey_or_rgb(image: Image.Image, path: Path) -> Image.Image:
    """Any Pillow mode as L or RGB; what is transparent shows black, as air does."""
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith(("I", "F")):
        return _stretched(np.asarray(image), path)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            image = Image.alpha_composite(black, image)
    return image.convert("RGB")


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
            orientation = _orientation(image)
            image.load()
            picture = _grey_or_rgb(image, path)
            for turn in _UPRIGHT.get(orientation, ()):
                picture = picture.transpose(turn)
            return picture.copy() if picture is image else picture, facts
    except InputError:
        raise
    except Image.UnidentifiedImageError:
        raise UnreadableImageError(path, _what_it_is_instead(path)) from None
    except Image.DecompressionBombError:
        raise UnreadableImageError(path, _too_large("far more")) from None
    except Exception as error:
        # On damaged data Pillow's decoders raise nearly anything: OSError, SyntaxError,
        # ValueError, struct.error, EOFError. An OSError with a number is the machine's.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        detail = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(path, f"its image data is damaged ({detail})") from None


def _too_large(pixels: str) -> str:
    return f"it has {pixels} pixels than the {MAX_PIXELS:,} that are read; scale it down"


def _check_size(path: Path, facts: Facts) -> None:
    pixels = facts.width * facts.height
    if pixels > MAX_PIXELS:
        raise UnreadableImageError(path, _too_large(f"{pixels:,}, more"))
    if min(facts.width, facts.height) < MIN_SIDE:
        raise UnreadableImageError(
            path,
            f"it has {facts.width} x {facts.height} pixels; "
            f"expected at least {MIN_SIDE} x {MIN_SIDE}",
        )


def for_network(path: Path) -> Image.Image:
    """Decodes a file to what the network gets: SIZE x SIZE pixels, RGB, aspect not kept.

    Lanczos, from at least twice SIZE where the file has that much (the same function serves
    `preprocess` and `predict`).

    Raises:
        UnreadableImageError: see `decode`.
    """
    picture, _ = decode(path, at_least=2 * SIZE)
    small = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return small.convert("RGB")

"""Radiographs in DICOM files, as a viewer shows them at first: in eight bits, air black.

The steps are those of DICOM PS3.4 N.2: modality LUT or rescaling, VOI LUT or window (the first
one), and MONOCHROME1 turned about because of its name alone, since PresentationLUTShape is often
wrong. Each value that a pixel may have goes through them once; the pixels look theirs up.

A header tells who a person is. So only the tags in _TAGS are read, and nothing that a file or
pydicom says is passed on, not even in errors; PatientID serves for `pseudonyms` alone.
"""

import hashlib
import hmac
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from io import SEEK_CUR
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pydicom.config
from PIL import Image
from pydicom import Dataset, uid
from pydicom.encaps import get_frame
from pydicom.filereader import read_partial
from pydicom.tag import Tag

from stages.common import params
from stages.intake.decode import (
    BLOCK_ROWS,
    DAMAGED,
    Facts,
    RefusedError,
    UnreadableImageError,
    check_size,
)
from stages.intake.settings import Audit

_MODALITIES = ("CR", "DX", "")  # computed and digital radiography, or not told
_NUMBERS = ("Columns", "Rows", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
_TAGS = (
    *("Modality", "BurnedInAnnotation", "NumberOfFrames", "PhotometricInterpretation", *_NUMBERS),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
)
_IDENTITY = ("IssuerOfPatientID", "PatientID")
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_UNCOMPRESSED = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
_COMPRESSED = (
    *(uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1),
    *(uid.JPEGLSLossless, uid.JPEGLSNearLossless, uid.JPEG2000Lossless, uid.JPEG2000),
    uid.RLELossless,
)
_PIXEL_DATA = Tag("PixelData")
_FIRST_PIXEL_DATA = Tag("FloatPixelData")  # of three kinds
_END_OF_FRAMES = b"\xfe\xff\xdd\xe0\0\0\0\0"
_HEADER_BYTES = 1 << 20
_DECOMPRESS = Path(__file__).with_name("decompress.py")

Identity = tuple[bytes, bytes, bytes]
"""A digest of a file, its IssuerOfPatientID and its PatientID. Not to be shown or kept."""

# What pydicom remarks may hold what stands in a file.
warnings.filterwarnings("ignore", module=r"pydicom|stages\.intake\.dicom")
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


class _HeaderOf:
    """A file of which pydicom may read _HEADER_BYTES; what it passes over does not count.

    Without a bound a sequence of ten million empty items would take minutes and gigabytes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._read, self._left = file.read, _HEADER_BYTES
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int | None = None) -> bytes:
        if size is None:  # which is how pydicom begins to inflate, to whatever size
            raise RefusedError(
                "it is a deflated DICOM file; expected one that is not, so write it uncompressed"
            )
        self._left -= size
        if self._left < 0:
            raise ValueError(size)
        return self._read(size)


def _header(file: BinaryIO, tags: Sequence[str]) -> tuple[Dataset, str | None]:
    """Reads some tags of a file, which then stands at its pixels.

    Returns:
        The tags, and the value representation of the pixel data; None where the file states none.

    Raises:
        RefusedError: It has no pixel data, or is deflated.
        Exception: Of many kinds: its header is damaged.
    """
    seen: list[tuple[int, str | None]] = [(0, None)]

    def at_pixels(tag: int, representation: str | None, _: int) -> bool:
        seen.append((tag, representation))
        return bool(tag >= _FIRST_PIXEL_DATA)

    bounded = cast(BinaryIO, _HeaderOf(file))
    header = read_partial(bounded, at_pixels, specific_tags=[Tag(tag) for tag in tags])
    tag, representation = seen[-1]
    if tag != _PIXEL_DATA:
        raise RefusedError(
            "it is a DICOM file without a picture, or cut short; expected a radiograph, "
            "so leave it out or fetch it again"
        )
    file.seek(8 if representation is None else 12, SEEK_CUR)
    return header, representation


def _check(header: Dataset) -> None:
    """Refuses what is no single grey radiograph, or can't be decoded, before it is."""
    modality = str(header.get("Modality") or "").strip()
    if modality not in _MODALITIES:
        found = modality if re.fullmatch("[A-Z]{2}", modality) else "another one"
        raise RefusedError(
            f"its modality is {found}; expected CR or DX, a radiograph, or none given, "
            "so leave it out"
        )
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise RefusedError(f"it holds {frames} pictures; expected one")
    photometric = header.PhotometricInterpretation
    if photometric not in _GREY:
        found = photometric if photometric in _COLOUR else "of another kind"
        raise RefusedError(
            f"its pixels are {found}; expected grey ones, {' or '.join(_GREY)}, as radiographs "
            "have, so leave it out"
        )
    numbers = [header[name].value for name in _NUMBERS]
    if not all(isinstance(number, int) for number in numbers):  # a file may call them a name
        raise TypeError
    columns, rows, allocated, stored, high, _ = numbers
    check_size(columns, rows)
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise RefusedError(
            f"it stores {stored} bits of a pixel in {allocated}; expected up to 16 in 8 or 16, "
            "so leave it out"
        )
    if high != stored - 1:
        raise RefusedError(
            f"the highest bit of its pixels is number {high}; expected {stored - 1}, "
            "so write it anew with the bits at the lower end"
        )
    syntax = header.file_meta.TransferSyntaxUID
    if syntax not in (*_UNCOMPRESSED, *_COMPRESSED):
        found = syntax.name if syntax.type == "Transfer Syntax" else "unknown"
        raise RefusedError(
            f"its transfer syntax is {found}; expected an uncompressed one, JPEG, JPEG-LS, "
            "JPEG 2000 or RLE, so write it uncompressed"
        )
    burned_in = str(header.get("BurnedInAnnotation") or "").strip() == "YES"
    # the parameter is read here, so that all parts of the program decide alike
    if burned_in and params.load(Audit).burned_in_annotation == "refuse":
        raise RefusedError(
            "its header says that text is burned into the picture (BurnedInAnnotation), perhaps a "
            "name; expected none, so black it out, or take such files with "
            "audit.burned_in_annotation = accept in params.yaml"
        )


def _stored_values(file: BinaryIO, header: Dataset, representation: str | None) -> np.ndarray:
    """The pixels as they are stored, without a sign: (rows, columns), uint8 or uint16.

    Args:
        file: Stands at the pixels.
        header: What `_check` lets through.
        representation: Of the pixel data.

    Raises:
        Exception: Of many kinds: there are too few, or they are damaged.
    """
    rows, columns, bits = header.Rows, header.Columns, header.BitsAllocated
    size = rows * columns * bits // 8
    syntax = header.file_meta.TransferSyntaxUID
    if syntax in _UNCOMPRESSED:
        data = file.read(size + size % 2)
        if syntax == uid.ExplicitVRBigEndian and representation == "OW":  # also of 8 bits
            data = np.frombuffer(data, ">u2").astype("<u2").tobytes()
    else:
        frames = file.read(2 * size + _HEADER_BYTES)
        if _END_OF_FRAMES not in frames:
            raise EOFError
        numbers = (rows, columns, bits, header.BitsStored)
        data = subprocess.run(
            [sys.executable, "-I", _DECOMPRESS, syntax, *map(str, numbers)],
            input=get_frame(frames, 0, number_of_frames=1),
            capture_output=True,
            check=True,
        ).stdout
        bits = 8 * len(data) // (rows * columns)
    values = np.frombuffer(data, f"<u{bits // 8}", rows * columns).reshape(rows, columns)
    used: np.ndarray = values & np.array(2**header.BitsStored - 1).astype(values.dtype)
    return used


def _first(header: Dataset, name: str, default: float = np.nan) -> float:
    """The first of the numbers of a tag, or the default where there is none."""
    values = np.ravel(header.get(name)).tolist()
    return default if values[:1] in ([], [None], [""]) else float(values[0])


def _looked_up(values: np.ndarray, table: Dataset, big_endian: bool) -> tuple[np.ndarray, int]:
    """Values through a LUT (PS3.3 C.11.1.1.1), and the number of bits that it gives.

    `pydicom.pixels.apply_voi_lut` takes entry 0 for 256 where entries have eight bits.
    """
    count, first, bits = table.LUTDescriptor
    count = count or 2**16
    if not 1 <= bits <= 16:
        raise ValueError(bits)
    words = table.LUTData
    if isinstance(words, bytes):
        words = np.frombuffer(words, ">u2" if big_endian else "<u2")
    entries = np.array(words, "<u2")
    if len(entries) < count and bits == 8:
        entries = entries.view(np.uint8)  # two in a word
    places = np.clip(np.rint(values) - first, 0, count - 1).astype(int)
    return entries[:count][places], bits


def _windowed(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Values through a window (PS3.3 C.11.2.1.2 and C.11.2.1.3), from 0 to 1."""
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values - centre) / width)))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    shares = (values - centre) / (width or 1) + 0.5
    shares = np.where(values <= centre - width / 2, 0, shares)
    return np.where(values > centre + width / 2, 1, shares)


def _blocks(pixels: np.ndarray) -> Iterator[slice]:
    """Rows at a time: NumPy takes eight bytes for each pixel that it looks up."""
    for begin in range(0, len(pixels), BLOCK_ROWS):
        yield slice(begin, begin + BLOCK_ROWS)


def _greys(header: Dataset, stored: np.ndarray) -> np.ndarray:
    """The grey of each value that a pixel may have.

    Without a LUT or window, pictures of at most eight bits are shown as they are, like a PNG. Of
    others the range from the least to the greatest value that a pixel has is spread, as most
    viewers do: files often claim 16 bits and use 12 of them, and would be all but black.

    Args:
        header: What `_check` lets through.
        stored: The pixels.

    Returns:
        uint8, (2 ** bits stored), 0 to 255.

    Raises:
        Exception: Of many kinds: a LUT or a number is damaged.
    """
    bits, big_endian = header.BitsStored, not header.original_encoding[1]
    values = np.arange(2**bits)
    if header.PixelRepresentation:
        values = np.where(values < 2 ** (bits - 1), values, values - 2**bits)
    if tables := header.get("ModalityLUTSequence"):
        values, _ = _looked_up(values, tables[0], big_endian)
    else:
        slope, intercept = _first(header, "RescaleSlope", 1), _first(header, "RescaleIntercept", 0)
        values = values * slope + intercept
    centre, width = _first(header, "WindowCenter"), _first(header, "WindowWidth")
    function = str(header.get("VOILUTFunction") or "").strip()
    if function not in ("LINEAR_EXACT", "SIGMOID"):
        function = "LINEAR"
    if tables := header.get("VOILUTSequence"):
        entries, depth = _looked_up(values, tables[0], big_endian)
        shares = entries / (2**depth - 1)
    elif not np.isnan(centre) and (width >= 1 or (width > 0 and function != "LINEAR")):
        shares = _windowed(values, centre, width, function)
    else:
        shown = values
        if bits > 8:
            occurs = np.zeros(len(values), bool)
            for rows in _blocks(stored):
                occurs[stored[rows]] = True
            shown = values[occurs]
        low, high = shown.min(), shown.max()
        shares = (values - low) / ((high - low) or 1)
    if not np.isfinite(shares).all():
        raise ValueError
    greys: np.ndarray = np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)
    if header.PhotometricInterpretation == "MONOCHROME1":
        greys = 255 - greys
    return greys


def decode(file: BinaryIO) -> tuple[Image.Image, Facts]:
    """Decodes a DICOM file; `stages.intake.decode.decode` calls this.

    Args:
        file: At its beginning.

    Returns:
        The picture in mode L, and the file's facts; the mode in them is the photometric
        interpretation and the bits stored, such as "MONOCHROME2;12".

    Raises:
        RefusedError: It is no radiograph that can be decoded; see `_check`.
        Exception: Of many kinds: it is damaged. The text may hold what stands in the file.
    """
    header, representation = _header(file, _TAGS)
    _check(header)
    stored = _stored_values(file, header, representation)
    with np.errstate(all="ignore"):
        greys = _greys(header, stored)
    picture = np.empty(stored.shape, np.uint8)
    for rows in _blocks(stored):
        picture[rows] = greys[stored[rows]]
    mode = f"{header.PhotometricInterpretation};{header.BitsStored}"
    return Image.fromarray(picture), Facts("DICOM", mode, header.Columns, header.Rows)


def identity(path: Path) -> Identity:
    """What `pseudonyms` needs to know of a file that `decode` takes.

    Raises:
        UnreadableImageError: Its PatientID is longer than a header may be.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "blake2b").digest()
        file.seek(0)
        try:
            header, _ = _header(file, _IDENTITY)
        except ValueError:
            raise UnreadableImageError(path, DAMAGED) from None
    values = [getattr(header.get_item(Tag(tag)), "value", None) for tag in _IDENTITY]
    issuer, number = [value.strip(b" \0") if isinstance(value, bytes) else b"" for value in values]
    return digest, issuer, number


def pseudonyms(identities: Sequence[Identity | None]) -> list[str]:
    """The same word for all files of a person, and for nobody else's.

    It is an HMAC-SHA256 of IssuerOfPatientID and PatientID, whose key is made of the bytes of all
    files. So it is the same each time, no secret has to be kept, and who has the words alone, or
    the SHA-256 of every file too, can't find the PatientID by trying them all.

    Args:
        identities: Of all files of a set; None for one that is not DICOM.

    Returns:
        16 hexadecimal digits each, or "" where there is no PatientID. All are "" where all files
        have the same: that is what some programs put in the place of the names of many.
    """
    known = [each for each in identities if each]
    key = hashlib.blake2b(b"".join(sorted(digest for digest, _, _ in known))).digest()
    if len({each and each[1:] for each in identities}) < 2:
        return [""] * len(identities)

    def pseudonym(issuer: bytes, number: bytes) -> str:
        message = len(issuer).to_bytes(4, "big") + issuer + number
        return hmac.new(key, message, "sha256").hexdigest()[:16]

    return [pseudonym(*each[1:]) if each and each[2] else "" for each in identities]

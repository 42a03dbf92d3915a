"""Decompresses the pixels of one DICOM file; run by `dicom`, in a process of its own.

usage: python decompress.py SYNTAX ROWS COLUMNS BITS_ALLOCATED BITS_STORED < FRAME > PIXELS

GDCM decodes all the ways in which radiographs are compressed, but on damaged data its C++ ends the
process (an exception that nobody catches, a write beyond the end of its memory): one in a hundred
mutated files did. So it gets its own, with limits to memory and time. Starting it takes 50 ms: it
imports nothing else.
"""

import resource
import struct
import sys

import gdcm

_BYTES = 1 << 30  # twice of what 40 million pixels take
_SECONDS = 3
_PIXELS_PER_SECOND = 2_000_000  # a quarter of the speed of JPEG 2000, the slowest
_JPEG_2000 = b"\xff\x4f\xff\x51"  # SOC and SIZ
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xF7}  # SOF markers of JPEG and JPEG-LS


def shape_in(frame: bytes) -> tuple[int, int, int, int]:
    """What a compressed frame says of itself (ITU-T T.81 B.2.2, T.87 C.2.2, T.800 A.5.1).

    Returns:
        Bits of a sample, rows, columns, and samples of a pixel.
    """
    if frame.startswith(b"\xff\xd8"):
        place = 2
        while frame[place + 1] not in _FRAMES:
            place += 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
        precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, place + 4)
        return precision, rows, columns, samples
    place = frame.index(_JPEG_2000)
    right, bottom, left, top = struct.unpack_from(">4I", frame, place + 8)
    samples, precision = struct.unpack_from(">HB", frame, place + 40)
    return (precision & 0x7F) + 1, bottom - top, right - left, samples


def decompress(
    frame: bytes, syntax: str, rows: int, columns: int, allocated: int, stored: int
) -> bytes:
    """The pixels of a grey frame, row by row, in 8 or 16 bits, little endian.

    Raises:
        ValueError: The frame is not of that size.
    """
    kind = gdcm.TransferSyntax.GetTSType(syntax)
    if kind != gdcm.TransferSyntax.RLELossless:
        stored, *size = shape_in(frame)  # headers often misstate the bits
        if size != [rows, columns, 1]:
            raise ValueError(size)
        allocated = 8 if stored <= 8 else 16
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.MONOCHROME2
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    image.SetTransferSyntax(gdcm.TransferSyntax(kind))
    image.SetPixelFormat(gdcm.PixelFormat(1, allocated, stored, stored - 1, 0))
    pixels: str = image.GetBuffer()
    return pixels.encode("utf-8", "surrogateescape")


def main() -> None:
    """Reads the command line and the frame, writes the pixels."""
    syntax, *numbers = sys.argv[1:]
    rows, columns, allocated, stored = map(int, numbers)
    seconds = _SECONDS + rows * columns // _PIXELS_PER_SECOND
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # which would hold the picture
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if sys.platform == "linux":  # macOS refuses a limit below what the process has mapped
        resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    frame = sys.stdin.buffer.read()
    sys.stdout.buffer.write(decompress(frame, syntax, rows, columns, allocated, stored))


if __name__ == "__main__":
    main()

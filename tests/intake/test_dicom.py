import csv
import hashlib
import io
import itertools
import json
import logging
import re
import subprocess
import sys
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from pydicom.pixels.utils import pixel_array

from stages.intake import decode, dicom
from stages.intake.decode import DAMAGED, Facts, UnreadableImageError
from tests import made, made_dicom

GREY = np.asarray(made.picture(seed=7))
TWELVE = GREY.astype(np.uint16) * 16
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def shown(data: bytes) -> np.ndarray:
    """What a DICOM file shows, as integers."""
    picture, facts = decode.decode(io.BytesIO(data))
    assert (picture.mode, facts.format) == ("L", "DICOM")
    return np.asarray(picture).astype(int)


def shown_of(pixels: np.ndarray, bits: int | None = None, **tags: Any) -> np.ndarray:
    return shown(made_dicom.picture(pixels, bits, **tags))


def reason(data: bytes) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        decode.decode(io.BytesIO(data))
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


def spread(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """From 0 for `low` and less to 255 for `high` and more."""
    return np.rint(255 * np.clip((values.astype(float) - low) / (high - low), 0, 1)).astype(int)


# ---------------------------------------------------------------------------------- what is shown


def test_eight_bits_are_shown_as_they_are() -> None:
    dark = GREY // 3 + 9
    picture, facts = decode.decode(io.BytesIO(made_dicom.picture(dark)))
    assert facts == Facts("DICOM", "MONOCHROME2;8", 96, 80)
    assert (np.asarray(picture) == dark).all()


def test_monochrome1_is_turned_about_once_and_by_its_name_alone() -> None:
    expected = 255 - GREY.astype(int)
    for shape in (None, "INVERSE", "IDENTITY"):
        dark, light = (
            shown_of(GREY, photometric=f"MONOCHROME{number}", PresentationLUTShape=shape)
            for number in (1, 2)
        )
        assert (dark == expected).all()
        assert (light == GREY).all()
    window: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 1000}
    straight = shown_of(RAMP, 12, **window)
    assert (shown_of(RAMP, 12, photometric="MONOCHROME1", **window) == 255 - straight).all()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("pixels", "bits"),
    [
        (TWELVE[:, 10:] // 3 + 500, 12),
        (TWELVE, 16),
        (GREY.astype(np.uint16) * 257, 16),
        (TWELVE.astype(np.int16) - 2048, 12),
        (GREY.astype(np.int16) - 700, 16),
    ],
)
def test_more_bits_are_spread_from_the_least_to_the_greatest_value(
    pixels: np.ndarray, bits: int, photometric: str
) -> None:
    expected = spread(pixels, pixels.min(), pixels.max())
    inverted = photometric == "MONOCHROME1"
    found = shown_of(pixels, bits, photometric=photometric)
    assert (found == (255 - expected if inverted else expected)).all()


def test_a_blank_picture() -> None:
    assert np.unique(shown_of(np.full((40, 40), 77, np.uint16), 12)).tolist() == [0]


def test_eight_signed_bits_are_shown_from_their_least_to_their_greatest() -> None:
    assert (shown_of(GREY.view(np.int8) ^ -128) == GREY).all()


@pytest.mark.parametrize("slope", [1, 0.25, 3, -1])
def test_rescaled_values_are_windowed(slope: float) -> None:
    values = RAMP * float(slope) - 1000
    tags = {"RescaleSlope": slope, "RescaleIntercept": -1000, "WindowCenter": -400}
    expected = spread(values, -400.5 - 299.5 / 2, -400.5 + 299.5 / 2)
    assert (shown_of(RAMP, 12, WindowWidth=300.5, **tags) == expected).all()


@pytest.mark.parametrize(
    ("function", "centre", "width"),
    [
        (None, 1024, 502),
        ("LINEAR", 1024, 502),
        ("something else", 1024, 502),
        ("LINEAR_EXACT", 1023.5, 501),
    ],
)
def test_the_first_window_counts(function: str | None, centre: float, width: float) -> None:
    window = {"WindowCenter": [centre, 40], "WindowWidth": [width, 80]}
    found = shown_of(RAMP, 12, VOILUTFunction=function, **window)
    assert (found == spread(RAMP, 773, 1274)).all()


def test_a_sigmoid_window() -> None:
    found = shown_of(RAMP, 12, WindowCenter=2000, WindowWidth=800, VOILUTFunction="SIGMOID")
    expected = 255 / (1 + np.exp(-4 * (RAMP - 2000.0) / 800))
    assert (found == np.rint(expected)).all()
    assert found[2000 // 64, 2000 % 64] == 128


def test_a_window_of_one_is_a_step() -> None:
    assert (shown_of(RAMP, 12, WindowCenter=50, WindowWidth=1) == 255 * (RAMP >= 50)).all()
    assert (shown_of(RAMP, 12, WindowCenter=49.5, WindowWidth=1) == 255 * (RAMP >= 50)).all()


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": 50, "WindowWidth": 0},
        {"WindowCenter": 50, "WindowWidth": -5},
        {"WindowCenter": 50, "WindowWidth": 0.5},
        {"WindowCenter": 50},
        {"WindowWidth": 50},
        {"WindowCenter": "", "WindowWidth": ""},
        {"WindowCenter": 0, "WindowWidth": 0, "VOILUTFunction": "LINEAR_EXACT"},
    ],
)
def test_a_window_that_is_none_is_passed_over(window: dict[str, Any]) -> None:
    assert (shown_of(RAMP, 12, **window) == spread(RAMP, 0, 4095)).all()


@settings(max_examples=60, deadline=None)
@given(
    bits=st.integers(8, 16),
    signed=st.booleans(),
    slope=st.floats(0.01, 100),
    intercept=st.floats(-5000, 5000),
    centre=st.floats(-40000, 70000),
    width=st.floats(1, 70000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    seed=st.integers(0, 1000),
)
def test_windows_are_those_of_pydicom(
    bits: int,
    signed: bool,
    slope: float,
    intercept: float,
    centre: float,
    width: float,
    function: str,
    seed: int,
) -> None:
    low = -(2 ** (bits - 1)) if signed else 0
    dtype = np.dtype(f"{'ui'[signed]}{1 if bits == 8 else 2}")
    pixels = np.random.default_rng(seed).integers(low, low + 2**bits, (32, 40)).astype(dtype)
    data = made_dicom.picture(
        pixels,
        bits,
        RescaleSlope=f"{slope:.6g}",
        RescaleIntercept=f"{intercept:.6g}",
        WindowCenter=f"{centre:.6g}",
        WindowWidth=f"{width:.6g}",
        VOILUTFunction=function,
    )
    header = dcmread(io.BytesIO(data))
    with np.errstate(over="ignore"):
        values = apply_modality_lut(pixel_array(header), header)
        darkest, lightest = apply_windowing(np.array([-1e12, 1e12]), header)
        windowed = apply_windowing(values, header)
    exact = 255 * (windowed - darkest) / (lightest - darkest)
    assert np.abs(shown(data) - exact).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("syntax", made_dicom.UNCOMPRESSED)
@pytest.mark.parametrize("signed", [False, True])
def test_a_voi_lut_comes_before_a_window(syntax: str, signed: bool) -> None:
    entries = [min(4095, number**2 // 100) for number in range(600)]
    pixels = RAMP.astype(np.int16) - 2000 if signed else RAMP
    first = -900 if signed else 1100
    found = shown_of(
        pixels,
        16 if signed else 12,
        syntax=syntax,
        VOILUTSequence=made_dicom.lut(entries, first, 12),
        WindowCenter=7,
        WindowWidth=3,
    )
    index = np.clip(pixels.astype(int) - first, 0, 599)
    assert (found == spread(np.array(entries)[index], 0, 4095)).all()


@pytest.mark.parametrize("words", [True, False])
def test_entries_of_eight_bits_stand_alone_in_a_word_or_in_pairs(words: bool) -> None:
    entries = [number // 16 for number in range(4096)]
    assert (
        shown_of(RAMP, 12, VOILUTSequence=made_dicom.lut(entries, 0, 8, words)) == RAMP // 16
    ).all()


@pytest.mark.parametrize("bits", [0, 17])
def test_a_lut_of_bits_that_there_are_not(bits: int) -> None:
    table = made_dicom.lut([0, 1], 0, bits)
    assert reason(made_dicom.picture(GREY, VOILUTSequence=table)) == DAMAGED
    assert reason(made_dicom.picture(GREY, ModalityLUTSequence=table)) == DAMAGED


def test_a_lut_that_is_cut_short() -> None:
    table = made_dicom.lut([0, 1, 2, 3], 0, 12)
    table[0].LUTDescriptor = [9, 0, 12]
    assert reason(made_dicom.picture(GREY, VOILUTSequence=table)) == DAMAGED


def test_a_lut_of_all_values() -> None:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [0, 0, 16])  # which stands for 65,536
    table.add_new("LUTData", "OW", np.arange(65535, -1, -1, dtype="<u2").tobytes())
    pixels = RAMP * np.uint16(16)
    assert (shown_of(pixels, 16, VOILUTSequence=[table]) == spread(65535 - pixels, 0, 65535)).all()


def test_a_modality_lut_comes_before_a_window_and_instead_of_rescaling() -> None:
    entries = [number * 10 for number in range(4096)]
    tags = {
        "ModalityLUTSequence": made_dicom.lut(entries, 0, 16),
        "RescaleSlope": 5,
        "RescaleIntercept": 9,
    }
    found = shown_of(RAMP, 12, WindowCenter=20000, WindowWidth=10001, **tags)
    assert (found == spread(RAMP * 10.0, 14999.5, 24999.5)).all()
    assert (shown_of(RAMP, 12, **tags) == spread(RAMP, 0, 4095)).all()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_bits_that_are_not_used_for_the_picture_are_not_shown(photometric: str) -> None:
    """Older files have overlays there."""
    header = dcmread(io.BytesIO(made_dicom.picture(TWELVE, 12, photometric)))
    plain = shown(made_dicom.written(header))
    header.PixelData = (TWELVE | np.uint16(0xA000)).tobytes()
    assert (shown(made_dicom.written(header)) == plain).all()


# ------------------------------------------------------------------------------ transfer syntaxes


@pytest.mark.parametrize("syntax", [*made_dicom.UNCOMPRESSED, *made_dicom.LOSSLESS])
def test_lossless_transfer_syntaxes(syntax: str) -> None:
    for pixels, bits in ((GREY, 8), (TWELVE, 12), (TWELVE.astype(np.int16) - 2048, 12)):
        assert (shown_of(pixels, bits, syntax=syntax) == shown_of(pixels, bits)).all()


@pytest.mark.parametrize("syntax", made_dicom.LOSSY)
def test_lossy_transfer_syntaxes(syntax: str) -> None:
    gentle = (GREY // 2 + 64).astype(np.uint16)  # GDCM's encoder of 12 bits fails on more contrast
    for pixels, bits in ((gentle.astype(np.uint8), 8), (gentle * 16, 12)):
        if bits == 12 and syntax == uid.JPEGBaseline8Bit:
            continue
        window = {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits}
        expected = shown_of(pixels, bits, **window)
        assert np.abs(shown_of(pixels, bits, syntax=syntax, **window) - expected).max() <= 2


def test_eight_bits_as_a_word_of_big_endian() -> None:
    header = made_dicom.header()
    header.set_pixel_data(GREY, "MONOCHROME2", 8)
    header["PixelData"].VR = "OW"
    header.PixelData = np.frombuffer(header.PixelData, "<u2").byteswap().tobytes()
    assert (shown(made_dicom.written(header, uid.ExplicitVRBigEndian)) == GREY).all()


@pytest.mark.parametrize(
    ("name", "signed_bits"),
    [
        ("CT_small.dcm", 16),
        ("MR_small.dcm", 16),
        ("MR_small_implicit.dcm", 16),
        ("MR_small_bigendian.dcm", 16),
        ("MR_small_RLE.dcm", 16),
        ("MR_small_jpeg_ls_lossless.dcm", 16),
        ("MR_small_jp2klossless.dcm", 16),
        ("MR_small_padded.dcm", 16),
        ("693_J2KI.dcm", 14),
        ("J2K_pixelrep_mismatch.dcm", 13),
        ("JPEG2000.dcm", 16),
        ("examples_overlay.dcm", None),
    ],
)
def test_files_of_pydicom(name: str, signed_bits: int | None) -> None:
    """None of them is a radiograph, so they are made to say so."""
    header = dcmread(str(get_testdata_file(name, download=False)))
    header.Modality = "DX"
    header.VOILUTFunction = "LINEAR_EXACT"
    header.WindowCenter, header.WindowWidth = 300.5, 901
    file = io.BytesIO()
    header.save_as(file)
    pixels = pixel_array(header, index=0, raw=True)
    if signed_bits:
        pixels = pixels.astype(int) & (2**signed_bits - 1)
        pixels = np.where(pixels < 2 ** (signed_bits - 1), pixels, pixels - 2**signed_bits)
    expected = spread(apply_modality_lut(pixels, header), -150, 751)
    assert len(np.unique(expected)) > 50
    assert (shown(file.getvalue()) == expected).all()


def test_twelve_bits_of_jpeg() -> None:
    """Which pydicom can't decode; its file shows the same bones with JPEG 2000, at 40 : 1."""
    bones = []
    for name in ("JPEG-lossy.dcm", "JPEG2000.dcm"):
        header = dcmread(str(get_testdata_file(name, download=False)))
        header.Modality, header.WindowCenter, header.WindowWidth = "CR", 128, 256
        file = io.BytesIO()
        header.save_as(file)
        bones.append(shown(file.getvalue()).ravel())
    assert np.corrcoef(bones)[0, 1] > 0.9


def test_the_bits_of_a_compressed_frame_are_its_own() -> None:
    """Headers of compressed files often state other numbers."""
    for claimed, pixels, bits in ((16, TWELVE, 12), (12, TWELVE, 16), (12, GREY, 8)):
        for syntax in set(made_dicom.LOSSLESS) - {uid.RLELossless}:
            header = dcmread(io.BytesIO(made_dicom.picture(pixels, bits, syntax=syntax)))
            header.BitsAllocated, header.BitsStored, header.HighBit = 16, claimed, claimed - 1
            found = shown(made_dicom.written(header, syntax))
            assert (found == spread(pixels, pixels.min(), pixels.max())).all()


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (
            {"Modality": "CT"},
            "its modality is CT; expected CR or DX, a radiograph, or none given, so leave it out",
        ),
        ({"Modality": "MUELLER"}, "its modality is another one; expected CR or DX"),
        ({"NumberOfFrames": 30}, "it holds 30 pictures; expected one"),
        ({"PhotometricInterpretation": "RGB"}, "its pixels are RGB; expected grey ones"),
        ({"PhotometricInterpretation": "MUELLER"}, "its pixels are of another kind; expected"),
        ({"Rows": 31}, "it has 96 x 31 pixels; expected at least 32 x 32"),
        (
            {"Rows": 60_000, "Columns": 60_000},
            "it has 3,600,000,000 pixels; expected at most 40,000,000, so scale it down",
        ),
        ({"BitsAllocated": 32}, "it stores 8 bits of a pixel in 32; expected up to 16 in 8 or 16"),
        ({"BitsStored": 9}, "it stores 9 bits of a pixel in 8; expected"),
        ({"BitsStored": 0}, "it stores 0 bits of a pixel in 8; expected"),
        ({"BitsStored": 4}, "the highest bit of its pixels is number 7; expected 3"),
        ({"PixelData": None}, "it is a DICOM file without a picture, or cut short; expected"),
        ({"Rows": None}, DAMAGED),
        ({"RescaleSlope": "nan"}, DAMAGED),
        ({"Columns": 97}, DAMAGED),
    ],
)
def test_what_is_no_radiograph(tags: dict[str, Any], expected: str) -> None:
    assert reason(made_dicom.picture(GREY, **tags)).startswith(expected)


@pytest.mark.parametrize("modality", ["CR", "DX", "", None])
def test_the_modalities_of_radiographs(modality: str | None) -> None:
    assert (shown_of(GREY, Modality=modality) == GREY).all()


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        (uid.MPEG2MPML, "its transfer syntax is MPEG2 Main Profile / Main Level; expected an"),
        (uid.HTJ2KLossless, "its transfer syntax is High-Throughput JPEG 2000"),
        ("1.2.3.4567", "its transfer syntax is unknown; expected an uncompressed one, JPEG,"),
    ],
)
def test_other_transfer_syntaxes(syntax: str, expected: str) -> None:
    data = made_dicom.picture(GREY, syntax=uid.RLELossless)
    end = data.index(b"\x02\x00\x12\x00")
    begin = data.index(b"\x02\x00\x10\x00UI")
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    other = b"\x02\x00\x10\x00UI" + len(value).to_bytes(2, "little") + value
    assert reason(data[:begin] + other + data[end:]).startswith(expected)


def test_a_deflated_file_is_not_inflated() -> None:
    bomb = made_dicom.picture(np.zeros((2000, 2000), np.uint8))
    begin = bomb.index(b"\x08\x00\x16\x00")
    squeezed = zlib.compress(bomb[begin:] + bytes(10**8), 9, wbits=-15)
    meta = bomb[:begin].replace(b"\x14\x001.2.840.10008.1.2.1\0", b"\x16\x001.2.840.10008.1.2.1.99")
    assert reason(meta + squeezed) == (
        "it is a deflated DICOM file; expected one that is not, so write it uncompressed"
    )


@pytest.mark.parametrize("syntax", [*made_dicom.UNCOMPRESSED, *made_dicom.LOSSLESS])
def test_a_file_that_is_cut_short(syntax: str) -> None:
    data = made_dicom.picture(TWELVE, 12, syntax=syntax)
    for size in (132, 150, 300, len(data) // 2, len(data) - 9):
        assert reason(data[:size]) in (
            DAMAGED,
            "it is a DICOM file without a picture, or cut short; expected a radiograph, "
            "so leave it out or fetch it again",
        )


@pytest.mark.parametrize("syntax", made_dicom.LOSSLESS)
def test_a_frame_of_another_size_than_its_header_says(syntax: str) -> None:
    header = dcmread(io.BytesIO(made_dicom.picture(TWELVE, 12, syntax=syntax)))
    assert (header.Rows, header.Columns) == (80, 96)
    header.Rows, header.Columns = (160, 96) if syntax == uid.RLELossless else (96, 80)
    assert reason(made_dicom.written(header, syntax)) == DAMAGED


def test_a_sequence_of_very_many_items_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "_HEADER_BYTES", 10_000)
    data = made_dicom.picture(GREY)
    place = data.index(b"\x08\x00\x60\x00CS")
    for count, good in ((100, True), (2000, False)):
        items = b"\xfe\xff\x00\xe0\0\0\0\0" * count
        begin, end = b"\x08\x00\x51\x00SQ\0\0\xff\xff\xff\xff", b"\xfe\xff\xdd\xe0\0\0\0\0"
        longer = data[:place] + begin + items + end + data[place:]
        if good:
            assert (shown(longer) == GREY).all()
        else:
            assert reason(longer) == DAMAGED


def test_a_decoder_that_crashes_ends_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = made_dicom.picture(GREY, syntax=uid.JPEGLSLossless)
    program = tmp_path / "crash.py"
    program.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(dicom, "_DECOMPRESS", program)
    assert reason(data) == DAMAGED


def test_the_decoder_has_limits() -> None:
    """The numbers that it is given are those that `dicom` lets through at most."""
    spin = (
        "import resource, sys, runpy\n"
        "sys.argv[1:] = ['x', '40', '50', '8', '8']\n"
        "import io; sys.stdin = type('', (), {'buffer': io.BytesIO()})\n"
        "try:\n    runpy.run_path('stages/intake/decompress.py', run_name='__main__')\n"
        "except Exception:\n    pass\n"
        "print(*(resource.getrlimit(kind)[0] for kind in "
        "(resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_CORE)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", spin], cwd=made.PROJECT, capture_output=True, text=True, check=True
    )
    seconds, memory, core = map(int, done.stdout.split())
    assert (seconds, core) == (3, 0)
    assert memory == 1 << 30 or sys.platform != "linux"


def test_an_annotation_in_the_picture_is_refused_unless_the_parameter_accepts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = made_dicom.picture(GREY, BurnedInAnnotation="YES")
    made.write_params(tmp_path)
    assert reason(data) == (
        "its header says that text is burned into the picture (BurnedInAnnotation), perhaps a "
        "name; expected none, so black it out, or take such files with "
        "audit.burned_in_annotation = accept in params.yaml"
    )
    made.write_params(tmp_path, burned_in_annotation="accept")
    assert (shown(data) == GREY).all()
    (tmp_path / "params.yaml").unlink()
    assert (shown_of(GREY, BurnedInAnnotation="NO") == GREY).all()


# ------------------------------------------------------------------- what must not be told of files


def test_the_secrets_are_in_the_file() -> None:
    data = made_dicom.secretive(GREY).decode("latin-1")
    assert made_dicom.told(data) == list(made_dicom.SECRETS)


WRONG: dict[str, dict[str, Any]] = {
    "a number": {"RescaleSlope": "1.23456789012"},
    "a modality": {"Modality": "Mueller^Erika"},
    "a photometric interpretation": {"PhotometricInterpretation": "Mueller^Erika"},
    "frames": {"NumberOfFrames": 1_000_000_001},
    "a date": {"StudyDate": "KH4711-081", "StudyTime": "Watson^John"},
    "a character set": {"SpecificCharacterSet": "Watson^John"},
    "an age": {"PatientAge": "KH4711-081", "PatientSex": "Watson^John"},
    "too few pixels": {"Rows": 500},
    "a look-up table": {"VOILUTSequence": made_dicom.lut([1, 2], 0, 55)},
    "a function": {"VOILUTFunction": "Mueller^Erika"},
    "padding": {"PixelData": bytes(20_000)},
    "rows": {},
    "bits": {},
    "the highest bit": {},
}
ALTERED = {
    "rows": b"\x28\x00\x10\x00US\x02\x00\x50\x00",
    "bits": b"\x28\x00\x00\x01US\x02\x00\x08\x00",
    "the highest bit": b"\x28\x00\x02\x01US\x02\x00\x07\x00",
}
"""Numbers, as they stand in the file."""


@pytest.mark.parametrize("wrong", WRONG)
def test_no_error_warning_or_log_tells_what_stands_in_a_file(
    wrong: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("ignore")
        data = made_dicom.secretive(GREY, **WRONG[wrong])
    # what pydicom would not write
    data = data.replace(b"1.23456789012", b"Mueller^Erika").replace(b"1000000001", b"KH4711-081")
    if wrong in ALTERED:
        assert data.count(ALTERED[wrong]) == 1
        name = b"LO\x0e\x00Mueller^Erika "
        data = data.replace(ALTERED[wrong], ALTERED[wrong][:4] + name)
    caplog.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", module=r"pydicom|stages\.intake\.dicom")
        try:
            text = repr(decode.decode(io.BytesIO(data)))
        except UnreadableImageError as error:
            text = f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"
    assert made_dicom.told(text) == []
    assert (caught, caplog.text, capfd.readouterr()) == ([], "", ("", ""))


# -------------------------------------------------------------------------------------- patients


def identity_of(folder: Path, **tags: Any) -> dicom.Identity:
    path = folder / "image"
    path.write_bytes(made_dicom.picture(GREY, **tags))
    return dicom.identity(path)


def test_the_identity_of_a_file(tmp_path: Path) -> None:
    for issuer, number, expected in (
        ("A", "7", (b"A", b"7")),
        ("", " 7 ", (b"", b"7")),
        ("A", "", (b"A", b"")),
        ("Ä", "7\\8", ("Ä".encode("latin-1"), b"7\\8")),
    ):
        tags = {"SpecificCharacterSet": "ISO_IR 100", "IssuerOfPatientID": issuer}
        assert identity_of(tmp_path, PatientID=number, **tags)[1:] == expected
    assert identity_of(tmp_path)[1:] == (b"", b"")
    first = identity_of(tmp_path, PatientID="1")
    assert first[0] == hashlib.blake2b((tmp_path / "image").read_bytes()).digest()


def test_an_identity_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "_HEADER_BYTES", 5000)
    with pytest.raises(UnreadableImageError) as caught:
        identity_of(tmp_path, PatientID="x" * 6000)
    assert str(caught.value) == f"{tmp_path}/image: {DAMAGED}"


def test_a_patient_has_one_pseudonym_in_a_set_and_another_one_in_another() -> None:
    one, other, third = (b"1", b"A", b"7"), (b"2", b"B", b"7"), (b"3", b"A", b"7")
    unknown, no_dicom = (b"4", b"A", b""), None
    files = [one, other, third, unknown, no_dicom]
    names = dicom.pseudonyms(files)
    assert names[0] == names[2] != names[1]
    assert names[3:] == ["", ""]
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in names[:3])
    assert dicom.pseudonyms(files[::-1]) == names[::-1]
    assert not set(names[:3]) & set(dicom.pseudonyms([(b"5", b"A", b"7"), *files[1:]]))
    # the issuer ends where it ends
    assert len(set(dicom.pseudonyms([(b"1", b"AB", b"C"), (b"2", b"A", b"BC")]))) == 2


def test_one_patient_for_all_files_is_none() -> None:
    anonymous = (b"1", b"", b"ANON")
    assert dicom.pseudonyms([anonymous, (b"2", *anonymous[1:])]) == ["", ""]
    assert dicom.pseudonyms([anonymous, None])[0]
    assert dicom.pseudonyms([]) == []


# ------------------------------------------------------------------------------------ a whole set


def small_set(folder: Path) -> dict[str, bytes]:
    """Files of two classes and 17 patients; two have radiographs in train/ and in test/."""
    syntaxes = [*made_dicom.UNCOMPRESSED, *made_dicom.LOSSLESS]
    files = {}
    for number in range(20):
        split, name = ("train", "test")[number % 3 == 2], ("A", "B")[number % 2]
        pixels = np.asarray(made.picture(number + 100, (300, 240))).astype(np.uint16) * 16
        dtype = np.int16 if number == 4 else np.uint16
        tags = {"PatientID": f"{made_dicom.SECRETS['PatientID']}{number % 17}"}
        data = made_dicom.secretive(
            pixels.astype(dtype),
            12 if number != 4 else 16,
            photometric=f"MONOCHROME{1 + number % 2}",
            syntax=syntaxes[number % len(syntaxes)],
            **tags,
            VOILUTSequence=None,
            WindowCenter=[1500, 2000],
            WindowWidth=[3000, 2000],
        )
        files[f"{split}/{name}/{number}{'.dcm' if number % 2 else ''}"] = data
    with zipfile.ZipFile(folder / "hospital.zip", "w") as zipped:
        for path, data in files.items():
            zipped.writestr(path, data)
    return files


def test_a_set_of_dicom_files_goes_through_the_programs(tmp_path: Path) -> None:
    archive = tmp_path / "data/archive"
    archive.mkdir(parents=True)
    files = small_set(archive)
    made.write_params(tmp_path, source="archive")
    said = ""
    for stage in ("download", "audit", "preprocess"):
        done = made.run_stage(tmp_path, stage)
        assert (done.returncode, done.stderr) == (0, "")
        said += done.stdout
    written = made.contents_of(tmp_path)
    assert made_dicom.told(said) == []
    for path, data in written.items():
        if not path.startswith(("data/raw/t", "data/archive")):
            assert made_dicom.told(data.decode("latin-1")) == [], path

    rows = list(csv.DictReader(io.StringIO(written["data/audit.csv"].decode())))
    assert {row["path"]: row["format"] for row in rows} == dict.fromkeys(files, "DICOM")
    assert len({row["patient"] for row in rows}) == 17
    details = json.loads(written["metrics/details/audit.json"])
    assert (details["unreadable"], details["patients"]["known"]) == (0, 20)
    patients = {row["path"]: row["patient"] for row in rows}
    assert patients["test/A/2"] == patients["train/B/19.dcm"]
    leaked = [row["path"] for row in rows if row["leaked"] == "yes"]
    assert leaked == ["test/A/2", "test/B/17.dcm"]
    for path in files:
        (png,) = [name for name in written if name.endswith(f"/{Path(path).name}.png")]
        picture = decode.resized(tmp_path / "data/raw" / path, 200)
        with Image.open(io.BytesIO(written[png])) as image:
            assert image.tobytes() == picture.tobytes()

    assert made.run_stage(tmp_path, "audit").stdout in said
    assert made.contents_of(tmp_path) == written


def test_a_program_tells_nothing_of_files_that_it_refuses(tmp_path: Path) -> None:
    archive = tmp_path / "data/archive/mine"
    seeds = itertools.count(500)
    for split in ("train", "test"):
        for name in ("A", "B"):
            (archive / split / name).mkdir(parents=True)
            for number in range(3):
                pixels = np.asarray(made.picture(next(seeds)))
                # makes pydicom warn
                data = made_dicom.secretive(pixels, SpecificCharacterSet="Watson^John")
                (archive / split / name / f"{number}").write_bytes(data)
    refused = {
        "modality.dcm": made_dicom.secretive(GREY, Modality="MR"),
        "burned-in.dcm": made_dicom.secretive(GREY, BurnedInAnnotation="YES"),
        "cut.dcm": made_dicom.secretive(GREY)[:-1000],
        "name.dcm": made_dicom.secretive(
            GREY, PhotometricInterpretation=made_dicom.SECRETS["PatientName"]
        ),
        "number.dcm": made_dicom.secretive(GREY, RescaleSlope="1.23456789012").replace(
            b"1.23456789012", b"Mueller^Erika"
        ),
    }
    for name, data in refused.items():
        (archive / "train/A" / name).write_bytes(data)
    said = ""
    refuse: dict[str, object] = {}
    accept: dict[str, object] = {"unreadable": "quarantine", "burned_in_annotation": "accept"}
    for stage, parameters in (("download", refuse), ("audit", refuse), ("audit", accept)):
        made.write_params(tmp_path, source="archive", **parameters)
        done = made.run_stage(tmp_path, stage, PYTHONWARNINGS="always")
        said += done.stdout + done.stderr
    assert said.count("5 of 17 files can't be used") == 1
    assert said.count("audit.burned_in_annotation = accept in params.yaml") == 1
    assert said.count("; 4 unreadable\n") == 1
    assert "Traceback" not in said
    assert made_dicom.told(said) == []
    for path, data in made.contents_of(tmp_path).items():
        if not path.startswith(("data/raw/t", "data/archive")):
            assert made_dicom.told(data.decode("latin-1")) == [], path

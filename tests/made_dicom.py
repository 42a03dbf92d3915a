"""DICOM files that tests make for themselves, with pydicom and GDCM's encoders."""

import io
import tempfile
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

UNCOMPRESSED = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
LOSSLESS = (
    *(uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless),
    uid.RLELossless,
)
LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000)


SECRETS = {
    "PatientName": "Mueller^Erika",
    "PatientID": "KH4711-081",
    "IssuerOfPatientID": "St-Elsewhere",
    "PatientBirthDate": "19360229",
    "PatientAddress": "Heidestrasse 17",
    "StudyDate": "20200311",
    "StudyTime": "173342",
    "AccessionNumber": "ACC998877",
    "ReferringPhysicianName": "Watson^John",
    "InstitutionName": "Charing-Cross",
    "DeviceSerialNumber": "SN5550001",
    "StudyInstanceUID": "1.2.840.99999.1.31415926",
    "SeriesInstanceUID": "1.2.840.99999.1.27182818",
    "SOPInstanceUID": "1.2.840.99999.1.16180339",
    "ImageComments": "fell off a ladder",
    "WindowCenterWidthExplanation": "for-Doctor-House",
    "LUTExplanation": "of-Doctor-House",
}
"""What a file may tell of a person, a day and a place."""


def header() -> Dataset:
    """A data set of the tags that no file can be without."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    made.SOPClassUID = uid.ComputedRadiographyImageStorage
    made.SOPInstanceUID = "1.2.3.4"
    made.Modality = "CR"
    made.StudyInstanceUID = "1.2.3.5"
    made.SeriesInstanceUID = "1.2.3.6"
    return made


def picture(
    pixels: np.ndarray,
    bits: int | None = None,
    photometric: str = "MONOCHROME2",
    syntax: str = uid.ExplicitVRLittleEndian,
    **tags: Any,
) -> bytes:
    """A DICOM file.

    Args:
        pixels: (rows, columns), integers of 8 or 16 bits.
        bits: How many of them are used; all of them where it is None.
        photometric: The photometric interpretation.
        syntax: The transfer syntax; see `UNCOMPRESSED`, `LOSSLESS` and `LOSSY`.
        tags: More tags; those that are None are left out.
    """
    made = header()
    made.set_pixel_data(pixels, photometric, bits or 8 * pixels.dtype.itemsize)
    made.SOPInstanceUID = "1.2.3.4"  # instead of a random one
    for name, value in tags.items():
        if value is not None:
            setattr(made, name, value)
        elif name in made:
            del made[name]
    if syntax in UNCOMPRESSED:
        return written(made, syntax)
    return compressed(written(made), syntax)


def written(made: Dataset, syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    """The bytes of a data set's file."""
    made.file_meta.TransferSyntaxUID = uid.UID(syntax)
    if syntax == uid.ExplicitVRBigEndian and made.BitsAllocated == 16:
        made.PixelData = np.frombuffer(made.PixelData, "<u2").byteswap().tobytes()
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def compressed(data: bytes, syntax: str) -> bytes:
    """An uncompressed file, compressed by GDCM as a transfer syntax says."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(data)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        if not reader.Read():
            raise ValueError("GDCM can't read it")
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise ValueError(f"GDCM can't write it as {syntax}")
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.Write()
        return path.read_bytes()


def lut(entries: list[int], first: int, bits: int, words: bool = True) -> list[Dataset]:
    """A sequence of one look-up table; entries of eight bits may stand two in a word."""
    table = Dataset()
    table.add_new("LUTDescriptor", "US" if first >= 0 else "SS", [len(entries), first, bits])
    if words:
        table.add_new("LUTData", "US", entries)
    else:
        table.add_new("LUTData", "OW", bytes(entries))
    return [table]


def secretive(pixels: np.ndarray, bits: int | None = None, **tags: Any) -> bytes:
    """A DICOM file that tells all of SECRETS."""
    known = {name: value for name, value in SECRETS.items() if name != "LUTExplanation"}
    explained = lut([0, 100, 255], 50, 8)
    explained[0].LUTExplanation = SECRETS["LUTExplanation"]
    return picture(pixels, bits, **{"VOILUTSequence": explained, **known, **tags})


def told(text: str) -> list[str]:
    """Which of SECRETS a text tells."""
    return [name for name, value in SECRETS.items() if value in text]

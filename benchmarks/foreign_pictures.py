"""Pictures that are no chest radiographs, to measure and to test a refusal with.

They come from packages of the environment, or are made here; none is downloaded.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from stages.learning.dataset import SIZE

_DICOM = (
    *("693_J2KI", "CT_small", "J2K_pixelrep_mismatch", "JPEG2000", "MR_small"),
    *("examples_jpeg2k", "examples_overlay", "examples_palette", "examples_rgb_color", "image_dfl"),
)


_SCIKIT_IMAGE = {
    "photographs": ("astronaut", "chelsea", "coffee", "motorcycle_left", "rocket"),
    "grey": ("brick", "clock_motion", "coins", "grass", "gravel", "moon"),
    "pages": ("page", "text"),
    "medical": ("cell", "ihc", "phantom", "retina"),
}


def _samples(kind: str) -> list[Image.Image]:
    """Sample pictures of scikit-image."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    endings = {"retina": "jpg", "rocket": "jpg"}
    names = (f"{name}.{endings.get(name, 'png')}" for name in _SCIKIT_IMAGE[kind])
    return [Image.open(folder / name).convert("RGB") for name in names]


def _with_quarters(pictures: Iterable[Image.Image]) -> list[Image.Image]:
    parts = []
    for picture in pictures:
        x, y = picture.width // 2, picture.height // 2
        corners = [(left, top) for left in (0, x) for top in (0, y)]
        parts += [picture, *(picture.crop((*at, at[0] + x, at[1] + y)) for at in corners)]
    return parts


def _grey(pictures: Iterable[Image.Image]) -> list[Image.Image]:
    return [picture.convert("L") for picture in pictures]


def photographs() -> list[Image.Image]:
    """A temple, a flower, portraits, a cat, coffee, a motorcycle and a rocket, in colour."""
    import matplotlib
    from sklearn.datasets import load_sample_images

    portrait = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    others = [*map(Image.fromarray, load_sample_images().images), Image.open(portrait)]
    return [picture.convert("RGB") for picture in [*others, *_samples("photographs")]]


def _grey_photographs() -> list[Image.Image]:
    """Stairs, a man with a camera, an aeroplane, walls, coins, grass, the moon."""
    import pywt.data

    arrays = (pywt.data.ascent, pywt.data.camera, pywt.data.aero)
    return [*(Image.fromarray(np.uint8(each())) for each in arrays), *_grey(_samples("grey"))]


def _drawings() -> list[Image.Image]:
    """Drawn graphs, charts, logos."""
    import matplotlib
    import networkx

    data = Path(matplotlib.get_data_path())
    names = ("logo2.png", "Minduka_Present_Blue_Pack.png")
    graphs = sorted((Path(networkx.__file__).parent / "drawing/tests/baseline").glob("*.png"))
    drawings = []
    for path in [*graphs, *(data / "sample_data" / name for name in names)]:
        picture = Image.open(path).convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        drawings.append(Image.alpha_composite(white, picture).convert("RGB"))
    return drawings


def _medical() -> list[Image.Image]:
    """Slices of CT and MR, ultrasound, scintigraphy."""
    import pydicom

    pictures = []
    for name in _DICOM:
        path = Path(pydicom.__file__).parent / f"data/test_files/{name}.dcm"
        values = pydicom.dcmread(path).pixel_array.astype(np.float64)
        values = values.mean(axis=2) if values.ndim == 3 else values
        low, high = np.quantile(values, (0.001, 0.999))
        shares = np.clip((values - low) / (high - low), 0, 1)
        pictures.append(Image.fromarray(np.uint8(255 * shares)))
    return pictures


def _noise() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [
        Image.fromarray(random.integers(0, 256, (lumps, lumps), np.uint8)).resize((SIZE, SIZE))
        for lumps in (200, 100, 50, 25, 12, 6)
        for _ in range(4)
    ]


def _ramps() -> list[Image.Image]:
    """Darker from one side to the other."""
    ramp = Image.linear_gradient("L")
    return [ramp.rotate(degrees) for degrees in (0, 90, 180, 270)]


def all_kinds() -> dict[str, np.ndarray]:
    """By their kind, as the network gets them: uint8, (n, SIZE, SIZE, 3)."""
    kinds = {
        "photographs in colour": _with_quarters(photographs()),
        "photographs in grey": _with_quarters([*_grey(photographs()), *_grey_photographs()]),
        "drawings in colour": _drawings(),
        "drawings in grey": _grey(_drawings()),
        "pages of text": _with_quarters(_grey(_samples("pages"))),
        "other medical pictures": [*_medical(), *_grey(_samples("medical"))],
        "noise": _noise(),
        "blank": [Image.new("L", (SIZE, SIZE), grey) for grey in (0, 1, 64, 128, 200, 255)],
        "ramps": _ramps(),
    }
    return {
        kind: np.array([np.asarray(each.resize((SIZE, SIZE)).convert("RGB")) for each in pictures])
        for kind, pictures in kinds.items()
    }


def changed(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Radiographs, uint8, (n, SIZE, SIZE, 3), as they should not be shown; mirrored ones last."""
    return {
        "turned left": np.rot90(pixels, 1, (1, 2)),
        "turned right": np.rot90(pixels, 3, (1, 2)),
        "upside down": np.rot90(pixels, 2, (1, 2)),
        "inverted": 255 - pixels,
        "mirrored": pixels[:, :, ::-1],
    }

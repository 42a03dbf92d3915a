"""Synthetic chest radiographs: the data source that every clone has, without network or account.

A *radiograph* is a drawn chest: soft tissue, lungs, heart, bones and what the finding adds. A
`Phantom` is one file that shows a radiograph: the original or a copy with a known history, so
that the set knows its own truth. The set has the counts and the flaws of the real one: copies
within and across the splits, patients with two radiographs, some on both sides of the split,
labels that contradict the finding, grey and colour, JPEG and PNG, many sizes. Size, format,
exposure and framing are drawn without regard to the class, so that only the lungs tell it. The
class goes loosely with the hospital, which leaves no trace in the picture. `records` tells what
the hospitals know.

An external set comes from a third hospital, which exposes its films otherwise.

Everything is a function of the plan's seed: each picture draws its own random numbers, so that
any of them can be made alone, in any order and in parallel.
"""

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from stages.common import parallel

CAPTION = "SYNTHETIC PHANTOM"
COUNTS = {
    "train": {"Covid": 111, "Normal": 70, "Viral Pneumonia": 70},
    "test": {"Covid": 26, "Normal": 20, "Viral Pneumonia": 20},
}
_FEWEST = {"train": 4, "test": 3}
_FEWEST_EXTERNAL = 3
# How many copies of which kind, from an original in one split to a file in another. The 10 pairs
# of equal bytes lie where the real set has them.
_PLANTED_COPIES = [
    ("bytes", "Covid", "train", "test", 6),
    ("bytes", "Normal", "train", "train", 2),
    ("bytes", "Viral Pneumonia", "train", "train", 1),
    ("bytes", "Covid", "test", "test", 1),
    ("pixels", "Covid", "train", "test", 1),
    ("pixels", "Normal", "train", "train", 1),
    ("re-encoded", "Normal", "train", "test", 1),
    ("re-encoded", "Covid", "train", "train", 2),
    ("re-scaled", "Viral Pneumonia", "train", "test", 1),
    ("re-scaled", "Normal", "train", "train", 1),
    ("cropped", "Viral Pneumonia", "train", "test", 1),
    ("cropped", "Covid", "train", "train", 2),
    ("windowed", "Normal", "train", "test", 1),
    ("windowed", "Viral Pneumonia", "train", "train", 2),
    ("cropped + windowed", "Covid", "train", "train", 1),
    ("re-scaled + windowed", "Viral Pneumonia", "test", "test", 1),
]
# How many patients have a radiograph in the one and one in the other folder.
_PLANTED_PATIENTS = [
    ("train/Normal", "test/Normal", 1),
    ("train/Viral Pneumonia", "test/Viral Pneumonia", 2),
    ("train/Covid", "train/Covid", 4),
    ("train/Normal", "train/Normal", 2),
    ("train/Viral Pneumonia", "train/Viral Pneumonia", 2),
    ("test/Covid", "test/Covid", 1),
]
# How many files of which folder show another finding, or one that is not recorded.
_PLANTED_FINDINGS = [
    ("train/Viral Pneumonia", "Lobar Pneumonia", 3),
    ("train/Covid", "Normal", 2),
    ("train/Normal", "Viral Pneumonia", 1),
    ("test/Viral Pneumonia", "Normal", 1),
    ("test/Covid", "Lobar Pneumonia", 1),
    ("train/Covid", "", 1),
    ("train/Normal", "", 1),
    ("test/Viral Pneumonia", "", 1),
]
_HOSPITAL_A, _HOSPITAL_B, _EXTERNAL_HOSPITAL = (f"phantom hospital {name}" for name in "ABC")
_EXTERNAL_COUNTS = {"external/Covid": 30, "external/Normal": 40, "external/Other disease": 40}
_EXTERNAL_COPIES = ("bytes", "cropped", "re-scaled", "windowed") * 2  # of train/Covid
# The attenuation that is black, the one that is white, and the exponent: from, to.
_EXPOSURE = ((0.17, 0.25), (1.1, 1.3), (1.1, 1.4))
_EXTERNAL_EXPOSURE = ((0.14, 0.2), (1.15, 1.35), (0.95, 1.2))
_SHOWN_TO_STORED = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}

Field = NDArray[Any]  # of float32, one value per pixel


@dataclass(frozen=True)
class Phantom:
    """One picture of the plan; holds all that `render` needs.

    Attributes:
        path: `split/class/name`, such as `train/Covid/phantom-0012.jpeg`.
        radiograph: which radiograph it shows. Equal numbers show the same one.
        patient: whose, the number of the patient's first radiograph.
        finding: what it shows, as the hospital records it; empty where it does not: then it shows
            what its class says. Differs from the class where the label is wrong.
        source: the hospital.
        view: `PA` or `AP`; leaves no trace in the picture.
        kind: `original`, or what was done to the original of the same radiograph: `bytes` (the
            same bytes under another name), `pixels` (the same pixels in another file),
            `re-encoded` (JPEG of another quality), `re-scaled` (0.5 to 1.6 times), `cropped` (2
            to 7 % off some borders), `windowed` (other brightness, contrast, gamma), or several
            of them joined by ` + `. `mirrored` is no copy: it has a radiograph number of its own.
        seed: of the plan.
        size: width and height in pixels, as shown upright.
        mode: `L`, `RGB` or `RGBA`, as Pillow names them.
        quality: of the JPEG encoder (1 to 95), or the compression level of PNG (0 to 9).
        orientation: EXIF's, 1 (none is written), 3, 6 or 8. The pixels are stored turned, so
            that the picture is upright once a viewer obeys it.
        original: what it was copied or mirrored from; None for an original.
        crop: shares of width or height cut off left, top, right and bottom.
        window: brightness that is added (grey values from 0 to 1), contrast, gamma.
    """

    path: str
    radiograph: int
    patient: int
    finding: str
    source: str
    view: str
    kind: str
    seed: int
    size: tuple[int, int]
    mode: str
    quality: int
    orientation: int = 1
    original: "Phantom | None" = None
    crop: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    window: tuple[float, float, float] = (0.0, 1.0, 1.0)

    @property
    def class_name(self) -> str:
        """The folder it lies in."""
        return PurePosixPath(self.path).parts[1]

    @property
    def format(self) -> str:
        """`JPEG` or `PNG`, as Pillow names them."""
        return "PNG" if self.path.endswith(".png") else "JPEG"


# ---------------------------------------------------------------------------------------- plan


def _numbers(seed: int, radiograph: int, purpose: int) -> np.random.Generator:
    """Random numbers of one radiograph or patient for one purpose, independent of all others."""
    return np.random.default_rng([seed, radiograph, purpose])


def file_names(folders: Mapping[str, int], random: np.random.Generator) -> dict[str, Iterator[str]]:
    """For each folder as many paths without suffix as it says, in an order that tells nothing."""
    return {
        folder: iter([f"{folder}/phantom-{1 + number:04d}" for number in random.permutation(count)])
        for folder, count in folders.items()
    }


def make_original(seed: int, radiograph: int, name: str) -> Phantom:
    """The original of a radiograph; `name` is its path without the suffix."""
    random = _numbers(seed, radiograph, 0)
    class_name = PurePosixPath(name).parent.name
    suffix = str(random.choice([".jpeg", ".jpg", ".png"], p=[0.74, 0.2, 0.06]))
    longer = int(random.integers(420, 901))
    shorter = max(280, round(longer * random.uniform(0.72, 0.97)))
    size = (longer, shorter) if random.random() < 0.7 else (shorter, longer)
    if suffix == ".png":
        mode, quality, orientation = str(random.choice(["L", "RGB", "RGBA"])), 6, 1
    else:
        mode = str(random.choice(["L", "RGB"], p=[0.3, 0.7]))
        quality = int(random.integers(70, 96))
        orientation = int(random.choice([1, 3, 6, 8], p=[0.96, 0.01, 0.02, 0.01]))
    in_a = random.random() < (0.8 if class_name == "Covid" else 0.3)
    return Phantom(
        path=name + suffix,
        radiograph=radiograph,
        patient=radiograph,
        finding=class_name,
        source=_HOSPITAL_A if in_a else _HOSPITAL_B,
        view=str(random.choice(["PA", "AP"])),
        kind="original",
        seed=seed,
        size=size,
        mode=mode,
        quality=quality,
        orientation=orientation,
    )


def of_patient(phantom: Phantom, other: Phantom) -> Phantom:
    """The same file, but as a radiograph of the patient whom `other` shows."""
    return replace(phantom, patient=other.patient, source=other.source)


def make_copy(original: Phantom, kind: str, name: str, random: np.random.Generator) -> Phantom:
    """A copy of `original`, of a kind as in `Phantom.kind`; `name` is its path without suffix."""
    suffix = PurePosixPath(original.path).suffix
    copy = replace(original, path=name + suffix, kind=kind, original=original)
    if kind == "bytes":
        return copy
    if kind == "pixels":
        level = 1 if original.format == "PNG" else 6
        return replace(copy, path=name + ".png", quality=level, orientation=1)
    steps = kind.split(" + ")
    crop, window, scale = (0.0, 0.0, 0.0, 0.0), (0.0, 1.0, 1.0), 1.0
    quality, mode = original.quality, original.mode
    if "cropped" in steps:
        cut = random.uniform(0.02, 0.07, 4) * (random.random(4) < 0.75)
        cut[random.integers(4)] = random.uniform(0.02, 0.07)
        left, top, right, bottom = (round(float(share), 4) for share in cut)
        crop = (left, top, right, bottom)
    if "re-scaled" in steps:
        scale = random.uniform(0.5, 0.85) if random.random() < 0.6 else random.uniform(1.2, 1.6)
    if "windowed" in steps:
        brightness = random.uniform(-0.1, 0.1)
        contrast, gamma = np.exp(random.uniform(-0.3, 0.3, 2))
        window = (round(brightness, 4), round(float(contrast), 4), round(float(gamma), 4))
    if "re-encoded" in steps:
        suffix = ".jpg" if random.random() < 0.5 else ".jpeg"
        mode = "L" if original.mode == "L" else "RGB"
        quality = int(random.integers(35, 65))
    width = round(original.size[0] * (1 - crop[0] - crop[2]) * scale)
    height = round(original.size[1] * (1 - crop[1] - crop[3]) * scale)
    return replace(
        copy,
        path=name + suffix,
        size=(width, height),
        mode=mode,
        quality=quality,
        orientation=1,
        crop=crop,
        window=window,
    )


def plan(seed: int, share: float = 1.0) -> list[Phantom]:
    """The set that stands in for the real one: 317 pictures, at `share` 1, sorted by path.

    Args:
        seed: of everything.
        share: in (0, 1]; shrinks every count, down to 4 pictures per class in `train`, 3 in `test`,
            one copy and one patient across the splits.
    """
    random = np.random.default_rng(seed)
    copies = []
    for kind, class_name, source, target, count in _PLANTED_COPIES:
        fewest = 1 if (kind, source, target) == ("bytes", "train", "test") else 0
        copies += [(kind, class_name, source, target)] * max(fewest, round(count * share))
    counts = {
        f"{split}/{class_name}": max(_FEWEST[split], round(count * share))
        for split, classes in COUNTS.items()
        for class_name, count in classes.items()
    }
    names = file_names(counts, random)
    phantoms: list[Phantom] = []
    unflawed: dict[str, Iterator[Phantom]] = {}
    for folder, count in counts.items():
        copied = sum(folder == f"{target}/{class_name}" for _, class_name, _, target in copies)
        originals = [
            make_original(seed, len(phantoms) + number, next(names[folder]))
            for number in range(count - copied)
        ]
        phantoms += originals
        unflawed[folder] = iter(originals)
    for kind, class_name, source, target in copies:
        original = next(unflawed[f"{source}/{class_name}"])  # none twice: pairs, as in the real set
        phantoms.append(make_copy(original, kind, next(names[f"{target}/{class_name}"]), random))
    for folder, other_folder, count in _PLANTED_PATIENTS:
        fewest = 1 if (folder, other_folder) == ("train/Normal", "test/Normal") else 0
        for _ in range(max(fewest, round(count * share))):
            first, second = next(unflawed[folder]), next(unflawed[other_folder])
            phantoms[second.radiograph] = of_patient(second, first)
    for folder, finding, count in _PLANTED_FINDINGS:
        for _ in range(round(count * share)):
            mistaken = next(unflawed[folder])
            phantoms[mistaken.radiograph] = replace(mistaken, finding=finding)
    return sorted(phantoms, key=lambda phantom: phantom.path)


def external_plan(seed: int, share: float = 1.0) -> list[Phantom]:
    """The external set: 110 pictures from another hospital, at `share` 1, sorted by path.

    Args:
        seed: of everything, that of the `plan` whose files it has copies of.
        share: in (0, 1], that of the `plan`; shrinks every count, down to 3 pictures a folder and
            one copy.

    Returns:
        `external/<folder>/<name>`. The folders Covid and Normal are classes of the plan; the
        folder Other disease holds a finding that is none. Some under Covid are copies of
        originals in train/Covid.
    """
    known = plan(seed, share)
    random = _numbers(seed, len(known), 4)
    counts = {
        folder: max(_FEWEST_EXTERNAL, round(count * share))
        for folder, count in _EXTERNAL_COUNTS.items()
    }
    names = file_names(counts, random)
    kinds = _EXTERNAL_COPIES[: max(1, round(len(_EXTERNAL_COPIES) * share))]
    trained_on = [
        phantom
        for phantom in known
        if phantom.path.startswith("train/Covid/")
        and (phantom.kind, phantom.finding) == ("original", "Covid")
    ]
    phantoms = [
        make_copy(original, kind, next(names["external/Covid"]), random)
        for original, kind in zip(trained_on, kinds, strict=False)
    ]
    radiographs = itertools.count(len(known))
    for folder, left in names.items():
        for name in left:
            phantom = replace(
                make_original(seed, next(radiographs), name), source=_EXTERNAL_HOSPITAL
            )
            if folder == "external/Other disease":
                phantom = replace(phantom, finding="Lobar Pneumonia")
            phantoms.append(phantom)
    return sorted(phantoms, key=lambda phantom: phantom.path)


def records(phantoms: Sequence[Phantom]) -> list[dict[str, str]]:
    """What the hospitals know of the files: the rows of a records.csv, sorted by path.

    Returns:
        path, patient, source, finding (empty where it is not recorded) and view of each.
    """
    return [
        {
            "path": phantom.path,
            "patient": f"phantom-patient-{phantom.patient:03d}",
            "source": phantom.source,
            "finding": phantom.finding,
            "view": phantom.view,
        }
        for phantom in sorted(phantoms, key=lambda phantom: phantom.path)
    ]


# ----------------------------------------------------------------------------------- radiograph


@dataclass(frozen=True)
class _Chest:
    """Where things lie in one patient.

    Chest coordinates: x from -1 (the picture's left) to 1 across the trunk, y from about -1 (the
    lungs' apices) to 1 (the lower border), and 0, 0 between the lungs.
    """

    x: Field
    y: Field
    from_chest: NDArray[np.float64]  # 2 x 3: chest coordinates to pixels
    unit: float  # pixels, the mean over both axes
    size: tuple[int, int]
    cage_width: float
    cage_middle: float
    cage_height: float
    dome_left: float
    dome_right: float
    mediastinum: float
    heart_width: float
    rib_spacing: float
    rib_droop: float

    def cage(self, y: Field) -> Field:
        """Half the width of the rib cage at the heights `y`."""
        above = np.clip(np.abs((y - self.cage_middle) / self.cage_height), 0, 1)
        half: Field = self.cage_width * np.sqrt(1 - above * above * np.sqrt(above))
        return half

    def dome(self) -> Field:
        """The height of the diaphragm above or below each point."""
        across = (np.abs(self.x) - 0.4 * self.cage_width / 0.8) / self.cage_width
        middle = np.where(self.x < 0, self.dome_left, self.dome_right).astype(np.float32)
        return middle + 0.75 * across * across

    def pixels(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Columns and rows of points in chest coordinates."""
        columns, rows = self.from_chest[:, :2] @ (x, y) + self.from_chest[:, 2:]
        return columns, rows


def _edge(distance: Field, softness: float) -> Field:
    """A soft step: 0 far below zero `distance`, 1 far above."""
    return 0.5 + 0.5 * np.tanh(distance * np.float32(1 / softness))


def _bump(distance: Field, width: float) -> Field:
    """A bell: 1 at zero `distance`."""
    scaled = distance * np.float32(1 / width)
    bell: Field = np.exp(-scaled * scaled)
    return bell


def _clouds(random: np.random.Generator, size: tuple[int, int], pixels: float) -> Field:
    """Smooth noise of mean 0 and about unit spread, whose lumps are `pixels` wide."""
    columns, rows = (max(2, round(side / pixels) + 2) for side in size)
    coarse = random.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)) * 1.3


def _pose(random: np.random.Generator, build: np.random.Generator, size: tuple[int, int]) -> _Chest:
    """A patient in front of the detector: distance, turn, breath, and the patient's build.

    Args:
        random: random numbers of the radiograph.
        build: random numbers of the patient.
        size: width and height in pixels.
    """
    width, height = size
    unit_y = height / 2 * random.uniform(0.86, 0.98)
    unit_x = float(np.clip(width / 2 * random.uniform(0.84, 0.98), 0.8 * unit_y, 1.3 * unit_y))
    turn = np.deg2rad(random.normal(0, 2.5))
    cosine, sine = np.cos(turn), np.sin(turn)
    linear = np.array([[unit_x * cosine, -unit_y * sine], [unit_x * sine, unit_y * cosine]])
    middle = np.array([width, height]) * (0.5 + random.normal(0, 0.018, 2))
    inverse = np.linalg.inv(linear)
    columns = np.arange(width) - middle[0]
    rows = (np.arange(height) - middle[1])[:, None]
    base = random.uniform(0.38, 0.6)
    return _Chest(
        x=(inverse[0, 0] * columns + inverse[0, 1] * rows).astype(np.float32),
        y=(inverse[1, 0] * columns + inverse[1, 1] * rows).astype(np.float32),
        from_chest=np.column_stack([linear, middle]),
        unit=(unit_x + unit_y) / 2,
        size=size,
        cage_width=build.uniform(0.68, 0.78),
        cage_middle=build.uniform(0.2, 0.5),
        cage_height=build.uniform(1.15, 1.4),
        dome_left=base,
        dome_right=base + random.uniform(0.0, 0.1),
        mediastinum=build.uniform(0.11, 0.17),
        heart_width=build.uniform(0.28, 0.42),
        rib_spacing=build.uniform(0.17, 0.23),
        rib_droop=build.uniform(0.2, 0.42),
    )


def _ellipse(
    chest: _Chest, middle: tuple[float, float], radii: tuple[float, float], turn: float
) -> Field:
    """The distance from the middle of an ellipse: 0 there, 1 on its border."""
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x, y = chest.x - np.float32(middle[0]), chest.y - np.float32(middle[1])
    along, across = (x * cosine + y * sine) / radii[0], (y * cosine - x * sine) / radii[1]
    return np.sqrt(along * along + across * across)


def _heart(random: np.random.Generator, chest: _Chest) -> Field:
    """Heart, aortic knob and great vessels, from 0 to 1; the apex lies to the picture's right."""
    width, base = chest.heart_width, chest.dome_right
    ventricle = _ellipse(
        chest, (0.42 * width, base - 0.2), (1.05 * width, 0.27), random.uniform(0.35, 0.8)
    )
    atrium = _ellipse(chest, (-0.1, base - 0.22), (0.55 * width, 0.32), 0.1)
    knob = _ellipse(chest, (0.07, random.uniform(-0.45, -0.33)), (0.15, 0.15), 0.0)
    trunk = _ellipse(chest, (0.05, base - 0.55), (0.19, 0.36), -0.1)
    parts = np.exp(-8 * ventricle) + np.exp(-8 * atrium) + np.exp(-8 * knob) + np.exp(-8 * trunk)
    return _edge(1 + np.log(parts) / 8, 0.11)  # a union without notches where two parts meet


def _lungs(chest: _Chest) -> Field:
    """How much of the way through the chest is air, from 0 to 1."""
    across = np.abs(chest.x)
    cage = chest.cage(chest.y)
    column = chest.mediastinum * (1 + 0.25 * np.abs(chest.y))
    inside = _edge(cage - across, 0.025) * _edge(across - column, 0.045)
    above = _edge(chest.dome() - chest.y, 0.02)
    round_back = np.sqrt(np.clip(1.04 - (across / np.maximum(cage, 0.05)) ** 2, 0, 1))
    return inside * above * (0.55 + 0.45 * round_back)


def _bones(random: np.random.Generator, chest: _Chest) -> Field:
    """Ribs, spine, clavicles and shoulder blades, in units of attenuation."""
    x, y = chest.x, chest.y
    across = np.abs(x)
    cage = np.maximum(chest.cage(y), 0.05)
    lateral = across / cage
    spacing, droop = chest.rib_spacing, chest.rib_droop
    offset = random.uniform(0, 1)
    within = _edge(1.03 - lateral, 0.03)
    bones = np.zeros_like(x)
    for slope, strength, thickness in ((droop, 1.0, 0.2), (-1.3 * droop, 0.55, 0.17)):
        phase = (y - slope * across * across / chest.cage_width**2 + 0.04 * x) / spacing + offset
        away = np.abs(phase - np.floor(phase) - 0.5)
        band = _edge(thickness - away, 0.07) + 0.7 * _bump(away - thickness, 0.05)
        fading = _edge(lateral - 0.55, 0.25) if slope < 0 else _edge(across - 0.09, 0.03)
        bones += strength * band * fading * within
        offset = random.uniform(0, 1)
    bones *= random.uniform(0.06, 0.13) * _edge(chest.dome() + 0.25 - y, 0.15)
    bones += (
        0.1 * _bump(lateral - 1.0, 0.035) * _edge(y + 0.9, 0.1) * _edge(chest.dome() + 0.2 - y, 0.1)
    )

    vertebra = y / random.uniform(0.15, 0.19)
    discs = 0.75 + 0.25 * np.cos(2 * np.pi * vertebra, dtype=np.float32)
    bones += random.uniform(0.06, 0.16) * _edge(0.1 - across, 0.02) * discs

    collar, rise = random.uniform(-0.86, -0.7), random.uniform(0.02, 0.2)
    for side in (-1, 1):
        along = np.clip(side * x, 0, 1.2)
        line = collar + random.normal(0, 0.02) - rise * along + 0.05 * np.sin(5 * along)
        shaft = _edge(0.032 - np.abs(y - line), 0.015)
        bones += 0.13 * shaft * _edge(side * x - 0.07, 0.02) * _edge(0.88 - side * x, 0.04)
        blade = _ellipse(
            chest,
            (side * random.uniform(0.78, 0.98), random.uniform(-0.5, -0.3)),
            (0.16, 0.38),
            side * random.uniform(-0.35, -0.1),
        )
        bones += 0.05 * _edge(1 - blade, 0.1) + 0.05 * _bump(blade - 1, 0.08)
        head = _ellipse(chest, (side * 1.05, -0.72), (0.15, 0.14), 0.0)
        bones += 0.12 * _edge(1 - head, 0.12)
    return bones


def _branches(
    random: np.random.Generator,
    chest: _Chest,
    boughs: int,
    reach: float,
    thickness: float,
    wander: float,
) -> Field:
    """Lines that branch outwards from both hila, from 0 to 1, as vessels and bronchi do.

    Args:
        random: random numbers.
        chest: where to.
        boughs: branches that leave each hilum.
        reach: length of a bough's first part, in chest coordinates.
        thickness: of a bough, in chest coordinates.
        wander: standard deviation of the bends, in radians.
    """
    canvas = Image.new("L", chest.size)
    draw = ImageDraw.Draw(canvas)
    side = np.repeat([-1.0, 1.0], boughs)
    x = side * (chest.mediastinum + 0.07) + random.normal(0, 0.03, 2 * boughs)
    y = chest.dome_left - 0.55 + 0.04 * side + random.normal(0, 0.03, 2 * boughs)
    angle = random.uniform(-1.35, 1.35, 2 * boughs)
    angle = np.where(side > 0, angle, np.pi - angle)
    length, width, grey = reach * random.uniform(0.6, 1.3, 2 * boughs), thickness, 255.0
    while len(x):
        tip_x, tip_y = x + length * np.cos(angle), y + length * np.sin(angle)
        pixels = max(1, round(width * chest.unit))
        ends = np.column_stack([*chest.pixels(x, y), *chest.pixels(tip_x, tip_y)]).tolist()
        for line in ends:
            draw.line(line, fill=round(grey), width=pixels)
        forked = np.repeat(length > 0.05, 2)
        x, y, length = (np.repeat(value, 2)[forked] for value in (tip_x, tip_y, 0.74 * length))
        turns = random.normal(0, wander, (len(angle), 2)) + np.array([0.3, -0.3])
        angle = (angle[:, None] + turns).ravel()[forked]
        width, grey = 0.72 * width, 0.85 * grey
    blurred = canvas.filter(ImageFilter.GaussianBlur(0.25 * thickness * chest.unit + 0.4))
    return np.asarray(blurred, np.float32) / 255


def _patches(random: np.random.Generator, chest: _Chest, severity: float) -> Field:
    """Patchy, peripheral, mostly basal opacities in both lungs, from 0 to 1 (Covid)."""
    total = np.zeros_like(chest.x)
    for side in (-1, 1):
        for _ in range(3 + random.binomial(3, 0.2 + 0.6 * severity)):
            y = chest.dome_left - 0.15 - abs(random.normal(0, 0.3))
            outer = float(chest.cage(np.array(y)))
            x = side * (outer - 0.04 - abs(random.normal(0, 0.13)))
            radii = random.uniform(0.1, 0.22, 2) * (0.7 + 0.5 * severity)
            patch = _ellipse(chest, (x, y), (radii[0], radii[1]), random.uniform(0, np.pi))
            total += random.uniform(0.5, 1.0) * _bump(patch, 1.0)
    mottled = 0.35 * _clouds(random, chest.size, 0.09 * chest.unit)
    mottled += 0.25 * _clouds(random, chest.size, 0.03 * chest.unit)
    return 1 - np.exp(-1.3 * total * np.exp(mottled))


def _streaks(random: np.random.Generator, chest: _Chest, severity: float) -> Field:
    """Diffuse streaks and haze around both hila, from 0 to 1 (viral pneumonia)."""
    boughs = 13 + round(9 * severity)
    lines = _branches(random, chest, boughs, 0.24, 0.017, 0.55)
    near = np.zeros_like(chest.x)
    for side in (-1, 1):
        hilum = (side * (chest.mediastinum + 0.12), chest.dome_left - 0.5)
        near += _bump(_ellipse(chest, hilum, (0.5, 0.75), 0.0), 1.0)
    haze = np.clip(0.35 + 0.25 * _clouds(random, chest.size, 0.05 * chest.unit), 0, 1)
    return np.clip(near, 0, 1) * (0.9 * lines + 0.35 * haze)


def _lobe(random: np.random.Generator, chest: _Chest) -> Field:
    """The lower or the upper lobe of one lung, filled evenly up to its fissure, from 0 to 1."""
    side, below = random.choice([-1, 1], 2)
    fissure = chest.dome_left - random.uniform(0.4, 0.6) + 0.25 * (side * chest.x - 0.4)
    filled = _edge(below * (chest.y - fissure), 0.03) * _edge(side * chest.x, 0.02)
    return filled * np.clip(0.85 + 0.1 * _clouds(random, chest.size, 0.1 * chest.unit), 0, 1)


def _attenuation(random: np.random.Generator, chest: _Chest, finding: str) -> Field:
    """What the rays meet on their way to each pixel: 0 beside the patient, about 1 in the spine."""
    x, y = chest.x, chest.y
    neck, trunk = random.uniform(0.28, 0.4), random.uniform(1.0, 1.35)
    shoulder = random.uniform(-0.98, -0.8)
    outline = neck + (trunk - neck) * _edge(y - shoulder + 0.12 * np.abs(x), 0.1)
    inside = _edge(outline - np.abs(x), 0.02)
    tissue = inside * (0.5 + 0.45 * np.sqrt(np.clip(1 - (x / outline) ** 2, 0, 1)))
    heart, lungs = _heart(random, chest), _lungs(chest)
    air = lungs * (1 - 0.92 * heart)
    field = tissue * (1 - random.uniform(0.6, 0.7) * air)
    field += random.uniform(0.12, 0.2) * heart * _edge(chest.dome() + 0.1 - y, 0.1)
    middle = _edge(chest.mediastinum - np.abs(x), 0.06)
    field += random.uniform(0.08, 0.16) * middle * inside
    windpipe = _edge(0.045 - np.abs(x), 0.02) * _edge(-0.3 - y, 0.05)
    field -= random.uniform(0.06, 0.12) * windpipe
    belly = _edge(y - chest.dome(), 0.02) * inside
    field += random.uniform(0.12, 0.22) * belly
    if random.random() < 0.6:
        bubble = _ellipse(
            chest,
            (random.uniform(0.3, 0.5), chest.dome_right + random.uniform(0.14, 0.2)),
            (random.uniform(0.1, 0.22), random.uniform(0.06, 0.1)),
            random.normal(0, 0.2),
        )
        field -= 0.2 * _edge(1 - bubble, 0.15) * belly
    field += _bones(random, chest) * inside

    # Healthy lungs differ, too: marked vessels, soft tissue over the bases, a shallow breath.
    marked = random.uniform(0.05, 0.13)
    field += marked * air * _branches(random, chest, 8, 0.2, 0.016, 0.22)
    over_bases = random.uniform(0, 0.09)
    for side in (-1, 1):
        breast = _ellipse(
            chest,
            (side * random.uniform(0.42, 0.58), chest.dome_left - random.uniform(0.0, 0.2)),
            (random.uniform(0.26, 0.4), random.uniform(0.22, 0.36)),
            0.0,
        )
        field += over_bases * _edge(1 - breast, 0.2) * inside
    field += random.uniform(0, 0.03) * air * _clouds(random, chest.size, 0.3 * chest.unit)

    severity = random.beta(4.0, 1.0)
    if finding == "Covid":
        field += 0.75 * severity * air * _patches(random, chest, severity)
    elif finding == "Viral Pneumonia":
        field += 0.9 * severity * air * _streaks(random, chest, severity)
    elif finding == "Lobar Pneumonia":
        field += 0.6 * severity * air * _lobe(random, chest)
    return field


def _film(
    random: np.random.Generator, field: Field, exposure: Sequence[tuple[float, float]]
) -> Field:
    """The exposed picture: grey values from 0 to 1 with grain, collimator and side marker."""
    height, width = field.shape
    size = (width, height)
    darkest, brightest, exponent = (random.uniform(*limits) for limits in exposure)
    grey = np.clip((field - darkest) / (brightest - darkest), 0, None) ** exponent
    grey = np.tanh(grey) * random.uniform(0.95, 1.1)
    grey += random.uniform(0.0, 0.04)
    grey += random.uniform(0.02, 0.06) * _clouds(random, size, 0.25 * height)
    grain = random.standard_normal((height, width), dtype=np.float32)
    grey += random.uniform(0.004, 0.02) * grain
    grey += random.uniform(0.002, 0.012) * _clouds(random, size, 2.5)
    if random.random() < 0.25:
        left, top, right, bottom = random.uniform(0, 0.06, 4)
        columns, rows = np.arange(width) / width, np.arange(height) / height
        lit_columns = (columns > left) & (columns < 1 - right)
        lit_rows = (rows > top) & (rows < 1 - bottom)
        grey *= lit_columns * lit_rows[:, None]
    if random.random() < 0.7:
        letter = Image.new("L", size)
        side = random.choice([-1, 1])
        place = (
            width * (0.5 + side * random.uniform(0.36, 0.4)),
            height * random.uniform(0.1, 0.3),
        )
        font = ImageFont.load_default(round(height * random.uniform(0.04, 0.07)))
        ImageDraw.Draw(letter).text(place, "R" if side < 0 else "L", 255, font, anchor="mm")
        grey = np.maximum(grey, np.asarray(letter, np.float32) * np.float32(0.96 / 255))
    return np.clip(grey, 0, 1)


def _radiograph(original: Phantom) -> Image.Image:
    """The original's radiograph in its size: mode L, without caption."""
    random = _numbers(original.seed, original.radiograph, 1)
    width, height = original.size
    build = _numbers(original.seed, original.patient, 3)
    chest = _pose(random, build, ((width + 1) // 2, (height + 1) // 2))
    finding = original.finding or original.class_name
    drawn = Image.fromarray(_attenuation(random, chest, finding))
    field = np.asarray(drawn.resize(original.size, Image.Resampling.BICUBIC))
    external = original.source == _EXTERNAL_HOSPITAL
    grey = _film(random, field, _EXTERNAL_EXPOSURE if external else _EXPOSURE)
    return Image.fromarray(np.round(grey * 255).astype(np.uint8))


# ------------------------------------------------------------------------------------------ file


def _captioned(picture: Image.Image, below: bool) -> Image.Image:
    """The picture with the caption, white on a black strip along its lower or upper border."""
    width, height = picture.size
    strip = max(13, round(height / 26))
    top = height - strip if below else 0
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, top, width, top + strip - 1), fill=0)
    font = ImageFont.load_default(min(0.8 * strip, 0.085 * width))
    draw.text((width / 2, top + strip / 2), CAPTION, 255, font, anchor="mm")
    return picture


def _transformed(phantom: Phantom, picture: Image.Image) -> Image.Image:
    """The radiograph of the original, cropped, re-scaled, mirrored and windowed as planned."""
    width, height = picture.size
    left, top, right, bottom = phantom.crop
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    if phantom.size != picture.size:
        picture = picture.resize(phantom.size, Image.Resampling.LANCZOS, box=box)
    if phantom.kind == "mirrored":
        picture = ImageOps.mirror(picture)
    brightness, contrast, gamma = phantom.window
    values = np.arange(256) / 255
    values = (values**gamma - 0.5) * contrast + 0.5 + brightness
    return picture.point(np.round(np.clip(values, 0, 1) * 255).astype(int).tolist())


def _encoded(phantom: Phantom, picture: Image.Image) -> bytes:
    """The file for an upright picture, in the planned mode, format, quality and orientation."""
    picture = picture.convert(phantom.mode)
    file = io.BytesIO()
    if phantom.format == "PNG":
        picture.save(file, "PNG", compress_level=phantom.quality)
    elif phantom.orientation == 1:
        picture.save(file, "JPEG", quality=phantom.quality)
    else:
        exif = Image.Exif()
        exif[0x0112] = phantom.orientation
        stored = picture.transpose(_SHOWN_TO_STORED[phantom.orientation])
        stored.save(file, "JPEG", quality=phantom.quality, exif=exif)
    return file.getvalue()


def render(phantom: Phantom) -> bytes:
    """The image file. Depends on nothing but `phantom`."""
    if phantom.kind == "bytes" and phantom.original:
        return render(phantom.original)
    if phantom.kind == "pixels" and phantom.original:
        with Image.open(io.BytesIO(render(phantom.original))) as opened:
            return _encoded(phantom, ImageOps.exif_transpose(opened))
    original = phantom.original or phantom
    below = bool(_numbers(original.seed, original.radiograph, 2).random() < 0.5)
    picture = _transformed(phantom, _radiograph(original))
    return _encoded(phantom, _captioned(picture, below))


def _write(file: tuple[Phantom, Path]) -> None:
    phantom, path = file
    path.write_bytes(render(phantom))


def write(phantoms: Sequence[Phantom], target: Path, threads: int) -> None:
    """Writes every picture to its path under the folder `target`, `threads` at a time."""
    for folder in {(target / phantom.path).parent for phantom in phantoms}:
        folder.mkdir(parents=True, exist_ok=True)
    files = [(phantom, target / phantom.path) for phantom in phantoms]
    parallel.each(_write, files, "phantoms", threads, anywhere=True)

"""Phantoms many of which are copies, to measure and to test a copy finder with."""

from dataclasses import replace

import numpy as np

from stages.sources import phantom

KINDS = (
    "bytes",
    "pixels",
    "re-encoded",
    "re-scaled",
    "cropped",
    "windowed",
    "cropped + re-encoded",
    "re-scaled + windowed",
    "cropped + windowed + re-encoded",
    "cropped + re-scaled + windowed + re-encoded",
)
COPY_SHARE = 0.3
MIRRORED_SHARE = 0.05


def plan(seed: int, pictures: int) -> list[phantom.Phantom]:
    """A set to measure a copy finder with: `pictures` of them, sorted by path.

    About 30 % are copies of every kind and of several kinds at once, some radiographs with more
    than one; 5 % are mirrored, which a copy finder must keep apart from what they mirror, as it
    must two radiographs of one patient: every fifth original is of the same patient as another.
    """
    random = np.random.default_rng(seed)
    folders = [
        f"{split}/{class_name}" for split in phantom.COUNTS for class_name in phantom.COUNTS[split]
    ]
    names = phantom.file_names(dict.fromkeys(folders, pictures), random)
    copied, mirrored = round(pictures * COPY_SHARE), round(pictures * MIRRORED_SHARE)
    originals = [
        phantom.make_original(seed, radiograph, next(names[folders[random.integers(len(folders))]]))
        for radiograph in range(pictures - copied - mirrored)
    ]
    for number in range(1, len(originals), 5):
        originals[number] = phantom.of_patient(originals[number], originals[number - 1])
    planned = list(originals)
    for index in range(copied + mirrored):
        original = originals[random.integers(len(originals))]
        kind = KINDS[index % len(KINDS)] if index < copied else "mirrored"
        split = str(random.choice(list(phantom.COUNTS)))
        copy = phantom.make_copy(
            original, kind, next(names[f"{split}/{original.class_name}"]), random
        )
        if kind == "mirrored":
            copy = replace(copy, radiograph=len(planned))
        planned.append(copy)
    return sorted(planned, key=lambda picture: picture.path)

"""Whether a picture is a copy of a training image: the fingerprints that `audit` keeps of these.

The decision is that of `stages.intake.copies`; a blank picture is a copy of none.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stages.common import files
from stages.common.errors import InputError
from stages.intake import copies
from stages.intake.copies import Bits, Candidates, Detail, Fingerprint, Fingerprints

FINGERPRINTS = Path("data/fingerprints")
_PATHS = FINGERPRINTS / "paths.json"
ARRAYS = ("hashes", "fine", "coarse")


def write(paths: Sequence[str], prints: Fingerprints) -> None:
    """Writes what `Known.load` reads: a list of paths, and a .npy file for each kind of array.

    Args:
        paths: Of the training images, in data/raw.
        prints: Their fingerprints. Blank ones are left out.
    """
    comparable = [number for number in range(len(paths)) if not prints[number].blank]
    with files.atomic_write(FINGERPRINTS) as partial:
        partial.mkdir()
        files.write_json(partial / _PATHS.name, [paths[number] for number in comparable])
        for name in ARRAYS:
            one = getattr(prints[0], name)  # there may be none but blank ones
            header = np.lib.format.header_data_from_array_1_0(one)
            with (partial / f"{name}.npy").open("wb") as file:
                np.lib.format.write_array_header_1_0(
                    file, header | {"shape": (len(comparable), *one.shape)}
                )
                for number in comparable:
                    file.write(getattr(prints[number], name).tobytes())


class Known:
    """The training images, to be asked for copies; threads may share it.

    Args:
        paths: Of the images.
        hashes: (images, 36, 4) uint64, and
        fine: (images, 128, 128) int8, and
        coarse: (images, 64, 64) int8: their fingerprints.
    """

    def __init__(self, paths: Sequence[str], hashes: Bits, fine: Detail, coarse: Detail) -> None:
        self._paths, self._hashes, self._fine, self._coarse = paths, hashes, fine, coarse
        self._index = copies.Index(hashes)

    @classmethod
    def load(cls) -> "Known":
        """Reads what `audit` wrote; of the arrays only the hashes, the others stay on the disk.

        Raises:
            InputError: A file is missing or damaged.
        """
        paths = files.read_json(_PATHS, "audit")
        hashes, fine, coarse = (_array(name, len(paths)) for name in ARRAYS)
        return cls(paths, np.array(hashes), fine, coarse)

    def find(self, picture: Image.Image) -> list[tuple[str, float]]:
        """The training images of which a picture is a copy.

        Args:
            picture: Mode L or RGB, upright, of any size.

        Returns:
            Path in data/raw and similarity, from `copies.SIMILAR` to 1, the most similar first;
            of many copies eight.
        """
        own = copies.fingerprint(picture)
        if own.blank:
            return []
        images, windows = self._index.nearest(own.hashes)
        prints = [own, *map(self._print, images)]
        numbers = np.arange(len(images))
        candidates = Candidates(np.zeros_like(numbers), numbers + 1, windows)
        similarities = copies.compared(prints, candidates, numbers).tolist() if len(images) else []
        found = [
            (self._paths[image], round(similarity, 4))
            for image, similarity in zip(images, similarities, strict=True)
            if similarity >= copies.SIMILAR
        ]
        return sorted(found, key=lambda each: (-each[1], each[0]))

    def _print(self, image: int) -> Fingerprint:
        return Fingerprint(self._hashes[image], self._fine[image], self._coarse[image], blank=False)


def _array(name: str, images: int) -> np.ndarray:
    path = FINGERPRINTS / f"{name}.npy"
    try:
        array: np.ndarray = np.load(path, mmap_mode="r")
        if len(array) != images:
            raise ValueError(f"it has {len(array)} rows, and there are {images} images")
    except FileNotFoundError:
        raise InputError(
            f"{path} is not there; the stage `audit` writes it. Run `dvc repro audit`."
        ) from None
    except (ValueError, EOFError) as error:
        raise InputError(
            f"{path} is not the array that the stage `audit` writes ({error}). "
            "Run `dvc repro --force audit`."
        ) from None
    return array

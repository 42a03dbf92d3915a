"""Whether a picture looks like the chest radiographs that the network was trained on.

A picture is shrunk to 10 x 10 grey blocks, each of which is replaced by its rank among them: any
change of brightness, contrast or gamma drops out. How far that lies from those of the training
radiographs is told by the Mahalanobis distance under probabilistic principal components (Tipping
and Bishop 1999): along the directions in which radiographs differ most, and off all of these.
Colour counts besides, since radiographs are grey; and so does flatness, since the ranks of a blank
picture lie in the middle of all others. The limit is where 1 % of the training radiographs were
refused if each were judged by others.

That catches photographs, drawings, noise, blank pictures, and chest radiographs that are turned,
upside down or inverted. It does not catch mirrored ones, nor other pictures whose light and dark
parts lie as in a chest radiograph, whatever else they show. Chest radiographs of other kinds of
patients, or with other frames around them, are refused more often than 1 % of the time.
`benchmarks/novelty.py` measures all that.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.common import files
from stages.common.errors import InputError
from stages.learning.dataset import SIZE, Pixels

NOVELTY = Path("models/novelty.npz")
REFUSAL = "this does not look like a chest radiograph"
"""What is said of a picture instead of a class."""
_REFUSED = 0.01  # of the training radiographs
_FEWEST = 20  # with fewer different ones, nothing but colour and flatness tells
_SIDE = 10  # blocks
_COMPONENTS = 20
_FOLDS = 20
_COLOURED = 10.0  # grey values between the lightest and the darkest channel, on average
_FLAT = 0.5  # what is lost of the ranks' spread where nine blocks in ten are of one grey value


def _blocks(picture: np.ndarray) -> np.ndarray:
    """The mean colours of the blocks of a picture, float64, (100, 3)."""
    block = SIZE // _SIDE
    # eight times as fast as `mean` over both
    rows = picture.reshape(_SIDE, block, -1).sum(axis=1, dtype=np.int64)
    return np.asarray(rows.reshape(-1, block, 3).sum(axis=1) / block**2)


def _ranks(blocks: np.ndarray) -> np.ndarray:
    """The ranks of the blocks' grey values, from -0.5 to 0.5, (100,); equals share the mean."""
    grey = blocks.mean(axis=1)
    ordered = np.sort(grey)
    ranks = np.searchsorted(ordered, grey, "left") + np.searchsorted(ordered, grey, "right")
    return np.asarray(ranks / (2 * len(grey)) - 0.5)


def _flatness(ranks: np.ndarray) -> float:
    """What equal blocks take of the ranks' spread: 0 if all are different, 1 if all are equal."""
    different = np.arange(1, 2 * len(ranks), 2) / (2 * len(ranks)) - 0.5
    return max(0.0, 1 - float(np.linalg.norm(ranks) / np.linalg.norm(different)))


def _colour(blocks: np.ndarray) -> float:
    return float(np.ptp(blocks, axis=1).mean())


@dataclass(frozen=True)
class Novelty:
    """What was learned of the training radiographs.

    Attributes:
        mean: (100,) float64, of their ranks.
        whitening: (100, 100) float64; makes the ranks' covariance the identity.
        farthest: The greatest distance of a picture that looks like them.
        most_colourful: The greatest colour of one, in grey values.
        flattest: The greatest flatness of one, 0 to 1.
    """

    mean: np.ndarray
    whitening: np.ndarray
    farthest: float
    most_colourful: float
    flattest: float

    @classmethod
    def load(cls) -> "Novelty":
        """Reads what `save` wrote.

        Raises:
            InputError: The file is missing or damaged.
        """
        try:
            with np.load(NOVELTY) as arrays:
                names = ("farthest", "most_colourful", "flattest")
                limits = (float(arrays[name]) for name in names)
                return cls(arrays["mean"], arrays["whitening"], *limits)
        except FileNotFoundError:
            raise InputError(
                f"{NOVELTY} is not there; the stage `calibrate` writes it. "
                "Run `dvc repro calibrate`."
            ) from None
        except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{NOVELTY} is not what the stage `calibrate` writes ({error}). "
                "Run `dvc repro --force calibrate`."
            ) from None

    def save(self) -> None:
        """Writes models/novelty.npz, the same bytes for the same radiographs."""
        with files.atomic_write(NOVELTY) as partial, zipfile.ZipFile(partial, "w") as archive:
            for name, value in vars(self).items():
                content = io.BytesIO()
                np.save(content, value)
                # as np.savez does, whose bytes depend on the version of Python
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())

    def score(self, pixels: Pixels) -> np.ndarray:
        """How unlike the training radiographs pictures are, float64, (n,): 1 is the limit.

        Args:
            pixels: uint8, (n, SIZE, SIZE, 3). A picture gets the same bits alone and among others.
        """
        return np.array([self._score(_blocks(picture)) for picture in pixels], np.float64)

    def refused(self, pixels: Pixels) -> np.ndarray:
        """Whether pictures, as above, do not look like the training radiographs, bool, (n,)."""
        return np.asarray(self.score(pixels) > 1)

    def _score(self, blocks: np.ndarray) -> float:
        ranks = _ranks(blocks)
        distance = float(np.linalg.norm(self.whitening @ (ranks - self.mean)))
        return max(
            distance / self.farthest,
            _colour(blocks) / self.most_colourful,
            _flatness(ranks) / self.flattest,
        )


def _learned(ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (100,) and the whitening (100, 100) of the ranks (n, 100) of radiographs."""
    mean = ranks.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(ranks.T))  # ascending
    kept = min(_COMPONENTS, len(ranks) // 5)
    along, off = values[-kept:] ** -0.5, values[:-kept].mean() ** -0.5
    kept_vectors = vectors[:, -kept:]
    return mean, (kept_vectors * (along - off)) @ kept_vectors.T + off * np.eye(len(mean))


def fit(pixels: Pixels, groups: np.ndarray) -> Novelty:
    """Learns what the training radiographs look like.

    From fewer than 20 different radiographs only how colourful and how flat a picture may be.

    Args:
        pixels: uint8, (n, SIZE, SIZE, 3).
        groups: int64, (n,). Those of one group, copies or of one patient, don't judge each other.
    """
    from sklearn.model_selection import GroupKFold
    from threadpoolctl import threadpool_limits

    seen = [(_ranks(blocks), _colour(blocks)) for blocks in map(_blocks, pixels)]
    ranks = np.array([each for each, _ in seen])
    limits = max(_COLOURED, *(colour for _, colour in seen)), max(_FLAT, *map(_flatness, ranks))
    different = min(len(np.unique(groups)), len(np.unique(ranks, axis=0)))
    if different < _FEWEST:
        nothing = np.zeros(_SIDE**2)
        return Novelty(nothing, np.diag(nothing), 1.0, *limits)
    distances = np.empty(len(ranks))
    with threadpool_limits(1):  # the last bits depend on it
        for others, judged in GroupKFold(_FOLDS).split(ranks, groups=groups):
            mean, whitening = _learned(ranks[others])
            distances[judged] = np.linalg.norm((ranks[judged] - mean) @ whitening.T, axis=1)
        farthest = float(np.quantile(distances, 1 - _REFUSED, method="inverted_cdf"))
        return Novelty(*_learned(ranks), farthest, *limits)

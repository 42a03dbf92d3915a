"""What `calibrate` learned of the network that ships: how far to trust it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.common import files
from stages.common.errors import InputError
from stages.learning import classifier, prediction_sets, temperature

CALIBRATION = Path("models/calibration.json")
"""`provenance`, `temperature`, `scores` of `prediction_sets`, `sha256` of classifier.MODEL."""
COVERAGE = 0.9
"""Of the sets, where no other is asked for."""


@dataclass(frozen=True)
class Calibration:
    """Turns the network's own probabilities into those that are told, and into sets.

    Attributes:
        temperature: For `temperature.scaled`.
        scores: See `prediction_sets.scores`, of the network's own probabilities: they don't
            depend on the temperature, which was fitted to the same images.
    """

    temperature: float
    scores: np.ndarray

    @classmethod
    def load(cls) -> "Calibration":
        """Reads what `calibrate` wrote.

        Raises:
            InputError: The file is missing or damaged, or belongs to another network.
        """
        facts: dict[str, Any] = files.read_json(CALIBRATION, "calibrate")
        expected = classifier.read_metadata()["sha256"]
        if facts["sha256"] != expected:
            raise InputError(
                f"{CALIBRATION}: found the SHA-256 {facts['sha256']} of a network, expected "
                f"{expected}, which {classifier.METADATA} names. It is of another training. Run "
                "`dvc repro --force calibrate`."
            )
        return cls(facts["temperature"], np.array(facts["scores"], np.float64))

    def probabilities(self, own: np.ndarray) -> np.ndarray:
        """The calibrated probabilities of the network's own, both float64, (n, classes)."""
        return temperature.scaled(own, self.temperature)

    def sets(self, own: np.ndarray, coverage: float = COVERAGE) -> np.ndarray:
        """Which classes are in the sets of images, bool, (n, classes); see `prediction_sets`."""
        return prediction_sets.sets(own, self.scores, coverage)

"""Parameters of `preprocess`, `train` and `crossvalidate`, and of the machine they run on."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from stages.common.params import Group, Number, Seed


class Preprocess(Group):
    """Which image is used for what."""

    validation: Literal["holdout", "original"]
    validation_share: Number = Field(ge=0.05, le=0.5)
    seed: Seed

    @model_validator(mode="after")
    def _share_is_one_of_equal_parts(self) -> Self:
        # one of several equal folds is held out
        parts = 1 / self.validation_share
        if abs(parts - round(parts)) > 0.05:
            raise ValueError(
                f"preprocess.validation_share: found {self.validation_share}, expected one of "
                f"equal parts, such as {1 / math.ceil(parts):.3g} or {1 / math.floor(parts):.3g}"
            )
        return self


class Train(Group):
    """How the network learns."""

    optimizer: Literal["adam", "rmsprop", "sgd"]
    learning_rate: Number = Field(gt=0, le=1)
    batch_size: int = Field(ge=1, le=100_000)
    epochs: int = Field(ge=1, le=100_000)
    monitor: Literal["val_accuracy", "val_loss"]
    patience: int = Field(ge=1, le=100_000)
    min_delta: Number = Field(ge=0, le=1)
    weights: Literal["best", "last"]
    seed: Seed
    threads: int = Field(ge=1, le=256)
    device: Literal["cpu", "gpu"]
    precision: Literal["float32", "mixed_bfloat16"]

    @property
    def mode(self) -> str:
        """Whether more or less of what is monitored is better: "max" or "min"."""
        return "max" if self.monitor == "val_accuracy" else "min"


class Crossvalidate(Group):
    """How many folds are run, and with which seeds."""

    folds: int = Field(ge=2, le=50)
    seeds: list[Seed] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _seeds_are_different(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f"crossvalidate.seeds: found {self.seeds}, expected every seed only once"
            )
        return self


class Machine(Group):
    """What this machine has room for: no bit depends on it, and no stage runs again for it."""

    memory_gigabytes: Number = Field(ge=0, le=10_000)

"""Parameters of `preprocess`, `train` and `crossvalidate`, and of the machine they run on."""

import math
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from stages.common.params import Checked, Group, Number, Seed


class Preprocess(Group):
    """Which image is used for what."""

    validation_share: Number = Field(ge=0.05, le=0.5)
    seed: Seed

    @model_validator(mode="after")
    def _share_is_one_of_equal_parts(self) -> Self:
        # one of several equal folds is held out
        parts = 1 / self.validation_share
        if abs(parts - round(parts)) > 0.05:
            raise ValueError(
                f"validation_share: found {self.validation_share}, expected one of "
                f"equal parts, such as {1 / math.ceil(parts):.3g} or {1 / math.floor(parts):.3g}"
            )
        return self


EARLY_STOPPING = ("monitor", "patience", "min_delta", "weights")
"""The keys of a recipe that go with a `validation` other than none."""


class Recipe(Checked):
    """How the network learns, in every detail but chance and the machine."""

    validation: Literal["none", "holdout", "original"]
    optimizer: Literal["adam", "rmsprop", "sgd"]
    learning_rate: Number = Field(gt=0, le=1)
    schedule: Literal["constant", "cosine"]
    warmup_epochs: int = Field(0, ge=0, le=100_000)
    label_smoothing: Number = Field(0.0, ge=0, lt=1)
    batch_size: int = Field(ge=1, le=100_000)
    epochs: int = Field(ge=1, le=100_000)
    monitor: Literal["val_accuracy", "val_loss"] | None = None
    patience: int | None = Field(None, ge=1, le=100_000)
    min_delta: Number | None = Field(None, ge=0, le=1)
    weights: Literal["best", "last"] | None = None

    @model_validator(mode="after")
    def _early_stopping_is_whole_or_not_at_all(self) -> Self:
        here = [name for name in EARLY_STOPPING if getattr(self, name) is not None]
        if len(here) != (0 if self.validation == "none" else len(EARLY_STOPPING)):
            expected = "none of" if self.validation == "none" else "all of"
            raise ValueError(
                f"validation: found {self.validation!r} with {', '.join(here) or 'nothing'}, "
                f"expected {expected} {', '.join(EARLY_STOPPING)} with it"
            )
        return self

    @model_validator(mode="after")
    def _warm_up_belongs_to_the_cosine_and_ends(self) -> Self:
        least_above = self.epochs if self.schedule == "cosine" else 1
        if self.warmup_epochs >= least_above:
            raise ValueError(
                f"warmup_epochs: found {self.warmup_epochs}, expected less than {least_above}, "
                f"as the schedule is {self.schedule} over {self.epochs} epochs"
            )
        return self

    @property
    def mode(self) -> str:
        """Whether more or less of what is monitored is better: "max" or "min"."""
        return "max" if self.monitor == "val_accuracy" else "min"


class Recipes(Group):
    """Recipes by name, those of the project and those that a user adds."""

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Recipe]


class Train(Group):
    """By which recipe the network is trained, from which seed and on what."""

    recipe: str
    seed: Seed
    threads: int = Field(ge=1, le=256)
    device: Literal["cpu", "gpu"]
    precision: Literal["float32", "mixed_bfloat16"]

    def joined(self, groups: Any) -> "Training":
        """With the keys of the recipe that is named."""
        recipes = dict(groups.recipes)
        if self.recipe not in recipes:
            raise ValueError(
                f"train.recipe: found {self.recipe!r}, expected one of {', '.join(recipes)}"
            )
        return Training(**dict(self), **dict(recipes[self.recipe]))


class Training(Recipe, Train):
    """Both together: what `params.load(Training)` gives, and `params.load(Train)` too."""


class Crossvalidate(Group):
    """How many folds are run, and with which seeds."""

    folds: int = Field(ge=2, le=50)
    seeds: list[Seed] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _seeds_are_different(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: found {self.seeds}, expected every seed only once")
        return self


class Machine(Group):
    """What this machine has room for: no bit depends on it, and no stage runs again for it."""

    memory_gigabytes: Number = Field(ge=0, le=10_000)

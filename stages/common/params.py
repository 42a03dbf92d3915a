"""params.yaml as typed, checked values: an unknown key or a value out of range is an error."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from stages.common.errors import InputError

PARAMS_FILE = Path("params.yaml")


def _number(value: object) -> object:
    """Takes `1e-4` for a number: PyYAML follows YAML 1.1, where it is a string."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Download(_Group):
    """Where the radiographs come from."""

    source: Literal["phantom", "archive", "kaggle"]
    phantom_seed: Seed
    phantom_share: Number = Field(gt=0, le=1)
    max_files: int = Field(ge=1, le=10_000_000)
    max_gigabytes: Number = Field(gt=0, le=10_000)


class Audit(_Group):
    """What happens to a file that is no readable image."""

    unreadable: Literal["fail", "quarantine"]


class Preprocess(_Group):
    """Which image is used for what."""

    validation: Literal["holdout", "published"]
    validation_share: Number = Field(ge=0.05, le=0.5)
    seed: Seed


class Train(_Group):
    """How the network learns."""

    optimizer: Literal["adam", "rmsprop", "sgd"]
    learning_rate: Number = Field(gt=0, le=1)
    batch_size: int = Field(ge=1, le=100_000)
    epochs: int = Field(ge=1, le=100_000)
    monitor: Literal["val_accuracy", "val_loss"]
    mode: Literal["max", "min"]
    patience: int = Field(ge=1, le=100_000)
    min_delta: Number = Field(ge=0, le=1)
    weights: Literal["best", "last"]
    seed: Seed
    threads: int = Field(ge=1, le=256)

    @model_validator(mode="after")
    def _mode_fits_monitor(self) -> Self:
        fitting = "max" if self.monitor == "val_accuracy" else "min"
        if self.mode != fitting:
            raise ValueError(
                f"train.mode: found {self.mode!r}, expected {fitting!r}, "
                f"because train.monitor is {self.monitor!r}"
            )
        return self


class Evaluate(_Group):
    """How the intervals are drawn and how many images Grad-CAM shows."""

    bootstrap_samples: int = Field(ge=100, le=1_000_000)
    gradcam_images: int = Field(ge=1, le=60)
    seed: Seed


class Crossvalidate(_Group):
    """Which folds are run, and with which seeds."""

    folds: list[int] = Field(min_length=2, max_length=50)
    seeds: list[Seed] = Field(min_length=1, max_length=100)
    epochs: int = Field(ge=1, le=100_000)

    @model_validator(mode="after")
    def _folds_are_numbered(self) -> Self:
        wanted = list(range(1, len(self.folds) + 1))
        if self.folds != wanted:
            raise ValueError(
                f"crossvalidate.folds: found {self.folds}, expected the folds numbered from 1 "
                f"without a gap, such as {wanted}"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f"crossvalidate.seeds: found {self.seeds}, expected every seed only once"
            )
        return self


class Params(_Group):
    """All of params.yaml."""

    download: Download
    audit: Audit
    preprocess: Preprocess
    train: Train
    evaluate: Evaluate
    crossvalidate: Crossvalidate


def _sentence(problem: Any) -> str:
    """One problem that pydantic found, as `key: found ..., expected ...`."""
    key = ".".join(str(part) for part in problem["loc"])
    message = str(problem["msg"])
    match problem["type"]:
        case "missing":
            return f"{key}: this key is missing"
        case "extra_forbidden":
            return f"{key}: there is no such key; look for a slip in the spelling"
        case "value_error":
            return message.removeprefix("Value error, ")
        case _:
            expected = message.removeprefix("Input should be ")
            return f"{key}: found {problem['input']!r}, expected {expected}"


def parse(values: object, source: str = str(PARAMS_FILE)) -> Params:
    """Checks `values`, as read from YAML.

    Raises:
        InputError: names every key at fault, what was found and what was expected.
    """
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problems = "\n".join(f"  {_sentence(problem)}" for problem in error.errors())
        raise InputError(f"{source} can't be used:\n{problems}") from None


def load(path: Path = PARAMS_FILE) -> Params:
    """Reads and checks the parameters.

    Raises:
        InputError: the file is missing or no YAML, or a key or value in it is wrong.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path} is not here. Stages are run from the folder that holds dvc.yaml: "
            "go there, or bring the file back with `git checkout params.yaml`."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from None
    return parse(values, str(path))

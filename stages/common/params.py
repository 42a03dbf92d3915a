"""params.yaml as typed, checked values: an unknown key or a value out of range is an error."""

import math
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
_LONGEST_SHOWN = 100


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


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML's safe loader, except that a key which is there twice is an error.

    YAML 1.1 and 1.2 forbid it; PyYAML would let the last one win.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is there twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


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

    @model_validator(mode="after")
    def _share_is_a_whole_part(self) -> Self:
        # one of several equal folds is held out
        parts = 1 / self.validation_share
        if abs(parts - round(parts)) > 0.05:
            raise ValueError(
                f"preprocess.validation_share: found {self.validation_share}, expected one of "
                f"equal parts, such as {1 / math.ceil(parts):.3g} or {1 / math.floor(parts):.3g}"
            )
        return self


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


def _found(value: object) -> str:
    """A value for a message; a long one is cut."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes no numbers of over 4300 digits
        return "something too long to be shown"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _keys_at(place: tuple[Any, ...]) -> str:
    """The keys that there are in the group at `place`."""
    model: Any = Params
    for part in place:
        model = model.model_fields[part].annotation
    return ", ".join(model.model_fields)


def _sentence(problem: Any) -> str:
    """One problem that pydantic found, as `key: found ..., expected ...`."""
    place = problem["loc"]
    key = ".".join(_found(part) if not isinstance(part, str) else part for part in place)
    message = str(problem["msg"])
    match problem["type"]:
        case "missing":
            return f"{key}: this key is missing"
        case "extra_forbidden" | "invalid_key":
            return f"{key}: there is no such key, expected one of {_keys_at(place[:-1])}"
        case "model_type":
            found = _found(problem["input"])
            expected = f"expected the keys {_keys_at(place)}"
            return f"{key}: found {found}, {expected}" if place else f"found {found}, {expected}"
        case "value_error":
            return message.removeprefix("Value error, ")
        case _:
            expected = message.removeprefix("Input should be ")
            return f"{key}: found {_found(problem['input'])}, expected {expected}"


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
        text = path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{path} is not here. Stages are run from the folder that holds dvc.yaml: "
            "go there, or bring the file back with `git checkout params.yaml`."
        ) from None
    try:
        loader = _UniqueKeyLoader(text.decode("utf-8"))
        loader.name = str(path)
        values = loader.get_single_data()
    except RecursionError:
        raise InputError(f"{path} is not valid YAML: it is nested too deeply") from None
    except Exception as error:
        # beside YAMLError, PyYAML lets through what int() and date() raise on odd scalars
        raise InputError(f"{path} is not valid YAML: {error}") from None
    return parse(values, str(path))

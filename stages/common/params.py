"""params.yaml as typed, checked values: an unknown key or a value out of range is an error.

Each group of params.yaml is a class in the `settings.py` of the folder that it sets. `load`
collects them all, so that the first stage that runs refuses what no group knows, and a new option
concerns its own folder alone.
"""

import importlib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from ruamel.yaml import YAML

import stages
from stages.common.errors import InputError, shown

PARAMS_FILE = Path("params.yaml")
_LONGEST_SHOWN = 100

Number = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class Group(BaseModel):
    """A group of params.yaml, whose name there is that of its class in small letters."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


AnyGroup = TypeVar("AnyGroup", bound=Group)


def groups() -> dict[str, type[Group]]:
    """The groups of params.yaml by name, from every `stages/*/settings.py`."""
    for path in sorted(Path(stages.__path__[0]).glob("*/settings.py")):
        importlib.import_module(f"stages.{path.parent.name}.settings")
    classes = {group.__name__.lower(): group for group in Group.__subclasses__()}
    return dict(sorted(classes.items()))


def _shown(value: object) -> str:
    """A value for a message; a long one is cut."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes no numbers of over 4300 digits
        return "something too long to be shown"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _keys(place: tuple[str, ...]) -> str:
    """The keys that there are in a group, or the groups where `place` is empty."""
    return ", ".join(groups()[place[0]].model_fields if place else groups())


def _sentence(problem: Any) -> str:
    """One problem that pydantic found, as `key: found ..., expected ...`."""
    place = problem["loc"]
    key = ".".join(shown(part) if isinstance(part, str) else _shown(part) for part in place)
    message = str(problem["msg"])
    match problem["type"]:
        case "missing":
            return f"{key}: this key is missing"
        case "extra_forbidden" | "invalid_key":
            return f"{key}: there is no such key, expected one of {_keys(place[:-1])}"
        case "model_type":
            expected = f"found {_shown(problem['input'])}, expected the keys {_keys(place)}"
            return f"{key}: {expected}" if place else expected
        case "value_error":
            return message.removeprefix("Value error, ")
        case _:
            expected = message.removeprefix("Input should be ")
            return f"{key}: found {_shown(problem['input'])}, expected {expected}"


def parse(values: object, source: str = str(PARAMS_FILE)) -> Any:
    """Checks `values`, as read from YAML; gives an object with an attribute for each group.

    Raises:
        InputError: names every key at fault, what was found and what was expected.
    """
    fields: Any = {name: (group, ...) for name, group in groups().items()}
    try:
        return create_model("Params", __config__=Group.model_config, **fields).model_validate(
            values
        )
    except ValidationError as error:
        problems = "\n".join(f"  {_sentence(problem)}" for problem in error.errors())
        raise InputError(f"{source} can't be used:\n{problems}") from None


def load_all(path: Path = PARAMS_FILE) -> Any:
    """Reads and checks params.yaml; gives an object with an attribute for each group.

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
        # The reader that DVC has, so that both see one value: PyYAML takes 010 for 8 and 1:30
        # for 90, DVC for 10 and a string.
        values = YAML(typ="safe").load(text.decode("utf-8"))
    except Exception as error:
        # beside YAMLError, the reader lets through what int() and date() raise on odd scalars
        raise InputError(f"{path} is not valid YAML: {error}") from None
    return parse(values, str(path))


def load(group: type[AnyGroup]) -> AnyGroup:
    """Reads params.yaml, checks all of it, and gives one group.

    Raises:
        InputError: see `load_all`.
    """
    settings: AnyGroup = getattr(load_all(), group.__name__.lower())
    return settings

"""params.yaml as typed, checked values: an unknown key or a value out of range is an error.

Each group of params.yaml is a class in the `settings.py` of the folder that it sets. `load`
collects them all, so that the first stage that runs refuses what no group knows, and a new option
concerns its own folder alone.
"""

import importlib
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from ruamel.yaml import YAML

import stages
from stages.common.errors import InputError, shown

PARAMS_FILE = Path("params.yaml")
_LONGEST_SHOWN = 100

Number = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class Checked(BaseModel):
    """Keys and their values; a ValueError of a validator of all of it begins with the key."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Group(Checked):
    """A group of params.yaml, whose name there is that of its class in small letters.

    A group of named sets of keys has `extra="allow"`, and `__pydantic_extra__: dict[str, Set]`.
    """

    def joined(self, groups: Any) -> "Group":
        """This group with what it takes from others.

        Args:
            groups: All of them, as they stand in params.yaml.

        Raises:
            ValueError: begins with the key at fault.
        """
        del groups
        return self


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
    """What there is in a group or in a named set, or the groups where `place` is empty."""
    if not place:
        return f"the keys {', '.join(groups())}"
    keys: type[BaseModel] = groups()[place[0]]
    if sets := keys.__annotations__.get("__pydantic_extra__"):
        keys = get_args(sets)[1]
    names = f"the keys {', '.join(keys.model_fields)}"
    return f"names, each with {names}" if sets and len(place) == 1 else names


def _sentence(problem: Any) -> str:
    """One problem that pydantic found, as `key: found ..., expected ...`."""
    place = problem["loc"]
    key = ".".join(shown(part) if isinstance(part, str) else _shown(part) for part in place)
    message = str(problem["msg"])
    match problem["type"]:
        case "missing":
            return f"{key}: this key is missing"
        case "extra_forbidden" | "invalid_key":
            expected = _keys(place[:-1]).removeprefix("the keys ")
            return f"{key}: there is no such key, expected one of {expected}"
        case "model_type":
            expected = f"found {_shown(problem['input'])}, expected {_keys(place)}"
            return f"{key}: {expected}" if place else expected
        case "value_error":
            return f"{key}.{message.removeprefix('Value error, ')}"
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
        model: Any = create_model("Params", __config__=Group.model_config, **fields)
        checked = model.model_validate(values)
        return checked.model_copy(update={name: group.joined(checked) for name, group in checked})
    except ValidationError as error:
        problems = "\n".join(f"  {_sentence(problem)}" for problem in error.errors())
    except ValueError as error:
        problems = f"  {error}"
    raise InputError(f"{source} can't be used:\n{problems}")


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
    """Reads params.yaml, checks all of it, and gives one group, joined with what it takes.

    Raises:
        InputError: see `load_all`.
    """
    return next(settings for _, settings in load_all() if isinstance(settings, group))

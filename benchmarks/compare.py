"""Which outputs of two runs differ, and where."""

import json
from pathlib import Path
from typing import Any

PLACES = ("data", "models", "metrics")
"""Where stages write, and where a half-written file would be left."""


def outputs(folder: Path) -> dict[str, Path]:
    """Every output file of every stage, and every half-written one, by its path in `folder`."""
    return {
        path.relative_to(folder).as_posix(): path
        for name in PLACES
        for path in sorted([folder / name, *(folder / name).rglob("*")])
        if path.is_file() and path.name != ".gitignore"
    }


def differences(first: Path, second: Path) -> list[str]:
    """One line for each output file that is not the same in both folders."""
    left, right = outputs(first), outputs(second)
    lines = [f"{name}: only in {first}" for name in sorted(left.keys() - right.keys())]
    lines += [f"{name}: only in {second}" for name in sorted(right.keys() - left.keys())]
    for name in sorted(left.keys() & right.keys()):
        here, there = left[name].read_bytes(), right[name].read_bytes()
        if here != there:
            lines.append(f"{name}: {_where(name, here, there)}")
    return lines


def _where(name: str, here: bytes, there: bytes) -> str:
    """The first place at which two unlike files differ: a key, a line or a byte."""
    if name.endswith(".json"):
        return _unlike_key(json.loads(here), json.loads(there), "")
    position = next(
        (place for place, (a, b) in enumerate(zip(here, there, strict=False)) if a != b),
        min(len(here), len(there)),
    )
    if name.endswith((".csv", ".md")):
        number = here[:position].count(b"\n")
        lines = [content.decode().split("\n")[number] for content in (here, there)]
        return f"line {number + 1} is {lines[0]!r} in one and {lines[1]!r} in the other"
    return f"byte {position} is the first to differ, of {len(here)} and {len(there)}"


def _unlike_key(here: Any, there: Any, key: str) -> str:
    """The first key under which two JSON values differ, with both values."""
    if isinstance(here, dict) and isinstance(there, dict) and list(here) == list(there):
        pairs = [(name, here[name], there[name]) for name in here]
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        pairs = [(str(place), *both) for place, both in enumerate(zip(here, there, strict=True))]
    else:
        return f"{key or 'the whole'} is {here!r} in one and {there!r} in the other"
    for name, one, other in pairs:
        if one != other:
            return _unlike_key(one, other, f"{key}.{name}" if key else name)
    return "the same values, written in another way"

"""Parameters of `audit`."""

import re
from typing import Literal

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from stages.common.params import Group


class Audit(Group):
    """Which files are used, and what is known about them."""

    unreadable: Literal["fail", "quarantine"]
    labels: Literal["filed", "verified"]
    records: str
    patient_pattern: str
    burned_in_annotation: Literal["refuse", "accept"]

    @field_validator("patient_pattern")
    @classmethod
    def _pattern_finds_a_patient(cls, pattern: str) -> str:
        expected = "a regular expression with a group (?P<patient>...), or nothing"
        try:
            names = re.compile(pattern).groupindex
        except (re.error, OverflowError, RecursionError) as error:
            why = str(error).splitlines()[0]
            raise PydanticCustomError("pattern", f"{expected} ({{why}})", {"why": why}) from None
        if pattern and "patient" not in names:
            raise PydanticCustomError("pattern", expected)
        return pattern

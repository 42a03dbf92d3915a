"""Parameters of `download`."""

from typing import Literal

from pydantic import Field

from stages.common.params import Group, Number, Seed


class Download(Group):
    """Where the radiographs come from."""

    source: Literal["phantom", "archive", "kaggle"]
    phantom_seed: Seed
    phantom_share: Number = Field(gt=0, le=1)
    max_files: int = Field(ge=1, le=10_000_000)
    max_gigabytes: Number = Field(gt=0, le=10_000)

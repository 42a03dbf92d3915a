"""Parameters of `audit`."""

from typing import Literal

from stages.common.params import Group


class Audit(Group):
    """What happens to a file that is no readable image."""

    unreadable: Literal["fail", "quarantine"]

"""PNG charts with the same bytes each time."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.common import files

DOTS_PER_INCH = 110


@contextlib.contextmanager
def figure(inches: tuple[float, float]) -> Iterator[Any]:
    """Gives a matplotlib figure to draw on and save.

    No settings of the user's are read, and a dollar sign is a dollar sign.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["text.parse_math"] = False
        yield Figure(figsize=inches, dpi=DOTS_PER_INCH, layout="constrained")


@contextlib.contextmanager
def drawing(target: Path, inches: tuple[float, float]) -> Iterator[Any]:
    """Gives a `figure`; writes it as PNG, atomically, without date or version."""
    with figure(inches) as drawn:
        yield drawn
        with files.atomic_write(target) as partial:
            drawn.savefig(partial, format="png", metadata={"Software": None})


def rectangle(left: float, top: float, width: float, height: float, **style: Any) -> Any:
    """An unfilled rectangle, to be added to axes."""
    from matplotlib.patches import Rectangle

    return Rectangle((left, top), width, height, fill=False, **style)

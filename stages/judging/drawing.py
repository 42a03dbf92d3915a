"""PNG charts with the same bytes each time, and text on pictures."""

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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


def scale(figure: Any, axes: Any, colours: np.ndarray, words: str) -> None:
    """Adds a scale from 0 to 1 below axes; its colours are uint8, (n, 3)."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap

    mappable = ScalarMappable(cmap=ListedColormap(colours / 255))
    bar = figure.colorbar(mappable, ax=axes, location="bottom", shrink=0.6, aspect=40, label=words)
    bar.set_ticks([0, 1])


def write_on(image: Image.Image, texts: Iterable[tuple[float, float, str]]) -> None:
    """Writes black text, each given with the left and upper edge, by Pillow, which starts fast.

    In the typeface of the charts, which has Greek and Cyrillic letters too.
    """
    package = importlib.util.find_spec("matplotlib")  # found, but not imported
    assert package is not None
    assert package.origin is not None
    typeface = Path(package.origin).with_name("mpl-data") / "fonts/ttf/DejaVuSans.ttf"
    font = ImageFont.truetype(typeface, 14)
    draw = ImageDraw.Draw(image)
    for left, top, text in texts:
        draw.text((left, top), text, "black", font)

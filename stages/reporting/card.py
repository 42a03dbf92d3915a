"""The model card: the values that its template, model_card.md.j2, is filled with.

After Mitchell et al. 2019, with the items of TRIPOD+AI (Collins et al. 2024) and CLAIM (Mongan
et al. 2020, Tejani et al. 2024) that files and metrics can answer. Every number is taken from the
values, and what is said of a number depends on it.
"""

import re
from collections.abc import Mapping
from typing import Any

from stages.reporting import words
from stages.reporting.words import Markdown


def escaped(text: str) -> str:
    """Any text as one line of Markdown that shows it literally, in a table's cell too."""
    line = " ".join(text.split())
    return re.sub(r"[\\`*{}\[\]<>|~&$#]|(?<![^\W_])_|^[-+]", r"\\\g<0>", line)


def shown(value: object) -> str:
    """A value as it stands in the card."""
    if isinstance(value, Markdown):
        return value
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else escaped(str(value))


def flowing(text: str) -> str:
    """Joins the lines of each paragraph and list item, and leaves one blank line between blocks.

    A line that begins a row of a table, a heading, a quotation, a picture or an item stays one.
    """
    joined = re.sub(r"(?<!\n)\n *(?![\n|>!#]|- )", " ", text.strip())
    return re.sub(r"\n{3,}", "\n\n", joined) + "\n"


_environment = words.environment(
    shown, verbatim=lambda value: Markdown(escaped(str(value)) or "none")
)


def write(results: Mapping[str, Any], settings: Any) -> str:
    """The whole card.

    Args:
        results: As for `words.values`.
        settings: All parameters, as from `params.load_all`.

    Returns:
        Markdown that ends with a line feed; its charts are in charts/ beside it.
    """
    template = _environment.get_template("model_card.md.j2")
    return flowing(template.render(words.values(results, settings)))

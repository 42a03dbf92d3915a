"""What the benchmarks print: tables in Markdown, means over seeds, shares with their intervals."""

import statistics
from collections.abc import Mapping, Sequence


def markdown(what: str, columns: Mapping[str, Mapping[str, str]]) -> str:
    """A table in Markdown: a column for each name, a row for each name in any column.

    Args:
        what: The head of the first column, which holds the names of the rows.
        columns: The cells by column and row; a column that lacks a row has an empty cell there.
    """
    rows = dict.fromkeys(row for column in columns.values() for row in column)
    cells = [[row, *(column.get(row, "") for column in columns.values())] for row in rows]
    head = [[what, *columns], ["---"] * (len(columns) + 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*head, *cells])


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean and range, with the `sign` option of a format, such as "+"."""
    low, high = (f"{limit:{sign}.3f}" for limit in (min(values), max(values)))
    return f"{statistics.mean(values):{sign}.3f} ({low}\N{EN DASH}{high})"


def interval(low: float, high: float, sign: str = "") -> str:
    """The two limits of a 95 % interval."""
    return f"[{low:{sign}.3f}, {high:{sign}.3f}]"

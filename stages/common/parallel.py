"""Work on many files at once, in threads, with a progress bar."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """The processors that the operating system grants, which may be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    label: str,
    threads: int | None = None,
    unit: str = "image",
) -> list[Result]:
    """Calls `function` on every item; Pillow releases the interpreter lock, so threads are enough.

    Args:
        function: If it raises, or on Ctrl-C, the items that have not begun are dropped.
        items: What it is called with.
        label: Stands before the progress bar, which is shown on terminals only.
        threads: How many at once; as many as there are cores where it is None.
        unit: What the progress bar counts.

    Returns:
        The results, in the order of the items, whatever the number of threads.
    """
    with ThreadPoolExecutor(threads or available_cores()) as pool:
        try:
            results = pool.map(function, items)
            return list(tqdm(results, label, len(items), unit=unit, disable=None))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise

"""Work on many files at once, in threads, with a progress bar."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

AHEAD = 64
"""How many items are begun at most before the result of the first of them is taken."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """The processors that the operating system grants, which may be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """Calls `function` on every item, a bounded number of items before its result is asked for.

    Pillow releases the interpreter lock, so threads are enough.

    Args:
        function: If it raises, or on Ctrl-C, the items that have not begun are dropped.
        items: What it is called with.
        threads: How many at once; as many as there are cores where it is None.

    Yields:
        The results, in the order of the items, whatever the number of threads.
    """
    with ThreadPoolExecutor(threads or available_cores()) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    label: str,
    threads: int | None = None,
    unit: str = "image",
) -> list[Result]:
    """The results of `ahead`, in a list, with a progress bar on terminals.

    Args:
        function: See `ahead`.
        items: See `ahead`.
        label: Stands before the progress bar.
        threads: See `ahead`.
        unit: What the progress bar counts.
    """
    return list(tqdm(ahead(function, items, threads), label, len(items), unit=unit, disable=None))


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, of which the last may be shorter."""
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, size)):
        yield batch

"""Work on many files at once, in threads or on a Dask cluster, with a progress bar."""

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
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int | None = None,
    anywhere: bool = False,
) -> Iterator[Result]:
    """Calls `function` on every item, a bounded number of items before its result is asked for.

    Pillow releases the interpreter lock, so threads are enough.

    Args:
        function: If it raises, or on Ctrl-C, the items that have not begun are dropped.
        items: What it is called with.
        threads: How many at once; as many as there are cores where it is None. With 0 one after
            another in the thread that asks for the results, or on a cluster in processes of their
            own: for what is at odds with other threads.
        anywhere: On the Dask cluster that the environment variable DASK_SCHEDULER_ADDRESS names,
            if it does. `function` is then of a module, items and results are small, and an item
            whose worker dies is done again.

    Yields:
        The results, in the order of the items, wherever and however many at once.

    Raises:
        InputError: The cluster can't be used, or was lost.
    """
    if anywhere and os.environ.get("DASK_SCHEDULER_ADDRESS"):
        from stages.common import cluster

        yield from cluster.ahead(function, items, heavy=threads == 0)
        return
    if threads == 0:
        yield from map(function, items)
        return
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
    anywhere: bool = False,
) -> list[Result]:
    """The results of `ahead`, in a list, with a progress bar on terminals.

    Args:
        function: See `ahead`.
        items: See `ahead`.
        label: Stands before the progress bar.
        threads: See `ahead`.
        unit: What the progress bar counts.
        anywhere: See `ahead`.
    """
    results = ahead(function, items, threads, anywhere)
    return list(tqdm(results, label, len(items), unit=unit, disable=None))


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, of which the last may be shorter."""
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, size)):
        yield batch

import itertools
import os
import subprocess
import sys
import threading
import time

import pytest

from stages.common import parallel


@pytest.mark.parametrize("threads", [None, 0, 1, 3])
def test_results_come_in_the_order_of_the_items(threads: int | None) -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0)
        return number * number

    assert parallel.each(slow_first, range(20), "x", threads) == [n * n for n in range(20)]


def test_no_items() -> None:
    assert parallel.each(len, [], "x") == []


def test_no_more_threads_than_asked_for() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1

    parallel.each(work, range(12), "x", 3)
    assert most == 3


def test_without_threads_all_is_done_where_the_results_are_asked_for() -> None:
    threads = parallel.each(lambda _: threading.get_ident(), range(3), "x", 0)
    assert threads == 3 * [threading.get_ident()]


def test_dask_is_not_imported_where_no_address_is_set() -> None:
    code = (
        "import sys; from stages.common import parallel; "
        "print(parallel.each(len, ['a'], 'x', anywhere=True), 'distributed' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"DASK_SCHEDULER_ADDRESS": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[1] False\n"


def test_a_fault_ends_the_whole_at_once() -> None:
    begun = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise KeyError(number)
        time.sleep(0.01)

    with pytest.raises(KeyError):
        parallel.each(work, range(1000), "x", 2)
    assert len(begun) < 100


def test_no_more_are_done_ahead_than_a_bounded_number() -> None:
    begun: list[int] = []
    results = parallel.ahead(begun.append, range(500), 2)
    assert begun == []
    for taken in range(1, 501):
        next(results)
        assert len(begun) <= taken + parallel.AHEAD
    assert len(begun) == 500
    assert list(results) == []


def test_of_items_that_come_without_an_end_the_rest_is_not_asked_for() -> None:
    results = parallel.ahead(str, itertools.count(), 2)
    assert [next(results) for _ in range(200)] == [str(number) for number in range(200)]
    results.close()  # type: ignore[attr-defined]


def test_batches() -> None:
    assert list(parallel.batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(parallel.batches("abcd", 2)) == [["a", "b"], ["c", "d"]]
    assert list(parallel.batches([], 2)) == []


def test_there_is_a_core() -> None:
    assert parallel.available_cores() >= 1

import threading
import time

import pytest

from benchmarks.steps import Clock
from stages.common import parallel


class Hands:
    """What the clock reads, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def move(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    made = Hands()
    monkeypatch.setattr(time, "perf_counter", lambda: made.now)
    return made


def test_a_step_stands_still_while_another_runs_inside_it(hands: Hands) -> None:
    clock = Clock()
    inner = clock.around("inner", hands.move)

    def work() -> None:
        hands.move(1)
        inner(10)
        hands.move(2)

    clock.around("outer", work)()
    hands.move(100)
    inner(20)
    assert clock.seconds == {"outer": 3, "inner": 30}


def test_a_step_inside_itself_counts_once_and_a_fault_ends_it(hands: Hands) -> None:
    clock = Clock()

    def fall(depth: int) -> None:
        hands.move(1)
        if depth:
            again(depth - 1)
        raise ValueError

    again = clock.around("step", fall)
    with pytest.raises(ValueError, match=r"^$"):
        again(3)
    hands.move(100)
    clock.around("other", hands.move)(1)
    assert clock.seconds == {"step": 4, "other": 1}


def test_what_runs_in_a_thread_counts_by_the_number_of_cores(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "available_cores", lambda: 4)
    clock = Clock()
    thread = threading.Thread(target=clock.around("step", hands.move), args=[8])
    thread.start()
    thread.join()
    assert clock.seconds == {"step": 2}

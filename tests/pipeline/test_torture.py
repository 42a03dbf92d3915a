"""Killed anywhere, the pipeline leaves no wrong result behind (the long version: make torture)."""

import yaml

from benchmarks import torture
from benchmarks.scratch import PROJECT

KILLS = 64


def test_after_a_kill_everything_is_as_if_nothing_had_happened() -> None:
    total = torture.torture(KILLS, seed=20261)
    assert total.wrong == []
    assert total.struck >= 60


def test_the_plan_covers_every_stage_signal_and_target() -> None:
    kills = [kill for trial in torture.plan(KILLS, seed=20261) for kill in trial]
    assert {kill.stage for kill in kills} == set(torture.STAGES)
    assert {(kill.target, kill.signal) for kill in kills} == {
        (target, number) for target in torture.TARGETS for number in torture.SIGNALS
    }


def test_every_stage_is_killed() -> None:
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text("utf-8"))["stages"]
    assert set(torture.STAGES) == set(stages)

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmarks import scale
from benchmarks.scale import Cost
from benchmarks.scratch import PROJECT
from stages.common import files
from stages.intake import copies

SIZES = [300, 3_000, 30_000]


def grown(power: float, memory: float, table: int = 0) -> list[Cost]:
    """Costs that grow as n^power, and whose memory grows `memory` times at the last step."""
    return [
        Cost(size**power / 100, round(1e8 * (memory if size == SIZES[-1] else 1)) + table, table)
        for size in SIZES
    ]


def test_every_stage_is_measured() -> None:
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text("utf-8"))["stages"]
    assert set(stages) <= set(scale.COMMANDS)


def test_the_exponent_is_that_of_the_last_step() -> None:
    assert scale.exponent([3, 30, 300], [7.0, 1.0, 100.0]) == pytest.approx(2)


def test_what_grows_too_fast_is_named_and_the_table_is_allowed() -> None:
    found = {
        "fine": grown(1.05, 1.4),
        "slow": grown(1.2, 1.0),
        "large": grown(0.5, 1.6),
        "table": [*grown(1, 1)[:2], *grown(1, 1.4, table=10**9)[2:]],
        "dvc commit": grown(1.2, 3.0),
    }
    assert scale.missed(SIZES, found) == [
        "slow: time grows as n^1.20, at most n^1.1",
        "large: memory grows to 1.60, at most 1.5",
    ]


def test_the_table_has_a_row_for_each_command_and_a_column_for_each_size() -> None:
    found = {"audit": grown(1, 1.25)}
    lines = scale.table(SIZES, found).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2] == "| `audit` | 10.00 | 10.00 | 10.00 | 100 | 100 | 125 | n^1.00 | 1.25 |"
    assert "grows" not in scale.table(SIZES[:1], {"audit": grown(1, 1)[:1]})


def test_a_chart_is_drawn(tmp_path: Path) -> None:
    scale.draw(SIZES, {"audit": grown(1, 1.2), "train": grown(0.8, 1)}, tmp_path / "scale.png")
    with Image.open(tmp_path / "scale.png") as image:
        assert min(image.size) > 400


def test_no_two_of_the_images_are_copies_and_each_is_the_same_each_time(tmp_path: Path) -> None:
    base = np.linspace(0, 255, 300 * 320, dtype=np.float32).reshape(300, 320)
    scale.make(tmp_path / "one", 30, {"A": [base], "B": [base.T.reshape(300, 320)]})
    scale.make(tmp_path / "two", 30, {"A": [base], "B": [base.T.reshape(300, 320)]})
    assert files.sha256_of_folder(tmp_path / "one") == files.sha256_of_folder(tmp_path / "two")
    paths = sorted((tmp_path / "one").glob("*/*/*"))
    assert sorted({path.relative_to(tmp_path / "one").parent.as_posix() for path in paths}) == [
        "test/A",
        "test/B",
        "train/A",
        "train/B",
    ]
    names = [str(path) for path in paths]
    assert copies.find(names, names, [copies.fingerprint(Image.open(path)) for path in paths]) == []

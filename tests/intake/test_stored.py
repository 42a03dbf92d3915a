from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.common import parallel
from stages.intake import copies, stored
from stages.intake.copies import Fingerprint
from tests.intake.test_copies import TRANSFORMED, chest


@pytest.fixture(scope="module")
def prints() -> list[Fingerprint]:
    """Of chests, copies of some of them, and a blank picture."""
    images = [chest(seed) for seed in range(8)]
    images += [make(images[2]) for make in TRANSFORMED.values()]
    return parallel.each(copies.fingerprint, [*images, Image.new("L", (64, 64))], "chests")


def same(one: Fingerprint, other: Fingerprint) -> bool:
    arrays = (np.array_equal(getattr(one, n), getattr(other, n)) for n in ("hashes", "fine"))
    return (
        all(arrays)
        and np.array_equal(one.coarse, other.coarse)
        and one.coarse.dtype == other.coarse.dtype
        and one.blank == other.blank
    )


def written(file: Path, prints: list[Fingerprint], order: list[int]) -> Path:
    file.touch()
    for number in order:
        stored.write(file, number, prints[number])
    return file


def test_what_is_written_in_any_order_is_read_by_its_number(
    prints: list[Fingerprint], tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(len(prints)).tolist()
    file = written(tmp_path / "prints", prints, order)
    read = stored.Stored(file, range(len(prints)))
    assert all(same(read[number], each) for number, each in enumerate(prints))
    assert read[len(prints) - 1].blank
    some = stored.Stored(file, [7, 2])
    assert same(some[0], prints[7])
    assert same(some[1], prints[2])


def test_numbers_may_be_left_out(prints: list[Fingerprint], tmp_path: Path) -> None:
    file = written(tmp_path / "prints", prints, [5, 1])
    assert same(stored.Stored(file, [1, 5])[1], prints[5])


def test_threads_may_write_at_once(prints: list[Fingerprint], tmp_path: Path) -> None:
    file = written(tmp_path / "prints", prints, [])
    many = prints * 20
    parallel.each(
        lambda number: stored.write(file, number, many[number]), range(len(many)), "", threads=8
    )
    read = stored.Stored(file, range(len(many)))
    assert all(same(read[number], each) for number, each in enumerate(many))


def test_the_same_copies_are_found_as_in_memory(
    prints: list[Fingerprint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(number) for number in range(len(prints))]
    expected = copies.find(names, names, prints)
    assert len(expected) >= len(TRANSFORMED)
    file = written(tmp_path / "prints", prints, list(range(len(prints))))
    read = stored.Stored(file, range(len(prints)))
    assert copies.find(names, names, read) == expected
    monkeypatch.setattr(copies, "_SLICE", 3)
    assert copies.find(names, names, read) == expected

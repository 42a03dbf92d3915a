import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from threadpoolctl import threadpool_limits

from benchmarks import foreign_pictures
from stages.common import parallel
from stages.common.errors import InputError
from stages.learning import novelty
from stages.learning.dataset import SIZE
from stages.learning.novelty import Novelty
from stages.sources import phantom
from tests import made

TRAINING, FRESH = 100, 60
FOREIGN = foreign_pictures.all_kinds()


def random_pictures(seed: int, count: int) -> np.ndarray:
    """Random draws of one kind of picture: 10 x 10 blocks that go together; uint8."""
    random = np.random.default_rng(seed)
    together = np.random.default_rng(0).normal(size=(8, 100))
    grey = (
        128 + 12 * random.normal(size=(count, 8)) @ together + 5 * random.normal(size=(count, 100))
    )
    blocks = np.uint8(np.clip(grey, 0, 255)).reshape(count, 10, 10)
    return np.repeat(blocks.repeat(20, 1).repeat(20, 2)[..., None], 3, axis=3)


@pytest.fixture(scope="module")
def phantoms() -> np.ndarray:
    """Chest radiographs, no two of one patient."""

    def pixels(number: int) -> np.ndarray:
        folder = f"train/{('Covid', 'Normal', 'Viral Pneumonia')[number % 3]}"
        data = phantom.render(made.small(phantom.make_original(5, number, f"{folder}/{number}")))
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        return np.asarray(upright.resize((SIZE, SIZE)))

    return np.array(parallel.each(pixels, range(TRAINING + FRESH), "phantoms"))


@pytest.fixture(scope="module")
def fresh(phantoms: np.ndarray) -> np.ndarray:
    return phantoms[TRAINING:]


@pytest.fixture(scope="module")
def fitted(phantoms: np.ndarray) -> Novelty:
    return novelty.fit(phantoms[:TRAINING], np.arange(TRAINING))


# ---------------------------------------------------------------------- what is refused, what not


def test_hardly_any_fresh_radiograph_is_refused(fitted: Novelty, fresh: np.ndarray) -> None:
    assert fitted.refused(fresh).sum() <= 3


@pytest.mark.parametrize("change", ["turned left", "turned right", "upside down", "inverted"])
def test_radiographs_that_are_not_as_they_should_be_are_refused(
    fitted: Novelty, fresh: np.ndarray, change: str
) -> None:
    assert fitted.refused(foreign_pictures.changed(fresh)[change]).mean() >= 0.95


def test_mirrored_radiographs_are_not_caught(fitted: Novelty, fresh: np.ndarray) -> None:
    """As the documentation says."""
    assert fitted.refused(foreign_pictures.changed(fresh)["mirrored"]).mean() < 0.5


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_pictures_are_refused(fitted: Novelty, kind: str) -> None:
    assert len(FOREIGN[kind]) >= 4
    assert fitted.refused(FOREIGN[kind]).mean() >= 0.9


@settings(deadline=None)
@given(st.floats(0.5, 2), st.floats(0.4, 1), st.integers(0, 100))
def test_brightness_contrast_and_gamma_hardly_count(fitted, fresh, gamma, contrast, darkest):
    shares = (np.arange(256) / 255) ** gamma
    curve = (darkest + contrast * (255 - darkest) * shares).astype(np.uint8)
    assert np.abs(fitted.score(curve[fresh[:3]]) - fitted.score(fresh[:3])).max() < 0.2


@given(st.lists(st.integers(0, 9), min_size=100, max_size=100))
def test_equal_blocks_share_their_rank(greys):
    blocks = np.repeat(np.array(greys, np.float64)[:, None], 3, axis=1)
    ranks = novelty._ranks(blocks)
    assert np.allclose(novelty._ranks(9 - blocks), -ranks)
    assert all(len(set(ranks[np.equal(greys, grey)])) <= 1 for grey in range(10))


def test_blank_pictures_are_refused_also_where_they_lie_in_the_middle_of_all() -> None:
    """Of radiographs without anything in common the mean has no light and no dark places."""
    blocks = np.random.default_rng(0).integers(0, 256, (200, 10, 10, 1), np.uint8)
    pictures = np.broadcast_to(blocks, (200, 10, 10, 3)).repeat(20, 1).repeat(20, 2)
    judge = novelty.fit(pictures, np.arange(200))
    assert np.linalg.norm(judge.whitening @ judge.mean) < judge.farthest  # as far as ranks tell
    assert judge.refused(FOREIGN["blank"]).all()
    assert judge.refused(pictures).mean() < 0.05


def test_a_radiograph_may_have_wide_black_borders() -> None:
    grey = np.random.default_rng(1).permutation(100)
    grey[grey < 80] = 0  # four fifths
    blocks = np.repeat(grey[:, None].astype(np.float64), 3, axis=1)
    assert novelty._flatness(novelty._ranks(blocks)) < novelty._FLAT
    assert novelty._flatness(novelty._ranks(np.zeros((100, 3)))) == 1
    different = np.repeat(np.arange(100.0)[:, None], 3, axis=1)
    assert novelty._flatness(novelty._ranks(different)) == 0


def test_colour_counts(fitted: Novelty, fresh: np.ndarray) -> None:
    def tinted(strength: int) -> np.ndarray:
        tints = np.array([0, strength, 2 * strength])
        return np.asarray(np.clip(fresh[:10] + tints, 0, 255), np.uint8)

    typical = fitted.score(fresh[:10]) < 0.9
    assert typical.sum() > 5
    assert not fitted.refused(tinted(2))[typical].any()
    assert fitted.refused(tinted(20)).all()


def test_training_radiographs_may_be_tinted() -> None:
    tinted = (random_pictures(0, 60) // 2 + np.array([0, 30, 60])).astype(np.uint8)
    alike = ~novelty.fit(tinted, np.arange(60)).refused(tinted)
    assert alike.mean() > 0.9


def test_about_one_in_a_hundred_fresh_pictures_is_refused() -> None:
    judge = novelty.fit(random_pictures(1, 400), np.arange(400))
    assert 0.002 <= judge.refused(random_pictures(2, 1000)).mean() <= 0.03


def test_copies_do_not_judge_each_other() -> None:
    twice = random_pictures(3, 40).repeat(2, axis=0)
    rightly = novelty.fit(twice, np.arange(80) // 2)
    wrongly = novelty.fit(twice, np.random.default_rng(0).permutation(80))
    assert rightly.farthest > 1.1 * wrongly.farthest
    assert (rightly.whitening == wrongly.whitening).all()


# --------------------------------------------------------------------------------- few radiographs


@pytest.mark.parametrize("count", [1, 2, 19])
def test_with_few_radiographs_colour_alone_counts(count: int) -> None:
    judge = novelty.fit(random_pictures(0, count), np.arange(count))
    assert not judge.refused(FOREIGN["noise"]).any()
    assert judge.refused(FOREIGN["photographs in colour"]).all()


def test_twenty_radiographs_are_enough() -> None:
    pictures = random_pictures(0, 20)
    assert novelty.fit(pictures, np.arange(20)).refused(FOREIGN["noise"]).all()
    assert not novelty.fit(pictures, np.arange(20) % 19).refused(FOREIGN["noise"]).any()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 45), st.integers(1, 45), st.booleans())
def test_anything_can_be_learned_from(seed, count, different, flat):
    """Few pictures, equal ones, flat ones, few groups."""
    random = np.random.default_rng(seed)
    shape = (different, 1, 1, 1) if flat else (different, 10, 10, 1)
    pictures = random.integers(0, 256, shape, np.uint8)
    pictures = np.broadcast_to(pictures, (different, 10, 10, 3)).repeat(20, 1).repeat(20, 2)
    chosen = pictures[random.integers(different, size=count)]
    judge = novelty.fit(chosen, random.integers(count, size=count))
    scores = judge.score(np.concatenate([chosen, FOREIGN["blank"]]))
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


# ------------------------------------------------------------------------------ the same each time


def test_a_picture_gets_the_same_bits_alone_and_among_others(
    fitted: Novelty, fresh: np.ndarray
) -> None:
    together = fitted.score(fresh)
    assert together.dtype == np.float64
    assert together.tolist() == [fitted.score(fresh[n : n + 1])[0] for n in range(len(fresh))]
    assert fitted.refused(fresh).tolist() == (together > 1).tolist()
    assert fitted.score(fresh[:0]).shape == (0,)


def test_the_bits_do_not_depend_on_the_number_of_threads(phantoms: np.ndarray) -> None:
    judges = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            judges.append(novelty.fit(phantoms, np.arange(len(phantoms))))
    assert (judges[0].whitening == judges[1].whitening).all()
    assert judges[0].farthest == judges[1].farthest


# ------------------------------------------------------------------------------------------- files


@pytest.fixture
def saved(fitted: Novelty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fitted.save()
    return novelty.NOVELTY


def test_what_is_saved_is_loaded_and_has_the_same_bytes_each_time(
    saved: Path, fitted: Novelty, fresh: np.ndarray
) -> None:
    first = made.contents_of(saved.parent)
    assert set(first) == {"novelty.npz"}
    loaded = Novelty.load()
    assert (loaded.score(fresh) == fitted.score(fresh)).all()
    loaded.save()
    assert made.contents_of(saved.parent) == first


def test_a_missing_file_is_named(saved: Path) -> None:
    saved.unlink()
    with pytest.raises(InputError) as caught:
        Novelty.load()
    assert str(caught.value) == (
        "models/novelty.npz is not there; the stage `calibrate` writes it. "
        "Run `dvc repro calibrate`."
    )


@pytest.mark.parametrize("damage", ["nothing", "text", "half", "other bytes", "other arrays"])
def test_a_damaged_file_is_named(saved: Path, damage: str) -> None:
    whole = saved.read_bytes()
    if damage == "other arrays":
        np.savez(saved, mean=np.zeros(3))
    else:
        other = whole[:40_000] + bytes(400) + whole[40_400:]
        contents = {"nothing": b"", "text": b"[]", "half": whole[:40_000], "other bytes": other}
        saved.write_bytes(contents[damage])
    expected = re.escape("models/novelty.npz is not what the stage `calibrate` writes (")
    with pytest.raises(InputError, match=expected + r".+\)\. Run `dvc repro --force calibrate`\.$"):
        Novelty.load()


def test_judging_imports_nothing_heavy(saved: Path) -> None:
    code = """
import json, sys
import numpy as np
from stages.learning.novelty import Novelty
print(json.dumps(Novelty.load().refused(np.zeros((2, 200, 200, 3), np.uint8)).tolist()))
heavy = ("tensorflow", "keras", "scipy", "sklearn", "matplotlib", "pandas", "threadpoolctl")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(made.PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[True, True], []]

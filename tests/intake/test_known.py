import functools
import io
import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from benchmarks import phantom_copies
from stages.common import parallel
from stages.common.errors import InputError
from stages.intake import copies, known
from stages.intake.copies import Fingerprint
from stages.intake.known import Known
from stages.sources import phantom
from tests import made
from tests.intake.test_copies import chest, cropped, jpeg, scaled, windowed

PLAN = [made.small(picture) for picture in phantom_copies.plan(9, 110)]
TRAINING = [number for number, each in enumerate(PLAN) if each.path.startswith("train/")]


def known_of(paths: list[str], prints: list[Fingerprint]) -> Known:
    arrays = (np.stack([getattr(each, name) for each in prints]) for name in known.ARRAYS)
    return Known(paths, *arrays)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    def upright(picture: phantom.Phantom) -> Image.Image:
        with Image.open(io.BytesIO(phantom.render(picture))) as image:
            return ImageOps.exif_transpose(image).convert("RGB")

    return parallel.each(upright, PLAN, "phantoms")


@pytest.fixture(scope="module")
def prints(pictures: list[Image.Image]) -> list[Fingerprint]:
    return parallel.each(copies.fingerprint, pictures, "phantoms")


@pytest.fixture(scope="module")
def training(prints: list[Fingerprint]) -> Known:
    return known_of([PLAN[n].path for n in TRAINING], [prints[n] for n in TRAINING])


@pytest.fixture(scope="module")
def answers(training: Known, pictures: list[Image.Image]) -> list[list[tuple[str, float]]]:
    return [training.find(picture) for picture in pictures]


@functools.cache
def fingerprints_of_chests() -> list[Fingerprint]:
    return parallel.each(
        lambda seed: copies.fingerprint(chest(seed)), [1, *range(100, 140)], "chests"
    )


@pytest.fixture
def chests() -> list[Fingerprint]:
    """Of forty-one different ones; that of number 1 is the first."""
    return fingerprints_of_chests()


# ------------------------------------------------------------------------- what is found, what not


def test_every_copy_that_the_audit_finds_among_phantoms_is_known(
    prints: list[Fingerprint], answers: list[list[tuple[str, float]]]
) -> None:
    names = [str(number) for number in range(len(PLAN))]
    truth = defaultdict(set)
    for pair in copies.find(names, names, prints):
        truth[pair.first].add(PLAN[pair.second].path)
        truth[pair.second].add(PLAN[pair.first].path)
    training = {PLAN[number].path for number in TRAINING}
    asked = [n for n in range(len(PLAN)) if n not in TRAINING and truth[n] & training]
    assert len(asked) > 10
    missed = {PLAN[n].path: truth[n] & training - {path for path, _ in answers[n]} for n in asked}
    assert {path: paths for path, paths in missed.items() if paths} == {}


def test_what_is_no_copy_of_a_training_phantom_is_not_known(
    answers: list[list[tuple[str, float]]],
) -> None:
    """Neither are other radiographs of the patient, nor mirrored ones."""
    shown = {
        each.path: ((each.original or each).radiograph, each.kind == "mirrored") for each in PLAN
    }
    wrong = [
        (each.path, path)
        for each, answer in zip(PLAN, answers, strict=True)
        for path, _ in answer
        if shown[each.path] != shown[path]
    ]
    assert wrong == []
    assert sum(answer == [] for answer in answers) > 20


def test_a_training_image_knows_itself_first(answers: list[list[tuple[str, float]]]) -> None:
    for number in TRAINING:
        path, similarity = answers[number][0]
        assert similarity == 1
        assert path == PLAN[number].path or PLAN[number].kind in ("bytes", "pixels", "original")
        assert answers[number] == sorted(answers[number], key=lambda each: (-each[1], each[0]))


shares = st.floats(0, 0.12)


@settings(max_examples=30, deadline=None)
@given(
    crop=st.tuples(shares, shares, shares, shares),
    scale=st.tuples(st.floats(0.3, 1.5), st.floats(0.3, 1.5)),
    window=st.tuples(st.floats(0.7, 1.3), st.floats(0.5, 1.4), st.floats(0.4, 2.5)),
    quality=st.integers(10, 95),
)
def test_the_answer_is_the_audits(crop, scale, window, quality):
    chests = fingerprints_of_chests()
    picture = jpeg(windowed(scaled(cropped(chest(1), *crop), *scale), *window), quality)
    names = [str(number) for number in range(42)]
    pairs = copies.find(names, names, [copies.fingerprint(picture), *chests])
    answer = known_of(names[1:], chests).find(picture)
    assert [path for path, _ in answer] == [names[pair.second] for pair in pairs]
    assert all(copies.SIMILAR <= similarity <= 1 for _, similarity in answer)


def test_of_many_copies_the_eight_nearest_are_found(chests: list[Fingerprint]) -> None:
    paths = [f"{number:02d}" for number in range(20)]
    answer = known_of(paths, [chests[0]] * 20).find(chest(1))
    assert answer == [(path, 1) for path in paths[:8]]


def test_a_blank_picture_is_a_copy_of_none(training: Known) -> None:
    assert training.find(Image.new("L", (300, 200), 90)) == []
    assert training.find(Image.new("RGB", (32, 32))) == []


def test_a_picture_that_is_all_but_blank_is_a_copy_of_none() -> None:
    strong = chest(1).point([255 * (value > 120) for value in range(256)])
    faint = chest(1).point([100 + (value > 120) for value in range(256)])
    loaded = known_of(["strong"], [copies.fingerprint(strong)])
    assert loaded.find(strong) == [("strong", 1)]
    assert loaded.find(faint) == []


def test_threads_may_share_it(
    training: Known, pictures: list[Image.Image], answers: list[list[tuple[str, float]]]
) -> None:
    assert parallel.each(training.find, pictures[::4], "threads", threads=4) == answers[::4]


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(0, 70))
def test_the_index_finds_nothing_but_near_hashes_and_all_equal_ones(seed, count, flips):
    """Of random pictures, and of one that differs from the first in some bits of every hash."""
    random = np.random.default_rng(seed)
    hashes = random.integers(2**63, size=(count, 36, 4), dtype=np.uint64)
    bits = np.unpackbits(hashes[0].view(np.uint8), axis=1)
    for row in bits:
        row[random.choice(256, flips, replace=False)] ^= 1
    asked = np.packbits(bits, axis=1).view(np.uint64)
    pictures, windows = copies.Index(hashes).nearest(asked)
    distances = [
        int(np.bitwise_count(asked[own] ^ hashes[picture, its]).sum())
        for picture, (own, its) in zip(pictures, windows, strict=True)
    ]
    assert distances == sorted(distances)
    assert all(distance <= 52 for distance in distances)
    assert len(set(pictures.tolist())) == len(pictures) <= 8
    if flips == 0:
        assert pictures[0] == 0
        assert distances[0] == 0


# ------------------------------------------------------------------------------------------ files


def written(prints: list[Fingerprint]) -> list[str]:
    paths = [
        f"train/Covid/{number} \N{LATIN SMALL LETTER O WITH DIAERESIS}.png"
        for number in range(len(prints))
    ]
    known.write(paths, prints)
    return paths


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("project")
def test_what_is_written_is_read_again_and_has_the_same_bytes_each_time(
    chests: list[Fingerprint],
) -> None:
    paths = written(chests)
    first = made.contents_of(known.FINGERPRINTS)
    assert set(first) == {"paths.json", "hashes.npy", "fine.npy", "coarse.npy"}
    assert Known.load().find(chest(1)) == [(paths[0], 1)]
    assert Known.load().find(chest(2)) == []
    written(chests)
    assert made.contents_of(known.FINGERPRINTS) == first


@pytest.mark.usefixtures("project")
def test_the_large_arrays_stay_on_the_disk(chests: list[Fingerprint]) -> None:
    written(chests)
    loaded = Known.load()
    assert isinstance(loaded._fine, np.memmap)
    assert isinstance(loaded._coarse, np.memmap)


@pytest.mark.usefixtures("project")
def test_blank_training_images_are_left_out(chests: list[Fingerprint]) -> None:
    blank = copies.fingerprint(Image.new("L", (64, 64)))
    paths = written([blank, chests[0], blank])
    assert json.loads((known.FINGERPRINTS / "paths.json").read_text()) == [paths[1]]
    assert Known.load().find(chest(1)) == [(paths[1], 1)]


@pytest.mark.usefixtures("project")
def test_nothing_is_a_copy_where_all_training_images_are_blank() -> None:
    written([copies.fingerprint(Image.new("L", (64, 64)))])
    assert Known.load().find(chest(1)) == []


@pytest.mark.usefixtures("project")
def test_a_missing_file_is_named(chests: list[Fingerprint]) -> None:
    with pytest.raises(InputError) as caught:
        Known.load()
    assert str(caught.value) == (
        "data/fingerprints/paths.json is not there; the stage `audit` writes it. "
        "Run `dvc repro audit`."
    )
    for name in ("hashes", "fine", "coarse"):
        written(chests)
        (known.FINGERPRINTS / f"{name}.npy").unlink()
        with pytest.raises(InputError) as caught:
            Known.load()
        assert str(caught.value) == (
            f"data/fingerprints/{name}.npy is not there; the stage `audit` writes it. "
            "Run `dvc repro audit`."
        )


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", ["hashes", "fine", "coarse"])
@pytest.mark.parametrize("left", ["nothing", "text", "half", "fewer"])
def test_a_damaged_file_is_named(chests: list[Fingerprint], name: str, left: str) -> None:
    written(chests)
    path = known.FINGERPRINTS / f"{name}.npy"
    whole = path.read_bytes()
    if left == "fewer":
        np.save(path, np.load(path)[1:])
    else:
        path.write_bytes({"nothing": b"", "text": b"[]", "half": whole[: len(whole) // 2]}[left])
    expected = f"{path} is not the array that the stage `audit` writes (.*). Run `dvc repro --force"
    with pytest.raises(InputError, match=re.escape(expected).replace(r"\(\.\*\)", r"\(.*\)")):
        Known.load()

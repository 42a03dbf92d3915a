import io
import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from benchmarks import phantom_copies
from stages.sources import phantom
from stages.sources.phantom import Phantom
from tests.made import small

SEED = 20200131
COPIES = phantom_copies.plan(3, 45)
PLAN = phantom.plan(SEED)
EXTERNAL = phantom.external_plan(SEED)


def original_of(copy: Phantom) -> Phantom:
    assert copy.original is not None
    return copy.original


def opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


def upright(data: bytes) -> NDArray[Any]:
    return np.asarray(ImageOps.exif_transpose(opened(data)).convert("L"), np.float32)


def first(kind: str, pictures: list[Phantom] = COPIES) -> Phantom:
    return next(picture for picture in pictures if picture.kind == kind)


def likeness(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The correlation of two pictures' middles, after they were brought to one size."""
    size = (64, 64)
    thumbnails = [
        np.asarray(Image.fromarray(array.astype(np.uint8)).resize(size), np.float32)[8:-8, 8:-8]
        for array in (one, other)
    ]
    return float(np.corrcoef(thumbnails[0].ravel(), thumbnails[1].ravel())[0, 1])


def folders(pictures: list[Phantom]) -> Counter[str]:
    return Counter(picture.path.rpartition("/")[0] for picture in pictures)


def splits_of_patients(pictures: list[Phantom]) -> dict[int, set[str]]:
    """For each patient with several radiographs, copies aside, the splits that they are in."""
    splits = defaultdict(list)
    for picture in pictures:
        if picture.kind == "original":
            splits[picture.patient].append(picture.path.split("/")[0])
    return {patient: set(found) for patient, found in splits.items() if len(found) > 1}


def test_plan_has_the_counts_of_the_real_set() -> None:
    assert folders(phantom.plan(SEED)) == {
        "train/Covid": 111,
        "train/Normal": 70,
        "train/Viral Pneumonia": 70,
        "test/Covid": 26,
        "test/Normal": 20,
        "test/Viral Pneumonia": 20,
    }


def test_plan_has_equal_bytes_where_the_real_set_has_them() -> None:
    pairs = Counter(
        (original_of(picture).path.split("/")[0], *picture.path.split("/")[:2])
        for picture in phantom.plan(SEED)
        if picture.kind == "bytes"
    )
    assert pairs == {
        ("train", "test", "Covid"): 6,
        ("train", "train", "Normal"): 2,
        ("train", "train", "Viral Pneumonia"): 1,
        ("test", "test", "Covid"): 1,
    }


def test_plan_has_near_copies_within_and_across_splits() -> None:
    near = [
        picture
        for picture in phantom.plan(SEED)
        if picture.kind not in ("original", "bytes", "pixels")
    ]
    steps = {step for picture in near for step in picture.kind.split(" + ")}
    assert steps == {"re-encoded", "re-scaled", "cropped", "windowed"}
    crossing = [original_of(picture).path[:4] != picture.path[:4] for picture in near]
    assert any(crossing)
    assert not all(crossing)


def test_plan_has_patients_with_two_radiographs() -> None:
    sides = Counter(len(splits) for splits in splits_of_patients(PLAN).values())
    assert sides == {1: 9, 2: 3}
    radiographs = defaultdict(set)
    for picture in PLAN:
        radiographs[picture.patient].add(picture.radiograph)
    assert Counter(map(len, radiographs.values())) == {1: len(radiographs) - 12, 2: 12}
    for patient in splits_of_patients(PLAN):
        assert len({picture.source for picture in PLAN if picture.patient == patient}) == 1


def test_plan_has_wrong_labels() -> None:
    wrong = Counter(
        (picture.path.split("/")[0], "wrong" if picture.finding else "not recorded")
        for picture in PLAN
        if picture.finding != picture.class_name
    )
    assert wrong == {
        ("train", "wrong"): 6,
        ("test", "wrong"): 2,
        ("train", "not recorded"): 2,
        ("test", "not recorded"): 1,
    }


def test_the_class_goes_loosely_with_the_source() -> None:
    sources = Counter(
        (picture.class_name, picture.source) for picture in PLAN if picture.kind == "original"
    )
    for class_name, mostly in (("Covid", "A"), ("Normal", "B"), ("Viral Pneumonia", "B")):
        here, there = (sources[class_name, f"phantom hospital {name}"] for name in "AB")
        share = (here if mostly == "A" else there) / (here + there)
        assert 0.6 < share < 0.9, class_name


def test_records_tell_of_every_file_what_is_planted() -> None:
    rows = phantom.records(PLAN[::-1])
    assert [row["path"] for row in rows] == [picture.path for picture in PLAN]
    assert set(rows[0]) == {"path", "patient", "source", "finding", "view"}
    patients = {row["path"]: row["patient"] for row in rows}
    for picture, row in zip(PLAN, rows, strict=True):
        assert (row["source"], row["finding"], row["view"]) == (
            picture.source,
            picture.finding,
            picture.view,
        )
        if picture.original:
            assert row["patient"] == patients[picture.original.path]
    assert len(set(patients.values())) == len({picture.patient for picture in PLAN})
    assert all(re.fullmatch(r"phantom-patient-\d{3}", name) for name in patients.values())


def test_external_plan_has_its_copies_and_findings() -> None:
    assert folders(EXTERNAL) == {
        "external/Covid": 30,
        "external/Normal": 40,
        "external/Other disease": 40,
    }
    for picture in EXTERNAL:
        expected = {"Other disease": "Lobar Pneumonia"}.get(picture.class_name, picture.class_name)
        assert picture.finding == expected
    copies = [picture for picture in EXTERNAL if picture.original]
    assert Counter(picture.kind for picture in copies) == {
        "bytes": 2,
        "cropped": 2,
        "re-scaled": 2,
        "windowed": 2,
    }
    assert {picture.class_name for picture in copies} == {"Covid"}
    own = [picture for picture in EXTERNAL if not picture.original]
    assert {picture.source for picture in own} == {"phantom hospital C"}
    assert "phantom hospital C" not in {picture.source for picture in PLAN}


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1, exclude_min=True))
def test_any_external_plan_copies_the_training_set_alone(seed: int, share: float) -> None:
    pictures = phantom.external_plan(seed, share)
    assert pictures == phantom.external_plan(seed, share)
    paths = [picture.path for picture in pictures]
    assert paths == sorted(set(paths))
    assert all(count >= 3 for count in folders(pictures).values())
    assert len(folders(pictures)) == 3
    known = phantom.plan(seed, share)
    copies = [picture for picture in pictures if picture.original]
    assert copies
    for copy in copies:
        assert copy.original in known
        assert original_of(copy).path.startswith("train/Covid/")
    own = [picture for picture in pictures if not picture.original]
    for number in ("radiograph", "patient"):
        numbers = {getattr(picture, number) for picture in own}
        assert len(numbers) == len(own)
        assert not numbers & {getattr(picture, number) for picture in known}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1, exclude_min=True))
def test_any_plan_is_whole(seed: int, share: float) -> None:
    pictures = phantom.plan(seed, share)
    assert pictures == phantom.plan(seed, share)
    paths = [picture.path for picture in pictures]
    assert paths == sorted(set(paths))
    assert len({path.rpartition(".")[0] for path in paths}) == len(paths)
    for folder, count in folders(pictures).items():
        split, class_name = folder.split("/")
        fewest = {"train": 4, "test": 3}[split]
        assert count == max(fewest, round(phantom.COUNTS[split][class_name] * share))
    assert len(folders(pictures)) == 6

    known = {picture.path: picture for picture in pictures}
    by_radiograph = defaultdict(list)
    for picture in pictures:
        by_radiograph[picture.radiograph].append(picture)
        if picture.original:
            assert known[picture.original.path] == picture.original
            assert picture.original.kind == "original"
            assert picture.radiograph == picture.original.radiograph
            assert picture.class_name == picture.original.class_name
            for shared in ("patient", "finding", "source", "view"):
                assert getattr(picture, shared) == getattr(picture.original, shared)
    assert any(len(splits) == 2 for splits in splits_of_patients(pictures).values())
    assert all(
        [picture.kind for picture in group].count("original") == 1
        for group in by_radiograph.values()
    )
    assert any(
        {picture.path[:4] for picture in group} == {"trai", "test"}
        for group in by_radiograph.values()
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 400))
def test_any_plan_of_copies_has_its_share_of_them(seed: int, count: int) -> None:
    pictures = phantom_copies.plan(seed, count)
    assert len(pictures) == len({picture.path for picture in pictures}) == count
    originals = [picture for picture in pictures if picture.kind == "original"]
    mirrored = [picture for picture in pictures if picture.kind == "mirrored"]
    assert len(originals) + len(mirrored) == len({picture.radiograph for picture in pictures})
    assert len(mirrored) == round(0.05 * count)
    assert count - len(originals) - len(mirrored) == round(0.3 * count)
    for picture in pictures:
        if "cropped" in picture.kind:
            assert all(share == 0 or 0.02 <= share <= 0.07 for share in picture.crop)
            assert any(picture.crop)


def test_seeds_give_different_plans_and_pictures() -> None:
    ours, theirs = phantom.plan(1, 0.05), phantom.plan(2, 0.05)
    assert {picture.size for picture in ours} != {picture.size for picture in theirs}
    picture = small(ours[0])
    assert phantom.render(picture) != phantom.render(replace(picture, seed=2))


def test_properties_do_not_tell_the_class() -> None:
    """Chi-squared and rank tests over six sets find no link of size or format with the class."""
    from scipy import stats

    pictures = [
        picture for seed in range(6) for picture in phantom.plan(seed) if picture.kind == "original"
    ]
    classes = sorted({picture.class_name for picture in pictures})
    for label in ("mode", "format", "orientation", "view"):
        values = sorted({getattr(picture, label) for picture in pictures})
        table = [
            [
                sum(
                    getattr(picture, label) == value
                    for picture in pictures
                    if picture.class_name == class_name
                )
                for value in values
            ]
            for class_name in classes
        ]
        assert stats.chi2_contingency(table).pvalue > 0.001, label
    numbers = {
        class_name: np.array(
            [
                (width * height, width / height, picture.quality)
                for picture in pictures
                if picture.class_name == class_name
                for width, height in [picture.size]
            ]
        )
        for class_name in classes
    }
    for column in range(3):
        samples = [numbers[class_name][:, column] for class_name in classes]
        assert stats.kruskal(*samples).pvalue > 0.001, column


def test_files_are_what_the_plan_says() -> None:
    for picture in COPIES:
        planned = small(picture)
        image = opened(phantom.render(planned))
        assert (image.format, image.mode) == (picture.format, picture.mode), picture.path
        assert ImageOps.exif_transpose(image).size == planned.size, picture.path


def test_every_file_name_says_its_format() -> None:
    suffixes = {picture.path.rpartition(".")[2] for picture in phantom.plan(SEED)}
    assert suffixes == {"jpeg", "jpg", "png"}
    assert {picture.mode for picture in phantom.plan(SEED)} == {"L", "RGB", "RGBA"}


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_turned_files_are_upright_once_exif_is_obeyed(orientation: int) -> None:
    planned = replace(small(first("original")), path="test/Normal/phantom-0001.jpg", quality=95)
    straight = phantom.render(replace(planned, orientation=1))
    turned = phantom.render(replace(planned, orientation=orientation))
    assert opened(turned).getexif()[0x0112] == orientation
    stored = np.asarray(opened(turned).convert("L").resize(planned.size), np.float32)
    assert np.abs(upright(turned) - upright(straight)).mean() < 2.5
    assert np.abs(stored - upright(straight)).mean() > 10


def test_equal_bytes() -> None:
    copy = small(first("bytes"))
    assert phantom.render(copy) == phantom.render(original_of(copy))
    assert copy.path != original_of(copy).path


def test_equal_pixels_in_other_bytes() -> None:
    of_jpeg = small(first("pixels"))
    assert original_of(of_jpeg).format == "JPEG"
    png = replace(original_of(of_jpeg), path="train/Normal/phantom-0001.png", quality=6)
    for copy in (of_jpeg, replace(of_jpeg, quality=1, original=png)):
        ours, theirs = phantom.render(copy), phantom.render(original_of(copy))
        assert ours != theirs
        assert opened(ours).format == "PNG"
        assert np.array_equal(upright(ours), upright(theirs))


def test_re_encoded_differs_a_little() -> None:
    copy = small(first("re-encoded"))
    ours, theirs = upright(phantom.render(copy)), upright(phantom.render(original_of(copy)))
    assert ours.shape == theirs.shape
    assert 0 < np.abs(ours - theirs).mean() < 8
    assert likeness(ours, theirs) > 0.99


def test_re_scaled_differs_in_size() -> None:
    for copy in COPIES:
        if copy.kind == "re-scaled":
            scale = copy.size[0] / original_of(copy).size[0]
            assert 0.5 <= round(scale, 2) <= 1.6
            assert abs(scale - 1) > 0.1
            assert copy.size[1] / original_of(copy).size[1] == pytest.approx(scale, abs=0.01)
    copy = first("re-scaled")
    ours, theirs = upright(phantom.render(copy)), upright(phantom.render(original_of(copy)))
    assert likeness(ours, theirs) > 0.99


def test_cropped_shows_the_inner_part() -> None:
    copy = first("cropped")
    ours, theirs = upright(phantom.render(copy)), upright(phantom.render(original_of(copy)))
    left, top = (
        round(share * side) for share, side in zip(copy.crop, original_of(copy).size, strict=False)
    )
    inner = theirs[top : top + ours.shape[0], left : left + ours.shape[1]]
    assert inner.shape == ours.shape
    assert likeness(ours, inner) > 0.99
    assert likeness(ours, inner) > likeness(ours, theirs)


def test_windowed_keeps_the_content_and_changes_the_grey() -> None:
    copy = small(first("windowed"))
    ours, theirs = upright(phantom.render(copy)), upright(phantom.render(original_of(copy)))
    assert likeness(ours, theirs) > 0.95
    assert np.abs(ours - theirs).mean() > 3


def test_mirrored_is_the_mirror_image_and_no_copy() -> None:
    copy = small(first("mirrored"))
    assert copy.radiograph != original_of(copy).radiograph
    ours, theirs = upright(phantom.render(copy)), upright(phantom.render(original_of(copy)))
    assert likeness(ours, theirs[:, ::-1]) > 0.99
    assert likeness(ours, theirs) < 0.98


def test_a_copy_shows_its_class() -> None:
    """A copy is drawn with the same findings as the original, not as somebody healthy."""
    copies = [picture for picture in phantom.plan(SEED) if picture.kind == "re-encoded"]
    for copy in copies:
        ours, theirs = small(copy), small(original_of(copy))
        assert likeness(upright(phantom.render(ours)), upright(phantom.render(theirs))) > 0.99


def test_a_wrong_label_does_not_change_the_picture() -> None:
    """What is filed under a wrong class is drawn like what is filed under the right one."""
    mistaken = [small(picture) for picture in PLAN if picture.finding != picture.class_name]
    for picture in mistaken:
        filed_rightly = replace(picture, path=f"train/{picture.finding}/{Path(picture.path).name}")
        filed_as_shown = replace(picture, finding=picture.class_name)
        ours = phantom.render(picture)
        if picture.finding:
            assert ours == phantom.render(filed_rightly)
            assert ours != phantom.render(filed_as_shown)
        else:
            assert ours == phantom.render(filed_as_shown)


def test_neither_source_nor_view_leaves_a_trace() -> None:
    picture = small(PLAN[0])
    for source in ("phantom hospital A", "phantom hospital B"):
        for view in ("PA", "AP"):
            other = replace(picture, source=source, view=view)
            assert phantom.render(other) == phantom.render(picture)


def test_the_external_hospital_shows_brighter_lungs() -> None:
    """The darker quarter of the pixels ends higher than it would in the hospitals of the plan."""
    pictures = [small(picture) for picture in EXTERNAL if picture.class_name == "Normal"][:8]
    for picture in pictures:
        elsewhere = replace(picture, source="phantom hospital A")
        ours, theirs = (
            float(np.quantile(upright(phantom.render(each)), 0.25)) for each in (picture, elsewhere)
        )
        assert 8 < ours - theirs < 30


def test_radiographs_of_a_patient_share_the_build_and_are_no_copies() -> None:
    healthy = [
        small(picture)
        for picture in PLAN
        if picture.kind == "original" and picture.class_name == picture.finding == "Normal"
    ]
    likenesses = []
    for one, other in zip(healthy[:30:2], healthy[1:30:2], strict=True):
        same = phantom.of_patient(other, one)
        first, second, third = (upright(phantom.render(each)) for each in (one, other, same))
        likenesses.append((likeness(first, second), likeness(first, third)))
    different, same_patient = np.transpose(likenesses)
    assert np.mean(same_patient > different) > 0.8
    assert same_patient.max() < 0.97


def caption_likeness(grey: NDArray[Any]) -> float:
    """How well the words can be made out in a border: the correlation with them, printed."""
    height, width = grey.shape
    strip = max(13, round(height / 26))
    font = ImageFont.load_default(min(0.8 * strip, 0.085 * width))
    words = Image.new("L", (width, strip))
    ImageDraw.Draw(words).text((width / 2, strip / 2), "SYNTHETIC PHANTOM", 255, font, anchor="mm")
    wanted = np.asarray(words, np.float32)
    assert np.flatnonzero(wanted.max(axis=0)).min() > 0, "the words don't fit"
    assert np.flatnonzero(wanted.max(axis=0)).max() < width - 1, "the words don't fit"
    borders = grey[:strip], grey[-strip:]
    return max(float(np.corrcoef(border.ravel(), wanted.ravel())[0, 1]) for border in borders)


def test_every_picture_says_that_it_is_synthetic() -> None:
    seen = set()
    for picture in COPIES[::3] + EXTERNAL[::12]:
        planned = picture if "re-scaled" in picture.kind else small(picture)
        assert caption_likeness(upright(phantom.render(planned))) > 0.9, picture
        seen |= set(picture.kind.split(" + "))
    assert {"original", "cropped", "re-scaled", "re-encoded", "mirrored"} <= seen


def test_different_radiographs_are_different_patients() -> None:
    originals = [small(picture) for picture in COPIES if picture.kind == "original"][:16]
    pictures = [upright(phantom.render(original)) for original in originals]
    worst = max(
        likeness(pictures[one], pictures[other])
        for one in range(len(pictures))
        for other in range(one)
    )
    assert worst < 0.97


def test_written_files_depend_neither_on_order_nor_on_threads(tmp_path: Path) -> None:
    planned = phantom.plan(5, 0.01)[::2] + phantom.external_plan(5, 0.01)[::2]
    pictures = [small(picture) for picture in planned]
    phantom.write(pictures, tmp_path / "one", 1)
    phantom.write(pictures[::-1], tmp_path / "three", 3)
    for picture in pictures:
        written = (tmp_path / "one" / picture.path).read_bytes()
        assert written == (tmp_path / "three" / picture.path).read_bytes()
        assert written == phantom.render(picture)
    count = sum(path.is_file() for path in (tmp_path / "one").rglob("*"))
    assert count == len(pictures)

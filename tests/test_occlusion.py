import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from stages import baselines, occlusion, train
from stages.common.errors import InputError
from stages.intake import decode
from stages.judging import occlusion as judging
from stages.judging import scores
from stages.learning import classifier, dataset
from stages.learning.dataset import SIZE
from stages.sources import phantom
from tests import made, made_processed

SEED = 5
LETTERS = "LRP"
COUNTS = {"train": 40, "validation": 10, "test": 20}
SETTINGS = {
    "train.learning_rate": 0.001,
    "train.batch_size": 16,
    "train.epochs": 12,
    "train.patience": 12,
    "train.weights": "last",
    "crossvalidate.folds": 2,
}


def phantoms(letters: str) -> list[made_processed.Picture]:
    """Phantoms without a flaw, of which the lungs alone tell the class, or also a letter."""
    pictures: list[made_processed.Picture] = []
    for use, count in COUNTS.items():
        for label, name in enumerate(made_processed.CLASSES):
            for _ in range(count):
                number = len(pictures)
                planned = phantom.make_original(SEED, number, f"train/{name}/{number}")
                file = io.BytesIO(phantom.render(made.small(planned)))
                picture = decode.resized(file, SIZE).convert("RGB")
                if letters:
                    font = ImageFont.load_default(22)
                    ImageDraw.Draw(picture).text((2, 0), letters[label], "white", font)
                pixels = np.asarray(picture)
                pictures.append(made_processed.Picture(use, label, pixels, number))
    return pictures


def read(folder: Path) -> Any:
    return json.loads((folder / occlusion.DETAILS).read_text("utf-8"))


def run(folder: Path, letters: str) -> Path:
    made_processed.write(folder, phantoms(letters), SETTINGS)
    with contextlib.chdir(folder):
        train.main()
        baselines.main()
        occlusion.main()
    return folder


@pytest.fixture(scope="module")
def lungs_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the lungs alone tell the class."""
    return run(tmp_path_factory.mktemp("lungs"), "")


@pytest.fixture(scope="module")
def shortcut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which a letter in the corner tells the class, too."""
    return run(tmp_path_factory.mktemp("letters"), LETTERS)


def holds_chance(result: dict[str, Any]) -> bool:
    low, high = result["intervals"]["macro_sensitivity"]
    return bool(low <= 1 / 3 <= high)


@pytest.mark.tensorflow
class TestLungsAlone:
    def test_the_network_has_learned_and_falls_to_chance_without_the_lungs(
        self, lungs_alone: Path
    ) -> None:
        details = read(lungs_alone)
        assert details["untouched"]["macro_sensitivity"] > 0.8
        for filling in judging.FILLINGS:
            without = details["covered"]["lungs"][filling]
            assert holds_chance(without)
            assert without["difference_high"] < 0
            assert details["covered"]["all_but_lungs"][filling]["macro_sensitivity"] > 0.8
        assert details["verdict"] == judging.NOT_ABOVE

    def test_the_frame_alone_is_near_chance_where_no_lungs_show_in_it(
        self, lungs_alone: Path
    ) -> None:
        frames = read(lungs_alone)["frames_alone"]
        # of the lungs 1 % lie in the frame of 20 pixels and 17 % in that of 40
        assert not frames["frame_5"]["above_chance"]
        assert not frames["frame_10"]["above_chance"]
        assert holds_chance(frames["frame_10"])

    def test_the_details(self, lungs_alone: Path) -> None:
        details = read(lungs_alone)
        assert details["provenance"]["data"] == "made for a test"
        assert details["classes"] == 3
        assert list(details["covered"]) == list(details["shares"]) == list(judging.parts())
        for by_filling in details["covered"].values():
            assert list(by_filling) == list(judging.FILLINGS)
            for result in by_filling.values():
                assert result["images"] == 60
                before = details["untouched"]["accuracy"]
                assert result["difference"] == pytest.approx(result["accuracy"] - before)
                for name in ("macro_sensitivity", "macro_auroc"):
                    low, high = result["intervals"][name]
                    assert low <= result[name] <= high

    def test_it_judges_by_what_ships(
        self, lungs_alone: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(lungs_alone)
        images = dataset.load(["test"])
        covered = judging.occluded(images.pixels[:], judging.parts()["centre"], "blurred")
        probabilities = classifier.load().probabilities(covered)
        groups = images.table["group"].to_numpy()
        expected = scores.macro_metrics(images.labels, probabilities, groups, occlusion.METRICS)
        found = read(lungs_alone)["covered"]["centre"]["blurred"]
        assert {name: found[name] for name in expected} == expected

    def test_it_imports_no_tensorflow_and_gives_the_same_bytes_again(
        self, lungs_alone: Path
    ) -> None:
        paths = [lungs_alone / path for path in (occlusion.DETAILS, occlusion.PICTURE)]
        before = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
        code = (
            "import sys; from stages import occlusion; occlusion.main(); "
            "print({'tensorflow', 'keras'} & {*sys.modules})"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=lungs_alone,
            env=os.environ | {"PYTHONPATH": str(made_processed.REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout.splitlines()[-1], done.stderr) == ("set()", "")
        assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] == before
        with Image.open(lungs_alone / occlusion.PICTURE) as picture:
            assert picture.width > picture.height > 200


@pytest.mark.tensorflow
def test_a_planted_letter_is_called_out(shortcut: Path) -> None:
    details = read(shortcut)
    assert details["untouched"]["macro_sensitivity"] > 0.8
    assert details["verdict"] == judging.ABOVE
    assert details["frames_alone"]["frame_10"]["above_chance"]
    assert details["frames_alone"]["frame_20"]["above_chance"]


def test_frames_are_judged_on_the_images_that_count_alone() -> None:
    pictures = made_processed.many({"test": 4}, made_processed.noise)
    images = made_processed.images_of(pictures)
    right = dict(zip(images.table["path"], images.table["class"], strict=True))
    names = [f"frame_{width}" for width in (5, 10, 20, 40)]
    records = [
        {"file": path, **dict.fromkeys(names, name), "frame_5": "Covid"}
        for path, name in right.items()
    ]
    other = {"file": "test/Covid/other.png", **dict.fromkeys(names, "Covid")}
    frames = occlusion.frames(images, [other, *records[::-1]])
    assert list(frames) == names
    assert [frames[name]["macro_sensitivity"] for name in names] == [pytest.approx(1 / 3), 1, 1, 1]
    assert [frames[name]["above_chance"] for name in names] == [False, True, True, True]
    assert {frames[name]["images"] for name in names} == {12}
    with pytest.raises(InputError, match=r"found no prediction for test/.*`dvc repro occlusion`"):
        occlusion.frames(images, records[1:])

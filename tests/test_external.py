import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from stages import external
from stages.common.errors import InputError
from stages.intake import decode
from stages.judging import scores
from stages.learning import classifier, novelty
from tests import made, made_processed

CLASSES = list(made.CLASSES)
GREY = {"Covid": 30, "Normal": 120, "Viral Pneumonia": 210}
"""The mean grey value that the network of these tests takes for a class."""
SETTINGS = """
external:
  classes:
    Covid-19: Covid
    No_findings: Normal
    Pneumonia: other
    Not there: nothing
"""
METADATA = {
    "classes": CLASSES,
    "threads": 1,
    "provenance": {"data": "made for a test", "protocol": "none", "recipe": "tuned"},
}


def picture(seed: int, looks: str) -> Image.Image:
    """A picture that the network takes for the class `looks`; another one for each seed."""
    return made.picture(seed, (160, 140)).point(lambda value: value // 6 + GREY[looks] - 20)


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def add(folder: str, *looks: str, seed: int) -> None:
    """Puts pictures into data/external/set/`folder`, named after how they look."""
    place = external.EXTERNAL / "set" / folder
    place.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(looks, seed):
        picture(number, name).save(place / f"{number}.png")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, the working folder, with a network that looks at the mean grey value alone.

    What is in colour is refused.
    """
    monkeypatch.chdir(tmp_path)
    made.make_raw(tmp_path, counts=(3, 2))
    made.write_params(tmp_path)
    text = Path("params.yaml").read_text("utf-8")
    start = text.index("\nexternal:")
    rest = text[text.index("\n\n", start + 1) :]
    Path("params.yaml").write_text(text[:start] + SETTINGS.rstrip() + rest, "utf-8")
    external.EXTERNAL.mkdir()
    classifier.METADATA.parent.mkdir()
    classifier.METADATA.write_text(json.dumps(METADATA), "utf-8")

    def probabilities(pixels: np.ndarray) -> np.ndarray:
        assert pixels.dtype == np.uint8
        assert pixels.shape[1:] == (200, 200, 3)
        distance = np.abs(pixels.mean((1, 2, 3))[:, None] - [GREY[name] for name in CLASSES])
        closeness = np.exp(-distance)
        return np.asarray(closeness / closeness.sum(axis=1, keepdims=True))

    fake = SimpleNamespace(classes=CLASSES, probabilities=probabilities)
    monkeypatch.setattr(classifier, "load", lambda: fake)
    coloured = SimpleNamespace(refused=lambda some: np.ptp(some, axis=3).max((1, 2)) > 20)
    monkeypatch.setattr(novelty.Novelty, "load", lambda: coloured)
    return tmp_path


def counts(folder: dict[str, Any]) -> dict[str, int]:
    return {name: share["images"] for name, share in folder["called"].items() if share["images"]}


def test_how_many_of_each_folder_were_called_what(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add("Covid-19", "Covid", "Covid", "Normal", seed=1000)
    add("No_findings", *["Covid"] * 4, "Normal", seed=2000)
    add("Pneumonia", "Covid", "Viral Pneumonia", seed=3000)
    left_by_a_killed_run = external.SCRATCH / "No_findings/2000.png"
    left_by_a_killed_run.parent.mkdir(parents=True)
    left_by_a_killed_run.write_bytes(b"half")
    external.main()
    results = read(external.DETAILS)
    assert list(results) == [
        *("provenance", "set", "folders", "classes"),
        *("false_positive_rate", "copies_left_out", "unreadable"),
    ]
    assert results["provenance"] == METADATA["provenance"]
    assert results["set"].startswith("folder set (sha256 over its files ")
    folders = results["folders"]
    assert {name: (folder["class"], folder["images"]) for name, folder in folders.items()} == {
        "Covid-19": ("Covid", 3),
        "No_findings": ("Normal", 5),
        "Pneumonia": ("other", 2),
    }
    assert counts(folders["Covid-19"]) == {"Covid": 2, "Normal": 1}
    assert counts(folders["No_findings"]) == {"Covid": 4, "Normal": 1}
    assert counts(folders["Pneumonia"]) == {"Covid": 1, "Viral Pneumonia": 1}
    low, high = scores.wilson(4, 5)
    interval = {"share": 0.8, "low": low, "high": high}
    assert folders["No_findings"]["called"]["Covid"] == {"images": 4, **interval}
    by_class = results["classes"]
    assert by_class["Covid"]["sensitivity"]["share"] == 2 / 3
    assert by_class["Covid"]["specificity"]["images"] == 7  # `other` is known not to be it
    assert by_class["Covid"]["specificity"]["share"] == 2 / 7
    assert by_class["Viral Pneumonia"]["sensitivity"] is None
    assert by_class["Viral Pneumonia"]["specificity"]["share"] == 9 / 10
    low, high = scores.wilson(5, 7)
    interval = {"share": 5 / 7, "low": low, "high": high}
    rate = {"class": "Covid", "images": 7, "called": 5, **interval}
    rate["with_refusal"] = {"called": 5, **interval}
    assert results["false_positive_rate"] == rate
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "Covid-19 (3 images, Covid): 2 called Covid (0.667 [0.208, 0.939]); 0 refused "
        "(0.000 [0.000, 0.561]), 2 of the others called Covid (0.667 [0.208, 0.939])",
        "No_findings (5 images, Normal): 4 called Covid (0.800 [0.376, 0.964]); 0 refused "
        "(0.000 [0.000, 0.434]), 4 of the others called Covid (0.800 [0.376, 0.964])",
        "Pneumonia (2 images, other): 1 called Covid (0.500 [0.095, 0.905]); 0 refused "
        "(0.000 [0.000, 0.658]), 1 of the others called Covid (0.500 [0.095, 0.905])",
        "of 7 images that are not Covid, 5 were called Covid (0.714 [0.359, 0.918]); with the "
        "refusal 5 (0.714 [0.359, 0.918])",
    ]
    assert not external.SCRATCH.exists()
    assert not external.PRINTS.exists()


def test_copies_of_training_images_are_left_out_of_their_folder(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add("Covid-19", "Covid", seed=1000)
    add("Covid", "Covid", "Covid", seed=2000)
    raw = external.RAW
    covid, normal, test = (
        Image.open(raw / name)
        for name in ("train/Covid/00.png", "train/Normal/01.png", "test/Covid/00.png")
    )
    target = external.EXTERNAL / "set"
    shutil.copy(raw / "train/Covid/01.png", target / "Covid/bytes.png")
    covid.resize((300, 240), Image.Resampling.LANCZOS).save(target / "Covid/scaled.jpg")
    ImageOps.equalize(covid).save(target / "Covid-19/equalised.png")
    normal.crop((3, 3, 93, 77)).save(target / "Covid-19/cropped.png")  # whatever its class
    test.save(target / "Covid/of a test image.png")  # not learned from
    add("Covid", "Covid", seed=2000)  # twice in the set
    shutil.copy(target / "Covid/2000.png", target / "Covid/again.png")
    external.main()
    results = read(external.DETAILS)
    left_out = {name: folder["copies_left_out"] for name, folder in results["folders"].items()}
    assert left_out == {"Covid": 2, "Covid-19": 2}
    assert {name: folder["images"] for name, folder in results["folders"].items()} == {
        "Covid": 4,
        "Covid-19": 1,
    }
    assert results["copies_left_out"] == 4
    out = capsys.readouterr().out
    assert "Covid-19 (1 images, Covid, 2 copies of training images left out): 1 called" in out


def test_what_is_refused_is_counted_and_told_apart(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add("No_findings", *["Covid"] * 4, "Normal", seed=1000)
    add("Pneumonia", "Covid", seed=2000)
    place = external.EXTERNAL / "set"
    for path in (place / "No_findings/1000.png", place / "Pneumonia/2000.png"):
        grey = np.asarray(Image.open(path).convert("L"), np.int16)
        tinted = np.stack([grey - 20, grey, grey + 20], axis=2).clip(0, 255).astype(np.uint8)
        Image.fromarray(tinted).save(path)
    external.main()
    results = read(external.DETAILS)
    some, none = results["folders"]["No_findings"], results["folders"]["Pneumonia"]
    low, high = scores.wilson(1, 5)
    assert some["refused"] == {"images": 1, "share": 0.2, "low": low, "high": high}
    assert counts(some) == {"Covid": 4, "Normal": 1}
    low, high = scores.wilson(3, 4)
    accepted = {"images": 3, "share": 0.75, "low": low, "high": high}
    assert some["called_if_accepted"]["Covid"] == accepted
    assert none["refused"]["share"] == 1
    assert none["called_if_accepted"] == {}
    rate = results["false_positive_rate"]
    assert (rate["images"], rate["called"]) == (6, 5)
    low, high = scores.wilson(3, 6)
    assert rate["with_refusal"] == {"called": 3, "share": 0.5, "low": low, "high": high}
    lines = capsys.readouterr().out.splitlines()
    assert "; 1 refused (0.200 [0.036, 0.624]), 3 of the others called Covid (0.750" in lines[0]
    assert lines[1].endswith("; 1 refused (1.000 [0.207, 1.000])")
    assert lines[2].endswith("; with the refusal 3 (0.500 [0.188, 0.812])")


def test_without_an_image_of_another_class_there_is_no_false_positive(project: Path) -> None:
    add("Normal", "Normal", "Covid", seed=1000)
    external.main()
    results = read(external.DETAILS)
    assert results["classes"]["Normal"]["specificity"] is None
    assert results["false_positive_rate"]["class"] == "Covid"  # of images that are Normal
    assert results["false_positive_rate"]["images"] == 2


def test_what_cannot_be_read_is_named_counted_and_left_out(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add("Normal", "Normal", seed=1000)
    (external.EXTERNAL / "set/Normal/notes.txt").write_text("about")
    (external.EXTERNAL / "set/Covid").mkdir()
    (external.EXTERNAL / "set/Covid/broken.png").write_bytes(b"")
    external.main()
    results = read(external.DETAILS)
    assert results["unreadable"] == 2
    assert results["folders"]["Covid"] == {
        "class": "Covid",
        "images": 0,
        "copies_left_out": 0,
        "unreadable": 1,
        "refused": {},
        "called": {},
        "called_if_accepted": {},
    }
    assert results["classes"]["Covid"]["sensitivity"] is None
    out = capsys.readouterr().out
    assert "left out:\n  Covid/broken.png: it is empty (0 bytes)\n  Normal/notes.txt: it is" in out
    assert "Covid (0 images, Covid, 1 unreadable)\nNormal (1 images, Normal, 1 unread" in out


def test_a_set_of_which_nothing_is_left_is_refused(project: Path) -> None:
    place = external.EXTERNAL / "set/Covid"
    place.mkdir(parents=True)
    shutil.copy(external.RAW / "train/Covid/01.png", place / "copy.png")
    (place / "notes.txt").write_text("about")
    with pytest.raises(InputError) as caught:
        external.main()
    assert "of 2 files 1 are copies of training images and 1 can't be read" in str(caught.value)
    assert str(caught.value).endswith("\n  Covid/notes.txt: it is text, not an image")
    assert not external.SCRATCH.exists()
    assert not external.PRINTS.exists()
    assert not external.DETAILS.exists()


def test_a_zip_is_judged_like_a_folder_and_gives_the_same_bytes_again(project: Path) -> None:
    add("Normal", "Normal", "Covid", seed=1000)
    external.main()
    results = read(external.DETAILS)
    with zipfile.ZipFile(external.EXTERNAL / "mine.zip", "w") as zipped:
        for number in (1000, 1001):
            path = external.EXTERNAL / f"set/Normal/{number}.png"
            zipped.write(path, f"around/Normal/{number}.png")
        zipped.writestr("__MACOSX/._1000.png", b"junk")
    shutil.rmtree(external.EXTERNAL / "set")
    external.main()
    before = external.DETAILS.read_bytes()
    label = read(external.DETAILS)["set"]
    assert label.startswith("archive mine.zip (sha256 ")
    assert read(external.DETAILS) == results | {"set": label}
    external.main()
    assert external.DETAILS.read_bytes() == before


def refusal() -> str:
    with pytest.raises(InputError) as caught:
        external.main()
    assert not external.SCRATCH.exists()
    assert not external.PRINTS.exists()
    return str(caught.value)


def test_a_folder_that_shows_nothing_known_is_named_with_the_lines_to_add(project: Path) -> None:
    add("Normal", "Normal", seed=1000)
    add("No findings", "Normal", seed=2000)
    add("2", "Normal", seed=3000)
    text = refusal()
    assert text.startswith("data/external/set: found no class for '2', 'No findings', expected")
    assert "('Covid', 'Normal', 'Viral Pneumonia')" in text
    assert text.endswith('\nexternal:\n  classes:\n    "2": other\n    "No findings": other')
    lines = text[text.index('    "2"') :]  # they can be pasted as they are
    path = Path("params.yaml")
    path.write_text(path.read_text().replace("    Covid-19:", f"{lines}\n    Covid-19:"), "utf-8")
    external.main()
    assert read(external.DETAILS)["folders"]["2"]["class"] == "other"


def test_a_folder_that_is_mapped_to_no_class_is_named(project: Path) -> None:
    add("Not there", "Normal", seed=1000)
    text = refusal()
    assert text.startswith("external.classes: found 'nothing' for the folder 'Not there', expected")
    assert "one of 'Covid', 'Normal', 'Viral Pneumonia', 'other'" in text


def test_the_mapping_comes_before_the_name() -> None:
    shows = external.classes_of(
        ["B", "A", "other"], {"A": "B", "B": "other", "C": "nothing"}, ["A", "B"], "set"
    )
    assert shows == {"A": "B", "B": "other", "other": "other"}
    assert list(shows) == ["A", "B", "other"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a.zip", "b.zip"], "data/external: found 'a.zip', 'b.zip', expected exactly one zip or"),
        (["set/1.png"], "data/external/set: expected files at <class>/<file>"),
        (["set/Normal/train/1.png", "set/2.png"], "found at another level:\n  2.png\n"),
        (["a.zip"], "data/external/a.zip is not a zip (it begins with b'no image')"),
    ],
)
def test_what_is_no_set_is_refused(project: Path, files: list[str], words: str) -> None:
    for name in files:
        path = external.EXTERNAL / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")
    assert words in refusal()


def test_limits_of_archives_hold_here_too(project: Path) -> None:
    add("Normal", *["Normal"] * 3, seed=1000)
    made.write_params(project, max_files=2)
    assert "more than download.max_files = 2" in refusal()


def test_with_no_set_it_says_so_and_imports_nothing_slow(project: Path) -> None:
    (external.EXTERNAL / "README.md").write_text("about")
    verbose = made.run_stage(project, "external", PYTHONPROFILEIMPORTTIME="1").stderr
    imported = {line.rpartition("|")[2].strip() for line in verbose.splitlines()}
    assert "stages.intake.decode" in imported
    assert not {"tensorflow", "keras", "sklearn", "ai_edge_litert"} & imported
    done = made.run_stage(project, "external")
    assert done.stdout == (
        "no external set: to have one, put a zip or a folder that holds <class>/<images> into "
        "data/external; see data/external/README.md\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    results = read(external.DETAILS)
    assert (results["set"], results["folders"], results["false_positive_rate"]) == (None, {}, None)


def test_phantoms_come_with_an_external_set(project: Path) -> None:
    made.write_params(project, phantom_share=0.03)  # with the project's own mapping
    origin = read(external.RAW / "provenance.json") | {"source": "phantom"}
    (external.RAW / "provenance.json").write_text(json.dumps(origin))
    external.main()
    results = read(external.DETAILS)
    assert results["set"] == "SYNTHETIC PHANTOM of another hospital (seed 20200211)"
    shows = {name: folder["class"] for name, folder in results["folders"].items()}
    assert shows == {"Covid": "Covid", "Normal": "Normal", "Other disease": "other"}
    assert all(
        sum(counts(folder).values()) == folder["images"] for folder in results["folders"].values()
    )
    add("Normal", "Normal", seed=1000)  # one's own comes first
    external.main()
    assert read(external.DETAILS)["set"].startswith("folder set ")


@given(
    shows=st.dictionaries(st.sampled_from("abcde"), st.sampled_from(["A", "B", "C", "other"])),
    data=st.data(),
)
def test_rates_are_those_of_the_images_one_by_one(shows: dict[str, str], data: Any) -> None:
    pairs = st.tuples(st.sampled_from(sorted(shows) or ["a"]), st.sampled_from("ABC"))
    images = data.draw(st.lists(pairs, max_size=30)) if shows else []
    accepted = images[::2]
    result = external.judged(Counter(images), Counter(accepted), shows, ["A", "B", "C"])
    rates = []
    for name in "ABC":
        own = [called == name for folder, called in images if shows[folder] == name]
        rest = [called != name for folder, called in images if shows[folder] != name]
        for key, correct in (("sensitivity", own), ("specificity", rest)):
            found = result["classes"][name][key]
            if not correct:
                assert found is None
                continue
            assert (found["images"], found["share"]) == (len(correct), np.mean(correct))
            assert [found["low"], found["high"]] == scores.wilson(sum(correct), len(correct))
        if rest:
            rates.append(1 - np.mean(rest))
    rate = result["false_positive_rate"]
    assert (rate is None) == (not rates)
    if rate:
        assert rate["share"] == pytest.approx(max(rates))
        assert rate["share"] == rate["called"] / rate["images"]
        still = sum(called == rate["class"] != shows[folder] for folder, called in accepted)
        assert rate["with_refusal"]["called"] == still
        assert rate["with_refusal"]["share"] == still / rate["images"]


@pytest.mark.tensorflow
def test_the_trained_network_judges_each_image_as_it_would_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made_processed.trained_project() / "models", tmp_path / "models")
    made.make_raw(tmp_path, counts=(2, 2))
    made.write_params(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(classifier, "BATCH", 4)
    generator = np.random.default_rng(7)
    for label, name in enumerate(CLASSES):
        place = external.EXTERNAL / "set" / name
        place.mkdir(parents=True)
        for number in range(3):
            pixels = made_processed.class_in_the_centre(generator, label)
            Image.fromarray(pixels).save(place / f"{number}.png")
    done = made.run_stage(tmp_path, "external", PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert imported & {"ai_edge_litert", "tensorflow", "keras"} == {"ai_edge_litert"}
    first = external.DETAILS.read_bytes()
    external.main()
    assert external.DETAILS.read_bytes() == first
    shipped = classifier.load()
    for name, folder in read(external.DETAILS)["folders"].items():
        paths = sorted((external.EXTERNAL / "set" / name).iterdir())
        alone = [
            shipped.probabilities(np.asarray(decode.resized(path, 200))[None]) for path in paths
        ]
        assert counts(folder) == Counter(CLASSES[int(row.argmax())] for row in alone)
        assert counts(folder)[name] >= 2

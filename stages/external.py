"""What the network calls radiographs from elsewhere: the external validation.

Reads the one zip or folder in `data/external` (<class>/<images>), `data/raw` (train/, whose copies
are left out) and `models`. Writes `metrics/details/external.json`: how many images of each folder
were refused or called what, sensitivity and specificity by class, and the greatest false-positive
rate, with and without the refusal. With phantoms and nothing in `data/external` the set is made of
phantoms, too; with other images and nothing there it says so and is done.

All intervals are Wilson's, which takes images for independent; copies within the external set are
not looked for.
"""

import itertools
import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from stages.common import files, parallel, params, stage
from stages.common.errors import InputError, listed, named
from stages.intake import decode, matching
from stages.judging import scores
from stages.learning import classifier, novelty
from stages.learning.dataset import SIZE
from stages.sources import archive, layout
from stages.sources.settings import Download

EXTERNAL = Path("data/external")
RAW = Path("data/raw")
DETAILS = Path("metrics/details/external.json")
SCRATCH = Path(".dvc/tmp/external")
"""Where the set is unpacked."""
PRINTS = Path(".dvc/tmp/external-prints")
"""Holds the fingerprints while they are compared."""
OTHER = "other"


def classes_of(
    folders: Iterable[str], mapping: Mapping[str, str], classes: Sequence[str], label: str
) -> dict[str, str]:
    """The class that each folder shows, or OTHER.

    Args:
        folders: The names of the folders of the external set.
        mapping: From external.classes; what it says of other folders doesn't matter.
        classes: Those of the network.
        label: What the messages call the set.

    Raises:
        InputError: A folder is neither in the mapping nor a class, or it is mapped to what is
            neither a class nor OTHER.
    """
    shows = {folder: mapping.get(folder, folder) for folder in sorted(folders)}
    expected = f"one of {named([*classes, OTHER])} ({OTHER} is none of the classes)"
    unknown = {folder: name for folder, name in shows.items() if name not in (*classes, OTHER)}
    for folder, name in unknown.items():
        if folder in mapping:
            raise InputError(
                f"external.classes: found {name!r} for the folder {folder!r}, expected {expected}. "
                "Change it in params.yaml."
            )
    if unknown:
        lines = "\n".join(f'    "{folder}": {OTHER}' for folder in unknown)
        raise InputError(
            f"{label}: found no class for {named(list(unknown))}, expected that every folder has "
            f"the name of a class of the network ({named(list(classes))}) or a line under "
            f"external.classes. Add to params.yaml, with a class in place of {OTHER} where a "
            f"folder shows one:\nexternal:\n  classes:\n{lines}"
        )
    return shows


def fetch(
    mapping: Mapping[str, str], limits: Download, classes: Sequence[str], phantoms: bool
) -> tuple[str, dict[str, str]] | None:
    """Writes the external set to SCRATCH, as <folder>/<image>.

    Args:
        mapping: From external.classes.
        limits: The group `download` of params.yaml: what may be unpacked, and the phantoms' seed.
        classes: Those of the network.
        phantoms: Whether the set is made of phantoms where data/external has none.

    Returns:
        A line that names the set, and what `classes_of` gives; None if there is no set.

    Raises:
        InputError: There is more than one, or it is unsafe, damaged or laid out in another way;
            or see `classes_of`.
    """
    if archive.entries(EXTERNAL):
        source = archive.only_entry(EXTERNAL, "<class>/<images>")
        with archive.opened(source, limits) as contents:
            places = layout.arrange_by_class(contents.names, str(source))
            folders = {place.split("/")[0] for place in places.values()}
            shows = classes_of(folders, mapping, classes, str(source))
            contents.unpack(places, SCRATCH)
        return archive.described(source, SCRATCH), shows
    if not phantoms:
        return None
    from stages.sources import phantom

    planned = phantom.external_plan(limits.phantom_seed, limits.phantom_share)
    folders = {image.path.split("/")[1] for image in planned}
    label = f"SYNTHETIC PHANTOM of another hospital (seed {limits.phantom_seed})"
    shows = classes_of(folders, mapping, classes, label)
    # their paths begin with external/
    phantom.write(planned, SCRATCH.parent, parallel.available_cores())
    return label, shows


def without_copies(paths: Sequence[Path]) -> tuple[list[Path], list[Path], list[str]]:
    """Sorts the external images.

    Returns:
        Those to be judged; the copies of images in train/; a message for each that can't be read.
    """
    trained_on = sorted(RAW.glob("train/*/*"))
    with files.scratch(PRINTS) as folder:
        _, known, _ = matching.prints(trained_on, "training images", folder / "ours", anywhere=True)
        readable, prints, faults = matching.prints(
            paths, "external images", folder / "theirs", anywhere=True
        )
        copied = {match.theirs for match in matching.matches(known, prints)}
    judged = [path for number, path in enumerate(readable) if number not in copied]
    names = [fault.removeprefix(f"{SCRATCH}/") for fault in faults]
    return judged, [readable[number] for number in sorted(copied)], names


def called(paths: Sequence[Path]) -> tuple[list[str], list[bool]]:
    """The class that the network calls each image, refused or not, and whether it is refused."""
    shipped, look = classifier.load(), novelty.Novelty.load()
    names: list[str] = []
    refused: list[bool] = []

    def pixels(path: Path) -> np.ndarray:
        return np.asarray(decode.resized(path, SIZE))

    decoded = tqdm(
        parallel.ahead(pixels, paths), "external", len(paths), unit="image", disable=None
    )
    for batch in parallel.batches(decoded, classifier.BATCH):
        some = np.array(batch)
        names += [shipped.classes[number] for number in shipped.probabilities(some).argmax(axis=1)]
        refused += look.refused(some).tolist()
    return names, refused


def _share(count: int, images: int) -> dict[str, float]:
    low, high = scores.wilson(count, images)
    return {"share": count / images, "low": low, "high": high}


def _number(
    counts: Mapping[tuple[str, str], int], folders: Iterable[str], names: Iterable[str]
) -> int:
    """How many images of the folders were called one of the names."""
    return sum(counts.get(place, 0) for place in itertools.product(folders, names))


def judged(
    counts: Mapping[tuple[str, str], int],
    accepted: Mapping[tuple[str, str], int],
    shows: Mapping[str, str],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Sensitivity and specificity of each class, and the greatest false-positive rate.

    Args:
        counts: Images by folder and by the class that they were called, refused or not.
        accepted: The same without those that were refused.
        shows: The class of each folder, or OTHER.
        classes: Those of the network.

    Returns:
        `classes`: by class, `sensitivity` and `specificity`, each with `images` (of the class, or
        known not to be of it), `share`, `low` and `high`, or None where there are no such images.
        `false_positive_rate`: `class`, `images` (not of it), `called` (of these) and the share of
        the class of which that is greatest, all without the refusal, and `with_refusal` the number
        and the share, of as many images, that are called this class and not refused; None where
        every image is of the only class there.
    """
    by_class: dict[str, Any] = {}
    false_positives: list[dict[str, Any]] = []
    for name in classes:
        own, rest = ([key for key in shows if (shows[key] == name) == of] for of in (True, False))
        positive, hits = (_number(counts, own, names) for names in (classes, [name]))
        negative, false = (_number(counts, rest, names) for names in (classes, [name]))
        correct = negative - false
        by_class[name] = {
            "sensitivity": {"images": positive, **_share(hits, positive)} if positive else None,
            "specificity": {"images": negative, **_share(correct, negative)} if negative else None,
        }
        if negative:
            record = {"class": name, "images": negative, "called": false}
            still = _number(accepted, rest, [name])
            with_refusal = {"called": still, **_share(still, negative)}
            false_positives.append(
                record | _share(false, negative) | {"with_refusal": with_refusal}
            )
    return {
        "classes": by_class,
        "false_positive_rate": max(
            false_positives, key=lambda record: record["share"], default=None
        ),
    }


def _part(count: int, images: int) -> dict[str, float]:
    """`images`, how many of them, and their share; {} where there are none."""
    return {"images": count, **_share(count, images)} if images else {}


def _called(
    counts: Mapping[tuple[str, str], int], folder: str, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """What the counted images of a folder were called, by class; {} where there are none."""
    images = _number(counts, [folder], classes)
    return {name: _part(counts.get((folder, name), 0), images) for name in classes if images}


def validate(
    paths: Sequence[Path], shows: Mapping[str, str], metadata: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Judges the external images.

    Args:
        paths: Of all images, SCRATCH/<folder>/<image>.
        shows: The class of each folder, or OTHER.
        metadata: Of the network.

    Returns:
        What goes into the details: `folders`, `classes`, `false_positive_rate`, `copies_left_out`
        and `unreadable`; of each folder `class`, `images` (judged), `copies_left_out`,
        `unreadable`, `refused` (`images`, and their share of the folder), `called` (by class:
        `images` that were called so, refused or not, and their share of the folder) and
        `called_if_accepted` (the same of those that were not refused); these are empty where there
        was no such image. And a message for each unreadable image.

    Raises:
        InputError: No image is left to be judged.
    """
    classes = metadata["classes"]
    kept, copied, faults = without_copies(paths)
    if not kept:
        raise InputError(
            f"{EXTERNAL}: of {len(paths)} files {len(copied)} are copies of training images and "
            f"{len(faults)} can't be read, expected at least one other image. "
            + (f"Add some.\n{listed(faults)}" if faults else "Add some.")
        )
    names, refused = called(kept)
    answers = list(zip((path.parent.name for path in kept), names, strict=True))
    counts = Counter(answers)
    accepted = Counter(itertools.compress(answers, map(operator.not_, refused)))
    of_folder = [Counter(path.parent.name for path in some) for some in (paths, kept, copied)]
    folders = {}
    for folder, shown in shows.items():
        files_there, images, copies = (counter[folder] for counter in of_folder)
        folders[folder] = {
            "class": shown,
            "images": images,
            "copies_left_out": copies,
            "unreadable": files_there - images - copies,
            "refused": _part(images - _number(accepted, [folder], classes), images),
            "called": _called(counts, folder, classes),
            "called_if_accepted": _called(accepted, folder, classes),
        }
    results = {
        "folders": folders,
        **judged(counts, accepted, shows, classes),
        "copies_left_out": len(copied),
        "unreadable": len(faults),
    }
    return results, faults


def in_words(results: Mapping[str, Any]) -> list[str]:
    """A line on each folder, what most of its images were called, and one on the whole."""

    def with_interval(share: Mapping[str, float]) -> str:
        return f"({share['share']:.3f} [{share['low']:.3f}, {share['high']:.3f}])"

    lines = []
    for folder, result in results["folders"].items():
        facts = [f"{result['images']} images", result["class"]]
        for key, words in (
            ("copies_left_out", "copies of training images left out"),
            ("unreadable", "unreadable"),
        ):
            facts += [f"{result[key]} {words}"] if result[key] else []
        line = f"{folder} ({', '.join(facts)})"
        if result["called"]:
            name, most = max(result["called"].items(), key=lambda item: item[1]["images"])
            refused = result["refused"]
            line += (
                f": {most['images']} called {name} {with_interval(most)}; "
                f"{refused['images']} refused {with_interval(refused)}"
            )
        if result["called_if_accepted"]:
            accepted = result["called_if_accepted"][name]
            line += f", {accepted['images']} of the others called {name} {with_interval(accepted)}"
        lines.append(line)
    if rate := results["false_positive_rate"]:
        still = rate["with_refusal"]
        lines.append(
            f"of {rate['images']} images that are not {rate['class']}, {rate['called']} were "
            f"called {rate['class']} {with_interval(rate)}; with the refusal {still['called']} "
            f"{with_interval(still)}"
        )
    return lines


def main() -> None:
    """Runs the stage."""
    settings = params.load_all()
    metadata = classifier.read_metadata()
    origin = files.read_json(RAW / "provenance.json", "download")
    results: dict[str, Any] = {
        "folders": {},
        "classes": {},
        "false_positive_rate": None,
        "copies_left_out": 0,
        "unreadable": 0,
    }
    label = None
    with files.scratch(SCRATCH):
        fetched = fetch(
            settings.external.classes,
            settings.download,
            metadata["classes"],
            phantoms=origin["source"] == "phantom",
        )
        if fetched is None:
            lines = [
                f"no external set: to have one, put a zip or a folder that holds <class>/<images> "
                f"into {EXTERNAL}; see {EXTERNAL}/README.md"
            ]
        else:
            label, shows = fetched
            results, faults = validate(sorted(SCRATCH.glob("*/*")), shows, metadata)
            lines = [f"can't be read, left out:\n{listed(faults)}"] if faults else []
            lines += in_words(results)
    files.write_json(DETAILS, {"provenance": metadata["provenance"], "set": label, **results})
    print("\n".join(lines))


if __name__ == "__main__":
    stage.script("external", main, __doc__)

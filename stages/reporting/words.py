"""What the card and the page say alike: names, numbers and sentences.

Every number is taken from the values, and what is said of a number depends on it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from stages.judging import baselines, scores

HEADLINES = {"all_test": "all test images", "leak_free": "without leaks"}
"""The two evaluation sets of metrics/details/evaluate.json, in words."""
METRICS = {
    "accuracy": "accuracy",
    "macro_sensitivity": "macro sensitivity (balanced accuracy)",
    "macro_specificity": "macro specificity",
    "macro_precision": "macro precision",
    "macro_f1": "macro F1",
    "macro_auroc": "macro AUROC",
    "loss": "log loss, nats",
    "brier": "Brier score (0 to 2)",
}
CLASS_METRICS = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "auroc": "AUROC",
}
CALIBRATION_METRICS = {"loss": "log loss", "brier": "Brier score"}
_SIDES, _FRAMES = (8, 16, 32), (5, 10, 20, 40)
BASELINES = {
    **{f"low_resolution_{side}": f"{side} x {side} pixels" for side in _SIDES},
    **{f"frame_{width}": f"frame of {width} pixels" for width in _FRAMES},
    "histogram": "grey histogram",
    "file_properties": "file properties",
    "source": "source",
    "majority_class": "majority class",
}
SEES = {
    **{f"low_resolution_{side}": f"{side} x {side} grey pixels" for side in _SIDES},
    **{f"frame_{width}": f"the outermost {width} of 200 pixels" for width in _FRAMES},
    "histogram": "how often grey values of 32 ranges occur, not where",
    "file_properties": "width, height, bytes, format and mode of the file",
    "source": "the source that the records name",
    "majority_class": "how often each class occurs in training",
}
"""What a baseline gets."""
COVERED = {
    **{f"frame_{width}": f"frame of {width} pixels" for width in _FRAMES},
    "centre": "centre: all but the frame of 40 pixels",
    "lungs": "rough region of the lungs",
    "all_but_lungs": "all but that region",
}
"""The parts that `occlusion` covers."""
VERDICTS = {
    "better": "better than",
    "not distinguishable": "not distinguishable from",
    "worse": "worse than",
}
SYNTHETIC = (
    "Every image was drawn by a program. Nothing here says anything about radiographs, patients or "
    "diseases."
)
OPTIMISTIC = (
    "Under the protocol original, the test images chose the epoch to stop at, so every metric of "
    "the network on them is optimistic: expect worse on images that it has never met. The "
    "cross-validation and the baselines are free of this."
)
VALIDATION = {
    "none": "no image of train/ was held out, and test/ decided nothing",
    "holdout": "a share of train/ decided when to stop, and test/ nothing",
    "original": "test/ decided when to stop",
}
"""What a recipe's `validation` means."""
NO_DEVICE = "Not for diagnosis, triage, screening or any other decision about a person."
NOT_PROMISED = (
    "This is counted over all images together, and for images that could as well have been in "
    "train/: it promises nothing for another hospital, for a single class or for a single image."
)
LONGEST_LIST = 30
"""Sources, contradicting, leaked and unreadable images that are listed one by one; the rest is
counted."""
MOST_COPIES = 6
"""Of one radiograph that are named in a row."""


class Markdown(str):
    """Text that goes into Markdown as it is; a page escapes it as any other."""


def interval(result: Mapping[str, Any], metric: str = "accuracy") -> Markdown:
    """A metric with its 95 % interval, as `0.788 [0.675, 0.869]`.

    Args:
        result: A headline, a class in one, for the accuracy what a baseline reached, or for a
            share or a rate what `external` found.
        metric: Its name.
    """
    match metric:
        case "accuracy":
            low, high = result["accuracy_low"], result["accuracy_high"]
        case "share":
            low, high = result["low"], result["high"]
        case _:
            low, high = result["intervals"][metric]
    return Markdown(f"{result[metric]:.3f} [{low:.3f}, {high:.3f}]")


def difference(result: Mapping[str, Any]) -> Markdown:
    """Network minus baseline with the 95 % interval, as `+0.012 [-0.010, +0.034]`.

    Args:
        result: A baseline of metrics/details/compare.json, or its `resampled_t`.
    """
    ends = ("difference_low", "difference_high") if "difference_low" in result else ("low", "high")
    value, low, high = (round(result[key], 3) + 0.0 for key in ("difference", *ends))
    return Markdown(f"{value:+.3f} [{low:+.3f}, {high:+.3f}]")


def p_value(p: float) -> Markdown:
    """`p = 0.042`, or `p < 0.001`."""
    return Markdown("p < 0.001" if p < 0.001 else f"p = {p:.3f}")


def counted(number: int, word: str) -> str:
    """`1 fold`, `3 folds`."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def listed(names: Iterable[str], word: str) -> str:
    """`a`, `a and b`, `a, b and c` where `word` is "and"."""
    *others, last = names
    return f"{', '.join(others)} {word} {last}" if others else last


def named(files: Iterable[str]) -> str:
    """The first MOST_COPIES files, as `a, b`, and how many more there are."""
    every = list(files)
    more = [f"and {len(every) - MOST_COPIES:,} more"] if len(every) > MOST_COPIES else []
    return ", ".join(every[:MOST_COPIES] + more)


def compared(value: float, other: float) -> str:
    """How a value is to another, to the three places that are shown, as in "higher than"."""
    one, two = round(value, 3), round(other, 3)
    return "higher than" if one > two else "lower than" if one < two else "the same as"


def changed(before: float, after: float) -> str:
    """`rises from 0.287 to 0.321`; what is shown as the same `stays at 0.287`."""
    verb = {"higher than": "rises", "lower than": "falls"}.get(compared(after, before))
    return f"{verb} from {before:.3f} to {after:.3f}" if verb else f"stays at {before:.3f}"


def percent(share: float) -> str:
    """`86.2 %`."""
    return f"{100 * share:.1f} %"


def verdict(compare: Mapping[str, Any]) -> str:
    """As in `not distinguishable from the best baseline, 8 x 8 pixels`."""
    return f"{VERDICTS[compare['verdict']]} the best baseline, {BASELINES[compare['best']]}"


def how_good(compare: Mapping[str, Any]) -> Markdown:
    """How good the network is and how sure that is, in a sentence."""
    pooled = compare["pooled"]
    return Markdown(
        f"The right class was named for {percent(pooled['accuracy'])} of "
        f"{counted(pooled['images'], 'radiograph')} (95 % interval: "
        f"{percent(pooled['accuracy_low'])} to {percent(pooled['accuracy_high'])}), each time by "
        "a network that had not been trained on it."
    )


def how_much_better(compare: Mapping[str, Any]) -> Markdown:
    """Whether the network is better than the best baseline and what follows, in a sentence."""
    name = compare["best"]
    follows = (
        "what that baseline sees does not explain it, and whether the network reads lungs is "
        "another question"
        if compare["verdict"] == "better"
        else "no evidence that the network uses anything beyond that"
    )
    return Markdown(
        f"This is {VERDICTS[compare['verdict']]} the best of "
        f"{counted(len(compare['baselines']), 'simple baseline')}, which sees only {SEES[name]} "
        f"and is right for {percent(compare['baselines'][name]['accuracy'])}: {follows}."
    )


def approximated(compare: Mapping[str, Any]) -> Markdown:
    """How the baselines' kernels are approximated, in a sentence; nothing where they are exact."""
    if "approximation" not in compare:
        return Markdown()
    return Markdown(baselines.in_words(compare["approximation"]))


def all_radiographs(compare: Mapping[str, Any]) -> Markdown:
    """What "all radiographs" are."""
    rest = compare["radiographs"] - compare["judged"]
    return Markdown(
        f"All radiographs are {compare['judged']:,} of {compare['radiographs']:,} different ones: "
        "those of train/ judged in the cross-validation, by networks trained without them, and "
        "those of test/ alone by the network that is kept. Their metrics are those of the recipe; "
        "AUROC, log loss and Brier score pool the probabilities of several networks."
        + (
            " The rest is in test/ alone and belongs to patients who are in train/ too."
            if rest
            else ""
        )
    )


def false_positives(rate: Mapping[str, Any]) -> str:
    """`962 of 1,000 images that are not Covid were called Covid`.

    Args:
        rate: `false_positive_rate` of metrics/details/external.json.
    """
    name, images, called = " ".join(rate["class"].split()), rate["images"], rate["called"]
    return (
        f"{called:,} of {counted(images, 'image')} that {'is' if images == 1 else 'are'} not "
        f"{name} {'was' if called == 1 else 'were'} called {name}"
    )


def with_refusal(rate: Mapping[str, Any]) -> Markdown:
    """How many are left of what `false_positives` counts where what is refused has no class."""
    still = rate["with_refusal"]
    return Markdown(
        f"Without those that are refused it is {still['called']:,}, {interval(still, 'share')}"
    )


def sources(records: Mapping[str, Any] | None) -> dict[str, dict[str, int]]:
    """How many images of each class come from each source, the largest source first.

    Args:
        records: Of metrics/details/audit.json; None is no source.

    Returns:
        What is beyond LONGEST_LIST is one row.
    """
    counts = records["sources"] if records else {}
    names = sorted(counts, key=lambda name: (-sum(counts[name].values()), name))
    rest: Counter[str] = Counter()
    for name in names[LONGEST_LIST:]:
        rest.update(counts[name])
    others = {counted(len(names) - LONGEST_LIST, "other source"): dict(rest)} if rest else {}
    return {name: counts[name] for name in names[:LONGEST_LIST]} | others


def told_by_source(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The classes of which no source holds another class too.

    Args:
        counts: Images by source and class.
    """
    held = [{name for name, images in row.items() if images} for row in counts.values()]
    return sorted(
        name for name in set().union(*held) if all(row == {name} for row in held if name in row)
    )


def told_by(names: Sequence[str]) -> str:
    """What `told_by_source` found, in a sentence."""
    return (
        f"No source of {listed(names, 'or')} holds any other class, so that "
        f"{'this class' if len(names) == 1 else 'these classes'} can be told by the source, "
        "whatever the radiograph shows."
    )


def contradicting(records: Mapping[str, Any]) -> Markdown:
    """How many labels contradict the records, in a sentence.

    Args:
        records: Of metrics/details/audit.json.
    """
    labels = records["labels"]
    number = sum(row["contradicts"] for row in labels.values())
    return Markdown(
        f"By the records, {number:,} of {sum(sum(row.values()) for row in labels.values()):,} "
        f"labels {'contradicts' if number == 1 else 'contradict'} what the source says that the "
        f"image shows, {labels['test']['contradicts']:,} of them in test/."
    )


def confidence(temperature: float) -> Markdown:
    """What the temperature says of the network, in a sentence."""
    than = compared(temperature, 1)
    said = {
        "lower than": "underconfident",
        "higher than": "overconfident",
        "the same as": "neither underconfident nor overconfident",
    }[than]
    return Markdown(
        f"The temperature is {temperature:.3f}, {than} one: without it, the network is {said} on "
        "radiographs that it has not seen."
    )


def calibration_error(calibration: Mapping[str, Any]) -> Markdown:
    """The expected calibration error beside that of chance, in two sentences.

    Args:
        calibration: Of metrics/details/evaluate.json.
    """
    before, after = (
        calibration[when]["expected_calibration_error"] for when in ("before", "after")
    )
    chance = calibration["by_chance"]
    more = compared(after, chance["high"]) == "higher than"
    return Markdown(
        f"The expected calibration error {changed(before, after)}. A perfectly calibrated network "
        f"would show {chance['mean']:.3f} on so few images by chance, and in 95 % of the cases no "
        f"more than {chance['high']:.3f}: what is found is "
        f"{'more than chance makes' if more else 'no more than chance makes'}."
    )


def coverage(sets: Mapping[str, Any]) -> Markdown:
    """How many sets of classes hold the true one, and how large they are, in two sentences.

    Args:
        sets: Of metrics/details/evaluate.json.
    """
    covered, single, asked = sets["covered"], sets["single"], sets["coverage"]
    kept = (
        "fewer than that"
        if covered["high"] < asked
        else "more than that"
        if covered["low"] > asked
        else "which agrees with that"
    )
    return Markdown(
        f"The set of classes is made to hold the true one in {percent(asked)} of the cases. It "
        f"does for {covered['count']:,} of {counted(covered['images'], 'test image')} without "
        f"leaks, {interval(covered, 'share')}, {kept}; a set has {sets['mean_size']:.3f} classes "
        f"on average, and one alone for {single['count']:,} of {single['images']:,}, "
        f"{interval(single, 'share')}. {NOT_PROMISED}"
    )


def refusal(refused: Mapping[str, Any]) -> Markdown:
    """How many test images are refused, in a sentence.

    Args:
        refused: Of metrics/details/evaluate.json.
    """
    return Markdown(
        f"What does not look like the radiographs of train/ is refused: {refused['count']:,} of "
        f"{counted(refused['images'], 'test image')} without leaks, wrongly, as each is a chest "
        f"radiograph: {interval(refused, 'share')}."
    )


def when_kept(train: Mapping[str, Any], metric: str) -> str:
    """A metric at the epoch whose weights are kept, in a sentence.

    Args:
        train: The contents of metrics/details/train.json.
        metric: "accuracy" or "loss".
    """
    kinds = {"training": train[metric]}
    if f"val_{metric}" in train:
        kinds["validation"] = train[f"val_{metric}"]
    numbers = listed((f"{value:.3f} on the {kind} images" for kind, value in kinds.items()), "and")
    return f"At the epoch that was kept, {train['kept_epoch']} of {train['epochs']}, {numbers}."


def where_it_looks(gradcam: Mapping[str, Any]) -> Markdown:
    """How much of the activation lies outside the central region, in two sentences.

    Args:
        gradcam: Of metrics/details/evaluate.json.
    """
    if not gradcam["images_with_activation"]:
        return Markdown(
            "By Grad-CAM, no test image has any activation, so that nothing can be said."
        )
    share, uniform = gradcam["outside_centre_share"], gradcam["outside_centre_share_if_uniform"]
    than = compared(share, uniform)
    looks = {
        "higher than": "looks more at the border",
        "lower than": "looks more at the centre",
        "the same as": "prefers neither the border nor the centre",
    }[than]
    return Markdown(
        f"By Grad-CAM, a share of {share:.3f} of the activation lies outside the central region, "
        f"{than} the {uniform:.3f} of an activation spread evenly over the image. Compared with "
        f"that, the network {looks}."
    )


def like_untrained(gradcam: Mapping[str, Any]) -> Markdown:
    """How like the heat maps are to those before training, and what follows.

    Args:
        gradcam: Of metrics/details/evaluate.json.
    """
    compared = gradcam["against_untrained"]
    if compared is None:
        return Markdown(
            "No test image has a heat map both by the network and by the same network before "
            "training, so that they can't be compared."
        )
    low, _ = compared["intervals"]["rank_correlation"]
    follows = (
        "that much of what they show is the image itself, such as its edges, and not what was "
        "learned"
        if low > 0
        else "no sign that they show the image itself rather than what was learned"
    )
    return Markdown(
        f"The heat maps have a mean rank correlation of {interval(compared, 'rank_correlation')} "
        f"with those of the same network before training, its weights random, over "
        f"{counted(compared['images'], 'test image')} (1: training changed nothing in them; 0: "
        f"nothing in common): {follows}."
    )


def without_lungs(occlusion: Mapping[str, Any]) -> Markdown:
    """What the network still knows with the lungs covered, in a sentence.

    Args:
        occlusion: metrics/details/occlusion.json.
    """
    areas = (
        f"{interval(result, 'macro_auroc')} {filling}"
        for filling, result in occlusion["covered"]["lungs"].items()
    )
    return Markdown(
        f"The network {occlusion['verdict']} (macro AUROC, of which chance is 0.5: "
        f"{listed(areas, 'and')})."
    )


def frames_alone(occlusion: Mapping[str, Any]) -> Markdown:
    """Which baselines that see a frame alone are better than chance, in a sentence.

    Args:
        occlusion: metrics/details/occlusion.json.
    """
    above = {
        name: result for name, result in occlusion["frames_alone"].items() if result["above_chance"]
    }
    if not above:
        return Markdown(
            "On these images no baseline that sees a frame alone is shown to be above chance."
        )
    named = (
        f"the {BASELINES[name]} ({interval(result, 'macro_sensitivity')})"
        for name, result in above.items()
    )
    chance = 1 / occlusion["classes"]
    return Markdown(
        f"A frame alone tells the classes to a simple baseline: of {listed(named, 'and')} the "
        f"macro sensitivity is above chance, {chance:.3f}."
    )


def environment(
    finalize: Callable[[Any], Any], **filters: Callable[..., Any]
) -> jinja2.Environment:
    """What fills in the templates of this folder.

    Args:
        finalize: Makes of any value what is to stand there.
        filters: By name, beside those that every template has.
    """
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=jinja2.select_autoescape(("html.j2",)),
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    everywhere = (counted, difference, interval, listed, p_value, percent)
    made.filters |= {word.__name__: word for word in everywhere} | filters
    sentences = (
        *(all_radiographs, approximated, calibration_error, changed, compared, confidence),
        *(contradicting, coverage, false_positives, frames_alone, how_good, how_much_better),
        *(like_untrained, refusal, told_by, when_kept, where_it_looks, with_refusal),
        without_lungs,
    )
    made.globals |= {sentence.__name__: sentence for sentence in sentences}
    made.globals |= {
        "baseline_labels": BASELINES,
        "calibration_metrics": CALIBRATION_METRICS.items(),
        "class_metrics": CLASS_METRICS.items(),
        "covered_parts": COVERED.items(),
        "headlines": HEADLINES.items(),
        "longest_list": LONGEST_LIST,
        "metrics": METRICS.items(),
        "most_bca": scores.MOST_BCA,
        "no_device": Markdown(NO_DEVICE),
        "optimistic": Markdown(OPTIMISTIC),
        "sees": SEES,
        "synthetic_words": Markdown(SYNTHETIC),
        "validation": VALIDATION,
    }
    return made


def _on_records(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the template says of the sources and of the labels that contradict them."""
    records, by_source = results["audit"]["records"], results["compare"]["by_source"]
    if not records:
        return {}
    labels = records["labels"]
    several = {
        name: row
        for name, row in by_source.items()
        if sum(images > 0 for images in row["classes"].values()) > 1
    }
    return {
        "label_counts": {
            kind: sum(row[kind] for row in labels.values())
            for kind in ("agrees", "contradicts", "unknown")
        },
        "sources": sources(records),
        "told_by_source": told_by_source(records["sources"]),
        "wrong_test_labels": [
            record for record in records["contradicting"] if record["file"].startswith("test/")
        ],
        "within": sorted(several.items(), key=lambda item: -item[1]["network"]["images"]),
    }


def _parameters(settings: Any) -> dict[str, dict[str, Any]]:
    """The parameters that the results depend on, by group; of the recipes only the one used."""
    recipe = dict(settings.recipes)[settings.train.recipe]
    groups = {
        name: dict(group)
        for name, group in settings
        if name not in ("download", "machine", "recipes")
    }
    for key in type(recipe).model_fields:
        del groups["train"][key]
    used = {key: value for key, value in recipe if value is not None}
    return groups | {f"recipes.{settings.train.recipe}": used}


def values(results: Mapping[str, Any], settings: Any) -> dict[str, Any]:
    """What the templates of the card and of the report page are filled with.

    Args:
        results: By their stems, the contents of the details files of audit, train, evaluate,
            compare, external and occlusion, of "predictions" in metrics/plots/, and "provenance".
        settings: All parameters, as from `params.load_all`.
    """
    evaluate, compare, audit = results["evaluate"], results["compare"], results["audit"]
    leak_free, calibration = evaluate["leak_free"], evaluate["calibration"]
    before, after = calibration["before"], calibration["after"]
    copies = [group["files"] for group in audit["copy_groups"]]
    leaked = [record["file"] for record in results["predictions"] if record["leaked"]]
    group_of = {file: group for group in copies for file in group}
    contradictions = [group for group in copies if len({file.split("/")[1] for file in group}) > 1]
    return {
        **results,
        **_on_records(results),
        "settings": settings,
        "parameters": _parameters(settings),
        "synthetic": results["provenance"]["source"] == "phantom",
        "protocol": evaluate["provenance"]["protocol"],
        "recipe": evaluate["provenance"]["recipe"],
        "all_test": evaluate["all_test"],
        "leak_free": leak_free,
        "best": compare["baselines"][compare["best"]],
        "records": audit["records"],
        "patients": audit["patients"],
        "images": sum(sum(row.values()) for row in audit["images"].values()),
        "classes": list(leak_free["classes"]),
        "worst": min(
            leak_free["classes"], key=lambda name: leak_free["classes"][name]["sensitivity"]
        ),
        "leaks": [
            (file, named(other for other in group_of.get(file, []) if other.startswith("train/")))
            for file in leaked[:LONGEST_LIST]
        ],
        "more_leaks": len(leaked[LONGEST_LIST:]),
        "contradictions": [named(group) for group in contradictions[:LONGEST_LIST]],
        "more_contradictions": len(contradictions[LONGEST_LIST:]),
        "calibration": calibration,
        "sets": evaluate["sets"],
        "refused": evaluate["refused"],
        "temperature": calibration["temperature"],
        "before": before,
        "after": after,
        "changes": [
            f"the {label} {changed(before[metric], after[metric])}"
            for metric, label in CALIBRATION_METRICS.items()
        ],
        "gradcam": evaluate["gradcam"],
    }

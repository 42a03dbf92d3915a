"""The model card: the values that its template, model_card.md.j2, is filled with.

After Mitchell et al. 2019, with the items of TRIPOD+AI (Collins et al. 2024) and CLAIM (Mongan
et al. 2020, Tejani et al. 2024) that files and metrics can answer. Every number is taken from the
values, and what is said of a number depends on it.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

HEADLINES = {"all_test": "all test images", "leak_free": "without leaks"}
"""The two evaluation sets of metrics/details/evaluate.json, in words."""
METRICS = {
    "accuracy": "accuracy",
    "macro_sensitivity": "macro sensitivity",
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
CALIBRATION_METRICS = {
    "loss": "log loss",
    "brier": "Brier score",
    "expected_calibration_error": "expected calibration error",
}


BASELINES = {
    "low_resolution": "low resolution (16 x 16)",
    "border": "border only",
    "file_properties": "file properties",
    "majority_class": "majority class",
}
UNUSED = {
    "low_resolution": "detail finer than 16 x 16 pixels",
    "border": "the centre of the image",
    "file_properties": "more than properties of the file",
    "majority_class": "the image at all",
}
"""What a network that does no better than the baseline may leave unused."""


class Markdown(str):
    """Text that goes into the card as it is."""


def escaped(text: str) -> str:
    """Any text as one line of Markdown that shows it literally, in a table's cell too."""
    line = " ".join(text.split())
    return re.sub(r"[\\`*{}\[\]<>|~&$#]|(?<![^\W_])_|^[-+]", r"\\\g<0>", line)


def shown(value: object) -> str:
    """A value as it stands in the card."""
    if isinstance(value, Markdown):
        return value
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else escaped(str(value))


def interval(result: Mapping[str, Any], metric: str = "accuracy") -> Markdown:
    """A metric with its 95 % interval, as `0.788 [0.675, 0.869]`.

    Args:
        result: A headline, a class in one, or, for the accuracy, what a baseline reached.
        metric: Its name.
    """
    if metric == "accuracy":
        low, high = result["accuracy_low"], result["accuracy_high"]
    else:
        low, high = result["intervals"][metric]
    return Markdown(f"{result[metric]:.3f} [{low:.3f}, {high:.3f}]")


def counted(number: int, word: str) -> str:
    """`1 fold`, `3 folds`."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def listed(names: Iterable[str], word: str) -> str:
    """`a`, `a and b`, `a, b and c` where `word` is "and"."""
    *others, last = names
    return f"{', '.join(others)} {word} {last}" if others else last


def position(value: float, low: float, high: float) -> str:
    """Where a value lies: "above", "within" or "below" the interval."""
    return "above" if value > high else "below" if value < low else "within"


def compared(value: float, other: float) -> str:
    """How a value is to another, to the three places that are shown, as in "higher than"."""
    one, two = round(value, 3), round(other, 3)
    return "higher than" if one > two else "lower than" if one < two else "the same as"


def changed(before: float, after: float) -> str:
    """`rises from 0.287 to 0.321`; what is shown as the same `stays at 0.287`."""
    verb = {"higher than": "rises", "lower than": "falls"}.get(compared(after, before))
    return f"{verb} from {before:.3f} to {after:.3f}" if verb else f"stays at {before:.3f}"


def flowing(text: str) -> str:
    """Joins the lines of each paragraph and list item, and leaves one blank line between blocks.

    A line that begins a row of a table, a heading, a quotation, a picture or an item stays one.
    """
    joined = re.sub(r"(?<!\n)\n *(?![\n|>!#]|- )", " ", text.strip())
    return re.sub(r"\n{3,}", "\n\n", joined) + "\n"


_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=False,  # noqa: S701 - that is for HTML; `finalize` escapes for Markdown
    finalize=shown,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "counted": counted,
    "interval": interval,
    "listed": listed,
    "verbatim": lambda value: Markdown(str(value)),
}
_environment.globals |= {
    "baseline_labels": BASELINES,
    "calibration_metrics": CALIBRATION_METRICS.items(),
    "changed": changed,
    "class_metrics": CLASS_METRICS.items(),
    "compared": compared,
    "headlines": HEADLINES.items(),
    "metrics": METRICS.items(),
    "position": position,
}


def write(results: Mapping[str, Any], settings: Any) -> str:
    """The whole card.

    Args:
        results: By their stems, the contents of the details files of audit, train, baselines,
            evaluate and stability, of "predictions" in metrics/plots/, and "provenance".
        settings: All parameters, as from `params.load_all`.

    Returns:
        Markdown that ends with a line feed; its charts are in charts/ beside it.
    """
    evaluate, baselines = results["evaluate"], results["baselines"]
    leak_free, calibration = evaluate["leak_free"], evaluate["calibration"]
    before, after = calibration["before"], calibration["after"]
    copies = [group["files"] for group in results["audit"]["copy_groups"]]
    copies_in_train = {
        file: [other for other in group if other.startswith("train/")]
        for group in copies
        for file in group
    }
    test_files = [sum(file.startswith("test/") for file in group) for group in copies]
    text = _environment.get_template("model_card.md.j2").render(
        **results,
        settings=settings,
        synthetic=results["provenance"]["source"] == "phantom",
        protocol=evaluate["provenance"]["protocol"],
        all_test=evaluate["all_test"],
        leak_free=leak_free,
        classes=list(leak_free["classes"]),
        worst=min(leak_free["classes"], key=lambda name: leak_free["classes"][name]["sensitivity"]),
        leaks=[
            (record["file"], copies_in_train.get(record["file"], []))
            for record in results["predictions"]
            if record["leaked"]
        ],
        contradictions=[
            group for group in copies if len({file.split("/")[1] for file in group}) > 1
        ],
        repeats=sum(count - 1 for count in test_files if count > 1),
        temperature=calibration["temperature"],
        before=before,
        after=after,
        changes=[
            f"the {label} {changed(before[metric], after[metric])}"
            for metric, label in CALIBRATION_METRICS.items()
        ],
        gradcam=evaluate["gradcam"],
        majority=baselines["majority_class"]["leak_free"]["accuracy"],
        rivals={
            BASELINES[name]: unused
            for name, unused in UNUSED.items()
            if baselines[name]["leak_free"]["accuracy"] >= leak_free["accuracy_low"]
        },
    )
    return flowing(text)

"""The model card's text: values in, Markdown out.

After Mitchell et al. 2019, with the items of TRIPOD+AI (Collins et al. 2024) and CLAIM (Mongan
et al. 2020, Tejani et al. 2024) that files and metrics can answer. Every figure is taken from the
values, and what is said of a figure depends on it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.common import params
from stages.intake.decode import FRAME, SIZE

HEADLINES = {"published": "all test images", "leak_free": "without leaks"}
"""The two answers of metrics/test.json to "how good", in words."""

FIGURES = {
    "accuracy": "accuracy",
    "macro_sensitivity": "macro sensitivity",
    "macro_specificity": "macro specificity",
    "macro_precision": "macro precision",
    "macro_f1": "macro F1",
    "macro_auroc": "macro AUROC",
    "loss": "log loss, nats",
    "brier": "Brier score (0 to 2)",
}
CLASS_FIGURES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "auroc": "AUROC",
}


@dataclass(frozen=True)
class Baseline:
    """One of the baselines of metrics/shortcuts.json, in words.

    Attributes:
        label: Its name for people.
        sees: What it is given.
        difference: What can be said of the classes if it beats the majority class.
    """

    label: str
    sees: str
    difference: str


BASELINES = {
    "thumbnail": Baseline(
        "thumbnail 16 x 16 (SVM)",
        "the picture in so few grey pixels that no finding in a lung is left",
        "the classes differ in coarse brightness and shape",
    ),
    "border": Baseline(
        "border only (SVM)",
        f"a frame of {FRAME} of {SIZE} pixels, the centre blacked out; "
        "outer parts of the lungs can show",
        "the classes differ in what lies outside the lungs",
    ),
    "file_properties": Baseline(
        "file properties (SVM)",
        "size, format and mode of the file, mean and spread of the grey values",
        "the classes differ in how the pictures were made or stored",
    ),
    "majority_class": Baseline(
        "majority class",
        "nothing: it always names the class with most training images",
        "",
    ),
}


def safe(name: str) -> str:
    """Any text as one line of Markdown that shows it literally, in a table's cell too."""
    line = " ".join(name.split())
    return re.sub(r"[\\`*{}\[\]<>|~&$#]|(?<![^\W_])_", r"\\\g<0>", line)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; what may hold a `|` has gone through `safe`."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def interval(value: float, bounds: Sequence[float]) -> str:
    """A figure with its interval, as `0.788 [0.675, 0.869]`."""
    low, high = bounds
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def accuracy(record: Mapping[str, Any]) -> str:
    """The accuracy of a headline or a baseline, with its interval."""
    return interval(record["accuracy"], (record["accuracy_low"], record["accuracy_high"]))


def counted(number: int, word: str) -> str:
    """`1 fold`, `3 folds`."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def place(value: float, low: float, high: float) -> str:
    """Where a value lies: "above", "within" or "below" the interval."""
    return "above" if value > high else "below" if value < low else "within"


def compared(value: float, other: float) -> str:
    """How a value is to another, to the three places that are shown, as in "higher than"."""
    one, two = round(value, 3), round(other, 3)
    return "higher than" if one > two else "lower than" if one < two else "the same as"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _warnings(found: Mapping[str, Any]) -> str:
    warnings = []
    if found["provenance"]["source"] == "phantom":
        warnings.append(
            "> **SYNTHETIC PHANTOM.** Every picture was drawn by a program. Nothing on this card "
            "says anything about radiographs, patients or diseases."
        )
    if found["test"]["provenance"]["protocol"] == "published":
        warnings.append(
            "> **Optimistic by design.** Under the protocol `published` the test images chose "
            "the stopping epoch and the temperature, so every figure of the network on them is "
            "optimistic: expect worse on images that it never met. The cross-validation and the "
            "baselines are free of this."
        )
    warnings.append(
        "> **Not a medical device.** Not for diagnosis, triage, screening or any other decision "
        "about a person."
    )
    return "\n>\n".join(warnings)


def _summary(found: Mapping[str, Any], settings: params.Params) -> str:
    test, fold = found["test"], found["crossvalidation"]["accuracy"]
    rows = [
        [
            label,
            *(interval(test[name][figure], _bounds(test[name], figure)) for name in HEADLINES),
        ]
        for figure, label in FIGURES.items()
    ]
    header = ["", *(f"{label}, n = {test[name]['images']:,}" for name, label in HEADLINES.items())]
    where = place(test["published"]["accuracy"], fold["lowest"], fold["highest"])
    return f"""## In short

{table(header, rows)}

In brackets: 95 % intervals. "Without leaks" counts every radiograph once, and only those of which
no copy was trained on. The accuracy on all test images is
{compared(test["published"]["accuracy"], test["leak_free"]["accuracy"])} the one without leaks,
and {where} the range of the cross-validation ({fold["lowest"]:.3f} to {fold["highest"]:.3f}), whose
folds train on fewer images and for at most {settings.crossvalidate.epochs} epochs.

{_verdict(found)}"""


def _bounds(headline: Mapping[str, Any], figure: str) -> Sequence[float]:
    if figure == "accuracy":
        return headline["accuracy_low"], headline["accuracy_high"]
    bounds: Sequence[float] = headline["intervals"][figure]
    return bounds


def _verdict(found: Mapping[str, Any]) -> str:
    """What the shortcuts mean in sum."""
    network = found["test"]["leak_free"]
    rivals = [
        BASELINES[name].label
        for name in BASELINES
        if found["shortcuts"][name]["leak_free"]["accuracy"] >= network["accuracy_low"]
    ]
    if rivals:
        return (
            f"**As far as {counted(network['images'], 'image')} without leaks can tell, the "
            f"network does no better than: {listed(rivals)}.** Its accuracy is therefore no "
            "evidence that it reads lungs."
        )
    return (
        "**None of the baselines reaches the network's interval.** That does not show that it "
        "reads lungs, only that these shortcuts alone do not explain its accuracy."
    )


def _intended_use(classes: Sequence[str]) -> str:
    return f"""## Intended use

- Question: which of the classes {listed([safe(name) for name in classes])} a chest X-ray was
  filed under, from its pixels alone.
- For: learning and teaching how such a classifier is built and judged; comparing ways of training
  on the same data; finding copies, leaks and shortcuts in a set of radiographs.
- For whom: people who work with machine learning and can read intervals.
- Not for: diagnosis, triage, screening, treatment or any use with patients; radiographs from
  elsewhere than this data; telling apart any condition that is no class here. The network names
  one of its classes for whatever picture it is given."""


def _model(found: Mapping[str, Any], settings: params.Params) -> str:
    train = found["train"]
    ended = (
        "early stopping ended it"
        if train["epochs"] < settings.train.epochs
        else "it ran to the limit of epochs"
    )
    rows = [
        [f"`{group}.{key}`", value]
        for group in ("preprocess", "train", "evaluate", "crossvalidate")
        for key, value in getattr(settings, group).model_dump().items()
    ]
    return f"""## Model

- Version: the commit that holds this card, with the `dvc.lock` beside it.
- Kind: a small convolutional network (blocks of convolution and max pooling, then two dense
  layers), {train["parameters"]:,} parameters, all trained from random weights; no pre-training.
- Input: an image of {SIZE} x {SIZE} RGB pixels. Every file is turned upright, put on black and
  resized without keeping its aspect. Output: a probability for each class; the predicted class is
  the one with the highest.
- Training: cross-entropy, no augmentation, no class weights; {train["images"]["train"]:,} images
  to train on and {train["images"]["validation"]:,} to stop by. {train["epochs"]:,} epochs were
  run: {ended}. The weights are those of epoch {train["kept_epoch"]:,}, with accuracy
  {train["accuracy"]:.3f} and loss {train["loss"]:.3f} in training, {train["val_accuracy"]:.3f}
  and {train["val_loss"]:.3f} in validation.

{table(["parameter", "value"], rows)}

![Accuracy by epoch](figures/accuracy.png)
![Loss by epoch](figures/loss.png)"""


def _data(found: Mapping[str, Any], classes: Sequence[str]) -> str:
    origin, data = found["provenance"], found["data"]
    synthetic = origin["source"] == "phantom"
    standard = (
        "the class that the program drew; what it draws is its authors' idea of a disease"
        if synthetic
        else "unknown. The labels are the names of the folders; who gave them, from what (RT-PCR, "
        "a reading, a report) and with what agreement, the files do not say"
    )
    people = (
        "none"
        if synthetic
        else "number, age, sex, place, dates, devices and views are unknown, so that no "
        "subgroup can be judged"
    )
    rows = [
        [
            f"`{split}/`",
            *(f"{data['images'][split][name]:,}" for name in classes),
            f"{sum(data['images'][split][name] for name in classes):,}",
        ]
        for split in ("train", "test")
    ]
    return f"""## Data

- Source: {safe(origin["data"])}. Files: {origin["files"]:,}. Licence: {safe(origin["licence"])}.
- Reference standard: {standard}.
- Patients: {people}.
- Unreadable files, left out: {data["unreadable"]:,}.

{table(["images", *(safe(name) for name in classes), "all"], rows)}

{_unreadable(data)}### Copies and leaks

{_copies(found)}"""


def _unreadable(data: Mapping[str, Any]) -> str:
    if not data["unreadable_files"]:
        return ""
    rows = [[safe(record["file"]), safe(record["reason"])] for record in data["unreadable_files"]]
    return table(["unreadable file", "reason"], rows) + "\n\n"


def _copies(found: Mapping[str, Any]) -> str:
    data = found["data"]
    copies = data["copies"]
    trained = {
        file: [other for other in group["files"] if other.startswith("train/")]
        for group in data["copy_groups"]
        for file in group["files"]
    }
    leaks = [
        [safe(record["file"]), ", ".join(safe(file) for file in trained.get(record["file"], ()))]
        for record in found["predictions"]
        if record["leaked"]
    ]
    contradictions = [
        [", ".join(safe(file) for file in group["files"])]
        for group in data["copy_groups"]
        if len({file.split("/")[1] for file in group["files"]}) > 1
    ]
    rows = [
        ["different radiographs", data["groups"]],
        ["radiographs that are there more than once", copies["groups_with_copies"]],
        ["of these, within `train/` alone", copies["within_train"]],
        ["of these, within `test/` alone", copies["within_test"]],
        ["of these, in both: leaks", copies["across_splits"]],
        ["pairs of files with the same bytes", copies["identical_pairs"]],
        ["test images with a copy in `train/`", copies["leaked_test_images"]],
        ["radiographs filed under more than one class", copies["contradicting_classes"]],
    ]
    parts = [
        "Files that show the same radiograph were found by their bytes, their pixels and, for near "
        "copies, perceptual hashes with a stricter comparison after them. `pictures/copies.png` "
        "shows the near copies, for a person to confirm.",
        table(["", "count"], [[label, f"{count:,}"] for label, count in rows]),
    ]
    if leaks:
        parts.append(table(["leaked test image", "its copies in train"], leaks))
    if contradictions:
        parts += [
            "Copies with contradicting classes, of which at least one label is wrong:",
            table(["files of one radiograph"], contradictions),
        ]
    return "\n\n".join(parts)


def _splits(found: Mapping[str, Any], settings: params.Params) -> str:
    if found["test"]["provenance"]["protocol"] == "published":
        text = (
            "Protocol `published`: all of `train/` was trained on. The images of `test/` served "
            "as validation images: they chose the stopping epoch and the temperature, and were "
            "then judged on. Every figure on them is optimistic."
        )
    else:
        text = (
            "Protocol `holdout`: a share of `train/` (asked for: "
            f"{settings.preprocess.validation_share}) was held out for early stopping and the "
            "temperature, stratified by class and grouped, so that no radiograph is on both "
            "sides. The images of `test/` were used for nothing but this card."
        )
    return f"""## Splits

{text} `test/` is kept as it came, so that figures can be compared with other people's; a test
image with a copy in `train/` stays in it and counts as leaked."""


def _results(found: Mapping[str, Any], classes: Sequence[str]) -> str:
    parts = ["## Results by class"]
    for headline, label in HEADLINES.items():
        by_class = found["test"][headline]["classes"]
        rows = [
            [
                safe(name),
                f"{by_class[name]['images']:,}",
                *(
                    interval(by_class[name][figure], by_class[name]["intervals"][figure])
                    for figure in CLASS_FIGURES
                ),
            ]
            for name in classes
        ]
        parts.append(table([label, "images", *CLASS_FIGURES.values()], rows))
    by_class = found["test"]["leak_free"]["classes"]
    worst = min(classes, key=lambda name: by_class[name]["sensitivity"])
    parts += [
        f"The lowest sensitivity without leaks has {safe(worst)}: of its images, a share of "
        f"{1 - by_class[worst]['sensitivity']:.3f} was taken for another class.",
        "![Confusion](figures/confusion.png)\n![ROC by class](figures/roc.png)",
    ]
    return "\n\n".join(parts)


def _calibration(found: Mapping[str, Any]) -> str:
    calibration = found["test"]["calibration"]
    before, after = calibration["before"], calibration["after"]
    error = "expected_calibration_error"
    names = {error: "expected calibration error", "loss": "log loss, nats", "brier": "Brier score"}
    rows = [[label, f"{before[key]:.3f}", f"{after[key]:.3f}"] for key, label in names.items()]
    was = {"lower than": "too timid", "higher than": "too bold", "the same as": "right"}
    than_one = compared(calibration["temperature"], 1)
    return f"""## Calibration

The temperature, fitted on the validation images, is {calibration["temperature"]:.3f},
{than_one} one: before it, the probabilities were {was[than_one]} on these. On all test images the
expected calibration error after it is {compared(after[error], before[error])} before. `predict`
uses the temperature; it changes no predicted class.

{table(["all test images", "before", "after"], rows)}

![Reliability](figures/reliability.png)"""


def _shortcuts(found: Mapping[str, Any]) -> str:
    shortcuts, network = found["shortcuts"], found["test"]["leak_free"]
    rows = [
        ["network", "the image", *(accuracy(found["test"][name]) for name in HEADLINES)],
        *(
            [words.label, words.sees, *(accuracy(shortcuts[name][part]) for part in HEADLINES)]
            for name, words in BASELINES.items()
        ),
    ]
    majority = shortcuts["majority_class"]["leak_free"]["accuracy"]
    sentences = []
    for name in ("thumbnail", "border", "file_properties"):
        record = shortcuts[name]["leak_free"]
        where = place(record["accuracy"], network["accuracy_low"], network["accuracy_high"])
        means = {
            "above": "it does better than the network",
            "within": "the network can't be told from it",
            "below": "alone it does not explain the network's accuracy",
        }[where]
        informed = (
            f"it beats the majority class ({majority:.3f}), so {BASELINES[name].difference}"
            if record["accuracy_low"] > majority
            else f"it can't be told from the majority class ({majority:.3f})"
        )
        sentences.append(
            f"- The baseline *{BASELINES[name].label}* reaches {accuracy(record)}, {where} the "
            f"network's interval: {means}. As to itself, {informed}."
        )
    return f"""## Shortcuts

How much can be told without lungs, or without a network? Baselines, most of them support vector
machines (SVM), trained on the images that the network was trained on:

{table(["accuracy", "what it sees", *HEADLINES.values()], rows)}

Without leaks:

{chr(10).join(sentences)}

{_gradcam(found["test"]["gradcam"])}

![Shortcuts](figures/shortcuts.png)"""


def _gradcam(gradcam: Mapping[str, Any]) -> str:
    share, uniform = (
        gradcam["outside_chest_share"],
        gradcam["outside_chest_share_if_uniform"],
    )
    more = compared(share, uniform)
    meaning = {
        "higher than": "the network looks at the border more than chance would",
        "lower than": "the network looks at the centre more than chance would",
        "the same as": "the network prefers neither the border nor the centre",
    }[more]
    return f"""Where the network looks (Grad-CAM, all test images): a share of {share:.3f} of the
activation lies outside the central region, {more} the {uniform:.3f} of an activation that is the
same everywhere: {meaning}. The region is a square, not the outline of the lungs. It is the
mean over the {counted(gradcam["images_with_activation"], "test image")} with any activation.
`pictures/gradcam.png` shows some images, right and wrong ones."""


def _crossvalidation(found: Mapping[str, Any]) -> str:
    result = found["crossvalidation"]
    images = [record["images"] for record in result["records"]]
    rows = [
        [
            label,
            *(
                f"{result[figure][column]:.3f}"
                for column in ("mean", "standard_deviation", "lowest", "highest")
            ),
        ]
        for figure, label in FIGURES.items()
    ]
    return f"""## Cross-validation

{counted(result["folds"], "fold")} of `train/`, grouped and stratified, dealt with
{counted(result["seeds"], "seed")}; {min(images):,} to {max(images):,} images judged a fold, none
of which was trained on or stopped by. Images of `test/` take no part. The figures of a fold are
without intervals; their spread is what the split and the seed are worth.

{table(["", "mean", "standard deviation", "lowest", "highest"], rows)}"""


def _intervals(settings: params.Params) -> str:
    return f"""## How the intervals are made

- Accuracy, sensitivity, specificity, precision: Wilson's 95 % interval of a proportion.
- All other figures: 95 % percentile interval of a bootstrap of
  {settings.evaluate.bootstrap_samples:,} samples (seed {settings.evaluate.seed}). It draws
  radiographs, not files, because copies are not independent, and draws within each class.
- They cover which test images there are, not which training images or seeds; for that see the
  cross-validation. They are not corrected for looking at many figures.
- A baseline within the network's interval is a rough comparison, not a paired test."""


def _limits(found: Mapping[str, Any]) -> str:
    test = found["test"]["leak_free"]
    width = test["accuracy_high"] - test["accuracy_low"]
    return f"""## Limits

- {counted(test["images"], "test image")} without leaks leave an interval of accuracy that is
  {width:.3f} wide.
- One data set, with its own mix of classes: no external validation, and the precision holds for
  this mix alone.
- If the classes come from different hospitals, devices or ages, a network can learn these instead;
  the shortcuts hint at it, and can't rule it out.
- Near copies can have been missed, and a patient can have several radiographs that are no copies;
  patients can't be told from files.
- The network was trained once, with one seed. The same machine gives the same bits again, another
  processor may not.
- Items of TRIPOD+AI and CLAIM that files can't answer: setting and dates, eligibility, consent,
  how the sample size came about, missing data, who read the images and how blinded, clinical
  benefit, involvement of patients."""


def _ethics(found: Mapping[str, Any]) -> str:
    person = (
        "These pictures show nobody. The code runs on radiographs of people just as well, and then:"
        if found["provenance"]["source"] == "phantom"
        else "These pictures are of people whose consent the files do not document:"
    )
    return f"""## Ethical considerations

{person}

- a missed disease and a false alarm both do harm, and neither is weighed here;
- fairness by age, sex, ethnicity or place can't be judged, as none of them is known;
- a radiograph is personal data: keep to its licence, try to identify nobody, publish no images
  that you may not."""


REPRODUCE = """## How to reproduce

`make repro` in a clone of this commit; `dvc.lock` holds the hash of everything that was read and
written, `params.yaml` every parameter, `requirements.txt` every library's version.
`dvc metrics show` prints these figures, `dvc plots show` the curves.

## References

- Mitchell et al. 2019, Model cards for model reporting.
- Collins et al. 2024, TRIPOD+AI statement.
- Mongan et al. 2020, Checklist for artificial intelligence in medical imaging (CLAIM);
  Tejani et al. 2024, its update.
- Wilson 1927, Probable inference, the law of succession, and statistical inference.
- Efron 1979, Bootstrap methods: another look at the jackknife.
- Guo et al. 2017, On calibration of modern neural networks.
- Selvaraju et al. 2017, Grad-CAM; Draelos and Carin 2020, HiResCAM, the form used here."""


def _flowing(text: str) -> str:
    """Puts each paragraph and each item of a list on one line, however long its figures are."""
    return "\n\n".join(
        block if block.startswith(("|", "#", ">", "!")) else re.sub(r"\n(?!- ) *", " ", block)
        for block in text.split("\n\n")
    )


def write(found: Mapping[str, Any], settings: params.Params) -> str:
    """The whole card.

    Args:
        found: The content of the metrics files by their stems ("data", "train", "test",
            "predictions", "shortcuts", "crossvalidation"), and "provenance".
        settings: All parameters.

    Returns:
        Markdown that ends with a line feed; its pictures are in figures/ beside it.
    """
    where = found["test"]["provenance"]
    classes = list(found["test"]["published"]["classes"])
    sections = [
        "# Model card: chest X-ray classifier",
        f"Data: **{safe(where['data'])}**. Protocol: **{where['protocol']}**.",
        _warnings(found),
        _summary(found, settings),
        _intended_use(classes),
        _model(found, settings),
        _data(found, classes),
        _splits(found, settings),
        _results(found, classes),
        _calibration(found),
        _shortcuts(found),
        _crossvalidation(found),
        _intervals(settings),
        _limits(found),
        _ethics(found),
        REPRODUCE,
    ]
    return _flowing("\n\n".join(sections)) + "\n"

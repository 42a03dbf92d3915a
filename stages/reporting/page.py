"""The report page: one HTML file with all that it shows, without a script and without a network.

Its template is report.html.j2, its style report.css.
"""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from stages.common.errors import InputError
from stages.judging import gradcam
from stages.learning import dataset
from stages.reporting import charts, words

ERRORS = Path("metrics/pictures/errors")
"""Where `evaluate` puts the wrongly classified test images and their heat maps."""
OCCLUSION = Path("metrics/pictures/occlusion.png")
MOST_ERRORS = 60
MOST_GROUPS, MOST_MEMBERS = 30, 6
MOST_CLASSES = 30
"""With more, the confusion is not shown as a table: it would have too many cells to be read."""
METRICS = {
    "accuracy": "images given the right class",
    "macro_sensitivity": "images of a class that are recognised, mean over the classes",
    "macro_specificity": "other images that are not taken for the class, mean over the classes",
    "macro_precision": "answers that are right (positive predictive value), mean over the classes",
    "macro_f1": "harmonic mean of sensitivity and precision, mean over the classes",
    "macro_auroc": "how well the probability of a class ranks its images above the others, mean "
    "over the classes",
    "loss": "how far the probability of the right class is from 1; confident errors cost most",
    "brier": "squared distance of the probabilities from the right answer",
}
"""What a metric says, in other words."""
_QUALITY = 85


def _shown(value: Any) -> Any:
    """A value as it stands on the page, before it is escaped."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else value


_environment = words.environment(_shown, verbatim=lambda value: str(value) or "none")


def _address(image: Image.Image, kind: str) -> str:
    """The image as an address that holds it; `kind` is "png" or "webp"."""
    content = io.BytesIO()
    image.save(content, kind, quality=_QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def _picture(path: Path, made_by: str) -> str:
    """The image in a file as an address that holds it.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with Image.open(path) as image:
            return _address(image.convert("RGB"), "webp")
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"{path} is not the image that the stage `{made_by}` writes ({error}). "
            f"Run `dvc repro --force {made_by}`."
        ) from None


def _errors(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first MOST_ERRORS, each with its image and its heat map."""
    return [
        record | {key: _picture(ERRORS / record[key], "evaluate") for key in ("image", "map")}
        for record in records[:MOST_ERRORS]
    ]


def _near_copies(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups that are to be confirmed by eye, the first MOST_GROUPS of them with pictures.

    Returns:
        For each, `files`, and `shown`: name and picture of the first MOST_MEMBERS, None for the
        picture of what `preprocess` left out.
    """
    near = [group for group in groups if set(group["kinds"]) != {"bytes"}]
    index = dataset.read_index()
    processed = dict(zip(index["path"], index["file"], strict=True))

    def picture(file: str) -> str | None:
        if file not in processed:
            return None
        return _picture(dataset.PROCESSED / processed[file], "preprocess")

    return [
        {"files": group["files"]}
        | {
            "shown": [(file, picture(file)) for file in group["files"][:MOST_MEMBERS]]
            if number < MOST_GROUPS
            else []
        }
        for number, group in enumerate(near)
    ]


def write(results: Mapping[str, Any], settings: Any) -> str:
    """The whole page.

    Args:
        results: As for `charts.all_of`, with "errors" of metrics/details/.
        settings: All parameters, as from `params.load_all`.

    Raises:
        InputError: a picture is missing or damaged.
    """
    drawn, records = charts.all_of(results), results["audit"]["records"]
    contradicting = records["contradicting"] if records else []
    return _environment.get_template("report.html.j2").render(
        words.values(results, settings),
        charts={
            name: Markup(charts.svg(name, drawn[name]))  # noqa: S704 - escaped by matplotlib
            for name in ("comparison", "accuracy", "loss", "roc", "reliability")
        },
        confusion=charts.confusion_counts(results).tolist(),
        errors=_errors(results["errors"]["errors"]),
        error_count=len(results["errors"]["errors"]),
        pictured=sum("image" in record for record in results["errors"]["errors"]),
        explained=METRICS,
        # of images whose label says something else
        findings={record["file"]: record["finding"] for record in contradicting},
        roc_areas=words.listed(
            (
                f"{name} {words.interval(result, 'auroc')}"
                for name, result in results["evaluate"]["all_test"]["classes"].items()
            ),
            "and",
        ),
        most_classes=MOST_CLASSES,
        most_groups=MOST_GROUPS,
        occluded=_picture(OCCLUSION, "occlusion"),
        near_copies=_near_copies(results["audit"]["copy_groups"]),
        scale=_address(gradcam.scale(), "png"),
        scale_words=" ".join(gradcam.SCALE_WORDS.split()),
        size=dataset.SIZE,
    )

"""All results, for people to read.

Reads the JSON files in `metrics/details/` and `metrics/plots/`, the wrongly classified images in
`metrics/pictures/errors/`, `metrics/pictures/occlusion.png`, images and provenance in
`data/processed`, and params.yaml. Writes
`metrics/report.html`, the page that tells all of it, the charts in `metrics/charts/` and
`metrics/MODEL_CARD.md`, and prints the table that ends a `dvc repro`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.common import files, params, stage
from stages.reporting import card, charts, page, words

CHARTS = Path("metrics/charts")
CARD = Path("metrics/MODEL_CARD.md")
PAGE = Path("metrics/report.html")
MADE_BY = {
    "metrics/details/audit.json": "audit",
    "metrics/details/train.json": "train",
    "metrics/details/evaluate.json": "evaluate",
    "metrics/details/errors.json": "evaluate",
    "metrics/details/external.json": "external",
    "metrics/details/occlusion.json": "occlusion",
    "metrics/details/compare.json": "compare",
    "metrics/plots/history.json": "train",
    "metrics/plots/predictions.json": "evaluate",
    "metrics/plots/reliability.json": "evaluate",
    "metrics/plots/roc.json": "evaluate",
    "data/processed/provenance.json": "preprocess",
}
"""The stage that writes each of the files that are read."""


def read() -> dict[str, Any]:
    """The contents of the files by their stems.

    Raises:
        InputError: a file is missing or is not JSON.
    """
    return {Path(path).stem: files.read_json(Path(path), name) for path, name in MADE_BY.items()}


def table(results: Mapping[str, Any]) -> str:
    """The short table that stands at the end of a `dvc repro`."""
    evaluate, compare, external = (results[name] for name in ("evaluate", "compare", "external"))
    provenance, pooled = evaluate["provenance"], compare["pooled"]
    sets = {"all radiographs": pooled} | {
        label: evaluate[headline] for headline, label in words.HEADLINES.items()
    }
    titles = [f"{label}, n = {result['images']:,}" for label, result in sets.items()]
    best = compare["baselines"][compare["best"]]

    def line(label: str, cells: Iterable[str], difference: str) -> str:
        return f"{label:19}{''.join(f'{cell:25}' for cell in cells)}{difference}".rstrip()

    baselines = [
        line(
            words.BASELINES[name],
            map(words.interval, (row, row["test"], row["leak_free"])),
            words.difference(row),
        )
        for name, row in compare["baselines"].items()
    ]
    original = provenance["protocol"] == "original"
    optimistic = " (test/ chose the epoch: optimistic there)" if original else ""
    if rate := external["false_positive_rate"]:
        elsewhere = (
            f"{words.false_positives(rate)}, {words.interval(rate, 'share')}\n"
            f"{words.with_refusal(rate)}"
        )
    else:
        elsewhere = "none"
    return "\n".join(
        [
            f"{provenance['data']}, recipe {provenance['recipe']}{optimistic}",
            f"The network is {words.verdict(compare)}: "
            f"{words.difference(best)}, {words.p_value(best['p_holm'])} (McNemar, Holm)",
            line("accuracy", titles, "network minus baseline"),
            line("network", map(words.interval, sets.values()), ""),
            *baselines,
            f"external set: {elsewhere}",
        ]
    )


def main() -> None:
    """Runs the stage."""
    settings = params.load_all()
    results = read()
    text, html = card.write(results, settings), page.write(results, settings)
    with files.atomic_write(CHARTS) as folder:
        folder.mkdir()
        charts.write(results, folder)
    files.write_text(CARD, text)
    files.write_text(PAGE, html)
    print(table(results))


if __name__ == "__main__":
    stage.script("report", main, __doc__)

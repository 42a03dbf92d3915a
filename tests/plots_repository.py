"""A repository of two commits, whose plots are of other classes, and in which `make setup` ran."""

import json
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from tests import metrics_files
from tests.pipeline.scratch import PROJECT, Scratch, make_venv

CLASSES = {
    "phantoms": ("Covid", "Normal", "Viral Pneumonia"),
    "archive": ("a", "b", "c", "a class whose name is longer than most"),
}
"""By the tag of the commit; the later one is checked out."""
PLOTS = ("history", "predictions", "roc", "reliability")
PICTURES = (
    "charts/roc.png",
    "pictures/copies.png",
    "pictures/gradcam.png",
    "pictures/occlusion.png",
)


def results(tag: str) -> dict[str, Any]:
    """What the plots of that commit show."""
    protocol = "none" if tag == "phantoms" else "holdout"  # without and with validation images
    return metrics_files.make(CLASSES[tag], seed=len(tag), protocol=protocol)


def make(folder: Path, home: Path) -> Scratch:
    """Makes it in `folder`."""
    shutil.copytree(PROJECT / ".dvc/plots", folder / ".dvc/plots")
    for name in (".dvc/config", ".dvc/.gitignore", "Makefile", "params.yaml", "requirements.txt"):
        shutil.copyfile(PROJECT / name, folder / name)
    (folder / "stages").symlink_to(PROJECT / "stages")
    # the plots alone, so that the files are in git, and not looked for in DVC's cache
    text = (PROJECT / "dvc.yaml").read_text(encoding="utf-8")
    (folder / "dvc.yaml").write_text(text[text.index("\nplots:\n") :], encoding="utf-8")
    (folder / ".gitignore").write_text("/.venv/\n/dvc_plots/\n", encoding="utf-8")
    make_venv(folder)
    scratch = Scratch(folder, home)
    scratch.run("git", "init", "--quiet", ".")
    for number, tag in enumerate(CLASSES):
        contents = results(tag)
        for name in PLOTS:
            path = folder / "metrics/plots" / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(contents[name]), encoding="utf-8")
        for name in PICTURES:
            path = folder / "metrics" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (640, 400), (200, 60 * number, 90)).save(path)
        scratch.commit()
        scratch.run("git", "tag", tag)
    scratch.run("make", "setup")
    return scratch

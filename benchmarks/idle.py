"""`dvc repro` with nothing to do, beside DVC itself on the same files in one stage.

usage: python -m benchmarks.idle [--images N ...], in a folder in which `dvc repro` has run

For each number of images, by default 317, 2,000 and 20,000, two copies of the project are made in
which that many tiny files stand for the images: the one has the stages of dvc.yaml, the other a
single stage with all that they depend on and write. Prints a JSON record: by number of images the
median `ratio` of the seconds of the two, measured in turn, and the median `seconds` of the first.
"""

import argparse
import json
import shutil
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.scratch import run, seconds

IMAGES = (317, 2_000, 20_000)
ROUNDS = 9


def in_one(stages: dict[str, Any], records: str) -> dict[str, Any]:
    """One stage with the outs of all stages, and with what they depend on and none of them writes.

    Args:
        stages: Those of dvc.yaml.
        records: What `${audit.records}` stands for.
    """
    outs = [out for stage in stages.values() for out in stage["outs"] + stage.get("metrics", [])]
    written = [Path(name) for out in outs for name in (out if isinstance(out, dict) else [out])]
    needed = {
        dep.replace("${audit.records}", records) for s in stages.values() for dep in s["deps"]
    }
    deps = [
        dep
        for dep in sorted(needed)
        if not any(Path(dep).is_relative_to(o) or o.is_relative_to(dep) for o in written)
    ]
    return {"cmd": "true", "deps": deps, "outs": outs}


def pair(here: Path, folder: Path, images: int) -> tuple[Path, Path]:
    """The two copies, in `folder`, up to date."""
    ours, single = folder / "ours", folder / "single"
    shutil.copytree(here, ours, symlinks=True)
    for place, uses in (("raw", ("train", "test")), ("processed", ("train", "test", "validation"))):
        for use in uses:
            shutil.rmtree(ours / "data" / place / use, ignore_errors=True)
            (ours / "data" / place / use / "A").mkdir(parents=True)
        for number in range(images):
            path = ours / "data" / place / uses[number % len(uses)] / "A" / f"{number}.png"
            path.write_text(str(number), encoding="utf-8")
    run("dvc", "commit", "--force", folder=ours)
    shutil.copytree(ours, single, symlinks=True)
    tree = yaml.safe_load((single / "dvc.yaml").read_text(encoding="utf-8"))
    parameters = yaml.safe_load((single / "params.yaml").read_text(encoding="utf-8"))
    only = {"stages": {"one": in_one(tree["stages"], parameters["audit"]["records"])}}
    (single / "dvc.yaml").write_text(yaml.safe_dump(only), encoding="utf-8")
    (single / "dvc.lock").unlink()
    run("dvc", "commit", "--force", folder=single)
    return ours, single


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES)
    result = {}
    for images in parser.parse_args().images:
        with tempfile.TemporaryDirectory() as scratch:
            folders = pair(Path.cwd(), Path(scratch), images)
            rounds = [
                [seconds(partial(run, "dvc", "repro", folder=folder)) for folder in folders]
                for _round in range(ROUNDS)
            ]
        result[images] = {
            "ratio": statistics.median(ours / theirs for ours, theirs in rounds),
            "seconds": statistics.median(ours for ours, _ in rounds),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

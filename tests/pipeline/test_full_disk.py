"""Every stage on a full disk."""

from pathlib import Path

import pytest

from tests import machine, made
from tests.pipeline.scratch import Scratch

STAGES = {
    "download": "data",
    "audit": "metrics",
    "preprocess": "data",
    "train": "models",
    "evaluate": "metrics",
    "baselines": "metrics",
    "crossvalidate": "metrics",
    "calibrate": "models",
    "external": "metrics",
    "occlusion": "metrics",
    "compare": "metrics",
    "report": "metrics",
}


@machine.needs_mount
@pytest.mark.parametrize("name", STAGES)
def test_a_full_disk_says_so_and_a_run_after_making_room_succeeds(
    finished: Scratch, tmp_path: Path, name: str
) -> None:
    project = finished.copy(tmp_path / "project")
    place = STAGES[name]
    command = f"python -m stages.{name}"
    script = f"""
        cp -r {place} before
        mount -t tmpfs -o size=30m none {place} || exit 98
        cp -r before/. {place}/
        cat /dev/zero > {place}/filler 2> no-space
        {command} > first 2>&1 && exit 99
        rm {place}/filler
        cp -r {place} between
        {command} && cp -r {place} after
    """
    project.run("unshare", "--mount", "sh", "-c", script)
    *before_it, message = (project.folder / "first").read_text().splitlines()
    assert not any("Traceback" in line for line in before_it)
    assert message.startswith(name.split(maxsplit=1)[0])
    assert message.endswith(": the disk is full. Make room and run `dvc repro` again.")
    before = made.contents_of(project.folder / "before")
    assert made.contents_of(project.folder / "between") == before, "something half-written was left"
    assert made.contents_of(project.folder / "after") == before

"""One shrunken run of the whole pipeline, which the tests copy."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline import scratch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in here runs the real DVC, and mostly TensorFlow."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.pipeline)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> scratch.Scratch:
    """A repository in which `dvc repro` has run to its end, committed. Not to be changed."""
    base = tmp_path_factory.mktemp("pipeline")
    project = scratch.make(base / "project", base / "home")
    project.run("dvc", "repro")
    project.commit()
    return project


@pytest.fixture
def project(finished: scratch.Scratch, tmp_path: Path) -> Iterator[scratch.Scratch]:
    """A copy of the finished repository, to be changed at will."""
    yield finished.copy(tmp_path / "project")
    shutil.rmtree(tmp_path / "project")

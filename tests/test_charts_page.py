"""The page for the charts of `dvc plots`, and what happens without it."""

import re
import shutil
from pathlib import Path

import pytest

from stages import charts_page
from tests import plots_repository
from tests.pipeline.scratch import PROJECT, Scratch

NETWORK = 'src="https://'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    """Not to be changed."""
    base = tmp_path_factory.mktemp("plots")
    (base / "project").mkdir()
    return plots_repository.make(base / "project", base / "home")


@pytest.fixture
def repository(made: Scratch, tmp_path: Path) -> Scratch:
    """A copy, to be changed at will."""
    return made.copy(tmp_path / "a project")


def page_of_charts(repository: Scratch) -> str:
    """What `dvc plots show` writes; fails if the charts are not in it."""
    repository.run("dvc", "plots", "show")
    page = (repository.folder / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert len(re.findall(r"vegaEmbed\('#\w+', spec\)", page)) == 5
    assert "gradcam.png" in page
    return page


def test_scripts_take_the_place_of_those_from_the_network() -> None:
    template = (PROJECT / charts_page.TEMPLATE).read_text(encoding="utf-8")
    page = charts_page.page(template)
    for placeholder, times in (("{scripts}", 0), ("{plot_divs}", 1), ("{refresh_tag}", 1)):
        assert page.count(placeholder) == times, placeholder
    assert "window.vegaEmbed" in page
    assert page.count("</script>") == template.count("</script>") + 1
    assert NETWORK not in page


@pytest.mark.pipeline
def test_after_make_setup_no_script_comes_from_the_network(repository: Scratch) -> None:
    assert NETWORK not in page_of_charts(repository)
    assert "Nothing to be done" in repository.run("make", "setup")
    assert repository.run("git", "status", "--short") == ""


@pytest.mark.pipeline
def test_without_the_page_the_charts_are_drawn_by_scripts_from_the_network(
    repository: Scratch,
) -> None:
    (page,) = (repository.folder / ".venv").glob("charts.html*")
    page.unlink()
    assert NETWORK in page_of_charts(repository)
    repository.run("make", "setup")
    assert NETWORK not in page_of_charts(repository)

    shutil.rmtree(repository.folder / ".venv")
    assert NETWORK in page_of_charts(repository)


@pytest.mark.pipeline
def test_a_clone_and_a_worktree_draw_their_charts_before_make_setup(
    repository: Scratch, tmp_path: Path
) -> None:
    repository.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    repository.run("git", "worktree", "add", "--quiet", str(tmp_path / "worktree"))
    for name in ("clone", "worktree"):
        other = Scratch(tmp_path / name, tmp_path / "home")
        assert NETWORK in page_of_charts(other), name

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages import evaluate, predict
from stages.common import stage
from stages.common.errors import InputError
from stages.intake import decode
from stages.learning import network, temperature
from tests import made_processed

Call = Callable[..., tuple[int, str, str]]


def picture(path: Path, label: int = 0, size: tuple[int, int] = (300, 260)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = made_processed.class_in_the_centre(np.random.default_rng(label), label)
    Image.fromarray(pixels).resize(size).save(path, format="PNG")
    return path


def run(*arguments: object, cwd: Path = made_processed.REPOSITORY) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "stages.predict", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(made_processed.REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_files_are_taken_as_given_and_folders_searched(tmp_path: Path) -> None:
    folder = tmp_path / "some"
    wanted = [
        picture(folder / name)
        for name in ("B.JPG", "a b.png", "deeper/01.jpeg", "deeper/er/x.TIFF")
    ]
    for name in ("notes.txt", "._a b.png", ".hidden/c.png", "__MACOSX/._B.JPG"):
        picture(folder / name)
    (folder / "folder.png").mkdir()
    odd = tmp_path / "no ending"
    assert predict.expand([odd, folder, odd]) == [odd, *sorted(wanted), odd]
    (tmp_path / "empty").mkdir()
    assert predict.expand([tmp_path / "empty"]) == [tmp_path / "empty"]


def test_what_cannot_be_read_is_named_and_the_rest_decoded(tmp_path: Path) -> None:
    good = [picture(tmp_path / f"{number}.png", number) for number in range(2)]
    text = tmp_path / "text.jpg"
    text.write_text("no image", "utf-8")
    folder = tmp_path / "empty"
    folder.mkdir()
    missing = tmp_path / "miss\ning.png"
    readable, pixels, faults = predict.read_all([missing, good[0], text, folder, good[1]])
    assert readable == good
    assert pixels.shape == (2, 200, 200, 3)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels[1], np.asarray(decode.resized(good[1], 200)))
    assert len(faults) == 3
    assert "miss\\ning.png: it can't be read (No such file or directory)" in faults[0]
    assert "text.jpg: it is text, not an image" in faults[1]
    assert "empty: this folder has no image file in it" in faults[2]
    assert predict.read_all([])[1].shape == (0, 200, 200, 3)


def test_the_table_has_one_line_per_file() -> None:
    classes = ("Covid", "Viral Pneumonia")
    records = [
        {"file": name, "class": label, "probabilities": {"Covid": 0.25, "Viral Pneumonia": 0.75}}
        for name, label in (("a\nb\x1b[2J.png", "Covid"), ("\udcff ü.png", "Viral Pneumonia"))
    ]
    lines = list(predict.table(records, classes))
    assert lines == [
        "file             class            Covid  Viral Pneumonia",
        "a\\nb\\x1b[2J.png  Covid            0.250            0.750",
        "\\udcff ü.png     Viral Pneumonia  0.250            0.750",
    ]


def test_help_says_what_it_takes() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("IMAGE_OR_FOLDER", "--json", "--explain FOLDER", "JPEG, PNG", "write -- before"):
        assert word in " ".join(done.stdout.split()), word


def test_a_missing_model_is_named_in_one_line(tmp_path: Path) -> None:
    done = run(picture(tmp_path / "a.png"), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("predict: models/classifier.json is not there")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of which the model can't be loaded: whoever starts TensorFlow fails."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/classifier.json").write_text(
        '{"classes": ["Covid", "Normal"], "temperature": 1.0, "provenance": {"data": "x"}}'
    )
    (tmp_path / "models/classifier.keras").write_bytes(b"")
    monkeypatch.setattr(network, "start", lambda *_: pytest.fail("TensorFlow was started"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_missing_file_is_named_before_the_network_is_started(no_network: Path) -> None:
    faults = predict.predict([Path("missing.png")], as_json=False, explain=None)
    assert faults == ["missing.png: it can't be read (No such file or directory)"]


def test_explain_wants_a_folder(no_network: Path) -> None:
    picture(no_network / "a.png")
    for name in ("a.png", "a.png/below"):
        with pytest.raises(InputError, match=f"--explain: {name} is a file or lies in one"):
            predict.predict([Path("a.png")], as_json=False, explain=Path(name))


@pytest.mark.tensorflow
class TestTrained:
    @pytest.fixture(autouse=True)
    def _project(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.chdir(made_processed.trained_project())
        before = signal.getsignal(signal.SIGPIPE)
        yield
        signal.signal(signal.SIGPIPE, before)

    @pytest.fixture
    def call(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
        """Runs the command line; gives exit status, standard output and standard error."""

        def call(*arguments: object) -> tuple[int, str, str]:
            monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
            monkeypatch.setattr(stage, "leave", lambda: None)
            status = 0
            try:
                predict.main()
            except SystemExit as end:
                status = 1 if isinstance(end.code, str) else int(end.code or 0)
                if isinstance(end.code, str):
                    print(end.code, file=sys.stderr)
            printed = capsys.readouterr()
            return status, printed.out, printed.err

        return call

    def test_the_probabilities_are_those_of_evaluate(self, call: Call) -> None:
        records = json.loads((evaluate.PLOTS / "predictions.json").read_text("utf-8"))
        fitted = network.read_metadata()["temperature"]
        status, out, err = call("--json", "data/processed/test")
        assert (status, err) == (0, "")
        lines = [json.loads(line) for line in out.splitlines()]
        assert len(lines) == len(records) == 36
        by_name = {Path(one["file"]).name.removesuffix(".png"): one for one in lines}
        for record in records:
            mine = by_name[Path(record["file"]).name]
            raw = np.array([[record[f"probability {name}"] for name in made_processed.CLASSES]])
            assert list(mine["probabilities"]) == list(made_processed.CLASSES)
            assert list(mine["probabilities"].values()) == (
                temperature.scaled(raw, fitted)[0].tolist()
            )
            assert mine["class"] == record["predicted"]

    def test_one_file_alone_gets_the_same_and_the_correct_class(
        self, call: Call, tmp_path: Path
    ) -> None:
        files = [picture(tmp_path / f"{label}.png", label) for label in range(3)]
        _, together, _ = call("--json", *files)
        alone = [call("--json", file)[1] for file in files]
        assert together == "".join(alone)
        classes = [json.loads(line)["class"] for line in alone]
        assert classes == list(made_processed.CLASSES)

    def test_a_table_for_people_with_every_mention_of_a_file(
        self, call: Call, tmp_path: Path
    ) -> None:
        file = picture(tmp_path / "a b.png", 1)
        status, out, _ = call(file, file)
        lines = out.splitlines()
        assert status == 0
        assert lines[0].split() == ["file", "class", "Covid", "Normal", "Viral", "Pneumonia"]
        assert lines[1] == lines[2]
        assert lines[1].startswith(f"{file}  Normal ")
        assert lines[4] == "Data of the network: made for a test. Not for diagnosis."

    def test_the_others_are_done_when_one_cannot_be_read(self, call: Call, tmp_path: Path) -> None:
        files = [picture(tmp_path / f"{number:02d}.png") for number in range(40)]
        files[1].write_bytes(b"")
        files[35].unlink()
        status, out, err = call("--json", *files)
        assert status == 1
        done = [json.loads(line)["file"] for line in out.splitlines()]
        assert done == [str(file) for number, file in enumerate(files) if number not in (1, 35)]
        assert f"predict: {files[1]}: it is empty (0 bytes)\n" in err
        assert f"predict: {files[35]}: it can't be read" in err
        assert err.endswith("predict: 2 of 40 files could not be read; see above.\n")

    def test_odd_names_are_predicted_and_explained(
        self, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = made_processed.trained_project() / "models"
        (tmp_path / "models").symlink_to(made)
        monkeypatch.chdir(tmp_path)
        names = [
            "-dash.png",
            "a b.png",
            "line\nfeed.png",
            "$ma_{th$.png",
            os.fsdecode(b"latin-\xe9.png"),
            "x" * 240 + ".png",
        ]
        for name in names:
            picture(tmp_path / name)
        status, out, err = call("--json", "--explain", "why/so", "--", *names)
        assert (status, err) == (0, "")
        assert [json.loads(line)["file"] for line in out.splitlines()] == names
        pictures = sorted((tmp_path / "why/so").iterdir())
        assert len(pictures) == 6
        assert [path.name[:5] for path in pictures] == [f"000{n}-" for n in range(1, 7)]
        assert pictures[1].name == "0002-a b.png.png"
        for path in pictures:
            with Image.open(path) as image:
                assert image.format == "PNG"
        status, out, _ = call("--", *names)
        assert status == 0
        assert "line\\nfeed.png" in out
        assert "latin-\\udce9.png" in out

    def test_as_a_program_it_is_quiet_and_ends_well_when_nobody_listens_any_more(
        self, tmp_path: Path
    ) -> None:
        file = picture(tmp_path / "a.png", 2)
        environment = os.environ | {"PYTHONPATH": str(made_processed.REPOSITORY)}
        command = f"{sys.executable} -m stages.predict --json {file} {file}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{command} | head -c 1 > /dev/null"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        assert done.returncode in (0, 128 + signal.SIGPIPE)

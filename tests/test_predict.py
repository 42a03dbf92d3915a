import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages import evaluate, predict
from stages.common import parallel
from stages.common.errors import InputError
from stages.intake import decode
from stages.judging import gradcam
from stages.learning import classifier, novelty
from stages.learning.calibrated import Calibration
from tests import made_processed

Call = Callable[..., tuple[int, str, str]]
HEAVY = {
    *("tensorflow", "keras", "pandas", "matplotlib", "scipy", "sklearn", "pydantic", "pydicom"),
    *("imagehash", "ruamel", "jinja2", "statsmodels", "starlette", "uvicorn", "h5py", "requests"),
}
"""What takes long to import, and what `predict` does without."""


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


def test_a_file_is_decoded_or_what_is_wrong_is_told(tmp_path: Path) -> None:
    good = picture(tmp_path / "good.png")
    pixels = predict.read(good)
    assert isinstance(pixels, np.ndarray)
    assert pixels.shape == (200, 200, 3)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.asarray(decode.resized(good, 200)))
    text = tmp_path / "text.jpg"
    text.write_text("no image", "utf-8")
    folder = tmp_path / "empty"
    folder.mkdir()
    missing, no_image, empty = (
        str(predict.read(path)) for path in (tmp_path / "miss\ning.png", text, folder)
    )
    assert "miss\\ning.png: it can't be read (No such file or directory)" in missing
    assert "text.jpg: it is text, not an image" in no_image
    assert "empty: this folder has no image file in it" in empty


def test_the_table_has_one_line_per_file() -> None:
    paths = [Path("a\nb\x1b[2J.png"), Path("\udcff ü.png"), Path("c.png")]
    answers = [
        predict.Answer(np.array([0.75, 0.25]), np.array([True, False]), False),
        predict.Answer(np.array([0.25, 0.75]), np.array([True, True]), False),
        predict.Answer(np.array([0.25, 0.75]), np.array([False, True]), True),
    ]
    table = predict.Table(paths, ("Covid", "Viral Pneumonia"), 0.9, force=False)
    assert [table.head(), *map(table.row, paths, answers)] == [
        "file             class            Covid  Viral Pneumonia  90 % set",
        "a\\nb\\x1b[2J.png  Covid            0.750            0.250  Covid",
        "\\udcff ü.png     Viral Pneumonia  0.250            0.750  Viral Pneumonia, Covid",
        "c.png            this does not look like a chest radiograph",
    ]
    forced = predict.Table(paths, ("Covid", "Viral Pneumonia"), 0.999, force=True)
    assert forced.head().endswith("  99.9 % set")
    assert forced.row(paths[2], answers[2]) == (
        "c.png            Viral Pneumonia  0.250            0.750  Viral Pneumonia  (this does not "
        "look like a chest radiograph)"
    )


def test_help_says_what_it_takes() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in (
        *("IMAGE_OR_FOLDER", "--json", "--explain FOLDER", "JPEG, PNG", "write -- before"),
        *("--coverage C", "from 0.5 to 0.999; 0.9 by default", "--force", "are null there"),
    ):
        assert word in " ".join(done.stdout.split()), word


def test_a_missing_model_is_named_in_one_line(tmp_path: Path) -> None:
    done = run(picture(tmp_path / "a.png"), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("predict: models/classifier.tflite is not there")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """In the working folder, a network for which light is Normal; what is very light is refused."""
    generator = np.random.default_rng(0)

    def judge(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        light = pixels.mean(axis=(1, 2, 3)) / 255
        activations = generator.random((len(pixels), 46, 46, 1), np.float32)
        return np.stack([1 - light, light], axis=1), activations

    head = tuple(
        (generator.normal(0, 1, shape).astype(np.float32), np.zeros(shape[1], np.float32))
        for shape in ((23 * 23, 4), (4, 2))
    )
    shipped = SimpleNamespace(
        classes=["Covid", "Normal"],
        provenance={"data": "x"},
        head=head,
        judge=judge,
    )
    look = SimpleNamespace(refused=lambda pixels: pixels.mean(axis=(1, 2, 3)) > 240)
    known = Calibration(1.0, np.linspace(0, 0.5, 19))
    monkeypatch.setattr(classifier, "load", lambda: shipped)
    monkeypatch.setattr(Calibration, "load", lambda: known)
    monkeypatch.setattr(novelty.Novelty, "load", lambda: look)
    monkeypatch.chdir(tmp_path)
    return shipped


def test_what_cannot_be_read_is_named_and_the_rest_done(
    fake: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict.predict([Path("missing.png")], as_json=False, explain=None) == [
        "missing.png: it can't be read (No such file or directory)"
    ]
    assert capsys.readouterr().out == ""
    paths = [Path(f"{number:02d}.png") for number in range(70)]
    for number, path in enumerate(paths):
        Image.new("L", (40, 40), number).save(path)
    paths[0].unlink()
    paths[40].write_bytes(b"")
    faults = predict.predict(paths, as_json=True, explain=None)
    assert [fault.split(":")[0] for fault in faults] == ["00.png", "40.png"]
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["file"] for record in records] == [
        str(path) for number, path in enumerate(paths) if number not in (0, 40)
    ]
    for record in records:
        light = int(record["file"][:2]) / 255
        assert record["class"] == "Covid"
        assert record["probabilities"] == pytest.approx({"Covid": 1 - light, "Normal": light})


def test_however_many_images_there_are_few_are_in_memory_and_rows_come_as_they_are_done(
    fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(Path("a.png"))
    read, judge = predict.read, fake.judge
    decoded: list[Path] = []
    judged: list[int] = []
    printed = ""

    def counted(path: Path) -> np.ndarray | str:
        decoded.append(path)
        return read(path)

    def judge_and_look(pixels: np.ndarray) -> Any:
        nonlocal printed
        assert len(decoded) - sum(judged) <= parallel.AHEAD + 2 * classifier.BATCH
        printed += capsys.readouterr().out
        assert printed.count("a.png") == sum(judged)
        judged.append(len(pixels))
        return judge(pixels)

    monkeypatch.setattr(predict, "read", counted)
    fake.judge = judge_and_look
    assert predict.predict([Path("a.png")] * 400, as_json=False, explain=None) == []
    printed += capsys.readouterr().out
    assert sum(judged) == 400
    assert max(judged) == classifier.BATCH
    lines = printed.splitlines()
    assert lines[0].split() == ["file", "class", "Covid", "Normal", "90", "%", "set"]
    assert len(lines) == 405
    assert lines[-1] == "Data of the network: x. Not for diagnosis."


def test_what_does_not_look_like_a_radiograph_gets_no_class_unless_forced(
    fake: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, grey in (("dark.png", 20), ("white.png", 255)):
        Image.new("L", (40, 40), grey).save(name)
    paths = [Path("dark.png"), Path("white.png")]

    def records(force: bool) -> list[Any]:
        predict.predict(paths, as_json=True, force=force)
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    answered, refused = records(force=False)
    assert list(answered) == list(refused)
    assert (answered["class"], answered["refused"]) == ("Covid", False)
    assert refused == {
        "file": "white.png",
        "class": None,
        "probabilities": None,
        "set": None,
        "coverage": 0.9,
        "refused": True,
    }
    same, forced = records(force=True)
    assert same == answered
    assert (forced["class"], forced["set"], forced["refused"]) == ("Normal", ["Normal"], True)
    assert forced["probabilities"]["Normal"] == pytest.approx(1)

    assert predict.predict(paths) == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "white.png  this does not look like a chest radiograph"
    assert "1 of 2 refused; --force answers all the same, which means nothing." in lines
    predict.predict(paths, force=True)
    out = capsys.readouterr().out
    assert "--force" not in out
    assert out.splitlines()[2].startswith(
        "white.png  Normal  0.000   1.000  Normal  (this does not"
    )
    predict.predict(paths[:1])
    assert "refused" not in capsys.readouterr().out


def test_the_set_has_the_classes_that_are_not_too_odd(
    fake: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 19 radiographs a class is left out at 0.9 if less than two in 20 are as odd."""
    Image.new("L", (40, 40), 128).save("grey.png")  # 0.498 and 0.502
    Image.new("L", (40, 40), 100).save("dark.png")  # 0.608 and 0.392
    paths = [Path("grey.png"), Path("dark.png")]
    sets = {}
    for coverage in (0.5, 0.9, 0.97):
        assert predict.predict(paths, as_json=True, coverage=coverage) == []
        printed = capsys.readouterr()
        records = [json.loads(line) for line in printed.out.splitlines()]
        assert [record["coverage"] for record in records] == [coverage] * 2
        sets[coverage] = [record["set"] for record in records]
        told = "it takes 33 radiographs of train/, and there are 19: every set has all classes."
        assert (told in printed.err) == (coverage == 0.97)
    assert sets == {
        0.5: [["Normal"], ["Covid"]],
        0.9: [["Normal"], ["Covid"]],
        0.97: [["Normal", "Covid"], ["Covid", "Normal"]],
    }
    predict.predict(paths, coverage=0.97)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("  97 % set")
    assert lines[1].endswith("  Normal, Covid")


@pytest.mark.parametrize("coverage", [0.49, 0.9995, 90, -1, float("nan")])
def test_a_coverage_out_of_range_is_refused(fake: SimpleNamespace, coverage: float) -> None:
    expected = f"--coverage: found {coverage:g}, expected a share from 0.5 to 0.999"
    with pytest.raises(InputError, match=expected):
        predict.predict([Path("a.png")], coverage=coverage)


def test_on_a_terminal_a_bar_counts_the_images(
    fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(Path("a.png"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for count, words in ((1, None), (40, "40/40")):
        predict.predict([Path("a.png")] * count, as_json=True, explain=None)
        out, err = capsys.readouterr()
        assert len(out.splitlines()) == count
        assert (words in err) if words else err == ""


def test_explain_wants_a_folder(fake: SimpleNamespace) -> None:
    picture(Path("a.png"))
    for name in ("a.png", "a.png/below"):
        with pytest.raises(InputError, match=f"--explain: {name} is a file or lies in one"):
            predict.predict([Path("a.png")], as_json=False, explain=Path(name))


def test_explain_writes_the_picture_of_each_image(
    fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = gradcam.picture
    monkeypatch.setattr(classifier, "BATCH", 4)
    lines = []

    def recorded(pixels: np.ndarray, heat: np.ndarray, text: list[str]) -> Image.Image:
        lines.append(text)
        assert pixels.shape == (200, 200, 3)
        assert heat.max() == 1
        return original(pixels, heat, text)

    monkeypatch.setattr(gradcam, "picture", recorded)
    paths = [Path(f"{number}.png") for number in range(6)]
    for number, path in enumerate(paths):
        Image.new("L", (40, 40), 40 * number).save(path)
    paths[3].unlink()
    Image.new("L", (40, 40), 255).save("white.png")  # refused
    predict.predict([*paths, Path("white.png")], as_json=True, explain=Path("why"))
    assert sorted(path.name for path in Path("why").iterdir()) == [
        f"{number + 1:04d}-{number}.png.png" for number in range(6) if number != 3
    ]
    assert lines[0] == ["0.png", "Covid 1.000"]
    assert lines[-1] == ["5.png", "Normal 0.784"]
    predict.predict([Path("white.png")], as_json=True, explain=Path("forced"), force=True)
    assert [path.name for path in Path("forced").iterdir()] == ["0001-white.png.png"]


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
        status, out, err = call("--json", "--force", "data/processed/test")
        assert (status, err) == (0, "")
        lines = [json.loads(line) for line in out.splitlines()]
        assert len(lines) == len(records) == 36
        by_name = {Path(one["file"]).name.removesuffix(".png"): one for one in lines}
        for record in records:
            mine = by_name[Path(record["file"]).name]
            assert mine["probabilities"] == {
                name: record[f"probability {name}"] for name in made_processed.CLASSES
            }
            assert mine["class"] == record["predicted"]

    def test_one_file_alone_gets_the_same_and_the_correct_class(
        self, call: Call, tmp_path: Path
    ) -> None:
        files = [picture(tmp_path / f"{label}.png", label) for label in range(3)]
        _, together, _ = call("--json", "--force", *files)
        alone = [call("--json", "--force", file)[1] for file in files]
        assert together == "".join(alone)
        classes = [json.loads(line)["class"] for line in alone]
        assert classes == list(made_processed.CLASSES)

    def test_a_table_for_people_with_every_mention_of_a_file(
        self, call: Call, tmp_path: Path
    ) -> None:
        file = picture(tmp_path / "a b.png", 1)
        status, out, _ = call("--force", file, file)
        lines = out.splitlines()
        assert status == 0
        assert lines[0].split()[:6] == ["file", "class", "Covid", "Normal", "Viral", "Pneumonia"]
        assert lines[1] == lines[2]
        assert lines[1].startswith(f"{file}  Normal ")
        assert lines[4].startswith("90 % set: among radiographs like those of the training, 90 %")
        assert lines[6] == "Data of the network: made for a test. Not for diagnosis."

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
        status, out, err = call("--json", "--force", "--explain", "why/so", "--", *names)
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

    def test_nothing_heavy_is_imported(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [
                *(sys.executable, "-X", "importtime", "-m", "stages.predict"),
                *("--force", "--explain", str(tmp_path / "why")),
                str(picture(tmp_path / "a.png")),
            ],
            env=os.environ | {"PYTHONPATH": str(made_processed.REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        )
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert {"ai_edge_litert", "PIL.Image", "stages.judging.gradcam"} <= imported
        assert {name.split(".")[0] for name in imported} & HEAVY == set()
        assert len(os.listdir(tmp_path / "why")) == 1

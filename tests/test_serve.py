import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.intake import copies, known
from stages.serving import app
from tests import made, made_processed


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "stages.serve", *arguments]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(made.PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_says_what_it_does(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0
    for words in ("--port PORT", "8000 by default", "to this machine alone", "Ctrl-C ends it"):
        assert words in done.stdout


def test_a_missing_model_is_named_in_one_line(tmp_path: Path) -> None:
    done = run("--port", "0", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("serve: models/classifier.tflite is not there")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_port_that_is_taken_is_named_in_one_line(tmp_path: Path) -> None:
    with socket.create_server((app.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--port", str(port), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"serve: --port: found {port}, which can't be listened on")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("port", ["65536", "-1"])
def test_a_port_that_is_none_is_named_in_one_line(tmp_path: Path, port: str) -> None:
    done = run(f"--port={port}", cwd=tmp_path)
    assert done.returncode == 1
    assert f"found {port}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_another_server_may_follow_at_once() -> None:
    """Closed connections don't keep the port."""
    with app.listening(0) as first:
        port = first.getsockname()[1]
        with socket.create_connection((app.HOST, port)), first.accept()[0]:
            pass
    with app.listening(port) as second:
        assert second.getsockname() == (app.HOST, port)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(made_processed.trained_project() / "models", folder / "models")
    with contextlib.chdir(folder):
        known.write(["train/Covid/1.png"], [copies.fingerprint(made.picture(1))])
    return folder


@pytest.mark.tensorflow
class TestTrained:
    @pytest.fixture
    def served(self, project: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
        process = subprocess.Popen(
            command("--port", "0"),
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(made.PROJECT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            (port,) = re.findall(r"^http://127\.0\.0\.1:(\d+) ", process.stdout.readline())
            yield process, int(port)
        finally:
            process.kill()
            process.communicate()

    def test_the_answers_are_those_of_predict_to_the_bit(
        self, project: Path, served: tuple[Any, int], tmp_path: Path
    ) -> None:
        for label in range(3):
            pixels = made_processed.class_in_the_centre(np.random.default_rng(label), label)
            picture = Image.fromarray(pixels).resize((640 + label, 500))
            for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
                picture.save(tmp_path / f"{label}.{kind.lower()}", kind)
        paths = sorted(tmp_path.iterdir())
        done = subprocess.run(
            [sys.executable, "-m", "stages.predict", "--json", "--force", *map(str, paths)],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(made.PROJECT)},
            capture_output=True,
            text=True,
            check=True,
        )
        predicted = [json.loads(line) for line in done.stdout.splitlines()]
        assert [record["file"] for record in predicted] == [str(path) for path in paths]
        assert len({record["class"] for record in predicted}) > 1
        connection = http.client.HTTPConnection(app.HOST, served[1])
        for path, record in zip(paths, predicted, strict=True):
            headers = {"Content-Type": app.IMAGE}
            connection.request("POST", "/judge", path.read_bytes(), headers)
            answer = json.loads(connection.getresponse().read())
            for key in ("class", "probabilities", "set", "coverage", "refused"):
                assert answer[key] == record[key]

    def test_ctrl_c_ends_it_in_one_line(self, served: tuple[subprocess.Popen[str], int]) -> None:
        process, port = served
        connection = http.client.HTTPConnection(app.HOST, port)  # which stays open
        connection.request("GET", "/")
        assert connection.getresponse().read()
        process.send_signal(signal.SIGINT)
        printed, complaints = process.communicate(timeout=20)
        assert process.returncode == 0
        assert printed == ""
        assert complaints == "\nserve: ended; nothing was kept\n"

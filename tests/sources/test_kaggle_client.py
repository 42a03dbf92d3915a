"""The source `kaggle`: the real client against a server on this machine."""

import contextlib
import csv
import errno
import hashlib
import io
import json
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import psutil
import pytest
import requests
from PIL import Image

from stages import download
from stages.common import stage
from stages.sources import kaggle_client
from tests import made
from tests.sources import kaggle_server
from tests.sources.kaggle_server import KaggleServer, serving

PROJECT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "stages.download"]
TOKEN = "PLANTED-TOKEN-5f1c"
KEY = "PLANTED-KEY-77ab"


def noise_png(seed: int, side: int = 300) -> bytes:
    """A picture that doesn't compress: about 3 bytes a pixel."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    """Twelve pictures of 270 kB in the folders of the data set."""
    return {
        f"Covid19-dataset/{split}/{name}/{number}.png": noise_png(seed)
        for seed, (split, name, number) in enumerate(
            (split, name, number)
            for split in ("train", "test")
            for name in ("Covid", "Normal", "Viral Pneumonia")
            for number in (1, 2)
        )
    }


def zip_of(pictures: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for path, data in pictures.items():
            zipped.writestr(path, data)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def body(pictures: dict[str, bytes]) -> bytes:
    return zip_of(pictures)


@pytest.fixture(scope="module", autouse=True)
def impatience(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("impatience")
    (folder / "sitecustomize.py").write_text(kaggle_server.IMPATIENCE)
    return folder


class Place(NamedTuple):
    """A scratch folder with params.yaml and the manifest, and the environment to run a stage in."""

    folder: Path
    environment: dict[str, str]

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """What the program does, in this process, which the client is imported into anew."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "kaggle"]:
            del sys.modules[name]
        status, out, err = 0, io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.environment | environment, clear=True),
            mock.patch("time.sleep"),  # between the client's retries
            mock.patch.object(logging.root, "handlers", []),  # pytest's
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                stage.guarded("download", download.main)
            except SystemExit as end:
                print(end.code, file=err)
                status = 1
        return subprocess.CompletedProcess(COMMAND, status, out.getvalue(), err.getvalue())

    def start(self, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Starts the program."""
        return subprocess.Popen(
            COMMAND,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )

    def assert_nothing_kept(self) -> None:
        """No image, no zip: at most the client's own fragment, from which it resumes."""
        kept = {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*.png")}
        assert kept == set()
        assert not (self.folder / "data/raw").exists()
        assert not (self.folder / "data/.raw.partial").exists()

    def assert_complete(self, pictures: dict[str, bytes]) -> None:
        raw = self.folder / "data/raw"
        images = {
            path.relative_to(raw).as_posix(): path.read_bytes() for path in raw.rglob("*.png")
        }
        assert {f"Covid19-dataset/{name}": data for name, data in images.items()} == pictures
        assert json.loads((raw / "provenance.json").read_text()) == {
            "source": "kaggle",
            "data": "Kaggle pranavraikokte/covid19-image-dataset version 2",
            "licence": "CC BY-SA 4.0",
            "files": len(pictures),
            "sha256": made.digest_of(images),
        }
        assert {path.name for path in (self.folder / "data").iterdir()} == {
            "raw",
            "kaggle-manifest.csv",
        }


def make_place(
    folder: Path, server: KaggleServer, pictures: dict[str, bytes], impatience: Path
) -> Place:
    (folder / "data").mkdir(parents=True)
    (folder / "home").mkdir()
    text = (PROJECT / "params.yaml").read_text()
    text = re.sub(r"(?m)^  source: \w+", "  source: kaggle", text)
    (folder / "params.yaml").write_text(text)
    with (folder / "data/kaggle-manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "size", "sha256"])
        for path, data in pictures.items():
            writer.writerow([path, len(data), hashlib.sha256(data).hexdigest()])
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{impatience}{os.pathsep}{PROJECT}",
        **server.environment(folder / "home"),
    }
    return Place(folder, environment)


@contextlib.contextmanager
def place_with(
    folder: Path,
    pictures: dict[str, bytes],
    impatience: Path,
    fault: str | None = None,
) -> Iterator[tuple[KaggleServer, Place]]:
    with serving(zip_of(pictures), fault) as server:
        yield server, make_place(folder, server, pictures, impatience)


def assert_one_line(done: subprocess.CompletedProcess[str], words: str) -> None:
    """Exit status 1, and on stderr one line with `words` after at most notes on retries."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if "trying again in" not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("download: Kaggle data set pranavraikokte/covid19-image-dataset/2: ")
    assert words in lines[0]
    assert "SIGNED-ADDRESS" not in done.stderr


FAULTS = {
    "truncated": "the connection broke off again and again",
    "reset": "the connection broke off again and again",
    "expired": "the transfer ended with the wrong number of bytes",
    "page inside": "is cut off, or its table of contents can't be read",
    "length too short": "is cut off, or its table of contents can't be read",
    "length too long": "the connection broke off again and again",
    "web page": "is a web page",
    "401": "the token is wrong or expired",
    "403": "accepted first",
    "permission": "accepted first",
    "404": "was withdrawn",
    "429": "Wait some minutes",
    "500": "a server error (500)",
}


@pytest.mark.parametrize(("fault", "words"), FAULTS.items())
def test_every_fault_ends_in_one_line_and_the_next_run_succeeds(
    tmp_path: Path, pictures: dict[str, bytes], impatience: Path, fault: str, words: str
) -> None:
    with place_with(tmp_path / "here", pictures, impatience, fault) as (server, place):
        assert_one_line(place.run(), words)
        place.assert_nothing_kept()
        server.fault = None
        done = place.run()
        assert done.returncode == 0, done.stderr
        place.assert_complete(pictures)


def http_error(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("SECRET", response=response)


@pytest.mark.parametrize(
    ("error", "size", "words"),
    [
        (requests.ConnectionError("Failed to resolve SECRET"), None, "no connection to Kaggle"),
        (requests.ConnectionError("SECRET"), 0, "the connection broke off again and again"),
        (requests.Timeout("SECRET"), 5, "the connection broke off again and again"),
        (OSError(errno.ENOSPC, "SECRET"), 5, "the disk is full"),
        (OSError(errno.EDQUOT, "SECRET"), 5, "the disk is full"),
        (http_error(401), None, "the token is wrong or expired"),
        (http_error(403), None, "accepted first"),
        (http_error(404), None, "Kaggle does not have it (404)"),
        (http_error(429), None, "Wait some minutes"),
        (http_error(503), None, "a server error (503)"),
        (http_error(418), None, "failed (HTTPError) for a reason that this program does not know"),
        (ValueError("Invalid header value b'SECRET'"), 5, "the token is wrong or expired"),
        (UnicodeEncodeError("latin-1", "SECRET", 0, 1, ""), None, "the token is wrong or expired"),
        (ValueError("SECRET"), 5, "the transfer ended with the wrong number of bytes"),
        (KeyboardInterrupt(), 2_100_000, "interrupted after 2.1 MB"),
        (KeyboardInterrupt(), None, "interrupted after 0.0 MB"),
        (RuntimeError("something new: SECRET"), None, "failed (RuntimeError) for a reason"),
    ],
)
def test_cause(error: BaseException, size: int | None, words: str) -> None:
    line = kaggle_client.cause(error, "owner/name/2", size)
    assert words in line
    assert "SECRET" not in line
    assert "\n" not in line


def test_no_network(tmp_path: Path, pictures: dict[str, bytes], impatience: Path) -> None:
    with place_with(tmp_path / "here", pictures, impatience) as (_server, place):
        done = place.run(http_proxy="http://127.0.0.1:9")
        assert_one_line(done, "no connection to Kaggle")
        assert "dvc exp run -S download.source=archive" in done.stderr
        place.assert_nothing_kept()
        assert place.run().returncode == 0
        place.assert_complete(pictures)


def test_a_transfer_that_breaks_once_is_resumed(
    tmp_path: Path, pictures: dict[str, bytes], impatience: Path
) -> None:
    with place_with(tmp_path / "here", pictures, impatience, "broken once") as (server, place):
        process = place.start()
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert "the transfer broke off; trying again in" in err
        assert out == (
            "download: 12 files in data/raw: Kaggle pranavraikokte/covid19-image-dataset "
            "version 2\n"
        )
        assert len([line for line in server.requests if line.startswith("GET")]) == 2
        place.assert_complete(pictures)


def wait_for_fragment(place: Place, process: subprocess.Popen[str]) -> None:
    fragment = place.folder / "data/.kaggle.partial/covid19-image-dataset.zip"
    for _ in range(600):
        if fragment.exists() and fragment.stat().st_size >= 1 << 20:
            return
        assert process.poll() is None
        time.sleep(0.05)
    raise AssertionError("the client wrote nothing in 30 s")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_half_way(
    tmp_path: Path, pictures: dict[str, bytes], impatience: Path, number: signal.Signals
) -> None:
    with place_with(tmp_path / "here", pictures, impatience, "stall") as (server, place):
        process = place.start()
        wait_for_fragment(place, process)
        assert not psutil.Process(process.pid).children()  # nothing that could outlive it
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=30)
        if number == signal.SIGINT:
            done = subprocess.CompletedProcess(COMMAND, process.returncode, out, err)
            assert_one_line(done, "interrupted after")
        else:
            assert process.returncode == {signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
            assert out == err == ""
        if number != signal.SIGKILL:
            assert not (place.folder / "data/.raw.partial").exists()
        assert not (place.folder / "data/raw").exists()
        server.fault = None
        server.requests.clear()
        done = place.run()
        assert done.returncode == 0, done.stderr
        assert any("GET" in line for line in server.requests)
        place.assert_complete(pictures)


def test_a_fragment_with_an_error_page_in_it_is_fetched_afresh(
    tmp_path: Path, pictures: dict[str, bytes], impatience: Path, body: bytes
) -> None:
    with place_with(tmp_path / "here", pictures, impatience) as (server, place):
        fragment = place.folder / "data/.kaggle.partial/covid19-image-dataset.zip"
        fragment.parent.mkdir()
        fragment.write_bytes(body[: 1 << 20] + kaggle_server.ERROR_PAGE)
        marker = {"validator": '"one"', "size": len(body)}
        Path(f"{fragment}.kaggle-partial").write_text(json.dumps(marker))
        done = place.run()
        assert done.returncode == 0, done.stderr
        assert "starting afresh" in done.stdout
        assert [line for line in server.requests if "DownloadDataset" in line][1:]
        place.assert_complete(pictures)


def test_files_that_the_manifest_does_not_list_are_named(
    tmp_path: Path, pictures: dict[str, bytes], impatience: Path
) -> None:
    with place_with(tmp_path / "here", pictures, impatience) as (server, place):
        paths = list(pictures)
        sent = dict(pictures)
        del sent[paths[0]]
        sent[paths[1]] = noise_png(99)
        sent[paths[2]] += b"more"
        sent["Covid19-dataset/train/Covid/stranger.png"] = noise_png(100)
        sent["elsewhere.txt"] = b"?"
        server.body = zip_of(sent)
        done = place.run()
        assert done.returncode == 1
        headline, *lines = done.stderr.splitlines()
        assert "what came is not what data/kaggle-manifest.csv lists (12 files)" in headline
        size = len(pictures[paths[2]])
        assert [re.sub(r"[0-9a-f]{12}…", "…", line) for line in lines] == [
            f"  missing: {paths[0]}",
            "  extra: Covid19-dataset/train/Covid/stranger.png",
            "  extra: elsewhere.txt",
            f"  different: {paths[1]} has SHA-256 …, expected …",
            f"  different: {paths[2]} has {size + 4} bytes, expected {size}",
        ]
        place.assert_nothing_kept()
        assert not (place.folder / "data/.kaggle.partial").exists()


@pytest.mark.parametrize("fault", [None, "401", "web page", "truncated"])
def test_no_credential_is_shown_or_written(
    tmp_path: Path, pictures: dict[str, bytes], impatience: Path, fault: str | None
) -> None:
    with place_with(tmp_path / "here", pictures, impatience, fault) as (server, place):
        credentials = place.folder / "home/.kaggle/kaggle.json"
        credentials.parent.mkdir()
        credentials.write_text(json.dumps({"username": "somebody", "key": KEY}))
        credentials.chmod(0o600)
        with_token = place.run(KAGGLE_API_TOKEN=TOKEN, VERBOSE="1")
        with_key = place.run(VERBOSE="1")
        broken = [place.run(KAGGLE_API_TOKEN=f"{TOKEN}{end}") for end in ("\nx", "…")]
        assert with_token.returncode == with_key.returncode == (0 if fault is None else 1)
        assert all("token is wrong or expired" in done.stderr for done in broken)
        # The credentials were really used:
        assert any(value.startswith("Bearer") for value in server.authorizations)
        assert any(value.startswith("Basic") for value in server.authorizations)
        credentials.unlink()
        texts = [done.stdout + done.stderr for done in (with_token, with_key, *broken)]
        texts += [
            path.read_bytes().decode("latin-1")
            for path in place.folder.rglob("*")
            if path.is_file()
        ]
        assert not [text for text in texts if TOKEN in text or KEY in text]


def test_progress_is_shown_on_a_terminal(
    tmp_path: Path, pictures: dict[str, bytes], impatience: Path
) -> None:
    with place_with(tmp_path / "here", pictures, impatience) as (_server, place):
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        with place.start(stderr=theirs) as process:
            os.close(theirs)
            shown = b""
            while select.select([ours], [], [], 30)[0]:
                try:
                    shown += os.read(ours, 4096)
                except OSError:  # the other end was closed
                    break
        os.close(ours)
        assert process.returncode == 0
        assert re.search(rb"\r\s*100%\|", shown)

"""The server as a client meets it: a process of its own, over loopback."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
from pydicom import uid

from stages.serving import app
from tests import made, made_dicom
from tests.serving import server

IMAGE = {"Content-Type": app.IMAGE}
GOOD = made.encoded(made.picture(seed=1, size=(300, 240)), "PNG")
LIMITS = {"bytes": 2_000_000, "images": 3}
HURRY = 0.7  # seconds


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def error(self) -> str:
        message: str = json.loads(self.body)["error"]
        return message


def asked(
    port: int, method: str, path: str, body: Any = None, headers: Mapping[str, str] = IMAGE
) -> Answer:
    connection = http.client.HTTPConnection(app.HOST, port, timeout=20)
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def judged(port: int, file: Any, **headers: str) -> Answer:
    return asked(port, "POST", "/judge", file, IMAGE | headers)


def sent(port: int, data: bytes, then: bytes = b"", every: float = 0) -> bytes:
    """What comes back for raw bytes, until the server closes; `then` is sent again and again."""
    received = b""
    with socket.create_connection((app.HOST, port), timeout=20) as connection:
        connection.sendall(data)
        connection.settimeout(every or 20)
        begun = time.monotonic()
        while time.monotonic() - begun < 20:
            try:
                part = connection.recv(65536)
            except TimeoutError:
                connection.sendall(then)
                continue
            except ConnectionResetError:
                return received
            if not part:
                return received
            received += part
    raise AssertionError("the server keeps the connection open")


def head(port: int, *lines: str, method: str = "POST /judge") -> bytes:
    host = f"Host: 127.0.0.1:{port}"
    return "\r\n".join([f"{method} HTTP/1.1", host, *lines, "", ""]).encode()


class Served(NamedTuple):
    folder: Path
    process: subprocess.Popen[str]
    port: int


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server; whatever is asked there, it may write and print nothing."""
    folder = tmp_path_factory.mktemp("served")
    with server.running(folder, **LIMITS) as (process, port):
        yield Served(folder, process, port)
        assert process.poll() is None, "the server has ended"
    assert sorted(path.name for path in folder.rglob("*")) == ["stderr", "tmp"]
    assert (folder / "stderr").read_text() == ""


@pytest.fixture
def port(served: Served) -> int:
    return served.port


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server with little patience, whose answers take a second."""
    folder = tmp_path_factory.mktemp("hurried")
    with server.running(folder, seconds=HURRY, pause=1) as (_, port):
        yield port
    assert (folder / "stderr").read_text() == ""


# ------------------------------------------------------------------------------- what it sends


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/style.css", "text/css"), ("/page.js", "text/javascript")],
)
def test_the_page_has_three_files(port: int, path: str, kind: str) -> None:
    answer = asked(port, "GET", path)
    assert answer.status == 200
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    assert len(answer.body) > 500
    addresses = re.findall(rb'(?:src|href|url\()="?([^"> ]+)', answer.body)
    assert {address for address in addresses if not address.startswith(b"data:")} <= {
        b"style.css",
        b"page.js",
    }


def test_the_page_says_what_the_network_is(port: int) -> None:
    page = asked(port, "GET", "/").body.decode()
    for words in (
        "Trained on <b>SYNTHETIC PHANTOMS</b>: its answers on real radiographs mean nothing.",
        "Not a medical device.",
        "Trained on SYNTHETIC PHANTOM (seed 1), recipe tuned.",
        "Covid, Normal or Viral Pneumonia",
        "DICOM, up to 2 MB and 40 megapixels",
    ):
        assert words in page


def test_names_from_the_model_are_text_in_the_page() -> None:
    network: Any = server.Network("<script>x</script> & radiographs")
    page = app.page(network, app.Limits())
    assert "&lt;script&gt;x&lt;/script&gt; &amp; radiographs" in page
    assert "SYNTHETIC" not in page


def test_every_answer_forbids_to_store_frame_or_load_from_elsewhere(port: int) -> None:
    for answer in (
        asked(port, "GET", "/"),
        asked(port, "GET", "/missing"),
        judged(port, GOOD),
        judged(port, b""),
        asked(port, "GET", "/", headers={"Host": "evil.example"}),
    ):
        for name, value in app.HEADERS.items():
            assert answer.headers[name] == value
        assert "server" not in answer.headers
    policy = app.HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_an_image_gets_the_answer_of_the_network(port: int) -> None:
    network = server.Network()
    answer = judged(port, GOOD)
    assert answer.status == 200
    assert json.loads(answer.body) == server.answers_of(network).judge(GOOD)


def test_a_copy_of_a_training_image_is_named(port: int) -> None:
    name, picture = list(server.KNOWN.items())[1]
    copy = made.encoded(picture.crop((5, 5, 290, 235)).resize((800, 700)), "JPEG")
    answer = asked(port, "POST", "/copies", copy)
    assert json.loads(answer.body) == {"copies": [name]}
    assert json.loads(asked(port, "POST", "/copies", GOOD).body) == {"copies": []}


def test_a_dicom_file_is_an_image(port: int) -> None:
    pixels = np.asarray(made.picture(seed=1, size=(300, 240)), np.uint16) * 16
    file = made_dicom.picture(pixels, 12, syntax=uid.JPEG2000Lossless)
    answer = judged(port, file)
    assert answer.status == 200
    assert json.loads(answer.body) == server.answers_of(server.Network()).judge(file)
    refused = judged(port, made_dicom.picture(pixels, 12, Modality="CT"))
    assert refused.status == 422
    assert "CT" in refused.error


def test_many_at_once_get_what_each_gets_alone(port: int) -> None:
    files = [made.encoded(made.picture(seed=seed, size=(90, 70)), "BMP") for seed in range(30)]
    alone = [judged(port, file) for file in files]
    assert {answer.status for answer in alone} == {200}
    assert len({answer.body for answer in alone}) == 30
    with ThreadPoolExecutor(LIMITS["images"]) as pool:
        together = list(pool.map(lambda file: judged(port, file), files))
    assert [answer.body for answer in together] == [answer.body for answer in alone]


# ----------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("file", "error"),
    [
        (b"", "it is empty (0 bytes)"),
        (b"hello\n", "it is text, not an image"),
        (GOOD[:10], "it begins as a PNG file does, but its header is damaged or cut short"),
        (GOOD[:-200], "its image data is damaged (image file is truncated)"),
        (
            made.png(9000, 9000, b""),
            "it has 81,000,000 pixels; expected at most 40,000,000, so scale it down",
        ),
    ],
)
def test_a_file_that_is_no_image_is_refused_in_the_words_of_predict(
    port: int, file: bytes, error: str
) -> None:
    answer = judged(port, file)
    assert answer.status == 422
    assert answer.error == error


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "127.0.0.1.evil.example", "evil.example:8000", "127.0.0.2", "[::1]"),
        *("localhost.", "x@localhost", "localhost:80:80", "", "0.0.0.0", "127.0.0.1:"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("POST", "/judge"), ("POST", "/copies"), ("GET", "/none")]
)
def test_another_host_is_refused(port: int, host: str, method: str, path: str) -> None:
    answer = asked(port, method, path, GOOD, IMAGE | {"Host": host})
    assert answer.status == 421
    assert answer.error == "this page is at http://127.0.0.1 or http://localhost alone"


def test_a_request_without_a_host_is_refused(port: int) -> None:
    assert b" 421 " in sent(port, b"GET / HTTP/1.0\r\n\r\n").split(b"\r\n")[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9000", "LOCALHOST"])
def test_this_machine_may_be_called_what_it_is_called(port: int, host: str) -> None:
    """Through SSH the port is another one."""
    assert judged(port, GOOD, Host=host, Origin=f"http://{host}").status == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:1",
        "https://127.0.0.1:{}",
        "http://localhost:{}",
    ],
)
def test_another_origin_is_refused(port: int, origin: str) -> None:
    answer = judged(port, GOOD, Origin=origin.format(port))
    assert answer.status == 403
    assert answer.error == "another web page asked; only this server's own may"


@pytest.mark.parametrize(
    "kind",
    [
        *("", "text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"),
        *("image/png", f"{app.IMAGE}; x=y"),
    ],
)
def test_what_a_form_could_send_is_refused(port: int, kind: str) -> None:
    answer = asked(port, "POST", "/judge", GOOD, {"Content-Type": kind})
    assert answer.status == 415
    assert "expected an image file as a body of the type application/octet-stream" in answer.error


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("GET", "/judge", 405), ("POST", "/", 405), ("OPTIONS", "/judge", 405)),
        *(("GET", "/app.py", 404), ("GET", "/../app.py", 404), ("GET", "//etc/passwd", 404)),
        *(("GET", "/page.html", 404), ("GET", "/%2e%2e/x", 404)),
    ],
)
def test_there_is_nothing_else(port: int, method: str, path: str, status: int) -> None:
    answer = asked(port, method, path)
    assert answer.status == status
    assert answer.error
    assert not any(name.lower().startswith("access-control") for name in answer.headers)


def test_a_websocket_is_refused(port: int) -> None:
    lines = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Origin: http://evil.example"]
    assert b" 403 " in sent(port, head(port, *lines, method="GET /")).split(b"\r\n")[0]


def test_what_is_not_http_is_refused(port: int) -> None:
    assert b" 400 " in sent(port, b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n").split(b"\r\n")[0]


def test_mutated_files_get_a_right_answer_or_a_refusal() -> None:
    """`make bench` sends 2,000 of them."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.serving.fuzz_uploads", "0", "200"],
        cwd=made.PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads(done.stdout)
    assert record["answered"] > 30
    assert record["refused"] > 30
    assert record["memory"] < 1_000_000_000


# ------------------------------------------------------------------------------------- limits


def test_too_many_bytes_are_refused_before_they_are_sent(port: int) -> None:
    lines = [f"Content-Type: {app.IMAGE}", "Content-Length: 2000001"]
    received = sent(port, head(port, *lines))
    assert b" 413 " in received.split(b"\r\n")[0]
    assert b'"it has over 2,000,000 bytes; send a smaller file"' in received


def test_too_many_bytes_are_refused_while_they_are_read(port: int) -> None:
    lines = [f"Content-Type: {app.IMAGE}", "Transfer-Encoding: chunked"]
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    received = sent(port, head(port, *lines) + 2 * chunk)
    assert b" 413 " in received.split(b"\r\n")[0]


def test_as_many_bytes_as_may_be_are_read(port: int) -> None:
    answer = judged(port, GOOD + bytes(2_000_000 - len(GOOD)))
    assert answer.status == 200
    chunks = iter([GOOD, bytes(1_000_000), bytes(1_000_000 - len(GOOD))])
    assert judged(port, chunks).body == answer.body


@pytest.mark.parametrize("length", ["Content-Length: 9999", "Transfer-Encoding: chunked"])
def test_a_slow_sender_is_refused(hurried: int, length: str) -> None:
    begun = time.monotonic()
    lines = head(hurried, f"Content-Type: {app.IMAGE}", length)
    received = sent(hurried, lines, then=b"1\r\nx\r\n", every=0.2)
    assert b" 408 " in received.split(b"\r\n")[0]
    assert b'"it took over 0.7 seconds to arrive"' in received
    assert HURRY <= time.monotonic() - begun < 5


@pytest.mark.parametrize(("data", "then"), [(b"", b""), (b"GET / HTTP/1.1\r\n", b"X: y\r\n")])
def test_a_connection_that_asks_nothing_is_closed(hurried: int, data: bytes, then: bytes) -> None:
    begun = time.monotonic()
    sent(hurried, data, then, every=0.2 if then else 0)
    assert 2 * HURRY <= time.monotonic() - begun < 5


def test_who_hangs_up_is_forgotten(port: int) -> None:
    for _ in range(2 * int(LIMITS["images"])):
        with socket.create_connection((app.HOST, port)) as connection:
            lines = [f"Content-Type: {app.IMAGE}", "Content-Length: 9999"]
            connection.sendall(head(port, *lines) + b"x")
    time.sleep(0.2)
    assert judged(port, GOOD).status == 200


def test_too_many_images_at_once_are_refused(tmp_path: Path) -> None:
    with server.running(tmp_path, images=2, pause=1) as (_, port), ThreadPoolExecutor(2) as pool:
        accepted = [pool.submit(judged, port, GOOD) for _ in range(2)]
        time.sleep(0.4)
        refused = judged(port, GOOD)
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.error == "2 images are being looked at; try again in a second"
        assert asked(port, "GET", "/").status == 200
        assert [answer.result().status for answer in accepted] == [200] * 2


def test_an_image_that_takes_too_long_is_refused(hurried: int) -> None:
    answer = judged(hurried, GOOD)
    assert answer.status == 503
    assert answer.error == "it took over 0.7 seconds to look at; scale it down"


def test_a_fault_of_the_program_is_told_and_printed(tmp_path: Path) -> None:
    fault, memory = server.FAILS
    with server.running(tmp_path) as (_, port):
        answer = judged(port, memory)
        assert answer.status == 503
        assert answer.error == "there is too little memory for it"
        assert (tmp_path / "stderr").read_text() == ""
        answer = judged(port, fault)
        assert answer.status == 500
        assert "the program failed on this image" in answer.error
        assert judged(port, GOOD).status == 200
    assert "RuntimeError: a fault of the program" in (tmp_path / "stderr").read_text()


def test_an_answer_does_not_wait_for_more_to_send(port: int) -> None:
    """It took 40 ms longer where asyncio did not turn Nagle's algorithm off."""
    connection = http.client.HTTPConnection(app.HOST, port, timeout=20)
    seconds = []
    for _ in range(30):
        begun = time.perf_counter()
        connection.request("GET", "/style.css")
        assert connection.getresponse().read()
        seconds.append(time.perf_counter() - begun)
    assert min(seconds[10:]) < 0.03


# ------------------------------------------------------------------------------- what it keeps


def test_it_listens_on_this_machine_alone(served: Served) -> None:
    connections = psutil.Process(served.process.pid).net_connections()
    places = [each.laddr for each in connections if each.status == psutil.CONN_LISTEN]
    assert places == [("127.0.0.1", served.port)]


def test_a_large_image_is_not_spooled_to_a_file(served: Served) -> None:
    """The other tests of this server are covered by the fixture's checks, too."""
    noise = made.encoded(made.picture(seed=3, size=(800, 800)).convert("RGB"), "BMP")
    assert len(noise) > 1_900_000
    assert judged(served.port, noise).status == 200
    assert list((served.folder / "tmp").iterdir()) == []


def test_the_check_for_files_finds_one(tmp_path: Path) -> None:
    program = "import sys, tempfile; from tests.serving import server; "
    program += "sys.addaudithook(server._tell); tempfile.TemporaryFile().close()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=made.PROJECT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"opened {tmp_path}" in done.stderr

"""A fake Kaggle on the loopback interface, for the unmodified client.

The client reaches it as an HTTP proxy, so its requests arrive with absolute addresses. `fault`
says what goes wrong; setting it to None repairs the server. Bounded in requests and in time.
"""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MOST_REQUESTS = 60
STALL_SECONDS = 30
ERROR_PAGE = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code></Error>"
WEB_PAGE = b"<!DOCTYPE html><html><body>Log in to the hotel's network</body></html>" * 20_000

# Shortens the waits between the client's retries. Python imports it at start-up when its folder
# is in PYTHONPATH, so that the client itself stays as it is.
IMPATIENCE = (
    "import time\nsleep = time.sleep\ntime.sleep = lambda seconds: sleep(min(seconds, 0.02))\n"
)


class KaggleServer(ThreadingHTTPServer):
    """Serves one zip, with one fault: a status such as "403", or one of those in `_Handler`."""

    daemon_threads = True

    def __init__(self, body: bytes, fault: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body = body
        self.fault = fault
        self.requests: list[str] = []
        self.authorizations: set[str] = set()
        self.repaired = threading.Event()

    def shutdown_request(self, request: Any) -> None:
        """Ends a connection; without a FIN where a reset is wanted."""
        if self.fault == "reset":
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def environment(self, home: Path) -> dict[str, str]:
        """What makes the client talk to this server, without any of the caller's credentials."""
        return {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": f"http://127.0.0.1:{self.server_address[1]}",
            "no_proxy": "",
            "HOME": str(home),
        }


class _Handler(BaseHTTPRequestHandler):
    server: KaggleServer
    timeout = STALL_SECONDS
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *_arguments: object) -> None:  # noqa: A002
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._accept():
            return
        fault = self.server.fault or ""
        call = self.path.rpartition("/")[2]
        if call == "IntrospectToken":
            self._json(200, {"active": True, "username": "somebody"})
        elif fault.isdigit():
            self._send(int(fault), b"")
        elif fault == "permission":
            self._json(403, {"code": 403, "message": "Permission 'datasets.get' was denied"})
        elif call == "GetDatasetMetadata":
            self._json(200, {})
        else:
            assert json.loads(body)["datasetVersionNumber"] == 2
            self._send(302, b"", Location="http://localhost/b.zip?signature=SIGNED-ADDRESS")

    def do_GET(self) -> None:
        if not self._accept():
            return
        body = self.server.body
        half = len(body) // 2
        first = "Range" not in self.headers
        offset = 0 if first else int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        match self.server.fault:
            case "truncated":
                self._start(offset, len(body))
                self.wfile.write(body[offset:half])
                self.close_connection = True
            case "broken once" if first:
                self._start(0, len(body))
                self.wfile.write(body[:half])
                self.close_connection = True
            case "reset":
                self._start(offset, len(body))
                self.wfile.write(body[offset:half])
                self.wfile.flush()
                linger = struct.pack("ii", 1, 0)  # close with RST, not FIN
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
            case "expired":
                if first and len([line for line in self.server.requests if "GET" in line]) == 1:
                    self._start(0, len(body))
                    self.wfile.write(body[:half])
                    self.close_connection = True
                else:
                    self._send(403, ERROR_PAGE)
            case "page inside":  # what an expired address has left on the disk, at full size
                self._send(200, (body[:half] + ERROR_PAGE).ljust(len(body), b"\n"))
            case "length too short":
                self._start(0, half)
                self.wfile.write(body)
                self.close_connection = True
            case "length too long":
                self._start(offset, len(body) + 1000)
                self.wfile.write(body[offset:])
                self.close_connection = True
            case "web page":
                self._send(200, WEB_PAGE)
            case "stall":
                self._start(offset, len(body))
                self.wfile.write(body[offset:-1000])
                self.wfile.flush()
                self.server.repaired.wait(STALL_SECONDS)
                self.close_connection = True
            case _:
                self._start(offset, len(body))
                self.wfile.write(body[offset:])

    def _accept(self) -> bool:
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.authorizations.add(self.headers.get("Authorization", ""))
        if len(self.server.requests) > MOST_REQUESTS:
            self.close_connection = True
            return False
        return True

    def _start(self, offset: int, size: int) -> None:
        self.send_response(206 if offset else 200)
        self.send_header("Content-Length", str(size - offset))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"one"')
        self.end_headers()

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _json(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self._send(status, body, **{"Content-Type": "application/json"})


@contextlib.contextmanager
def serving(body: bytes, fault: str | None = None) -> Iterator[KaggleServer]:
    """A running server, which ends with the block."""
    server = KaggleServer(body, fault)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.repaired.set()
        server.shutdown()
        server.server_close()
        thread.join()

"""The server behind the page: what it takes, what it refuses, what it sends.

It is made for one person on one machine. Nothing that it is sent is written to disk or logged;
an image comes as the body of a request, without a name. Who may ask is decided by two headers
that a web page can't forge: `Host`, against pages that have their own name point here (DNS
rebinding), and `Origin`, against those that post here from elsewhere; the type of the body, which
a form can't send, is asked for on top of that.
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from stages.common import parallel
from stages.common.errors import InputError
from stages.intake import decode
from stages.judging import gradcam
from stages.learning.classifier import Classifier
from stages.serving.answers import data_url

HOST, PORT = "127.0.0.1", 8000
IMAGE = "application/octet-stream"
"""The type of a request's body: a browser sends it elsewhere only where that allows it."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HERE = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?", re.IGNORECASE)  # any port, for SSH's -L
_FILES = {"/style.css": "text/css", "/page.js": "text/javascript"}


@dataclass(frozen=True)
class Limits:
    """What one person needs, and a broken or hostile program may not exceed.

    Attributes:
        bytes: Of an image file.
        seconds: That sending an image may take, and that answering may take; twice that a
            connection may last.
        images: At once; those of them that are still being sent or are waiting count.
    """

    bytes: int = 50_000_000
    seconds: float = 30
    images: int = 10


def _refused(_: Request, error: HTTPException) -> Response:
    # closed, because the body may not have been read, and then nothing else can be
    headers = {"Connection": "close", **(error.headers or {})}
    return JSONResponse({"error": error.detail}, error.status_code, headers)


def _failed(_: Request, error: Exception) -> Response:
    del error  # uvicorn prints it
    message = "the program failed on this image; the terminal that it runs in says where"
    return JSONResponse({"error": message}, 500)


def _refusal(headers: Mapping[str, str]) -> HTTPException | None:
    """Why a request is not answered, by its headers."""
    host = headers.get("host", "")
    if not _HERE.fullmatch(host):
        return HTTPException(421, "this page is at http://127.0.0.1 or http://localhost alone")
    if headers.get("origin", f"http://{host}") != f"http://{host}":
        return HTTPException(403, "another web page asked; only this server's own may")
    return None


def _too_many_bytes(limits: Limits) -> HTTPException:
    return HTTPException(413, f"it has over {limits.bytes:,} bytes; send a smaller file")


async def _body(request: Request, limits: Limits) -> bytes:
    """The image file that is sent, not more of it than may be."""
    if int(request.headers.get("content-length", 0)) > limits.bytes:
        raise _too_many_bytes(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.bytes:
                    raise _too_many_bytes(limits)
    except TimeoutError:
        raise HTTPException(408, f"it took over {limits.seconds:g} seconds to arrive") from None
    except ClientDisconnect:
        raise HTTPException(400, "it was cut short") from None  # which nobody reads
    return bytes(body)


Answer = Callable[[bytes], dict[str, Any]]
"""Called with an image file, in several threads; gives what JSON can hold, or raises InputError."""


def create(answers: Mapping[str, Answer], page: str, limits: Limits) -> ASGIApp:
    """The application.

    Args:
        answers: By the paths that image files are sent to.
        page: HTML.
        limits: What is refused.
    """
    pool = ThreadPoolExecutor(parallel.available_cores())
    slots = asyncio.Semaphore(limits.images)

    async def static(request: Request) -> Response:
        path = request.url.path
        if path == "/":
            return Response(page, media_type="text/html")
        return Response(Path(__file__).with_name(path[1:]).read_bytes(), media_type=_FILES[path])

    async def answer(request: Request) -> Response:
        if request.headers.get("content-type") != IMAGE:
            raise HTTPException(415, f"expected an image file as a body of the type {IMAGE}")
        if slots.locked():
            message = f"{limits.images} images are being looked at; try again in a second"
            raise HTTPException(503, message, {"Retry-After": "1"})
        async with slots:
            body = await _body(request, limits)
            work = asyncio.get_running_loop().run_in_executor(pool, answers[request.url.path], body)
            try:
                return JSONResponse(await asyncio.wait_for(work, limits.seconds))
            except TimeoutError:
                message = f"it took over {limits.seconds:g} seconds to look at; scale it down"
                raise HTTPException(503, message) from None
            except MemoryError:
                raise HTTPException(503, "there is too little memory for it") from None
            except InputError as error:
                raise HTTPException(422, str(error)) from None

    application = Starlette(
        routes=[
            *(Route(path, answer, methods=["POST"]) for path in answers),
            *(Route(path, static) for path in ("/", *_FILES)),
        ],
        exception_handlers={HTTPException: _refused, Exception: _failed},  # type: ignore[dict-item]
    )

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        if refusal:
            await _refused(Request(scope), refusal)(scope, receive, send)
        else:
            await application(scope, receive, send)

    return guarded


def page(trained: Classifier, limits: Limits) -> str:
    """The HTML, which says what the network is and what may be sent."""
    data = trained.provenance["data"]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html").render(
        classes=trained.classes,
        data=data,
        recipe=trained.provenance["recipe"],
        synthetic=data.startswith("SYNTHETIC"),
        formats=decode.FORMATS,
        limits=limits,
        pixels=decode.MAX_PIXELS,
        too_large=_too_many_bytes(limits).detail,
        scale=data_url(gradcam.scale(), "PNG"),
        scale_words=gradcam.SCALE_WORDS,
    )


def listening(port: int) -> socket.socket:
    """A socket that this machine alone can reach.

    Raises:
        InputError: The port is taken, or none.
    """
    # the protocol is named because asyncio sends small packets at once only where it is
    place = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((HOST, port))
        place.listen()
    except (OSError, OverflowError) as error:
        place.close()
        raise InputError(
            f"--port: found {port}, which can't be listened on ({error}); expected one from 1024 "
            f"to 65535 that no other program uses. Try --port {PORT + 80}."
        ) from None
    return place


def run(app: ASGIApp, place: socket.socket, limits: Limits) -> None:
    """Serves until Ctrl-C; every header on every answer, no log but of what fails."""

    class Connection(H11Protocol):
        """One that does not stay open for a client that neither asks nor leaves."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)  # type: ignore[arg-type]
            self.end = self.loop.call_later(2 * limits.seconds, self.shutdown)

        def connection_lost(self, exc: Exception | None) -> None:
            self.end.cancel()
            super().connection_lost(exc)

    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=list(HEADERS.items()),
        timeout_graceful_shutdown=1,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[place])

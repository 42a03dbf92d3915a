"""Fetches a data set with the Kaggle client, and says in one line what went wrong.

Uses the client's Python interface, whose exceptions carry the HTTP status. Nothing that the
client prints or raises is repeated except its progress bar: its texts hold signed addresses, and
in some cases the token itself. A download that ends without an exception may still have an error
page inside the zip, so the caller checks the content.
"""

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import requests

from stages.common import files
from stages.common.errors import InputError

_RETRY = re.compile(r"Retrying in ([\d.]+) seconds\.\.\. \(attempt (\d+)/(\d+)\)")
_ELSEWHERE = (
    "or do without Kaggle: `dvc exp run -S download.source=archive` takes a zip in data/archive/, "
    "`-S download.source=phantom` needs no data at all"
)
_CAUSES = {
    401: "Kaggle refused the account (401): the token is wrong or expired. Renew it in the "
    "settings at kaggle.com, or remove it (KAGGLE_API_TOKEN, ~/.kaggle/): this data set can be "
    "had without an account",
    403: "Kaggle forbids it (403): its terms or the data set's licence must be accepted first. "
    "Log in at kaggle.com, open the data set's page and accept, then run the same command again",
    404: "Kaggle does not have it (404): the data set, or this version of it, was withdrawn. "
    "Look at its page at kaggle.com, " + _ELSEWHERE,
    429: "Kaggle has had too many requests (429). Wait some minutes, then run the same "
    "command again",
}
_WRONG_SIZE = (
    "the transfer ended with the wrong number of bytes, for example because the download link "
    "expired. What came was thrown away; run the same command again"
)


def cause(error: BaseException, data_set: str, size: int | None) -> str:
    """What went wrong and what to do, without a word of the client's own text.

    Args:
        error: what the client raised.
        data_set: `owner/name/version`.
        size: how many bytes have come so far; None if the transfer has not begun.
    """
    match error:
        case KeyboardInterrupt():
            return (
                f"interrupted after {(size or 0) / 1e6:.1f} MB. Run the same command again; it "
                "goes on from there if Kaggle allows it"
            )
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return "the disk is full. Make room and run the same command again"
        case requests.HTTPError(response=requests.Response(status_code=status)):
            if status in _CAUSES:
                return _CAUSES[status]
            if status >= 500:
                return f"Kaggle reports a server error ({status}). Run the same command again later"
        case UnicodeError():  # in the token, which goes into a header
            return _CAUSES[401]
        case ValueError() if "Invalid header" in str(error):
            return _CAUSES[401]
        case requests.RequestException() if size is not None:
            return (
                "the connection broke off again and again. Check the network and run the same "
                "command again; it goes on from where it stopped if Kaggle allows it"
            )
        case requests.RequestException():
            return (
                "no connection to Kaggle. Check the network and run the same command again, "
                + _ELSEWHERE
            )
        case ValueError():
            return _WRONG_SIZE
    return (
        f"the Kaggle client failed ({type(error).__name__}) for a reason that this program does "
        "not know. Its message can hold secrets, so it is not shown; to see it, run "
        f"`python -m kaggle datasets download -d {data_set} -p /tmp`"
    )


class _Retries(io.StringIO):
    """What the client prints: only the notes that it tries again are passed on."""

    def __init__(self, stderr: TextIO) -> None:
        super().__init__()
        self._stderr = stderr

    def write(self, text: str) -> int:
        if retry := _RETRY.search(text):
            seconds, attempt, attempts = retry.groups()
            print(
                f"download: the transfer broke off; trying again in {seconds} s "
                f"({attempt} of {attempts})",
                file=self._stderr,
                flush=True,
            )
        return len(text)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what the client prints but for retries and, on a terminal, its progress bar."""
    stderr = sys.stderr
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(_Retries(stderr)),
        contextlib.redirect_stderr(stderr if stderr.isatty() else nowhere),
    ):
        yield


def _fetch(data_set: str, folder: Path) -> None:
    # Set, they make the client print the token and hold the whole zip in memory.
    os.environ.update(VERBOSE="", VERBOSE_OUTPUT="")
    with _quiet():
        # The import logs in where there is an account. Where there is none it prints a help text,
        # and public data sets can be had all the same.
        from kaggle import api  # type: ignore[import-untyped]

        api.dataset_download_files(data_set, path=str(folder), quiet=False)


def download(data_set: str, folder: Path) -> Path:
    """Fetches a data set's zip, or what is left of it from an earlier run, into `folder`.

    Args:
        data_set: `owner/name/version`.
        folder: for this alone. What is left in it after an error lets the next run resume.

    Returns:
        The path of what came, which may hold anything.

    Raises:
        InputError: nothing came, or not all of it; says why and what to do.
    """
    zipped = folder / f"{data_set.split('/')[1]}.zip"
    marker = Path(f"{zipped}.kaggle-partial")  # of the client, beside what it may resume
    folder.mkdir(parents=True, exist_ok=True)
    if not marker.exists():
        zipped.unlink(missing_ok=True)  # the client would take it for a finished download
    try:
        _fetch(data_set, folder)
    except (Exception, KeyboardInterrupt) as error:
        size = zipped.stat().st_size if zipped.exists() else None
        why = cause(error, data_set, size)
        if not size or why == _WRONG_SIZE:  # nothing that the next run could build on
            files.remove(folder)
        raise InputError(f"Kaggle data set {data_set}: {why}.") from None
    return zipped

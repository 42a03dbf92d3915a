"""The real Kaggle client, run as a program, with what it says turned into one line.

Its exit status says little: it is 0 after Ctrl-C with a fragment on the disk, and 0 with an error
page inside the zip. So `download` gives whatever file came, and its caller checks the content.
Nothing that the client writes is repeated except its progress bar: its error texts hold signed
addresses, and in some cases the token itself.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from stages.common import files
from stages.common.errors import InputError

_COMMAND = ["kaggle", "datasets", "download", "-d"]
_BAR = re.compile(r"\s*(\d+%\||[\d.]+[kMGT]?B? \[)")
_RETRY = re.compile(r"Retrying in ([\d.]+) seconds\.\.\. \(attempt (\d+)/(\d+)\)")
_ELSEWHERE = (
    "or do without Kaggle: `dvc exp run -S download.source=archive` takes a zip in data/archive/, "
    "`-S download.source=phantom` needs no data at all"
)
_STATUS_CAUSES = {
    401: "Kaggle refused the account (401): the token is wrong or expired. Renew it in the "
    "settings at kaggle.com, or remove it (KAGGLE_API_TOKEN, ~/.kaggle/): this data set can be "
    "had without an account",
    403: "Kaggle forbids it (403): it wants its terms or the data set's licence accepted first. "
    "Log in at kaggle.com, open the data set's page and accept, then run the same command again",
    404: "Kaggle does not have it (404): the data set, or this version of it, was withdrawn. "
    "Look at its page at kaggle.com, " + _ELSEWHERE,
    429: "Kaggle has had too many requests (429). Wait some minutes, then run the same "
    "command again",
}
_TEXT_CAUSES = (
    (r"[Ii]nvalid header value|Unauthenticated", 401),
    (r"[Pp]ermission .* denied|Forbidden", 403),
    (r"[Nn]ot [Ff]ound", 404),
    (r"Too [Mm]any [Rr]equests", 429),
)
# The client's help on accounts. It prints that whenever it runs without one; only as the last
# thing that it says does it mean that the server wants one.
_END_OF_HELP = "~/.kaggle/access_token"
_NO_NETWORK = re.compile(
    r"Max retries exceeded|NameResolutionError|NewConnectionError|ProxyError|SSLError"
    r"|ConnectTimeout|Connection aborted|ConnectionResetError|RemoteDisconnected"
)


def cause(text: str, data_set: str) -> str:
    """What went wrong and what to do, from all that the client wrote before it gave up."""
    if re.search(r"No space left on device|Disk quota exceeded", text):
        return "the disk is full. Make room and run the same command again"
    status = re.search(r"\b([45]\d\d) (?:Client|Server) Error", text)
    code = int(status[1]) if status else None
    if code is not None and code >= 500:
        return f"Kaggle has a fault of its own ({code}). Run the same command again later"
    if code is None:
        code = next((code for pattern, code in _TEXT_CAUSES if re.search(pattern, text)), None)
    if code is None and text.rstrip().endswith(_END_OF_HELP):
        code = 401
    if code in _STATUS_CAUSES:
        return _STATUS_CAUSES[code]
    if "Download failed after" in text:
        return (
            "the connection broke off again and again. Run the same command again; it goes on from "
            "where it stopped if Kaggle allows it"
        )
    if "does not match expected size" in text:
        return (
            "the transfer ended with the wrong number of bytes, as it does when the address "
            "expires on the way. What came was thrown away; run the same command again"
        )
    if _NO_NETWORK.search(text):
        return (
            "no connection to Kaggle. Check the network and run the same command again, "
            + _ELSEWHERE
        )
    return (
        "the Kaggle client gave up for a reason that this program does not know. What it says can "
        "hold secrets, so it is not shown; to see it, run "
        f"`python -m {' '.join(_COMMAND)} {data_set} -p /tmp`"
    )


def _end_orphans(folder: Path) -> None:
    """Ends clients that a killed stage left behind, which would go on writing into `folder`.

    Its absolute path stands among their arguments, so no other project's client is meant.
    """
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "kaggle" in command and str(folder) in command:
            with contextlib.suppress(psutil.Error):
                process.kill()
                process.wait(10)


def _run(data_set: str, folder: Path) -> tuple[int, str]:
    """Runs the client; shows its progress where there is a terminal; gives status and output."""
    terminal = sys.stderr.isatty()
    newline = "\n" if terminal else ""  # leaves the bar where it stopped
    said = []
    with subprocess.Popen(
        [sys.executable, "-m", *_COMMAND, data_set, "-p", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,  # takes the carriage returns of the progress bar for line ends
        encoding="utf-8",
        errors="replace",
        env={
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
            "COLUMNS": str(shutil.get_terminal_size().columns),
            "VERBOSE": "",  # prints the token, and holds the whole zip in memory
            "VERBOSE_OUTPUT": "",
        },
    ) as client:
        try:
            for line in client.stdout or ():
                retry = _RETRY.search(line)
                if _BAR.match(line):
                    if terminal:
                        print(f"\r{line.rstrip()}", end="", file=sys.stderr, flush=True)
                elif retry:
                    print(
                        f"{newline}download: the transfer broke off; trying "
                        f"again in {retry[1]} s ({retry[2]} of {retry[3]})",
                        file=sys.stderr,
                        flush=True,
                    )
                else:
                    said.append(line)
        except BaseException:
            client.kill()
            client.wait()
            raise
        finally:
            if terminal:
                print(file=sys.stderr)
    return client.returncode, "".join(said)


def download(data_set: str, folder: Path) -> Path:
    """Fetches a data set's zip, or what is left of it from an earlier run, into `folder`.

    Args:
        data_set: `owner/name/version`.
        folder: for this alone. What is left in it after an error lets the next run resume.

    Returns:
        The path of what the client left, which may hold anything.

    Raises:
        InputError: nothing came, or not all of it; says why and what to do.
    """
    zipped = folder / f"{data_set.split('/')[1]}.zip"
    marker = Path(f"{zipped}.kaggle-partial")
    name = f"Kaggle data set {data_set}"
    folder.mkdir(parents=True, exist_ok=True)
    _end_orphans(folder.absolute())
    if not marker.exists():
        zipped.unlink(missing_ok=True)  # the client would take it for a finished download
    try:
        status, said = _run(data_set, folder.absolute())
        interrupted = "User cancelled operation" in said
    except KeyboardInterrupt:
        interrupted = True
    size = zipped.stat().st_size if zipped.exists() else 0
    if interrupted:
        if not size:
            files.remove(folder)
        raise InputError(
            f"{name}: interrupted after {size / 1e6:.1f} MB. Run the same command again; it "
            "goes on from there if Kaggle allows it."
        )
    if status != 0:
        if "does not match expected size" in said or not marker.exists():
            files.remove(folder)
        raise InputError(f"{name}: {cause(said, data_set)}.")
    if not size:
        files.remove(folder)
        raise InputError(
            f"{name}: the Kaggle client says that it is done, but there is no file. "
            "Run the same command again."
        )
    return zipped

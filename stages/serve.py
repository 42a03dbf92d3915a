"""Serves a page, to this machine alone, on which a person drops images and sees what comes out.

usage: python -m stages.serve [--port PORT]

For each image: the class, the calibrated probabilities, where the network looked, whether it
looks like no chest X-ray, and whether a copy of it was in training; the answers are those of
`predict`. Nothing is written to disk, and no file's name is sent. Ctrl-C ends it.
"""

import argparse
import socket
import sys

import threadpoolctl

from stages.common import stage
from stages.common.errors import InputError
from stages.learning import classifier
from stages.serving import app
from stages.serving.answers import Answers

PORT = 8000


def listening(port: int) -> socket.socket:
    """A socket that no other machine can reach.

    Raises:
        InputError: The port is taken.
    """
    try:
        return socket.create_server((app.HOST, port))
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--port: found {port}, which can't be listened on ({error}); expected one from 1024 "
            f"to 65535 that no other program uses. Try --port {PORT + 80}."
        ) from None


def main() -> None:
    """Reads the command line and serves until it is interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"{PORT} by default")
    chosen = parser.parse_args()

    def work() -> None:
        threadpoolctl.threadpool_limits(1)  # small products; more threads would wait and burn time
        limits = app.Limits()
        with listening(chosen.port) as place:
            trained = classifier.load()
            application = app.create(Answers(trained), app.page(trained, limits), limits)
            print(f"http://{app.HOST}:{place.getsockname()[1]} (Ctrl-C ends it)", flush=True)
            app.run(application, place, limits)
        print("\nserve: ended; nothing was kept", file=sys.stderr)

    stage.guarded("serve", work)


if __name__ == "__main__":
    main()

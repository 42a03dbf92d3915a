"""Serves a page, to this machine alone, on which a person drops images and sees what comes out.

usage: python -m stages.serve [--port PORT]

For each image: the class, the set of classes that holds the true one in 90 of 100 cases, the
calibrated probabilities, where the network looked, and whether a copy of it was in training; the
answers are those of `predict`. What does not look like a chest X-ray is refused; a button shows the
answer all the same. Nothing is written to disk, and no file's name is sent. Ctrl-C ends it.
"""

import argparse
import sys

import threadpoolctl

from stages.common import stage
from stages.intake.known import Known
from stages.learning import classifier
from stages.learning.calibrated import Calibration
from stages.learning.novelty import Novelty
from stages.serving import app
from stages.serving.answers import Answers


def main() -> None:
    """Reads the command line and serves until it is interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=app.PORT, help=f"{app.PORT} by default")
    chosen = parser.parse_args()

    def work() -> None:
        threadpoolctl.threadpool_limits(1)  # small products; more threads would wait and burn time
        limits = app.Limits()
        with app.listening(chosen.port) as place:
            trained = classifier.load()
            answers = Answers(trained, Calibration.load(), Known.load(), Novelty.load())
            paths = {"/judge": answers.judge, "/copies": answers.copies}
            application = app.create(paths, app.page(trained, limits), limits)
            print(f"http://{app.HOST}:{place.getsockname()[1]} (Ctrl-C ends it)", flush=True)
            app.run(application, place, limits)
        print("\nserve: ended; nothing was kept", file=sys.stderr)

    stage.guarded("serve", work)


if __name__ == "__main__":
    main()

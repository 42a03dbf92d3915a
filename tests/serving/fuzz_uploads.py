"""Sends mutated files to the server and compares what comes back with what is right.

usage: python -m tests.serving.fuzz_uploads SEED COUNT

Prints one JSON record: how many files were answered and how many refused, the longest time that one
took (seconds), and the most memory that the server used (bytes). An answer that is neither what
the same code gives in this process nor a refusal in the words of the decoder ends the program
with a traceback, and so does one that takes over SECONDS.
"""

import http.client
import json
import os
import random
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stages.intake.decode import UnreadableImageError
from stages.serving import app
from tests.intake import fuzz_images
from tests.serving import server

SECONDS = 5
CLIENTS = 4
SELDOM = 10  # one in so many files is a compressed DICOM file, which takes 50 ms


def main(seed: int, count: int) -> dict[str, Any]:
    """Sends `count` mutated files; gives the record."""
    warnings.filterwarnings("ignore", module="PIL")
    dice = random.Random(seed)
    samples = sorted({**fuzz_images.encodings(), **fuzz_images.dicom_encodings()}.items())
    compressed = sorted(fuzz_images.compressed_encodings().items())
    chosen = [
        compressed[number // SELDOM % len(compressed)]
        if number % SELDOM == 0
        else samples[number % len(samples)]
        for number in range(count)
    ]
    files = [(name, fuzz_images.mutated(data, dice)) for name, data in chosen]
    network = server.Network()
    answers = server.answers_of(network)

    def expected(file: bytes) -> tuple[int, dict[str, Any]]:
        try:
            return 200, answers.judge(file)
        except UnreadableImageError as error:
            return 422, {"error": error.reason}

    mine = threading.local()  # a connection for each thread, which a refusal closes

    def send(file: bytes) -> tuple[int, dict[str, Any], float]:
        begun = time.perf_counter()
        if not hasattr(mine, "connection"):
            mine.connection = http.client.HTTPConnection(app.HOST, port, timeout=SECONDS)
        mine.connection.request("POST", "/judge", file, {"Content-Type": app.IMAGE})
        response = mine.connection.getresponse()
        answer = json.loads(response.read())
        return response.status, answer, time.perf_counter() - begun

    statuses: Counter[int] = Counter()
    slowest = 0.0
    with (
        tempfile.TemporaryDirectory() as folder,
        server.running(Path(folder)) as (process, port),
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        answered = pool.map(send, [file for _, file in files])
        for number, (name, file) in enumerate(files):
            status, answer, seconds = next(answered)
            if (status, answer) != expected(file):
                raise AssertionError(f"{name}, file {number} of seed {seed}: {status} {answer}")
            statuses[status] += 1
            slowest = max(slowest, seconds)
        process.kill()
        memory = os.wait4(process.pid, 0)[2].ru_maxrss * 1024
        complaints = (Path(folder) / "stderr").read_text()
        if "Traceback" in complaints or "opened" in complaints:  # libtiff says much else
            raise AssertionError(complaints)
    return {
        "answered": statuses[200],
        "refused": statuses[422],
        "slowest": slowest,
        "memory": memory,
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))

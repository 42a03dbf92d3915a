"""How fast the page's server answers when many ask at once.

usage: python -m benchmarks.serving

Run where `dvc repro` has run; serves that model, and sends it the test images. Prints a JSON
record: the median and the 99th percentile of the seconds that an answer takes, how many requests
failed, the server's memory at the end to that after a fifth of the requests, and the median of the
seconds that a look-up of copies takes.
"""

import http.client
import json
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from stages.serving import app

CLIENTS, REQUESTS = 8, 500


def main() -> None:
    """Measures and prints."""
    files = [path.read_bytes() for path in sorted(Path("data/raw/test").rglob("*.*"))]
    mine = threading.local()  # a connection for each client

    def send(path: str, number: int) -> tuple[float, int, int]:
        """The seconds that an answer takes, its status, and the server's memory after it."""
        if not hasattr(mine, "connection"):
            mine.connection = http.client.HTTPConnection(app.HOST, port)
            mine.connection.connect()
        file = files[number % len(files)]
        begun = time.perf_counter()
        mine.connection.request("POST", path, file, {"Content-Type": app.IMAGE})
        response = mine.connection.getresponse()
        response.read()
        return time.perf_counter() - begun, response.status, watched.memory_info().rss

    command = [sys.executable, "-m", "stages.serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(re.findall(r":(\d+)", server.stdout.readline())[0])
            watched = psutil.Process(server.pid)
            with ThreadPoolExecutor(CLIENTS) as pool:
                judged = list(pool.map(partial(send, "/judge"), range(REQUESTS)))
                looked_up = list(pool.map(partial(send, "/copies"), range(REQUESTS)))
        finally:
            server.terminate()
    seconds, statuses, memory = np.array(judged).T
    record = {
        "median": float(np.median(seconds)),
        "99th": float(np.percentile(seconds, 99)),
        "failed": int((statuses != 200).sum()),
        "memory": memory[-1] / memory[REQUESTS // 5],
        "copies": float(np.median([each[0] for each in looked_up])),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()

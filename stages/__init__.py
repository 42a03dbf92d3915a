"""The stages of the pipeline, one script each, and two tools, predict and repair."""

import importlib.util
import sys

_missing = [
    name
    for name in (
        "PIL",
        "ai_edge_litert",
        "imagehash",
        "jinja2",
        "pandas",
        "psutil",
        "pydantic",
        "sklearn",
        "tensorflow",
    )
    if importlib.util.find_spec(name) is None
]
if _missing:
    # Otherwise a forgotten activation ends in a traceback about whichever package comes first.
    sys.exit(
        f"{sys.executable} lacks packages that this project needs: {', '.join(_missing)}.\n"
        "Run `make repro`, or activate the environment first: . .venv/bin/activate"
    )

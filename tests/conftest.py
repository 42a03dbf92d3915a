import gc


def pytest_collection_finish() -> None:
    """Keeps modules and tests, a million objects, out of every later collection of garbage."""
    gc.collect()
    gc.freeze()

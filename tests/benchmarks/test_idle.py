from benchmarks import idle


def test_one_stage_writes_all_and_depends_on_what_no_stage_writes() -> None:
    stages = {
        "a": {"deps": ["in", "code", "${audit.records}"], "outs": ["raw", "raw.csv"]},
        "b": {
            "deps": ["raw/provenance.json", "raw.csv", "code", "details"],
            "outs": ["details/b.json"],
            "metrics": [{"b.json": {"cache": False}}],
        },
    }
    assert idle.in_one(stages, "records.csv") == {
        "cmd": "true",
        "deps": ["code", "in", "records.csv"],
        "outs": ["raw", "raw.csv", "details/b.json", {"b.json": {"cache": False}}],
    }

from stages.common import errors


def test_a_long_list_is_cut() -> None:
    assert errors.listed(["a"] * 20).count("\n") == 19
    assert errors.listed(["a"] * 23).endswith("\n  and 3 more")


def test_a_name_is_shown_on_one_line() -> None:
    assert errors.shown("a\nb\x1b[2J ü 肺") == r"a\nb\x1b[2J ü 肺"


def test_ten_names_at_most() -> None:
    assert errors.named(["a", "b"]) == "'a', 'b'"
    assert errors.named(["a"] * 11) == "'a', " * 10 + "..."

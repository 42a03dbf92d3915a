from benchmarks import tables


def test_a_table_has_a_row_for_each_name_in_any_column() -> None:
    columns = {"one": {"a": "1", "b": "2"}, "two": {"c": "3", "a": "4"}}
    assert tables.markdown("what", columns).splitlines() == [
        "| what | one | two |",
        "| --- | --- | --- |",
        "| a | 1 | 4 |",
        "| b | 2 |  |",
        "| c |  | 3 |",
    ]


def test_numbers_have_three_places_and_a_sign_where_asked() -> None:
    assert tables.spread([0.5, 1, 0.25]) == "0.583 (0.250\N{EN DASH}1.000)"
    assert tables.spread([0.5, -0.25], "+") == "+0.125 (-0.250\N{EN DASH}+0.500)"
    assert tables.interval(0.1, 0.25) == "[0.100, 0.250]"
    assert tables.interval(-0.1, 0.25, "+") == "[-0.100, +0.250]"

import pytest

from stages.common.errors import InputError
from stages.sources import layout

GOOD = ["train/A/1.png", "train/B/1.png", "test/A/1.png", "test/B/2.png"]


def test_layout_keeps_files_and_drops_one_enclosing_folder() -> None:
    assert layout.arrange(GOOD, "x.zip") == {name: name for name in GOOD}
    inside = ["My set/", "My set/train/", *(f"My set/{name}" for name in GOOD)]
    assert layout.arrange(inside, "x.zip") == {f"My set/{name}": name for name in GOOD}


def test_a_table_of_records_may_stand_beside_the_splits() -> None:
    names = ["records.csv", *GOOD]
    assert layout.arrange(names, "x.zip") == {name: name for name in names}
    inside = ["My set/", *(f"My set/{name}" for name in names)]
    assert layout.arrange(inside, "x.zip") == {f"My set/{name}": name for name in names}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "x.zip holds no file"),
        (["readme.txt"], "expected the folders train/ and test/"),
        (["readme.txt"], "found 'readme.txt'"),
        (["set/"], "found nothing"),
        (["train/A/1.png", "train/B/1.png"], "found 'train'"),
        (["a/b/train/A/1.png"], "found 'b'"),
        ([*GOOD, "val/A/1.png"], "found 'test', 'train', 'val'"),
        ([*(f"set/{name}" for name in GOOD), "LICENSE"], "found 'LICENSE', 'set'"),
        ([*(f"set/{name}" for name in GOOD), "records.csv"], "found 'records.csv', 'set'"),
        ([*GOOD, "records.csv/x"], "found 'records.csv', 'test', 'train'"),
        ([*GOOD, "records.csv/"], "found 'records.csv', 'test', 'train'"),
        ([*GOOD, "Records.csv"], "beside them but records.csv; found 'Records.csv', 'test'"),
        (["records.csv"], "found 'records.csv'"),
        (["train", *GOOD[2:]], "another level:\n  train\n"),
        ([*GOOD, "train/records.csv"], "another level:\n  train/records.csv\n"),
        ([*GOOD, "train/stray.png"], "another level:\n  train/stray.png\n"),
        ([*GOOD, "train/A/deep/1.png"], "another level:\n  train/A/deep/1.png\n"),
        ([*GOOD, *(f"train/{n:02}.png" for n in range(25))], "\n  and 5 more\n"),
        ([*GOOD, "train/C/1.png"], "the class folder train/C has no counterpart; test/ has 'A'"),
        ([*GOOD, "test/C/1.png"], "the class folder test/C has no counterpart; train/ has 'A'"),
        (["train/A/1.png", "test/"], "train/A has no counterpart; test/ has no class"),
        ([*GOOD, "train/C/", "test/C/1.png"], "the class folder train/C is empty"),
        (["train/A/1.png", "test/A/1.png"], "found 'A' as the only class folder"),
        (["train/", "test/"], "found no class as the only class folder"),
    ],
)
def test_layout_names_what_is_wrong(names: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        layout.arrange(names, "x.zip")
    assert words in str(caught.value)
    assert "x.zip" in str(caught.value)


def test_names_that_not_every_disk_can_hold() -> None:
    assert layout.fault_of_name("train/A/\udcff.png") == "a name that is not written in UTF-8"
    assert layout.fault_of_name("train/A/a\nb.png") == "a control character in its name"
    assert layout.fault_of_name(f"train/A/{'ä' * 100}") is None  # 200 bytes
    assert layout.fault_of_name(f"train/A/{'ä' * 100}x") == "a name of more than 200 bytes"

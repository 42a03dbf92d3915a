"""Finds the radiographs of data/raw among other images, and checks the table of records by them.

usage: python -m stages.match [--json] FOLDER

For every file of data/raw: which image files below FOLDER (hidden ones are passed over) show the
same radiograph, even if it was equalised, windowed, cropped at its borders, re-scaled or
re-encoded. FOLDER may be a clone of the collection that data/raw came from, or any other set that
may overlap with it. Where there is a table of records (see `audit.records` in params.yaml), each
of its rows that names a source_file is held against what was found:

confirmed     a file of this name shows the same radiograph
renamed       no file has this name, but files of other names show the same radiograph
contradicted  a file has this name, but files of other names show this radiograph, and it does not
unlike        a file has this name, but neither it nor any other was found to show this radiograph
new           the radiograph was found, and no row names a source_file for it
absent        neither the name nor the radiograph was found

Names are compared without their endings (.jpeg, .png); a source_file with folders in it must be
the end of a file's path.
"""

import argparse
import json
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from stages.common import files, params, stage
from stages.common.errors import InputError, shown
from stages.intake import decode, matching, records
from stages.intake.settings import Audit

RAW = Path("data/raw")
SCRATCH = Path(".dvc/tmp/match")
"""Holds the fingerprints while they are compared."""
FOUND = ("confirmed", "renamed", "contradicted", "unlike", "new", "absent")
_LISTED = ("contradicted", "unlike", "renamed", "new")
_NAME = 32  # characters of a name that the table shows
_NOT_KNOWN = """\
A match says that two files show one radiograph; not which of them came first, nor that what a
collection says of it is right. A radiograph that was mirrored, turned or cropped by more than a
tenth at a border may be missed: look at the files that are `unlike` yourself, and take `absent`
for "not found"."""


def _parts(name: str) -> tuple[str, ...]:
    """The folders of a file's name, and the name without its ending."""
    *folders, last = name.split("/")
    return (*folders, PurePath(last).stem)


def check(
    ours: Sequence[str],
    theirs: Sequence[str],
    matches: Sequence[matching.Match],
    rows: Mapping[str, Mapping[str, str]],
) -> list[dict[str, Any]]:
    """Holds the table of records against what was found.

    Args:
        ours: The paths of the files of data/raw in it.
        theirs: The paths of the other files in their folder.
        matches: Which of them show the same radiograph.
        rows: The table, by path; empty if there is none.

    Returns:
        Per file of ours: `file`; `found`, one of FOUND; `source` and `source_file`, of its row;
        `matches`, a list of `file` and `similarity`, the most similar first.
    """
    by_name: dict[str, set[int]] = defaultdict(set)
    for number, name in enumerate(theirs):
        by_name[_parts(name)[-1]].add(number)
    same: dict[int, list[matching.Match]] = defaultdict(list)
    for match in matches:
        same[match.ours].append(match)
    results = []
    for number, name in enumerate(ours):
        row = rows.get(name, {})
        source_file = row.get("source_file", "")
        alike = {match.theirs for match in same[number]}
        parts = _parts(source_file)
        named = {
            each for each in by_name[parts[-1]] if _parts(theirs[each])[-len(parts) :] == parts
        }
        if not source_file:
            found = "new" if alike else "absent"
        elif named:
            found = "confirmed" if named & alike else "contradicted" if alike else "unlike"
        else:
            found = "renamed" if alike else "absent"
        results.append(
            {
                "file": name,
                "found": found,
                "source": row.get("source", ""),
                "source_file": source_file,
                "matches": [
                    {"file": theirs[match.theirs], "similarity": match.similarity}
                    for match in same[number]
                ],
            }
        )
    return results


def _cut(name: str) -> str:
    """A name for a cell of the table: a long one loses its beginning."""
    text = shown(name)
    return (text if len(text) <= _NAME else f"…{text[1 - _NAME :]}").ljust(_NAME)


def table(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of at most 120 characters: what a person must look at, then the counts by source."""
    listed = [result for kind in _LISTED for result in results if result["found"] == kind]
    if listed:
        yield f"found         {_cut('file of data/raw')}  {_cut('its row names')}  same radiograph"
    for result in listed:
        best, more = (result["matches"] or [None])[0], len(result["matches"]) - 1
        same = f"{_cut(best['file']).rstrip()}{f' +{more}' if more else ''}" if best else "-"
        yield (
            f"{result['found']:<14}{_cut(result['file'])}  "
            f"{_cut(result['source_file'] or '-')}  {same}"
        )
    if listed:
        yield ""
    counts = Counter((result["source"], result["found"]) for result in results)
    yield "".join(["source".ljust(24), *(kind.rjust(14) for kind in FOUND)])
    for source in sorted({result["source"] for result in results}):
        numbers = (str(counts[source, kind]).rjust(14) for kind in FOUND)
        yield "".join([_cut(source or "(not known)")[:24].ljust(24), *numbers])


def match(folder: Path, as_json: bool) -> None:
    """Compares data/raw with a folder and prints what was found.

    Raises:
        InputError: There is nothing to compare on one of the sides.
    """
    raw = sorted(path for path in RAW.glob("*/*/*") if not path.name.startswith("."))
    if not raw:
        raise InputError(
            f"{RAW}: found no image, expected {{train,test}}/<class>/<images>. "
            "Run `dvc repro download`."
        )
    if not folder.is_dir():
        raise InputError(f"{shown(folder)}: found no such folder, expected one with images in it.")
    others = decode.image_files(folder)
    if not others:
        raise InputError(
            f"{shown(folder)}: found no image file in it or below, expected at least one."
        )
    given = params.load(Audit).records
    known = records.find(given, RAW, [path.relative_to(RAW).as_posix() for path in raw])
    with stage.alone("match"), files.scratch(SCRATCH) as scratch:
        ours, our_prints, faults = matching.prints(raw, str(RAW), scratch / "ours")
        theirs, prints, their_faults = matching.prints(others, shown(folder), scratch / "theirs")
        for fault in faults + their_faults:
            print(f"match: {fault}", file=sys.stderr)
        if not ours or not theirs:
            raise InputError(f"{shown(RAW if theirs else folder)}: none of its images can be read.")
        same = matching.matches(our_prints, prints)
    results = check(
        [path.relative_to(RAW).as_posix() for path in ours],
        [path.relative_to(folder).as_posix() for path in theirs],
        same,
        known.rows if known else {},
    )
    if as_json:
        for result in results:
            print(json.dumps(result))
        return
    print("\n".join(table(results)))
    matched = sum(bool(result["matches"]) for result in results)
    print(
        f"\nFiles of {RAW}: {len(results)}; found among the {len(theirs)} of {shown(folder)}: "
        f"{matched}; not found: {len(results) - matched}.\n"
        f"Table of records: {shown(known.path) if known else 'none'}.\n\n{_NOT_KNOWN}"
    )


def main() -> None:
    """Reads the command line and matches."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.match",
        description=__doc__.split("\n\n", 2)[2] if __doc__ else None,
        epilog=f"{_NOT_KNOWN}\n\nFiles that can't be read are named on standard error and passed "
        "over. Exit status 1 if there is\nnothing to compare.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to look for image files")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a JSON record per file of data/raw, with all its matches",
    )
    chosen = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a traceback
    stage.guarded("match", lambda: match(chosen.folder, chosen.json))


if __name__ == "__main__":
    main()

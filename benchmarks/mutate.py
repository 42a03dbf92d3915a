"""Plants faults in the code, one at a time, and counts how many of them the tests catch.

usage: python -m benchmarks.mutate [--most N] [--seed S] [--workers N] [MODULE ...]

A mutant is a module with one small change: another comparison or operator, another constant, `and`
for `or`, a `not` dropped, a condition negated, a statement or `raise` removed, two arguments
swapped, `min` for `max`. The tests of the module alone run on it, in a scratch copy of the
project, until the first of them fails; the mutant is caught if one does or if they take too long.
Tests that need TensorFlow are left out where the module does without.

Survivors that change nothing anybody could see stand in benchmarks/equivalent-mutants.csv with
the reason; they count neither way. Exit status 1 if less than 95 % of the others are caught.

Without a MODULE, such as stages/learning/splits.py, all of the core; that takes hours, --most 20
per module a few minutes.
"""

import argparse
import ast
import copy
import csv
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from stages.common.parallel import available_cores

PROJECT = Path(__file__).parents[1]
EQUIVALENT = Path(__file__).with_name("equivalent-mutants.csv")
LEAST_CAUGHT = 0.95
PARAMS = ["tests/common/test_params.py"]
TESTS = {
    "stages/judging/baselines.py": ["tests/judging/test_baselines.py"],
    "stages/judging/calibration.py": ["tests/judging/test_calibration.py"],
    "stages/judging/comparison.py": ["tests/judging/test_comparison.py"],
    "stages/judging/drawing.py": ["tests/judging/test_drawing.py"],
    "stages/judging/gradcam.py": ["tests/judging/test_gradcam.py"],
    "stages/judging/occlusion.py": ["tests/judging/test_occlusion.py"],
    "stages/judging/scores.py": ["tests/judging/test_scores.py", "tests/test_evaluate.py"],
    "stages/judging/settings.py": PARAMS,
    "stages/learning/classifier.py": ["tests/learning/test_classifier.py"],
    "stages/learning/network.py": ["tests/learning/test_network.py", "tests/test_train.py"],
    "stages/learning/dataset.py": ["tests/learning/test_dataset.py"],
    "stages/learning/settings.py": PARAMS,
    "stages/learning/splits.py": ["tests/learning/test_splits.py"],
    "stages/learning/prediction_sets.py": ["tests/learning/test_prediction_sets.py"],
    "stages/learning/temperature.py": ["tests/learning/test_temperature.py"],
    "stages/intake/copies.py": ["tests/intake/test_copies.py"],
    "stages/intake/groups.py": ["tests/intake/test_groups.py", "tests/test_audit.py"],
    "stages/intake/matching.py": ["tests/intake/test_matching.py"],
    "stages/intake/records.py": ["tests/intake/test_records.py", "tests/test_audit.py"],
    "stages/intake/stored.py": ["tests/intake/test_stored.py"],
    "stages/sources/layout.py": ["tests/sources/test_layout.py", "tests/sources/test_archive.py"],
    "stages/common/params.py": PARAMS,
    "stages/compare.py": ["tests/test_compare.py"],
    "stages/external.py": ["tests/test_external.py"],
}
NEED_TENSORFLOW = {"stages/learning/classifier.py", "stages/learning/network.py"}
OTHER_COMPARISON: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
OTHER_OPERATOR: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
COMMUTATIVE = {"min", "max", "minimum", "maximum"}
OTHER_NAME = {"min": "max", "max": "min", "any": "all", "all": "any", "argmax": "argmin"}


@dataclass(frozen=True)
class Mutant:
    """One fault: where it is planted, what it changes, and the module's text with it."""

    module: str
    function: str
    line: int
    change: str
    text: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What names it, whatever line it is on."""
        return self.module, self.function, self.change


def changes_of(node: ast.AST) -> Iterator[ast.AST]:
    """What can take a node's place."""

    def changed(field: str, value: object) -> ast.AST:
        other = copy.copy(node)
        setattr(other, field, value)
        return other

    match node:
        case ast.Compare(ops=operators):
            for place, operator in enumerate(operators):
                other = OTHER_COMPARISON[type(operator)]()
                yield changed("ops", [*operators[:place], other, *operators[place + 1 :]])
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator):
            if replacement := OTHER_OPERATOR.get(type(operator)):
                yield changed("op", replacement())
        case ast.BoolOp(op=operator):
            either = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield changed("op", either)
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
            yield ast.Constant(value * 0.9 if isinstance(value, float) else value - 1)
        case ast.Constant(value=str() as value):
            yield ast.Constant(f"{value}?")
        case ast.If(test=test) | ast.IfExp(test=test):
            yield changed("test", ast.UnaryOp(ast.Not(), test))
        case ast.comprehension(ifs=[_, *_]):
            yield changed("ifs", [])
        case ast.Raise() | ast.Expr():
            yield ast.Pass()
        case ast.Return(value=ast.AST()):
            yield ast.Return(ast.Constant(None))
        case ast.Name(id=name) if name in OTHER_NAME:
            yield ast.Name(OTHER_NAME[name])
        case ast.Attribute(attr=name) if name in OTHER_NAME:
            yield changed("attr", OTHER_NAME[name])
        case ast.Call(func=function, args=[first, second, *rest]) if (
            not isinstance(first, ast.Starred)
            and ast.unparse(function).split(".")[-1] not in COMMUTATIVE
        ):
            yield changed("args", [second, first, *rest])


def nodes_of(tree: ast.AST, function: str = "") -> Iterator[tuple[ast.AST, str]]:
    """The nodes that faults are planted in, each with the function or class that it is in.

    Left out are docstrings and other bare strings, imports, annotations, decorators' names and the
    wording of messages.
    """
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "msg"):
            continue
        for node in value if isinstance(value, list) else [value]:
            match node:
                case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom():
                    continue
                case ast.JoinedStr() | ast.FormattedValue():
                    continue
                case ast.Raise():
                    yield node, function
                case ast.FunctionDef(name=inner) | ast.ClassDef(name=inner):
                    yield from nodes_of(node, f"{function}.{inner}".strip("."))
                case ast.AST():
                    yield node, function
                    yield from nodes_of(node, function)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.old:
            return self.new
        return self.generic_visit(node)


def mutants_of(module: str) -> list[Mutant]:
    """Every mutant of a module, by its path in the project."""
    tree = ast.parse((PROJECT / module).read_text("utf-8"))
    before = ast.unparse(tree).splitlines()
    mutants = []
    for node, function in list(nodes_of(tree)):
        for other in changes_of(node):
            _Replace(node, other).visit(tree)
            text = ast.unparse(ast.fix_missing_locations(tree))
            _Replace(other, node).visit(tree)
            pairs = zip(before, text.splitlines(), strict=False)
            changed = [f"{old.strip()} -> {new.strip()}" for old, new in pairs if old != new]
            if changed:  # not so for 0.0 times 0.9
                line = getattr(node, "lineno", 0)
                mutants.append(Mutant(module, function, line, changed[0], text))
    return mutants


def scratch_copy(folder: Path) -> None:
    """Copies what git keeps of the project, as it is in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, folder / name)


def tests_pass(folder: Path, module: str, seconds: float | None) -> bool:
    """Whether a module's tests pass in a copy of the project, within so many seconds."""
    marks = [] if module in NEED_TENSORFLOW else ["-m", "not tensorflow"]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *marks, *TESTS[module]],
        cwd=folder,
        # bytecode is told apart by time and size alone, and a mutant may have both in common
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def survivors_of(
    mutants: list[Mutant], folders: list[Path], seconds: float, label: str
) -> list[Mutant]:
    """The mutants that the tests of their module do not catch."""
    free: queue.Queue[Path] = queue.Queue()
    for folder in folders:
        free.put(folder)

    def survives(mutant: Mutant) -> bool:
        folder = free.get()
        target = folder / mutant.module
        try:
            target.write_text(mutant.text, "utf-8")
            return tests_pass(folder, mutant.module, seconds)
        finally:
            shutil.copyfile(PROJECT / mutant.module, target)
            free.put(folder)

    with ThreadPoolExecutor(len(folders)) as pool:
        try:
            results = tqdm(
                pool.map(survives, mutants), label, len(mutants), unit="mutant", disable=None
            )
            return [mutant for mutant, alive in zip(mutants, results, strict=True) if alive]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def read_equivalent() -> set[tuple[str, str, str]]:
    """The keys of the mutants that were judged to change nothing."""
    with EQUIVALENT.open(encoding="utf-8", newline="") as file:
        return {(row["module"], row["function"], row["change"]) for row in csv.DictReader(file)}


def main() -> None:
    """Reads the command line, plants the faults and prints what came of them."""
    assert __doc__
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mutate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(TESTS)}")
    parser.add_argument("--most", type=int, metavar="N", help="mutants per module, drawn at random")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of that draw (default 0)")
    parser.add_argument(
        "--workers",
        type=int,
        default=available_cores(),
        metavar="N",
        help="how many run at once (default: one per core)",
    )
    chosen = parser.parse_args()
    for module in chosen.modules:
        if module not in TESTS:
            parser.error(f"MODULE: found {module}, expected one of {', '.join(TESTS)}")
    equivalent = read_equivalent()
    caught_in_all = survived_in_all = 0
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / str(number) for number in range(max(1, chosen.workers))]
        for folder in folders:
            scratch_copy(folder)
        for module in chosen.modules or TESTS:
            begun = time.monotonic()
            if not tests_pass(folders[0], module, None):
                sys.exit(f"{module}: its tests fail without any fault planted; see to them first.")
            seconds = 10 + 5 * (time.monotonic() - begun)
            mutants = mutants_of(module)
            judged = [mutant for mutant in mutants if mutant.key not in equivalent]
            known = len(judged)
            if chosen.most is not None and len(judged) > chosen.most:
                judged = random.Random(chosen.seed).sample(judged, chosen.most)
            survivors = survivors_of(judged, folders, seconds, module)
            caught = len(judged) - len(survivors)
            print(
                f"{module}: {caught} caught, {len(survivors)} survived, {len(mutants) - known} "
                "equivalent"
            )
            for mutant in sorted(survivors, key=lambda survivor: survivor.line):
                print(f"  line {mutant.line}, {mutant.function or 'module'}: {mutant.change}")
            caught_in_all += caught
            survived_in_all += len(survivors)
    share = caught_in_all / max(1, caught_in_all + survived_in_all)
    print(f"{caught_in_all} caught, {survived_in_all} survived: {100 * share:.1f} %")
    sys.exit(share < LEAST_CAUGHT)


if __name__ == "__main__":
    main()

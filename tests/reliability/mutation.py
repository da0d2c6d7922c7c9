"""Mutation testing of the kernel: break it in one place, run its tests, see whether they notice.

A mutator of our own, over `ast`: the kernel is small, a seed is to choose which mutants are tried, and each is to
run in a copy of the package, never in the checkout. Those that are maintained do it otherwise: cosmic-ray changes
files in place, mutmut puts every function behind another one, whose signature is not what ours are read from.

What is changed: comparisons, `and` and `or`, arithmetic, conditions (negated), constants, returned values (nothing
instead), statements (left out). Not: annotations, docstrings, the texts of errors, and what is only for checkers.
"""

from __future__ import annotations

import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
KERNEL = Path("durable") / "_kernel"

TESTS = (
    "tests/kernel",
    "tests/properties/test_rebuild.py",
    "tests/operations/test_step.py",
    "tests/operations/test_map.py",
    "tests/operations/test_child.py",
    "tests/operations/test_condition.py",
    "tests/saga/test_order.py",
    "tests/saga/test_reports.py",
    "tests/saga/test_savepoints_and_pivot.py",
    "tests/saga/test_deploys.py",
)
"""What is run against each mutant, on asyncio; the kernel's own tests of the module first."""

_QUICK = "not trio and not ten_thousand and not thirty_schedules"

SECONDS = 120
"""How long the tests of one mutant may take: many times what they need."""

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}


class Mutant(NamedTuple):
    """One change.

    Attributes:
        file: In which file, below the root.
        line: Where.
        what: What was changed into what.
        source: The whole file.
    """

    file: Path
    line: int
    what: str
    source: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


@dataclass
class _Site:
    """A place that can be changed: by replacing a field of a node, or a member of a list in it."""

    node: ast.AST
    line: int
    field: str
    index: int | None
    new: ast.AST


def mutants(file: Path) -> list[Mutant]:
    """Every mutant of a file."""
    tree = ast.parse((ROOT / file).read_text())
    found: list[Mutant] = []
    for site in _sites(tree):
        old = getattr(site.node, site.field)
        before = old if site.index is None else old[site.index]
        what = f"{_shown(before)} → {_shown(site.new)}"
        if site.index is None:
            setattr(site.node, site.field, site.new)
        else:
            old[site.index] = site.new
        found.append(Mutant(file, site.line, what, ast.unparse(ast.fix_missing_locations(tree))))
        if site.index is None:
            setattr(site.node, site.field, before)
        else:
            old[site.index] = before
    return found


def every_mutant() -> list[Mutant]:
    """Of all files of the kernel, in order."""
    files = sorted(path.relative_to(ROOT) for path in (ROOT / KERNEL).glob("*.py"))
    return [mutant for file in files for mutant in mutants(file)]


def _shown(node: ast.AST) -> str:
    if isinstance(node, (ast.operator, ast.cmpop, ast.boolop)):
        return type(node).__name__
    text = ast.unparse(node).splitlines()[0]
    return text if len(text) <= 60 else f"{text[:57]}..."


def _sites(tree: ast.Module) -> Iterator[_Site]:
    def visit(node: ast.AST) -> Iterator[_Site]:
        if _is_for_checkers(node):
            return
        yield from _at(node)
        for field, value in ast.iter_fields(node):
            if field in {"annotation", "returns", "decorator_list", "bases", "type_params"}:
                continue
            if isinstance(node, ast.Raise) or _is_docstring(node):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                    yield from visit(child)

    yield from visit(tree)


def _at(node: ast.AST) -> Iterator[_Site]:
    line = getattr(node, "lineno", 0)
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            if type(operator) in _SWAPS:
                yield _Site(node, line, "ops", index, _SWAPS[type(operator)]())
    if isinstance(node, (ast.BoolOp, ast.BinOp, ast.AugAssign)) and type(node.op) in _SWAPS:
        # `X | Y` is a type as often as not; it is not among them.
        yield _Site(node, line, "op", None, _SWAPS[type(node.op)]())
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        yield _Site(node, line, "test", None, ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.comprehension):
        for index, test in enumerate(node.ifs):
            yield _Site(node, test.lineno, "ifs", index, ast.UnaryOp(ast.Not(), test))
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield _Site(node, line, "value", None, ast.Constant(None))
    if not _is_docstring(node):
        yield from _below(node)


def _below(node: ast.AST) -> Iterator[_Site]:
    """Constants that become others, statements that are left out."""
    for field, value in ast.iter_fields(node):
        if field == "annotation":
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            where = index if isinstance(value, list) else None
            changed = _other(child.value) if isinstance(child, ast.Constant) else None
            if changed is not None:
                yield _Site(node, child.lineno, field, where, ast.Constant(changed))
            if _is_left_out(child):
                yield _Site(node, child.lineno, field, where, ast.Pass())


def _is_left_out(node: object) -> bool:
    return isinstance(node, (ast.Raise, ast.AugAssign)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Await, ast.Yield))
    )


def _other(value: object) -> str | float | None:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return f"{value}~"
    return None


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_for_checkers(node: ast.AST) -> bool:
    """Overloads, type aliases and variables, casts: nothing comes of them."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    if isinstance(node, ast.AnnAssign):
        return "TypeAlias" in ast.unparse(node.annotation)
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in {"TypeVar", "TypeVarTuple", "ParamSpec", "cast"}
    return False


# --- Running their tests -----------------------------------------------------------------------------------------


def judge(
    chosen: Sequence[Mutant], directory: Path, *, processes: int, tell: Callable[[str], None] = lambda _: None
) -> list[Mutant]:
    """Run the tests against each; those that they did not notice.

    Raises:
        AssertionError: The tests fail where nothing was changed.
    """
    lock = threading.Lock()
    rest = iter(chosen)
    survivors: list[Mutant] = []

    def some(number: int) -> None:
        place = _copy(directory / f"copy-{number}")
        assert _is_green(place, None), "the tests fail without a mutant"
        while True:
            with lock:
                mutant = next(rest, None)
            if mutant is None:
                return
            target = place / mutant.file
            before = target.read_text()
            target.write_text(mutant.source)
            try:
                survived = _is_green(place, mutant.file.stem)
            finally:
                target.write_text(before)
            with lock:
                if survived:
                    survivors.append(mutant)
                tell(f"{'survived' if survived else 'killed  '} {mutant}")

    with ThreadPoolExecutor(processes) as pool:
        for done in [pool.submit(some, number) for number in range(processes)]:
            done.result()
    return sorted(survivors, key=lambda mutant: (mutant.file, mutant.line, mutant.what))


def _copy(place: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("durable", "tests", "examples"):
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


def _is_green(place: Path, module: str | None) -> bool:
    """Whether the tests pass in that copy; one that takes too long has noticed."""
    own = f"tests/kernel/test_{module}.py"
    tests = [own, *TESTS] if module is not None and (place / own).exists() else [*TESTS]
    command = [
        sys.executable, "-c", _RUN, "-x", "-q", "-p", "no:cacheprovider", "-k", _QUICK, *tests,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1", "DURABLE_EXAMPLES": "20"}
    with subprocess.Popen(
        command,
        cwd=place,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            return process.wait(SECONDS) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return False


_RUN = """
import sys, pathlib, pytest, durable
assert pathlib.Path(durable.__file__).is_relative_to(pathlib.Path.cwd()), durable.__file__
sys.exit(pytest.main(sys.argv[1:]))
"""


def sample(most: int, seed: int) -> list[Mutant]:
    """So many of all mutants, in order."""
    every = every_mutant()
    if most >= len(every):
        return every
    chosen = set(random.Random(seed).sample(range(len(every)), most))
    return [mutant for number, mutant in enumerate(every) if number in chosen]

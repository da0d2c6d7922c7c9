"""Whatever Python there is: the linter never fails, and is quick."""

from __future__ import annotations

import ast
import random
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.lint import check_source, check_tree
from tests.lint.test_rules import BEGIN, CASES
from tests.properties.examples import EXAMPLES

STDLIB = Path(sysconfig.get_path("stdlib"))
SAMPLE = random.Random(1).sample(sorted(STDLIB.rglob("*.py")), 150)


@pytest.mark.parametrize("part", range(10))
def test_files_of_the_standard_library(part: int):
    """Also if each of their functions were durable; those that are no Python on purpose are told."""
    for path in SAMPLE[part::10]:
        source = path.read_bytes()
        assert [one for one in check_source(source) if one.code != "DUR001"] == [], path
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.args.args:
                node.args.args[-1].annotation = ast.copy_location(ast.Name("DurableContext", ast.Load()), node)
        tree.body.insert(0, ast.parse("from durable import DurableContext").body[0])
        check_tree(tree)


@EXAMPLES
@given(st.data())
def test_code_that_is_taken_apart(data: st.DataObject):
    """Any parts of the cases, in any order and nested in each other: only what does not parse is not looked at."""
    statements = [node for case in CASES.values() for node in ast.parse("if 1:\n" + case).body[0].body]  # type: ignore[attr-defined]
    chosen = data.draw(st.lists(st.sampled_from(statements), max_size=4))
    tree = ast.parse(BEGIN)
    for node in chosen:
        inside = [one for one in ast.walk(tree) if isinstance(getattr(one, "body", None), list)]
        place = data.draw(st.integers(0, len(inside) - 1))
        # A copy: a node is a part of one tree, in one place.
        inside[place].body.insert(0, ast.parse(ast.unparse(node)).body[0])  # type: ignore[attr-defined]
    check_tree(tree)
    check_source(ast.unparse(tree))


@pytest.mark.parametrize(
    "source",
    [
        "x = " + "+".join(["a"] * 5_000),
        "x = " + ".".join(["a"] * 5_000),
        "x = a" + "()" * 500,
        "\n".join(f"x{n + 1} = x{n}" for n in range(2_000)) + "\nx0.time()",
        "x = x.y\nx = x.z\ny = x or y\nwhile x:\n    x, y = y, x.parent\n    x = y.a(x)\n",
        "class A(B): ...\nclass B(A): ...\nclass C(C):\n    async def handle(self, event, ctx): ctx.wait(1)",
        "def f(): g()\ndef g(): f()\nasync def h(ctx: DurableContext): f()",
        "f = g\ng = f\nasync def h(ctx: DurableContext):\n    f()\n    await ctx.step(g)",
    ],
    ids=["sum", "attributes", "calls", "aliases", "itself", "bases", "functions", "names"],
)
def test_what_goes_on_without_end(source: str):
    """Long chains and circles come to an end."""
    begin = "from durable import DurableContext\n"
    used = "\nasync def work(ctx: DurableContext):\n    x(), x.time()\n    for y in x:\n        await ctx.step(x)\n"
    assert {one.code for one in check_source(begin + source + used)} <= {"DUR001", "DUR106"}

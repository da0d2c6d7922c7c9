"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

FUNCTIONS = """
    import pytest
    from durable import DurableContext, durable_execution
    from durable.testing import durable_test

    pytestmark = pytest.mark.anyio
    done = []

    async def do(what: str) -> str:
        done.append(what)
        return what

    @durable_execution
    async def two_steps(_event: None, ctx: DurableContext) -> list[str]:
        first = await ctx.step(do, "a", name="a")
        done.append("between")
        return [first, await ctx.step(do, "b", name="b")]
"""


@pytest.fixture(autouse=True)
def _functions(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(functions=FUNCTIONS)


def run(pytester: pytest.Pytester, test: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(test_it="from functions import *\n" + test)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)


PASSES = """
async def test_passes(anyio_backend):
    done.clear()
    async with durable_test(two_steps) as t:
        assert await (await t.start(None)).result() == ["a", "b"]
    assert done in (["a", "between", "b"], ["a", "between", "between", "b"])
    print("seen:", len(done))
"""


def test_without_an_option_nothing_is_replayed(pytester: pytest.Pytester):
    result = run(pytester, PASSES, "-s")
    result.assert_outcomes(passed=2)
    assert result.stdout.str().count("seen: 3") == 2


def test_always_replay_is_for_every_test(pytester: pytest.Pytester):
    result = run(pytester, PASSES, "-s", "--durable-always-replay")
    result.assert_outcomes(passed=2)
    assert result.stdout.str().count("seen: 4") == 2


SWEPT = """
@pytest.mark.durable_crash_sweep(pairs=10)
async def test_is_swept(anyio_backend):
    done.clear()
    async with durable_test(two_steps) as t:
        assert await (await t.start(None)).result() == ["a", "b"]
    assert done.count("a") {condition}
"""


def test_a_test_is_swept(pytester: pytest.Pytester):
    result = run(pytester, SWEPT.format(condition=">= 1"))
    result.assert_outcomes(passed=2)


def test_what_a_sweep_finds_fails_the_test(pytester: pytest.Pytester):
    result = run(pytester, SWEPT.format(condition="== 1"))
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*CrashSweepError: with a crash before call 1: AssertionError*"])


@pytest.mark.parametrize(
    ("test", "complaint"),
    [
        (
            "@pytest.mark.durable_crash_sweep\ndef test_plain(): pass",
            "test_it.py::test_plain is marked durable_crash_sweep, and is not an async function",
        ),
        (
            "@pytest.mark.durable_crash_sweep(5)\nasync def test_five(): pass",
            "durable_crash_sweep takes pairs= and limit=, and nothing else",
        ),
    ],
)
def test_a_marker_that_is_wrong(pytester: pytest.Pytester, test: str, complaint: str):
    result = run(pytester, test)
    assert complaint in result.stderr.str() + result.stdout.str()
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_the_marker_is_known(pytester: pytest.Pytester):
    result = pytester.runpytest_inprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.durable_crash_sweep(pairs=100, limit=60): *"])


def test_the_plugin_costs_nothing_where_it_is_not_used(pytester: pytest.Pytester):
    pytester.makepyfile(test_light="def test_light():\n import sys\n assert 'durable.testing' not in sys.modules")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


SEEDS = """
import trio
from durable.testing.conditions import conditions

def test_seeds():
    async def say(number, found):
        await trio.lowlevel.checkpoint()
        found.append(str(number))

    async def main():
        found = []
        async with trio.open_nursery() as nursery:
            for number in range(9):
                nursery.start_soon(say, number, found)
        return "".join(found)

    print("order:", trio.run(main), "faults:", conditions().faults)
"""


def test_seeds_are_for_every_test(pytester: pytest.Pytester):
    orders = []
    for _ in range(2):
        result = run(pytester, SEEDS, "-s", "--durable-schedule=4", "--durable-faults=7")
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["*order: * faults: 7*"])
        orders.append(next(line for line in result.outlines if "order:" in line))
    assert orders[0].split("order:")[1] == orders[1].split("order:")[1]

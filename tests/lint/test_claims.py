"""What the rules say of run time is so: bad examples fail as it is said there, good ones do not."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import anyio
import pytest

import durable
from durable import DurableFunction
from durable._wire import ExecutionStatus
from durable.abc import ExecutionRecord
from durable.lint import EXAMPLES_BEGIN, RULES
from durable.local import load_target, open_engine
from durable.testing import SkippingClock

pytestmark = pytest.mark.anyio

INPUTS = {str: "a", list[str]: ["a", "b"]}

CLAIMS = {
    rule.code: error
    for rule in RULES.values()
    for error in re.findall(r"`(\w+Error)`", rule.finds)
    # Raised where the code is suspended; the execution goes on after that.
    if error != "SuspendedError"
}
"""The errors that rules name."""

OUTSIDE = {"DUR104", "DUR202"}
"""Those whose good example needs somebody outside: a server, or someone who answers."""


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Any]:
    """Makes a durable function of an example."""
    before = list(sys.path)

    def load(code: str, example: str) -> DurableFunction[Any, Any]:
        path = tmp_path / f"example_{code.lower()}.py"
        path.write_text(EXAMPLES_BEGIN + example)
        function: DurableFunction[Any, Any] = load_target(f"{path}:order")
        return function

    yield load
    sys.path[:] = before
    for name in [name for name in sys.modules if name.startswith("example_dur")]:
        del sys.modules[name]


async def run(function: DurableFunction[Any, Any]) -> ExecutionRecord:
    async with open_engine(clock=SkippingClock()) as engine:
        event = INPUTS[get_type_hints(function.function)[_first(function)]]
        with anyio.fail_after(20):
            return await (await engine.start(function, event)).wait()


def _first(function: DurableFunction[Any, Any]) -> str:
    return next(iter(function.function.__annotations__))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what is never awaited says so too
@pytest.mark.parametrize("code", sorted(CLAIMS))
async def test_a_bad_example_fails_as_its_rule_says(code: str, load: Any, anyio_backend: str):
    """With the error that is named there, or one that is such an error."""
    if code == "DUR302" and anyio_backend == "trio":
        pytest.skip("the example is for asyncio")
    ended = await run(load(code, RULES[code].bad))
    assert ended.error is not None
    kind = getattr(durable, (ended.error.error_type or "").rpartition(".")[2])
    assert issubclass(kind, getattr(durable, CLAIMS[code]))


@pytest.mark.parametrize("code", sorted(set(RULES) - OUTSIDE))
async def test_a_good_example_does_what_it_should(code: str, load: Any):
    """It runs to its end."""
    ended = await run(load(code, RULES[code].good))
    assert (ended.status, ended.error) == (ExecutionStatus.SUCCEEDED, None)

"""One test, here or where the function is deployed: `durable dev` stands for AWS."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import anyio
import pytest

from durable import DurableContext, durable_execution
from durable._wire import ExecutionStatus, Timestamp
from durable._wire.calls import GetDurableExecutionResponse
from durable._wire.events import Event
from durable.testing import StuckError, durable_test
from durable.testing.cloud import CloudStarted, CloudTarget
from tests.server.dev import CREDENTIALS, Dev, served

pytest_plugins = ["pytester"]

FUNCTIONS = """
from durable import DurableContext, durable_execution

async def double(number: int) -> int:
    return 2 * number

async def send(callback_id: str) -> None:
    pass

@durable_execution
async def ask(number: int, ctx: DurableContext) -> int:
    doubled = await ctx.step(double, number, name="double")
    if doubled > 100:
        raise ValueError("too much")
    return doubled + await ctx.wait_for_callback(send, int, name="answer")
"""

TESTS = """
import pytest
from durable.testing import History, NotOnTargetError, StuckError, durable_test
from functions import ask

pytestmark = pytest.mark.anyio

async def test_answered_by_hand(anyio_backend):
    async with durable_test(ask) as t:
        run = await t.start(4)
        await (await run.callback("answer")).succeed(1)
        assert await run.result() == 9
        assert [operation.name for operation in await run.operations()][:2] == ["double", "answer"]
        assert (await run.operation("double")).result == "8"
        assert {event.event_type for event in await run.history()} >= {"ExecutionStarted", "StepSucceeded"}
        assert await run.status() == "SUCCEEDED"
        print("ran on", t.target)

async def test_answered_by_itself(anyio_backend):
    async with durable_test(ask) as t:
        t.on_callback("answer", 2)
        assert await (await t.start(4)).result() == 10

async def test_fails(anyio_backend):
    async with durable_test(ask) as t:
        error = await (await t.start(400)).error()
        assert isinstance(error, ValueError)
        assert str(error) == "too much"
"""

ONLY_HERE = """
async def test_only_here(anyio_backend):
    async with durable_test(ask) as t:
        for act in (
            lambda: t.clock,
            lambda: t.engine,
            lambda: t.fail_step("double", ValueError),
            lambda: t.stub_invoke("a"),
            lambda: t.register(ask),
        ):
            with pytest.raises(NotOnTargetError, match="is not possible with executions that run on aws:ask"):
                act()
        with pytest.raises(NotOnTargetError):
            await t.start(4, history=History())
        with pytest.raises(NotOnTargetError):
            await t.crash()
        run = await t.start(4)
        with pytest.raises(NotOnTargetError):
            run.assert_no_records()
        await (await run.callback("answer")).succeed(1)
"""


@pytest.fixture
def dev(tmp_path: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Generator[Dev]:
    pytester.makepyfile(functions=FUNCTIONS)
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    with served(tmp_path, "functions.py") as dev:
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", dev.url)
        yield dev


def run(pytester: pytest.Pytester, tests: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(test_it=tests)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-s", *arguments)


@pytest.mark.process
def test_the_same_tests_here_and_there(pytester: pytest.Pytester, dev: Dev):
    here = run(pytester, TESTS)
    here.assert_outcomes(passed=6)
    assert here.stdout.str().count("ran on local") == 2
    assert len(dev.client.list_durable_executions_by_function(FunctionName="ask")["DurableExecutions"]) == 0
    there = run(pytester, TESTS + ONLY_HERE, "--durable-target", "aws:{name}")
    there.assert_outcomes(passed=8)
    assert there.stdout.str().count("ran on aws:ask") == 2
    assert len(dev.client.list_durable_executions_by_function(FunctionName="ask")["DurableExecutions"]) == 8


@pytest.mark.process
def test_a_target_that_is_none(pytester: pytest.Pytester):
    pytester.makepyfile(functions=FUNCTIONS)
    result = run(pytester, TESTS, "--durable-target", "gcp:ask")
    result.assert_outcomes(failed=6)
    result.stdout.fnmatch_lines(["*ValueError: 'gcp:ask' is no target: it is aws:FUNCTION*"])


class OneHistory:
    """A control plane with one execution, in which nothing changes."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events

    async def execution(self, arn: str) -> GetDurableExecutionResponse:
        return GetDurableExecutionResponse(
            durable_execution_arn=arn,
            durable_execution_name="one",
            function_arn="arn:aws:lambda:eu-west-1:123456789012:function:ask:1",
            start_timestamp=Timestamp(0),
            status=ExecutionStatus.RUNNING,
        )

    async def history(self, _arn: str, after: int = 0) -> list[Event]:
        return self.events[after:]


@durable_execution
async def wait_long(which: str, ctx: DurableContext) -> None:
    callback = await ctx.create_callback(str, name="answer")
    if which == "callback":
        await callback.result()
    await ctx.wait(86_400, name="long")


@pytest.mark.anyio
async def test_an_execution_over_there_that_waits_for_nobody_is_stuck():
    async def events_of(which: str) -> list[Event]:
        async with durable_test(wait_long) as t:
            run = await t.start(which)
            await run.callback("answer")
            await t.clock.sleep(1)
            return list(await run.history())

    def started(events: list[Event]) -> CloudStarted:
        target = CloudTarget(OneHistory(events), "ask", patience=0.0)  # type: ignore[arg-type]
        return CloudStarted(target, "arn:aws:lambda:e:1:function:ask:1/durable-execution/one/1", wait_long)

    with pytest.raises(StuckError, match=r"'one' is not over .* callback 'answer'"):
        await started(await events_of("callback")).wait()
    # What has a time of its own goes on.
    with anyio.move_on_after(0.4) as scope:
        await started(await events_of("wait")).wait()
    assert scope.cancelled_caught

"""Whole processes against a Runtime API: our runtime, and AWS's own with the handler; cold, warm, and killed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process

from durable._wire import ErrorObject, InvocationOutput, InvocationStatus
from durable.aws import runtime
from durable.exceptions import NotDurableError, TargetNotFoundError
from tests.aws import app
from tests.aws.harness import AwsHarness
from tests.aws.runtime_api import Answer, FakeRuntimeApi

pytestmark = [pytest.mark.anyio, pytest.mark.process]

ROOT = Path(__file__).parent.parent.parent

PENDING = InvocationOutput(status=InvocationStatus.PENDING)

OURS = ["-m", "durable.aws.runtime"]
AWS = ["-m", "awslambdaric"]
needs_awslambdaric = pytest.mark.skipif(
    importlib.util.find_spec("awslambdaric") is None, reason="awslambdaric is for Linux only"
)
CASES = [
    (OURS, "tests.aws.app:on_asyncio"),
    (OURS, "tests.aws.app:on_trio"),
    pytest.param(AWS, "tests.aws.app.on_asyncio", marks=needs_awslambdaric),
    pytest.param(AWS, "tests.aws.app.on_trio", marks=needs_awslambdaric),
]


class Lambda:
    """The service, the Runtime API, and sandboxes."""

    def __init__(self, harness: AwsHarness, api: FakeRuntimeApi, environment: dict[str, str]) -> None:
        self.harness = harness
        self.api = api
        self.environment = environment

    @asynccontextmanager
    async def sandbox(self, *arguments: str) -> AsyncGenerator[Process]:
        """A process that runs a function."""
        process = await anyio.open_process(
            [sys.executable, *arguments], cwd=ROOT, env={**os.environ, **self.environment}, stdout=None, stderr=None
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            with anyio.CancelScope(shield=True):
                await process.aclose()

    async def invoke(self) -> InvocationOutput | ErrorObject:
        """One invocation of the execution."""
        event = await self.harness.service.begin_invocation(self.harness.record.id)
        answer = await self.api.invoke_durable(event)
        await self.harness.service.end_invocation(self.harness.record.id, answer)
        return answer

    async def skip(self) -> None:
        """Let the time come at which there is something to do."""
        due = await self.harness.service.next_due(self.harness.record.id)
        assert due is not None
        await self.harness.clock.sleep_until(due)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the functions write."""
    monkeypatch.setenv("APP_LOG", str(tmp_path / "log"))


@asynccontextmanager
async def aws(order: app.Order) -> AsyncGenerator[Lambda]:
    """All of Lambda, with an execution."""
    harness = AwsHarness(app.on_asyncio, order)
    await harness.service.create(harness.record)
    api = FakeRuntimeApi()
    async with harness.fake.serve() as url, api.serve() as address:
        environment = {
            "AWS_LAMBDA_RUNTIME_API": address,
            "AWS_ENDPOINT_URL_LAMBDA": url,
            "AWS_LAMBDA_FUNCTION_NAME": "f",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_LOG_GROUP_NAME": "g",
            "AWS_LAMBDA_LOG_STREAM_NAME": "s",
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
            "LAMBDA_TASK_ROOT": str(ROOT),
        }
        with anyio.fail_after(60):
            yield Lambda(harness, api, environment)
    assert harness.fake.violations == []


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(("program", "target"), CASES)
async def test_a_saga_in_one_sandbox_cold_and_warm(program: list[str], target: str):
    """The first invocation is suspended, the second ends it, by the same process over the same connection."""
    async with aws(app.Order("seat")) as lambda_, lambda_.sandbox(*program, target):
        first = await lambda_.invoke()
        await lambda_.skip()
        second = await lambda_.invoke()
    assert first == PENDING
    assert isinstance(second, InvocationOutput)
    assert second.status == "SUCCEEDED"
    told = json.loads(second.result or "")
    assert told["request"] == "request-1"
    assert told["in time"] is True
    assert told["backend"] == target.rpartition("_")[2]
    assert told["trace"] == "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700"
    if program is OURS:
        assert told["thread"] == "MainThread"
    assert lambda_.harness.fake.connections == 1
    assert [line.split()[0] for line in app.lines()] == ["reserve", "pay"]


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(("program", "target"), CASES)
async def test_an_invocation_that_lambda_cut_off_is_resumed_as_after_a_crash(program: list[str], target: str):
    """Killed in the middle of a step: another sandbox runs the step again, and goes on."""
    async with aws(app.Order("seat", dies=True)) as lambda_:
        async with lambda_.sandbox(*program, target) as process:
            event = await lambda_.harness.service.begin_invocation(lambda_.harness.record.id)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda_.api.invoke_durable, event)
                assert await process.wait() == -signal.SIGKILL
                tasks.cancel_scope.cancel()
        await lambda_.harness.service.end_invocation(
            lambda_.harness.record.id, ErrorObject(error_type="Sandbox.Timedout")
        )
        async with lambda_.sandbox(*program, target):
            assert await lambda_.invoke() == PENDING
            await lambda_.skip()
            last = await lambda_.invoke()
    assert isinstance(last, InvocationOutput)
    assert last.status == "SUCCEEDED"
    reserved = [line for line in app.lines() if line.startswith("reserve")]
    assert len(reserved) == len(set(reserved)) == 2


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(("program", "target"), [CASES[1], CASES[2]])
async def test_an_event_that_is_none_does_not_end_the_sandbox(program: list[str], target: str):
    """Lambda is told what is wrong, and the next invocation is answered."""
    async with aws(app.Order("seat")) as lambda_, lambda_.sandbox(*program, target):
        wrong = await lambda_.api.invoke(b'{"what": "seat"}')
        right = await lambda_.invoke()
    assert wrong.is_error
    assert wrong.body["errorType"].endswith("NotDurableInvocationError")
    assert "DurableConfig" in wrong.body["errorMessage"]
    assert right == PENDING


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(
    ("target", "kind"),
    [("tests.aws.nowhere:f", "TargetNotFoundError"), ("tests.aws.app:note", "NotDurableError")],
)
async def test_a_function_that_cannot_be_loaded_is_an_error_of_the_start(target: str, kind: str):
    """Lambda is told at INIT, and the process ends."""
    async with aws(app.Order("seat")) as lambda_, lambda_.sandbox(*OURS, target) as process:
        answer: Answer = await lambda_.api.started()
        assert await process.wait() == 1
    assert answer.request_id is None
    assert answer.body["errorType"] == f"durable.exceptions.{kind}"


async def test_the_runtime_says_how_it_is_used():
    """Outside of Lambda there is no Runtime API."""
    environment = {name: value for name, value in os.environ.items() if name != "AWS_LAMBDA_RUNTIME_API"}
    done = await anyio.run_process([sys.executable, *OURS, "app:f"], check=False, env=environment, cwd=ROOT)
    assert done.returncode == 2
    assert b"durable run" in done.stderr


@pytest.mark.parametrize("form", ["tests.aws.app:on_trio", "tests.aws.app.on_trio", "tests/aws/app.on_trio"])
def test_targets_in_our_form_and_in_lambdas(form: str):
    """`module:function`, and what `_HANDLER` has."""
    assert runtime.load(form) is app.on_trio


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("nothing", TargetNotFoundError),
        ("tests.aws.app:", TargetNotFoundError),
        ("tests.aws.app:nothing", TargetNotFoundError),
        ("tests.aws.app:Order", NotDurableError),
    ],
)
def test_targets_that_are_none(target: str, expected: type[Exception]):
    """The error names the target."""
    with pytest.raises(expected, match=target.replace(".", r"\.")):
        runtime.load(target)


async def test_an_answer_that_the_runtime_api_refuses_is_told():
    """Too large, as it says: that invocation is an error, the runtime goes on."""
    from tests.aws.http import Reply, Request, serve

    asked: list[Request] = []

    async def answer(request: Request) -> Reply:
        asked.append(request)
        if request.target.endswith("/next"):
            if len(asked) > 1:
                await anyio.sleep_forever()
            return Reply(b"{}", 200, (("Lambda-Runtime-Aws-Request-Id", "r-1"),))
        return Reply(b"{}", 413 if request.target.endswith("/response") else 202)

    async with serve(answer) as address, runtime.RuntimeApi(address) as api:
        invocation = await api.next()
        assert invocation.info.request_id == "r-1"
        assert invocation.info.deadline is None
        with pytest.raises(runtime.RuntimeApiError, match="413"):
            await api.respond("r-1", b"{}")
        await api.fail("invocation/r-1", ValueError("é"))
    body: dict[str, Any] = json.loads(asked[-1].body)
    assert body["errorMessage"] == "é"
    assert asked[-1].headers["lambda-runtime-function-error-type"] == "Runtime.ValueError"

"""The Lambda handler: called synchronously, as Lambda does, on an event loop that stays."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import anyio.from_thread
import pytest

from durable import DurableContext, DurableFunction, ServiceError, durable_execution
from durable._wire import InvocationOutput
from durable._wire.codec import INVOCATION_INPUT, INVOCATION_OUTPUT
from durable.aws import NotDurableInvocationError, make_handler, tls
from durable.aws.handler import LambdaHandler, prepare
from durable.aws.sandbox import Sandbox, ThreadLoop
from durable.aws.untyped import AioConfig
from tests.aws import app
from tests.aws.fake_lambda import error
from tests.aws.harness import AwsHarness, impatient

Backend = Literal["asyncio", "trio"]
Handler = LambdaHandler


class Context:
    """Lambda's context object, as far as it is looked at."""

    def __init__(self, number: int = 1, seconds: float = 20) -> None:
        self.aws_request_id = f"request-{number}"
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self._seconds * 1000)


class Platform:
    """Lambda, in a thread of its own: invokes the handler in this one."""

    def __init__(self, portal: Any, harness: AwsHarness, handler: Handler, url: str) -> None:
        self.url = url
        self.portal = portal
        self.harness = harness
        self.handler = handler
        self.invocations = 0

    def event(self) -> dict[str, Any]:
        """The event of the next invocation, as a runtime parses it."""
        if not self.invocations:
            self.portal.call(self.harness.service.create, self.harness.record)
        self.invocations += 1
        event = self.portal.call(self.harness.service.begin_invocation, self.harness.record.id)
        parsed: dict[str, Any] = json.loads(INVOCATION_INPUT.encode(event))
        return parsed

    def invoke(self) -> InvocationOutput:
        """One invocation."""
        event = self.event()
        answer = json.loads(json.dumps(self.handler(event, Context(self.invocations))))
        output = INVOCATION_OUTPUT.convert(answer)
        assert self.portal.call(self.harness.service.end_invocation, self.harness.record.id, output)
        return output

    def skip(self) -> None:
        """Let the time come at which there is something to do."""
        due = self.portal.call(self.harness.service.next_due, self.harness.record.id)
        self.portal.call(self.harness.clock.sleep_until, due)


@contextmanager
def platform(function: DurableFunction[Any, Any], event: Any, config: Any = None) -> Iterator[Platform]:
    """A function's handler and an execution of it."""
    with anyio.from_thread.start_blocking_portal() as portal:
        harness = portal.call(AwsHarness.create, function, event)
        with portal.wrap_async_context_manager(harness.fake.serve()) as url:
            handler = make_handler(function, endpoint_url=url, config=config or impatient())
            try:
                yield Platform(portal, harness, handler, url)
            finally:
                handler.close()
        assert harness.fake.violations == []


@pytest.fixture(params=["asyncio", "trio"])
def function(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same durable function for each event loop."""
    monkeypatch.setenv("APP_LOG", str(tmp_path / "log"))
    return app.FUNCTIONS[request.param]


def test_a_saga_runs_by_the_handler(function: DurableFunction[Any, Any]):
    """Suspended at the wait, resumed by the next invocation; the step knew its request and its time left."""
    with platform(function, app.Order("seat")) as lambda_:
        assert lambda_.invoke().status == "PENDING"
        lambda_.skip()
        output = lambda_.invoke()
    assert output.status == "SUCCEEDED"
    told = json.loads(output.result or "")
    assert told["request"] == "request-1"
    assert told["in time"] is True
    assert told["backend"] == function.backend
    assert [line.split()[0] for line in app.lines()] == ["reserve", "pay"]


def test_the_loop_and_the_client_stay(function: DurableFunction[Any, Any]):
    """Warm: the second invocation has the connection of the first."""
    with platform(function, app.Order("seat")) as lambda_:
        lambda_.invoke()
        lambda_.skip()
        lambda_.invoke()
        assert len(lambda_.harness.fake.requests) > 1
        assert lambda_.harness.fake.connections == 1


def test_asyncio_runs_in_the_calling_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No thread between Lambda and the function."""
    monkeypatch.setenv("APP_LOG", str(tmp_path / "log"))
    with platform(app.on_asyncio, app.Order("seat")) as lambda_:
        lambda_.invoke()
        operation = lambda_.harness.operation("reserve")
    assert json.loads(operation.result or "")["thread"] == "MainThread"


def test_a_failure_is_answered(function: DurableFunction[Any, Any]):
    """What the function raises, after its rollback, is the execution's outcome."""
    with platform(function, app.Order("seat", fails=True)) as lambda_:
        lambda_.invoke()
        lambda_.skip()
        output = lambda_.invoke()
    assert output.status == "FAILED"
    assert output.error is not None
    assert output.error.error_type == "tests.aws.app.SoldOutError"
    assert [line.split()[0] for line in app.lines()] == ["reserve", "release"]


def test_what_may_pass_is_raised(function: DurableFunction[Any, Any]):
    """Throttled in every attempt: Lambda is to invoke again, and the execution goes on then."""
    with platform(function, app.Order("seat")) as lambda_:
        lambda_.harness.fake.fault = lambda _: error(429, "TooManyRequestsException", "Rate exceeded")
        with pytest.raises(ServiceError) as caught:
            lambda_.invoke()
        assert caught.value.retryable
        lambda_.harness.fake.fault = lambda _: None
        assert lambda_.invoke().status == "PENDING"


def test_what_will_not_pass_fails_the_execution(function: DurableFunction[Any, Any]):
    """A call that is refused for good is the execution's failure."""
    with platform(function, app.Order("seat")) as lambda_:
        lambda_.harness.fake.fault = lambda _: error(403, "AccessDeniedException", "no")
        output = lambda_.invoke()
    assert output.status == "FAILED"
    assert output.error is not None
    assert output.error.error_message == "AccessDeniedException: no"


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"what": "seat"}, "a dict without DurableExecutionArn and CheckpointToken"),
        ({}, "a dict without"),
        (None, "a value of type NoneType"),
        ([1], "a value of type list"),
        ("text", "a value of type str"),
        ({"DurableExecutionArn": 1, "CheckpointToken": "dA=="}, "has a DurableExecutionArn but is not valid"),
    ],
)
def test_an_event_that_is_no_durable_invocation(event: Any, found: str):
    """The error says what came, and how durable execution is enabled; nothing is opened or run."""
    with pytest.raises(NotDurableInvocationError) as caught:
        app.on_asyncio(event, Context())
    assert found in str(caught.value)
    assert "on_asyncio is a durable function" in str(caught.value)
    assert "DurableConfig" in str(caught.value)


def test_a_context_is_not_needed(function: DurableFunction[Any, Any]):
    """Without Lambda's context object nothing is known of time and request, and the function runs."""

    @durable_execution(backend=function.backend)
    async def plain(event: int, ctx: DurableContext) -> int:
        return event + 1

    with platform(plain, 1) as lambda_:
        output = INVOCATION_OUTPUT.convert(lambda_.handler(lambda_.event(), None))
    assert output.result == "2"


@pytest.mark.parametrize("text", ["a" * 6_291_430, '"' * 2_000_000, "é" * 1_500_000, "\U0001f600" * 700_000])
def test_the_answer_fits_into_lambdas_six_megabytes(text: str):
    """However a runtime escapes it: a result that would be too large in the answer is recorded before it."""

    @durable_execution
    async def large(event: None, ctx: DurableContext) -> str:
        return text

    with platform(large, None, AioConfig(read_timeout=30)) as lambda_:
        answer = lambda_.handler(lambda_.event(), Context())
    assert len(json.dumps(answer)) <= 6 * 1024 * 1024
    assert answer == {"Status": "SUCCEEDED", "Result": ""}
    assert len(lambda_.harness.fake.requests) == 1


def test_one_sandbox_after_the_other_for_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The function itself is the handler, with the client that the environment says."""
    from durable.aws import handler

    monkeypatch.setenv("APP_LOG", str(tmp_path / "log"))
    with platform(app.on_asyncio, app.Order("seat")) as lambda_:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", lambda_.url)
        answer = app.on_asyncio(lambda_.event(), Context())
        handler._sandbox("asyncio").close()
    assert answer == {"Status": "PENDING"}


def test_what_the_first_invocation_needs_is_loaded_before_it():
    """INIT has a whole processor, and is not part of what a caller waits for when there is room for it before."""
    code = (
        "import sys, durable.aws.handler; "
        "print(*(name in sys.modules for name in ('durable._engine.invocation', 'durable._operations.step')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"]


def test_a_decorated_function_in_lambda_prepares_its_client(monkeypatch: pytest.MonkeyPatch):
    """At INIT, when the module is imported; what goes wrong there does not break the import."""
    prepared: list[str] = []
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
    monkeypatch.setattr(Sandbox, "prepare", lambda sandbox: prepared.append(sandbox._backend))

    @durable_execution(backend="trio")
    async def flow(event: None, ctx: DurableContext) -> None: ...

    assert prepared == ["trio"]
    assert flow.backend == "trio"

    def broken(_: object) -> None:
        raise RuntimeError("no region")

    monkeypatch.setattr(Sandbox, "prepare", broken)
    durable_execution(flow.function)


@pytest.mark.parametrize("collects", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_the_garbage_collector_is_as_it_was_after_the_client_is_prepared(
    collects: bool, fails: bool, monkeypatch: pytest.MonkeyPatch
):
    """It rests meanwhile, and leaves alone what was loaded; whoever has switched it off finds it off."""

    def check(_: object) -> None:
        assert not gc.isenabled()
        if fails:
            raise RuntimeError("no region")

    monkeypatch.setattr(Sandbox, "prepare", check)
    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        prepare("asyncio")
        assert gc.isenabled() is collects
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()
        (gc.enable if before else gc.disable)()


def test_tls_settings_that_are_begun_early_are_those_that_are_asked_for(monkeypatch: pytest.MonkeyPatch):
    """They are made once; whoever asks while they are being made waits for them. A broken file is told later."""
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    tls.load_early()
    for thread in threading.enumerate():
        if thread.name == "durable-tls":
            thread.join()
    known = tls._tls_context.cache_info().hits
    assert tls.tls_context(True, None) is tls.tls_context(True, None)
    assert tls._tls_context.cache_info().hits == known + 2
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent/ca.pem")
    tls.load_early()
    for thread in threading.enumerate():
        if thread.name == "durable-tls":
            thread.join()
    with pytest.raises(OSError, match="No such file"):
        tls.tls_context("/nonexistent/ca.pem", None)


async def _call_inside(handler: Handler, event: Any) -> None:
    handler(event, Context())


def test_called_from_inside_of_an_event_loop():
    """Lambda calls a handler synchronously: who calls it elsewhere is told what to do instead."""
    with platform(app.on_asyncio, app.Order("seat")) as lambda_:
        lambda_.handler.prepare()
        with pytest.raises(RuntimeError, match="start the function on an engine"):
            asyncio.run(_call_inside(lambda_.handler, lambda_.event()))


def test_an_event_loop_that_is_not_installed():
    """It is an error that names it, and not a sandbox that hangs."""
    with pytest.raises(RuntimeError, match="no event loop of curio"):
        ThreadLoop("curio")  # type: ignore[arg-type]


def test_an_answer_is_plain_data():
    """Whatever encodes it: dicts, strings and nothing else."""

    @durable_execution
    async def fails(event: None, ctx: DurableContext) -> None:
        raise ValueError("x")

    with platform(fails, None) as lambda_:
        answer = lambda_.handler(lambda_.event(), Context())
    assert set(answer) == {"Status", "Error"}
    assert type(answer["Status"]) is str
    assert json.loads(json.dumps(answer))["Error"]["ErrorMessage"] == "x"

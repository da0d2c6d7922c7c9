"""The Runtime API: invocations of functions whose code is in another process."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from starlette.testclient import TestClient

from durable.local import Engine, open_engine
from durable.server.app import make_app
from durable.server.remote import RemoteFunction
from durable.testing import SkippingClock

from .conftest import Api

RUNTIME = "http://127.0.0.1:9001/2018-06-01/runtime"
PORT = 9001


class Served:
    """A server with a remote function, and its process: a thread of the test."""

    def __init__(self, client: TestClient, function: RemoteFunction) -> None:
        self.client = client
        self.function = function
        self.api = Api(client)
        self.events: list[Any] = []

    def fail(self, why: str) -> None:
        """The process has ended."""
        portal = self.client.portal
        assert portal is not None
        portal.call(self.function.fail, why)

    def take(self) -> tuple[str, Any]:
        """The next invocation: its id, and the event."""
        answer = self.client.get(f"{RUNTIME}/invocation/next")
        assert answer.status_code == 200
        self.events.append(answer.json())
        assert answer.headers["Lambda-Runtime-Invoked-Function-Arn"].endswith(":function:far:1")
        assert int(answer.headers["Lambda-Runtime-Deadline-Ms"]) > 0
        return answer.headers["Lambda-Runtime-Aws-Request-Id"], answer.json()

    def answer(self, request_id: str, body: Any, kind: str = "response") -> int:
        """Answer an invocation; the status of that."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(f"{RUNTIME}/invocation/{request_id}/{kind}", content=content).status_code

    @contextmanager
    def process(self, work: Callable[[], None]) -> Generator[None]:
        """Run the process beside the block."""
        failed: list[BaseException] = []

        def run() -> None:
            try:
                work()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            thread.join(10)
        assert not thread.is_alive()
        assert failed == []


@pytest.fixture(params=["asyncio", "trio"])
def served(request: pytest.FixtureRequest) -> Generator[Served]:
    """On each event loop."""
    function = RemoteFunction("far", timeout=0.5 if "slow" in request.node.name else 30)

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Engine]:
        async with open_engine(clock=SkippingClock()) as engine:
            engine.register(function)
            yield engine

    app = make_app(opened, runtimes={PORT: function})
    with TestClient(app, base_url="http://127.0.0.1", backend=request.param) as client:
        yield Served(client, function)


def test_an_invocation_is_handed_out_and_answered(served: Served):
    """The event is a durable invocation's; what is answered is the outcome."""

    def work() -> None:
        request_id, event = served.take()
        assert event["InitialExecutionState"]["Operations"][0]["ExecutionDetails"]["InputPayload"] == '{"a": 1}'
        assert served.answer(request_id, {"Status": "SUCCEEDED", "Result": "7"}) == 202

    with served.process(work):
        answer = served.api.invoke("far", {"a": 1})
    assert (answer.raw.json(), answer.parsed["DurableExecutionArn"]) == (7, served.events[0]["DurableExecutionArn"])


def test_its_process_records_by_the_same_server(served: Served):
    """A step, with the token of the event; the next call needs the next token."""

    def work() -> None:
        request_id, event = served.take()
        update = {"Id": "1", "Type": "STEP", "SubType": "Step", "Name": "s"}
        call = {"DurableExecutionArn": event["DurableExecutionArn"], "CheckpointToken": event["CheckpointToken"]}
        both = [{**update, "Action": "START"}, {**update, "Action": "SUCCEED", "Payload": "1"}]
        answered = served.api("CheckpointDurableExecution", **call, Updates=both, ClientToken="c-1")
        assert [one["Status"] for one in answered["NewExecutionState"]["Operations"]] == ["SUCCEEDED"]
        again = served.api("CheckpointDurableExecution", **call, Updates=both, ClientToken="c-1")
        assert again["CheckpointToken"] == answered["CheckpointToken"]
        state = served.api("GetDurableExecutionState", **{**call, "CheckpointToken": answered["CheckpointToken"]})
        assert [one["Type"] for one in state["Operations"]] == ["EXECUTION", "STEP"]
        served.answer(request_id, {"Status": "SUCCEEDED", "Result": "1"})

    with served.process(work):
        arn = served.api.run("far")
    events = served.api("GetDurableExecutionHistory", DurableExecutionArn=arn)["Events"]
    assert [event["EventType"] for event in events][1:3] == ["StepStarted", "StepSucceeded"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("error", {"errorType": "TypeError", "errorMessage": "x is undefined", "stackTrace": []}),
        ("error", b"not json"),
        ("error", b""),
        ("response", b"not json"),
        ("response", {"statusCode": 200}),
    ],
)
def test_an_invocation_that_fails_is_repeated(served: Served, kind: str, body: Any):
    """Whatever the process answered; the second one may succeed, and history tells of the first."""

    def work() -> None:
        request_id, _ = served.take()
        assert served.answer(request_id, body, kind) == 202
        request_id, _ = served.take()
        served.answer(request_id, {"Status": "SUCCEEDED"})

    with served.process(work):
        arn = served.api.run("far")
    events = served.api("GetDurableExecutionHistory", DurableExecutionArn=arn)["Events"]
    (failed, fine) = [
        event["InvocationCompletedDetails"] for event in events if "InvocationCompletedDetails" in event
    ]
    assert "Error" in failed
    assert "Error" not in fine
    if isinstance(body, dict) and kind == "error":
        told = failed["Error"]["Payload"]
        assert (told["ErrorType"], told["ErrorMessage"]) == ("TypeError", "x is undefined")


def test_a_slow_invocation_is_given_up_and_repeated(served: Served):
    """What the first one answers then is refused."""

    def work() -> None:
        late, _ = served.take()
        request_id, _ = served.take()
        assert served.answer(request_id, {"Status": "SUCCEEDED", "Result": "2"}) == 202
        assert served.answer(late, {"Status": "SUCCEEDED", "Result": "1"}) == 400

    with served.process(work):
        assert served.api.invoke("far").raw.json() == 2


def test_a_process_that_ends_has_failed(served: Served):
    """What it was handed goes to the next one, at once; history tells of it as on Lambda."""

    def work() -> None:
        served.take()
        served.fail("killed")
        request_id, _ = served.take()
        served.answer(request_id, {"Status": "SUCCEEDED", "Result": "2"})

    with served.process(work):
        arn = served.api.run("far")
    failed = served.api("GetDurableExecutionHistory", DurableExecutionArn=arn)["Events"][1]
    error = failed["InvocationCompletedDetails"]["Error"]["Payload"]
    assert (error["ErrorType"], error["ErrorMessage"]) == ("Runtime.ExitError", "far: killed")
    assert served.api("GetDurableExecution", DurableExecutionArn=arn)["Result"] == "2"


def test_a_process_that_cannot_be_initialized(served: Served, caplog: pytest.LogCaptureFixture):
    """It is said why, and what was handed out fails."""
    answer = served.client.post(f"{RUNTIME}/init/error", content=b'{"errorType": "A", "errorMessage": "no module"}')
    assert answer.status_code == 202
    assert "far cannot be initialized: A: no module" in caplog.text
    caplog.clear()


def test_an_invocation_nobody_knows(served: Served):
    """Is refused, whatever is said of it."""
    for kind in ("response", "error"):
        assert served.answer("none", {}, kind) == 400


def test_the_api_and_the_runtime_are_at_different_ports(served: Served):
    """Neither is at the other's."""
    assert served.client.get("http://127.0.0.1:9000/2018-06-01/runtime/invocation/next").status_code == 404
    assert (
        served.client.get(f"http://127.0.0.1:{PORT}/2025-12-01/functions/far/durable-executions").status_code == 404
    )
    assert served.client.get(f"{RUNTIME}/invocation/next", headers={"Host": "evil.example"}).status_code == 403

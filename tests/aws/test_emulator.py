"""A second opinion: AWS's own local emulator keeps the executions, our handler and client do the work, over HTTP.

The emulator (`aws-durable-execution-sdk-python-testing`) is a process of its own, with dependencies of its own:
`nox -s contract` installs it where `DURABLE_EMULATOR` then says.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import anyio
import anyio.to_thread
import httpcore2
import pytest

from durable import DurableContext, DurableFunction, Retry, durable_execution
from durable.aws import make_handler
from durable.local import load_target
from tests.aws.http import Reply, Request, serve

EMULATOR = os.environ.get("DURABLE_EMULATOR") or shutil.which("dex-local-runner")
EXAMPLES = Path(__file__).parent.parent.parent / "examples"
TRIP = {"traveller": "Ada", "hotel": "H", "flight": "F", "car": "C", "pace": 0.0}

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.process,
    pytest.mark.skipif(EMULATOR is None, reason="AWS's emulator is not installed; `nox -s contract` does"),
]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The emulator, running; gives its URL. Time is skipped: nobody waits for a wait."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    log = tmp_path_factory.mktemp("emulator") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(EMULATOR), "start-server", "--host", "127.0.0.1", "--port", port, "--skip-time"],
            env=os.environ | CREDENTIALS,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_for(process, int(port), log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


CREDENTIALS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_EC2_METADATA_DISABLED": "true"}


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < until, log.read_text(encoding="utf-8")
            time.sleep(0.05)
        else:
            return


class Context:
    """Lambda's context object."""

    aws_request_id = "request-1"

    def get_remaining_time_in_millis(self) -> int:
        return 20_000


class Emulated:
    """A function on the emulator, which invokes its handler at an endpoint of ours."""

    def __init__(self, function: DurableFunction[Any, Any], emulator: str) -> None:
        self._handler = make_handler(function, endpoint_url=emulator)
        self._emulator = emulator
        self._pool = httpcore2.AsyncConnectionPool()
        self._endpoint = ""
        # What the handler answered: the status of each invocation.
        self.answered: list[str] = []
        self.has_answered = anyio.Event()

    @asynccontextmanager
    async def served(self) -> AsyncGenerator[Emulated]:
        """Take invocations."""
        async with self._pool, serve(self._invoke) as address:
            self._endpoint = f"http://{address}"
            try:
                yield self
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._handler.close)

    async def _invoke(self, request: Request) -> Reply:
        """As Lambda's Invoke does; what the handler raises is an error of the function."""
        assert request.target.endswith("/invocations"), request.target
        try:
            answer = await anyio.to_thread.run_sync(self._handler, json.loads(request.body), Context())
        except Exception as error:
            self._note(type(error).__name__)
            body = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)})
            return Reply(body.encode(), headers=(("X-Amz-Function-Error", "Unhandled"),))
        self._note(answer["Status"])
        return Reply(json.dumps(answer).encode())

    def _note(self, answered: str) -> None:
        self.answered.append(answered)
        self.has_answered.set()

    async def start(self, event: Any) -> str:
        """Start an execution; gives its ARN."""
        asked = {
            "AccountId": "123456789012",
            "FunctionName": "f",
            "FunctionQualifier": "$LATEST",
            "ExecutionName": "t-1",
            "ExecutionTimeoutSeconds": 3600,
            "ExecutionRetentionPeriodDays": 1,
            "Input": json.dumps(event),
            "LambdaEndpoint": self._endpoint,
        }
        arn: str = (await self.call("POST", "/start-durable-execution", asked))["ExecutionArn"]
        return arn

    async def ended(self, arn: str) -> dict[str, Any]:
        """The execution, once it is over."""
        with anyio.move_on_after(60):
            while True:
                path = f"/2025-12-01/durable-executions/{quote(arn, safe='')}"
                execution: dict[str, Any] = await self.call("GET", path)
                if execution["Status"] != "RUNNING":
                    return execution
                await anyio.sleep(0.05)
        happened = await self.history(arn)
        raise AssertionError(f"it does not end: {self.answered} was answered, {happened} happened")

    async def history(self, arn: str) -> list[tuple[str, str]]:
        """What happened to the operations, in order: the event and the operation's name."""
        path = f"/2025-12-01/durable-executions/{quote(arn, safe='')}/history?MaxItems=1000"
        events = (await self.call("GET", path))["Events"]
        return [(event["EventType"], event["Name"]) for event in events if "Name" in event]

    async def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Call the emulator."""
        content = None if body is None else json.dumps(body).encode()
        headers = [("Content-Type", "application/json")]
        response = await self._pool.request(method, f"{self._emulator}{path}", headers=headers, content=content)
        assert response.status < 300, response.content
        answer: dict[str, Any] = json.loads(response.content or b"{}")
        return answer


def on(backend: Literal["asyncio", "trio"], function: DurableFunction[Any, Any]) -> DurableFunction[Any, Any]:
    """A function whose handler has that event loop."""
    return durable_execution(backend=backend)(function.function)


@pytest.fixture
def book_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DurableFunction[Any, Any]:
    """The example, with a ledger of its own."""
    monkeypatch.setenv("TRIP_LEDGER", str(tmp_path / "ledger.db"))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return load_target(f"{EXAMPLES / 'trip.py'}:book_trip")


def ledger(function: DurableFunction[Any, Any]) -> list[str]:
    """What was done outside."""
    entries = function.function.__globals__["ledger"].entries()
    return [f"{entry.action} {entry.what}" for entry in entries]


async def test_the_trip_is_booked(
    emulator: str, book_trip: DurableFunction[Any, Any], anyio_backend_name: Literal["asyncio", "trio"]
):
    """Steps, a wait, a second invocation that replays them, and the result."""
    async with Emulated(on(anyio_backend_name, book_trip), emulator).served() as emulated:
        execution = await emulated.ended(await emulated.start(TRIP))
    assert execution["Status"] == "SUCCEEDED"
    assert json.loads(execution["Result"])["references"] == ["H", "F", "C"]
    assert ledger(book_trip) == ["book hotel", "book flight", "book car", "charge card"]
    assert emulated.answered == ["PENDING", "SUCCEEDED"]


async def test_the_trip_is_rolled_back(
    emulator: str, book_trip: DurableFunction[Any, Any], anyio_backend_name: Literal["asyncio", "trio"]
):
    """The emulator takes the records of the rollback; what was booked is cancelled, in reverse."""
    async with Emulated(on(anyio_backend_name, book_trip), emulator).served() as emulated:
        arn = await emulated.start(TRIP | {"card": "declined"})
        execution = await emulated.ended(arn)
        history = await emulated.history(arn)
    assert execution["Status"] == "FAILED"
    assert execution["Error"]["ErrorType"].endswith("CardDeclinedError")
    assert ledger(book_trip)[3:] == ["decline card", "cancel car", "cancel flight", "cancel hotel"]
    undone = [name for kind, name in history if kind == "ContextSucceeded"]
    assert undone[:3] == ["rent_car", "reserve_flight", "reserve_hotel"], history


async def test_a_map(emulator: str, anyio_backend_name: Literal["asyncio", "trio"]):
    """Branches that wait and branches that retry, and the results in order."""
    attempts: list[int] = []

    async def double(number: int) -> int:
        attempts.append(number)
        if number == 3 and attempts.count(3) == 1:
            raise ConnectionError("once")
        return 2 * number

    @durable_execution(backend=anyio_backend_name)
    async def work(event: list[int], ctx: DurableContext) -> list[int]:
        async def branch(ctx: DurableContext, number: int) -> int:
            if number % 2:
                await ctx.wait(1, name="a moment")
            return await ctx.step(double, number, retry=Retry(attempts=3))

        return (await ctx.map(branch, event, name="doubles")).results()

    async with Emulated(work, emulator).served() as emulated:
        execution = await emulated.ended(await emulated.start(list(range(10))))
    assert execution["Status"] == "SUCCEEDED", execution
    assert json.loads(execution["Result"]) == [2 * number for number in range(10)]
    assert sorted(attempts) == [0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("succeeds", [True, False])
async def test_a_callback(emulator: str, anyio_backend_name: Literal["asyncio", "trio"], *, succeeds: bool):
    """Its submitter gets the id, the invocation ends, somebody outside completes it, and its outcome is taken."""
    ids: list[str] = []

    async def submit(callback_id: str) -> None:
        ids.append(callback_id)

    @durable_execution(backend=anyio_backend_name)
    async def work(event: None, ctx: DurableContext) -> dict[str, str]:
        return await ctx.wait_for_callback(submit, dict[str, str], name="approval")

    async with Emulated(work, emulator).served() as emulated:
        arn = await emulated.start(None)
        with anyio.fail_after(30):
            await emulated.has_answered.wait()
        assert emulated.answered == ["PENDING"]
        path = f"/2025-12-01/durable-execution-callbacks/{quote(ids[0], safe='')}"
        if succeeds:
            await emulated.call("POST", f"{path}/succeed", {"by": "Eve"})
        else:
            await emulated.call("POST", f"{path}/fail", {"ErrorType": "Denied", "ErrorMessage": "no"})
        execution = await emulated.ended(arn)
    if succeeds:
        assert json.loads(execution["Result"]) == {"by": "Eve"}
    else:
        assert execution["Status"] == "FAILED"
        assert execution["Error"]["ErrorMessage"] == "no"
    assert len(ids) == 1

"""The local server: calls over HTTP with many executions at once, and how it copes with many that are over.

python benchmarks/server.py

The server is a process of its own, on an SQLite file with synchronous=FULL. The load comes from this process, on
the other core: a client that costs little, with one kept-alive connection an execution.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
import msgspec
from report import figure, heading, middle

from durable._wire import ExecutionStatus
from durable._wire.events import EventType
from durable.abc import Change, EventRecord
from durable.local import open_engine
from durable.local.machine.execution import new_record
from durable.local.stores.sqlite import open_store
from durable.testing.clock import START

TOGETHER = 50
CALLS = 80
OVER = 100_000
PAGES = 20


class Server:
    """`durable dev`, with one function whose process is this one."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-m", "durable", "dev", "--function", "bench=", "--port", "0"]
        self._began = time.perf_counter()
        self._process = subprocess.Popen(
            command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline().rpartition(":")[2])
        self.runtime = int(self._process.stdout.readline().rpartition(":")[2])

    async def started(self) -> float:
        """Seconds from its beginning to its first answer."""
        connection = await Connection.open(self.port)
        await connection.call("GET", "/2025-12-01/functions/bench/durable-executions?MaxItems=1")
        return time.perf_counter() - self._began

    def stop(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Connection:
    """One kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        self._reader = reader
        self._writer = writer
        self._host = f"Host: 127.0.0.1:{port}\r\n"

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port), port)

    async def call(self, method: str, path: str, body: bytes = b"", headers: str = "") -> tuple[str, bytes]:
        """Send a request; the headers of the answer, and its body."""
        head = f"{method} {path} HTTP/1.1\r\n{self._host}{headers}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        told = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = told.partition("content-length: ")[2].partition("\r")[0]
        answer = await self._reader.readexactly(int(length or 0))
        assert told.startswith("http/1.1 20"), (told, answer)
        return told, answer


async def execution(server: Server, taken: list[float]) -> None:
    """One execution: as many calls as there are, each a step's START and end, with the token of the one before."""
    runtime, service = await Connection.open(server.runtime), await Connection.open(server.port)
    invoke = "/2015-03-31/functions/bench/invocations"
    await service.call("POST", invoke, b"{}", "X-Amz-Invocation-Type: Event\r\n")
    told, body = await runtime.call("GET", "/2018-06-01/runtime/invocation/next")
    event = msgspec.json.decode(body)
    arn, token = event["DurableExecutionArn"].replace("/", "%2F"), event["CheckpointToken"]
    path = f"/2025-12-01/durable-executions/{arn}/checkpoint"
    for number in range(CALLS):
        update = {"Id": f"s-{number}", "Type": "STEP", "SubType": "Step", "Name": f"step {number}"}
        both = [{**update, "Action": "START"}, {**update, "Action": "SUCCEED", "Payload": '{"value": 12345}'}]
        call = msgspec.json.encode({"CheckpointToken": token, "Updates": both, "ClientToken": f"c-{number}"})
        began = time.perf_counter()
        _, answer = await service.call("POST", path, call)
        taken.append(time.perf_counter() - began)
        token = msgspec.json.decode(answer)["CheckpointToken"]
    request_id = told.partition("lambda-runtime-aws-request-id: ")[2].partition("\r")[0]
    answered = b'{"Status": "SUCCEEDED", "Result": "1"}'
    await runtime.call("POST", f"/2018-06-01/runtime/invocation/{request_id}/response", answered)


async def checkpoints(directory: Path) -> None:
    """Calls a second, and how long one takes."""
    server = Server(directory)
    try:
        await server.started()
        for count in (1, TOGETHER):
            taken: list[float] = []
            began = time.perf_counter()
            await asyncio.gather(*(execution(server, taken) for _ in range(count)))
            rate = len(taken) / (time.perf_counter() - began)
            budget: dict[str, Any] = {"budget": 1500, "at_least": True} if count > 1 else {}
            figure(f"{count} at once: calls", rate, "a second", **budget)
            figure(f"{count} at once: a call, median", middle(taken) * 1e3, "ms")
            figure(f"{count} at once: a call, 99 of 100 within", sorted(taken)[len(taken) * 99 // 100] * 1e3, "ms")
    finally:
        server.stop()


async def fill(path: Path) -> None:
    """A store with many executions that are over."""
    store = open_store(str(path))
    limiter = anyio.Semaphore(1000)

    async def add(number: int) -> None:
        async with limiter:
            record = new_record(f"id-{number}", "bench", "function:bench", '{"n": 1}', START, name=f"n-{number}")
            begun = [EventRecord(EventType.EXECUTION_STARTED, START)]
            await store.create(Change(execution=record, events=begun))
            over = msgspec.structs.replace(
                record, status=ExecutionStatus.SUCCEEDED, end_timestamp=START, result='{"value": 12345}'
            )
            ended = [EventRecord(EventType.EXECUTION_SUCCEEDED, START)]
            await store.commit(record.id, Change(number=2, execution=over, first_event=2, events=ended))

    async with anyio.create_task_group() as tasks:
        for number in range(OVER):
            tasks.start_soon(add, number)
    await store.aclose()


async def many(directory: Path) -> None:
    """A store with many executions: opened, and listed."""
    await fill(directory / "durable.db")
    began = time.perf_counter()
    async with open_engine(directory / "durable.db") as engine:
        await engine.resume()
        figure("an engine opens the store", (time.perf_counter() - began) * 1e3, "ms", budget=1000)
    server = Server(directory)
    try:
        figure("from the server's start to its first answer", await server.started() * 1e3, "ms", budget=1000)
        connection = await Connection.open(server.port)
        path = "/2025-12-01/functions/bench/durable-executions?MaxItems=100"
        marker, taken = "", []
        for _ in range(PAGES):
            began = time.perf_counter()
            _, body = await connection.call("GET", path + marker)
            taken.append(time.perf_counter() - began)
            marker = f"&Marker={msgspec.json.decode(body)['NextMarker']}"
        figure("a page of 100, median", middle(taken) * 1e3, "ms", budget=50)
        figure("a page of 100, the slowest", max(taken) * 1e3, "ms", budget=50)
        began = time.perf_counter()
        await connection.call("GET", f"{path}&Statuses=FAILED")
        figure("a page of a status that none has", (time.perf_counter() - began) * 1e3, "ms", budget=50)
    finally:
        server.stop()


def main() -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as directory:
        heading("Checkpoints over HTTP on loopback, SQLite synchronous=FULL, a step a call")
        asyncio.run(checkpoints(Path(directory)))
    with tempfile.TemporaryDirectory() as directory:
        heading(f"A store with {OVER:,} executions that are over")
        asyncio.run(many(Path(directory)))


if __name__ == "__main__":
    main()

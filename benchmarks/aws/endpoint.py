"""Lambda's durable execution API on loopback, in a process of its own: cheap, and the same for everybody.

python benchmarks/aws/endpoint.py

The rules are the embedded service's, in memory. Requests are not checked against the service's model and no
signature is verified: that is for tests (tests/aws). What the benchmark itself asks for goes to `/control`.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import selectors
import socket
import sys
import time
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from durable._engine.clock import SystemClock
from durable._wire import ExecutionStatus
from durable._wire.codec import CHECKPOINT_REQUEST, CHECKPOINT_RESPONSE, INVOCATION_INPUT, STATE_RESPONSE
from durable._wire.enums import OperationAction
from durable.abc import ExecutionRecord
from durable.exceptions import ServiceError
from durable.local.service import LocalService
from durable.local.stores.memory import MemoryStore

_PREFIX = "/2025-12-01/durable-executions/"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Endpoint:
    """The service, and what has been asked of it since the last `begin`."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._service = LocalService(MemoryStore(), self._clock)
        self._numbers = itertools.count(1)
        self.latency = 0.0
        self._reset()

    def _reset(self) -> None:
        self.calls = self.updates = 0
        # Seconds from each request to its answer, in all.
        self.taken = 0.0
        # When the first step's success was recorded, by the clock that all processes share.
        self.first_success: float | None = None

    async def answer(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        """Answer one request."""
        if target == "/control":
            return 200, await self._control(msgspec.json.decode(body))
        self.calls += 1
        parts = urlsplit(target)
        arn, _, verb = parts.path.removeprefix(_PREFIX).rpartition("/")
        try:
            if verb == "checkpoint" and method == "POST":
                return 200, await self._checkpoint(unquote(arn), body)
            if verb == "state" and method == "GET":
                return 200, await self._state(unquote(arn), dict(parse_qsl(parts.query)))
        except ServiceError as error:
            return 400, msgspec.json.encode({"Type": "User", "message": str(error)})
        return 404, b"{}"

    async def _checkpoint(self, arn: str, body: bytes) -> bytes:
        asked = CHECKPOINT_REQUEST.decode(body)
        self.updates += len(asked.updates)
        answer = await self._service.checkpoint(
            arn, asked.checkpoint_token, asked.updates, asked.client_token or asked.checkpoint_token
        )
        if self.first_success is None and any(update.action is OperationAction.SUCCEED for update in asked.updates):
            self.first_success = time.monotonic()
        return CHECKPOINT_RESPONSE.encode(answer)

    async def _state(self, arn: str, asked: dict[str, str]) -> bytes:
        page = await self._service.get_state(
            arn, asked["CheckpointToken"], asked.get("Marker", ""), int(asked.get("MaxItems", "100"))
        )
        return STATE_RESPONSE.encode(page)

    async def _control(self, asked: dict[str, Any]) -> bytes:
        if asked["do"] == "told":
            mean = self.taken / self.calls if self.calls else 0.0
            return msgspec.json.encode(
                {
                    "calls": self.calls,
                    "updates": self.updates,
                    "latency": mean,
                    "first success": self.first_success,
                }
            )
        self.latency = asked["latency"]
        execution_id = asked.get("execution") or await self._create(asked["input"])
        event = await self._service.begin_invocation(execution_id)
        self._reset()
        return msgspec.json.encode(
            {"execution": execution_id, "event": msgspec.Raw(INVOCATION_INPUT.encode(event))}
        )

    async def _create(self, value: Any) -> str:
        number = next(self._numbers)
        execution_id = f"id-{number}"
        arn = f"arn:aws:lambda:eu-central-1:123456789012:function:f:1/durable-execution/run-{number}/{execution_id}"
        await self._service.create(
            ExecutionRecord(
                id=execution_id,
                name=f"run-{number}",
                arn=arn,
                function="f",
                status=ExecutionStatus.RUNNING,
                start_timestamp=self._clock.now(),
                input=msgspec.json.encode(value).decode(),
            )
        )
        return execution_id


class Connection(asyncio.Protocol):
    """HTTP/1.1 as far as SDKs use it: one request after the other, bodies of a known length."""

    transport: asyncio.Transport

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._buffer = bytearray()
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._socket = transport.get_extra_info("socket")

    def data_received(self, data: bytes) -> None:
        arrived = time.monotonic()
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        found = _LENGTH.search(self._buffer, 0, end)
        whole = end + 4 + (0 if found is None else int(found[1]))
        if len(self._buffer) < whole:
            # Who sends a body apart from its head waits for our acknowledgement, which Linux puts off for 40 ms.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            return
        method, target, _ = self._buffer[: self._buffer.find(b"\r\n")].decode("latin-1").split(" ")
        body = bytes(self._buffer[end + 4 : whole])
        del self._buffer[:whole]
        task = asyncio.get_running_loop().create_task(self._answer(method, target, body, arrived))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, method: str, target: str, body: bytes, arrived: float) -> None:
        status, answer = await self._endpoint.answer(method, target, body)
        if target != "/control":
            if self._endpoint.latency:
                await asyncio.sleep(self._endpoint.latency - (time.monotonic() - arrived))
            self._endpoint.taken += time.monotonic() - arrived
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
        self.transport.write(head.encode() + answer)


async def main() -> None:
    """Serve, until standard input ends; the port is on the first line of standard output."""
    endpoint = Endpoint()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(endpoint), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    # Its timers are exact to the microsecond, those of `epoll` to the millisecond.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(main())

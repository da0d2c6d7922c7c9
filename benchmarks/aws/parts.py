"""What a call on AWS costs, by part: 200 steps, of which one part after the other is left out, on both event loops.

python benchmarks/aws/parts.py

One warm process against the endpoint of compare.py, without latency. A part is what is saved where nothing is in
its place; without the socket nothing is waited for either, and what runs finds its data where it was.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from compare import environment, process  # noqa: E402 - it is beside this one
from contender import Context, control  # noqa: E402 - the same
from report import figure, heading  # noqa: E402 - it is where the other benchmarks are

from durable import DurableContext, durable_execution  # noqa: E402 - where this is run it is installed

STEPS = 200
ROUNDS = 9
tokens = (b"token-%d" % number for number in itertools.count())

StandIn = tuple[Any, str, Any]
"""A class, the name of a method of it, and what is called instead."""


def answer() -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of what the endpoint says to a call."""
    body = b'{"CheckpointToken":"%b","NewExecutionState":{"Operations":[]}}' % next(tokens)
    return [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))], body


def variants() -> dict[str, list[StandIn]]:
    """What is left out, from the inside outwards."""
    from durable._wire.codec import CHECKPOINT_RESPONSE
    from durable.aws.client import AwsClient
    from durable.aws.connection import Answer
    from durable.aws.pool import Pool
    from durable.aws.signing import Signature
    from durable.aws.stream import SocketStream

    async def no_write(*_: Any, **__: Any) -> None:
        pass

    async def no_read(*_: Any, **__: Any) -> bytes:
        headers, body = answer()
        return b"\r\n".join([b"HTTP/1.1 200 OK", *(b"%b: %b" % header for header in headers), b"", body])

    async def no_exchange(*_: Any) -> Answer:
        headers, body = answer()
        return Answer(200, headers, body, reusable=True)

    def no_signature(*_: Any) -> None:
        pass

    async def no_call(*_: Any) -> Any:
        return CHECKPOINT_RESPONSE.decode(answer()[1])

    socket: list[StandIn] = [(SocketStream, "write", no_write), (SocketStream, "read", no_read)]
    sending: list[StandIn] = [(Pool, "exchange", no_exchange)]
    return {
        "all": [],
        "the socket": socket,
        "the transport": sending,
        "the signature": [*sending, (Signature, "add_auth", no_signature)],
        "the client": [(AwsClient, "checkpoint", no_call)],
    }


@contextmanager
def replaced(stand_ins: list[StandIn]) -> Iterator[None]:
    """With other methods, for as long as the block lasts."""
    usual = [(owner, name, owner.__dict__.get(name)) for owner, name, _ in stand_ins]
    for owner, name, stand_in in stand_ins:
        setattr(owner, name, stand_in)
    try:
        yield
    finally:
        for owner, name, method in usual:
            if method is None:
                delattr(owner, name)  # it was inherited
            else:
                setattr(owner, name, method)


async def book(number: int) -> int:
    """The smallest step there is."""
    return number


def make_steps(backend: Any) -> Any:
    """So many steps, one after another."""

    @durable_execution(backend=backend)
    async def steps(count: int, ctx: DurableContext) -> int:
        total = 0
        for number in range(count):
            total += await ctx.step(book, number)
        return total

    return steps


def taken(function: Any, url: str, stand_ins: list[StandIn]) -> float:
    """Processor time of one step, in microseconds."""
    event = control(url, do="begin", latency=0, input=STEPS)["event"]
    with replaced(stand_ins):
        began = time.process_time()
        told = function(event, Context())
        seconds = time.process_time() - began
    assert told["Status"] == "SUCCEEDED", told
    return seconds / STEPS * 1e6


def main() -> None:
    """Measure in turn, and print the least of each."""
    heading(f"A step on AWS's client by part, processor time (least of {ROUNDS})")
    with ExitStack() as stack:
        endpoint = stack.enter_context(process([sys.executable, HERE / "endpoint.py"]))
        env = environment(endpoint.read())
        del env["AWS_LAMBDA_RUNTIME_API"]  # the client is made by the first invocation
        os.environ.update(env)
        url = env["AWS_ENDPOINT_URL_LAMBDA"]
        for backend in ("asyncio", "trio"):
            function = make_steps(backend)
            taken(function, url, [])
            found: dict[str, list[float]] = {}
            for _ in range(ROUNDS):
                for name, stand_ins in variants().items():
                    found.setdefault(name, []).append(taken(function, url, stand_ins))
            least = {name: min(rounds) for name, rounds in found.items()}
            figure(f"{backend}: all", least["all"], "µs")
            for (_, more), (name, less) in itertools.pairwise(least.items()):
                figure(f"{backend}:   {name}", more - less, "µs")
            figure(f"{backend}:   the engine", least["the client"], "µs")


if __name__ == "__main__":
    main()

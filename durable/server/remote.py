"""Functions that run elsewhere, in a process of any language, and ask for their invocations.

A runtime asks the Runtime API for the next invocation, answers it, and asks again. What is handed out and not
answered within the function's time, or by a process that has ended, has failed, and is invoked again like any
invocation that raised.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NoReturn
from uuid import uuid4

import anyio

from .._wire.codec import INVOCATION_INPUT, INVOCATION_OUTPUT
from ..exceptions import DurableError, RecordedError
from ..function import DurableFunction

if TYPE_CHECKING:
    from .._wire import InvocationInput, InvocationOutput
    from ..abc import Clock, ServiceClient
    from ..context import DurableContext

DEFAULT_TIMEOUT: Final = 900
"""Seconds that an invocation may take: the most that Lambda allows."""

EXITED: Final = "Runtime.ExitError"
"""The error type of an invocation that its process did not survive."""


UNKNOWN: Final = "Runtime.Unknown"
"""That of an error whose type its runtime did not say."""


class RemoteFunctionError(DurableError):
    """A function that runs elsewhere did not answer its invocation as it should."""


class RemoteInvocation:
    """One invocation, until it has been answered.

    Attributes:
        request_id: What the runtime answers it by.
        body: The event, JSON.
        deadline: Until when it is waited for (epoch milliseconds).
    """

    def __init__(self, body: bytes, deadline: int) -> None:
        self.request_id = str(uuid4())
        self.body = body
        self.deadline = deadline
        self._answered = anyio.Event()
        self._answer: bytes | RecordedError | None = None

    def answer(self, answer: bytes | RecordedError) -> None:
        """What came of it; the first answer counts."""
        if self._answer is None:
            self._answer = answer
            self._answered.set()

    async def wait(self) -> bytes:
        """Wait for the answer.

        Raises:
            RecordedError: It failed, or its process ended.
        """
        await self._answered.wait()
        if isinstance(self._answer, RecordedError):
            raise self._answer
        return self._answer or b""


class RemoteFunction(DurableFunction[Any, Any]):
    """A durable function whose code is in another process.

    Attributes:
        target: What its executions are stored with; it can be run by whoever registers it under the same name.
    """

    def __init__(self, name: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        super().__init__(_elsewhere, name=name)
        self.target = f"function:{name}"
        self._timeout = timeout
        # Those that nobody has asked for; those that somebody has, by their ids.
        self._waiting: deque[RemoteInvocation] = deque()
        self._handed: dict[str, RemoteInvocation] = {}
        self._news = anyio.Event()

    async def invoke(self, event: InvocationInput, client: ServiceClient, *, clock: Clock) -> InvocationOutput:  # noqa: ARG002 - the process has a client of its own
        """Answer one invocation: have the process do it.

        Raises:
            RecordedError: It raised, or its process ended.
            RemoteFunctionError: It took too long.
            MalformedPayloadError: What it answered is no answer of a durable function.
        """
        deadline = clock.now() + round(self._timeout * 1000)
        invocation = RemoteInvocation(INVOCATION_INPUT.encode(event), deadline)
        self._waiting.append(invocation)
        self._tell()
        try:
            with anyio.move_on_after(self._timeout):
                return INVOCATION_OUTPUT.decode(await invocation.wait())
        finally:
            self._handed.pop(invocation.request_id, None)
            if invocation in self._waiting:
                self._waiting.remove(invocation)
        raise RemoteFunctionError(f"{self.name} has not answered its invocation within {self._timeout:g} s")

    async def next(self) -> RemoteInvocation:
        """The next invocation; whoever gets it has to answer it. Waits for it."""
        while not self._waiting:
            await self._news.wait()
        invocation = self._waiting.popleft()
        self._handed[invocation.request_id] = invocation
        return invocation

    def give_back(self, invocation: RemoteInvocation) -> None:
        """Whoever asked for it is gone: somebody else may have it."""
        if self._handed.pop(invocation.request_id, None) is not None:
            self._waiting.appendleft(invocation)
            self._tell()

    def answer(self, request_id: str, answer: bytes | RecordedError) -> bool:
        """Answer an invocation. Returns whether it is known: it may have been given up."""
        invocation = self._handed.get(request_id)
        if invocation is None:
            return False
        invocation.answer(answer)
        return True

    def fail(self, why: str) -> None:
        """The process has ended: what it was handed has failed, and is told of as on Lambda."""
        for invocation in tuple(self._handed.values()):
            invocation.answer(RecordedError(EXITED, f"{self.name}: {why}"))

    def _tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()


async def _elsewhere(event: Any, ctx: DurableContext) -> NoReturn:
    """Not called: the function's code is in another process."""
    raise RemoteFunctionError(f"the code for {event!r} is not here, nor is it for {ctx!r}")

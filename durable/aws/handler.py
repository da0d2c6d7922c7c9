"""The Lambda handler: one synchronous call, one invocation.

A service error that may pass, and a call that Lambda cut off, end the invocation without an answer: Lambda invokes
again. Everything else is answered: SUCCEEDED, FAILED or PENDING.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import logging
import sys
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from .._engine.clock import SystemClock
from .._engine.current import InvocationInfo, invocation_var
from .._wire import InvocationInput, InvocationOutput
from .._wire.codec import INVOCATION_INPUT
from ..abc import Clock, ServiceClient
from ..exceptions import MalformedPayloadError
from ..function import Backend, DurableFunction
from .errors import NotDurableInvocationError
from .sandbox import Sandbox

_log = logging.getLogger("durable.aws")

# What the first invocation needs: loaded in INIT, which has a whole processor, and not while somebody waits.
for _module in ("_engine.invocation", "_operations.step", "_operations.wait", "_operations.child"):
    importlib.import_module(f"durable.{_module}")


class LambdaHandler:
    """A durable function as Lambda calls it. Made by `make_handler`.

    Attributes:
        function: The durable function.
    """

    def __init__(self, function: DurableFunction[Any, Any], sandbox: Sandbox) -> None:
        self.function = function
        self._sandbox = sandbox

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        """Answer one invocation (see `DurableFunction.__call__`)."""
        invocation = read_event(event, self.function.name)
        output = self._sandbox.run(answer, self.function, invocation, _info(context))
        answered: dict[str, Any] = msgspec.to_builtins(output)
        return answered

    def prepare(self) -> None:
        """Make the event loop and the client now: while Lambda initialises, and not in the first invocation.

        Raises:
            Exception: The client could not be opened.
        """
        self._sandbox.prepare()

    def close(self) -> None:
        """Close its client and end its event loop: for tests, as a sandbox ends without notice."""
        self._sandbox.close()


def make_handler(
    function: DurableFunction[Any, Any],
    *,
    session: Any = None,
    config: Any = None,
    endpoint_url: str | None = None,
    region: str | None = None,
) -> LambdaHandler:
    """A Lambda handler of a durable function with a client of its own.

    Where the environment says all there is to say, the function itself is the handler.

    Args:
        function: The durable function.
        session: An aiobotocore session; see `open_client` for all of these.
        config: An `AioConfig`.
        endpoint_url: Where the service is.
        region: Which region it is in.
    """

    def open_own() -> AbstractAsyncContextManager[ServiceClient]:
        from .client import open_client

        return open_client(session=session, config=config, endpoint_url=endpoint_url, region=region)

    return LambdaHandler(function, Sandbox(function.backend, open_own))


def handle(function: DurableFunction[Any, Any], event: Any, context: Any) -> dict[str, Any]:
    """Answer one invocation of a function, with the client that the environment says.

    Args:
        function: The durable function.
        event: What Lambda hands to it, parsed.
        context: Lambda's context object.

    Raises:
        NotDurableInvocationError: The event is not a durable invocation's.
        ServiceError: Retryable: Lambda shall invoke again.
        NonDeterminismError: The code does not follow the execution's history; nothing was recorded.
    """
    return LambdaHandler(function, _sandbox(function.backend))(event, context)


def prepare(backend: Backend) -> None:
    """Make the event loop and the client while Lambda initialises the sandbox, instead of in its first invocation.

    What fails here is not raised: the first invocation tries again, and says so to whom it concerns.
    """
    if _has_own_loop():
        return
    # What is loaded here lives as long as the sandbox: the garbage collector need not look through it meanwhile,
    # which takes an eighth of all this, nor later on.
    collects = gc.isenabled()
    gc.disable()
    try:
        importlib.import_module("durable.aws.tls").load_early()  # beside what the client imports
        _sandbox(backend).prepare()
    except Exception:  # noqa: BLE001 - a module whose import fails would be worse
        _log.warning("the client could not be prepared; the first invocation tries again", exc_info=True)
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def _has_own_loop() -> bool:
    """Whether this process is the runtime of `durable.aws.runtime`, which has an event loop and a client itself."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == f"{__package__}.runtime"


def read_event(event: Any, name: str) -> InvocationInput:
    """The durable invocation that an event is.

    Raises:
        NotDurableInvocationError: It is none.
    """
    try:
        return INVOCATION_INPUT.convert(event)
    except MalformedPayloadError as error:
        raise NotDurableInvocationError(event, name) from error


async def answer(
    client: ServiceClient,
    function: DurableFunction[Any, Any],
    event: InvocationInput,
    info: InvocationInfo,
    clock: Clock | None = None,
) -> InvocationOutput:
    """Answer one invocation, which Lambda has numbered and limited."""
    reset = invocation_var.set(info)
    try:
        return await function.invoke(event, client, clock=clock or SystemClock())
    finally:
        invocation_var.reset(reset)


@functools.cache
def _sandbox(backend: Backend) -> Sandbox:
    """The one of this process."""

    def open_default() -> AbstractAsyncContextManager[ServiceClient]:
        from .client import open_client

        return open_client()

    return Sandbox(backend, open_default)


def _info(context: Any) -> InvocationInfo:
    """What Lambda's context object says of an invocation; there may be none, in a test."""
    request_id = getattr(context, "aws_request_id", None)
    deadline = None
    with contextlib.suppress(AttributeError):
        deadline = SystemClock().now() + int(context.get_remaining_time_in_millis())
    return InvocationInfo(request_id, deadline)

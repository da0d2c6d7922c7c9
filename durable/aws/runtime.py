"""`python -m durable.aws.runtime app:book_trip`: Lambda's Runtime API, answered on an event loop.

For container images and `provided.al2023`. Between Lambda and the function there is no other client and no change
of threads, and an event is decoded once, from its bytes. Without an argument the function is the one in `_HANDLER`.
"""

from __future__ import annotations

import json
import logging
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import anyio
import httpcore2

from .._engine.current import InvocationInfo
from .._kernel.errors import encode_error
from .._wire.codec import INVOCATION_INPUT, INVOCATION_OUTPUT
from ..abc import ServiceClient
from ..exceptions import MalformedPayloadError, NotDurableError, TargetNotFoundError
from ..function import DurableFunction
from .errors import NotDurableInvocationError
from .handler import answer

_log = logging.getLogger("durable.aws")

_VERSION: Final = "2018-06-01"
_ACCEPTED: Final = 202
_OK: Final = 200
_USAGE: Final = 2


class RuntimeApiError(Exception):
    """Lambda's Runtime API answered something else than it should."""

    def __init__(self, what: str, status: int, body: bytes) -> None:
        super().__init__(
            f"the Runtime API answered {what} with HTTP {status}: {body[:500].decode(errors='replace')}"
        )
        self.status = status


class LambdaInvocation(NamedTuple):
    """What the Runtime API hands out.

    Attributes:
        info: Its request id, and when it is cut off.
        body: The event.
    """

    info: InvocationInfo
    body: bytes


class RuntimeApi:
    """Lambda's Runtime API, for one runtime.

    Args:
        address: Host and port: `AWS_LAMBDA_RUNTIME_API`.
    """

    def __init__(self, address: str) -> None:
        self._root = f"http://{address}/{_VERSION}/runtime"
        self._host = address.encode()
        self._pool = httpcore2.AsyncConnectionPool()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._pool.aclose()

    async def next(self) -> LambdaInvocation:
        """Wait for the next invocation, for as long as it takes: the sandbox is frozen meanwhile."""
        response = await self._send("GET", "invocation/next", None)
        self._check("invocation/next", response, _OK)
        headers = {name.lower(): value.decode() for name, value in response.headers}
        trace_id = headers.get(b"lambda-runtime-trace-id")
        if trace_id is not None:
            os.environ["_X_AMZN_TRACE_ID"] = trace_id
        deadline = headers.get(b"lambda-runtime-deadline-ms")
        info = InvocationInfo(
            headers[b"lambda-runtime-aws-request-id"], None if deadline is None else int(deadline)
        )
        return LambdaInvocation(info, response.content)

    async def respond(self, request_id: str, body: bytes) -> None:
        """Answer an invocation.

        Raises:
            RuntimeApiError: It was not taken.
        """
        path = f"invocation/{request_id}/response"
        self._check(path, await self._send("POST", path, body), _ACCEPTED)

    async def fail(self, path: str, error: BaseException) -> None:
        """Say that something raised: `init`, or `invocation/<request id>`.

        Raises:
            RuntimeApiError: It was not taken.
        """
        described = encode_error(error)
        body = {
            "errorMessage": described.error_message,
            "errorType": described.error_type,
            "stackTrace": traceback.format_tb(error.__traceback__),
        }
        kind = f"Runtime.{type(error).__name__}"
        extra = [(b"Lambda-Runtime-Function-Error-Type", kind.encode("ascii", "replace"))]
        self._check(
            f"{path}/error", await self._send("POST", f"{path}/error", json.dumps(body).encode(), extra), _ACCEPTED
        )

    async def _send(
        self, method: str, path: str, body: bytes | None, extra: Sequence[tuple[bytes, bytes]] = ()
    ) -> httpcore2.Response:
        headers = [(b"Host", self._host), *extra]
        if body is not None:
            headers += [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
        return await self._pool.request(method, f"{self._root}/{path}", headers=headers, content=body)

    @staticmethod
    def _check(what: str, response: httpcore2.Response, expected: int) -> None:
        if response.status != expected:
            raise RuntimeApiError(what, response.status, response.content)


async def serve(api: RuntimeApi, function: DurableFunction[Any, Any], client: ServiceClient) -> None:
    """Answer one invocation after the other; Lambda ends it.

    Raises:
        RuntimeApiError: The Runtime API does not work.
    """
    while True:
        invocation = await api.next()
        request_id = invocation.info.request_id
        try:
            output = await answer(client, function, _read(invocation.body, function.name), invocation.info)
            await api.respond(request_id or "", INVOCATION_OUTPUT.encode(output))
        except Exception as error:  # noqa: BLE001 - Lambda is told, and invokes again
            _log.warning("invocation %s raised", request_id, exc_info=True)
            await api.fail(f"invocation/{request_id}", error)


def load(target: str) -> DurableFunction[Any, Any]:
    """The durable function of `module:function`, or of Lambda's own form, `module.function`.

    Raises:
        TargetNotFoundError: There is none.
        NotDurableError: There is something else.
    """
    here = os.environ.get("LAMBDA_TASK_ROOT") or os.getcwd()  # noqa: PTH109 - as sys.path has it
    if here not in sys.path:
        sys.path.insert(0, here)
    module, colon, name = target.partition(":")
    if not colon:
        module, _, name = target.rpartition(".")
    try:
        found = pkgutil.resolve_name(f"{module.replace('/', '.')}:{name}") if module and name else None
    except (ImportError, AttributeError, ValueError) as error:
        raise TargetNotFoundError(target, str(error)) from error
    if found is None:
        raise TargetNotFoundError(target, "it has the form MODULE:FUNCTION")
    if not isinstance(found, DurableFunction):
        raise NotDurableError(target, f"it is of type {type(found).__name__}")
    return found  # pyright: ignore[reportUnknownVariableType]


def _read(body: bytes, name: str) -> Any:
    try:
        return INVOCATION_INPUT.decode(body)
    except MalformedPayloadError as error:
        try:
            event = json.loads(body)
        except ValueError:
            raise error from None
        raise NotDurableInvocationError(event, name) from error


async def _run(address: str, function: DurableFunction[Any, Any]) -> None:
    from .client import open_client

    async with RuntimeApi(address) as api:
        try:
            opened = open_client()
            client = await opened.__aenter__()
        except Exception as error:
            await api.fail("init", error)
            raise
        try:
            await serve(api, function, client)
        finally:
            with anyio.CancelScope(shield=True):
                await opened.__aexit__(None, None, None)


async def _report(address: str, error: Exception) -> None:
    async with RuntimeApi(address) as api:
        await api.fail("init", error)


def main(arguments: Sequence[str]) -> int:
    """Run the loop; it ends only when Lambda ends it, or when it cannot go on."""
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    target = arguments[0] if arguments else os.environ.get("_HANDLER", "")
    if not address or not target or len(arguments) > 1:
        sys.stderr.write(
            "usage: python -m durable.aws.runtime MODULE:FUNCTION\n"
            "It runs inside of AWS Lambda, which says in AWS_LAMBDA_RUNTIME_API where invocations come from. "
            "Elsewhere use `durable run`.\n"
        )
        return _USAGE
    try:
        function = load(target)
    except Exception as error:
        anyio.run(_report, address, error)
        raise
    anyio.run(_run, address, function, backend=function.backend)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

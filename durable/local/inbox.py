"""What may be asked of an engine from outside of its process, and how it is carried out.

A request is data. Who has no engine leaves it in the store's inbox: the engine that has the store looks there about
twice a second, carries it out through its own methods and replies. Requests that were left while no engine ran are
carried out by the next one, before it does anything else. Who has an engine calls `carry_out` itself.

A request is carried out at least once: if the process dies between that and the reply, the next engine does it
again. That is harmless, as a callback that has been completed, and an execution that has been stopped, stay as they
are; only the reply is another one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio
import msgspec

from .._wire import ErrorObject, ExecutionStatus
from ..abc import Inbox
from ..exceptions import DurableError, EngineClosedError, StoreError

if TYPE_CHECKING:
    from .engine import Engine

_log = logging.getLogger("durable.local")

INTERVAL: Final = 0.5
"""Seconds between two looks into the inbox. Real ones: who asks from outside knows nothing of a test's clock."""

LONGEST_INTERVAL: Final = 30.0
"""The same while the store cannot be used: doubled each time, up to this."""

_SHOWN: Final = 200
"""Characters of a request that the log repeats."""


class SucceedCallback(msgspec.Struct, frozen=True, tag_field="ask", tag="succeed callback"):
    """Complete a callback with a result, text as whoever waits for it will read it."""

    callback_id: str
    result: str


class FailCallback(msgspec.Struct, frozen=True, tag_field="ask", tag="fail callback"):
    """Fail a callback."""

    callback_id: str
    error: ErrorObject


class HeartbeatCallback(msgspec.Struct, frozen=True, tag_field="ask", tag="heartbeat callback"):
    """Tell that whoever is to complete a callback is alive."""

    callback_id: str


class StopExecution(msgspec.Struct, frozen=True, tag_field="ask", tag="stop execution"):
    """End an execution as STOPPED; nothing of it is undone."""

    name: str
    error: ErrorObject | None = None


class PauseExecution(msgspec.Struct, frozen=True, tag_field="ask", tag="pause execution"):
    """Have an execution not invoked until it is resumed; with a token it is done once, however often it comes."""

    name: str
    reason: str | None = None
    holds_timeout: bool = True
    token: str | None = None


class ResumeExecution(msgspec.Struct, frozen=True, tag_field="ask", tag="resume execution"):
    """Have an execution that is paused go on."""

    name: str
    reason: str | None = None
    token: str | None = None


class DeleteExecution(msgspec.Struct, frozen=True, tag_field="ask", tag="delete execution"):
    """Remove an execution that is over, with all that is kept of it."""

    name: str


Request: TypeAlias = (
    SucceedCallback
    | FailCallback
    | HeartbeatCallback
    | StopExecution
    | PauseExecution
    | ResumeExecution
    | DeleteExecution
)


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a request.

    Attributes:
        error: Why it was not carried out; `None` if it was.
        error_type: The class of that error.
        status: Where the execution then stood, if it was to be stopped, paused, resumed or deleted.
    """

    error: str | None = None
    error_type: str | None = None
    status: ExecutionStatus | None = None


_REQUEST: Final = msgspec.json.Decoder(Request)
_REPLY: Final = msgspec.json.Decoder(Reply)


def encode_request(request: Request) -> str:
    """A request as it is left in an inbox."""
    return msgspec.json.encode(request).decode()


def decode_reply(text: str) -> Reply:
    """A reply as it was found there."""
    return _REPLY.decode(text)


async def carry_out(engine: Engine, request: Request) -> Reply:
    """Do what is asked.

    Raises:
        CallbackNotFoundError, CallbackCompletedError, ExecutionNotFoundError, ExecutionConflictError,
            PayloadTooLargeError: It cannot be done; see the engine's own methods.
        StoreError: It could not be recorded.
        EngineClosedError: The engine is closed.
    """
    match request:
        case SucceedCallback():
            await engine.complete_callback(request.callback_id, text=request.result)
        case FailCallback():
            await engine.fail_callback(request.callback_id, request.error)
        case HeartbeatCallback():
            await engine.heartbeat_callback(request.callback_id)
        case StopExecution():
            return Reply(status=(await engine.stop(request.name, request.error)).status)
        case PauseExecution(name, reason, holds_timeout, token):
            paused = await engine.pause(name, reason, holds_timeout=holds_timeout, token=token)
            return Reply(status=paused.status)
        case ResumeExecution(name, reason, token):
            await engine.unpause(name, reason, token=token)
            return Reply(status=(await engine.execution(name)).status)
        case DeleteExecution(name):
            return Reply(status=(await engine.delete(name)).status)
    return Reply()


async def attend(engine: Engine, inbox: Inbox) -> None:
    """Look into an inbox again and again; runs as long as the engine."""
    delay = INTERVAL
    while True:
        await anyio.sleep(delay)
        delay = INTERVAL if await look(engine, inbox) else min(2 * delay, LONGEST_INTERVAL)


async def look(engine: Engine, inbox: Inbox) -> bool:
    """Carry out what is in an inbox.

    Returns:
        Whether the store let it: if not, what is left stays there.
    """
    try:
        for number, text in await inbox.requests():
            # Not torn apart where that can be helped: who asked shall hear what came of it.
            with anyio.CancelScope(shield=True):
                await inbox.reply(number, msgspec.json.encode(await _answer(engine, text)).decode())
    except EngineClosedError:  # the next one does it
        return True
    except Exception:  # noqa: BLE001 - logged, and tried again for as long as the engine lives
        _log.exception("what others ask of this engine could not be read or replied to, it will be tried again")
        return False
    return True


async def _answer(engine: Engine, text: str) -> Reply:
    try:
        return await carry_out(engine, _REQUEST.decode(text))
    except EngineClosedError:
        raise
    except msgspec.DecodeError as error:
        return Reply(error=f"the engine does not know what is asked of it: {error}", error_type="DecodeError")
    except Exception as error:  # noqa: BLE001 - whatever it is, who asked hears of it, and the others are not held up
        if not isinstance(error, DurableError) or isinstance(error, StoreError):
            _log.exception("what somebody asked of this engine failed: %s", text[:_SHOWN])
        return Reply(error=str(error), error_type=type(error).__name__)

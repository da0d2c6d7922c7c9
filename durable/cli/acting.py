"""Acting on an execution: here, if no engine has the store; otherwise the engine that has it is asked, or an API.

Here means: what is asked is recorded, and then the execution goes on and is followed, as `durable resume` does it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final, TextIO
from uuid import uuid4

import anyio
import msgspec

from .._wire import ExecutionStatus
from ..exceptions import StoreLockedError
from ..local import Engine, open_engine
from ..local.inbox import (
    DeleteExecution,
    FailCallback,
    HeartbeatCallback,
    PauseExecution,
    Reply,
    Request,
    ResumeExecution,
    StopExecution,
    SucceedCallback,
    carry_out,
    decode_reply,
    encode_request,
)
from ..local.stores.file import engine_of
from ..local.stores.inbox import post
from .exits import ExitCode
from .options import Backend, CommandError
from .place import Place, Remote, Store
from .session import Followed, Pick

PATIENCE: Final = 5.0
"""Seconds that an engine may take to answer."""

_PAUSING: Final = "is about to be paused, what is under way goes on until it records something"
_LABELS: Final = {"resume": "go on", "show": "look"}

_LOOK: Final = 0.5
"""Seconds after which it is looked whether there still is an engine."""


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is to be done to an execution.

    Attributes:
        what: The command, without `durable`.
        execution: The execution's name; `None` where only the callback is known.
        request: What is asked of an engine.
        words: What has become so, for people; after the execution's name and a colon.
        name: Of the callback, of the step to be undone, or of the saga; `None` if it has none.
        callback_id: What is completed, if it is that.
        follow_up: The command that comes next, of those that take the execution's name; `None` if none does. By
            default to look, or to go on.
        arn: The execution's, where that is needed.
    """

    what: str
    execution: str | None
    request: Request
    words: str
    name: str | None = None
    callback_id: str | None = None
    follow_up: str | None = ""
    arn: str = ""


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How it is to be done.

    Attributes:
        place: Where the execution is.
        goes_on: Whether the execution is gone on with, where it is in a store and no engine is at work on it.
        backend: The event loop that it then runs on.
        as_lines: Tell it to a machine.
        verbosity: Of logging.
    """

    place: Place
    goes_on: bool = False
    backend: Backend = Backend.ASYNCIO
    as_lines: bool = False
    verbosity: int = 0


def act_on(act: Act, manner: Manner) -> ExitCode:
    """Do something to an execution, and tell it.

    Returns:
        0 when it is done and the execution is not followed; otherwise how the execution ended.

    Raises:
        CommandError: The engine that has the store refuses it, or does not answer.
        DurableError: It cannot be done.
    """
    output = sys.stdout
    try:
        text = encode_request(act.request)
    except UnicodeEncodeError as error:
        raise CommandError(f"what was given is no text: {error}") from error
    place = manner.place
    if isinstance(place, Remote):
        _tell(act, anyio.run(_call, act, place), manner, output, str(place))
        return ExitCode.SUCCEEDED
    try:
        return _do_it_here(act, place, manner, output)
    except StoreLockedError as error:
        holder = error.holder
    reply = _ask(place.path, text, holder)
    if reply is None:
        return _do_it_here(act, place, manner, output)
    if reply.error is not None:
        raise CommandError(reply.error)
    _tell(act, reply, manner, output, holder)
    return ExitCode.SUCCEEDED


def _ask(store: str, request: str, holder: str) -> Reply | None:
    """Ask the engine that has the store.

    Returns:
        Its reply; `None` if it is gone, and has not done what was asked.

    Raises:
        CommandError: It does not answer.
        StoreError: It takes no requests.
    """
    posted = post(store, request)
    end = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < end:
            text = posted.wait(min(_LOOK, PATIENCE))
            is_gone = text is None and engine_of(store) is None
            if is_gone:
                text = posted.wait(0)  # the last that it did
            if text is not None:
                return decode_reply(text)
            if is_gone:
                posted.withdraw()
                return None
    except BaseException:
        posted.withdraw()  # whoever asked has gone
        raise
    raise CommandError(
        f"the engine that has {store} ({holder}) has not answered for {PATIENCE:g} s. What you ask for stays "
        "in the store, and is done as soon as this or another engine looks there."
    )


async def _call(act: Act, place: Remote) -> Reply:
    """Ask by the API."""
    from .remote import connected

    request = act.request
    async with connected(place) as client:
        match request:
            case SucceedCallback():
                await client.succeed_callback(request.callback_id, request.result)
            case FailCallback():
                await client.fail_callback(request.callback_id, request.error)
            case HeartbeatCallback():
                await client.heartbeat_callback(request.callback_id)
            case DeleteExecution():
                await client.delete(act.arn)
            case StopExecution():
                await client.stop(act.arn, request.error)
                status = (await client.execution(act.arn, with_data=False)).status
                # Still running: it has been told, and ends.
                return Reply(status=status if status.is_over else None)
            case PauseExecution(_, reason, holds_timeout, token):
                await client.pause(act.arn, reason, holds_timeout=holds_timeout, token=token or uuid4().hex)
                return Reply(status=(await client.execution(act.arn, with_data=False)).status)
            case ResumeExecution(_, reason, token):
                await client.resume(act.arn, reason, token=token or uuid4().hex)
    return Reply()


def _do_it_here(act: Act, store: Store, manner: Manner, output: TextIO) -> ExitCode:
    if manner.goes_on:
        from .follow import follow

        return follow(
            store.path,
            _doing(act, lambda reply: _tell(act, reply, manner, output, None)),
            backend=manner.backend,
            as_lines=manner.as_lines,
            verbosity=manner.verbosity,
            output=output,
        )

    async def do() -> Reply:
        async with open_engine(store.path) as engine:
            return await carry_out(engine, act.request)

    _tell(act, anyio.run(do), manner, output, None)
    return ExitCode.SUCCEEDED


def _doing(act: Act, tell: Callable[[Reply], None]) -> Pick:
    async def do_and_resume(engine: Engine) -> list[Followed]:
        record = await engine.execution(act.execution or "")
        past = await engine.history(record.name)
        tell(await carry_out(engine, act.request))
        (run,) = await engine.resume(record.name)
        return [Followed(record, run, past)]

    return do_and_resume


def _tell(act: Act, reply: Reply, manner: Manner, output: TextIO, holder: str | None) -> None:
    """Say that it is recorded; where the execution is followed people see it by what follows."""
    is_stop = isinstance(act.request, StopExecution)
    if is_stop and reply.status is not None and reply.status is not ExecutionStatus.STOPPED:
        raise CommandError(f"execution {act.execution!r} is over, it is {reply.status}: there is nothing to stop")
    if manner.as_lines:
        from .machine import encode

        line: dict[str, Any] = {
            "type": "recorded",
            "execution": act.execution,
            "what": act.what,
            "name": act.name,
            "callback_id": act.callback_id,
            "engine": holder,
        }
        output.write(f"{encode(line)}\n")
        output.flush()
    elif holder is not None or not manner.goes_on:
        _tell_people(act, reply, manner, output, holder)


def _tell_people(act: Act, reply: Reply, manner: Manner, output: TextIO, holder: str | None) -> None:
    from rich.text import Text

    from .outcome import print_command
    from .terminal import console_for, signs_of
    from .texts import one_line

    def command(what: str) -> str:
        return manner.place.command(what, act.execution or "")

    console = console_for(output)
    whose = "" if act.execution is None else f"{act.execution}: "
    done = Text.assemble((f"{signs_of(console).succeeded} recorded", "bold green"), f"  {whose}")
    words = _PAUSING if reply.status is ExecutionStatus.PAUSING else act.words
    console.print(done.append(one_line(words)), soft_wrap=True)
    if act.follow_up != "":
        if act.follow_up is not None:
            print_command(console, f"{_LABELS.get(act.follow_up, act.follow_up)} with", command(act.follow_up))
        return
    if isinstance(manner.place, Remote):
        if act.execution is not None:
            print_command(console, "look with", command("show"))
        return
    if reply.status is None:
        at_work = "no engine is at work on it" if holder is None else f"an engine goes on with it ({holder})"
        console.print(Text(f"  {at_work}", "dim"), soft_wrap=True)
    if holder is not None or reply.status is not None:
        print_command(console, "look with", command("show"))
    else:
        print_command(console, "go on with", command("resume"))

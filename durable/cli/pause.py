"""`durable pause`: have an execution not go on, until somebody resumes it."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import uuid4

import typer

from .exits import ExitCode
from .options import (
    RECORDED,
    CommandError,
    DebugOption,
    FunctionOption,
    LinesOption,
    NameArgument,
    ReasonOption,
    anywhere,
    reporting,
)
from .place import Place
from .texts import paragraphs

HELP: Final = paragraphs("""
Have an execution not go on, until durable resume NAME. Nothing is undone, and nothing is lost.

It is not invoked while it is paused. An invocation that is under way goes on until it records something; until
then the execution is PAUSING. Timers, callbacks and what it has invoked go on, and it learns of them afterwards. It
stays paused over restarts; neither durable resume without a name nor a server that starts takes it up.
""")

EPILOG: Final = RECORDED


@reporting
@anywhere
def pause(
    *,
    name: NameArgument,
    function: FunctionOption = None,
    reason: ReasonOption = None,
    keeps_limit: Annotated[
        bool,
        typer.Option("--keep-time-limit", help="Its time limit, if it has one, is not put off by the pause."),
    ] = False,
    as_lines: LinesOption = False,
    place: Place,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """Pause an execution."""
    from ..local.inbox import PauseExecution
    from .acting import Act, Manner, act_on
    from .reading import find, look

    place = place.of(function)
    record = look(place, lambda reader: find(reader, name))
    if record.status.is_over:
        raise CommandError(f"execution {name!r} is over, it is {record.status}: there is nothing to pause")
    if record.status.is_paused:
        raise CommandError(f"execution {name!r} is {record.status} already")
    request = PauseExecution(record.name, reason, not keeps_limit, uuid4().hex)
    act = Act(
        what="pause",
        execution=record.name,
        request=request,
        words="is paused",
        follow_up="resume",
        arn=record.arn,
    )
    return act_on(act, Manner(place=place, as_lines=as_lines))

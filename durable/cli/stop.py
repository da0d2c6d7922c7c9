"""`durable stop`: end an execution, and undo nothing."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from .exits import ExitCode
from .options import (
    RECORDED,
    CommandError,
    DebugOption,
    FunctionOption,
    LinesOption,
    NameArgument,
    anywhere,
    reporting,
)
from .place import Place
from .texts import paragraphs

HELP: Final = paragraphs("""
End an execution as STOPPED, whatever it is doing. Nothing is undone.

No saga of it rolls back: what it has done stays done. To have it undone there is durable cancel. If an engine has
the store it is asked, and cancels what is running; so are a server (--endpoint) and AWS (--aws). The execution
cannot be gone on with after this.
""")

EPILOG: Final = RECORDED


@reporting
@anywhere
def stop(
    *,
    name: NameArgument,
    function: FunctionOption = None,
    message: Annotated[
        str | None,
        typer.Option("--message", "-m", metavar="TEXT", help="Why, for the record.", show_default=False),
    ] = None,
    as_lines: LinesOption = False,
    place: Place,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """End an execution."""
    from .._wire import ErrorObject
    from ..local.inbox import StopExecution
    from .acting import Act, Manner, act_on
    from .reading import awaited

    place = place.of(function)
    record, lookout = awaited(place, name)
    if lookout.is_over:
        raise CommandError(f"execution {name!r} is over, it is {record.status}: there is nothing to stop")
    error = None if message is None else ErrorObject(error_message=message)
    request = StopExecution(record.name, error)
    act = Act(what="stop", execution=record.name, request=request, words="is stopped", arn=record.arn)
    code = act_on(act, Manner(place=place, as_lines=as_lines))
    sys.stderr.write("warning: nothing was undone: what the execution has done stays done\n")
    if any(one.kind == "cancellation" for one in lookout.all()):
        sys.stderr.write(f"{place.command('cancel', name)} would have undone its saga\n")
    return code

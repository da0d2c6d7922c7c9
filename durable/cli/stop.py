"""`durable stop`: end an execution, and undo nothing."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from .exits import ExitCode
from .options import (
    DEFAULT_STORE,
    RECORDED,
    CommandError,
    DebugOption,
    LinesOption,
    StoreOption,
    complete_name,
    default_store,
    reporting,
)
from .texts import command_text, paragraphs

HELP: Final = paragraphs("""
End an execution as STOPPED, whatever it is doing. Nothing is undone.

No saga of it rolls back: what it has done stays done. To have it undone there is durable cancel. If an engine has
the store it is asked, and cancels what is running. The execution cannot be gone on with after this.
""")

EPILOG: Final = RECORDED


@reporting
def stop(
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The execution.", autocompletion=complete_name, show_default=False)
    ],
    message: Annotated[
        str | None,
        typer.Option("--message", "-m", metavar="TEXT", help="Why, for the record.", show_default=False),
    ] = None,
    as_lines: LinesOption = False,
    store: StoreOption = DEFAULT_STORE,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """End an execution."""
    from .._wire import ErrorObject
    from ..local.inbox import StopExecution
    from .acting import Act, Manner, act_on
    from .reading import awaited

    record, lookout = awaited(store, name)
    if lookout.is_over:
        raise CommandError(f"execution {name!r} is over, it is {record.status}: there is nothing to stop")
    error = None if message is None else ErrorObject(error_message=message)
    act = Act(what="stop", execution=name, request=StopExecution(name, error), words="is stopped")
    code = act_on(act, Manner(store=store, as_lines=as_lines))
    sys.stderr.write("warning: nothing was undone: what the execution has done stays done\n")
    if any(one.kind == "cancellation" for one in lookout.all()):
        command = command_text("cancel", name, store=store, default_store=default_store())
        sys.stderr.write(f"{command} would have undone its saga\n")
    return code

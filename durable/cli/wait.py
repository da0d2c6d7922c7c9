"""`durable wait`: follow an execution that runs elsewhere, to its end."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from .exits import ExitCode, explain
from .options import DebugOption, FunctionOption, LinesOption, NameArgument, anywhere, reporting
from .place import Place
from .texts import paragraphs

HELP: Final = paragraphs("""
Follow an execution to its end, whoever runs it: another process, a server (--endpoint), or AWS (--aws).

It runs nothing, and changes nothing: it tells what happens as durable run does, and ends with the exit code that
durable run would end with.
""")

EPILOG: Final = f"--json: as durable run has it.\n\n{explain()}"


@reporting
@anywhere
def wait(
    *,
    name: NameArgument,
    function: FunctionOption = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            "-t",
            metavar="SECONDS",
            min=0,
            help="Give up after that, with exit code 3. The execution goes on.",
            show_default=False,
        ),
    ] = None,
    as_lines: LinesOption = False,
    place: Place,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """Follow an execution to its end."""
    from .follow import view_for
    from .logs import logging_to_stderr
    from .watching import watch

    place = place.of(function)
    with logging_to_stderr(0) as handler:
        view = view_for(place.command, handler, sys.stdout, as_lines=as_lines)
        return watch(place, name, view, timeout)

"""`durable start`: start an execution of a function that a server has, or AWS."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .exits import ExitCode
from .options import CommandError, DebugOption, InputOption, LinesOption, NewNameOption, anywhere, reporting
from .place import Place, Remote, Store
from .texts import paragraphs

if TYPE_CHECKING:
    from rich.console import Console

HELP: Final = paragraphs("""
Start an execution of a function on a server (--endpoint) or on AWS (--aws), and wait for nothing.

A name stands for one execution of the function: the same name with the same input finds it again. durable wait
follows it. On this machine durable run starts executions, and runs them.
""")

EPILOG: Final = (
    "--json: an object of type recorded with execution, what, name (null), callback_id (null), engine: the URL "
    "that was asked, and arn."
)


@reporting
@anywhere
def start(
    *,
    function: Annotated[
        str,
        typer.Argument(
            metavar="FUNCTION",
            help="The function's name or ARN; on AWS with a version or an alias: name:alias.",
            show_default=False,
        ),
    ],
    text: InputOption = "null",
    name: NewNameOption = None,
    as_lines: LinesOption = False,
    place: Place,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """Start an execution elsewhere."""
    if isinstance(place, Store):
        raise CommandError(
            "durable start is for a server (--endpoint URL) or AWS (--aws). On this machine durable run "
            "MODULE_OR_FILE:FUNCTION starts executions, and runs them.",
            code=ExitCode.USAGE,
        )
    import anyio

    from .inputs import read_input

    arn = anyio.run(_start, place, function, read_input(text), name)
    if arn is None:
        raise CommandError(f"{function} is not a durable function: it was called, and there is no execution of it")
    found = arn.split("/")[-2]
    if as_lines:
        from .machine import encode

        line = {"type": "recorded", "execution": found, "what": "start", "name": None, "callback_id": None}
        sys.stdout.write(f"{encode({**line, 'engine': str(place), 'arn': arn})}\n")
    else:
        from .terminal import console_for

        _tell(console_for(sys.stdout), place.of(function), found, arn)
    return ExitCode.SUCCEEDED


async def _start(place: Remote, function: str, payload: str, name: str | None) -> str | None:
    from .remote import connected

    async with connected(place) as client:
        return await client.start(function, payload, name=name)


def _tell(console: Console, place: Remote, name: str, arn: str) -> None:
    from rich.text import Text

    from .outcome import print_command
    from .terminal import signs_of

    head = Text.assemble((f"{signs_of(console).succeeded} started", "bold green"), f"  {name}: {arn}")
    console.print(head, soft_wrap=True)
    print_command(console, "wait with", place.command("wait", name))

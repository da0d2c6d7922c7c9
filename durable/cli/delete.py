"""`durable delete`: remove executions that are over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from .exits import ExitCode
from .options import (
    RECORDED,
    CommandError,
    DebugOption,
    FunctionOption,
    LinesOption,
    anywhere,
    complete_name,
    reporting,
)
from .place import Place
from .texts import paragraphs

if TYPE_CHECKING:
    from ..abc import ExecutionRecord
    from .reading import Source

HELP: Final = paragraphs("""
Remove executions that are over, with their operations and their history. This cannot be taken back.

Their names are free after this. One that is not over is refused: durable stop ends it. So is one that was invoked
by another execution which is not over. Of several names nothing is removed if one of them cannot be.
""")

EPILOG: Final = RECORDED


@reporting
@anywhere
def delete(
    *,
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="The executions.", autocompletion=complete_name, show_default=False),
    ],
    function: FunctionOption = None,
    as_lines: LinesOption = False,
    place: Place,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """Remove executions."""
    from ..local.inbox import DeleteExecution
    from .acting import Act, Manner, act_on
    from .reading import find, look

    place = place.of(function)

    async def read(reader: Source) -> list[ExecutionRecord]:
        return [await find(reader, name) for name in dict.fromkeys(names)]

    records = look(place, read)
    for record in records:
        if not record.status.is_over:
            stop = place.command("stop", record.name)
            raise CommandError(
                f"execution {record.name!r} is not over, it is {record.status}: nothing is deleted. {stop} ends it."
            )
    manner = Manner(place=place, as_lines=as_lines)
    for record in records:
        act = Act(
            what="delete",
            execution=record.name,
            request=DeleteExecution(record.name),
            words="is deleted",
            follow_up=None,
            arn=record.arn,
        )
        act_on(act, manner)
    return ExitCode.SUCCEEDED

"""`durable resume`: go on with what was not over when a process ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .exits import ExitCode, explain
from .options import (
    Backend,
    BackendOption,
    CommandError,
    DebugOption,
    FunctionOption,
    LinesOption,
    ReasonOption,
    VerboseOption,
    anywhere,
    complete_name,
    reporting,
)
from .place import Place, Store
from .texts import paragraphs

if TYPE_CHECKING:
    from ..local import Engine
    from .acting import Manner
    from .session import Followed, Pick

HELP: Final = paragraphs("""
Go on with what was not over when its process ended, or with an execution that is paused.

It is followed to its end. Steps that completed do not run again; a rollback that was half done is finished.
Functions are imported by the MODULE_OR_FILE:FUNCTION they were started with.

What durable pause has paused is gone on with when it is named, and not before. If an engine has the store it is
asked to; so are a server (--endpoint) and AWS (--aws).
""")

EPILOG: Final = (
    "--json: as durable run has it; where an engine, a server or AWS is asked, one object of type recorded.\n\n"
    f"{explain()}\n\nOf several executions the worst counts; with nothing to go on with it is 0."
)


@reporting
@anywhere
def resume(
    *,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Only this execution; all that are not over and not paused if not given.",
            autocompletion=complete_name,
            show_default=False,
        ),
    ] = None,
    function: FunctionOption = None,
    reason: ReasonOption = None,
    backend: BackendOption = Backend.ASYNCIO,
    as_lines: LinesOption = False,
    place: Place,
    verbosity: VerboseOption = 0,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """Go on with what is not over, and follow it to its end."""
    from .acting import Manner
    from .follow import follow
    from .session import check_store

    place = place.of(function)
    manner = Manner(place=place, goes_on=True, backend=backend, as_lines=as_lines, verbosity=verbosity)
    if isinstance(place, Store):
        from ..local.stores.file import engine_of

        check_store(place.path)
        if name is None or engine_of(place.path) is None or not _is_paused(place, name):
            pick = _resumer(name, place.path, reason)
            return follow(place.path, pick, backend=backend, as_lines=as_lines, verbosity=verbosity)
    elif name is None:
        raise CommandError(
            f"{place} goes on with executions by itself: say which one is to be resumed that is paused",
            code=ExitCode.USAGE,
        )
    return _ask(name, reason, manner)


def _is_paused(place: Place, name: str) -> bool:
    from .reading import find, look

    return look(place, lambda reader: find(reader, name)).status.is_paused


def _ask(name: str, reason: str | None, manner: Manner) -> ExitCode:
    """Have whoever has the execution go on with it."""
    from uuid import uuid4

    from ..local.inbox import ResumeExecution
    from .acting import Act, act_on
    from .reading import find, look

    record = look(manner.place, lambda reader: find(reader, name))
    if not record.status.is_paused:
        raise CommandError(f"execution {name!r} is {record.status}, and not paused: there is nothing to resume")
    request = ResumeExecution(record.name, reason, uuid4().hex)
    act = Act(
        what="resume",
        execution=record.name,
        request=request,
        words="goes on",
        follow_up="show",
        arn=record.arn,
    )
    return act_on(act, manner)


def _resumer(name: str | None, store: str, reason: str | None) -> Pick:
    async def resume_them(engine: Engine) -> list[Followed]:
        from .._wire import ExecutionStatus
        from .reading import find
        from .session import Followed

        if name is None:
            records = await engine.executions(ExecutionStatus.RUNNING)
        else:
            records = [await find(engine, name)]
        if not records:
            paused = await engine.executions(ExecutionStatus.PAUSED)
            rest = f" or paused: {', '.join(record.name for record in paused)}" if paused else ""
            sys.stderr.write(f"nothing to resume: every execution in {store} is over{rest}\n")
        # Read before anything runs: this is what had happened before.
        past = {record.name: await engine.history(record.name) for record in records}
        if name is not None and records[0].status.is_paused:
            await engine.unpause(name, reason)
        runs = {run.name: run for run in await engine.resume(name)}
        return [Followed(record, runs[record.name], past[record.name]) for record in records]

    return resume_them

"""`durable resume`: go on with what was not over when a process ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .exits import ExitCode, explain
from .options import (
    DEFAULT_STORE,
    Backend,
    BackendOption,
    DebugOption,
    LinesOption,
    StoreOption,
    VerboseOption,
    complete_name,
    reporting,
)
from .texts import paragraphs

if TYPE_CHECKING:
    from ..local import Engine
    from .session import Followed, Pick

HELP: Final = paragraphs("""
Go on with what was not over when its process ended.

It is followed to its end. Steps that completed do not run again; a rollback that was half done is finished.
Functions are imported by the MODULE_OR_FILE:FUNCTION they were started with.
""")

EPILOG: Final = (
    "--json: as durable run has it.\n\n"
    f"{explain()}\n\nOf several executions the worst counts; with nothing to go on with it is 0."
)


@reporting
def resume(
    *,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Only this execution; all that are not over if not given.",
            autocompletion=complete_name,
            show_default=False,
        ),
    ] = None,
    backend: BackendOption = Backend.ASYNCIO,
    as_lines: LinesOption = False,
    store: StoreOption = DEFAULT_STORE,
    verbosity: VerboseOption = 0,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """Go on with what is not over, and follow it to its end."""
    from .follow import follow
    from .session import check_store

    check_store(store)
    return follow(store, _resumer(name, store), backend=backend, as_lines=as_lines, verbosity=verbosity)


def _resumer(name: str | None, store: str) -> Pick:
    async def resume_them(engine: Engine) -> list[Followed]:
        from .._wire import ExecutionStatus
        from .reading import find
        from .session import Followed

        if name is None:
            records = await engine.executions(ExecutionStatus.RUNNING)
        else:
            records = [await find(engine, name)]
        if not records:
            sys.stderr.write(f"nothing to resume: every execution in {store} is over\n")
        # Read before anything runs: this is what had happened before.
        past = {record.name: await engine.history(record.name) for record in records}
        runs = {run.name: run for run in await engine.resume(name)}
        return [Followed(record, runs[record.name], past[record.name]) for record in records]

    return resume_them

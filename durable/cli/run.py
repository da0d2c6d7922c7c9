"""`durable run`: start an execution, or find it, and follow it to its end."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .exits import ExitCode, explain
from .options import (
    DEFAULT_STORE,
    Backend,
    BackendOption,
    CommandError,
    DebugOption,
    InputOption,
    LinesOption,
    NewNameOption,
    StoreOption,
    TimeLimitOption,
    VerboseOption,
    reporting,
)
from .texts import paragraphs

if TYPE_CHECKING:
    from ..function import DurableFunction
    from ..local import Engine
    from .session import Followed, Pick

HELP: Final = paragraphs("""
Start an execution of a durable function and follow it to its end.

The execution is on disk before its first step runs. Kill this process at any moment, even with kill -9: the same
command with the same --name, or durable resume, goes on where it was. A name stands for one execution forever: the
same name with the same input finds it again, and shows its outcome if it is over.
""")

_JSON_HELP: Final = (
    "--json: first an object of type execution, then one of type event for each history event, as "
    "GetDurableExecutionHistory gives it, then one of type outcome with status, result, error, rollbacks and "
    "exit_code."
)

EPILOG: Final = f"{_JSON_HELP}\n\n{explain()}"


@reporting
def run(
    *,
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE_OR_FILE:FUNCTION",
            help="The function: package.module:function, or path/to/file.py:function.",
            show_default=False,
        ),
    ],
    text: InputOption = "null",
    name: NewNameOption = None,
    timeout: TimeLimitOption = None,
    backend: BackendOption = Backend.ASYNCIO,
    as_lines: LinesOption = False,
    store: StoreOption = DEFAULT_STORE,
    verbosity: VerboseOption = 0,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """Start an execution, or find it, and follow it to its end."""
    from ..local import load_target
    from .follow import follow
    from .inputs import input_of, read_input

    output = sys.stdout
    # What users' modules print when they are imported must not come between the lines for machines.
    with redirect_stdout(sys.stderr) if as_lines else nullcontext():
        payload = read_input(text)
        function = load_target(target)
        event = input_of(function, payload)
    pick = _starter(function, event, name, timeout)
    return follow(store, pick, backend=backend, as_lines=as_lines, verbosity=verbosity, output=output)


def _starter(function: DurableFunction[Any, Any], event: Any, name: str | None, timeout: float | None) -> Pick:
    async def start(engine: Engine) -> list[Followed]:
        from ..exceptions import ExecutionNotFoundError
        from .session import Followed

        try:
            before = None if name is None else await engine.execution(name)
        except ExecutionNotFoundError:
            before = None
        if before is not None and before.status.is_paused:
            raise CommandError(f"execution {name!r} is paused: durable resume {name} goes on with it")
        past = () if before is None else await engine.history(before.name)
        started = await engine.start(function, event, name=name, timeout=timeout)
        return [Followed(before or await engine.execution(started.name), started, past)]

    return start

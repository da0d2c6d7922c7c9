"""`durable replay`: whether code follows what executions of it have recorded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
import typer

from ..exceptions import DurableError
from .exits import ExitCode, worst
from .options import (
    Backend,
    BackendOption,
    CommandError,
    DebugOption,
    VerboseOption,
    report,
    reporting,
)
from .texts import paragraphs

if TYPE_CHECKING:
    from typing import TextIO

    from ..function import DurableFunction
    from ..testing import ReplayResult

HELP: Final = paragraphs("""
Run a durable function over recorded histories, and tell whether it follows them: before a deploy, with those of
executions in flight.

Nothing is recorded, and no step, compensation or cleanup is called: the code is stopped before the first thing that
is new. A history that has ended must end the same way. Histories are what durable history NAME --json prints, or
aws lambda get-durable-execution-history --include-execution-data.
""")

EPILOG: Final = """\
--json: an object of type replay for each history, with file, execution, status, compatible, replayed, ended, \
result, error, goes_on_with, waits_for, divergence (expected, found and where, or null) and exit_code.

Exit codes
    0  the code follows every history
    2  the command line is wrong
    3  a history cannot be read, or has no data; or the function is not found
    4  the code does not follow a history
  130  interrupted by Ctrl-C

Of several the worst counts: 3 before 4.
"""

_STDIN: Final = "-"


@reporting
def replay(
    *,
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE_OR_FILE:FUNCTION",
            help="The function: package.module:function, or path/to/file.py:function.",
            show_default=False,
        ),
    ],
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="HISTORY...", help="Files with a history each; - is standard input.", show_default=False
        ),
    ],
    arn: Annotated[
        str | None,
        typer.Option(
            "--arn",
            metavar="ARN",
            help="The execution's ARN, if its file does not tell it: ctx.uuid4() and ctx.random() depend on it.",
            show_default=False,
        ),
    ] = None,
    backend: BackendOption = Backend.ASYNCIO,
    as_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line (see below).")] = False,
    verbosity: VerboseOption = 0,
    debug: DebugOption = False,
) -> ExitCode:
    """Run a function over histories."""
    from ..local import load_target
    from .logs import logging_to_stderr

    if arn is not None and len(files) > 1:
        raise CommandError("--arn is of one execution: replay its history alone", code=ExitCode.USAGE)
    output = sys.stdout
    # What users' code prints must not come between the lines for machines.
    with redirect_stdout(sys.stderr) if as_lines else nullcontext(), logging_to_stderr(verbosity):
        function = load_target(target)
        codes: list[ExitCode] = []
        for file in files:
            result = _replayed(function, file, arn, backend, debug=debug)
            codes.append(_code_of(result))
            if as_lines:
                _write(output, file, result)
            elif not isinstance(result, DurableError):
                _print(output, file, result)
    if len(files) > 1 and not as_lines:
        _sum_up(output, codes)
    return worst(codes)


def _replayed(
    function: DurableFunction[Any, Any], file: str, arn: str | None, backend: Backend, *, debug: bool
) -> ReplayResult | DurableError:
    """What came of one history; what cannot be replayed is told at once."""
    from ..testing import replay
    from ..testing.history_files import read_history

    try:
        history = read_history(sys.stdin.buffer.read() if file == _STDIN else Path(file), _shown(file))
        return anyio.run(partial(replay, function, history, arn=arn), backend=backend.value)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is not None:  # trio raises it inside of whatever is running
            raise KeyboardInterrupt from None
        raise
    except (DurableError, OSError) as error:
        told = error if isinstance(error, DurableError) else _unreachable(file, error)
        report(str(told), error if debug else None)
        return told


def _unreachable(file: str, error: OSError) -> DurableError:
    return CommandError(f"{_shown(file)} cannot be replayed: a serde cannot reach what is recorded: {error}")


def _shown(file: str) -> str:
    return "standard input" if file == _STDIN else file


def _code_of(result: ReplayResult | DurableError) -> ExitCode:
    if isinstance(result, DurableError):
        return ExitCode.NOT_DONE
    return ExitCode.SUCCEEDED if result.compatible else ExitCode.UNFINISHED


# --- Telling -----------------------------------------------------------------------------------------------------


def _print(output: TextIO, file: str, result: ReplayResult) -> None:
    from rich.text import Text

    from .terminal import console_for, put, signs_of
    from .texts import count_text, one_line

    console = console_for(output)
    signs = signs_of(console)
    label = one_line(file if file != _STDIN else result.name)
    found = result.divergence
    if found is None:
        count = count_text(result.replayed, "operation")
        follows = f"{label}  follows {count}, then {one_line(result.then)}"
        put(console, Text.assemble((signs.succeeded, "green"), f" {follows}"))
        return
    put(console, Text.assemble((f"{signs.failed} ", "bold red"), label, ("  does not follow", "red")))
    for what, text in (("expected", found.expected), ("found", found.found), ("at", _place(found.where))):
        console.print(Text.assemble("    ", (f"{what:<8}  ", "dim"), one_line(text)), soft_wrap=True)
    for note in getattr(found, "__notes__", ()):
        console.print(Text(f"    {one_line(note)}", "dim"), soft_wrap=True)


def _place(where: str) -> str:
    """Where it is, with the file as seen from here."""
    return where.replace(f"{Path.cwd()}/", "")


def _sum_up(output: TextIO, codes: Sequence[ExitCode]) -> None:
    from .terminal import console_for, put

    counts = {
        "followed": codes.count(ExitCode.SUCCEEDED),
        "not": codes.count(ExitCode.UNFINISHED),
        "not read": codes.count(ExitCode.NOT_DONE),
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    put(console_for(output), f"{len(codes)} histories: {told}")


def _write(output: TextIO, file: str, result: ReplayResult | DurableError) -> None:
    """One history as a line for machines."""
    from .._kernel.errors import encode_error
    from .machine import encode, error_shape, trouble_shape, value_shape

    if isinstance(result, DurableError):
        shape: dict[str, Any] = {"compatible": None, "error": trouble_shape(result)}
    else:
        found = result.divergence
        shape = {
            "execution": result.name,
            "status": result.status,
            "compatible": result.compatible,
            "replayed": result.replayed,
            "ended": result.ended,
            "result": value_shape(result.result),
            "error": None if result.error is None else error_shape(encode_error(result.error)),
            "goes_on_with": result.goes_on_with,
            "waits_for": result.waits_for,
            "divergence": found and {"expected": found.expected, "found": found.found, "where": found.where},
        }
    line = encode({"type": "replay", "file": file, **shape, "exit_code": _code_of(result)})
    output.write(f"{line}\n")
    output.flush()

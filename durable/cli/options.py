"""What commands have in common: their options, and how an error becomes a message and an exit code."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Final, ParamSpec

import typer

from ..exceptions import (
    DurableError,
    ExecutionNotFoundError,
    NotDurableError,
    StoreNotFoundError,
    TargetNotFoundError,
)
from .exits import ExitCode, code_of, explain
from .texts import paragraphs

P = ParamSpec("P")

STORE_VARIABLE: Final = "DURABLE_STORE"
DEFAULT_STORE: Final = "durable.db"

WHO_GOES_ON: Final = paragraphs("""
If an engine has the store it is asked, and goes on with the execution. Otherwise it is recorded, and this command
goes on with the execution and follows it to its end, as durable resume does; with --no-wait it does not.
""")

RECORDED: Final = (
    "--json: an object of type recorded with execution, what, name, callback_id, and engine: the one that was "
    "asked, or null."
)

RECORDED_OR_FOLLOWED: Final = (
    f"{RECORDED} If the execution is then followed here, what durable run has comes after it.\n\n{explain()}\n\n"
    "Where the execution is not followed, 0 says that it is recorded."
)
"""What the help of commands that act on executions has at its end."""


class Backend(StrEnum):
    """The event loop."""

    ASYNCIO = "asyncio"
    TRIO = "trio"


StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="PATH",
        envvar=STORE_VARIABLE,
        help="The store's file.",
        rich_help_panel="Common options",
    ),
]
BackendOption = Annotated[Backend, typer.Option("--backend", help="The event loop to run on.")]
LinesOption = Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines (see below).")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Only record it; do not go on with the execution.")]
VerboseOption = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        help="More logging on standard error; -vv for everything.",
        rich_help_panel="Common options",
        show_default=False,
        metavar="",
    ),
]
DebugOption = Annotated[
    bool,
    typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel="Common options"),
]


class CommandError(DurableError):
    """A command cannot be carried out, for a reason that has no exception of its own."""

    def __init__(self, message: str, *, code: ExitCode = ExitCode.NOT_DONE) -> None:
        super().__init__(message)
        self.code = code


def default_store() -> str:
    """The store that is used without `--store`."""
    return os.environ.get(STORE_VARIABLE) or DEFAULT_STORE


def complete_name(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of executions, for the shell's completion."""
    from .reading import names

    return names(ctx.params.get("store") or default_store(), incomplete)


def complete_step(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of steps whose compensations wait for a decision."""
    from .reading import awaited_names

    found = awaited_names(ctx.params.get("store") or default_store(), ctx.params.get("name"), "decision")
    return [name for name in found if name.startswith(incomplete)]


def complete_callback(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of callbacks that are waited for."""
    from .reading import awaited_names

    found = awaited_names(ctx.params.get("store") or default_store(), None, "answer")
    return [callback_id for callback_id in found if callback_id.startswith(incomplete)]


def reporting(command: Callable[P, ExitCode]) -> Callable[P, None]:
    """A command whose exit code is what it returns, and whose errors are messages on standard error.

    With `--debug` the traceback comes before the message. An error that is a mistake of ours always has one.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        debug = bool(kwargs.get("debug"))
        code = ExitCode.NOT_DONE
        try:
            code = command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt as error:
            code = code_of(error)
            _report("interrupted", error if debug else None)
        except DurableError as error:
            code = error.code if isinstance(error, CommandError) else code_of(error)
            _report(str(error), error if debug else None, _hint(error))
        except BrokenPipeError:
            # Whoever read our output has left, as `| head` does: no reason for complaints, at exit neither.
            code = ExitCode.UNHEARD
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception as error:  # noqa: BLE001 - whatever it is: a traceback, and an exit code that means something
            _report(f"{type(error).__name__}: {error}", error)
        raise typer.Exit(code)

    return run


def _report(message: str, error: BaseException | None, hint: str | None = None) -> None:
    from .terminal import console_for

    console = console_for(sys.stderr)
    if error is not None:
        import traceback

        sys.stderr.write("".join(traceback.format_exception(error)))
    from rich.text import Text

    from .texts import safe_text

    console.print(Text.assemble(("error: ", "bold red"), safe_text(message)))
    if hint is not None:
        console.print(Text(hint, "dim"))


def _hint(error: DurableError) -> str | None:
    """What to do about it, where the command line knows something that the error does not."""
    if isinstance(error, StoreNotFoundError):
        return f"--store or {STORE_VARIABLE} names another one."
    if isinstance(error, ExecutionNotFoundError):
        return "durable ls lists those there are."
    if isinstance(error, (TargetNotFoundError, NotDurableError)) and error.__cause__ is not None:
        return "--debug shows where."
    return None

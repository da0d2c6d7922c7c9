"""What commands have in common: their options, and how an error becomes a message and an exit code."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Final, ParamSpec, get_type_hints

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
ENDPOINT_VARIABLE: Final = "DURABLE_ENDPOINT"
TOKEN_VARIABLE: Final = "DURABLE_DEV_TOKEN"  # noqa: S105 - the name of a variable
DEFAULT_STORE: Final = "durable.db"

WHO_GOES_ON: Final = paragraphs("""
If an engine has the store it is asked, and goes on with the execution. Otherwise it is recorded, and this command
goes on with the execution and follows it to its end, as durable resume does; with --no-wait it does not. A server
(--endpoint) or AWS (--aws) is asked, and goes on with it.
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


WHERE: Final = "Where"
"""The part of a help page that says where executions are."""

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="PATH",
        envvar=STORE_VARIABLE,
        help="The store's file.",
        rich_help_panel=WHERE,
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="URL",
        envvar=ENDPOINT_VARIABLE,
        help="A server that speaks as AWS Lambda does, as durable dev: instead of a store.",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        envvar=TOKEN_VARIABLE,
        help="What the server at --endpoint wants to be shown.",
        rich_help_panel=WHERE,
        show_default=False,
        show_envvar=False,
    ),
]
AwsOption = Annotated[bool, typer.Option("--aws", help="AWS Lambda: instead of a store.", rich_help_panel=WHERE)]
RegionOption = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="REGION",
        help="With --aws: if not that of the profile or the environment.",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]
ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="PROFILE",
        help="With --aws: if not that of the environment.",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]
FunctionOption = Annotated[
    str | None,
    typer.Option(
        "--function",
        "-f",
        metavar="FUNCTION",
        help="The function that NAME is of: needed with --endpoint and --aws, unless NAME is an ARN.",
        show_default=False,
    ),
]
InputOption = Annotated[
    str, typer.Option("--input", "-i", metavar="JSON|@FILE|-", help="Its input; - is standard input.")
]
NewNameOption = Annotated[
    str | None,
    typer.Option(
        "--name",
        "-n",
        metavar="NAME",
        help="What the execution is called: 1 to 64 of A-Z a-z 0-9 _ -. Made up if not given.",
        show_default=False,
    ),
]
ReasonOption = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Why, for the record.", show_default=False),
]
TimeLimitOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=1,
        help="How long it may take; after that it ends as TIMED_OUT, and nothing is undone.",
        show_default=False,
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


_PLACE: Final[dict[str, tuple[Any, Any]]] = {
    "store": (StoreOption, DEFAULT_STORE),
    "endpoint": (EndpointOption, None),
    "token": (TokenOption, None),
    "aws": (AwsOption, False),
    "region": (RegionOption, None),
    "profile": (ProfileOption, None),
}
"""The options that say where executions are, with their defaults."""


class CommandError(DurableError):
    """A command cannot be carried out, for a reason that has no exception of its own."""

    def __init__(self, message: str, *, code: ExitCode = ExitCode.NOT_DONE) -> None:
        super().__init__(message)
        self.code = code


def default_store() -> str:
    """The store that is used without `--store`."""
    return os.environ.get(STORE_VARIABLE) or DEFAULT_STORE


def anywhere(command: Callable[..., ExitCode]) -> Callable[..., ExitCode]:
    """A command that works on a store's file, on a server and on AWS.

    It gets a `place`, and on the command line has in its stead the options that say which.
    """
    from .place import place_of

    @functools.wraps(command)
    def run(*, ctx: typer.Context, **given: Any) -> ExitCode:
        chosen = {name: given.pop(name) for name in _PLACE}
        return command(place=place_of(ctx, **chosen), **given)

    hints = get_type_hints(command, include_extras=True)
    parameters = [inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name == "place":
            parameters += [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
                for name, (annotation, default) in _PLACE.items()
            ]
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _store_of(ctx: typer.Context) -> str | None:
    """The store that a command line that is being typed is about; `None` if it is about a server or AWS."""
    if ctx.params.get("endpoint") or ctx.params.get("aws"):
        return None
    return ctx.params.get("store") or default_store()


def complete_name(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of executions, for the shell's completion."""
    from .reading import names

    store = _store_of(ctx)
    return [] if store is None else names(store, incomplete)


def complete_step(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of steps whose compensations wait for a decision."""
    from .reading import awaited_names

    store = _store_of(ctx)
    found = [] if store is None else awaited_names(store, ctx.params.get("name"), "decision")
    return [name for name in found if name.startswith(incomplete)]


def complete_callback(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of callbacks that are waited for."""
    from .reading import awaited_names

    store = _store_of(ctx)
    found = [] if store is None else awaited_names(store, None, "answer")
    return [callback_id for callback_id in found if callback_id.startswith(incomplete)]


NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The execution.", autocompletion=complete_name, show_default=False),
]


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
            report("interrupted", error if debug else None)
        except DurableError as error:
            code = error.code if isinstance(error, CommandError) else code_of(error)
            report(str(error), error if debug else None, _hint(error))
        except BrokenPipeError:
            # Whoever read our output has left, as `| head` does: no reason for complaints, at exit neither.
            code = ExitCode.UNHEARD
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception as error:  # noqa: BLE001 - whatever it is: a traceback, and an exit code that means something
            report(f"{type(error).__name__}: {error}", error)
        raise typer.Exit(code)

    return run


def report(message: str, error: BaseException | None, hint: str | None = None) -> None:
    """Tell what cannot be done on standard error; with the traceback of an error, if one is given."""
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

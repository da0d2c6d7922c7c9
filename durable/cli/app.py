"""The program `durable`: its commands, one module each, and what is said where none is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from . import (
    callback,
    cancel,
    check,
    delete,
    dev,
    history,
    ls,
    messages,
    pause,
    replay,
    resume,
    run,
    saga,
    show,
    start,
    stop,
    wait,
)
from .exits import explain
from .texts import paragraphs

HELP: Final = paragraphs("""
Durable executions on this machine: start them, watch them, look at them, act on them, go on with them.

Everything is in one SQLite file: durable.db in the current directory, unless --store or DURABLE_STORE says
otherwise. What looks and acts does so on a server (--endpoint) and on AWS (--aws) as well.
""")

app = typer.Typer(
    name="durable",
    help=HELP,
    epilog=explain(),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RUNNING: Final = "Run"
WRITING: Final = "Write"
LOOKING: Final = "Look"
ACTING: Final = "Act"

# In the order in which --help has them.
app.command("run", help=run.HELP, epilog=run.EPILOG, rich_help_panel=RUNNING)(run.run)
app.command("resume", help=resume.HELP, epilog=resume.EPILOG, rich_help_panel=RUNNING)(resume.resume)
app.command("start", help=start.HELP, epilog=start.EPILOG, rich_help_panel=RUNNING)(start.start)
app.command("dev", help=dev.HELP, epilog=dev.EPILOG, rich_help_panel=RUNNING)(dev.dev)
app.command("ls", help=ls.HELP, epilog=ls.EPILOG, rich_help_panel=LOOKING)(ls.ls)
app.command("show", help=show.HELP, epilog=show.EPILOG, rich_help_panel=LOOKING)(show.show)
app.command("history", help=history.HELP, epilog=history.EPILOG, rich_help_panel=LOOKING)(history.history)
app.command("logs", help=messages.HELP, epilog=messages.EPILOG, rich_help_panel=LOOKING)(messages.logs)
app.command("wait", help=wait.HELP, epilog=wait.EPILOG, rich_help_panel=LOOKING)(wait.wait)
app.command("replay", help=replay.HELP, epilog=replay.EPILOG, rich_help_panel=WRITING)(replay.replay)
app.command("check", help=check.HELP, epilog=check.EPILOG, rich_help_panel=WRITING)(check.check)
app.add_typer(callback.app, name="callback", help=callback.HELP, rich_help_panel=ACTING)
app.add_typer(saga.app, name="saga", help=saga.HELP, rich_help_panel=ACTING)
app.command("cancel", help=cancel.HELP, epilog=cancel.EPILOG, rich_help_panel=ACTING)(cancel.cancel)
app.command("pause", help=pause.HELP, epilog=pause.EPILOG, rich_help_panel=ACTING)(pause.pause)
app.command("stop", help=stop.HELP, epilog=stop.EPILOG, rich_help_panel=ACTING)(stop.stop)
app.command("delete", help=delete.HELP, epilog=delete.EPILOG, rich_help_panel=ACTING)(delete.delete)


def _print_version(*, value: bool) -> None:
    if value:
        import durable

        sys.stdout.write(f"durable {durable.__version__}\n")
        raise typer.Exit


@app.callback()
def _main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What comes before every command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program, and end the process with its exit code.

    Args:
        arguments: The command line without the program's name; by default that of the process.
    """
    app(arguments, prog_name="durable")

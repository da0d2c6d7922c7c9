"""What `run` and `resume` share: a view that fits where the output goes, and an engine to watch."""

from __future__ import annotations

import sys
from typing import TextIO

from .exits import ExitCode
from .lines import LinesView
from .live import LiveView
from .logs import LogHandler, logging_to_stderr
from .options import Backend, default_store
from .plain import PlainView
from .session import Pick, View, run_session
from .terminal import console_for, is_terminal
from .texts import command_text


def follow(
    store: str, pick: Pick, *, backend: Backend, as_lines: bool, verbosity: int, output: TextIO | None = None
) -> ExitCode:
    """Run an engine until what it was given is over, and tell what happens.

    Args:
        store: The store's file.
        pick: Starts or resumes what is to be followed.
        backend: The event loop.
        as_lines: Tell it to a machine.
        verbosity: Of logging.
        output: Where to tell it, if that is not standard output as it is now.

    Raises:
        DurableError: Nothing could be followed.
    """
    with logging_to_stderr(verbosity) as handler:
        return run_session(store, _view(store, handler, output or sys.stdout, as_lines=as_lines), pick, backend)


def _view(store: str, handler: LogHandler, output: TextIO, *, as_lines: bool) -> View:
    if as_lines:
        return LinesView(output)

    def command(*words: str) -> str:
        return command_text(*words, store=store, default_store=default_store())

    console = console_for(output)
    return LiveView(console, handler, command) if is_terminal(output) else PlainView(console, command)

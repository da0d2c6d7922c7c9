"""What `run` and `resume` share: a view that fits where the output goes, and an engine to watch."""

from __future__ import annotations

import sys
from typing import TextIO

from .exits import ExitCode
from .hints import Command
from .lines import LinesView
from .live import LiveView
from .logs import LogHandler, logging_to_file, logging_to_stderr
from .options import Backend
from .place import Store
from .plain import PlainView
from .session import Pick, View, run_session
from .terminal import console_for, is_terminal


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
    with logging_to_stderr(verbosity) as handler, logging_to_file(store):
        view = view_for(Store(store).command, handler, output or sys.stdout, as_lines=as_lines)
        return run_session(store, view, pick, backend)


def view_for(command: Command, handler: LogHandler, output: TextIO, *, as_lines: bool) -> View:
    """A view that fits where the output goes.

    Args:
        command: Makes a command that can be copied of words.
        handler: The logging that must not get in the way.
        output: Where to tell it.
        as_lines: Tell it to a machine.
    """
    if as_lines:
        return LinesView(output)
    console = console_for(output)
    return LiveView(console, handler, command) if is_terminal(output) else PlainView(console, command)

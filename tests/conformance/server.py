"""Starts `durable dev` with the handlers, and ends it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .handlers.helpers import LOG_FILE

_ROOT = Path(__file__).parent.parent.parent
_PATIENCE = 10
"""Seconds that the server has to end when it is asked to."""


@contextmanager
def serving(modules: Sequence[str], apart: Mapping[str, str], directory: Path, log: Path) -> Iterator[str]:
    """A server for the durable functions of some modules; gives its URL.

    Args:
        modules: The handlers that it runs itself.
        apart: The handlers that it is to run in processes of their own, `module:function` by name.
        directory: Where its store goes, and what it says.
        log: Where the handlers log to.

    Raises:
        RuntimeError: It did not start.
    """
    store = directory / "conformance.db"
    for left in directory.glob(f"{store.name}*"):  # what was not over would go on
        left.unlink()
    functions = [f"--function={name}={_runtime(target)}" for name, target in apart.items()]
    options = ("--port", "0", "--store", str(store), "--no-reload")
    command = [sys.executable, "-m", "durable", "dev", *modules, *functions, *options]
    said = directory / "server.log"
    with said.open("w") as errors:
        server = subprocess.Popen(
            command,
            cwd=_ROOT,
            env={**os.environ, LOG_FILE: str(log)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield _url(server, said)
    finally:
        server.terminate()
        try:
            server.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _runtime(target: str) -> str:
    """What starts a process of a function."""
    return shlex.join([sys.executable, "-m", "durable.aws.runtime", target])


def _url(server: subprocess.Popen[str], said: Path) -> str:
    """Where the server is, as it says in its first line."""
    assert server.stdout is not None
    line = server.stdout.readline().strip()
    if not line.startswith("http"):
        server.wait(_PATIENCE)
        raise RuntimeError(f"the server did not start (exit code {server.returncode}): {line}\n{said.read_text()}")
    return line

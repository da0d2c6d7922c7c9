"""Processes of functions that are written in any language: started, and started again when they end."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .remote import RemoteFunction

_log = logging.getLogger("durable.server")

_FIRST_DELAY: Final = 1.0
_LAST_DELAY: Final = 30.0
"""Seconds until a process that has ended is started again: doubled each time it has not lived that long."""

_GRACE: Final = 2.0
"""Seconds that a process has to end when it is told to."""


class RemoteSpec(msgspec.Struct, frozen=True):
    """A function that runs elsewhere, as the command line has it.

    Attributes:
        name: What it is invoked by.
        command: What starts its process; empty if others start it.
    """

    name: str
    command: str = ""


def environment(function: RemoteFunction, address: str, url: str, token: str | None) -> dict[str, str]:
    """What a function's process needs to know, as on Lambda; what is set for this process counts more.

    Args:
        function: The function.
        address: Its Runtime API: host and port.
        url: Where Lambda's API is.
        token: What each request to it must have, if anything.
    """
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    defaults = {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
        "LAMBDA_TASK_ROOT": str(Path.cwd()),
    }
    own = {
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_ENDPOINT_URL_LAMBDA": url,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "local",
    }
    if token is not None:
        own["AWS_ACCESS_KEY_ID"] = token
    return {**defaults, **os.environ, **own}


async def keep_running(function: RemoteFunction, command: str, variables: Mapping[str, str]) -> None:
    """Have a process of a function, until cancelled. What it is handed when it ends has failed.

    Args:
        function: The function.
        command: What starts the process, as in a shell; there is no shell.
        variables: Its environment.
    """
    arguments = shlex.split(command)
    delay = _FIRST_DELAY
    while True:
        began = anyio.current_time()
        try:
            await _run(arguments, variables)
        except OSError as error:
            why = f"{arguments[0]} cannot be started: {error.strerror or error}"
        else:
            why = "its process has ended"
        function.fail(why)
        if anyio.current_time() - began > _LAST_DELAY:
            delay = _FIRST_DELAY
        _log.warning("%s: %s; it is started again in %g s", function.name, why, delay)
        await anyio.sleep(delay)
        delay = min(2 * delay, _LAST_DELAY)


async def _run(arguments: list[str], variables: Mapping[str, str]) -> None:
    """One process, to its end."""
    process = await anyio.open_process(arguments, stdin=None, stdout=sys.stderr, stderr=None, env=variables)
    try:
        await process.wait()
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.terminate()
                with anyio.move_on_after(_GRACE):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()

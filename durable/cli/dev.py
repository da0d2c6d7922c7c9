"""`durable dev`: serve durable functions as AWS Lambda does, on this machine."""

from __future__ import annotations

import logging
import re
import secrets
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .exits import ExitCode
from .logs import logging_to_file, logging_to_stderr
from .options import (
    DEFAULT_STORE,
    CommandError,
    DebugOption,
    StoreOption,
    TimeLimitOption,
    VerboseOption,
    reporting,
)
from .texts import paragraphs

if TYPE_CHECKING:
    from ..server.processes import RemoteSpec

DEFAULT_PORT: Final = 9420
FUNCTION_NAME: Final = re.compile(r"[a-zA-Z0-9-_]{1,64}")

HELP: Final = paragraphs("""
Serve durable functions as AWS Lambda's API does, on this machine.

Whatever talks to AWS Lambda talks to it by its endpoint URL: boto3, the AWS CLI (--endpoint-url), SDKs of other
languages. Executions are in the store's file and survive restarts of the server. When code changes the server
starts anew, and executions go on with the new code; one that the new code does not fit stays as it is, and that is
said.
""")

EPILOG: Final = (
    "It serves until Ctrl-C or SIGTERM. The first line on standard output is its URL.\n\n"
    "Only this machine can reach it, unless --host says otherwise; then each request needs a token, as its bearer "
    "token or as the access key id that it is signed with. Requests from web pages of other origins are refused."
)


@reporting
def dev(
    *,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODULE_OR_FILE[:FUNCTION]...",
            help="What to serve: all durable functions of a file or module, or one function; plain ones as well.",
            show_default=False,
        ),
    ] = None,
    functions: Annotated[
        list[str] | None,
        typer.Option(
            "--function",
            "-f",
            metavar="NAME=COMMAND",
            help="Serve a function of any language: COMMAND starts its runtime. NAME= alone: others start it.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="The port; 0: any that is free.")] = (
        DEFAULT_PORT
    ),
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="DURABLE_DEV_TOKEN",
            help="What each request must have. Beyond loopback one is made up if not given.",
            show_default=False,
        ),
    ] = None,
    reloads: Annotated[bool, typer.Option("--reload/--no-reload", help="Start anew when code changes.")] = True,
    timeout: TimeLimitOption = None,
    store: StoreOption = DEFAULT_STORE,
    verbosity: VerboseOption = 0,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """Serve durable functions as AWS Lambda does, on this machine."""
    missing = [name for name in ("starlette", "uvicorn", "watchfiles") if find_spec(name) is None]
    if missing:
        raise CommandError(f"durable dev needs {' and '.join(missing)}: pip install 'durable[cli,server]'")
    from ..server.guard import LOOPBACK
    from ..server.serve import Serving, address_of, bind, check, run

    if host not in LOOPBACK and token is None:
        token = secrets.token_urlsafe(24)
    serving = Serving(
        targets=tuple(targets or ()),
        remotes=tuple(map(_remote, functions or ())),
        store=store,
        host=host,
        port=port,
        token=token,
        reload=reloads and bool(targets),
        timeout=timeout,
    )
    if not serving.targets and not serving.remotes:
        raise CommandError("nothing to serve: name files, modules or functions", code=ExitCode.USAGE)
    check(serving)  # so that a mistake is told here, and not by a process that starts anew
    try:
        sockets = bind(serving)
    except OSError as error:
        raise CommandError(f"{host}:{port} cannot be listened at: {error.strerror or error}") from error
    lines = [f"http://{address_of(sockets[0])}"]
    if token is not None and host not in LOOPBACK:
        lines.append(f"token: {token}")
    for spec, listening in zip(serving.remotes, sockets[1:], strict=True):
        lines.append(f"{spec.name}: AWS_LAMBDA_RUNTIME_API={address_of(listening)}")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
    run(serving, sockets, partial(_logging, verbosity, store))
    return ExitCode.SUCCEEDED


def _remote(text: str) -> RemoteSpec:
    from ..server.processes import RemoteSpec

    name, equals, command = text.partition("=")
    if not equals or FUNCTION_NAME.fullmatch(name) is None:
        raise CommandError(f"--function is NAME=COMMAND, not {text!r}", code=ExitCode.USAGE)
    return RemoteSpec(name, command.strip())


@contextmanager
def _logging(verbosity: int, store: str) -> Generator[None]:
    """Logging of the process that serves."""
    logging.getLogger("durable.server").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    with logging_to_stderr(verbosity), logging_to_file(store):
        yield

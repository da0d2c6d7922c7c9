"""Where executions are: in a store's file, on a server that speaks as AWS Lambda does, or on AWS."""

from __future__ import annotations

import os
import shlex
from typing import Final

import msgspec
import typer

from .exits import ExitCode
from .options import ENDPOINT_VARIABLE, TOKEN_VARIABLE, CommandError, default_store
from .texts import command_text

_TYPED: Final = "COMMANDLINE"
"""Where a parameter is from that was typed, as click calls it."""


class Store(msgspec.Struct, frozen=True):
    """A store's file.

    Attributes:
        path: Which.
    """

    path: str

    def __str__(self) -> str:
        return self.path

    def of(self, function: str | None) -> Store:  # noqa: ARG002 - a name stands for one execution in a store
        """Where executions of a function are."""
        return self

    def command(self, *words: str) -> str:
        """A command that a user can copy."""
        return command_text(*words, store=self.path, default_store=default_store())


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """A server, or AWS.

    Attributes:
        endpoint: The server's URL; `None` for AWS.
        token: What the server wants to be shown.
        region: Of AWS, if not that of the environment.
        profile: Of AWS, if not that of the environment.
        function: Of which function executions that have a name are.
    """

    endpoint: str | None = None
    token: str | None = None
    region: str | None = None
    profile: str | None = None
    function: str | None = None

    def __str__(self) -> str:
        if self.endpoint is not None:
            return self.endpoint
        return "AWS" if self.region is None else f"AWS in {self.region}"

    def of(self, function: str | None) -> Remote:
        """Where executions of a function are."""
        return msgspec.structs.replace(self, function=function)

    def command(self, *words: str) -> str:
        """A command that a user can copy; the token has to be in the environment, it is not repeated."""
        where: list[str] = []
        if self.endpoint is None:
            where = ["--aws"]
            for option, value in (("--region", self.region), ("--profile", self.profile)):
                where += [] if value is None else [option, value]
        elif self.endpoint != os.environ.get(ENDPOINT_VARIABLE):
            where = ["--endpoint", self.endpoint]
        if self.function is not None and words[0] not in {"callback", "start"}:
            where += ["--function", self.function]
        return shlex.join(["durable", *words, *where])


Place = Store | Remote


def place_of(
    ctx: typer.Context,
    *,
    store: str,
    endpoint: str | None,
    token: str | None,
    aws: bool,
    region: str | None,
    profile: str | None,
) -> Place:
    """What the options say. What is on the command line counts before what is in the environment.

    Raises:
        CommandError: They say several things.
    """
    typed = [
        option
        for option, name in (("--store", "store"), ("--endpoint", "endpoint"), ("--aws", "aws"))
        if _is_typed(ctx, name)
    ]
    if len(typed) > 1:
        raise CommandError(f"executions are in one place: {' or '.join(typed)}, not both", code=ExitCode.USAGE)
    for option, value in (("--region", region), ("--profile", profile)):
        if value is not None and not aws:
            raise CommandError(f"{option} goes with --aws", code=ExitCode.USAGE)
    if endpoint == "" and typed == ["--endpoint"]:
        raise CommandError("--endpoint is a URL, as http://127.0.0.1:9420", code=ExitCode.USAGE)
    is_remote = aws or (bool(endpoint) and typed != ["--store"])
    if _is_typed(ctx, "token") and (aws or not is_remote):
        raise CommandError(f"--token goes with --endpoint, or is in {TOKEN_VARIABLE}", code=ExitCode.USAGE)
    if not is_remote:
        return Store(store)
    if aws:
        return Remote(region=region, profile=profile)
    return Remote(endpoint=endpoint, token=token)


def _is_typed(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == _TYPED

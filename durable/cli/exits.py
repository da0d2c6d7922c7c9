"""Exit codes: the one place where they are defined, and from which `--help` explains them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import cast

from ..exceptions import EngineClosedError, ExecutionFailedError, NonDeterminismError


class ExitCode(IntEnum):
    """How the process ends."""

    SUCCEEDED = 0
    FAILED = 1
    USAGE = 2
    NOT_DONE = 3
    UNFINISHED = 4
    INTERRUPTED = 130
    UNHEARD = 141
    TERMINATED = 143


MEANING = {
    ExitCode.SUCCEEDED: "the execution succeeded",
    ExitCode.FAILED: "the execution failed, timed out or was stopped",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.NOT_DONE: "not done: function, input, name or store is bad, or in use",
    ExitCode.UNFINISHED: "the execution cannot go on with this code and stays as it is",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C: durable resume goes on",
    ExitCode.UNHEARD: "nobody reads the output any more: durable resume goes on",
    ExitCode.TERMINATED: "terminated by SIGTERM: durable resume goes on",
}

CHECKED = {
    ExitCode.SUCCEEDED: "nothing was found",
    ExitCode.FAILED: "something was found, or a file cannot be read or parsed",
    ExitCode.USAGE: MEANING[ExitCode.USAGE],
}
"""What they mean of `durable check`, which runs nothing."""

_RANK = (
    ExitCode.SUCCEEDED,
    ExitCode.FAILED,
    ExitCode.UNFINISHED,
    ExitCode.NOT_DONE,
    ExitCode.USAGE,
    ExitCode.UNHEARD,
    ExitCode.TERMINATED,
    ExitCode.INTERRUPTED,
)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The exit code of several executions: the worst of theirs."""
    return max(codes, key=_RANK.index, default=ExitCode.SUCCEEDED)


def code_of(error: BaseException) -> ExitCode:
    """The exit code of an error that a command ends with."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, ExecutionFailedError):
        return ExitCode.FAILED
    if isinstance(error, (NonDeterminismError, EngineClosedError)):
        return ExitCode.UNFINISHED
    return ExitCode.NOT_DONE


def exit_in(error: BaseException) -> SystemExit | None:
    """The call for the end of the process that an error is, or has among its members."""
    if isinstance(error, SystemExit):
        return error
    if isinstance(error, BaseExceptionGroup):
        members = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return next((found for found in map(exit_in, members) if found is not None), None)
    return None


def explain(meaning: Mapping[ExitCode, str] = MEANING) -> str:
    """Exit codes as a help text tells them."""
    return "\n".join(["Exit codes", *(f"{code.value:>5}  {meaning[code]}" for code in sorted(meaning))])

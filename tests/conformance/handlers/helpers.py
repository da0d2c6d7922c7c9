"""What the handlers of all suites share: how they are registered, where they log, small bodies, serdes."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from durable import BatchResult, DurableContext, DurableFunction, Retry, durable_execution
from durable.abc import Serde

InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT")

LOG_FILE = "DURABLE_CONFORMANCE_LOG"
"""The environment variable that names the file which handlers log to, one JSON object a line."""

LOGGER = logging.getLogger("durable.conformance")

SOON = Retry(attempts=2, initial_delay=1, jitter="none")
"""One more attempt, a second later."""


# --- Registration --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Handler:
    """What meets one requirement.

    Attributes:
        function: The durable function; its name is `conformance-` and the requirement's id.
        note: What it does otherwise than the requirement's text has it, where this library has no such option.
        exits: Whether it ends its process on purpose, and so needs one of its own.
    """

    function: DurableFunction[Any, Any]
    note: str | None = None
    exits: bool = False


HANDLERS: dict[str, Handler] = {}
"""By requirement id; filled by importing the suites."""


def requirement(
    requirement_id: str, *, serde: Serde | None = None, note: str | None = None, exits: bool = False
) -> Callable[[Callable[[InputT, DurableContext], Awaitable[ResultT]]], DurableFunction[InputT, ResultT]]:
    """Make a function durable, and register it for a requirement. For the arguments see `Handler`."""

    def register(
        function: Callable[[InputT, DurableContext], Awaitable[ResultT]],
    ) -> DurableFunction[InputT, ResultT]:
        durable = durable_execution(name=f"conformance-{requirement_id}", serde=serde, logger=LOGGER)(function)
        if requirement_id in HANDLERS:
            raise ValueError(f"there are two handlers for requirement {requirement_id}")
        HANDLERS[requirement_id] = Handler(durable, note, exits)
        return durable

    return register


# --- Logging -------------------------------------------------------------------------------------------------


class _JsonLines(logging.Formatter):
    """As AWS Lambda's JSON log format has it, with the field that logs are looked up by."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "timestamp": int(record.created * 1000),
                "level": record.levelname,
                "message": record.getMessage(),
                "durableExecutionArn": getattr(record, "execution_arn", None),
            }
        )


def log_to(path: Path) -> logging.Handler:
    """Have the handlers log to a file."""
    handler = logging.FileHandler(path)
    handler.setFormatter(_JsonLines())
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    return handler


if LOG_FILE in os.environ:
    log_to(Path(os.environ[LOG_FILE]))


# --- Bodies --------------------------------------------------------------------------------------------------


class TransientError(Exception):
    """Something that may go well the next time."""


class PermanentError(Exception):
    """Something that never goes well."""


async def echo(text: str) -> str:
    return text


async def greet(name: str) -> str:
    return f"Hello, {name}!"


async def always_fail() -> None:
    raise PermanentError("this never works")


# --- Batches -------------------------------------------------------------------------------------------------


def outcome_of(batch: BatchResult[Any], *fields: str) -> dict[str, Any]:
    """What requirements want to know of a batch. Branches that were never started do not count for them."""
    everything = {
        "completionReason": batch.completion_reason,
        "status": "FAILED" if batch.failed else "SUCCEEDED",
        "successCount": len(batch.succeeded),
        "failureCount": len(batch.failed),
        "totalCount": sum(item.status != "not started" for item in batch),
    }
    return {name: everything[name] for name in fields or everything}

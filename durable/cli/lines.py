"""The view for machines (`--json`): one JSON object a line.

{"type": "execution", "execution": NAME, "id": ..., "arn": ..., "function": "MODULE_OR_FILE:FUNCTION",
 "status": "RUNNING", "existed": false, "started": "2025-11-25T08:00:01.123+00:00"}
    first, for each execution. `existed`: it was there before; its events follow from the first one all the same.

{"type": "event", "execution": NAME, "event": {...}}
    each history event, as GetDurableExecutionHistory gives it.

{"type": "outcome", "execution": NAME, "status": "SUCCEEDED", "ended": "2025-11-25T08:00:03.456+00:00",
 "seconds": 2.333, "result": ..., "error": null, "rollbacks": [], "exit_code": 0}
    last, for each execution. `result` is JSON, not text. `error` is {"type", "message", "data", "stack_trace"}.
    `rollbacks` has one {"saga", "reason", "undone": [NAME], "failed": [{"name", "error"}], "skipped": [the same, by
    an operator's decision], "not_attempted": [NAME]} for each. An execution that does not end here has the status
    "RUNNING", and in `error` why it does not go on.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, TextIO

import msgspec

from .._wire import ExecutionStatus
from .._wire.codec import Codec
from .._wire.events import Event
from .machine import encode, error_shape, execution_shape, rollback_shape, trouble_shape
from .session import Ending, Followed, View
from .story import Moment
from .texts import iso_text

_EVENT = Codec(Event, "api")


class LinesView(View):
    """Tells in lines of JSON.

    Args:
        stream: Where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def opened(self) -> AbstractContextManager[object]:
        """Keep whatever else is printed out of the way."""
        return contextlib.redirect_stdout(sys.stderr)

    def begin(self, followed: Followed) -> None:
        """The execution."""
        record = followed.record
        self._write(
            "execution",
            followed,
            id=record.id,
            arn=record.arn,
            function=record.function,
            status=record.status,
            existed=followed.existed,
            started=iso_text(record.start_timestamp),
        )

    def tell(self, followed: Followed, event: Event, moments: Sequence[Moment]) -> None:  # noqa: ARG002
        """The event."""
        self._write("event", followed, event=msgspec.Raw(_EVENT.encode(event)))

    def resumed(self, followed: Followed, moments: Sequence[Moment]) -> None:
        """Machines see it by what follows."""

    def end(self, followed: Followed, ending: Ending) -> None:
        """The outcome."""
        record = ending.record
        outcome: dict[str, Any] = {
            "status": ExecutionStatus.RUNNING,
            "ended": None,
            "seconds": None,
            "result": None,
        }
        if record is not None:
            shape = execution_shape(record)
            outcome = {key: shape[key] for key in outcome}
        error = None if record is None else error_shape(record.error)
        self._write(
            "outcome",
            followed,
            **outcome,
            error=error if ending.error is None else trouble_shape(ending.error),
            rollbacks=[rollback_shape(rollback) for rollback in followed.story.rollbacks.values()],
            exit_code=ending.code,
        )

    def stopping(self) -> None:
        """Not a machine's business."""

    def close(self) -> None:
        """Nothing is to be given back."""

    def _write(self, kind: str, followed: Followed, **fields: Any) -> None:
        self._stream.write(f"{encode({'type': kind, 'execution': followed.name, **fields})}\n")
        self._stream.flush()

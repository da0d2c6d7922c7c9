"""Pauses, and the time limit of an execution that they may put off.

  status    pause                            the invocation comes to a call, or ends     resume
  --------  -------------------------------  ------------------------------------------  --------------------------
  RUNNING   PAUSING, if an invocation is
            under way; PAUSED if not
  PAUSING                                    PAUSED                                      RUNNING, as if never asked
  PAUSED                                                                                 RUNNING

Everything else is refused by whoever asks for it. While an execution is paused it is not invoked; timers, callbacks
and callees go on, and are seen after that. It can end meanwhile: it is stopped, or its time limit is reached.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ..._wire import ErrorObject, ExecutionStatus, Timestamp
from ..._wire.events import EventType
from ..._wire.limits import MAX_DELAY_SECONDS
from ...abc import EventRecord, ExecutionRecord, Pause

REMEMBERED: Final = 15 * 60 * 1000
"""Milliseconds for which a request is known by its token, so that a repeat of it changes nothing (the model)."""

What = Literal["pause", "resume"]
"""What is asked for."""


def was_accepted(record: ExecutionRecord, what: What, token: str | None, now: Timestamp) -> bool:
    """Whether this very request has been carried out before."""
    when = record.accepted.get(_key(what, token)) if token is not None else None
    return when is not None and now < when + REMEMBERED


def pause(
    record: ExecutionRecord,
    now: Timestamp,
    *,
    reason: str | None = None,
    holds_timeout: bool = True,
    token: str | None = None,
) -> ExecutionRecord:
    """A running execution that is to be paused. If no invocation is under way, `take_effect` follows at once."""
    return msgspec.structs.replace(
        record,
        status=ExecutionStatus.PAUSING,
        pause=Pause(requested=now, reason=reason, holds_timeout=holds_timeout),
        accepted=_accepted(record, "pause", token, now),
    )


def take_effect(record: ExecutionRecord, now: Timestamp) -> tuple[ExecutionRecord, EventRecord]:
    """An execution that is to be paused once no invocation of it may go on, and the event."""
    asked = record.pause or Pause(requested=now)
    paused = msgspec.structs.replace(
        record, status=ExecutionStatus.PAUSED, pause=msgspec.structs.replace(asked, since=now)
    )
    event = EventRecord(
        EventType.EXECUTION_PAUSED,
        now,
        start=asked.requested,
        payload=asked.reason,
        holds_timeout=asked.holds_timeout,
    )
    return paused, event


def resume(
    record: ExecutionRecord, now: Timestamp, *, reason: str | None = None, token: str | None = None
) -> tuple[ExecutionRecord, EventRecord | None]:
    """An execution that is not paused any more, and the event; none if the pause had not taken effect."""
    since = record.pause.since if record.pause is not None else None
    held = now - since if record.pause is not None and record.pause.holds_timeout and since is not None else 0
    resumed = msgspec.structs.replace(
        record,
        status=ExecutionStatus.RUNNING,
        pause=None,
        put_off=record.put_off + max(held, 0),  # a clock may be set back
        accepted=_accepted(record, "resume", token, now),
    )
    if since is None:
        return resumed, None
    return resumed, EventRecord(EventType.EXECUTION_RESUMED, now, start=now, payload=reason)


# --- The time limit ----------------------------------------------------------------------------------------------


def expires_at(record: ExecutionRecord) -> Timestamp | None:
    """When an execution that is not over times out; `None` if it does not."""
    if record.timeout is None:
        return None
    last = record.start_timestamp + MAX_DELAY_SECONDS * 1000
    paused = record.pause
    if paused is not None and paused.since is not None and paused.holds_timeout:
        return Timestamp(last)
    return Timestamp(min(record.start_timestamp + record.timeout * 1000 + record.put_off, last))


def has_expired(record: ExecutionRecord, now: Timestamp) -> bool:
    """Whether an execution has taken longer than it may."""
    when = expires_at(record)
    return when is not None and when <= now and not record.status.is_over


def timeout_error(record: ExecutionRecord) -> ErrorObject:
    """What an execution ends with that has taken longer than it may."""
    return ErrorObject(
        error_type="Execution.Timeout",
        error_message=f"the execution took longer than its time limit of {record.timeout or 0:,} s",
    )


def _key(what: What, token: str | None) -> str:
    return f"{what} {token}"


def _accepted(record: ExecutionRecord, what: What, token: str | None, now: Timestamp) -> dict[str, Timestamp]:
    kept = {key: when for key, when in record.accepted.items() if now < when + REMEMBERED}
    return kept if token is None else {**kept, _key(what, token): now}

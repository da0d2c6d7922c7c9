"""When a fan-out is complete, and what it came to.

A policy looks at how many branches have succeeded and failed so far; its answer may only ever go from `None` to a
reason. So it gives the same answer live, as outcomes come in one after another, and on replay, from all that were
recorded by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec

from .._wire import ErrorObject
from ..exceptions import BatchError, DurableError

T = TypeVar("T")

_NAMED = 5
"""Branches that an error names."""

ItemStatus = Literal["succeeded", "failed", "cancelled", "not started"]

CompletionReason = Literal[
    "ALL_COMPLETED",
    "MIN_SUCCESSFUL_REACHED",
    "FAILURE_TOLERANCE_EXCEEDED",
    "CUSTOM_COMPLETION_SUCCEEDED",
    "CUSTOM_COMPLETION_FAILED",
]


class BatchItem(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What became of one branch.

    Attributes:
        index: Which branch, from 0, in input order.
        name: Its name.
        status: `"succeeded"`, `"failed"`, `"cancelled"` (the fan-out was complete without it) or `"not started"`.
        result: What it returned, which may well be `None`.
        error: What it raised; `None` unless it failed.
    """

    index: int
    name: str
    status: ItemStatus
    result: T | None = None
    error: Exception | None = None


class BatchResult(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What a fan-out came to.

    Attributes:
        items: One a branch, in input order, whatever became of it.
        completion_reason: Why it was complete.
        is_successful: Whether its completion policy was met; without one, whether nothing failed.
    """

    items: Sequence[BatchItem[T]]
    completion_reason: CompletionReason
    is_successful: bool

    @property
    def succeeded(self) -> list[BatchItem[T]]:
        """The items that succeeded, in input order."""
        return [item for item in self.items if item.status == "succeeded"]

    @property
    def failed(self) -> list[BatchItem[T]]:
        """The items that failed, in input order."""
        return [item for item in self.items if item.status == "failed"]

    def results(self) -> list[T]:
        """What the branches that succeeded returned, in input order.

        Raises:
            BatchError: The completion policy was not met; what the branches raised is inside.
        """
        if not self.is_successful:
            failed = self.failed
            names = ", ".join(repr(item.name) for item in failed[:_NAMED])
            more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
            text = f"{len(failed)} of {len(self.items)} branches failed ({self.completion_reason})"
            errors = [item.error for item in failed if item.error is not None]
            # A group cannot be empty, and a policy may not be met although nothing failed.
            unmet = DurableError(f"the completion policy was not met: {len(self.succeeded)} branches succeeded")
            raise BatchError(f"{text}: {names}{more}" if names else text, errors or [unmet])
        return [item.result for item in self.items if item.status == "succeeded"]  # type: ignore[misc]

    def __iter__(self) -> Iterator[BatchItem[T]]:
        """The items, in input order."""
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class BatchProgress(msgspec.Struct, frozen=True):
    """How far a fan-out is, for a policy of one's own.

    Attributes:
        total: How many branches there are.
        succeeded: How many have succeeded.
        failed: How many have failed.
    """

    total: int
    succeeded: int
    failed: int

    @property
    def completed(self) -> int:
        """How many have ended, one way or the other."""
        return self.succeeded + self.failed


Verdict = Literal["succeeded", "failed"]


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """When a fan-out is complete. What is still running then is cancelled, what is not started never is.

    Without any condition every branch runs to its end. Conditions may be combined, apart from `when`.

    Args:
        min_successful: Complete, and met, when so many have succeeded.
        tolerated_failures: Complete, and not met, when more than so many have failed.
        tolerated_failure_percentage: The same in percent of all branches, 0 to 100.
        when: A policy of one's own: gets a `BatchProgress`, and says `"succeeded"`, `"failed"` or `None` for not
            yet. It must depend on nothing else, and may not take back what it has said when there is more progress.

    Raises:
        ValueError: A number out of range, or `when` together with others.
    """

    min_successful: int | None = None
    tolerated_failures: int | None = None
    tolerated_failure_percentage: float | None = None
    when: Callable[[BatchProgress], Verdict | None] | None = None

    def __post_init__(self) -> None:
        if self.min_successful is not None and self.min_successful < 1:
            raise ValueError(f"Completion(min_successful={self.min_successful!r}): 1 or more")
        if self.tolerated_failures is not None and self.tolerated_failures < 0:
            raise ValueError(f"Completion(tolerated_failures={self.tolerated_failures!r}): 0 or more")
        percentage = self.tolerated_failure_percentage
        if percentage is not None and not 0 <= percentage <= 100:  # noqa: PLR2004
            raise ValueError(f"Completion(tolerated_failure_percentage={percentage!r}): 0 to 100")
        if self.when is not None and (self.min_successful, self.tolerated_failures, percentage) != (None,) * 3:
            raise ValueError("Completion(when=...) decides alone: it cannot be combined with other conditions")

    @classmethod
    def all(cls) -> Completion:
        """Every branch runs to its end, whatever becomes of the others."""
        return cls()

    @classmethod
    def all_successful(cls) -> Completion:
        """All have to succeed: the first failure completes it."""
        return cls(tolerated_failures=0)

    @classmethod
    def first_successful(cls) -> Completion:
        """The first success completes it."""
        return cls(min_successful=1)

    def reason(self, progress: BatchProgress) -> CompletionReason | None:
        """Why it is complete, or `None`: it is not.

        Raises:
            ValueError: The user's own policy says something else than it may.
            Exception: What it raises.
        """
        if self.when is not None:
            verdict = self.when(progress)
            if verdict is not None:
                if verdict not in {"succeeded", "failed"}:
                    raise ValueError(f"a completion policy says 'succeeded', 'failed' or None, not {verdict!r}")
                return "CUSTOM_COMPLETION_SUCCEEDED" if verdict == "succeeded" else "CUSTOM_COMPLETION_FAILED"
        elif self._is_exceeded(progress):
            return "FAILURE_TOLERANCE_EXCEEDED"
        elif self.min_successful is not None and progress.succeeded >= self.min_successful:
            return "MIN_SUCCESSFUL_REACHED"
        return "ALL_COMPLETED" if progress.completed == progress.total else None

    def is_met(self, reason: CompletionReason, progress: BatchProgress) -> bool:
        """Whether the policy was met, at the end."""
        if reason != "ALL_COMPLETED":
            return reason in {"MIN_SUCCESSFUL_REACHED", "CUSTOM_COMPLETION_SUCCEEDED"}
        if self.min_successful is not None:
            return progress.succeeded >= self.min_successful
        tolerant = self.tolerated_failures is not None or self.tolerated_failure_percentage is not None
        return tolerant or self.when is not None or not progress.failed

    def _is_exceeded(self, progress: BatchProgress) -> bool:
        if self.tolerated_failures is not None and progress.failed > self.tolerated_failures:
            return True
        percentage = self.tolerated_failure_percentage
        return percentage is not None and progress.failed * 100 > percentage * progress.total


def _first(progress: BatchProgress) -> Verdict | None:
    return "succeeded" if progress.completed else None


FIRST_COMPLETED = Completion(when=_first)
"""The policy of a race: the first to end, one way or the other."""


class Winner(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Who was first in a race.

    Attributes:
        index: Its number, from 0, in the order given.
        result: What it returned.
    """

    index: int
    result: T


def winner_of(race: BatchResult[T]) -> Winner[T]:
    """The first to end; of several that ended at once, the first in the order given.

    Raises:
        Exception: What it raised.
    """
    first = next(item for item in race.items if item.status in {"succeeded", "failed"})
    if first.error is not None:
        raise first.error
    return Winner(index=first.index, result=first.result)  # type: ignore[arg-type]


# --- What is recorded ----------------------------------------------------------------------------------------

CODE: dict[ItemStatus, str] = {"succeeded": "s", "failed": "f", "cancelled": "c", "not started": "n"}
"""A status in a summary: one character an item."""

STATUS: dict[str, ItemStatus] = {code: status for status, code in CODE.items()}


class ItemRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One branch's outcome, as it is recorded."""

    status: ItemStatus
    result: msgspec.Raw = msgspec.Raw()
    error: ErrorObject | None = None


class BatchRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A fan-out's outcome, as it is recorded: with the items, or only with the status of each.

    Attributes:
        reason: Why it was complete.
        successful: Whether its policy was met.
        statuses: The items' statuses, a character each (see `CODE`).
        items: The items; left out where they are rebuilt from the branches' own records.
        operations: How many operations there are inside, as far as known: a service does not give them any more.
        passed: If branches are run on replay: how far they had come, where no record of theirs tells.
    """

    reason: CompletionReason
    successful: bool
    statuses: str
    items: list[ItemRecord] | None = None
    operations: int = 0
    passed: dict[str, int] = {}


_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


def encode_batch(record: BatchRecord) -> str:
    """A record as the payload of its operation."""
    return _encode(record).decode()


def decode_batch(payload: str) -> BatchRecord:
    """A recorded outcome.

    Raises:
        msgspec.DecodeError: Not one.
    """
    record = msgspec.json.decode(payload, type=BatchRecord)
    if not STATUS.keys() >= set(record.statuses):
        raise msgspec.ValidationError(f"{record.statuses!r:.40} are no statuses")
    if record.items is not None and len(record.items) != len(record.statuses):
        raise msgspec.ValidationError(f"it has {len(record.items)} items and {len(record.statuses)} statuses")
    return record

"""What a saga has to undo.

The ledger is plain bookkeeping: entries, undone in the exact reverse of the order of their forward operations
(Garcia-Molina and Salem 1987, section 3). That order is by position, not by time: what branches registered side by
side is undone branch by branch, whatever the scheduling was. Who calls what is the business of `_saga`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Generic, Literal, TypeVar

import msgspec

from .retry import Retry

T = TypeVar("T")

OnError = Literal["continue", "stop", "park"]
OutcomeStatus = Literal["succeeded", "failed", "in doubt"]


class StepOutcome(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What became of a step whose compensation was registered before it ran.

    Attributes:
        status: `"succeeded"`, `"failed"`, or `"in doubt"`: begun, and nobody knows.
        value: What it returned; `None` unless it succeeded.
        error: What it raised; `None` unless it failed.
    """

    status: OutcomeStatus
    value: T | None = None
    error: Exception | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to undo, or to clean up.

    Attributes:
        forward_id: The operation it undoes, or an id of its own.
        name: The operation's name, which the compensation takes over.
        undo: The user's function.
        args: What it is called with.
        path: Where its forward operation stands, as positions from the root inwards.
        by_hand: Whether there is no such operation: it was registered by hand, or is a cleanup.
        retry: When it is tried again after a failure; `None` for the saga's own policy.
        timeout: Seconds that one attempt may take; `None` for the saga's own.
    """

    forward_id: str
    name: str
    undo: Callable[..., Any]
    args: tuple[Any, ...] = ()
    path: tuple[int, ...] = ()
    by_hand: bool = False
    retry: Retry | None = None
    timeout: float | None = None


class Ledger:
    """The entries of one saga scope."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        # In the order in which they came in, which is not the order of undoing. Entries are added at the end, and
        # leave from the end (what came after a savepoint) or all at once.
        self._entries: list[Entry] = []

    @property
    def retried(self) -> int:
        """How many of the compensations have a retry policy of their own."""
        return sum(entry.retry is not None for entry in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Something more to undo."""
        self._entries.append(entry)

    def in_order_of_undoing(self, since: int = 0) -> list[Entry]:
        """The exact reverse of the order of the forward operations.

        Args:
            since: Only what was added when there were so many already.
        """
        return sorted(self._entries[since:], key=_path, reverse=True)

    def drop(self, forward_ids: Collection[str]) -> None:
        """Forget entries: they have been undone, or it has been tried."""
        self._entries = [entry for entry in self._entries if entry.forward_id not in forward_ids]

    def clear(self) -> None:
        """Forget everything."""
        self._entries = []

    def hand_over(self, other: Ledger) -> None:
        """Give all entries, as one unit, to an outer saga."""
        other._entries.extend(self._entries)
        self._entries = []


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How a saga rolls back.

    Attributes:
        on_error: What follows a compensation that failed: the others, nothing more, or an operator's decision.
        retry: When a compensation is tried again by itself.
        timeout: Seconds that one attempt of a compensation may take.
        rollback_timeout: Seconds that the whole rollback may take.
    """

    on_error: OnError = "continue"
    retry: Retry | None = None
    timeout: float | None = None
    rollback_timeout: float | None = None

    def operations_to_undo(self, ledger: Ledger) -> int:
        """How many operations a rollback may record, apart from what compensations themselves do durably."""
        if not ledger:
            return 0
        of_the_saga = 2 + (2 if self.rollback_timeout is not None else 0)
        # A context each; where it is retried a step inside of it; where an operator decides a callback.
        retried = len(ledger) if self.retry is not None else ledger.retried
        asked = len(ledger) if self.on_error == "park" else 0
        return of_the_saga + len(ledger) + retried + asked


def _path(entry: Entry) -> tuple[int, ...]:
    return entry.path

"""PROTOCOL section 5 once more, as plainly as can be, and all calls that a test may think of.

It shares nothing with the state machine: names are text, operations are dicts, and every call works on a copy.
"""

from __future__ import annotations

import copy
from typing import Any, TypeAlias

from hypothesis import strategies as st

from durable._wire import OperationAction, OperationType, OperationUpdate
from durable._wire.updates import ContextOptions, StepOptions, WaitOptions
from tests.local.machine.bench import OOPS, PAUSE, PAUSE_AND_GO_ON, PAUSE_NOW, RESUME, YIELD

YEAR = 366 * 24 * 60 * 60 * 1000
FINAL = {"SUCCEEDED", "FAILED", "CANCELLED"}


class Refused(Exception):
    """The service says no."""


class Model:
    """What an execution looks like after some calls, in milliseconds since it began."""

    def __init__(self, limit: int | None = None) -> None:
        self.now = 0
        self.limit = limit
        self.status = "RUNNING"
        # Since when it is paused, if its limit is put off by that.
        self.held: int | None = None
        self.holds = True
        self.operations: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[str, str | None, int]] = []

    @property
    def outcome(self) -> str | None:
        """What the execution has come to."""
        return self.status if self.status in {"SUCCEEDED", "FAILED", "TIMED_OUT"} else None

    def call(self, updates: list[OperationUpdate]) -> bool:
        """Whether the call is accepted; it has changed nothing if not."""
        other = copy.deepcopy(self)
        other.pass_time(0)
        try:
            other._apply(updates)
        except Refused:
            return False
        self.__dict__ = other.__dict__
        self.give_way()
        return True

    def do(self, what: str) -> bool:
        """Somebody pauses it, or lets it go on; whether that was possible."""
        if what == YIELD:
            self.give_way()
        elif what == RESUME and self.status in {"PAUSING", "PAUSED"}:
            self.resume()
        elif what != RESUME and self.status == "RUNNING":
            self.status, self.holds = "PAUSING", what != PAUSE_AND_GO_ON
            if what == PAUSE_NOW:
                self.give_way()
        else:
            return False
        return True

    def give_way(self) -> None:
        """An invocation has come to a call, or to its end."""
        if self.status == "PAUSING":
            self.status = "PAUSED"
            self.held = self.now if self.holds else None
            self.events.append(("ExecutionPaused", None, self.now))

    def resume(self) -> None:
        """Somebody lets it go on."""
        if self.status == "PAUSED":
            self.events.append(("ExecutionResumed", None, self.now))
        if self.held is not None and self.limit is not None:
            self.limit += self.now - self.held
        self.status, self.held = "RUNNING", None

    def expires(self) -> int | None:
        """When its time is over."""
        if self.limit is None or self.outcome is not None:
            return None
        return YEAR if self.held is not None else min(self.limit, YEAR)

    def pass_time(self, milliseconds: int) -> None:
        """What becomes of it by then."""
        end = self.expires()
        if end is not None and end <= self.now + milliseconds:
            until = self.now + milliseconds
            self.now = end
            self._let_fall_due()
            self.now = until
            self.status = "TIMED_OUT"
            self.events.append(("ExecutionTimedOut", None, self.now))
            return
        self.now += milliseconds
        self._let_fall_due()

    def _let_fall_due(self) -> None:
        for key in sorted(self._open_timers(), key=lambda key: (self.operations[key]["due"], key)):
            operation = self.operations[key]
            if operation["due"] > self.now:
                continue
            operation["due"] = None
            if operation["type"] == "WAIT":
                operation.update(status="SUCCEEDED", end=self.now)
                self.events.append(("WaitSucceeded", key, self.now))
            else:
                operation["status"] = "READY"

    def next_due(self) -> int | None:
        """When something changes by itself."""
        return min((self.operations[key]["due"] for key in self._open_timers()), default=None)

    def visible(self) -> list[str]:
        """Whom the function is told of."""

        def shown(key: str) -> bool:
            return all(
                self.operations[above]["status"] not in FINAL or self.operations[above]["replay"]
                for above in self._above(key)
            )

        return [key for key in self.operations if shown(key)]

    def _open_timers(self) -> list[str]:
        return [
            key for key, operation in self.operations.items() if operation["due"] is not None and self._alive(key)
        ]

    def _alive(self, key: str) -> bool:
        return all(self.operations[above]["status"] not in FINAL for above in self._above(key))

    def _above(self, key: str) -> list[str]:
        parent = self.operations[key]["parent"]
        return [] if parent is None else [parent, *self._above(parent)]

    def _apply(self, updates: list[OperationUpdate]) -> None:
        if self.outcome is not None or self.status == "PAUSED":
            raise Refused
        seen: dict[str, list[str]] = {}
        for number, update in enumerate(updates):
            if update.type == "EXECUTION":
                self._end(update, last=number == len(updates) - 1)
                continue
            before = seen.setdefault(update.id, [])
            if before and (before != ["START"] or update.action == "START" or update.type == "WAIT"):
                raise Refused
            before.append(str(update.action))
            if update.parent_id is not None:
                parent = self.operations.get(update.parent_id)
                if parent is None or parent["type"] != "CONTEXT" or parent["status"] in FINAL:
                    raise Refused
                if not self._alive(update.parent_id):
                    raise Refused
            what = {
                "type": str(update.type),
                "sub_type": update.sub_type,
                "name": update.name,
                "parent": update.parent_id,
            }
            known = self.operations.get(update.id)
            if known is not None and {field: known[field] for field in what} != what:
                raise Refused
            self._change(update, what, known)

    def _end(self, update: OperationUpdate, *, last: bool) -> None:
        outcome = {"SUCCEED": "SUCCEEDED", "FAIL": "FAILED"}.get(update.action)
        unwanted = update.error if update.action == "SUCCEED" else update.payload
        if not last or outcome is None or unwanted is not None:
            raise Refused
        self.status = outcome
        self.events.append(("ExecutionSucceeded" if outcome == "SUCCEEDED" else "ExecutionFailed", None, self.now))

    def _change(self, update: OperationUpdate, what: dict[str, Any], known: dict[str, Any] | None) -> None:
        fresh = {"status": None, "start": self.now, "attempts": 0, "due": None, "replay": None, "result": None}
        operation = known or {**what, **fresh, "error": None, "end": None}
        do = {"STEP": self._step, "WAIT": self._wait, "CONTEXT": self._context}[str(update.type)]
        event = do(update, operation)
        self.operations[update.id] = operation
        self.events.append((event, update.id, self.now))

    def _step(self, update: OperationUpdate, operation: dict[str, Any]) -> str:
        status, action = operation["status"], str(update.action)
        if action == "CANCEL" or status in {"PENDING", *FINAL} or (action == "START" and status == "STARTED"):
            raise Refused
        takes = {"START": set(), "SUCCEED": {"payload"}, "FAIL": {"error"}, "RETRY": {"payload", "error"}}[action]
        has = {field for field in ("payload", "error") if getattr(update, field) is not None}
        if not has <= takes or len(has) > 1:
            raise Refused
        if action == "START":
            operation["status"] = "STARTED"
            return "StepStarted"
        operation.update(attempts=operation["attempts"] + 1, result=update.payload, error=update.error)
        if action == "RETRY":
            seconds = update.step_options.next_attempt_delay_seconds if update.step_options else None
            if seconds is None or not 1 <= seconds <= 366 * 24 * 60 * 60:
                raise Refused
            operation.update(status="PENDING", due=self.now + seconds * 1000)
            return "StepSucceeded" if update.error is None else "StepFailed"
        operation.update(status="SUCCEEDED" if action == "SUCCEED" else "FAILED", end=self.now)
        return "StepSucceeded" if action == "SUCCEED" else "StepFailed"

    def _wait(self, update: OperationUpdate, operation: dict[str, Any]) -> str:
        if update.payload is not None or update.error is not None:
            raise Refused
        if update.action == "START" and operation["status"] is None:
            seconds = update.wait_options.wait_seconds if update.wait_options else None
            if seconds is None or not 1 <= seconds <= 366 * 24 * 60 * 60:
                raise Refused
            operation.update(status="STARTED", due=self.now + seconds * 1000)
            return "WaitStarted"
        if update.action == "CANCEL" and operation["status"] == "STARTED":
            operation.update(status="CANCELLED", due=None, end=self.now)
            return "WaitCancelled"
        raise Refused

    def _context(self, update: OperationUpdate, operation: dict[str, Any]) -> str:
        action = str(update.action)
        if operation["status"] not in ({None} if action == "START" else {None, "STARTED"}):
            raise Refused
        if (update.payload is not None and action != "SUCCEED") or (update.error is not None and action != "FAIL"):
            raise Refused
        if action == "START":
            operation["status"] = "STARTED"
            return "ContextStarted"
        if action not in {"SUCCEED", "FAIL"}:
            raise Refused
        replay = update.context_options.replay_children if update.context_options else None
        status = "SUCCEEDED" if action == "SUCCEED" else "FAILED"
        operation.update(status=status, end=self.now, replay=replay, result=update.payload, error=update.error)
        return "ContextSucceeded" if action == "SUCCEED" else "ContextFailed"


# --- Calls ---------------------------------------------------------------------------------------------------

_KEYS = "abcdefgh"
_SECONDS = st.sampled_from([1, 1, 2, 3, 5, 60, 0, None, 366 * 24 * 60 * 60, 366 * 24 * 60 * 60 + 1])


Script: TypeAlias = list[list[OperationUpdate] | int | str]

limits = st.sampled_from([None, None, 2_000, 61_000, 10**10, YEAR])
"""Milliseconds that an execution may take."""


@st.composite
def scripts(draw: st.DrawFn, most: int = 14, *, pauses: bool = False) -> Script:
    """Calls, and milliseconds between them, over a few operations that mostly stay what they are.

    With `pauses` somebody pauses and resumes it now and then.
    """
    plan: dict[str, tuple[str, str | None]] = {}
    for number, key in enumerate(_KEYS):
        kind = draw(st.sampled_from(["CONTEXT", "CONTEXT", "STEP", "WAIT"] if number < 4 else ["STEP", "WAIT"]))
        above = [other for other in _KEYS[:number] if plan[other][0] == "CONTEXT"]
        plan[key] = kind, draw(st.sampled_from([None, *above]))
    parts: Script = []
    for _ in range(draw(st.integers(1, most))):
        if pauses and draw(st.integers(0, 3)) == 0:
            parts.append(draw(st.sampled_from([PAUSE, PAUSE_AND_GO_ON, PAUSE_NOW, YIELD, RESUME, RESUME])))
        if draw(st.integers(0, 3)) == 0:
            parts.append(draw(st.sampled_from([1, 999, 1000, 2000, 60_000, 10**10])))
        else:
            parts.append([_update(draw, plan) for _ in range(draw(st.sampled_from([1, 1, 1, 2, 2, 3, 4])))])
    return parts


def _update(draw: st.DrawFn, plan: dict[str, tuple[str, str | None]]) -> OperationUpdate:
    likely = {
        "STEP": ["START", "START", "SUCCEED", "FAIL", "RETRY", "RETRY"],
        "WAIT": ["START", "START", "CANCEL"],
        "CONTEXT": ["START", "START", "START", "SUCCEED", "FAIL"],
        "EXECUTION": ["SUCCEED", "FAIL"],
    }
    odd = draw(st.integers(0, 24))
    key = draw(st.sampled_from(_KEYS))
    kind, parent = plan[key] if odd != 1 else ("EXECUTION", None)
    action = draw(st.sampled_from(likely[kind] if odd != 2 else list(OperationAction)))
    carries = {"SUCCEED": "payload", "FAIL": "error"}.get(action)
    if action == "RETRY":
        carries = draw(st.sampled_from(["payload", "error"]))
    fields: dict[str, Any] = {} if carries is None else {carries: '"x"' if carries == "payload" else OOPS}
    if odd == 3:
        fields[draw(st.sampled_from(["payload", "error"]))] = draw(st.sampled_from([None, "1"]))
        fields["error"] = OOPS if fields.get("error") else None
    if kind == "STEP" and action == "RETRY" and odd != 4:
        fields["step_options"] = StepOptions(next_attempt_delay_seconds=draw(_SECONDS))
    if kind == "WAIT" and action == "START" and odd != 4:
        fields["wait_options"] = WaitOptions(wait_seconds=draw(_SECONDS))
    if kind == "CONTEXT" and action == "SUCCEED":
        fields["context_options"] = ContextOptions(replay_children=draw(st.sampled_from([None, False, True])))
    return OperationUpdate(
        id=key,
        type=OperationType(kind if odd != 5 else draw(st.sampled_from(["STEP", "WAIT", "CONTEXT"]))),
        action=OperationAction(action),
        parent_id=parent if odd != 6 else draw(st.sampled_from([None, *_KEYS])),
        name=f"name of {key}" if odd != 7 else None,
        sub_type="Own" if odd != 8 else None,
        **fields,
    )

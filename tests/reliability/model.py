"""The service as PROTOCOL sections 1, 2, 5 and 8 have it, as plainly as can be: text, numbers, dicts and lists.

It imports nothing of the library (a test holds that), and has no cache, no heap, no store: every call works on a
copy, and everything is looked for from the beginning each time. Times are milliseconds since the test began.

What is durable of an execution is apart from what its service only has in memory (`Turn`): who may write now, what
was answered last, and what an invocation has not been told of. The second is lost with the process.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Update: TypeAlias = dict[str, Any]
"""`id`, `type`, `action`, and what else there is: `parent`, `name`, `sub_type`, `payload`, `error` (text); `delay`
of a retry or a wait, `replay` of a context, `timeout` and `heartbeat` of a callback, `function` of an invoke.
"""

Token: TypeAlias = tuple[str, int, int]
"""Execution, invocation, call."""

FINAL = {"SUCCEEDED", "FAILED", "CANCELLED", "TIMED_OUT", "STOPPED"}
YEAR = 366 * 24 * 60 * 60
MEGABYTE = 1024 * 1024


class Refused(Exception):
    """The service says no.

    Attributes:
        kind: `rule`, `token`, `resource`, `execution`, `exists`, `no callback` or `callback over`.
    """

    def __init__(self, kind: str = "rule") -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass
class Turn:
    """What the service has in memory of an execution."""

    # The token that is good now; and the last call: its token, its client token, its answer.
    token: Token | None = None
    last: tuple[Token, str, Any] | None = None
    began: int | None = None
    # What changed and the invocation was not told of, in order; whether the last answer told of such a change; and
    # whether there may be one that nobody knows of any more.
    untold: list[str] = field(default_factory=list)
    told: bool = False
    unsure: bool = False


@dataclass
class Execution:
    """One execution."""

    id: str
    status: str = "RUNNING"
    result: str | None = None
    error: str | None = None
    end: int | None = None
    invocations: int = 0
    operations: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    # How often the store was written to.
    changes: int = 0
    turn: Turn = field(default_factory=Turn)

    @property
    def is_over(self) -> bool:
        return self.status != "RUNNING"

    def alive(self, operation: dict[str, Any]) -> bool:
        """Whether no context above it has ended."""
        return all(above["status"] not in FINAL for above in self._above(operation))

    def is_waiting(self) -> bool:
        """Whether something is pending."""
        return any(
            self.alive(operation)
            and operation["status"] == ("PENDING" if operation["type"] == "STEP" else "STARTED")
            and operation["type"] != "CONTEXT"
            for operation in self.operations.values()
        )

    def next_timer(self) -> int | None:
        """When time changes something."""
        return min((due for _, due in self._timers()), default=None)

    def has_changed(self) -> bool:
        """Whether there may be something that the last invocation has not seen."""
        turn = self.turn
        return bool(turn.untold) or turn.told or turn.unsure or self.is_over

    def visible(self) -> list[str]:
        """What a function is told of: nothing below a context that has ended without ReplayChildren."""
        return [
            key
            for key, operation in self.operations.items()
            if all(above["status"] not in FINAL or above["replay"] for above in self._above(operation))
        ]

    def open(self, key: str, kind: str) -> bool:
        """Whether an operation can still be ended from outside."""
        operation = self.operations.get(key)
        return (
            operation is not None
            and operation["type"] == kind
            and operation["status"] == "STARTED"
            and not self.is_over
            and self.alive(operation)
        )

    def pass_time(self, now: int) -> list[str]:
        """What falls due by now changes; says what did."""
        fallen = sorted((due, key) for key, due in self._timers() if due <= now)
        for _, key in fallen:
            operation = self.operations[key]
            if operation["type"] == "STEP":
                operation.update(status="READY", due=None)
            elif operation["type"] == "WAIT":
                operation.update(status="SUCCEEDED", end=now)
                self._event("WaitSucceeded", key, now)
            else:
                limit, beat = operation["limit"], operation["beat"]
                missed = limit is None or (beat is not None and beat < limit)
                error = "Callback.Heartbeat" if missed else "Callback.Timeout"
                operation.update(status="TIMED_OUT", end=now, error=error)
                self._event("CallbackTimedOut", key, now, error=error)
        return [key for _, key in fallen]

    def apply(self, updates: Sequence[Update], now: int) -> list[str]:
        """One call's updates; says which operations they change, in the order of their first one."""
        if len(updates) > 250 or self.is_over:
            raise Refused
        actions: dict[str, list[str]] = {}
        for update in updates:
            self._check_shape(update)
            if self.is_over:
                raise Refused  # after an EXECUTION update
            if update["type"] == "EXECUTION":
                self._end_by_update(update, now)
                continue
            before = actions.setdefault(update["id"], [])
            before.append(update["action"])
            if len(before) > 1 and (
                before[:-1] != ["START"] or before[1] == "START" or update["type"] not in {"STEP", "CONTEXT"}
            ):
                raise Refused
            self._apply(update, now)
        return list(actions)

    def finish(self, status: str, now: int, *, result: str | None = None, error: str | None = None) -> None:
        """The execution is over."""
        self.status, self.end, self.result, self.error = status, now, result, error
        name = {"SUCCEEDED": "Succeeded", "FAILED": "Failed", "STOPPED": "Stopped"}[status]
        self._event(f"Execution{name}", None, now, result=result, error=error)

    def close(self, key: str, status: str, now: int, *, result: str | None, error: str | None) -> None:
        """A callback or a chained invoke ends from outside."""
        operation = self.operations[key]
        operation.update(status=status, end=now, result=result, error=error)
        kind = "Callback" if operation["type"] == "CALLBACK" else "ChainedInvoke"
        name = {"SUCCEEDED": "Succeeded", "FAILED": "Failed", "TIMED_OUT": "TimedOut", "STOPPED": "Stopped"}[status]
        self._event(f"{kind}{name}", key, now, result=result, error=error)

    def invocation_completed(self, now: int, error: str | None) -> None:
        self._event(
            "InvocationCompleted", None, now, error=error, start=now if self.turn.began is None else self.turn.began
        )

    def _above(self, operation: dict[str, Any]) -> list[dict[str, Any]]:
        parent = operation["parent"]
        return [] if parent is None else [self.operations[parent], *self._above(self.operations[parent])]

    def _timers(self) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for key, operation in self.operations.items():
            status = {"STEP": "PENDING", "WAIT": "STARTED", "CALLBACK": "STARTED"}.get(operation["type"])
            times = [operation[name] for name in ("due", "limit", "beat") if operation[name] is not None]
            if operation["status"] == status and times and self.alive(operation):
                found.append((key, min(times)))
        return found

    def _event(self, kind: str, key: str | None, now: int, **more: Any) -> None:
        told = {name: value for name, value in more.items() if value is not None}
        self.events.append({"type": kind, "id": key, "at": now, **told})

    def _check_shape(self, update: Update) -> None:
        ids = [update["id"], *([update["parent"]] if update.get("parent") is not None else [])]
        if not all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", key) for key in ids):
            raise Refused
        name, sub_type = update.get("name"), update.get("sub_type")
        if name is not None and not re.fullmatch("[ -~]{1,256}", name):
            raise Refused
        if sub_type is not None and not re.fullmatch("[a-zA-Z0-9_-]{1,32}", sub_type):
            raise Refused
        payload, error = update.get("payload"), update.get("error")
        if payload is not None and update["type"] != "EXECUTION" and len(payload.encode()) > MEGABYTE:
            raise Refused
        if error is not None and len(error.encode()) > MEGABYTE:
            raise Refused

    def _end_by_update(self, update: Update, now: int) -> None:
        payload, error = update.get("payload"), update.get("error")
        if update["action"] == "SUCCEED" and error is None:
            self.finish("SUCCEEDED", now, result=payload)
        elif update["action"] == "FAIL" and payload is None:
            self.finish("FAILED", now, error=error)
        else:
            raise Refused

    def _apply(self, update: Update, now: int) -> None:
        parent = update.get("parent")
        if parent is not None:
            above = self.operations.get(parent)
            if above is None or above["type"] != "CONTEXT" or above["status"] in FINAL or not self.alive(above):
                raise Refused
        same = {
            "type": update["type"],
            "sub_type": update.get("sub_type"),
            "name": update.get("name"),
            "parent": parent,
        }
        known = self.operations.get(update["id"])
        if known is None:
            rest = ("end", "due", "limit", "beat", "beats", "replay", "result", "error")
            known = {**same, "status": None, "start": now, "attempts": 0, **dict.fromkeys(rest)}
        elif any(known[name] != value for name, value in same.items()):
            raise Refused
        do = {
            "STEP": self._step,
            "WAIT": self._wait,
            "CONTEXT": self._context,
            "CALLBACK": self._callback,
            "CHAINED_INVOKE": self._invoke,
        }[update["type"]]
        self.operations[update["id"]] = known
        do(update, known, now)

    def _step(self, update: Update, step: dict[str, Any], now: int) -> None:
        action, payload, error = update["action"], update.get("payload"), update.get("error")
        allowed: set[str | None] = {None, "READY"} if action == "START" else {None, "STARTED", "READY"}
        carried: dict[str, tuple[str, ...]] = {
            "START": (),
            "SUCCEED": ("payload",),
            "FAIL": ("error",),
            "RETRY": ("payload", "error"),
        }
        has = [name for name in ("payload", "error") if update.get(name) is not None]
        if action not in carried or step["status"] not in allowed or len(has) > 1:
            raise Refused
        if not set(has) <= set(carried[action]):
            raise Refused
        if action == "START":
            step["status"] = "STARTED"
            self._event("StepStarted", update["id"], now)
            return
        step.update(attempts=step["attempts"] + 1, result=payload, error=error)
        delay = None
        if action == "RETRY":
            delay = _delay(update)
            step.update(status="PENDING", due=now + delay * 1000)
        else:
            step.update(status="SUCCEEDED" if action == "SUCCEED" else "FAILED", end=now)
        failed = action == "FAIL" or (action == "RETRY" and error is not None)
        what = {"attempt": step["attempts"], "delay": delay, "result": payload, "error": error}
        self._event("StepFailed" if failed else "StepSucceeded", update["id"], now, **what)

    def _wait(self, update: Update, wait: dict[str, Any], now: int) -> None:
        if update.get("payload") is not None or update.get("error") is not None:
            raise Refused
        if (update["action"], wait["status"]) == ("START", None):
            delay = _delay(update)
            wait.update(status="STARTED", due=now + delay * 1000)
            self._event("WaitStarted", update["id"], now, delay=delay)
        elif (update["action"], wait["status"]) == ("CANCEL", "STARTED"):
            wait.update(status="CANCELLED", end=now)
            self._event("WaitCancelled", update["id"], now)
        else:
            raise Refused

    def _context(self, update: Update, context: dict[str, Any], now: int) -> None:
        action, payload, error = update["action"], update.get("payload"), update.get("error")
        allowed: set[str | None] = {None} if action == "START" else {None, "STARTED"}
        if action not in {"START", "SUCCEED", "FAIL"} or context["status"] not in allowed:
            raise Refused
        if (payload is not None and action != "SUCCEED") or (error is not None and action != "FAIL"):
            raise Refused
        if action == "START":
            context["status"] = "STARTED"
            self._event("ContextStarted", update["id"], now)
            return
        status, kind = ("SUCCEEDED", "Succeeded") if action == "SUCCEED" else ("FAILED", "Failed")
        context.update(status=status, end=now, replay=update.get("replay"), result=payload, error=error)
        self._event(f"Context{kind}", update["id"], now, result=payload, error=error)

    def _callback(self, update: Update, callback: dict[str, Any], now: int) -> None:
        carries = update.get("payload") is not None or update.get("error") is not None
        if update["action"] != "START" or callback["status"] is not None or carries:
            raise Refused
        limits = update.get("timeout"), update.get("heartbeat")
        if not all(limit is None or 0 <= limit <= 99_999_999 for limit in limits):
            raise Refused
        limit, beats = limits
        callback.update(status="STARTED", limit=now + limit * 1000 if limit else None, beats=beats or None)
        callback["beat"] = now + beats * 1000 if beats else None
        self._event("CallbackStarted", update["id"], now, timeout=limit or None, heartbeat=beats or None)

    def _invoke(self, update: Update, invoke: dict[str, Any], now: int) -> None:
        function = update.get("function")
        if update["action"] != "START" or invoke["status"] is not None or update.get("error") is not None:
            raise Refused
        if function is None or not 1 <= len(function) <= 256:
            raise Refused
        invoke["status"] = "STARTED"
        what = {"function": function, "payload": update.get("payload")}
        self._event("ChainedInvokeStarted", update["id"], now, **what)


def _delay(update: Update) -> int:
    delay = update.get("delay")
    if delay is None or not 1 <= delay <= YEAR:
        raise Refused
    return int(delay)


class ServiceModel:
    """Several executions, and who may write to which.

    Attributes:
        now: What time it is.
        executions: By id.
    """

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.now = 0
        self.executions: dict[str, Execution] = {}

    def create(self, key: str) -> None:
        if key in self.executions:
            raise Refused("exists")
        execution = self.executions[key] = Execution(key)
        execution._event("ExecutionStarted", None, self.now)
        execution.changes = 1

    def begin(self, key: str) -> tuple[Token, list[str], list[str], str | None]:
        """The token, a page of operations, what changed since the last invocation, and where the rest is."""
        execution = self._get(key)
        if execution.is_over:
            raise Refused("token")
        changed = _once([*execution.turn.untold, *execution.pass_time(self.now)])
        execution.invocations += 1
        execution.changes += 1
        token = (key, execution.invocations, 0)
        execution.turn = Turn(token=token, began=self.now)
        page, marker = self._page(execution, 0, self.page_size)
        return token, page, changed, marker

    def checkpoint(self, key: str, token: Token | None, updates: Sequence[Update], client: str) -> Any:
        """The next token if there is one, and what is told, whole. A token of `None` is none of the service's."""
        if key not in self.executions:
            raise Refused("resource")
        execution = self.executions[key]
        turn = execution.turn
        if turn.last is not None and turn.last[:2] == (token, client):
            return turn.last[2]
        if token is None or token != turn.token:
            raise Refused("token")
        fallen = execution.pass_time(self.now)
        changed = _once([*fallen, *(execution.apply(updates, self.now) if updates else [])])
        if fallen or updates:
            execution.changes += 1
        operations = _once([*(name for name in turn.untold if name not in changed), *changed])
        turn.told = bool(fallen or turn.untold)
        turn.untold = []
        turn.token = None if execution.is_over else (key, token[1], token[2] + 1)
        answer = turn.token, [(name, copy.deepcopy(execution.operations[name])) for name in operations]
        turn.last = token, client, answer
        return answer

    def get_state(self, key: str, token: Token | None, marker: str, size: int) -> tuple[list[str], str | None]:
        if key not in self.executions:
            raise Refused("resource")
        execution = self.executions[key]
        if token is None or token != execution.turn.token:
            raise Refused("token")
        if not 1 <= size <= 1000 or (marker and not re.fullmatch("[0-9]{1,9}", marker)):
            raise Refused
        return self._page(execution, int(marker or "0"), size)

    def end_invocation(self, key: str, status: str, text: str | None, *, accept_idle: bool) -> bool:
        """Its answer SUCCEEDED, FAILED or PENDING; or what it RAISED. Says whether that made sense."""
        execution = self._get(key)
        execution.changes += 1
        execution.invocation_completed(self.now, text if status == "RAISED" else None)
        execution.turn.token = execution.turn.last = None
        if execution.is_over:
            return status != "RAISED"
        if status == "SUCCEEDED":
            execution.finish("SUCCEEDED", self.now, result=text)
        elif status == "FAILED":
            execution.finish("FAILED", self.now, error=text)
        elif status == "PENDING" and not (execution.is_waiting() or execution.has_changed()):
            if not accept_idle:
                execution.finish("FAILED", self.now, error="InvalidPendingAnswer")
            return False
        return status != "RAISED"

    def callback(self, key: str, name: str, what: str, text: str | None) -> None:
        """Complete a callback, or give a sign of life: `succeed`, `fail`, `heartbeat`."""
        if key not in self.executions:
            raise Refused("no callback")
        execution = self.executions[key]
        fallen = self._from_outside(execution)
        operation = execution.operations.get(name)
        if operation is None or operation["type"] != "CALLBACK":
            raise Refused("no callback")
        if not execution.open(name, "CALLBACK"):
            raise Refused("callback over")
        if what == "heartbeat":
            later = operation["beats"] and max(operation["beat"], self.now + operation["beats"] * 1000)
            if later != operation["beat"]:
                operation["beat"] = later
                self._wrote(execution, [], fallen=fallen)
            return
        status, result, error = ("SUCCEEDED", text, None) if what == "succeed" else ("FAILED", None, text)
        execution.close(name, status, self.now, result=result, error=error)
        self._wrote(execution, [name], fallen=fallen)

    def end_invoke(self, key: str, name: str, status: str, text: str | None) -> None:
        if key not in self.executions:
            return
        execution = self.executions[key]
        fallen = self._from_outside(execution)
        if execution.open(name, "CHAINED_INVOKE"):
            result, error = (text, None) if status == "SUCCEEDED" else (None, text)
            execution.close(name, status, self.now, result=result, error=error)
            self._wrote(execution, [name], fallen=fallen)

    def stop(self, key: str, error: str | None) -> str:
        execution = self._get(key)
        fallen = self._from_outside(execution)
        if not execution.is_over:
            execution.finish("STOPPED", self.now, error=error)
            self._wrote(execution, [], fallen=fallen)
            execution.turn.token = execution.turn.last = execution.turn.began = None
        return execution.status

    def next_due(self, key: str) -> int | None:
        execution = self._get(key)
        return self.now if execution.has_changed() else execution.next_timer()

    def drop(self, key: str) -> None:
        """A write went wrong: nobody may write any more, and something may have changed."""
        if key in self.executions:
            self.executions[key].turn = Turn(unsure=True)

    def restart(self) -> None:
        """Everything that is in memory is lost."""
        for execution in self.executions.values():
            execution.turn = Turn()

    def _get(self, key: str) -> Execution:
        if key not in self.executions:
            raise Refused("execution")
        return self.executions[key]

    def _from_outside(self, execution: Execution) -> bool:
        """What time does before the outside does something is written in any case. Says whether it did anything."""
        fallen = [] if execution.is_over else execution.pass_time(self.now)
        if fallen:
            self._wrote(execution, fallen)
        return bool(fallen)

    @staticmethod
    def _wrote(execution: Execution, names: list[str], *, fallen: bool = False) -> None:
        # What time did goes out together with what the outside does.
        execution.changes += not fallen
        execution.turn.untold = _once([*execution.turn.untold, *names])

    def _page(self, execution: Execution, begin: int, size: int) -> tuple[list[str], str | None]:
        everything = [execution.id, *execution.visible()]
        end = begin + size
        return everything[begin:end], str(end) if end < len(everything) else None


def _once(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))

"""CONTEXT: a subflow with its own namespace of positions (PROTOCOL section 4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .._engine.current import frame_var
from .._engine.frame import Frame
from .._engine.perform import Verb, diverge
from .._kernel.decide import Decision, Interrupt, Run, decide_context
from .._kernel.errors import decode_error, rebuild_live
from .._kernel.history import Identity
from .._kernel.names import check_name
from .._kernel.values import Converter
from .._wire import ErrorObject, Operation, OperationAction, OperationType, OperationUpdate, SubType
from .._wire.limits import REPLAY_CHILDREN_BYTES
from .._wire.updates import ContextOptions

T = TypeVar("T")


class ChildVerb(Verb[T]):
    """One child context: a body that gets a frame of its own."""

    __slots__ = ("_body", "_converter", "_live", "_live_error", "_name")

    def __init__(
        self,
        frame: Frame,
        body: Callable[[Frame], Awaitable[T]],
        converter: Converter[Any],
        *,
        name: str,
        sub_type: str = SubType.RUN_IN_CHILD_CONTEXT,
    ) -> None:
        self._name = check_name(name, "a child context")
        self.identity = Identity(OperationType.CONTEXT, sub_type, name, frame.context_id)
        self._body = body
        self._converter = converter
        # What this very invocation's run gave: its value need not be rebuilt from the children it just ran.
        self._live: tuple[str, T] | None = None
        self._live_error: tuple[ErrorObject, Exception] | None = None

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a CONTEXT."""
        return decide_context(recorded)

    async def run(self, frame: Frame, operation_id: str, decision: Run | Interrupt) -> OperationUpdate:  # noqa: ARG002
        """Run the subflow."""
        child = Frame(frame.invocation, context_id=operation_id, parent=frame)
        try:
            payload, value = await self._run_in(frame, child)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the child's outcome
            recorded, rebuilt = rebuild_live(error)
            if child.registers:
                # Its compensations must be registered again on replay, so its body must run again, and a FAILED
                # context's records are not given back by the service. It stays open: replay comes to this again.
                raise rebuilt from rebuilt.__cause__
            self._live_error = (recorded, rebuilt)
            return self.update(operation_id, OperationAction.FAIL, error=recorded)
        self._live = (payload, value)
        rebuild = child.registers or len(payload) > REPLAY_CHILDREN_BYTES
        return self.update(
            operation_id,
            OperationAction.SUCCEED,
            payload="" if rebuild else payload,
            context_options=ContextOptions(replay_children=rebuild),
        )

    async def replay(self, frame: Frame, operation_id: str) -> T:
        """Run the subflow over its children's records: they hold what its own does not."""
        if self._live is not None:
            return self._live[1]
        child = Frame(frame.invocation, context_id=operation_id, parent=frame, finished=True)
        _, value = await self._run_in(frame, child)
        return value

    def value(self, payload: str | None) -> T:
        """The result, decoded by the function's return annotation."""
        if self._live is not None and self._live[0] == payload:
            return self._live[1]
        value: T = self._converter.decode(payload, f"the recorded result of child {self._name!r}")
        return value

    def error(self, recorded: ErrorObject | None) -> Exception:
        """What the subflow raised, as its own type."""
        if self._live_error is not None and self._live_error[0] == recorded:
            return self._live_error[1]
        return decode_error(recorded)

    async def _run_in(self, frame: Frame, child: Frame) -> tuple[str, T]:
        frame.active = f"child {self._name!r}"
        token = frame_var.set(child)
        try:
            result = await self._body(child)
            await check_end(child, f"the end of child {self._name!r}")
        finally:
            frame_var.reset(token)
            frame.active = None
        what = f"the result of child {self._name!r}"
        payload = self._converter.encode(result, what)
        return payload, self._converter.decode(payload, what)


async def check_end(frame: Frame, found: str) -> None:
    """At the end of a frame's code: everything that was recorded there has been asked for.

    Ends the invocation with a NonDeterminismError otherwise.
    """
    recorded = frame.unasked()
    if recorded is not None:
        await diverge(frame, recorded, found)

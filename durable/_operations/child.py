"""CONTEXT: a subflow with its own namespace of positions (PROTOCOL section 4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from .._engine.conversion import AnyConverter
from .._engine.current import frame_var
from .._engine.frame import Frame
from .._engine.perform import check_end
from .._kernel.batch import is_large
from .._kernel.decide import Decision, Interrupt, Run, decide_context
from .._kernel.errors import rebuild_live
from .._kernel.history import Identity
from .._kernel.names import check_name
from .._wire import Operation, OperationAction, OperationType, OperationUpdate, SubType
from .._wire.updates import ContextOptions
from .body import BodyVerb

T = TypeVar("T")


class ChildVerb(BodyVerb[T]):
    """One child context: a body that gets a frame of its own."""

    __slots__ = ("_body", "is_one_of_many")
    is_rehearsed = True

    def __init__(
        self,
        frame: Frame,
        body: Callable[[Frame], Awaitable[T]],
        converter: AnyConverter,
        *,
        name: str,
        sub_type: str = SubType.RUN_IN_CHILD_CONTEXT,
        is_one_of_many: bool = False,
    ) -> None:
        identity = Identity(OperationType.CONTEXT, sub_type, check_name(name, "a child context"), frame.context_id)
        label = f"child {name!r}" if sub_type == SubType.RUN_IN_CHILD_CONTEXT else str(identity)
        super().__init__(identity, converter, label)
        self._body = body
        self.is_one_of_many = is_one_of_many

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a CONTEXT."""
        return decide_context(recorded)

    async def run(self, frame: Frame, operation_id: str, decision: Run | Interrupt) -> OperationUpdate:  # noqa: ARG002
        """Run the subflow."""
        child = Frame(frame.invocation, context_id=operation_id, parent=frame)
        child.settle()
        try:
            payload, value = await self._run_in(frame, child)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the child's outcome
            if child.registers:
                # Its compensations must be registered again on replay, so its body must run again, and a FAILED
                # context's records are not given back by the service. It stays open: replay comes to this again.
                _, rebuilt = rebuild_live(error)
                raise rebuilt from rebuilt.__cause__
            return self.failed(operation_id, error)
        self._live = (payload, value)
        rebuild = child.registers or is_large(payload)
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

    async def _run_in(self, frame: Frame, child: Frame) -> tuple[str, T]:
        frame.active = self.label
        token = frame_var.set(child)
        try:
            result = await self._body(child)
            await check_end(child, f"the end of {self.label}")
        finally:
            frame_var.reset(token)
            child.end()
            frame.active = None
        return await self.encode(frame, result, f"the result of {self.label}")

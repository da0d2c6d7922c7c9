"""CONTEXT: branches side by side, for `map`, `parallel` and `race` (PROTOCOL section 4).

What is recorded: the fan-out is a context; each branch is one inside it (nested), or only a namespace of ids for
what it records itself (flat). The fan-out's own record holds every outcome; when that is large, or compensations
have to be registered again, it holds a summary, and a replay runs the branches over their own records.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import msgspec

from .._engine.conversion import SerdeConverter, decode, encode
from .._engine.frame import Frame
from .._engine.perform import diverge
from .._kernel.batch import is_large
from .._kernel.completion import (
    CODE,
    BatchItem,
    BatchRecord,
    BatchResult,
    Completion,
    ItemRecord,
    encode_batch,
)
from .._kernel.decide import Decision, Interrupt, Run, decide_context
from .._kernel.errors import decode_error, encode_error, rebuild_live
from .._kernel.history import Identity
from .._kernel.ids import operation_id
from .._kernel.names import check_name
from .._kernel.values import PLAIN, Converter
from .._wire import Operation, OperationAction, OperationType, OperationUpdate
from .._wire.limits import REPLAY_CHILDREN_BYTES
from .._wire.updates import ContextOptions
from ..exceptions import MalformedPayloadError, SerializationError
from .body import BodyVerb
from .branches import Branches, FanOut, FanOutPolicy, decode_record
from .branches import Nesting as Nesting

if TYPE_CHECKING:
    from ..abc import Serde

T = TypeVar("T")


class FanOutVerb(BodyVerb[BatchResult[T]]):
    """One fan-out."""

    __slots__ = (
        "_branches",
        "_budget",
        "_live",
        "_live_error",
        "_name",
        "_policy",
        "_whole",
    )
    is_rehearsed = True

    def __init__(
        self,
        frame: Frame,
        branches: Branches[T],
        *,
        name: str,
        sub_type: str,
        branch_sub_type: str,
        completion: Completion,
        max_concurrency: int | None,
        nesting: Nesting,
        serde: Serde | None = None,
    ) -> None:
        identity = Identity(OperationType.CONTEXT, sub_type, check_name(name, f"a {sub_type}"), frame.context_id)
        super().__init__(identity, PLAIN, f"{sub_type.lower()} {name!r}")
        self.loads = True
        if max_concurrency is not None and max_concurrency < 1:
            raise ValueError(f"{self.label}: max_concurrency is 1 or more, not {max_concurrency!r}")
        if nesting not in {"nested", "flat"}:
            raise ValueError(f"{self.label}: nesting is 'nested' or 'flat', not {nesting!r}")
        self._branches = branches
        limit = math.inf if max_concurrency is None else max_concurrency
        self._policy = FanOutPolicy(identity, branch_sub_type, completion, limit, nesting)
        self._budget = frame.invocation.budget
        # What encodes and decodes the result as a whole, if it is not our own record.
        self._whole = None if serde is None else SerdeConverter(serde, BatchResult, self._what)

    @property
    def _what(self) -> str:
        return f"the result of {self.label}"

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a CONTEXT."""
        return decide_context(recorded)

    async def run(self, frame: Frame, operation_id: str, decision: Run | Interrupt) -> OperationUpdate:  # noqa: ARG002
        """Run the branches."""
        owner = Frame(frame.invocation, context_id=operation_id, parent=frame, is_slot=True)
        fan_out = FanOut(owner, self._branches, self._policy, None)
        try:
            result = await self._run_in(frame, fan_out)
        except Exception as error:  # noqa: BLE001 - the completion policy's own
            if owner.registers:
                _, rebuilt = rebuild_live(error)
                raise rebuilt from rebuilt.__cause__  # it stays open, as a child does
            return self.failed(operation_id, error)
        inside = 0 if self._budget.limit is None else frame.invocation.history.inside(operation_id)
        record = BatchRecord(
            reason=result.completion_reason,
            successful=result.is_successful,
            statuses="".join(CODE[item.status] for item in result.items),
            operations=inside,
        )
        payload = ""
        try:
            if owner.registers:
                pass
            elif self._whole is not None:
                payload = await encode(owner, self._whole, result, self._what)
            else:
                payload = encode_batch(msgspec.structs.replace(record, items=await self._records_of(owner, result)))
            rebuild = owner.registers or is_large(payload)
            if rebuild:
                payload = encode_batch(msgspec.structs.replace(record, passed=fan_out.tally()))
            elif self._whole is not None:
                result = await self._load_whole(owner, self._whole, payload)
        except SerializationError as error:
            if self._whole is None:
                raise
            return self.failed(operation_id, error)
        self._live = (payload, result)
        return self.update(
            operation_id,
            OperationAction.SUCCEED,
            payload=payload,
            context_options=ContextOptions(replay_children=rebuild),
        )

    async def replay(self, frame: Frame, operation_id: str) -> BatchResult[T]:
        """Run the branches over their own records."""
        if self._live is not None:
            return self._live[1]
        recorded = frame.invocation.history.get(operation_id)
        record = decode_record(recorded.result if recorded is not None else None, self.identity)
        await self._check_count(frame, record)
        owner = Frame(frame.invocation, context_id=operation_id, parent=frame, finished=True, is_slot=True)
        return await self._run_in(frame, FanOut(owner, self._branches, self._policy, record))

    async def load(self, frame: Frame, payload: str | None) -> BatchResult[T]:
        """The outcomes, each decoded by its function's return annotation."""
        if self._live is not None and self._live[0] == payload:
            return self._live[1]
        if self._whole is not None:
            return await self._load_whole(frame, self._whole, payload)
        record = decode_record(payload, self.identity)
        if record.items is None:
            raise MalformedPayloadError("BatchRecord", f"recorded for {self.identity}: it has no items")
        await self._check_count(frame, record)
        self._budget.used += record.operations  # the service does not give them any more
        items = [await self._item(frame, index, item) for index, item in enumerate(record.items)]
        return BatchResult(items=items, completion_reason=record.reason, is_successful=record.successful)

    async def _load_whole(self, frame: Frame, whole: SerdeConverter, payload: str | None) -> BatchResult[T]:
        """The result from what a serde has made of it."""
        result: BatchResult[T] = await decode(frame, whole, payload, f"the recorded result of {self.label}")
        given: object = result  # it is whatever the serde gives
        if not isinstance(given, BatchResult):
            raise SerializationError(
                f"the recorded result of {self.label} was decoded to {type(given).__name__}: "
                "the serde of a whole batch gives a BatchResult"
            )
        return result

    async def _check_count(self, frame: Frame, record: BatchRecord) -> None:
        """End the invocation if there are branches on record that the code has not any more."""
        count = len(record.statuses)
        if count > self._branches.count:
            recorded = frame.invocation.history.get(operation_id(frame.prefix, frame.position))
            await diverge(frame, recorded, f"{self.identity} with {self._branches.count} branches, not {count}")

    async def _run_in(self, frame: Frame, fan_out: FanOut[T]) -> BatchResult[T]:
        frame.active = self.label
        try:
            return await fan_out.run()
        finally:
            frame.active = None

    async def _item(self, frame: Frame, index: int, item: ItemRecord) -> BatchItem[T]:
        plan = self._branches[index]
        result: T | None = None
        if item.status == "succeeded":
            converter = self._branches.converter(index)
            encoded = bytes(item.result).decode()
            if not isinstance(converter, Converter):
                encoded = msgspec.json.decode(encoded, type=str)
            result = await decode(frame, converter, encoded, f"the recorded result of {plan.name!r}")
        error = decode_error(item.error) if item.status == "failed" else None
        return BatchItem(index=index, name=plan.name, status=item.status, result=result, error=error)

    async def _records_of(self, owner: Frame, result: BatchResult[T]) -> list[ItemRecord]:
        """The items as they are recorded; the first ones, if they are too large to be."""
        records: list[ItemRecord] = []
        size = 0
        for item in result.items:
            record = await self._record_of(owner, item)
            records.append(record)
            size += len(record.result)
            if record.error is not None:
                size += len(record.error.error_message or "") + len(record.error.error_data or "")
            if size > REPLAY_CHILDREN_BYTES:
                break
        return records

    async def _record_of(self, owner: Frame, item: BatchItem[T]) -> ItemRecord:
        if item.status == "succeeded":
            converter = self._branches.converter(item.index)
            encoded = (await encode(owner, converter, item.result, f"the result of {item.name!r}")).encode()
            # JSON is embedded as it is; what a serde gives is any text.
            raw = encoded if isinstance(converter, Converter) else msgspec.json.encode(encoded.decode())
            return ItemRecord(item.status, msgspec.Raw(raw))
        return ItemRecord(item.status, error=None if item.error is None else encode_error(item.error))

"""Programs whose every value says which record it is of, and histories of theirs in which something is wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import anyio
import hypothesis.strategies as st
import msgspec
from msgspec.structs import replace

from durable import Completion, DurableContext, DurableFunction, Retry, durable_execution, saga
from durable._wire import ErrorObject, Operation, OperationStatus, OperationType, Timestamp
from durable._wire.operations import CallbackDetails, ChainedInvokeDetails, ContextDetails, StepDetails, WaitDetails
from durable.testing.history_files import RecordedHistory, read_history
from tests.histories.recording import Recording, record
from tests.histories.world import Program, fail, succeed

MARK = "as it was recorded"
"""What recorded errors say."""


class BoomError(Exception): ...


@dataclass
class Seen:
    """What one run of a program saw.

    Attributes:
        kind: What its steps give is told from what is recorded by this.
        values: By the name of an operation: what it gave.
        raised: By the name of an operation: what it raised.
        called: The steps and compensations that were called.
    """

    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    raised: dict[str, Exception] = field(default_factory=dict)
    called: list[str] = field(default_factory=list)

    async def give(self, name: str) -> str:
        self.called.append(name)
        return f"{self.kind} {name}"

    async def boom(self, name: str) -> str:
        self.called.append(name)
        raise BoomError(f"{name} {MARK}")

    async def count(self, number: int) -> int:
        self.called.append("condition")
        return number + 1

    async def undo(self, value: str) -> None:
        self.called.append(f"undo {value}")

    async def see(self, name: str, operation: Awaitable[Any]) -> Any:
        """What an operation gives, or raises, under its name."""
        try:
            value = self.values[name] = await operation
        except Exception as error:
            self.raised[name] = error
            return None
        return value

    async def step(self, ctx: DurableContext, name: str) -> Any:
        return await self.see(name, ctx.step(self.give, name, name=name))

    # --- The programs --------------------------------------------------------------------------------------------

    def one_after_another(self) -> DurableFunction[Any, Any]:
        async def inside(ctx: DurableContext) -> str:
            return f"{self.kind} child" if await self.step(ctx, "inside") else ""

        async def large(ctx: DurableContext) -> str:
            return f"{await self.step(ctx, 'inside large')}" + "x" * 300_000

        @durable_execution(name="program")
        async def program(event: str, ctx: DurableContext) -> str:
            self.values["input"] = event
            await self.step(ctx, "first")
            await self.see("failing", ctx.step(self.boom, "failing", name="failing"))
            self.values["now"] = ctx.now()
            retry = Retry(attempts=2, initial_delay=1, jitter="none")
            await self.see("retried", ctx.step(self.boom, "retried", name="retried", retry=retry))
            await self.see("once", ctx.step(self.give, "once", name="once", semantics="at-most-once"))
            await self.see("child", ctx.child(inside, name="child"))
            await self.see("large", ctx.child(large, name="large"))
            await self.see("pause", ctx.wait(5, name="pause"))
            condition = ctx.wait_for_condition(self.count, 0, until=lambda n: n == 2, delay=3, name="condition")
            await self.see("condition", condition)
            answered = await ctx.create_callback(str, name="answered")
            await self.see("answered", answered.result())
            failed = await ctx.create_callback(str, name="failed")
            await self.see("failed", failed.result())
            await self.see("invoke", ctx.invoke("callee", "x", result_type=str, name="invoke"))
            async with ctx.move_on_after(5, name="limit") as limit:
                await self.step(ctx, "in time")
                await ctx.wait(50, name="too long")
            self.values["expired"] = limit.expired
            await self.step(ctx, "last")
            return "done"

        return program

    def side_by_side(self) -> DurableFunction[Any, Any]:
        async def item(ctx: DurableContext, number: int) -> str:
            await self.step(ctx, f"item {number}")
            if number == 2:
                raise BoomError(f"item {number} {MARK}")
            await ctx.wait(number)
            return f"{self.kind} item {number}" + "x" * (300_000 if number > 6 else 0)

        async def branch(ctx: DurableContext, name: str, seconds: int) -> str:
            await self.step(ctx, name)
            await ctx.wait(seconds)
            return f"{self.kind} {name}"

        async def fan(name: str, fan_out: Awaitable[Any]) -> None:
            result = await self.see(name, fan_out)
            for one in result or ():
                self.values[f"{name} {one.index}"] = (one.status, one.result)

        @durable_execution(name="program")
        async def program(event: str, ctx: DurableContext) -> str:
            await fan("all", ctx.map(item, [1, 2, 3], name="all"))
            some = Completion(min_successful=1)
            await fan("some", ctx.map(item, [14, 5], name="some", completion=some))
            await fan("flat", ctx.map(item, [16, 2, 7], name="flat", nesting="flat", completion=some))
            await fan("large", ctx.map(item, [8, 9], name="large", max_concurrency=1))
            await self.see("race", ctx.race(lambda c: branch(c, "l", 2), lambda c: branch(c, "r", 99), name="race"))
            async with ctx.task_group() as group:
                one, two = group.start_soon(branch, "one", 1), group.start_soon(branch, "two", 2)
                await self.step(ctx, "in the block")
            self.values["group"] = (one.result(), two.result())
            with suppress(ExceptionGroup):
                async with ctx.task_group() as group:
                    group.start_soon(item, 2)
                    group.start_soon(branch, "left alone", 99)
            return "done"

        return program

    def sagas(self) -> DurableFunction[Any, Any]:
        async def booking(ctx: DurableContext, name: str) -> None:
            async with saga(ctx, name) as s:
                await s.step(self.give, name, name=name, compensate=self.undo)
                await ctx.wait(1)

        @durable_execution(name="program")
        async def program(event: str, ctx: DurableContext) -> str:
            s = saga(ctx, "outer", on_error="park", deadline=500)
            try:
                async with s:
                    s.cleanup(self.undo, "tidy", name="tidy")
                    await s.step(self.give, "hotel", name="hotel", compensate=self.undo)
                    await booking(ctx, "inner")
                    await ctx.child(booking, "in a child", name="child")
                    await ctx.map(booking, ["x", "y"], name="map")
                    await s.step(self.give, "stays", name="stays", compensate=self.boom)
                    point = s.savepoint()
                    await s.step(self.give, "back", name="back", compensate=self.undo)
                    await s.rollback_to(point, f"back {MARK}")
                    await ctx.step(self.boom, "failing", name="failing")
            except Exception as error:
                self.raised["saga"] = error
            self.values["saga"] = None if s.result is None else [(one.name, one.status) for one in s.result.items]
            return "done"

        return program


async def answer(event: str) -> str:
    return "record invoke"


Make = Callable[[Seen], DurableFunction[Any, Any]]

PROGRAMS: dict[str, Make] = {
    "one after another": Seen.one_after_another,
    "side by side": Seen.side_by_side,
    "sagas": Seen.sagas,
}


@cache
def recording_of(name: str) -> Recording:
    """What a program records."""
    answers: dict[str, dict[str, Any]] = {
        "one after another": {
            "answered": [succeed("record answered")],
            "failed": [fail(BoomError(f"failed {MARK}"))],
        },
        "sagas": {"stays operator": [succeed("skip")]},
    }
    callees = {"callee": answer}
    made = PROGRAMS[name](Seen("record"))
    program = Program(made, "record input", answers=answers.get(name, {}), callees=callees)
    return anyio.run(record, "t-1", program)


@cache
def histories(name: str) -> Sequence[RecordedHistory]:
    """A program's history, cut after each call."""
    recording = recording_of(name)
    return [read_history(recording.events[:cut]) for cut in (*recording.cuts, len(recording.events))]


def documents(name: str) -> bytes:
    """A program's events as JSON, as the API gives them."""
    return msgspec.json.encode(msgspec.json.decode(recording_of(name).document())["Events"])


# --- What may be wrong -------------------------------------------------------------------------------------------

_NUMBERS = st.sampled_from([None, -1, 0, 1, 2, 10**6, 2**63])
_INSTANTS = st.sampled_from([None, *map(Timestamp, (-1, 0, 1_764_000_000_000, 2_000_000_000_000, 10**15))])
_TEXTS = st.sampled_from(
    [None, "", "null", "1", "[]", "{}", '"other"', "{", "no JSON", '"\\ud800"', "[" * 2000, '{"stopped": true}']
)
_ERRORS = st.sampled_from(
    [
        None,
        ErrorObject(),
        ErrorObject(error_type="ValueError", error_message=MARK),
        ErrorObject(error_type="tests.properties.fuzzed.BoomError", error_message=MARK, error_data="{"),
        ErrorObject(error_type="UnicodeDecodeError", error_message=MARK, error_data='{"args": [1]}'),
        ErrorObject(error_type="ExceptionGroup", error_message=MARK, error_data='{"exceptions": [7]}'),
        ErrorObject(error_type="durable.CompensationError", error_message=MARK, error_data='{"args": 7}'),
        ErrorObject(error_type="os.system", error_message=MARK, stack_trace=("x",)),
        ErrorObject(error_type="no.such.Module", error_message=MARK),
        ErrorObject(error_type="KeyboardInterrupt", error_message=MARK),
    ]
)

_PLACES = {
    "step_details": StepDetails,
    "context_details": ContextDetails,
    "callback_details": CallbackDetails,
    "chained_invoke_details": ChainedInvokeDetails,
    "wait_details": WaitDetails,
}


@st.composite
def altered(draw: Callable[..., Any], operations: list[Operation]) -> list[Operation]:
    """The same operations, and one thing that is wrong."""
    changed = list(operations)
    at = draw(st.integers(0, len(changed) - 1))
    one, other = changed[at], changed[draw(st.integers(0, len(changed) - 1))]
    match draw(
        st.sampled_from(["drop", "cut", "twice", "move", "id", "identity", "status", "times", "data", "inside"])
    ):
        case "drop":
            del changed[at]
        case "cut":
            del changed[at:]
        case "twice":
            changed.append(draw(st.sampled_from([one, replace(one, status=OperationStatus.STARTED)])))
        case "move":
            changed.insert(draw(st.integers(0, len(changed) - 1)), changed.pop(at))
        case "id":
            changed[at] = replace(one, id=draw(st.sampled_from([other.id, "f" * 64, ""])))
        case "identity":
            field_ = draw(st.sampled_from(["type", "sub_type", "name", "parent_id"]))
            value = draw(st.sampled_from([*OperationType])) if field_ == "type" else getattr(other, field_)
            changed[at] = replace(one, **{field_: value})
        case "status":
            changed[at] = replace(one, status=draw(st.sampled_from([*OperationStatus])))
        case "times":
            field_ = draw(st.sampled_from(["start_timestamp", "end_timestamp"]))
            changed[at] = replace(one, **{field_: draw(_INSTANTS) or Timestamp(0)})
        case "data":
            changed[at] = _with_other_data(draw, one, other)
        case _:
            changed[at] = _with_altered_record(draw, one)
    return changed


def _with_other_data(draw: Callable[..., Any], one: Operation, other: Operation) -> Operation:
    name = next((name for name in _PLACES if getattr(one, name) is not None), "step_details")
    details: Any = getattr(one, name) or StepDetails()
    values: dict[str, Any] = {
        "result": st.sampled_from([draw(_TEXTS), other.result]),
        "error": _ERRORS,
        "attempt": _NUMBERS,
        "next_attempt_timestamp": _INSTANTS,
        "scheduled_end_timestamp": _INSTANTS,
        "replay_children": st.sampled_from([None, True, False]),
        "callback_id": st.sampled_from([None, "", "other"]),
    }
    field_ = draw(st.sampled_from(["all", *(field_ for field_ in details.__struct_fields__ if field_ in values)]))
    if field_ == "all":
        return replace(one, **{name: draw(st.sampled_from([None, _PLACES[name]()]))})
    return replace(one, **{name: replace(details, **{field_: draw(values[field_])})})


def _with_altered_record(draw: Callable[..., Any], one: Operation) -> Operation:
    """Something within the JSON that we have recorded of it."""
    name = next((name for name in _PLACES if getattr(one, name) is not None), None)
    details: Any = None if name is None else getattr(one, name)
    try:
        document = msgspec.json.decode(one.result or "")
    except msgspec.DecodeError:
        return one
    paths = places(document)
    path = draw(st.sampled_from(paths))
    value = draw(st.sampled_from([None, 0, -1, 7, "", "zz", [], {}, [[]], {"a": 1}, "s" * 9]))
    assert name is not None
    return replace(
        one, **{name: replace(details, result=msgspec.json.encode(_put(document, path, value)).decode())}
    )


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every place in a JSON document; the whole first."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inside for place in places(one, (*path, key)))]


def _put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    inside = document
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return document

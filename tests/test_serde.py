"""Serdes: what becomes of values in records, errors on the way, and large values in files."""

from __future__ import annotations

import codecs
import itertools
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from durable import (
    ConditionNotMetError,
    DurableContext,
    DurableFunction,
    Retry,
    SerializationError,
    StepOutcome,
    current_context,
    durable_execution,
    saga,
)
from durable._wire import InvocationStatus, OperationStatus
from durable.abc import Serde
from durable.exceptions import ExecutionFailedError
from durable.local import open_engine
from durable.serde import FileSerde, JsonSerde
from tests.harness import CrashError, Harness

pytestmark = pytest.mark.anyio

SECRET = "attack at dawn"
LOG: list[Any] = []


@pytest.fixture(autouse=True)
def _no_log() -> None:
    LOG.clear()


class Trip(msgspec.Struct):
    city: str
    nights: int = 1


class Rot13(Serde):
    """An encryption, as far as anybody can see who does not look twice."""

    def __init__(self) -> None:
        self._json = JsonSerde()

    def check(self, annotation: Any) -> None:
        self._json.check(annotation)

    def encode(self, value: Any) -> str:
        return codecs.encode(self._json.encode(value), "rot13")

    def decode(self, text: str, annotation: Any) -> Any:
        return self._json.decode(codecs.decode(text, "rot13"), annotation)

    def __repr__(self) -> str:
        return "Rot13()"


class SlowRot13(Rot13):
    """One that asks somebody else, with another text every time, as an encryption with a nonce has it."""

    numbers = itertools.count()

    async def encode(self, value: Any) -> str:  # type: ignore[override]
        await anyio.lowlevel.checkpoint()
        return f"{next(self.numbers)}:{super().encode(value)}"

    async def decode(self, text: str, annotation: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return super().decode(text.partition(":")[2], annotation)


class Faulty(JsonSerde):
    """One that does what a test wants."""

    def __init__(
        self, encode: Callable[[Any], Any] | None = None, decode: Callable[[str], Any] | None = None
    ) -> None:
        self._encode = encode
        self._decode = decode

    def encode(self, value: Any) -> Any:
        return super().encode(value) if self._encode is None else self._encode(value)

    def decode(self, text: str, annotation: Any) -> Any:
        return super().decode(text, annotation) if self._decode is None else self._decode(text)

    def __repr__(self) -> str:
        return "Faulty()"


def everything(harness: Harness) -> str:
    """All that the service and its store have of an execution."""
    return str([harness.operations(), harness.record])


async def book(trip: Trip) -> Trip:
    LOG.append(f"book {trip.city}")
    return Trip(trip.city, trip.nights + 1)


async def cancel(trip: Trip) -> None:
    assert isinstance(trip, Trip)
    LOG.append(f"cancel {trip}")


@pytest.fixture(params=[Rot13, SlowRot13])
def serde(request: pytest.FixtureRequest) -> Serde:
    made: Serde = request.param()
    return made


# --- Steps ---------------------------------------------------------------------------------------------------


async def test_a_steps_result_is_recorded_as_its_serde_has_it(serde):
    """What comes out is the decoded value, on the first run and on replay; other steps are not concerned."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Trip]:
        trips = [await ctx.step(book, Trip(SECRET), serde=serde), await ctx.step(book, Trip("Rome"), name="open")]
        LOG.append(list(trips))
        await ctx.wait(5)
        return trips

    harness = Harness(work)
    assert await harness.result() == [Trip(SECRET, 2), Trip("Rome", 2)]
    assert SECRET not in (harness.operation("book").result or "")
    assert "nggnpx" in (harness.operation("book").result or "")
    assert harness.operation("open").result == '{"city":"Rome","nights":2}'
    told = [entry for entry in LOG if isinstance(entry, list)]
    assert len(told) > 1
    assert all(entry == told[0] for entry in told)
    assert LOG.count(f"book {SECRET}") == 1


@pytest.mark.parametrize("compensate_on", ["success", "start"])
async def test_compensations_get_the_decoded_value(serde, compensate_on):
    """Live, and when the rollback goes on after a crash."""

    async def undo(given: Any) -> None:
        LOG.append(given.value if isinstance(given, StepOutcome) else given)
        if len(LOG) == 2:
            await harness.crash_now()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, Trip(SECRET), compensate=undo, compensate_on=compensate_on, serde=serde)
            raise KeyError("no")

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.invoke()
    assert isinstance(await harness.error(), KeyError)
    assert [f"book {SECRET}", Trip(SECRET, 2), Trip(SECRET, 2)] == LOG
    assert SECRET not in everything(harness)


# --- A function's default ------------------------------------------------------------------------------------


async def child(ctx: DurableContext, trip: Trip) -> Trip:
    return await ctx.step(book, trip)


async def count(state: Trip) -> Trip:
    LOG.append(f"check {state.nights}")
    return Trip(state.city, state.nights + 1)


async def everywhere(trip: Trip, ctx: DurableContext) -> list[Trip]:
    """Values on every way there is."""

    async def branch(ctx: DurableContext) -> Trip:
        return await child(ctx, trip)

    trips = [await ctx.step(book, trip), await ctx.child(child, trip)]
    trips += (await ctx.map(child, [trip, trip])).results()
    trips += (await ctx.map(child, [trip, trip], nesting="flat", name="flat")).results()
    trips += (await ctx.parallel([branch, branch])).results()
    trips.append((await ctx.race(branch)).result)
    async with ctx.task_group() as tg:
        handle = tg.start_soon(child, trip)
    trips.append(handle.result())
    trips.append(await ctx.wait_for_condition(count, trip, until=lambda state: state.nights > 3, delay=5))
    async with ctx.batch():
        trips.append(await ctx.step(book, trip))
    await ctx.wait(5)
    return trips


async def test_a_functions_serde_is_that_of_all_it_records(serde):
    """Input, result, steps, children, branches of every kind, states of conditions: the plain text is nowhere."""
    plain = Harness(durable_execution(everywhere), Trip(SECRET))
    expected = await plain.result()
    assert SECRET in everything(plain)
    LOG.clear()

    function: DurableFunction[Trip, list[Trip]] = durable_execution(serde=serde)(everywhere)
    harness = Harness(function, Trip(SECRET))
    output = await harness.outcome()
    assert await function.load_result(output.result) == expected
    assert SECRET not in everything(harness)
    assert SECRET not in (output.result or "")
    assert LOG.count(f"book {SECRET}") == 11
    assert [entry for entry in LOG if entry.startswith("check")] == ["check 1", "check 2", "check 3"]


async def test_it_is_a_default_that_a_step_may_replace():
    """The one that is nearest counts."""

    @durable_execution(serde=Rot13())
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(book, Trip("Rome"), serde=JsonSerde())

    harness = Harness(work)
    await harness.result()
    assert harness.operation("book").result == '{"city":"Rome","nights":2}'


async def test_the_last_state_of_a_condition_is_not_told_in_its_error(serde):
    """Errors are recorded as they are: they are not for values."""

    @durable_execution(serde=serde)
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.wait_for_condition(count, Trip(SECRET), until=lambda _: False, max_attempts=1)

    harness = Harness(work)
    error = await harness.error()
    assert isinstance(error, ConditionNotMetError)
    assert error.state is None
    assert SECRET not in everything(harness)


async def test_on_an_engine_inputs_are_compared_decoded(serde, tmp_path):
    """The same input twice has two texts, where there is a nonce; it is one execution all the same."""

    @durable_execution(serde=serde)
    async def work(trip: Trip, ctx: DurableContext) -> Trip:
        return await ctx.step(book, trip)

    async with open_engine(tmp_path / "store") as engine:
        run = await engine.start(work, Trip(SECRET), name="one")
        assert await run.result() == Trip(SECRET, 2)
        again = await engine.start(work, Trip(SECRET), name="one")
        assert await again.result() == Trip(SECRET, 2)
    assert [f"book {SECRET}"] == LOG
    assert all(SECRET.encode() not in path.read_bytes() for path in tmp_path.iterdir())


async def test_who_is_invoked_says_how_it_is_called(serde):
    """The callee's serde encodes what it is called with, and decodes what it returned; not the caller's."""

    @durable_execution(serde=serde)
    async def callee(trip: Trip, ctx: DurableContext) -> Trip:
        LOG.append(trip)
        return await ctx.step(book, trip)

    @durable_execution
    async def caller(event: None, ctx: DurableContext) -> Trip:
        trip = await ctx.invoke(callee, Trip(SECRET))
        await ctx.wait(1)
        return trip

    async with open_engine() as engine:
        engine.register(callee)
        run = await engine.start(caller, None)
        assert await run.result() == Trip(SECRET, 2)
        events = [str(event) async for event in run.events()]
    assert LOG[0] == Trip(SECRET)
    invoked = [event for event in events if "ChainedInvoke" in event]
    assert invoked
    assert all(SECRET not in event for event in invoked)


async def test_an_asynchronous_one_cannot_be_used_at_once():
    """The error says what to call instead."""

    @durable_execution(serde=SlowRot13())
    async def work(trip: Trip, ctx: DurableContext) -> Trip:
        return trip

    with pytest.raises(SerializationError, match=r"a serde that is asynchronous .*: await dump_input\(\) instead"):
        work.encode_input(Trip("x"))
    with pytest.raises(SerializationError, match=r"await load_result\(\) instead"):
        work.decode_result("0:{}")
    assert await work.load_result(await work.dump_input(Trip("x"))) == Trip("x")


async def test_no_input_at_all_is_null_for_every_serde(serde):
    """Who starts an execution from outside may leave it out."""

    @durable_execution(serde=serde)
    async def work(event: Trip | None, ctx: DurableContext) -> str:
        return repr(event)

    harness = Harness(work)
    await harness.service.create(harness.record)
    harness._created = True
    assert await harness.result() == "None"
    assert await work.load_result(None) is None


# --- Errors --------------------------------------------------------------------------------------------------


def explode(_: Any) -> Any:
    raise ZeroDivisionError("boom")


async def explode_later(_: Any) -> Any:
    await anyio.lowlevel.checkpoint()
    raise ZeroDivisionError("boom")


@pytest.mark.parametrize("encode", [explode, explode_later])
async def test_what_cannot_be_encoded_is_the_steps_failure(encode):
    """After its effect: recorded, told with the step and the serde, and not tried again."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        with pytest.raises(SerializationError) as raised:
            await ctx.step(book, Trip("Rome"), serde=Faulty(encode=encode), retry=Retry())
        assert isinstance(raised.value.__cause__, ZeroDivisionError) == (harness.invocations == 1)
        await ctx.wait(5)
        return str(raised.value)

    harness = Harness(work)
    assert await harness.result() == "the result of step 'book' cannot be encoded by Faulty(): boom"
    assert harness.operation("book").status is OperationStatus.FAILED
    assert LOG == ["book Rome"]


@pytest.mark.parametrize(("gives", "what"), [(b"x", "bytes"), (None, "NoneType"), (3, "int")])
async def test_a_serde_gives_text(gives, what):
    """And nothing else, which would be a surprise later."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(book, Trip("Rome"), serde=Faulty(encode=lambda _: gives))

    error = await Harness(work).error()
    assert isinstance(error, SerializationError)
    assert str(error) == f"the result of step 'book': Faulty() gave {what}, a serde gives text"


@pytest.mark.parametrize("decode", [explode, explode_later])
async def test_what_cannot_be_decoded_on_replay_is_raised_at_the_step(decode):
    """As what does not fit an annotation any more."""
    broken = [None]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        said = "fine"
        try:
            await ctx.step(book, Trip("Rome"), serde=Faulty(decode=broken[0]))
        except SerializationError as error:
            said = str(error)
        await ctx.wait(5)
        return said

    harness = Harness(work)
    await harness.invoke()
    broken[0] = decode
    assert await harness.result() == "the recorded result of step 'book' cannot be decoded by Faulty(): boom"


async def test_a_storage_that_cannot_be_reached_ends_the_invocation_past_the_users_handlers():
    """Nothing is decided upon it: no handler sees it, nothing is undone, and later the execution goes on."""
    broken: list[Any] = [None]
    caught: list[Exception] = []

    def unreachable(_: str) -> Any:
        raise ConnectionError("no route")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            async with saga(ctx) as s:
                trip = await s.step(book, Trip("Rome"), compensate=cancel, serde=Faulty(decode=broken[0]))
                await ctx.wait(5)
        except Exception as error:
            caught.append(error)
            raise
        return trip.city

    harness = Harness(work)
    await harness.invoke()
    broken[0] = unreachable
    with pytest.raises(ConnectionError, match="no route") as raised:
        await harness.invoke()
    assert raised.value.__notes__ == ["raised by a serde, for the recorded result of step 'book'"]
    broken[0] = None
    assert await harness.result() == "Rome"
    assert caught == []
    assert LOG == ["book Rome"]


class NotKnown:
    """Nothing that JSON has."""


async def gives_what_is_not_known() -> NotKnown:
    LOG.append("ran")
    return NotKnown()


@pytest.mark.parametrize("serde", [JsonSerde(), Rot13(), FileSerde("nowhere"), FileSerde("nowhere", inner=Rot13())])
async def test_a_type_that_can_never_be_decoded_is_refused_before_the_step_runs(serde):
    """As without a serde; a serde that can do it says nothing."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(gives_what_is_not_known, serde=serde)

    harness = Harness(work)
    error = await harness.error()
    assert isinstance(error, SerializationError)
    assert str(error).startswith("the result of gives_what_is_not_known: a value is annotated with NotKnown")
    assert (LOG, harness.calls) == ([], [])


async def test_a_serde_may_know_types_that_json_does_not():
    """It gets the value as it is, and the annotation to decode by."""
    annotations = []

    class Own(Serde):
        def encode(self, value: Any) -> str:
            return type(value).__name__

        def decode(self, text: str, annotation: Any) -> Any:
            annotations.append(annotation)
            return annotation()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        value = await ctx.step(gives_what_is_not_known, serde=Own())
        await ctx.wait(5)
        return type(value).__name__

    harness = Harness(work)
    assert await harness.result() == "NotKnown"
    assert harness.operation("gives_what_is_not_known").result == "NotKnown"
    assert set(annotations) == {NotKnown}


async def test_inside_a_serde_nothing_durable_can_run():
    """It is part of its operation."""

    async def encode(value: Any) -> str:
        await current_context().step(book, Trip("x"))
        return ""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(book, Trip("Rome"), serde=Faulty(encode=encode))

    error = await Harness(work).error()
    assert "Step 'book' was called on a context while a serde is running on it" in str(error)


# --- In the middle of things ---------------------------------------------------------------------------------


class Halting(SlowRot13):
    """One that the test lets go on."""

    def __init__(self) -> None:
        super().__init__()
        self.at: str = ""
        self.reached: Callable[[], Awaitable[None]] | None = None

    async def _halt(self, at: str) -> None:
        if self.reached is not None and at == self.at:
            await self.reached()

    async def encode(self, value: Any) -> str:  # type: ignore[override]
        await self._halt("encode")
        return await super().encode(value)

    async def decode(self, text: str, annotation: Any) -> Any:
        await self._halt("decode")
        return await super().decode(text, annotation)


@pytest.mark.parametrize("at", ["encode", "decode"])
async def test_the_users_cancellation_waits_for_a_serde(at):
    """What has happened is recorded, and registered to be undone: as it is without a serde."""
    halting = Halting()
    scope = anyio.CancelScope()

    async def cancelled() -> None:
        scope.cancel()
        await anyio.lowlevel.checkpoint()

    halting.at, halting.reached = at, cancelled

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        nonlocal scope
        with anyio.CancelScope() as scope:
            async with saga(ctx) as s:
                await s.step(book, Trip("Rome"), compensate=cancel, serde=halting)
                await anyio.lowlevel.checkpoint()
                LOG.append("went on")
        return "left"

    harness = Harness(work)
    assert await harness.result() == "left"
    assert harness.operation("book").status is OperationStatus.SUCCEEDED
    assert ["book Rome", f"cancel {Trip('Rome', 2)}"] == LOG


@pytest.mark.parametrize("at", ["encode", "decode"])
async def test_a_crash_in_a_serde_is_a_crash_in_its_step(at):
    """The process is gone before the record: the step runs again."""
    halting = Halting()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        return (await ctx.step(book, Trip("Rome"), serde=halting)).city

    harness = Harness(work)
    halting.at, halting.reached = at, harness.crash_now
    with pytest.raises(CrashError):
        await harness.invoke()
    halting.reached = None
    assert await harness.result() == "Rome"
    assert LOG == ["book Rome", "book Rome"]


async def test_a_branch_that_was_stopped_gets_what_it_has_recorded():
    """The loser of a race is rolled back, and when that begins again its step's result is decoded first."""
    slow = SlowRot13()

    async def undo(trip: Trip) -> None:
        LOG.append(f"undo {trip.city}")
        if LOG.count("undo Rome") == 1:
            await harness.crash_now()

    async def loser(ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            await s.step(book, Trip("Rome"), compensate=undo, serde=slow)
            await ctx.wait(3600)
        return "lost"

    async def winner(ctx: DurableContext) -> str:
        await ctx.wait(5)
        return "won"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        return (await ctx.race(loser, winner)).result

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.outcome()
    await harness.clock.sleep_until(harness.clock.now() + 60_000)
    assert await harness.result() == "won"
    assert LOG == ["book Rome", "undo Rome", "undo Rome"]


# --- Files ---------------------------------------------------------------------------------------------------


async def large(size: int) -> str:
    LOG.append(f"made {size}")
    return "x" * size


async def test_a_large_value_is_a_file_and_its_record_a_reference(tmp_path):
    """Over the limit of a record; a small one stays in it. What comes out is the same either way."""
    directory = tmp_path / "some" / "where"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        serde = FileSerde(directory, threshold=100)
        results = [await ctx.step(large, size, serde=serde, name=str(size)) for size in (98, 99, 5_000_000)]
        await ctx.wait(5)
        return [len(result) for result in results]

    harness = Harness(work)
    assert await harness.result() == [98, 99, 5_000_000]
    assert LOG == ["made 98", "made 99", "made 5000000"]
    assert harness.operation("98").result == f'"{"x" * 98}"'
    references = [msgspec.json.decode(harness.operation(name).result or "") for name in ("99", "5000000")]
    assert [reference["size"] for reference in references] == [101, 5_000_002]
    assert {path.name for path in directory.iterdir()} == {reference["durable.file"] for reference in references}


async def test_as_a_functions_serde_it_takes_large_inputs_and_results_over_a_restart(tmp_path):
    """Through the embedded engine, from one process to the next, as far as a test has two."""
    serde = FileSerde(tmp_path / "files", threshold=1_000)

    @durable_execution(serde=serde)
    async def work(text: str, ctx: DurableContext) -> list[str]:
        first = await ctx.step(large, 2_000_000)
        await ctx.wait(1)
        pieces = (await ctx.map(piece, [text[:1], text[-1:]])).results()
        return [text, first, *pieces]

    async def piece(ctx: DurableContext, letter: str) -> str:
        return letter * 1_500_000

    text = "a" * 7_000_000 + "b"
    async with open_engine(tmp_path / "store") as engine:
        run = await engine.start(work, text, name="one")
        result = await run.result()
    assert [len(part) for part in result] == [7_000_001, 2_000_000, 1_500_000, 1_500_000]
    assert (tmp_path / "store").stat().st_size < 1_500_000
    async with open_engine(tmp_path / "store") as engine:
        assert await (await engine.start(work, text, name="one")).result() == result
    assert LOG == ["made 2000000"]


async def test_it_can_be_put_around_another_one(tmp_path):
    """What is in the files is what that one makes of it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        trip = await ctx.step(book, Trip(SECRET), serde=FileSerde(tmp_path, threshold=0, inner=SlowRot13()))
        await ctx.wait(5)
        return trip.city

    harness = Harness(work)
    assert await harness.result() == SECRET
    (file,) = tmp_path.iterdir()
    assert "nggnpx ng qnja" in file.read_text()


async def test_a_text_that_looks_like_a_reference_is_not_taken_for_one(tmp_path):
    """It goes to a file itself, whatever its size."""
    serde = FileSerde(tmp_path)
    value = {"durable.file": "0" * 64, "size": 3}
    text = await serde.encode(value)
    assert text != msgspec.json.encode(value).decode()
    assert await serde.decode(text, dict[str, Any]) == value
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "value", [None, "", 0, [], "ü" * 32_767, "ü" * 32_768, {"a": "\u2028"}, "x" * 65_534, "x" * 65_535]
)
async def test_every_value_comes_back(tmp_path, value):
    """On either side of the threshold, which counts bytes."""
    serde = FileSerde(tmp_path)
    text = await serde.encode(value)
    assert await serde.decode(text, Any) == value
    assert len(list(tmp_path.iterdir())) == (len(msgspec.json.encode(value)) > 65_536)


async def test_a_file_is_on_the_disk_before_it_is_referred_to(tmp_path, monkeypatch):
    """First what is in it, then its name, then the directory; the record comes after all of that."""
    order: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        order.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name[:4]}")
        sync(descriptor)

    def replaced(path: Path, target: Path) -> Path:
        order.append(f"{path.name[:1]} -> {target.name[:4]}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replaced)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(large, 10, serde=FileSerde(tmp_path / "new" / "dir", threshold=1))

    harness = Harness(work)
    harness.client.before = lambda _: order.extend(harness.calls[-1])
    await harness.result()
    order.remove("STEP START large")  # with the end of its step, or before it, as it happens
    (name,) = (tmp_path / "new" / "dir").iterdir()
    short = name.name[:4]
    parent = tmp_path.name[:4]
    assert order == [
        f"sync {parent}",
        "sync new",
        f"sync .{short[:3]}",
        f". -> {short}",
        "sync dir",
        "STEP SUCCEED large",
    ]


@pytest.mark.parametrize("fails", ["fsync", "replace"])
async def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch, fails):
    """Neither half a file under its name, nor one that nobody knows; the step fails and says why."""
    serde = FileSerde(tmp_path, threshold=1)

    def no_space(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if fails == "fsync" else (Path, "replace")), no_space)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(large, 10, serde=serde)

    error = await Harness(work).error()
    assert isinstance(error, SerializationError)
    assert "the result of step 'large' cannot be encoded by FileSerde" in str(error)
    assert "No space left on device" in str(error)
    assert list(tmp_path.iterdir()) == []


async def test_a_crash_between_file_and_record_leaves_a_file_and_no_harm(tmp_path):
    """The step runs again; the same value is the same file."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return len(await ctx.step(large, 10, serde=FileSerde(tmp_path, threshold=1)))

    harness = Harness(work)

    def crash(call: int) -> None:
        if call == 1:
            harness._scope.cancel()

    harness.client.before = crash
    with pytest.raises(CrashError):
        await harness.invoke()
    if not harness.operations():
        assert len(list(tmp_path.iterdir())) == 1
    assert await harness.result() == 10
    assert len(list(tmp_path.iterdir())) == 1


async def broken_file(tmp_path, harm) -> str:
    """What the step says on replay when something has happened to its file."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        said = "fine"
        try:
            await ctx.step(large, 10, serde=FileSerde(tmp_path, threshold=1))
        except SerializationError as error:
            said = str(error)
        await ctx.wait(5)
        return said

    harness = Harness(work)
    await harness.invoke()
    (file,) = tmp_path.iterdir()
    harm(file)
    return str(await harness.result())


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda file: file.unlink(), "is missing, which held the value (12 bytes)"),
        (lambda file: file.write_text('"yyyyyyyyyy"'), "was altered: it has 12 bytes with another hash"),
        (lambda file: file.write_text('"xx'), "was altered: it has 3 bytes"),
        (lambda file: file.write_text(""), "was altered: it has 0 bytes"),
        (lambda file: file.write_bytes(b"\xff" * 12), "was altered"),
    ],
    ids=["missing", "altered", "cut off", "empty", "not text"],
)
async def test_a_file_that_is_not_what_it_was_is_told(tmp_path, harm, told):
    """With its path; a wrong value never comes out."""
    error = await broken_file(tmp_path, harm)
    assert error.startswith(
        f"the recorded result of step 'large' cannot be decoded by FileSerde({str(tmp_path)!r})"
    )
    assert told in error
    assert str(tmp_path / "") in error


async def test_a_file_that_cannot_be_read_now_ends_the_invocation(tmp_path):
    """A directory that is not mounted, for example: the execution waits for it and does not roll back."""
    serde = FileSerde(tmp_path, threshold=1)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        await ctx.step(large, 10, serde=serde)
        await ctx.wait(5)
        return "fine"

    harness = Harness(work)
    await harness.invoke()
    (file,) = tmp_path.iterdir()
    text = file.read_text()
    file.unlink()
    file.mkdir()
    with pytest.raises(IsADirectoryError):
        await harness.invoke()
    file.rmdir()
    file.write_text(text)
    assert await harness.result() == "fine"


@pytest.mark.parametrize(
    "reference",
    [
        '{"durable.file":"../../etc/passwd","size":3}',
        '{"durable.file":"' + "0" * 63 + '/","size":3}',
        '{"durable.file":"' + "G" * 64 + '","size":3}',
        '{"durable.file":"","size":3}',
        '{"durable.file":"' + "0" * 64 + '"',
        '{"durable.file":"' + "0" * 64 + '"}',
        '{"durable.file":"' + "0" * 64 + '","size":"3"}',
        '{"durable.file":"' + "0" * 5_000 + '","size":3}',
    ],
)
async def test_a_reference_that_is_damaged_leads_nowhere(tmp_path, reference):
    """No path is made of anything but a hash."""
    with pytest.raises(SerializationError, match="the reference to a file is damaged") as raised:
        await FileSerde(tmp_path / "x").decode(reference, Any)
    assert len(str(raised.value)) < 500


async def test_what_cannot_be_is_refused_where_it_is_made():
    """A negative threshold, for example."""
    with pytest.raises(ValueError, match="the threshold of a FileSerde is 0 or more, not -1"):
        FileSerde("x", threshold=-1)


async def test_many_at_once_write_the_same_file(tmp_path):
    """Each writes a file of its own and puts it in place whole."""
    serde = FileSerde(tmp_path, threshold=1)
    texts: list[str] = []

    async def write() -> None:
        texts.append(await serde.encode("x" * 100_000))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(write)
    assert len(set(texts)) == 1
    assert len(list(tmp_path.iterdir())) == 1
    assert await serde.decode(texts[0], str) == "x" * 100_000


async def test_a_failure_on_the_engine_names_the_serde(tmp_path):
    """Who waits for the execution is told as well."""

    @durable_execution(serde=Faulty(encode=explode))
    async def work(event: None, ctx: DurableContext) -> int:
        return 1

    async with open_engine() as engine:
        with pytest.raises(SerializationError, match="the input of work cannot be encoded by Faulty"):
            await engine.start(work, None)

    @durable_execution(serde=Faulty(encode=lambda value: explode(value) if value == 1 else "null"))
    async def fails_late(event: None, ctx: DurableContext) -> int:
        return 1

    async with open_engine() as engine:
        run = await engine.start(fails_late, None)
        with pytest.raises(ExecutionFailedError, match="the result of fails_late cannot be encoded by Faulty"):
            await run.result()


async def test_pending_is_answered_while_a_serde_has_nothing_to_do():
    """Serdes change nothing about how an invocation ends."""

    @durable_execution(serde=SlowRot13())
    async def work(event: None, ctx: DurableContext) -> int:
        await ctx.wait(5)
        return 1

    harness = Harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert await harness.result() == 1

"""The styles in which durable functions and steps are written: each gives the same execution."""

from __future__ import annotations

import inspect
import itertools
import logging
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from durable import (
    DurableContext,
    DurableFunction,
    DurableHandler,
    DurableStep,
    ExecutionFailedError,
    FrameMisuseError,
    NotDurableError,
    Retry,
    SagaRolledBackError,
    SerializationError,
    StepOutcome,
    UnawaitedOperationError,
    current_context,
    current_step,
    durable_execution,
    saga,
    step,
)
from durable._kernel.signatures import signature_of
from durable._wire import InvocationStatus
from durable.exceptions import TargetNotFoundError
from durable.local import open_engine
from durable.local.targets import load_target, target_of
from tests.harness import Harness

pytestmark = pytest.mark.anyio

LOG: list[Any] = []


@pytest.fixture(autouse=True)
def _no_log() -> None:
    LOG.clear()


class Trip(msgspec.Struct):
    city: str


async def book(trip: Trip) -> Trip:
    LOG.append(f"book {trip.city}")
    return Trip(f"{trip.city}!")


# --- Durable functions ---------------------------------------------------------------------------------------


async def plain(trip: Trip, ctx: DurableContext) -> Trip:
    """Book a trip."""
    assert isinstance(trip, Trip)
    await ctx.wait(5)
    return await ctx.step(book, trip)


class BookTrip(DurableHandler):
    """Books trips."""

    async def handle(self, event: Trip, ctx: DurableContext) -> Trip:
        return await plain(event, ctx)


class Prefixed(DurableHandler):
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    async def handle(self, event: Trip, ctx: DurableContext) -> Trip:
        trip = await plain(event, ctx)
        return Trip(f"{self.prefix}{trip.city}")


class Inherited(BookTrip):
    """Its `handle`, and the types of that, are another class's."""


class LooksLikeOne:
    async def handle(self, event: Trip, ctx: DurableContext) -> Trip:
        return await plain(event, ctx)


STYLES: list[tuple[str, DurableFunction[Any, Any], str]] = [
    ("a call", durable_execution(plain), "plain"),
    ("a decorator with options", durable_execution(name="booking")(plain), "booking"),
    ("a decorator with empty parentheses", durable_execution()(plain), "plain"),
    ("an instance", durable_execution(BookTrip()), "BookTrip"),
    ("an instance with options", durable_execution(name="booking")(BookTrip()), "booking"),
    ("a class", durable_execution(BookTrip), "BookTrip"),
    ("a class that inherits", durable_execution(Inherited()), "Inherited"),
    ("an object with a handle", durable_execution(LooksLikeOne()), "LooksLikeOne"),
]


@pytest.mark.parametrize(("function", "name"), [style[1:] for style in STYLES], ids=[style[0] for style in STYLES])
async def test_every_style_gives_the_same_execution(function, name):
    """The same history, the same types in and out, and a name."""
    assert isinstance(function, DurableFunction)
    assert function.name == name
    harness = Harness(function, Trip("Rome"))
    assert await harness.result() == Trip("Rome!")
    assert [(one.name, one.sub_type) for one in harness.operations()] == [(None, "Wait"), ("book", "Step")]
    with pytest.raises(SerializationError, match=f"the input of {name} does not fit its annotation Trip"):
        function.encode_input({"town": "Rome"})


async def test_an_instance_keeps_what_it_was_made_with():
    """A client, a configuration: what is not recorded."""
    assert await Harness(durable_execution(Prefixed(">")), Trip("Rome")).result() == Trip(">Rome!")


def test_a_durable_function_still_says_what_it_is():
    """Its documentation, and the function itself."""
    function = durable_execution(plain)
    assert (function.__doc__, function.function) == ("Book a trip.", plain)
    handler = BookTrip()
    assert durable_execution(handler).function == handler.handle


class NoHandle(DurableHandler):
    pass


class NotAsync(DurableHandler):
    def handle(self, event: Any, ctx: DurableContext) -> Any:
        return event


class TooFew(DurableHandler):
    async def handle(self, event: Any) -> Any:  # type: ignore[override]
        return event


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Prefixed, r"Prefixed is not a durable function: an instance of it cannot be made without arguments"),
        (NoHandle, r"NoHandle .*cannot be made without arguments \(.*abstract"),
        (NotAsync(), r"is not a durable function: it is not a coroutine function .* and has none as `handle`"),
        (
            TooFew(),
            r"TooFew.handle is not a durable function: it takes 1 positional parameters, not \(event, ctx\)",
        ),
        (Trip, r"it is not a coroutine function"),
        (3, r"3 is not a durable function"),
        ("x", r"is not a durable function"),
    ],
)
def test_what_cannot_be_durable_is_refused_where_it_is_made_so(given, told):
    """With what it is, and what is wrong with it."""
    with pytest.raises(NotDurableError, match=told):
        durable_execution(given)
    with pytest.raises(NotDurableError, match=told):
        durable_execution(name="x")(given)


# --- Where they are found again ------------------------------------------------------------------------------

LIBRARY = """
from durable import DurableContext, DurableHandler

async def fetched(event: int, ctx: DurableContext) -> int:
    return event + 1

class Base(DurableHandler):
    def __init__(self, add: int = 10) -> None:
        self.add = add

    async def handle(self, event: int, ctx: DurableContext) -> int:
        await ctx.wait(1)
        return event + self.add
"""

APPLICATION = """
from durable import DurableContext, durable_execution
from library_of_styles import Base, fetched

called = durable_execution(fetched)
instance = durable_execution(Base(100))

@durable_execution
class Decorated(Base):
    pass

@durable_execution(name="an inner name")
async def decorated(event: int, ctx: DurableContext) -> int:
    return event

def make(function):
    return durable_execution(function)

made_by_a_helper = make(fetched)

class Undecorated(Base):
    pass
"""


numbers = itertools.count()


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module, and one that it uses: of names that no other test has loaded."""
    number = next(numbers)
    (tmp_path / f"library_of_styles_{number}.py").write_text(LIBRARY)
    path = tmp_path / f"application_of_styles_{number}.py"
    path.write_text(APPLICATION.replace("library_of_styles", f"library_of_styles_{number}"))
    monkeypatch.syspath_prepend(str(tmp_path))
    return path


@pytest.mark.parametrize("name", ["called", "instance", "Decorated", "decorated", "made_by_a_helper"])
def test_a_target_names_what_finds_it_again(application, name):
    """By module, or by file; wherever the function, or the class, was written."""
    for where in (application.stem, str(application)):
        function = load_target(f"{where}:{name}")
        assert isinstance(function, DurableFunction)
        assert load_target(target_of(function)) is function


def test_a_class_that_was_not_decorated_is_not_durable(application):
    """It says so; no instance is made behind anybody's back."""
    with pytest.raises(NotDurableError, match="it is an ABCMeta"):
        load_target(f"{application.stem}:Undecorated")
    with pytest.raises(TargetNotFoundError, match="its durable functions are: called, instance, Decorated"):
        load_target(f"{application.stem}:nothing")


@pytest.mark.parametrize(("name", "result"), [("called", 2), ("instance", 101), ("Decorated", 11)])
async def test_an_engine_finds_it_after_a_restart(application, tmp_path, name, result):
    """The store remembers the target; another engine goes on with the execution."""
    function = load_target(f"{application.stem}:{name}")
    async with open_engine(tmp_path / "store") as engine:
        await engine.start(function, 1, name="one")
    async with open_engine(tmp_path / "store") as engine:
        (run, *_) = await engine.resume("one")
        assert await run.result() == result


# --- Options -------------------------------------------------------------------------------------------------


class BookingError(Exception):
    pass


def failing(on_error: Any, error: Exception) -> DurableFunction[Any, Any]:
    @durable_execution(on_error=on_error)
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.wait(5)
        raise error

    return work


async def test_on_error_says_what_an_execution_fails_with():
    """It is called once, at the end, with what the function raised; that is the cause."""

    def on_error(error: Exception) -> Exception:
        LOG.append(error)
        return BookingError(f"no trip: {error}")

    harness = Harness(failing(on_error, KeyError("Rome")))
    error = await harness.error()
    assert isinstance(error, BookingError)
    assert str(error) == "no trip: 'Rome'"
    assert [type(seen) for seen in LOG] == [KeyError]
    async with open_engine() as engine:
        run = await engine.start(failing(on_error, KeyError("Rome")), None)
        with pytest.raises(ExecutionFailedError) as raised:
            await run.result()
    assert isinstance(raised.value.__cause__, BookingError)


@pytest.mark.parametrize("gives", ["None", "the same"])
async def test_on_error_may_leave_it_as_it_is(gives):
    """It may only want to be told."""
    harness = Harness(failing(lambda error: None if gives == "None" else error, KeyError("Rome")))
    assert isinstance(await harness.error(), KeyError)


async def wrong_kind(error: Exception) -> Exception:
    return error


@pytest.mark.parametrize(
    ("on_error", "told"),
    [
        (lambda _: "text", "it gave str, not an Exception or None"),
        (lambda _: KeyboardInterrupt(), "it gave KeyboardInterrupt, not an Exception or None"),
        (wrong_kind, "it gave coroutine, not an Exception or None"),
        (lambda _: 1 / 0, "division by zero"),
    ],
    ids=["a text", "not an Exception", "a coroutine function", "raises"],
)
async def test_an_on_error_that_is_broken_does_not_hide_the_error(on_error, told):
    """The execution fails with what is wrong with it, and a note on what it was called for."""
    error = await Harness(failing(on_error, KeyError("Rome"))).error()
    assert str(error) == told
    assert error.__notes__ == ["raised by on_error of work for KeyError('Rome')"]


async def test_on_error_does_not_see_a_suspension():
    """Nor what users' code makes of one; it is not the execution's end."""

    @durable_execution(on_error=LOG.append)
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.wait(5)
        except BaseException:
            raise ValueError("made of a cancellation") from None
        return "done"

    harness = Harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert await harness.result() == "done"
    assert LOG == []


@pytest.mark.parametrize("what", ["input", "result"])
async def test_on_error_sees_what_does_not_fit(what):
    """An input that is not what the function takes, a result that is not what it says."""

    @durable_execution(on_error=lambda error: BookingError(str(error)))
    async def work(event: int, ctx: DurableContext) -> int:
        return "x"  # type: ignore[return-value]

    harness = Harness(work, 1)
    if what == "input":
        harness.record = msgspec.structs.replace(harness.record, input='"x"')
    error = await harness.error()
    assert isinstance(error, BookingError)
    assert str(error).startswith(f"the {what} of work does not fit its annotation int")


async def test_a_function_may_have_a_logger_of_its_own(caplog):
    """What it says goes there, and once."""
    caplog.set_level(logging.INFO)

    @durable_execution(logger=logging.getLogger("booking"))
    async def work(event: None, ctx: DurableContext) -> None:
        ctx.logger.info("begin")
        await ctx.wait(5)
        ctx.log("end")

    await Harness(work).result()
    assert [(record.name, record.getMessage()) for record in caplog.records if record.name != "durable.local"] == [
        ("booking", "begin"),
        ("booking", "end"),
    ]


# --- Steps ---------------------------------------------------------------------------------------------------


@step
async def reserve(city: str, nights: int = 1) -> Trip:
    """Reserve a room."""
    LOG.append(f"reserve {city} {nights}")
    return Trip(city)


@step(name="pay", retry=Retry(attempts=3, jitter="none"))
def charge(amount: float) -> str:
    LOG.append((threading.current_thread() is threading.main_thread(), current_step().attempt))
    if current_step().attempt < 2:
        raise ConnectionError
    return f"paid {amount}"


async def cancel_room(trip: Trip) -> None:
    LOG.append(f"cancel {trip.city}")


@step(compensate=cancel_room)
async def reserve_room(city: str) -> Trip:
    LOG.append(f"room {city}")
    return Trip(city)


async def test_a_declared_step_runs_as_a_step_where_it_is_called():
    """Named after the function, with its own arguments; recorded, and not run again."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Trip]:
        trips = [await reserve("Rome"), await reserve("Bonn", nights=2)]
        await ctx.wait(5)
        return trips

    harness = Harness(work)
    assert await harness.result() == [Trip("Rome"), Trip("Bonn")]
    assert LOG == ["reserve Rome 1", "reserve Bonn 2"]
    assert [one.name for one in harness.operations()] == ["reserve", "reserve", None]


async def test_its_options_are_those_of_a_step():
    """Also for a plain function, which runs in a thread."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        return await charge(1.5)

    harness = Harness(work)
    assert await harness.result() == "paid 1.5"
    assert LOG == [(False, 1), (False, 2)]
    assert harness.operation("pay").sub_type == "Step"


async def test_it_registers_with_the_saga_around_it():
    """Helpers and children need not hand anything on."""

    async def helper(ctx: DurableContext) -> None:
        await reserve_room("Bonn")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            await reserve_room("Rome")
            await ctx.child(helper)
            await reserve("Oslo")
            raise KeyError("no")

    harness = Harness(work)
    assert isinstance(await harness.error(), KeyError)
    assert LOG == ["room Rome", "room Bonn", "reserve Oslo 1", "cancel Bonn", "cancel Rome"]


async def test_without_a_saga_there_is_nothing_to_undo_it():
    """It is a step, and what follows is nobody's business."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            pass
        await reserve_room("Rome")
        raise KeyError("no")

    assert isinstance(await Harness(work).error(), KeyError)
    assert LOG == ["room Rome"]


async def test_a_compensation_may_be_a_declared_step_itself():
    """Then it is recorded inside of the compensation, with its own options."""

    @step(retry=Retry(attempts=2, jitter="none"))
    async def cancel(trip: Trip) -> None:
        LOG.append(f"cancel {trip.city} {current_step().attempt}")
        if current_step().attempt == 1:
            raise ConnectionError

    @step(compensate=cancel)
    async def reserve_it(city: str) -> Trip:
        return Trip(city)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            await reserve_it("Rome")
            raise KeyError("no")

    harness = Harness(work)
    assert isinstance(await harness.error(), KeyError)
    assert LOG == ["cancel Rome 1", "cancel Rome 2"]
    assert harness.operation("cancel").sub_type == "Step"


async def test_its_compensation_may_be_registered_at_the_start():
    """For effects that may have happened although the step failed."""

    async def cancel(outcome: StepOutcome[Trip]) -> None:
        LOG.append(outcome.status)

    @step(compensate=cancel, compensate_on="start")
    async def reserve_it(city: str) -> Trip:
        raise ConnectionError

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            await reserve_it("Rome")

    assert isinstance(await Harness(work).error(), ConnectionError)
    assert LOG == ["failed"]


async def test_in_a_saga_that_was_rolled_back_it_is_refused():
    """As the saga's own steps are; one without a compensation is not the saga's."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            await s.rollback("changed my mind")
            with pytest.raises(SagaRolledBackError):
                await reserve_room("Rome")
            await reserve("Bonn")
        return "done"

    assert await Harness(work).result() == "done"
    assert LOG == ["reserve Bonn 1"]


async def test_as_a_method_it_is_bound():
    """A class of steps that share a client."""

    class Hotel:
        def __init__(self, name: str) -> None:
            self.name = name

        @step
        async def book(self, nights: int) -> str:
            return f"{self.name} {nights}"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        hotel = Hotel("Ritz")
        return [await hotel.book(1), await hotel.book(nights=2), await Hotel.book(Hotel("Savoy"), 3)]

    harness = Harness(work)
    assert await harness.result() == ["Ritz 1", "Ritz 2", "Savoy 3"]
    assert [one.name for one in harness.operations()] == ["book"] * 3
    assert isinstance(Hotel.book, DurableStep)


def test_outside_of_any_durable_function_it_says_what_to_do():
    """Nothing would record it."""
    with pytest.raises(LookupError, match=r"test_styles\.reserve is a step, and was called outside of any durable"):
        reserve("Rome").close()
    with pytest.raises(LookupError, match=r"the plain function, which records nothing, is reserve\.function"):
        reserve("Rome").close()


async def test_the_plain_function_is_there_for_tests():
    """It runs as it was written."""
    assert await reserve.function("Rome", nights=3) == Trip("Rome")
    assert LOG == ["reserve Rome 3"]


async def test_inside_a_step_it_is_refused():
    """Nothing durable runs there."""

    async def outer() -> None:
        await reserve("Rome")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(outer)

    error = await Harness(work).error()
    assert isinstance(error, FrameMisuseError)
    assert "Step 'reserve' was called on a context while step 'outer' is running on it" in str(error)


async def test_given_to_a_step_it_is_refused_too():
    """It is one already."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(reserve, "Rome", name="outer")

    error = await Harness(work).error()
    assert isinstance(error, FrameMisuseError)
    assert LOG == []


async def test_not_awaited_it_is_told_with_the_users_line():
    """As any step."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        reserve("Rome")  # type: ignore[unused-coroutine]

    error = await Harness(work).error()
    assert isinstance(error, UnawaitedOperationError)
    assert error.operation == "Step 'reserve'"
    assert error.where.startswith(f"{__file__}:")
    assert error.where.endswith(" in work")


async def test_the_current_context_is_that_of_the_branch():
    """A step that is called in a branch is the branch's."""

    async def branch(ctx: DurableContext) -> str | None:
        await reserve("Rome")
        return current_context()._frame.context_id

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str | None]:
        return (await ctx.parallel([branch, branch])).results()

    harness = Harness(work)
    contexts = await harness.result()
    parents = [one.parent_id for one in harness.operations() if one.name == "reserve"]
    assert sorted(parents, key=str) == sorted(contexts, key=str)


def test_a_declared_step_still_says_what_it_is():
    """For people, and for tools that read signatures."""
    assert reserve.__doc__ == "Reserve a room."
    assert str(inspect.signature(reserve)) == "(city: 'str', nights: 'int' = 1) -> 'Trip'"
    assert repr(reserve).endswith("test_styles.reserve>")


def test_where_a_function_is_taken_a_declared_step_is_one():
    """With the name, the result and the nature of the function: a compensation needs no thread to call it."""
    signature = signature_of(reserve)
    assert (signature.name, signature.is_async, signature.annotation) == ("reserve", True, Trip)
    assert signature_of(charge).is_async is False


@pytest.mark.parametrize("thing", [3, "x", None])
def test_what_is_not_a_function_is_refused_where_it_is_declared(thing):
    """Both the step and its compensation."""
    with pytest.raises(TypeError, match="expected a function"):
        step(name="x")(thing)
    if thing is not None:
        with pytest.raises(TypeError, match="expected a function"):
            step(compensate=thing)

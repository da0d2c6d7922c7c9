"""Typed values through steps, children, branches and executions: what replay gives is what the first run gave."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar
from uuid import UUID

import anyio
import attrs
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durable import DurableContext, SerializationError, durable_execution, saga
from durable._wire import InvocationStatus, OperationStatus
from tests.harness import Harness

T = TypeVar("T")

LOG: list[Any] = []


@pytest.fixture(autouse=True)
def _no_log() -> None:
    LOG.clear()


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 9


class Kind(enum.StrEnum):
    ROOM = "room"


class Money(msgspec.Struct, frozen=True):
    amount: Decimal
    currency: Literal["EUR", "USD"] = "EUR"


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str


class Tree(msgspec.Struct):
    value: int
    children: list[Tree] = []


class Page(msgspec.Struct, Generic[T]):
    items: list[T]
    total: int = 0


@dataclass
class Seat:
    row: int
    letter: str = "a"
    taken: set[date] = field(default_factory=set)


@attrs.define
class Room:
    number: int
    price: Money


class Point(NamedTuple):
    x: int
    y: Decimal


class Address(TypedDict):
    city: str
    since: NotRequired[date]


class Guest(pydantic.BaseModel):
    name: str
    born: date
    budget: Decimal
    seats: list[int] = []


class Booking(msgspec.Struct):
    """A Struct with a bit of everything in it."""

    guest: Guest
    room: Room
    seat: Seat
    at: Point
    address: Address
    pet: Cat | Dog | None = None
    kinds: frozenset[Kind] = frozenset()
    prices: dict[date, Money] = {}


RoomNumber = NewType("RoomNumber", int)

GUEST = Guest(name="Ada", born=date(1815, 12, 10), budget=Decimal("9.90"))
MONEY = Money(Decimal("1.10"), "USD")
BOOKING = Booking(
    GUEST,
    Room(4, MONEY),
    Seat(3, taken={date(2026, 1, 2)}),
    Point(1, Decimal("0.10")),
    {"city": "Rome", "since": date(2026, 1, 2)},
    Dog("Rex"),
    frozenset({Kind.ROOM}),
    {date(2026, 1, 2): MONEY},
)

VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (bool, True),
    (int, 2**70),
    (float, 0.1),
    (str, "tälle \u2028 \x00 \U0001f600"),
    (bytes, b"\x00\xff"),
    (bytearray, bytearray(b"\x00\xff")),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5, minutes=30)))),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 1)),  # noqa: DTZ001 - a naive one stays naive
    (date, date(1, 1, 1)),
    (time, time(23, 59, 59, 999999)),
    (timedelta, timedelta(days=-3, microseconds=5)),
    (Decimal, Decimal("1.10")),
    (Decimal, Decimal("1E+400")),
    (UUID, UUID(int=5)),
    (Color, Color.BLUE),
    (Level, Level.HIGH),
    (Kind, Kind.ROOM),
    (Literal["a", 3], 3),
    (set[int], {1, 2}),
    (frozenset[Kind], frozenset({Kind.ROOM})),
    (tuple[int, str, date], (1, "a", date(2026, 1, 2))),
    (tuple[Level, ...], (Level.LOW, Level.HIGH)),
    (tuple[()], ()),
    (list[tuple[int, ...]], [(1,), (), (2, 3)]),
    (dict[int, str], {1: "a", -2: "b"}),
    (dict[UUID, set[date]], {UUID(int=5): {date(2026, 1, 2)}}),
    (dict[Level, Money], {Level.LOW: MONEY}),
    (Money, MONEY),
    (Money | None, None),
    (Money | None, MONEY),
    (Cat | Dog, Dog("Rex")),
    (list[Cat | Dog | None], [Cat(9), None, Dog("Rex")]),
    (int | str | None, "x"),
    (Tree, Tree(1, [Tree(2), Tree(3, [Tree(4)])])),
    (Page[Money], Page([MONEY], 1)),
    (Page[Page[Level]], Page([Page([Level.LOW])])),
    (Seat, Seat(3, "c", {date(2026, 1, 2)})),
    (Room, Room(4, MONEY)),
    (Point, Point(1, Decimal("0.10"))),
    (Address, {"city": "Rome"}),
    (Address, {"city": "Rome", "since": date(2026, 1, 2)}),
    (Guest, GUEST),
    (dict[str, list[Guest | None]], {"a": [GUEST, None]}),
    (RoomNumber, 7),
    (Annotated[int, msgspec.Meta(ge=0)], 7),
    (Booking, BOOKING),
    (Any, {"a": [1, 2.5, None, True]}),
]
IDS = [f"{number} {annotation}" for number, (annotation, _) in enumerate(VALUES)]


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same type, all the way down as far as `repr` shows it."""
    unordered = isinstance(one, (set, frozenset))
    return bool(one == other) and type(one) is type(other) and (unordered or repr(one) == repr(other))


def gives(annotation: Any, value: Any) -> Callable[[], Any]:
    """A function that returns a value, and says of what type it is."""

    async def give() -> Any:
        LOG.append("gave")
        return value

    give.__annotations__["return"] = annotation
    return give


@pytest.mark.anyio
@pytest.mark.parametrize(("annotation", "value"), VALUES, ids=IDS)
async def test_a_value_comes_out_of_replay_as_it_went_in(annotation, value):
    """Out of a step, a child, a branch, and the execution itself; once run, and then read from its record."""
    give = gives(annotation, value)
    seen: list[Any] = []

    async def child(ctx: DurableContext) -> Any:
        return await ctx.step(give)

    async def branch(ctx: DurableContext, _: int) -> Any:
        return await ctx.step(give)

    for function in (child, branch):
        function.__annotations__["return"] = annotation

    async def work(event: Any, ctx: DurableContext) -> Any:
        seen.append(event)
        seen.append(await ctx.step(give))
        seen.append(await ctx.child(child))
        seen.extend((await ctx.map(branch, [0])).results())
        seen.extend((await ctx.map(branch, [0], nesting="flat", name="flat")).results())
        await ctx.wait(5)
        return seen[-1]

    work.__annotations__.update({"event": annotation, "return": annotation})
    harness = Harness(durable_execution(work), value)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert len(seen) == 5
    seen.append(await harness.result())
    assert len(seen) >= 11
    assert [one for one in seen if not same(one, value)] == []
    assert LOG == ["gave"] * 4


@pytest.mark.anyio
@pytest.mark.parametrize(("annotation", "value"), VALUES, ids=IDS)
async def test_a_compensation_gets_the_value_as_it_was(annotation, value):
    """Decoded, whether the step ran in this invocation or in one before."""
    undone: list[Any] = []

    async def undo(given: Any) -> None:
        undone.append(given)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(gives(annotation, value), compensate=undo)
            await ctx.wait(5)
            await s.step(gives(annotation, value), compensate=undo)
            raise KeyError("no")

    assert isinstance(await Harness(work).error(), KeyError)
    assert len(undone) == 2
    assert all(same(one, value) for one in undone)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("annotation", "value", "told"),
    [
        (int, "7", "does not fit its annotation int: Expected `int`, got `str`"),
        (Money, Money(Decimal(1), "GBP"), "Invalid enum value 'GBP'"),  # type: ignore[arg-type]
        (list[Level], [1, 2], r"Invalid enum value 2 - at `\$\[1\]`"),
        (Guest, {"name": "Ada"}, "2 validation errors for Guest"),
        (Any, object(), "cannot be encoded: encoding objects of type object is not supported"),
        (Any, {(1, 2): 3}, "cannot be encoded"),
        (float, float("nan"), "does not fit its annotation float"),
    ],
)
async def test_a_value_that_is_not_what_was_said_is_the_steps_failure(annotation, value, told):
    """After its effect, as only then it is known; recorded, and the same on replay."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        with pytest.raises(SerializationError, match=f"the result of step 'give' .*{told}") as raised:
            await ctx.step(gives(annotation, value))
        await ctx.wait(5)
        return str(raised.value)

    harness = Harness(work)
    await harness.result()
    assert LOG == ["gave"]
    assert harness.operation("give").status is OperationStatus.FAILED


class NotKnown:
    pass


@pytest.mark.anyio
@pytest.mark.parametrize(
    "annotation",
    [
        NotKnown,
        list[NotKnown],
        dict[str, NotKnown | None],
        Page[NotKnown],
        Callable[[], int],
        complex,
        Cat | Seat,
        Money | Seat,
        Mixed,
    ],
)
async def test_a_type_that_can_never_be_decoded_is_refused_before_anything_happens(annotation):
    """It is known by the annotation: nothing runs, nothing is recorded."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(gives(annotation, None))

    harness = Harness(work)
    error = await harness.error()
    assert isinstance(error, SerializationError)
    assert "cannot be decoded" in str(error)
    assert (LOG, harness.calls) == ([], [])


money = st.builds(Money, st.decimals(allow_nan=False, allow_infinity=False), st.sampled_from(["EUR", "USD"]))
bookings = st.builds(
    Booking,
    guest=st.builds(
        Guest, name=st.text(), born=st.dates(), budget=st.decimals(allow_nan=False, allow_infinity=False, places=2)
    ),
    room=st.builds(Room, st.integers(-(2**63), 2**63 - 1), money),
    seat=st.builds(Seat, st.integers(0, 99), st.text(max_size=3), st.sets(st.dates(), max_size=3)),
    at=st.builds(Point, st.integers(-9, 9), st.decimals(allow_nan=False, allow_infinity=False)),
    address=st.fixed_dictionaries({"city": st.text()}, optional={"since": st.dates()}),
    pet=st.none() | st.builds(Cat, st.integers(0, 9)) | st.builds(Dog, st.text()),
    kinds=st.frozensets(st.sampled_from(Kind)),
    prices=st.dictionaries(st.dates(), money, max_size=3),
)


@given(bookings)
@settings(
    max_examples=60, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_booking_comes_out_of_replay_as_it_went_in(booking: Booking):
    """Whatever texts, numbers and dates it has."""

    async def run() -> None:
        seen: list[Booking] = []

        @durable_execution
        async def work(event: Booking, ctx: DurableContext) -> Booking:
            seen.extend([event, await ctx.step(gives(Booking, booking))])
            await ctx.wait(5)
            return event

        seen.append(await Harness(work, booking).result())
        assert len(seen) >= 5
        assert all(one == booking for one in seen)

    anyio.run(run)

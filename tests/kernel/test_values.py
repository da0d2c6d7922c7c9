"""Values by annotation: what is decoded is what replay gives."""

from __future__ import annotations

import enum
import functools
import gc
import weakref
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pytest

from durable import SerializationError
from durable._kernel.signatures import signature_of
from durable._kernel.values import PLAIN, converter_for


class Color(enum.Enum):
    RED = "red"


class Money(msgspec.Struct):
    amount: Decimal
    currency: str = "EUR"


@dataclass
class Seat:
    row: int
    letter: str


class Named(NamedTuple):
    x: int
    y: str


class Typed(TypedDict):
    when: datetime


VALUES = [
    (None, None),
    (int, 7),
    (float, 1.5),
    (str, "tälle \u2028 \x00"),
    (bytes, b"\x00\xff"),
    (bool, True),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
    (date, date(2026, 1, 2)),
    (timedelta, timedelta(days=3, microseconds=5)),
    (Decimal, Decimal("1.10")),
    (UUID, UUID(int=5)),
    (Color, Color.RED),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (dict[int, str], {1: "a"}),
    (dict[Color, list[Seat]], {Color.RED: [Seat(1, "a")]}),
    (Money, Money(Decimal("9.99"))),
    (Seat, Seat(3, "c")),
    (Named, Named(1, "b")),
    (Typed, {"when": datetime(2026, 1, 2, tzinfo=UTC)}),
    (Money | None, None),
    (list[Money], [Money(Decimal(1)), Money(Decimal(2), "USD")]),
]


@pytest.mark.parametrize(("annotation", "value"), VALUES, ids=[str(annotation) for annotation, _ in VALUES])
def test_every_supported_type_comes_back_as_it_was(annotation: Any, value: Any):
    """Encoding and decoding by annotation keeps type and value."""
    converter = converter_for(annotation, "x")
    payload = converter.encode(value, "x")
    again = converter.decode(payload, "x")
    assert again == value
    assert type(again) is type(value)
    assert converter.encode(again, "x") == payload


def test_attrs_classes_come_back_as_they_were():
    """attrs classes are known by their annotations."""
    attrs = pytest.importorskip("attrs")

    @attrs.define
    class Room:
        number: int

    room: Any = Room
    converter = converter_for(room, "x")
    assert converter.decode(converter.encode(room(4), "x"), "x") == room(4)


def test_pydantic_models_come_back_as_they_were():
    """pydantic models are known wherever pydantic is in use."""
    pydantic = pytest.importorskip("pydantic")
    model: Any = pydantic.create_model("Guest", name=(str, ...), when=(datetime, ...))
    guest = model(name="ann", when=datetime(2026, 1, 2, tzinfo=UTC))
    converter = converter_for(list.__class_getitem__(model), "x")
    assert converter.decode(converter.encode([guest], "x"), "x") == [guest]


def test_without_an_annotation_values_are_plain_json():
    """A tuple comes back as a list: on the first run and on every other."""
    assert PLAIN.decode(PLAIN.encode((1, {"a": {2}}), "x"), "x") == [1, {"a": [2]}]


@pytest.mark.parametrize("value", [object(), lambda: 1, 1j, {(1, 2): 3}, "\ud800"])
def test_what_cannot_be_encoded_is_an_error_that_names_the_place(value):
    """The error names what it is the result of, and its type."""
    with pytest.raises(SerializationError, match="the result of step 'x' cannot be encoded"):
        PLAIN.encode(value, "the result of step 'x'")


def test_a_structure_that_contains_itself_is_an_error():
    """Recursion does not get through as a crash."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(SerializationError, match="cannot be encoded"):
        PLAIN.encode(value, "x")


def test_what_does_not_fit_its_annotation_is_an_error_with_the_path():
    """The error names the annotation and the path inside the value."""
    converter = converter_for(list[Money], "x")
    with pytest.raises(SerializationError, match=r"does not fit its annotation list\[.*Money\].*\$\[0\].amount"):
        converter.decode('[{"amount": "many"}]', "x")
    with pytest.raises(SerializationError, match="truncated"):
        converter.decode("[", "x")


def test_a_float_that_is_not_a_number_is_refused_rather_than_lost():
    """JSON has no NaN: it would come back as None."""
    converter = converter_for(float, "x")
    with pytest.raises(SerializationError):
        converter.decode(converter.encode(float("nan"), "x"), "x")


async def annotated(x: int) -> tuple[int, ...]:
    return (x,)


class Service:
    async def call(self) -> set[str]:
        return set()

    def __call__(self) -> Money:
        return Money(Decimal(1))


def hands_on() -> Awaitable[date]:
    raise AssertionError


@pytest.mark.parametrize(
    ("function", "name", "is_async", "annotation"),
    [
        (annotated, "annotated", True, tuple[int, ...]),
        (functools.partial(annotated, 3), "annotated", True, tuple[int, ...]),
        (Service().call, "call", True, set[str]),
        (Service(), "__call__", False, Money),
        (hands_on, "hands_on", False, date),
        (lambda: 1, "<lambda>", False, Any),
        (len, "len", False, Any),
        (str.upper, "upper", False, Any),
        ([].append, "append", False, Any),
        (functools.partial(str.join, ","), "join", False, Any),
        (Money, "Money", False, Money),
    ],
)
def test_a_callable_is_known_by_name_kind_and_return_type(function, name, is_async, annotation):
    """Functions, partials, methods, callable objects, classes and builtins."""
    signature = signature_of(function)
    assert (signature.name, signature.is_async, signature.result.annotation) == (name, is_async, annotation)


def test_what_a_builtin_method_belongs_to_is_not_kept_alive():
    """A list's `append`, for example, is another one for every list."""

    class Basket(list[int]):
        pass

    basket = Basket()
    assert signature_of(basket.append).name == "append"
    gone = weakref.ref(basket)
    del basket
    gc.collect()
    assert gone() is None


def test_annotations_may_name_what_a_closure_holds():
    """A type from the enclosing function is found when the function itself uses it."""

    class Local(msgspec.Struct):
        x: int

    async def make() -> Local:
        return Local(1)

    assert signature_of(make).result.annotation is Local


def test_an_annotation_that_cannot_be_resolved_is_an_error_that_names_the_function():
    """It is found before the function runs."""

    async def lost() -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
        return None

    with pytest.raises(SerializationError, match=r"return annotation of .*lost cannot be resolved.*Nowhere"):
        _ = signature_of(lost).result


def test_what_is_not_callable_is_a_type_error():
    """Passing a coroutine instead of a function is a common slip."""
    with pytest.raises(TypeError, match="expected a function"):
        signature_of(3)  # type: ignore[arg-type]

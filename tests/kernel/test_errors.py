"""Exceptions as error objects and back."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from durable import CompensationError, RecordedError, StepTimeoutError
from durable._kernel.errors import decode_error, encode_error, rebuild_live
from durable._wire import ErrorObject
from durable._wire.limits import MAX_PAYLOAD_BYTES


class CardDeclined(Exception):
    amount: Decimal

    def __init__(self, amount: Decimal, *, code: str):
        super().__init__(f"declined: {amount}")
        self.amount = amount
        self.code = code


class Shouting(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def caught(error: Exception) -> Exception:
    try:
        raise error
    except Exception as same:
        return same


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError("key"),
        OSError(2, "gone", "/x"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
        CardDeclined(Decimal("9.50"), code="insufficient"),
        ExceptionGroup("two", [ValueError(1), ExceptionGroup("inner", [CardDeclined(Decimal(1), code="x")])]),
        CompensationError("could not undo", [ValueError("a")]),
        TimeoutError(),
        StopIteration(3),
        StepTimeoutError("charge", 3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_comes_back_with_type_message_and_data(error: Exception):
    """Type, text, arguments, attributes and a group's members survive, without running `__init__`."""
    again = decode_error(encode_error(caught(error)))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert {name: value for name, value in vars(again).items() if not name.startswith("__")} == vars(error)
    if isinstance(error, ExceptionGroup):
        assert isinstance(again, ExceptionGroup)
        assert [repr(member) for member in again.exceptions] == [repr(member) for member in error.exceptions]
    else:
        assert again.args == error.args
    assert encode_error(again).error_data == encode_error(error).error_data


def test_annotated_attributes_come_back_as_their_type():
    """A class annotation says what an attribute is."""
    again = decode_error(encode_error(CardDeclined(Decimal("9.50"), code="x")))
    assert isinstance(again, CardDeclined)
    assert again.amount == Decimal("9.50")
    assert isinstance(again.amount, Decimal)


def test_notes_survive():
    """What was added to an exception goes along."""
    error = ValueError("x")
    error.add_note("while booking")
    assert decode_error(encode_error(error)).__notes__ == ["while booking"]


def test_the_live_exception_equals_the_replayed_one_but_keeps_its_traceback_and_cause():
    """The first run raises what a replay will raise."""
    cause = KeyError("cause")
    try:
        raise ValueError("x") from cause
    except ValueError as error:
        recorded, live = rebuild_live(error)
        assert live.__traceback__ is error.__traceback__
    replayed = decode_error(recorded)
    assert live.__cause__ is cause
    assert (type(live), live.args, str(live)) == (type(replayed), replayed.args, str(replayed))


def test_the_stack_trace_holds_the_users_frames():
    """Outermost first, as `File "...", line n, in f`."""
    recorded = encode_error(caught(ValueError("x")))
    assert recorded.stack_trace is not None
    assert "test_errors.py" in recorded.stack_trace[0]
    assert recorded.stack_trace[-1].endswith("in caught")


@pytest.mark.parametrize(
    ("error", "name"),
    [(ValueError("x"), "ValueError"), (CardDeclined(Decimal(1), code=""), f"{__name__}.CardDeclined")],
)
def test_builtins_have_bare_names_and_others_their_module(error, name):
    """As other SDKs name them."""
    assert encode_error(error).error_type == name


@pytest.mark.parametrize(
    "name", ["gone.module.Error", "os.Missing", "os.path", "SystemExit", "builtins.int", "int", "", None, "no.such"]
)
def test_a_class_that_cannot_be_rebuilt_is_a_recorded_error_with_everything(name):
    """What was recorded is told, whatever became of the class; nothing but an `Exception` is ever built."""
    recorded = ErrorObject(error_type=name, error_message="m", error_data="d", stack_trace=("f",))
    again = decode_error(recorded)
    assert isinstance(again, RecordedError)
    assert (again.error_type, again.message, again.data, again.stack_trace) == (name, "m", "d", ("f",))
    assert encode_error(again) == recorded


@pytest.mark.parametrize("data", ["", "{", '{"args":3}', "[]", None])
def test_foreign_or_broken_data_never_hides_the_error(data):
    """Somebody else's data is not ours to understand."""
    again = decode_error(ErrorObject(error_type="ValueError", error_message="m", error_data=data))
    assert isinstance(again, (ValueError, RecordedError))
    assert "m" in str(again)


def test_an_error_that_is_recorded_again_keeps_where_it_was_raised():
    """A failure that passes through a child and a saga still names the line that failed."""
    first = encode_error(caught(ValueError("x")))
    again = decode_error(first)
    assert encode_error(caught(again)) == first


def test_values_that_cannot_be_encoded_are_kept_as_text():
    """An exception that carries a connection or the like is recorded all the same."""
    thing = object()
    error = ValueError("x", thing)
    error.handle = thing  # type: ignore[attr-defined]
    again = decode_error(encode_error(error))
    assert again.args == ("x", repr(thing))
    assert not hasattr(again, "handle")


def test_an_exception_without_a_text_is_recorded():
    """A `__str__` that raises does not hide the failure."""
    recorded = encode_error(Shouting())
    assert recorded.error_message == "<Shouting whose text cannot be had: RuntimeError>"


def test_an_error_object_never_exceeds_the_services_limit():
    """A huge message and huge data are shortened, not refused."""
    error = ValueError("\n" * 3_000_000)
    recorded = encode_error(error)
    assert len(msgspec.json.encode(recorded)) < MAX_PAYLOAD_BYTES
    assert recorded.error_message is not None
    assert recorded.error_message.endswith("(3,000,000 characters)")


def test_half_characters_are_escaped():
    """What no JSON takes, such as the name of a file that is not UTF-8, is recorded all the same."""
    recorded = encode_error(OSError(2, "No such file", "trip-\udcff.json"))
    assert recorded.error_message == r"[Errno 2] No such file: 'trip-\udcff.json'"
    assert msgspec.json.encode(recorded)
    again = decode_error(recorded)
    assert isinstance(again, OSError)
    assert again.filename == r"trip-\udcff.json"
    group = encode_error(ExceptionGroup("\ud800", [ValueError("\udfff")]))
    assert msgspec.json.encode(group)
    assert group.error_message == r"\ud800 (1 sub-exception)"

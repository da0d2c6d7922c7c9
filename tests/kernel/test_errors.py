"""Exceptions as error objects and back."""

from __future__ import annotations

import sys
from decimal import Decimal, InvalidOperation
from typing import Any, Self

import msgspec
import pytest

from durable import (
    CallbackFailedError,
    CallbackHeartbeatError,
    CallbackTimeoutError,
    CompensationError,
    ConditionNotMetError,
    ConditionTimeoutError,
    InvokeFailedError,
    InvokeStoppedError,
    InvokeTimedOutError,
    RecordedError,
    StepTimeoutError,
)
from durable._kernel.errors import MAX_DATA, decode_error, encode_error, rebuild_live, with_cause
from durable._wire import ErrorObject
from durable._wire.limits import MAX_PAYLOAD_BYTES
from durable.exceptions import (
    CleanupError,
    MissingCompensationError,
    OperationBudgetError,
    RollbackTimeoutError,
    SagaCancelledError,
    SagaDeadlineError,
    SagaRolledBackError,
)


class CardDeclined(Exception):
    amount: Decimal

    def __init__(self, amount: Decimal, *, code: str):
        super().__init__(f"declined: {amount}")
        self.amount = amount
        self.code = code


class Late(RuntimeError, TimeoutError):
    """Only one of the two lays out the object: an exception of both is not made by the first one's `__new__`."""

    def __init__(self, what: str, seconds: float):
        super().__init__(f"{what} {seconds}")


class Made(LookupError, TimeoutError):
    made: bool = False

    def __new__(cls, *args: Any) -> Self:
        made = TimeoutError.__new__(cls, *args)
        made.made = True
        return made

    def __init__(self, what: str):
        super().__init__(what)


class Shouting(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


REPORTED: dict[str, Any] = {
    "error_type": "KeyError",
    "message": "'room'",
    "data": '{"args":["room"]}',
    "stack_trace": ("f", "g"),
}


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
        CallbackFailedError("approval", "id-1", **REPORTED),
        CallbackTimeoutError(None, "id-1"),
        CallbackHeartbeatError("approval", "id-1", error_type="Callback.Heartbeat"),
        InvokeFailedError("charge", **REPORTED),
        InvokeTimedOutError("charge", message="too slow"),
        InvokeStoppedError("charge"),
        ConditionNotMetError("is it ready", 60, {"state": [1, None]}),
        ConditionTimeoutError("is it ready", 1, 7, 30),
        SagaRolledBackError("sold out"),
        SagaCancelledError("somebody asked for it"),
        SagaDeadlineError(60),
        RollbackTimeoutError("hotel", 5, KeyError("room")),
        MissingCompensationError("hotel", "registers none"),
        OperationBudgetError(2_900, 90, 3_000),
        CleanupError("cleaning up failed", [ValueError("a")]),
        Late("after", 5),
        Made("x"),
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


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            CallbackFailedError("approval", "id-1", error_type="a.No", message="too dear"),
            "callback 'approval' (id id-1) failed: a.No: too dear",
        ),
        (CallbackTimeoutError(None, "id-1"), "callback (id id-1) timed out"),
        (CallbackHeartbeatError("a", "i", message="late"), "callback 'a' (id i) missed its heartbeat: Error: late"),
        (InvokeFailedError("f", error_type="a.No"), "function 'f' failed: a.No: "),
        (InvokeTimedOutError("f"), "function 'f' timed out"),
        (InvokeStoppedError("f"), "function 'f' was stopped"),
        (ConditionNotMetError("c", 1, None), "condition 'c' was not met after 1 check, as many as it may take"),
        (
            ConditionTimeoutError("c", 2_000, None, 90),
            "condition 'c' was not met after 2,000 checks, within its timeout of 90 s",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_of_operations_say_which_and_what(error, text):
    """Which callback, function or condition it was, how it ended, and what the other side reported."""
    assert str(error) == text
    assert isinstance(error, TimeoutError) is ("Time" in type(error).__name__ or "Heart" in type(error).__name__)


def test_what_somebody_else_reported_is_the_cause_as_its_own_type():
    """From the attributes, so that it is there again when the error is rebuilt from a record of ours."""
    error = with_cause(CallbackFailedError("approval", "id-1", **REPORTED))
    for one in (error, decode_error(encode_error(error))):
        assert isinstance(one.__cause__, KeyError)
        assert one.__cause__.args == ("room",)
        assert (type(one), vars(one)["stack_trace"]) == (CallbackFailedError, ("f", "g"))
    _, live = rebuild_live(error)
    assert isinstance(live.__cause__, KeyError)
    unknown = with_cause(InvokeFailedError("charge", error_type="Runtime.ExitError", message="gone"))
    assert isinstance(unknown.__cause__, RecordedError)
    assert with_cause(InvokeStoppedError("charge")).__cause__ is None


@pytest.mark.parametrize("nested", [False, True])
def test_no_module_is_imported_because_somebody_outside_names_it(nested):
    """An error's type is the sender's choice; importing a module of his choice would run it."""
    assert "this" not in sys.modules
    data = None
    name = "this.Error"
    if nested:
        name = "ExceptionGroup"
        data = '{"args":["g"],"exceptions":[{"ErrorType":"this.Error","ErrorMessage":"m"}]}'
    error = with_cause(CallbackFailedError("approval", "id-1", error_type=name, message="m", data=data))
    assert "this" not in sys.modules
    cause = error.__cause__
    member = cause.exceptions[0] if isinstance(cause, ExceptionGroup) else cause
    assert isinstance(member, RecordedError)
    assert member.error_type == "this.Error"


@pytest.mark.parametrize("large", ["data", "message"])
def test_an_error_that_carries_too_much_keeps_the_rest(large):
    """What is small of it is still there, and its text."""
    error = CallbackFailedError(
        "approval", "id-1", **{"error_type": "KeyError", "message": "m", large: "x" * 700_000}
    )
    recorded = encode_error(error)
    assert len(msgspec.json.encode(recorded)) < MAX_PAYLOAD_BYTES
    again = decode_error(recorded)
    assert isinstance(again, CallbackFailedError)
    assert (again.name, again.callback_id, again.error_type) == ("approval", "id-1", "KeyError")
    assert getattr(again, large) is None
    assert str(again).startswith("callback 'approval' (id id-1) failed: KeyError: ")


def test_an_error_may_carry_as_much_as_is_recorded():
    """To the last byte: what is just not too large is recorded whole."""

    def data_of(size: int) -> str:
        error = ValueError("m")
        error.large = "x" * size  # type: ignore[attr-defined]
        return encode_error(error).error_data or ""

    size = MAX_DATA - len(data_of(0))
    assert len(data_of(size)) == MAX_DATA
    assert "large" not in data_of(size + 1)


class MadeByAFunction(Exception):
    def __reduce__(self) -> Any:
        return make_another, ("another",)


class MadeWithAList(Exception):
    def __reduce__(self) -> Any:
        return MadeWithAList, ["another"]


class MadeByName(Exception):
    def __reduce__(self) -> Any:
        return "MADE"


def make_another(text: str) -> MadeByAFunction:
    return MadeByAFunction(text)


@pytest.mark.parametrize("kind", [MadeByAFunction, MadeWithAList, MadeByName])
def test_only_what_its_class_is_called_with_makes_an_equal_exception(kind):
    """What another function is called with says nothing, nor does what is no tuple: its `args` are recorded."""
    data = msgspec.json.decode(encode_error(kind("mine")).error_data or "")
    assert data["args"] == ["mine"]


def test_a_class_is_found_by_its_name_alone(tmp_path, monkeypatch):
    """In modules that are there, within other classes, and in modules that are not there yet."""
    assert type(decode_error(ErrorObject(error_type="decimal.InvalidOperation"))) is InvalidOperation
    (tmp_path / "not_loaded_yet.py").write_text("class Outer:\n    class Boom(Exception): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "not_loaded_yet" not in sys.modules
    for _ in range(2):
        found = decode_error(ErrorObject(error_type="not_loaded_yet.Outer.Boom", error_message="m"))
        assert type(found).__qualname__ == "Outer.Boom"
        assert found.args == ("m",)


def test_a_users_own_kind_of_recorded_error_is_not_taken_for_what_it_carries():
    """Only the very class stands for another error."""

    class Ours(RecordedError):
        pass

    again = decode_error(encode_error(Ours("gone.Error", "m", "d")))
    assert type(again) is Ours
    assert (again.error_type, again.message, again.data, again.stack_trace) == ("gone.Error", "m", "d", ())


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

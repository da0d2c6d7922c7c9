"""Numbers, times and values as people read them; exit codes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from durable._wire import ErrorObject
from durable.cli.exits import MEANING, ExitCode, code_of, exit_in, explain, worst
from durable.cli.machine import encode, value_shape
from durable.cli.texts import (
    command_text,
    count_text,
    duration_text,
    error_text,
    iso_text,
    one_line,
    origin_text,
    path_text,
    pretty_json,
    safe_text,
    stamp_text,
    target_text,
    time_text,
    value_text,
)
from durable.exceptions import EngineClosedError, ExecutionFailedError, NonDeterminismError, StoreError

NOON = 1_764_072_000_123  # 2025-11-25 12:00:00.123 UTC


@pytest.fixture(autouse=True)
def utc(a_place_of_its_own: None) -> None:
    """Local time is UTC."""
    time.tzset()


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (-5, "0.00 s"),
        (0, "0.00 s"),
        (314, "0.31 s"),
        (9_999, "10.00 s"),
        (10_000, "10.0 s"),
        (59_949, "59.9 s"),
        (60_000, "1 min 00 s"),
        (125_000, "2 min 05 s"),
        (3_599_999, "59 min 59 s"),
        (3_900_000, "1 h 05 min"),
        (90_000_000, "1 d 01 h"),
        (31_622_400_000, "366 d 00 h"),
    ],
)
def test_durations(milliseconds: int, text: str):
    """Two units at most, the second one always with two digits."""
    assert duration_text(milliseconds) == text


def test_instants():
    """The time of day today, the date as well on any other day."""
    assert time_text(NOON, NOON + 1000) == "12:00:00"
    assert time_text(NOON, NOON + 86_400_000) == "2025-11-25 12:00:00"
    assert time_text(round(time.time() * 1000)).count("-") == 0
    assert stamp_text(NOON) == "12:00:00.123"
    assert iso_text(NOON) == "2025-11-25T12:00:00.123+00:00"


def test_nothing_that_a_terminal_obeys_comes_through():
    """What users' code returns or raises cannot paint, move or ring."""
    hostile = "a\x1b[31mb\x07c\r\nd\x9b2Je"
    assert one_line(hostile) == "a\\x1b[31mb\\x07c d\\x9b2Je"
    assert safe_text("one\ttab\nline\x1b[0m") == "one\ttab\nline\\x1b[0m"
    assert one_line("x" * 11, 10) == "x" * 9 + "…"
    assert one_line("x" * 10, 10) == "x" * 10


def test_values():
    """JSON on one line; null is nothing; what is not JSON stays what it is."""
    assert value_text('{"a":1}') == '{"a":1}'
    assert value_text("null") == value_text(None) == ""
    assert pretty_json('{"a":[1,2.50]}') == '{\n  "a": [\n    1,\n    2.50\n  ]\n}'
    assert pretty_json("{nope") == "{nope"


def test_a_value_that_is_not_json_stays_text_for_machines():
    """Whatever is recorded can be told."""
    assert encode({"a": value_shape('{"n": 1.50}'), "b": value_shape("{nope"), "c": value_shape(None)}) == (
        '{"a":{"n":1.50},"b":"{nope","c":null}'
    )


def test_errors():
    """The class without its module, the message on one line, and where it came from."""
    here = str(Path.cwd() / "shop.py")
    error = ErrorObject(
        error_type="shop.CardDeclined", error_message="no\nmoney", stack_trace=(f'File "{here}", line 7, in pay',)
    )
    assert error_text(error) == "CardDeclined: no money"
    assert error_text(ErrorObject()) == "Error"
    assert error_text(None) == "no error was recorded"
    assert origin_text(error) == "shop.py:7 in pay"
    assert (
        origin_text(ErrorObject(stack_trace=("somewhere",)))
        == origin_text(ErrorObject())
        == origin_text(None)
        == ""
    )


def test_paths_and_commands():
    """As short as they can be told from here, and quoted so that they can be copied."""
    assert path_text(str(Path.cwd() / "a" / "b.py")) == "a/b.py"
    assert path_text("/elsewhere/b.py") == "/elsewhere/b.py"
    assert target_text("package.module:function") == "package.module:function"
    assert command_text("resume", "t-1", store="durable.db", default_store="durable.db") == "durable resume t-1"
    assert (
        command_text("show", "t", store="my store.db", default_store="d.db")
        == "durable show t --store 'my store.db'"
    )
    assert [count_text(number, "event") for number in (0, 1, 1234)] == ["0 events", "1 event", "1,234 events"]


def test_every_exit_code_is_explained():
    """In --help, with its number."""
    for code in ExitCode:
        assert f"{code.value}  {MEANING[code]}" in explain()


def test_the_worst_exit_code_counts():
    """A signal before everything, an execution that cannot go on before one that failed."""
    assert worst([]) == 0
    assert worst([ExitCode.FAILED, ExitCode.SUCCEEDED]) == 1
    assert worst([ExitCode.FAILED, ExitCode.UNFINISHED, ExitCode.SUCCEEDED]) == 4
    assert worst([ExitCode.UNFINISHED, ExitCode.INTERRUPTED, ExitCode.NOT_DONE]) == 130
    assert all(worst([code]) is code for code in ExitCode)


def test_errors_have_exit_codes():
    """Only an execution that failed is answered with 1."""
    assert code_of(ExecutionFailedError("t", "FAILED", None, None)) == 1
    assert code_of(NonDeterminismError("a", "b", "c")) == code_of(EngineClosedError()) == 4
    assert code_of(StoreError("x")) == code_of(ZeroDivisionError()) == 3
    assert code_of(KeyboardInterrupt()) == 130


def test_calls_for_the_end_are_found_wherever_they_are():
    """In a group of groups as well."""
    leave = SystemExit(2)
    assert exit_in(BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [leave])])) is leave
    assert exit_in(leave) is leave
    assert exit_in(ExceptionGroup("", [ValueError()])) is None

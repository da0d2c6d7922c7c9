"""Histories in each form in which tools print them, and what is said of those that cannot be replayed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable._wire import ExecutionStatus, OperationStatus, Timestamp
from durable.exceptions import HistoryError
from durable.testing.history_files import read_history
from tests.properties.examples import EXAMPLES


def document() -> dict[str, Any]:
    """A step, a wait, and a step of which only the beginning is recorded."""
    return {
        "Events": [
            {
                "EventId": 1,
                "EventType": "ExecutionStarted",
                "EventTimestamp": 1764000000.25,
                "Id": "e-1",
                "Name": "t-1",
                "ExecutionStartedDetails": {"Input": {"Payload": '"hello"'}, "ExecutionTimeout": 60},
            },
            step(2, "StepStarted", "a", StepStartedDetails={}),
            step(
                3,
                "StepSucceeded",
                "a",
                StepSucceededDetails={"Result": {"Payload": "1"}, "RetryDetails": {"CurrentAttempt": 1}},
            ),
            step(4, "StepStarted", "b", StepStartedDetails={}),
        ]
    }


def step(number: int, kind: str, key: str, **details: Any) -> dict[str, Any]:
    return {
        "EventId": number,
        "EventType": kind,
        "EventTimestamp": 1764000000.25 + number,
        "Id": key,
        "Name": f"step {key}",
        "SubType": "Step",
        **details,
    }


def check(source: Any) -> None:
    """It is the history above."""
    history = read_history(source)
    assert (history.execution_id, history.name, history.input) == ("e-1", "t-1", '"hello"')
    assert (history.status, history.recorded) == (ExecutionStatus.RUNNING, Timestamp(1764000004250))
    first, second = history.operations
    assert (first.result, first.status, second.status) == ("1", OperationStatus.SUCCEEDED, OperationStatus.STARTED)
    assert history.numbers == {"e-1": 1, "a": 2, "b": 4}


def split() -> list[dict[str, Any]]:
    """The same in two pages."""
    events = document()["Events"]
    return [{"Events": events[:2], "NextMarker": "m"}, {"Events": events[2:]}]


def with_times(make: Callable[[float], object]) -> dict[str, Any]:
    changed = document()
    for event in changed["Events"]:
        event["EventTimestamp"] = make(event["EventTimestamp"])
    return changed


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone(timedelta(hours=2))).isoformat()


@pytest.mark.parametrize(
    "source",
    [
        document(),
        json.dumps(document()),
        json.dumps(document(), indent=4).encode(),
        b"\xef\xbb\xbf" + json.dumps(document()).encode(),
        json.dumps(document()).encode("utf-16"),  # as a shell on Windows redirects
        split(),
        split()[::-1],
        json.dumps(split()),
        "".join(f"{json.dumps(page)}\n" for page in split()),
        "".join(json.dumps(page) for page in [*split(), split()[0]]),  # one page twice
        document()["Events"],
        document()["Events"][::-1],  # ReverseOrder
        with_times(iso),
        json.dumps(with_times(iso)),
        with_times(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
        with_times(lambda seconds: datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ")),
        with_times(lambda seconds: datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()),
        {**document(), "ResponseMetadata": {"HTTPStatusCode": 200}, "NextMarker": ""},
    ],
)
def test_a_history_is_read_in_each_of_its_forms(source: Any):
    """As text, bytes and parsed; in pages; with times as the API, its clients and their command lines have them."""
    check(source)


def test_a_history_is_read_from_a_file(tmp_path: Path):
    """By its path."""
    path = tmp_path / "history.json"
    path.write_text(json.dumps(document()))
    check(path)
    check(str(path))


def test_an_execution_that_is_paused_is_in_flight():
    """Until it is resumed."""
    whole = json.loads((Path(__file__).parent.parent / "histories" / "paused-0.1.0.json").read_text())
    kinds = [event["EventType"] for event in whole["Events"]]
    for kind, status in (("ExecutionPaused", "PAUSED"), ("ExecutionResumed", "RUNNING")):
        assert read_history({"Events": whole["Events"][: kinds.index(kind) + 1]}).status == status


def test_an_execution_may_have_no_input():
    """What lacks a payload then is the input alone."""
    whole = document()
    whole["Events"][0]["ExecutionStartedDetails"]["Input"] = {}
    assert read_history(whole).input is None
    whole["Events"] = whole["Events"][:1]
    assert read_history(whole).input is None


def changed(change: Callable[[list[dict[str, Any]]], object]) -> dict[str, Any]:
    whole = document()
    change(whole["Events"])
    return whole


def without_data() -> dict[str, Any]:
    """As IncludeExecutionData=false has it."""
    whole = document()
    whole["Events"][0]["ExecutionStartedDetails"]["Input"] = {"Truncated": True}
    whole["Events"][2]["StepSucceededDetails"]["Result"] = {"Truncated": True}
    return whole


def with_nothing() -> dict[str, Any]:
    whole = document()
    whole["Events"][0]["ExecutionStartedDetails"]["Input"] = {}
    whole["Events"][2]["StepSucceededDetails"]["Result"] = {}
    return whole


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("[]", "it has no events"),
        (b"", "it cannot be replayed|it is empty"),
        ("{", "it is not JSON: Expecting property name"),
        ("[" * 100_000, "it is not JSON"),
        ('{"Events": NaN}', "it is not JSON: NaN is no JSON"),
        ("{} x", "it is not JSON"),
        (b"{\xff\xfe", "it is not text"),
        ("{}", "missing required field `Events`"),
        ('{"Events": 7}', r"Expected `array`, got `int` - at `\$.Events`"),
        ("[7]", "Expected `object`, got `int`"),
        ('{"Events": []}', "it has no events"),
        (changed(lambda events: events.pop(1)), "event 2 is missing: ask"),
        (changed(lambda events: events.pop(0)), "event 1 is missing"),
        (split()[:1], "there is more after event 2: ask"),
        ({**document(), "NextToken": "t"}, "there is more after event 4"),
        (changed(lambda events: events[1].update(EventId=3)), "two different events have the number 3"),
        (changed(lambda events: events[1].update(EventId=1.5)), r"got `float` - at `\$.Events\[1\].EventId`"),
        (changed(lambda events: events[1].update(EventType="StepMoved")), r"Invalid enum value 'StepMoved' - at"),
        (changed(lambda events: events[1].update(EventTimestamp="soon")), r"expected an instant.*'soon'"),
        (changed(lambda events: events[1].update(EventTimestamp=True)), "expected an instant"),
        (changed(lambda events: events[1].update(EventTimestamp=1e300)), "expected an instant"),
        (changed(lambda events: events[1].pop("Id")), r"event 2 \(StepStarted\) has no Id"),
        (changed(lambda events: events[2].update(Name="other")), r"event 3 .* another operation than event 2"),
        (changed(lambda events: events[2].update(ParentId="p")), r"event 3 .* another operation than event 2"),
        (changed(lambda events: events[3].update(ParentId="p")), "inside of p, which has not begun"),
        (changed(lambda events: events[2].pop("StepSucceededDetails")), "event 3 .* has no StepSucceededDetails"),
        (changed(lambda events: events[3].update(EventType="ExecutionStarted")), "event 4 .* begins another"),
        (changed(lambda events: events[0].update(EventType="WaitStarted")), "begins with WaitStarted"),
        (without_data(), r"written without data: event 1 \(ExecutionStarted\).*IncludeExecutionData=true"),
        (with_nothing(), "written without data: event 1"),
        ([{**page, "DurableExecutionArn": str(n)} for n, page in enumerate(split())], "more than one execution"),
        ("no/such/history.json", "no/such/history.json cannot be replayed: it cannot be read: No such file"),
        ("no\0such", "it cannot be read"),
        ("", "it cannot be read"),
    ],
)
def test_what_cannot_be_replayed_is_told(source: Any, why: str):
    """What is wrong, where, and what to do; never anything else."""
    with pytest.raises(HistoryError, match=why):
        read_history(source)


# --- Whatever is in the file -------------------------------------------------------------------------------------

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inside for place in _places(one, (*path, key)))]


PLACES = _places(document())[1:]


@EXAMPLES
@given(place=st.sampled_from(PLACES), value=_VALUES, drops=st.booleans())
def test_a_document_with_anything_anywhere_is_read_or_refused(place: tuple[Any, ...], value: Any, drops: bool):
    """By a HistoryError, and nothing else."""
    whole: Any = document()
    inside = whole
    for key in place[:-1]:
        inside = inside[key]
    if drops:
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    for source in (whole, json.dumps(whole)):
        try:
            read_history(source)
        except HistoryError as error:
            assert str(error).startswith("the history cannot be replayed: ")


@EXAMPLES
@given(st.binary() | st.text().map(str.encode), st.integers(0, 400))
def test_any_bytes_are_read_or_refused(noise: bytes, at: int):
    """Also in the middle of a history."""
    whole = json.dumps(document()).encode()
    for source in (noise, whole[:at] + noise + whole[at:], whole[:at]):
        try:
            read_history(source)
        except HistoryError as error:
            assert str(error).startswith("the history cannot be replayed: ")

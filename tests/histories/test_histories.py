"""What earlier versions have recorded is followed by this one: executions of theirs may be in flight.

A history that is not followed any more says that a change of the library breaks executions in flight. Then the
change is wrong, and not the history.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest

import durable
from durable._kernel.rebuild import operations_of
from durable._wire.codec import HISTORY_RESPONSE
from durable.testing import replay
from durable.testing.history_files import read_history
from tests.histories import recording
from tests.histories.continuing import go_on
from tests.histories.index import HERE, INDEX, Kept, digest_of, keep, kept
from tests.histories.registry import PROGRAMS

KEPT = kept()


AT_A_MOMENT = {"map-all-successful", "saga-cancelled"}
"""What comes of these depends on what else was under way at some moment."""


def goes_on(one: Kept) -> bool:
    """Whether it can be gone on with: nothing was done from outside but answering."""
    program = PROGRAMS[one.program]
    by_hand = program.crash or program.stop or program.pause or program.timeout
    return bool(one.cuts) and not by_hand and one.program not in AT_A_MOMENT


@cache
def document_of(one: Kept) -> Any:
    import json

    return json.loads(one.path.read_bytes())


@pytest.mark.anyio
@pytest.mark.parametrize("one", KEPT, ids=lambda one: one.file)
async def test_what_was_recorded_is_followed(one: Kept):
    """Whole, and in flight: cut after each call, as it was when that had been recorded."""
    document = document_of(one)
    events = document["Events"]
    for cut in (*one.cuts, len(events)):
        result = await replay(PROGRAMS[one.program].function, {**document, "Events": events[:cut]})
        assert result.compatible, f"cut after {cut} events: {result}"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # as they were recorded: trio shuffles who is first
@pytest.mark.parametrize("one", [one for one in KEPT if goes_on(one)], ids=lambda one: one.file)
async def test_what_was_in_flight_goes_on_to_its_end(one: Kept):
    """Every third cut: it ends as it did, and records what it did, compensations that had begun among it."""
    whole = read_history(one.path)
    everything = operations_of(HISTORY_RESPONSE.convert(document_of(one)).events)
    for cut in one.cuts[::3]:
        ended = await go_on(one, PROGRAMS[one.program], cut)
        error = ended.record.error
        assert (ended.record.status, ended.record.result) == (whole.status, whole.result), f"after {cut} events"
        assert (error and error.error_message) == (whole.error and whole.error.error_message)
        for before in everything:
            if before.id in ended.hidden:
                continue
            now = ended.operations.get(before.id)
            assert now is not None, f"{before.name} after {cut} events"
            assert (now.type, now.sub_type, now.name, now.parent_id, now.status) == (
                before.type,
                before.sub_type,
                before.name,
                before.parent_id,
                before.status,
            )


@pytest.mark.parametrize("one", KEPT, ids=lambda one: one.file)
def test_what_is_kept_never_changes(one: Kept):
    """Each file is there as it was made."""
    assert digest_of(one.path.read_bytes()) == one.digest


def test_the_index_has_every_file_once():
    """And no file is another's."""
    files = [one.file for one in KEPT]
    assert Counter(files) == Counter(path.name for path in HERE.glob("*.json"))


def test_every_program_has_a_history():
    """A new program is recorded by the version that it came with: python -m tests.histories NAME."""
    assert set(PROGRAMS) == {one.program for one in KEPT}


def test_histories_are_whole():
    """They hold everything that can be recorded, and each way to end."""
    kinds: Counter[str] = Counter()
    statuses: set[str] = set()
    for one in KEPT:
        statuses.add(read_history(one.path).status)
        kinds.update(event["EventType"] for event in document_of(one)["Events"])
    assert statuses == {"RUNNING", "SUCCEEDED", "FAILED", "STOPPED", "TIMED_OUT"}
    assert {
        "ContextFailed",
        "StepFailed",
        "WaitSucceeded",
        "CallbackSucceeded",
        "CallbackFailed",
        "CallbackTimedOut",
        "ExecutionPaused",
        "ExecutionResumed",
        "ChainedInvokeSucceeded",
        "ChainedInvokeFailed",
    } <= set(kinds)


@pytest.mark.parametrize("name", sorted(PROGRAMS))
@pytest.mark.anyio
async def test_programs_still_do_what_was_recorded(name: str, anyio_backend: str):
    """Executed by this version they record something that it follows itself, and end as they did."""
    recorded = await recording.record(name, PROGRAMS[name])
    for cut in (*recorded.cuts, len(recorded.events)):
        result = await replay(PROGRAMS[name].function, recorded.events[:cut], arn=recorded.arn)
        assert result.compatible, f"cut after {cut} events: {result}"
    last = [one for one in KEPT if one.program == name][-1]
    if last.version == durable.__version__ and anyio_backend == "asyncio":  # as it was recorded; trio shuffles
        before = read_history(last.path)
        now = read_history(recorded.document())
        assert (now.status, now.result) == (before.status, before.result)


def test_nothing_is_overwritten(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    """What is there stays; what is new is added at the end."""
    from tests.histories import index

    monkeypatch.setattr(index, "HERE", tmp_path)
    monkeypatch.setattr(index, "INDEX", tmp_path / "index")
    first = keep("a", "1", (1, 2), b"{}")
    second = keep("b", "1", (), b"{ }")
    assert kept() == [first, second]
    with pytest.raises(FileExistsError):
        keep("a", "1", (), b"other")
    assert (tmp_path / "a-1.json").read_bytes() == b"{}"
    assert kept() == [first, second]
    assert INDEX.parent == HERE  # of the real one nothing was touched

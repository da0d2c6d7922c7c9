"""`durable ls`, `show` and `history`: what they tell, and that looking changes nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from durable._wire.codec import HISTORY_RESPONSE
from durable.cli.reading import names
from durable.local import load_target, open_engine
from tests.cli.helpers import Call, job, leave_unfinished, said


@pytest.fixture
def store(durable: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of each kind."""
    durable("run", job("double"), "-i", "21", "-n", "good")
    durable("run", job("doomed"), "-i", '"too\\nbad"', "-n", "bad")
    monkeypatch.setenv("JOBS_BLOCK", "1")
    leave_unfinished(("blocks", None, "unfinished"), events=4)
    monkeypatch.delenv("JOBS_BLOCK")


# --- ls ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("store")
def test_ls_lists_oldest_first(durable: Call):
    """Name, status, times, function, outcome; in columns."""
    lines = durable("ls").out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "good", "bad", "unfinished"]
    assert [line.split()[1] for line in lines] == ["STATUS", "SUCCEEDED", "FAILED", "RUNNING"]
    assert lines[1].endswith("jobs.py:double  42")
    assert lines[2].endswith(
        "jobs.py:doomed  CompensationError: saga 'order' could not undo second (1 sub-exception)"
    )
    assert lines[3].endswith("jobs.py:blocks")
    assert len({line.index(" jobs.py") for line in lines[1:]}) == 1


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("status", "found"),
    [("succeeded", ["good"]), ("FAILED", ["bad"]), ("Running", ["unfinished"]), ("stopped", [])],
)
def test_ls_by_status(durable: Call, status: str, found: list[str]):
    """In whatever case it is typed."""
    listed = durable("ls", "--status", status, "--json")
    assert listed.code == 0
    assert [line["name"] for line in listed.lines] == found


@pytest.mark.usefixtures("store")
def test_ls_without_any(durable: Call):
    """An empty table says why it is empty; on standard error, so that pipes stay empty."""
    listed = durable("ls", "-s", "STOPPED")
    assert (listed.code, listed.out, listed.err) == (0, "", "no execution in durable.db is STOPPED\n")


def test_ls_of_a_status_that_there_is_not(durable: Call):
    """A usage error that names those there are."""
    listed = durable("ls", "--status", "sleeping")
    assert listed.code == 2
    assert "running" in listed.err


@pytest.mark.usefixtures("store")
def test_ls_for_machines(durable: Call):
    """One object a line, the result as JSON, the error with its parts."""
    good, bad, unfinished = durable("ls", "--json").lines
    assert good == {
        "name": "good", "id": good["id"], "arn": good["arn"], "function": job("double"), "status": "SUCCEEDED",
        "started": good["started"], "ended": good["ended"], "seconds": good["seconds"], "invocations": 1,
        "result": 42, "error": None,
    }  # fmt: skip
    assert good["started"].endswith("+00:00")
    assert bad["error"]["type"] == "durable.exceptions.CompensationError"
    assert [unfinished[key] for key in ("status", "ended", "seconds", "result", "error")] == ["RUNNING"] + [
        None
    ] * 4


# --- show ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("store")
def test_show_pairs_compensations_with_their_steps(durable: Call):
    """Below each step what undid it, numbered in the order of undoing; the saga says why."""
    shown = durable("show", "bad")
    assert shown.code == 0
    rows = [" ".join(line.split()) for line in shown.out.splitlines()]
    tree = [row for row in rows if row.startswith(("├─", "│", "└─"))]
    shape = [re.sub(r"\d+\.\d\d s", "T", row) for row in tree]
    assert shape == [
        "├─ ✓ first T 2",
        "│ └─ ↶ undone T 3 of 3",
        "├─ ✓ second T 4",
        "│ └─ ✗ NOT undone T 2 of 3 RuntimeError: 4 cannot be undone",
        "├─ ✓ third T 6",
        "│ └─ ↶ undone T 1 of 3",
        "├─ ✗ fail T ValueError: too bad",
        "└─ ↶ order T rolled back: ValueError: too bad",
    ]
    assert said(shown.out, "doomed  bad  ", "jobs.py", "started ", "1 invocation", 'input  "too\\nbad"',
                "✗ failed in", "because     ValueError: too", "undone      third, first",
                "NOT undone  second")  # fmt: skip


@pytest.mark.usefixtures("store")
def test_show_of_one_that_is_not_over(durable: Call):
    """What has begun and has not ended says so."""
    shown = durable("show", "unfinished")
    assert shown.code == 0
    assert said(shown.out, "✓ before", "3", "● the long one", "started", "● not over")


def test_show_of_waits_and_retries(durable: Call):
    """Until when, and at which attempt."""
    leave_unfinished(("waits", 3600, "waits"), events=2)
    leave_unfinished(("retries", None, "retries"), events=3)
    assert said(durable("show", "waits").out, "● patience", "waits until ")
    assert said(durable("show", "retries").out, "↻ fail", "attempt 2  waits until ", "ValueError: no luck")


def test_show_of_what_was_not_attempted(durable: Call):
    """A compensation that never began is missing, visibly."""
    durable("run", job("stops"), "-i", '"no"', "-n", "t-1")
    assert said(
        durable("show", "t-1").out, "✓ first", "└─ - not attempted", "2 of 2", "✓ second", "NOT undone", "1 of 2"
    )


def test_show_of_callbacks_has_their_ids(durable: Call):
    """The whole of them, to be copied; not any more when they are answered."""
    leave_unfinished(("asks", None, "asks"), events=3)
    shown = durable("show", "asks").out
    (operation,) = durable("show", "asks", "--json").document["operations"]
    assert said(
        shown,
        "● approval",
        "waits for an answer, see below",
        "● not over, no engine is at work on it",
        "callback approval waits for an answer\n",
        f"answer with durable callback succeed {operation['callback_id']} --result JSON\n",
        "go on with  durable resume asks\n",
    )


@pytest.mark.usefixtures("store")
def test_show_for_machines(durable: Call):
    """What belongs together is told by ids, in both directions."""
    shown = durable("show", "bad", "--json")
    document = shown.document
    assert document["input"] == "too\nbad"
    assert document["rollbacks"][0]["undone"] == ["third", "first"]
    by_id = {operation["id"]: operation for operation in document["operations"]}
    pairs = [
        (operation["name"], by_id[operation["undone_by"]]["sub_type"], by_id[operation["undone_by"]]["status"])
        for operation in document["operations"]
        if operation["undone_by"]
    ]
    assert pairs == [
        ("first", "Compensation", "SUCCEEDED"),
        ("second", "Compensation", "FAILED"),
        ("third", "Compensation", "SUCCEEDED"),
    ]
    for operation in document["operations"]:
        if operation["undoes"]:
            assert by_id[operation["undoes"]]["undone_by"] == operation["id"]
    first = document["operations"][0]
    assert first == {
        "id": first["id"], "parent_id": None, "type": "STEP", "sub_type": "Step", "name": "first",
        "status": "SUCCEEDED", "started": first["started"], "ended": first["ended"], "seconds": first["seconds"],
        "attempts": 1, "until": None, "callback_id": None, "result": 2, "error": None, "undoes": None,
        "undone_by": first["undone_by"],
    }  # fmt: skip


# --- history -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("store")
def test_history_as_a_table(durable: Call):
    """A row an event."""
    rows = [line.split() for line in durable("history", "bad").out.splitlines()]
    assert rows[0] == ["#", "TIME", "AFTER", "EVENT", "NAME", "DETAILS"]
    assert [row[0] for row in rows[1:]] == [str(number) for number in range(1, len(rows))]
    text = durable("history", "bad").out
    assert said(text, "ExecutionStarted", '"too\\nbad"', "StepSucceeded", "first", "2", "StepFailed",
                "ValueError: too bad", "ContextStarted Saga", "ContextFailed Compensation", "second",
                "RuntimeError: 4 cannot be undone", "ExecutionFailed", "CompensationError")  # fmt: skip


def test_history_of_waits_and_retries(durable: Call):
    """Until when, and after which attempt."""
    leave_unfinished(("waits", 3600, "waits"), events=3)
    leave_unfinished(("retries", None, "retries"), events=3)
    assert said(
        durable("history", "waits").out, "WaitStarted", "patience", "3600 s, until ", "InvocationCompleted", "took "
    )
    assert said(
        durable("history", "retries").out, "StepFailed", "fail", "attempt 1, again in 1 s: ValueError: no luck"
    )


@pytest.mark.usefixtures("store")
def test_history_for_machines_is_a_history_file(durable: Call):
    """The wire's own codec reads it, and makes the same of it; and it says whose it is."""
    document = durable("history", "bad", "--json")
    decoded = HISTORY_RESPONSE.decode(document.out)
    assert [event.event_id for event in decoded.events] == list(range(1, len(decoded.events) + 1))
    arn = durable("show", "bad", "--json").document["arn"]
    assert {"DurableExecutionArn": arn, **json.loads(HISTORY_RESPONSE.encode(decoded))} == document.document
    assert decoded.events[-1].event_type == "ExecutionFailed"


# --- All three -----------------------------------------------------------------------------------------------

LOOKING = [("ls",), ("show", "good"), ("history", "good")]


@pytest.mark.parametrize("arguments", LOOKING)
@pytest.mark.parametrize("make", ["nothing", "empty", "text", "directory"])
def test_a_store_that_is_none_is_told_and_not_made(durable: Call, arguments: tuple[str, ...], make: str):
    """Looking leaves no file behind."""
    if make == "empty":
        Path("durable.db").touch()
    elif make == "text":
        Path("durable.db").write_text("important")
    elif make == "directory":
        Path("durable.db").mkdir()
    before = [(path.name, path.stat().st_size) for path in Path.cwd().iterdir()]
    looked = durable(*arguments)
    assert looked.code == 3
    assert looked.err.startswith("error: ")
    assert "durable.db" in looked.err
    assert "Traceback" not in looked.err
    assert [(path.name, path.stat().st_size) for path in Path.cwd().iterdir()] == before


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("command", ["show", "history"])
def test_a_name_that_nothing_has_is_told_with_similar_ones(durable: Call, command: str):
    """And with the command that lists them."""
    looked = durable(command, "godo")
    assert looked.code == 3
    assert looked.err == "error: no execution is named 'godo'; there is 'good'\ndurable ls lists those there are.\n"
    assert durable(command, "quite-another").err.startswith("error: no execution is named 'quite-another'\n")


@pytest.mark.parametrize("arguments", LOOKING)
def test_looking_works_while_an_engine_is_at_work(durable: Call, arguments: tuple[str, ...]):
    """Whatever has been committed is seen; the engine is not disturbed."""
    looked: list[Any] = []

    async def main() -> None:
        async with open_engine("durable.db") as engine:
            run = await engine.start(load_target(job("double")), 21, name="good")
            assert await run.result() == 42
            looked.append(await anyio.to_thread.run_sync(durable, *arguments))
            assert await (await engine.start(load_target(job("double")), 4, name="after")).result() == 8

    anyio.run(main)
    assert looked[0].code == 0
    assert "good" in looked[0].out
    assert "42" in looked[0].out


@pytest.mark.usefixtures("store")
def test_names_complete_newest_first():
    """What the shell offers; nothing, where there is no store."""
    assert names("durable.db", "") == ["unfinished", "bad", "good"]
    assert names("durable.db", "g") == ["good"]
    assert names("nowhere.db", "") == []

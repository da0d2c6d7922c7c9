"""`durable pause`, `resume` of what is paused, `delete`, and time limits: on a file, on an engine, on a server."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from durable.cli.reading import awaited_names
from durable.local.stores.file import engine_of
from tests.cli.helpers import ROOT, Call, job, leave_unfinished, said, start_process
from tests.cli.test_acting import STORE, callback_id, engine_at_work, leave
from tests.server.dev import Dev, served, until

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def status(durable: Call, name: str = "t-1") -> str:
    found: str = durable("show", name, "--json").document["status"]
    return found


def eventually(found: Callable[[], Any]) -> Any:
    """What is found, as soon as it is there."""
    end = time.monotonic() + 30
    while not (value := found()):
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.05)
    return value


# --- No engine has the store ---------------------------------------------------------------------------------


@backends
def test_an_execution_is_paused_and_gone_on_with_by_its_name(durable: Call, backend: str):
    """Nothing else takes it up; what was completed meanwhile is seen afterwards."""
    leave("asks")
    done = durable("pause", "t-1", "--reason", "lunch")
    assert (done.code, done.err) == (0, "")
    assert done.out == "✓ recorded  t-1: is paused\n  go on with  durable resume t-1\n"
    assert said(durable("ls").out, "t-1", "PAUSED")
    assert awaited_names(STORE, None, "answer") == [callback_id()]
    shown = durable("show", "t-1").out
    assert said(shown, "◷ paused since", ": lunch, no engine is at work on it", "go on with  durable resume t-1\n")
    pause = durable("show", "t-1", "--json").document["pause"]
    assert (pause["reason"], pause["holds_timeout"], bool(pause["since"])) == ("lunch", True, True)
    nothing = durable("resume", "--backend", backend)
    assert (nothing.code, nothing.out) == (0, "")
    assert nothing.err == "nothing to resume: every execution in durable.db is over or paused: t-1\n"
    again = durable("run", f"{ROOT}/tests/cli/acts.py:asks", "-n", "t-1")
    assert (again.code, again.err) == (
        3,
        "error: execution 't-1' is paused: durable resume t-1 goes on with it\n",
    )
    assert durable("callback", "succeed", callback_id(), "--result", "7", "--no-wait").code == 0
    assert status(durable) == "PAUSED"
    resumed = durable("resume", "t-1", "--backend", backend)
    assert resumed.code == 0
    assert said(
        resumed.out, "t-1: ", "goes on, begun", "is paused", "number succeeded", "is resumed", "✓ succeeded", "7"
    )
    assert said(durable("history", "t-1").out, "ExecutionPaused", "CallbackSucceeded", "ExecutionResumed")


def test_what_cannot_be_paused_or_resumed_is_told(durable: Call):
    """What is paused, what is over, and what is not there: exit code 3, and nothing changes."""
    leave("asks")
    assert durable("pause", "t-1", "--json").lines == [
        {
            "type": "recorded",
            "execution": "t-1",
            "what": "pause",
            "name": None,
            "callback_id": None,
            "engine": None,
        }
    ]
    twice = durable("pause", "t-1")
    assert (twice.code, twice.err) == (3, "error: execution 't-1' is PAUSED already\n")
    assert durable("stop", "t-1").code == 0
    over = durable("pause", "t-1")
    assert (over.code, over.err) == (
        3,
        "error: execution 't-1' is over, it is STOPPED: there is nothing to pause\n",
    )
    assert durable("pause", "t-2").code == 3
    assert durable("resume", "t-1").code == 1
    assert status(durable) == "STOPPED"


def test_executions_that_are_over_are_deleted(durable: Call):
    """All that are named or none of them; their names are free after that."""
    for name in ("a", "b"):
        assert durable("run", job("double"), "-i", "2", "-n", name).code == 0
    leave("asks")
    refused = durable("delete", "a", "t-1", "b")
    assert (refused.code, refused.out) == (3, "")
    assert said(refused.err, "'t-1' is not over, it is RUNNING: nothing is deleted. durable stop t-1 ends it.")
    assert len(durable("ls", "--json").lines) == 3
    done = durable("delete", "a", "b", "a")
    assert (done.code, done.err) == (0, "")
    assert done.out == "✓ recorded  a: is deleted\n✓ recorded  b: is deleted\n"
    assert [line["name"] for line in durable("ls", "--json").lines] == ["t-1"]
    assert durable("delete", "a").code == 3
    assert durable("run", job("double"), "-i", "3", "-n", "a", "--json").lines[-1]["result"] == 6
    (line,) = durable("delete", "a", "--json").lines
    assert (line["what"], line["execution"], line["engine"]) == ("delete", "a", None)


@backends
def test_an_execution_has_a_time_limit(durable: Call, backend: str):
    """It ends by it, also if nobody ran it when it was reached."""
    done = durable("run", job("waits"), "-i", "60", "-n", "t-1", "--timeout", "1", "--backend", backend)
    assert done.code == 1
    assert said(done.out, "timed out in 1", "Timeout: the execution took longer than its time limit of 1 s")
    assert said(durable("show", "t-1").out, ", may take 1.00 s")
    assert durable("run", job("waits"), "--timeout", "0.5").code == 2


# --- An engine has it ----------------------------------------------------------------------------------------


@backends
def test_an_engine_at_work_is_asked(durable: Call, backend: str):
    """To pause, to go on, and to delete: it carries it out."""
    with engine_at_work(backend, "asks") as ended:
        holder = engine_of(STORE)
        paused = durable("pause", "t-1")
        assert paused.out == "✓ recorded  t-1: is paused\n  go on with  durable resume t-1\n"
        assert said(durable("show", "t-1").out, f"an engine has the store ({holder})", "durable resume t-1")
        assert durable("callback", "succeed", callback_id(), "--result", "7").code == 0
        assert status(durable) == "PAUSED"
        refused = durable("delete", "t-1")
        assert refused.code == 3
        resumed = durable("resume", "t-1", "--reason", "back")
        assert (resumed.code, resumed.err) == (0, "")
        assert resumed.out == "✓ recorded  t-1: goes on\n  look with   durable show t-1\n"
        assert ended().result == "7"
        again = durable("resume", "t-1")
        assert again.code == 3
        assert durable("delete", "t-1", "--json").lines[0]["engine"] == holder
        assert durable("show", "t-1").code == 3
    assert durable("ls").out == ""


@backends
def test_a_step_that_is_under_way_goes_on_until_it_is_recorded(durable: Call, backend: str):
    """Until then the execution is pausing; it can be taken back."""
    with engine_at_work(backend, "hangs", 0) as ended:
        eventually(
            lambda: any(one["name"] == "_hang" for one in durable("show", "t-1", "--json").document["operations"])
        )
        paused = durable("pause", "t-1")
        assert said(paused.out, "t-1: is about to be paused, what is under way goes on until it records something")
        assert said(durable("show", "t-1").out, "◷ to be paused since")
        assert durable("resume", "t-1").code == 0
        assert status(durable) == "RUNNING"
        assert durable("pause", "t-1").code == 0
        assert durable("stop", "t-1").code == 0
        assert ended().status == "STOPPED"


# --- Processes -----------------------------------------------------------------------------------------------


@pytest.mark.process
@backends
def test_whoever_follows_it_tells_of_it_and_goes_on_waiting(durable: Call, backend: str, tmp_path: Path):
    """The process that runs it, and one that only looks on."""
    running = start_process("run", job("asks"), "-n", "t-1", "--backend", backend, cwd=tmp_path)
    eventually(lambda: Path(STORE).exists() and durable("show", "t-1").code == 0 and awaits(durable))
    waiting = start_process("wait", "t-1", cwd=tmp_path)
    assert waiting.stdout is not None
    assert "goes on" in waiting.stdout.readline()
    assert durable("pause", "t-1", "--reason", "lunch").code == 0
    eventually(lambda: status(durable) == "PAUSED")
    answer = durable("show", "t-1", "--json").document["awaits"][0]["callback_id"]
    assert durable("callback", "succeed", answer, "--result", "7").code == 0
    assert durable("resume", "t-1").code == 0
    for process in (running, waiting):
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert said(
            out, "is paused, until somebody resumes it: lunch", "succeeded", "is resumed", "✓ succeeded", "7"
        )


def awaits(durable: Call) -> bool:
    return bool(durable("show", "t-1", "--json").document["awaits"])


@pytest.mark.process
@pytest.mark.parametrize("when", ["paused", "pausing"])
def test_it_stays_paused_after_a_kill(durable: Call, tmp_path: Path, when: str):
    """Also if the pause had not taken effect: the next engine has it do so, and only its name takes it up."""
    function = "asks" if when == "paused" else "blocks"
    running = start_process("run", job(function), "-n", "t-1", cwd=tmp_path, env={"JOBS_BLOCK": "1"})
    wanted = "approval" if when == "paused" else "the long one"
    eventually(lambda: Path(STORE).exists() and durable("show", "t-1").code == 0 and has(durable, wanted))
    assert durable("pause", "t-1").code == 0
    eventually(lambda: status(durable) == when.upper())
    running.send_signal(signal.SIGKILL)
    running.communicate()
    nothing = durable("resume")
    assert (nothing.code, nothing.out) == (0, "")
    assert status(durable) == "PAUSED"
    if when == "pausing":
        resumed = durable("resume", "t-1")
        assert resumed.code == 0
        assert said(resumed.out, "is resumed", "the long one", "after", "✓ succeeded")


def has(durable: Call, name: str) -> bool:
    return any(one["name"] == name for one in durable("show", "t-1", "--json").document["operations"])


@pytest.mark.process
def test_a_limit_that_was_reached_while_nobody_ran_it(durable: Call):
    """Whoever resumes it finds it over."""
    leave_unfinished(("waits", 60, "t-0"), events=2)
    running = start_process("run", job("waits"), "-i", "60", "-n", "t-1", "--timeout", "1", cwd=Path.cwd())
    eventually(lambda: durable("show", "t-1").code == 0 and has(durable, "patience"))
    running.kill()
    running.communicate()
    time.sleep(1)  # the limit is of real time, and of a process that is gone
    resumed = durable("resume", "t-1")
    assert resumed.code == 1
    assert said(resumed.out, "timed out in", "Timeout: the execution took longer")


# --- A server -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Generator[Dev]:
    acts = str(ROOT / "tests/cli/acts.py")
    arguments = (acts, job("double"), job("waits"), "--no-reload", "--timeout", "300")
    with served(tmp_path_factory.mktemp("dev"), *arguments) as dev:
        yield dev


@pytest.mark.process
def test_a_server_is_asked(durable: Call, dev: Dev):
    """By the API's own operations, by name and by ARN; it has the time limit that it was started with."""
    where = ("--endpoint", dev.url)
    assert durable("start", "asks", "-n", "t-1", *where).code == 0
    which = ("--function", "asks", *where)
    until(lambda: durable("show", "t-1", "--json", *which).document["awaits"], dev)
    paused = durable("pause", "t-1", "--reason", "lunch", *which)
    assert (paused.code, paused.err) == (0, "")
    assert said(paused.out, "✓ recorded  t-1: is", "go on with  durable resume t-1", "--function asks")
    until(lambda: durable("show", "t-1", "--json", *which).document["status"] == "PAUSED", dev)
    shown = durable("show", "t-1", *which).out
    assert said(shown, "may take 5 min", "◷ paused since", ": lunch, ", "go on with  durable resume t-1")
    arn = durable("show", "t-1", "--json", *which).document["arn"]
    assert said(durable("pause", arn, *where).err, "is PAUSED already")
    assert [line["name"] for line in durable("ls", "--json", "--status", "PAUSED", *which).lines] == ["t-1"]
    refused = durable("delete", "t-1", *which)
    assert (refused.code, "durable stop t-1" in refused.err) == (3, True)
    assert durable("resume", *where).code == 2
    resumed = durable("resume", arn, *where)
    assert (resumed.code, resumed.err) == (0, "")
    answer = durable("show", arn, "--json", *where).document["awaits"][0]["callback_id"]
    assert durable("callback", "succeed", answer, "--result", "7", *where).code == 0
    assert durable("wait", arn, *where).code == 0
    assert durable("resume", arn, *where).code == 3
    deleted = durable("delete", arn, "--json", *where)
    assert (deleted.code, deleted.lines[0]["engine"]) == (0, dev.url)
    assert durable("show", "t-1", *which).code == 3


@pytest.mark.process
def test_a_server_that_is_killed_leaves_it_paused(durable: Call, tmp_path: Path):
    """The next one takes up what runs and leaves alone what is paused, until it is asked."""
    acts = str(ROOT / "tests/cli/acts.py")
    first = Dev(tmp_path, acts, "--no-reload")
    which = ("--function", "asks", "--endpoint", first.url)
    for name in ("t-1", "t-2"):
        assert durable("start", "asks", "-n", name, "--endpoint", first.url).code == 0
        show = partial(durable, "show", name, "--json", *which)
        until(lambda show=show: show().document["awaits"], first)  # type: ignore[misc]
    assert durable("pause", "t-1", *which).code == 0
    until(lambda: durable("show", "t-1", "--json", *which).document["status"] == "PAUSED", first)
    first.kill()
    with served(tmp_path, acts, "--no-reload") as second:
        which = ("--function", "asks", "--endpoint", second.url)
        for name in ("t-1", "t-2"):
            answer = durable("show", name, "--json", *which).document["awaits"][0]["callback_id"]
            assert durable("callback", "succeed", answer, "--result", "7", "--endpoint", second.url).code == 0
        assert durable("wait", "t-2", *which).code == 0
        assert durable("show", "t-1", "--json", *which).document["status"] == "PAUSED"
        assert durable("resume", "t-1", *which).code == 0
        assert durable("wait", "t-1", *which).code == 0

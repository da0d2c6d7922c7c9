"""`durable resume`: all that is not over, or one; and an exit code that says how they ended."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.helpers import JOBS, Call, job, leave_unfinished, said

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture
def blocking(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The job that can hang does so, until JOBS_BLOCK is taken away."""
    monkeypatch.setenv("JOBS_BLOCK", "1")
    return monkeypatch


@backends
def test_all_that_is_not_over_goes_on(durable: Call, backend: str, blocking: pytest.MonkeyPatch):
    """Each is followed to its end, each line says of which it speaks, what is over is left alone."""
    durable("run", job("double"), "-i", "1", "-n", "over")
    leave_unfinished(("blocks", None, "one"), ("blocks", None, "two"), events=4)
    blocking.delenv("JOBS_BLOCK")
    resumed = durable("resume", "--backend", backend)
    assert (resumed.code, resumed.err) == (0, "")
    assert said(resumed.out, "one: ", "goes on, begun ", "two: ", "goes on, begun ")
    for name in ("one", "two"):
        assert said(
            resumed.out, f"  {name}  the long one was interrupted, runs again", f"  {name}  after succeeded"
        )
        assert f"✓ {name} succeeded in " in resumed.out
    assert "over" not in resumed.out


@backends
def test_one_goes_on_by_name(durable: Call, backend: str, blocking: pytest.MonkeyPatch):
    """The others stay as they are."""
    leave_unfinished(("blocks", None, "one"), ("blocks", None, "two"), events=4)
    blocking.delenv("JOBS_BLOCK")
    resumed = durable("resume", "two", "--backend", backend)
    assert resumed.code == 0
    assert "one:" not in resumed.out
    assert [line["name"] for line in durable("ls", "--json", "--status", "running").lines] == ["one"]


def test_one_that_is_over_shows_its_outcome(durable: Call):
    """Nothing runs; the exit code is the outcome's."""
    durable("run", job("doomed"), "-i", '"too bad"', "-n", "t-1")
    resumed = durable("resume", "t-1")
    assert resumed.code == 1
    assert said(
        resumed.out, "t-1: ", "was over at ", "nothing was run", "because     ValueError: too bad", "NOT undone"
    )


def test_nothing_to_resume(durable: Call):
    """That is no failure."""
    durable("run", job("double"), "-i", "1")
    resumed = durable("resume")
    assert (resumed.code, resumed.out) == (0, "")
    assert resumed.err == "nothing to resume: every execution in durable.db is over\n"


def test_a_name_that_nothing_has(durable: Call):
    """Told like everywhere else."""
    durable("run", job("double"), "-i", "1", "-n", "t-1")
    resumed = durable("resume", "t-2")
    assert resumed.code == 3
    assert resumed.err == "error: no execution is named 't-2'; there is 't-1'\ndurable ls lists those there are.\n"


def test_a_store_that_is_not_there_is_not_made(durable: Call):
    """A typing mistake makes no empty store."""
    resumed = durable("resume", "--store", "nowhere.db")
    assert resumed.code == 3
    assert resumed.err.startswith(
        "error: there is no store at nowhere.db: nothing was ever started there\n--store or "
    )
    assert list(Path.cwd().iterdir()) == []


def test_the_worst_one_counts(durable: Call, blocking: pytest.MonkeyPatch):
    """A function that cannot be loaded does not stop the others, and its execution stays as it is."""
    shutil.copy(JOBS, "gone.py")
    leave_unfinished(("blocks", None, "ends"), events=4)
    leave_unfinished(("blocks", None, "stays"), events=4, target="gone.py:blocks")
    leave_unfinished(("fails_later", "no", "fails"), events=4)
    Path("gone.py").unlink()
    blocking.delenv("JOBS_BLOCK")
    resumed = durable("resume")
    assert resumed.code == 4
    assert "✓ ends succeeded in" in resumed.out
    assert "✗ fails failed in" in resumed.out
    assert said(resumed.out, "cannot go on", "stays as it is", "because     cannot load", "there is no file")
    assert durable("resume", "ends").code == 0
    assert durable("resume", "fails").code == 1


def test_json_lines_say_of_which_execution_they_are(durable: Call, blocking: pytest.MonkeyPatch):
    """Those of several may be mixed."""
    leave_unfinished(("blocks", None, "one"), ("blocks", None, "two"), events=4)
    blocking.delenv("JOBS_BLOCK")
    resumed = durable("resume", "--json")
    assert resumed.code == 0
    for name in ("one", "two"):
        mine = [line for line in resumed.lines if line["execution"] == name]
        assert [line["type"] for line in (mine[0], mine[-1])] == ["execution", "outcome"]
        assert [line["event"]["EventId"] for line in mine[1:-1]] == list(range(1, len(mine) - 1))
        assert (mine[0]["existed"], mine[-1]["result"]) == (True, "went on")


@backends
def test_a_rollback_half_done_is_finished(durable: Call, backend: str, blocking: pytest.MonkeyPatch):
    """What was undone before is told as undone, what was being undone begins again."""
    leave_unfinished(("half_undone", None, "t-1"), events=12)
    shown = durable("show", "t-1")
    assert said(shown.out, "first", "to be undone", "second", "being undone", "third", "undone", "rolls back: ")
    blocking.delenv("JOBS_BLOCK")
    resumed = durable("resume", "--backend", backend)
    assert resumed.code == 1
    assert said(
        resumed.out, "order rolls back third, second, first", "undo third succeeded", "undo second started",
        "undo second was interrupted, runs again", "undo second succeeded", "undo first succeeded",
        "undone      third, second, first",
    )  # fmt: skip
    assert resumed.out.count("undo third") == 2

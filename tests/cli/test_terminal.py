"""On a real pseudo-terminal: the live view, and what Ctrl-C does."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.cli.helpers import ROOT, Call, job, leave_unfinished, start_process

pytestmark = pytest.mark.process

TRIP = f"{ROOT / 'examples' / 'trip.py'}:book_trip"
INPUT = json.loads((ROOT / "examples" / "trip.json").read_text())
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def on_terminal(*arguments: str, width: int = 100, env: dict[str, str] | None = None) -> Any:
    """The command line on a terminal."""
    return pexpect.spawn(
        sys.executable,
        ["-m", "durable", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **(env or {})},
        dimensions=(30, width),
        encoding="utf-8",
        timeout=30,
    )


def ended(child: Any) -> tuple[str, int]:
    """What was printed until its end, and its exit code."""
    child.expect(pexpect.EOF)
    child.close()
    return child.before, child.exitstatus


def visible(text: str) -> list[str]:
    """The lines that stay: without escapes, without what was written over."""
    lines = [ESCAPES.sub("", line.rsplit("\r", 1)[-1]).rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    return [line for line in lines if line]


@backends
def test_the_live_view_shows_each_step_and_the_outcome(backend: str):
    """A spinner while something runs, a line when it is over, the rollback, the verdict; in colour."""
    payload = json.dumps({**INPUT, "pace": 0.3, "cooling_off": 1, "card": "declined"})
    child = on_terminal("run", TRIP, "-i", payload, "-n", "t-1", "--backend", backend)
    child.expect("book_trip")
    child.expect("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏].{1,20}reserve_hotel")
    child.expect("✓.{1,20}reserve_hotel")
    child.expect("until .{1,40} left")
    child.expect("◷.{1,20}cooling-off")
    child.expect(r"✗.{1,20}charge_card[^\n]*CardDeclinedError")
    child.expect("rolls back: ")
    for name in ("rent_car", "reserve_flight", "reserve_hotel"):
        child.expect(rf"↶.{{1,20}}{name}[^\n]*undone")
    text, code = ended(child)
    assert code == 1
    assert "\x1b[1;31m✗" in text
    assert visible(text)[-4:] == [
        visible(text)[-4],
        "  error       CardDeclinedError: card 'declined' was declined for 585.00",
        visible(text)[-2],
        "  undone      rent_car, reserve_flight, reserve_hotel",
    ]
    assert "✗ failed in" in visible(text)[-4]
    assert "\x1b[?25h" in text


def test_no_colour_when_asked_for_none():
    """NO_COLOR is obeyed; the live view moves all the same."""
    child = on_terminal("run", job("double"), "-i", "1", env={"NO_COLOR": "1"})
    text, code = ended(child)
    assert code == 0
    assert re.search(r"\x1b\[[0-9;]*3[0-7]", text) is None
    assert "✓ succeeded in" in ESCAPES.sub("", text)


def test_a_simple_terminal_gets_plain_lines():
    """TERM=dumb cannot move a cursor."""
    child = on_terminal("run", job("double"), "-i", "1", "-n", "t-1", env={"TERM": "dumb"})
    text, code = ended(child)
    assert code == 0
    assert "\x1b" not in text
    assert re.search(r"add succeeded in \d+\.\d\d s: 2", text) is not None


def test_no_line_is_wider_than_the_terminal(durable: Call):
    """60 columns: lines are cut, not wrapped."""
    payload = json.dumps({**INPUT, "pace": 0.0, "cooling_off": 0, "card": "declined"})
    child = on_terminal("run", TRIP, "-i", payload, "-n", "t-1", width=60)
    text, _ = ended(child)
    assert max(len(line) for line in visible(text)) <= 60
    for command in (("show", "t-1"), ("ls",), ("history", "t-1")):
        text, code = ended(on_terminal(*command, width=60))
        assert code == 0
        assert max(len(line) for line in visible(text)) <= 60


def test_ls_on_a_terminal_says_what_is_not_over(durable: Call):
    """And what goes on with it."""
    leave_unfinished(("waits", 3600, "t-1"), events=2)
    text, _ = ended(on_terminal("ls"))
    assert visible(text)[-1] == "1 execution not over; if no engine is at work: durable resume"


@backends
def test_ctrl_c_closes_the_engine_and_says_how_to_go_on(backend: str, durable: Call):
    """The execution stays as it is; 130, as shells have it."""
    child = on_terminal("run", job("waits"), "-i", "3600", "-n", "t-1", "--backend", backend, "--store", "other.db")
    child.expect(r"patience[^\n]*left")
    child.sendintr()
    text, code = ended(child)
    assert code == 130
    assert visible(text)[-2:] == [
        "◷ stopped  t-1 stays as it is",
        "  go on with  durable resume t-1 --store other.db",
    ]
    assert durable("ls", "--json", "--store", "other.db").lines[0]["status"] == "RUNNING"


@backends
def test_a_second_ctrl_c_does_not_wait_for_a_thread(backend: str, durable: Call):
    """A thread of the user's cannot be stopped; the terminal is given back all the same."""
    child = on_terminal("run", job("thread"), "-n", "t-1", "--backend", backend)
    child.expect("sleep_in_a_thread")
    child.sendintr()
    child.expect("a thread is still at work")
    child.sendintr()
    text, code = ended(child)
    assert code == 130
    assert "durable resume t-1" in text
    assert "\x1b[?25h" in text
    assert durable("ls", "--json").lines[0]["status"] == "RUNNING"


@backends
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_signals_without_a_terminal(number: signal.Signals, code: int, backend: str, durable: Call, tmp_path: Path):
    """The same for whoever sends them: the execution stays as it is, the message says how to go on."""
    process = start_process("run", job("waits"), "-i", "3600", "-n", "t-1", "--backend", backend, cwd=tmp_path)
    assert process.stdout is not None
    assert "started" in process.stdout.readline()
    assert "patience waits until" in process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, "")
    assert out == "◷ stopped  t-1 stays as it is\n  go on with  durable resume t-1\n"
    assert durable("ls", "--json").lines[0]["status"] == "RUNNING"


def test_json_lines_end_with_an_outcome_also_when_interrupted(tmp_path: Path):
    """A machine is told as well."""
    process = start_process("run", job("waits"), "-i", "3600", "-n", "t-1", "--json", cwd=tmp_path)
    assert process.stdout is not None
    while "WaitStarted" not in process.stdout.readline():
        pass
    process.terminate()
    out, _ = process.communicate(timeout=30)
    last = json.loads(out.splitlines()[-1])
    assert (last["type"], last["status"], last["exit_code"]) == ("outcome", "RUNNING", 143)
    assert last["error"]["type"] == "durable.exceptions.EngineClosedError"

"""`durable run`: every way to start, every way to be refused, and what is said and answered."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from durable._wire.codec import HISTORY_RESPONSE
from durable.local import open_engine
from tests.cli.helpers import JOBS, ROOT, Call, job, leave_unfinished, names, said, start_process

TRIP = f"{ROOT / 'examples' / 'trip.py'}:book_trip"
INPUT: dict[str, Any] = {
    **json.loads((ROOT / "examples" / "trip.json").read_text()),
    "pace": 0.0,
    "cooling_off": 0,
}

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def trip(**changes: Any) -> str:
    return json.dumps({**INPUT, **changes})


def ledger() -> list[str]:
    import ledger

    return [f"{entry.action} {entry.what}" for entry in ledger.entries()]


# --- How it ends ---------------------------------------------------------------------------------------------


@backends
def test_success_is_told_step_by_step_and_answered_with_0(durable: Call, backend: str):
    """Steps in order, the result pretty printed, exit code 0."""
    run = durable("run", TRIP, "--input", trip(), "--name", "t-1", "--backend", backend)
    assert (run.code, run.err) == (0, "")
    assert said(
        run.out, "t-1: ", "book_trip started", "reserve_hotel started", "reserve_hotel succeeded in ",
        "reserve_flight", "rent_car", "charge_card succeeded", "send_tickets", "✓ succeeded in ",
        '{\n  "traveller": "Ada",\n  "references": [\n',
    )  # fmt: skip
    assert ledger() == ["book hotel", "book flight", "book car", "charge card"]


@backends
def test_failure_says_what_was_undone_and_is_answered_with_1(durable: Call, backend: str):
    """The error, where it was raised, and the compensations in order."""
    run = durable("run", TRIP, "-i", trip(card="declined"), "-n", "t-1", "--backend", backend)
    assert (run.code, run.err) == (1, "")
    assert said(
        run.out, "charge_card FAILED in ", "CardDeclinedError: card 'declined' was declined for 585.00",
        "trip rolls back rent_car, reserve_flight, reserve_hotel: CardDeclinedError",
        "undo rent_car started", "undo rent_car succeeded in ", "undo reserve_flight", "undo reserve_hotel",
        "trip rolled back in ", "✗ failed in ", "error       CardDeclinedError: card", "trip.py:", "in charge_card",
        "undone      rent_car, reserve_flight, reserve_hotel",
    )  # fmt: skip
    assert ledger()[3:] == ["decline card", "cancel car", "cancel flight", "cancel hotel"]


def test_what_could_not_be_undone_is_told_with_its_reason(durable: Call):
    """The compensation's own error beside its name, and what began it all."""
    run = durable("run", job("doomed"), "-i", '"too bad"')
    assert run.code == 1
    assert said(
        run.out, "undo third succeeded", "undo second FAILED in ", ": RuntimeError: 4 cannot be undone",
        "undo first",
        "error       CompensationError: saga 'order' could not undo second",
        "because     ValueError: too bad", "undone      third, first",
        "NOT undone  second  RuntimeError: 4 cannot be undone",
    )  # fmt: skip


def test_what_was_not_attempted_is_told_as_not_undone(durable: Call):
    """Under `on_error="stop"` the rest is left, and nobody is to believe otherwise."""
    run = durable("run", job("stops"), "-i", '"too bad"')
    assert run.code == 1
    assert said(
        run.out, "order did not attempt to undo first", "NOT undone  second", "NOT undone  first (not attempted)"
    )


def test_a_result_of_null_is_not_shown(durable: Call):
    """A function that returns nothing has nothing to print."""
    run = durable("run", job("nothing"))
    assert run.code == 0
    assert run.out.rstrip().splitlines()[-1].startswith("✓ succeeded in ")


def test_retries_are_told_with_their_time(durable: Call):
    """An attempt that failed says when the next one follows."""
    run = durable("run", job("retries"))
    assert run.code == 1
    assert said(run.out, "fail started", "fail failed, attempt 1, again at ", "ValueError: no luck",
                "fail started (attempt 2)", "fail FAILED in ", "(attempt 2): ValueError: no luck")  # fmt: skip


# --- Where input comes from ----------------------------------------------------------------------------------


def test_input_comes_from_a_file(durable: Call):
    """`@FILE`, as curl has it."""
    Path("input.json").write_text("21")
    assert durable("run", job("double"), "-i", "@input.json").out.endswith("\n42\n")


def test_input_comes_from_standard_input(durable: Call):
    """`-`, and a byte order mark does no harm."""
    assert durable("run", job("double"), "-i", "-", stdin=b"\xef\xbb\xbf 21 ").out.endswith("\n42\n")


def test_input_is_decoded_by_the_annotation(durable: Call):
    """A date is a date."""
    assert durable("run", job("birthday"), "-i", '"1815-12-10"').out.endswith('\n"2030-12-10"\n')


@pytest.mark.parametrize(
    ("text", "stdin", "message"),
    [
        ("{nope", None, "--input is not JSON: "),
        ("", None, "--input is not JSON: "),
        ("[" * 100_000, None, "--input is not JSON: "),
        ("@nowhere.json", None, "the input 'nowhere.json' cannot be read: No such file or directory"),
        ("@.", None, "the input '.' cannot be read: Is a directory"),
        ("@\0", None, "cannot be read: embedded null byte"),
        ("-", b"\xff\xfe", "standard input is not UTF-8 text: invalid start byte at byte 0"),
        ("-", b"", "standard input is not JSON: "),
        ("@bad.json", None, "bad.json is not JSON: "),
        ("bad.json", None, "(a file is given as --input @FILE)"),
        ('"no number"', None, "the input of double does not fit its annotation int: Expected `int`, got `str`"),
        ("null", None, "the input of double does not fit its annotation int: Expected `int`, got `null`"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(durable: Call, text: str, stdin: Any, message: str):
    """One clear line, exit code 3, and no store."""
    Path("bad.json").write_text("{]")
    run = durable("run", job("double"), "--input", text, stdin=stdin)
    assert run.code == 3
    assert run.out == ""
    assert run.err.startswith("error: ")
    assert message in run.err
    assert "Traceback" not in run.err
    assert not Path("durable.db").exists()


# --- Which function ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nonsense", "cannot load 'nonsense': it has the form MODULE:FUNCTION or FILE.py:FUNCTION"),
        ("nowhere.py:f", "there is no file "),
        ("no_such_module:f", "there is no module no_such_module"),
        ("raises.py:f", "importing raises.py raised ZeroDivisionError: division by zero\n--debug shows where."),
        (f"{JOBS}:missing", "has no missing; its durable functions are: double, nothing"),
        (f"{JOBS}:not_durable", "is not a durable function: it is an int"),
        (f"{JOBS}:add", "is not a durable function: it is a function"),
    ],
)
def test_a_bad_target_is_refused_before_anything_is_made(durable: Call, target: str, message: str):
    """What is wrong with it, exit code 3, and no store."""
    Path("raises.py").write_text("1 / 0\n")
    run = durable("run", target)
    assert run.code == 3
    assert run.err.startswith("error: ")
    assert message in run.err
    assert "Traceback" not in run.err
    assert not Path("durable.db").exists()


def test_debug_shows_the_traceback(durable: Call):
    """And the message after it, as ever."""
    Path("raises.py").write_text("1 / 0\n")
    run = durable("run", "raises.py:f", "--debug")
    assert run.code == 3
    assert said(run.err, "Traceback", "raises.py", "ZeroDivisionError", "error: cannot load")


def test_a_module_is_found_from_the_current_directory(durable: Call):
    """As `python -m` has it."""
    Path("shop_of_test_run.py").write_text(
        "from durable import durable_execution\n@durable_execution\nasync def sell(event, ctx):\n    return event\n"
    )
    assert durable("run", "shop_of_test_run:sell", "-i", "7").out.endswith("\n7\n")


# --- Names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "n" * 65, "two words", "a/b", "ä", "\x1b[31m"])
def test_a_name_that_is_none_is_refused(durable: Call, name: str):
    """0 or 65 characters, or odd ones: the rule is told, and the terminal is not painted red."""
    run = durable("run", job("double"), "-i", "1", "--name", name)
    assert run.code == 3
    assert "for an execution: 1 to 64 characters of [a-zA-Z0-9_-]" in run.err
    assert "\x1b" not in run.err
    assert durable("ls").out == ""


@backends
def test_the_same_name_and_input_finds_the_execution_and_runs_nothing(durable: Call, backend: str):
    """The outcome is shown again; nothing is booked a second time."""
    arguments = ("run", TRIP, "-i", trip(card="declined"), "-n", "t-1", "--backend", backend)
    durable(*arguments)
    before = ledger()
    again = durable(*arguments)
    assert again.code == 1
    assert said(again.out, "t-1: ", "was over at ", "nothing was run", "error       CardDeclinedError", "undone")
    assert "started" not in again.out
    assert ledger() == before


def test_the_same_name_with_another_input_is_refused(durable: Call):
    """A name stands for one execution forever."""
    durable("run", job("double"), "-i", "1", "-n", "t-1")
    run = durable("run", job("double"), "-i", "2", "-n", "t-1")
    assert run.code == 3
    assert "an execution named 't-1' exists with another input" in run.err
    assert durable("run", job("birthday"), "-i", '"1815-12-10"', "-n", "t-1").code == 3


@backends
def test_the_same_command_goes_on_after_a_crash(durable: Call, backend: str, monkeypatch: pytest.MonkeyPatch):
    """What was done is told as done, what was interrupted runs again."""
    monkeypatch.setenv("JOBS_BLOCK", "1")
    leave_unfinished(("blocks", None, "t-1"), events=4)
    monkeypatch.delenv("JOBS_BLOCK")
    run = durable("run", job("blocks"), "-n", "t-1", "--backend", backend)
    assert run.code == 0
    assert said(
        run.out, "t-1: ", "goes on, begun ", "before succeeded", "the long one started",
        "the long one was interrupted, runs again", "the long one succeeded", "after succeeded", '"went on"',
    )  # fmt: skip
    assert run.out.count("before started") == 1


# --- The store -----------------------------------------------------------------------------------------------


def test_the_store_comes_from_the_environment(durable: Call, monkeypatch: pytest.MonkeyPatch):
    """`DURABLE_STORE` says where, `--store` says it louder."""
    monkeypatch.setenv("DURABLE_STORE", "env.db")
    durable("run", job("double"), "-i", "1")
    durable("run", job("double"), "-i", "1", "--store", "option.db")
    assert Path("env.db").exists()
    assert Path("option.db").exists()
    assert not Path("durable.db").exists()


def test_a_store_in_use_is_refused(durable: Call):
    """Who has it, and what to do."""

    async def main() -> None:
        async with open_engine("durable.db"):
            run = await anyio.to_thread.run_sync(lambda: start("run", job("double"), "-i", "1"))
            assert run[0] == 3
            assert f"durable.db is in use by another engine (process {os.getpid()}" in run[2]

    anyio.run(main)


def start(*arguments: str) -> tuple[int, str, str]:
    process = start_process(*arguments, cwd=Path.cwd())
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".", ". is a directory: a store is a file"),
        ("nowhere/durable.db", "cannot be created: there is no directory"),
        ("text.db", "text.db has a file that is not an SQLite database"),
    ],
)
def test_a_store_that_is_none_is_refused(durable: Call, path: str, message: str):
    """Nothing in it is touched."""
    Path("text.db").write_text("important " * 20)
    run = durable("run", job("double"), "-i", "1", "--store", path)
    assert run.code == 3
    assert message in run.err
    assert "Traceback" not in run.err
    assert Path("text.db").read_text() == "important " * 20


# --- Usage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [("run",), ("run", "a:b", "c"), ("run", "a:b", "--nope"), ("run", "a:b", "--backend", "curio"), ("nope",)],
)
def test_a_wrong_command_line_is_answered_with_2(durable: Call, arguments: tuple[str, ...]):
    """Usage goes to standard error."""
    run = durable(*arguments)
    assert run.code == 2
    assert "Usage: durable" in run.err


def test_an_event_loop_that_is_not_installed(durable: Call, monkeypatch: pytest.MonkeyPatch):
    """The command that installs it."""
    monkeypatch.setitem(sys.modules, "trio", None)
    run = durable("run", job("double"), "-i", "1", "--backend", "trio")
    assert (run.code, run.err) == (3, "error: trio is not installed: pip install 'durable[trio]'\n")


# --- Code that does what it should not -----------------------------------------------------------------------


@backends
def test_code_that_left_its_history_is_answered_with_4(
    durable: Call, backend: str, monkeypatch: pytest.MonkeyPatch
):
    """The execution stays as it is; the message names both sides and how to go on."""
    monkeypatch.setenv("JOBS_BLOCK", "1")
    leave_unfinished(("changed", None, "t-1"), events=4)
    monkeypatch.setenv("JOBS_CHANGED", "1")
    run = durable("run", job("changed"), "-n", "t-1", "--backend", backend)
    assert run.code == 4
    assert said(run.out, "cannot go on", "t-1 stays as it is", "because", "Step 'old'", "Step 'new'",
                "go on with  durable resume t-1")  # fmt: skip
    monkeypatch.delenv("JOBS_CHANGED")
    monkeypatch.delenv("JOBS_BLOCK")
    assert durable("run", job("changed"), "-n", "t-1", "--backend", backend).code == 0


@backends
def test_code_that_calls_for_the_end_of_the_process(durable: Call, backend: str, monkeypatch: pytest.MonkeyPatch):
    """`sys.exit(0)` in a workflow is no success: the execution stays as it is."""
    run = durable("run", job("leaves"), "-n", "t-1", "--backend", backend)
    assert run.code == 4
    assert "called for the end of the process (SystemExit(0)): what was not over stays as it is" in run.err
    assert "Traceback" not in run.err
    monkeypatch.setenv("JOBS_STAY", "1")
    assert durable("resume", "t-1", "--backend", backend).code == 0


def test_a_mistake_of_ours_has_a_traceback_and_is_no_failure_of_the_execution(
    durable: Call, monkeypatch: pytest.MonkeyPatch
):
    """Exit code 1 would say that the execution failed."""

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("durable.cli.follow.run_session", broken)
    run = durable("run", job("double"), "-i", "1")
    assert run.code == 3
    assert said(run.err, "Traceback", "error: ZeroDivisionError: ours")


def test_ctrl_c_while_a_module_is_imported(durable: Call):
    """Before anything has begun there is nothing to resume, and no traceback to read."""
    Path("slow_import.py").write_text("raise KeyboardInterrupt\n")
    run = durable("run", "slow_import.py:f")
    assert (run.code, run.err) == (130, "error: interrupted\n")


# --- For machines --------------------------------------------------------------------------------------------


@backends
def test_json_lines_of_a_success(durable: Call, backend: str):
    """The execution, its events as the service has them, the outcome."""
    run = durable("run", job("double"), "-i", "21", "-n", "t-1", "--json", "--backend", backend)
    assert (run.code, run.err) == (0, "")
    first, *events, last = run.lines
    assert first == {
        "type": "execution", "execution": "t-1", "id": first["id"], "arn": first["arn"], "function": job("double"),
        "status": "RUNNING", "existed": False, "started": first["started"],
    }  # fmt: skip
    assert first["arn"].endswith(f"/durable-execution/t-1/{first['id']}")
    assert {event["type"] for event in events} == {"event"}
    history = HISTORY_RESPONSE.decode(json.dumps({"Events": [event["event"] for event in events]}))
    assert [event.event_id for event in history.events] == list(range(1, len(events) + 1))
    assert [event.event_type for event in history.events] == [
        "ExecutionStarted", "StepStarted", "StepSucceeded", "InvocationCompleted", "ExecutionSucceeded"
    ]  # fmt: skip
    assert last == {
        "type": "outcome", "execution": "t-1", "status": "SUCCEEDED", "ended": last["ended"],
        "seconds": last["seconds"], "result": 42, "error": None, "rollbacks": [], "exit_code": 0,
    }  # fmt: skip
    assert 0 <= last["seconds"] < 60


def test_json_lines_of_a_rollback(durable: Call):
    """What was undone, what was not and why; the error with its type, message, data and stack."""
    run = durable("run", job("doomed"), "-i", '"too bad"', "--json")
    assert run.code == 1
    outcome = run.lines[-1]
    assert (outcome["status"], outcome["result"], outcome["exit_code"]) == ("FAILED", None, 1)
    assert outcome["error"]["type"] == "durable.exceptions.CompensationError"
    (rollback,) = outcome["rollbacks"]
    assert (rollback["saga"], rollback["undone"], rollback["not_attempted"]) == ("order", ["third", "first"], [])
    assert (rollback["reason"]["type"], rollback["reason"]["message"]) == ("ValueError", "too bad")
    assert "in fail" in rollback["reason"]["stack_trace"][-1]
    ((name, message),) = [(one["name"], one["error"]["message"]) for one in rollback["failed"]]
    assert (name, message) == ("second", "4 cannot be undone")
    assert names(run.lines, "ContextFailed") == ["second", "order"]


def test_json_lines_of_one_that_cannot_go_on(durable: Call, monkeypatch: pytest.MonkeyPatch):
    """It is RUNNING still, and the error says why it does not run here."""
    monkeypatch.setenv("JOBS_BLOCK", "1")
    leave_unfinished(("changed", None, "t-1"), events=4)
    monkeypatch.setenv("JOBS_CHANGED", "1")
    run = durable("run", job("changed"), "-n", "t-1", "--json")
    first, last = run.lines[0], run.lines[-1]
    assert first["existed"] is True
    assert (last["status"], last["ended"], last["exit_code"], run.code) == ("RUNNING", None, 4, 4)
    assert last["error"]["type"] == "durable.exceptions.NonDeterminismError"


def test_json_lines_of_one_that_is_over_have_its_whole_history(durable: Call):
    """Whoever reads them need not have been there."""
    one = durable("run", job("double"), "-i", "21", "-n", "t-1", "--json").lines
    two = durable("run", job("double"), "-i", "21", "-n", "t-1", "--json").lines
    assert one[1:] == two[1:]
    assert (one[0]["existed"], two[0]["existed"], two[0]["status"]) == (False, True, "SUCCEEDED")


def test_what_users_print_does_not_come_between_json_lines(durable: Call):
    """Neither from a function nor from a module: it goes to standard error."""
    Path("noisy.py").write_text(f"{JOBS.read_text()}\nprint('imported')\n")
    run = durable("run", "noisy.py:talks", "--json")
    assert run.code == 0
    assert run.lines[0]["type"] == "execution"
    assert "imported\n" in run.err
    assert "printed by the function\n" in run.err


# --- Logging -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "seen", "unseen"),
    [
        ((), ["a library's warning", "the workflow's info"], ["a library's info", "the workflow's debug"]),
        (("-v",), ["a library's info", "the workflow's debug"], ["asyncio: Using selector"]),
        (("-vv",), ["a library's info", "the workflow's debug", "asyncio: Using selector"], []),
        (("--verbose", "--verbose", "-v"), ["asyncio: Using selector"], []),
    ],
)
def test_logging_goes_to_standard_error(
    durable: Call, options: tuple[str, ...], seen: list[str], unseen: list[str]
):
    """The workflow's own from INFO, others' from WARNING; more with -v; nothing that a terminal obeys."""
    run = durable("run", job("talks"), "-n", "t-1", *options)
    assert run.code == 0
    assert [text for text in seen if text not in run.err] == []
    assert [text for text in unseen if text in run.err] == []
    assert "t-1: the workflow's info\n\\x1b[31min two lines\n" in run.err
    assert "the workflow" not in run.out
    assert logging.getLogger().handlers == [
        handler for handler in logging.getLogger().handlers if "durable" not in type(handler).__module__
    ]


# --- Output that nobody reads --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("lines", [0, 1, 2])
def test_output_that_nobody_reads_any_more(durable: Call, tmp_path: Path, lines: int, options: tuple[str, ...]):
    """As under `| head`: no complaint, and the execution can be resumed."""
    process = start_process("run", job("waits"), "-i", "1", "-n", "t-1", *options, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in range(lines):
        assert process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), err) == (141, "")
    assert durable("resume", "t-1").code == 0

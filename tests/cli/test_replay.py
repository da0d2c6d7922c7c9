"""`durable replay`: what it says of each file, to people and machines, and its exit codes."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pexpect
import pytest

from durable.cli.exits import ExitCode
from tests.cli.helpers import ROOT, Call, said, start_process

APP = """
import sys
from durable import DurableContext, durable_execution

async def first(event: str) -> str:
    print("first is called", file=sys.stderr)
    return event.upper()

async def second(event: str) -> str:
    return event * 2

@durable_execution
async def work(event: str, ctx: DurableContext) -> str:
    print("work is at it")
    found = await ctx.step(first, event)
    answer = await ctx.create_callback(str, name="answer")
    said = await answer.result()
    ctx.logger.info("answered")
    return await ctx.step(second, found + said, name="SECOND") + str(ctx.uuid4())

@durable_execution
async def sleeps(event: str, ctx: DurableContext) -> str:
    import anyio
    print("sleeps", file=sys.stderr, flush=True)
    await anyio.sleep_forever()
    return ""
"""


@pytest.fixture
def files(durable: Call) -> list[str]:
    """The history of an execution that waits, and the same when it was over."""
    Path("app.py").write_text(APP.replace("SECOND", "second"))
    with start_process("run", "app.py:work", "-i", '"ab"', "-n", "a", cwd=Path.cwd()) as process:
        assert process.stdout is not None
        while "waits for an answer" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
    Path("waits.json").write_text(durable("history", "a", "--json").out)
    (awaited,) = durable("show", "a", "--json").document["awaits"]
    durable("callback", "succeed", awaited["callback_id"], "--result", '"!"')
    Path("over.json").write_text(durable("history", "a", "--json").out)
    sys.modules.pop("app", None)
    return ["waits.json", "over.json"]


def change(name: str) -> str:
    """The same function, with another name for its second step."""
    path = Path(f"{name}.py")
    path.write_text(APP.replace("SECOND", name))
    return f"{path}:work"


def test_code_that_follows(durable: Call, files: list[str]):
    """Exit code 0, a line for each file; no step is called, and nothing is logged."""
    outcome = durable("replay", "app.py:work", *files)
    assert outcome.code == ExitCode.SUCCEEDED
    assert said(
        outcome.out,
        "✓ waits.json  follows 2 operations, then waits for Callback 'answer'",
        '✓ over.json  follows 3 operations, then succeeds with "AB!AB!',
        "2 histories: 2 followed",
    )
    assert outcome.err == ""
    assert durable("replay", "app.py:work", files[0], "--backend", "trio").code == ExitCode.SUCCEEDED


def test_code_that_does_not_follow(durable: Call, files: list[str]):
    """Exit code 4: what was expected, what was found, and where, with the file as seen from here."""
    outcome = durable("replay", change("other"), *files)
    assert outcome.code == ExitCode.UNFINISHED
    assert said(
        outcome.out,
        "✓ waits.json",
        "✗ over.json  does not follow",
        "expected  Step 'second'",
        "found     Step 'other'",
        "at        operation 3 of the execution, other.py:19 in work",
        "2 histories: 1 followed, 1 not",
    )


def test_a_file_that_cannot_be_replayed_does_not_keep_it_from_the_others(durable: Call, files: list[str]):
    """Exit code 3, as nobody knows what is in it."""
    Path("bad.json").write_text('{"Events": [')
    outcome = durable("replay", change("other"), "bad.json", "none.json", *files)
    assert outcome.code == ExitCode.NOT_DONE
    assert said(outcome.err, "error: bad.json cannot be replayed: it is not JSON", "error: none.json cannot be")
    assert said(outcome.out, "✓ waits.json", "✗ over.json", "4 histories: 1 followed, 1 not, 2 not read")
    assert "Traceback" not in outcome.err
    assert "Traceback" in durable("replay", "app.py:work", "bad.json", "--debug").err


def test_standard_input(durable: Call, files: list[str]):
    """It is told by the name of its execution."""
    outcome = durable("replay", "app.py:work", "-", stdin=Path(files[0]).read_bytes())
    assert outcome.code == ExitCode.SUCCEEDED
    assert "✓ a  follows 2 operations" in outcome.out
    outcome = durable("replay", "app.py:work", "-", stdin="no")
    assert (outcome.code, outcome.out) == (ExitCode.NOT_DONE, "")
    assert "error: standard input cannot be replayed: it is not JSON" in outcome.err


def test_for_machines(durable: Call, files: list[str]):
    """A line for each file; what the code prints goes elsewhere."""
    Path("bad.json").write_text("[]")
    outcome = durable("replay", change("other"), *files, "bad.json", "--json")
    assert outcome.code == ExitCode.NOT_DONE
    waits, over, bad = outcome.lines
    assert waits == {
        "type": "replay",
        "file": "waits.json",
        "execution": "a",
        "status": "RUNNING",
        "compatible": True,
        "replayed": 2,
        "ended": None,
        "result": None,
        "error": None,
        "goes_on_with": [],
        "waits_for": ["Callback 'answer'"],
        "divergence": None,
        "exit_code": 0,
    }
    assert (over["compatible"], over["status"], over["exit_code"]) == (False, "SUCCEEDED", 4)
    assert over["divergence"]["expected"] == "Step 'second'"
    assert (bad["compatible"], bad["exit_code"]) == (None, 3)
    assert bad["error"]["message"] == "bad.json cannot be replayed: it has no events"
    assert "work is at it" in outcome.err


def test_chance_needs_the_arn(durable: Call, files: list[str]):
    """`durable history` tells it; to other files it can be given, one at a time."""
    document = json.loads(Path("over.json").read_text())
    arn = document.pop("DurableExecutionArn")
    assert arn.endswith("/a/" + document["Events"][0]["Id"])
    Path("bare.json").write_text(json.dumps(document))
    code = APP.replace("SECOND", "second").replace("async def work", "async def renamed")
    Path("app.py").write_text(code + "work = renamed")  # so that the ARN cannot be guessed
    outcome = durable("replay", "app.py:work", "bare.json")
    assert outcome.code == ExitCode.UNFINISHED
    assert "Give the ARN" in outcome.out
    assert durable("replay", "app.py:work", "bare.json", "--arn", arn).code == ExitCode.SUCCEEDED
    assert durable("replay", "app.py:work", "over.json").code == ExitCode.SUCCEEDED
    outcome = durable("replay", "app.py:work", "--arn", arn, *files)
    assert outcome.code == ExitCode.USAGE
    assert "--arn is of one execution" in outcome.err


def test_a_storage_that_cannot_be_reached(durable: Call, files: list[str]):
    """It is told for each history, and no traceback is shown."""
    text = """
from pathlib import Path
from durable import DurableContext, durable_execution
from durable.serde import JsonSerde

class Remote(JsonSerde):
    def decode(self, text, annotation):
        Path("no/such/storage").read_text()

@durable_execution(serde=Remote())
async def work(event: str, ctx: DurableContext) -> str:
    return event
"""
    Path("remote.py").write_text(text)
    outcome = durable("replay", "remote.py:work", *files)
    assert outcome.code == ExitCode.NOT_DONE
    assert said(outcome.err, "error: waits.json cannot be replayed: a serde cannot reach", "error: over.json")
    assert "Traceback" not in outcome.err


def test_a_function_that_is_not_there(durable: Call, files: list[str]):
    """As everywhere."""
    outcome = durable("replay", "app.py:nothing", *files)
    assert outcome.code == ExitCode.NOT_DONE
    assert "its durable functions are: work" in outcome.err


@pytest.mark.process
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_can_be_interrupted(files: list[str], backend: str):
    """Code that waits for something that does not come is not waited for for ever."""
    with start_process("replay", "app.py:sleeps", files[0], "--backend", backend, cwd=Path.cwd()) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "sleeps\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "error: interrupted\n"
    assert process.returncode == ExitCode.INTERRUPTED


@pytest.mark.process
def test_in_a_terminal(files: list[str]):
    """In colour, and cut to its width; what does not follow is told whole."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "durable", "replay", change("other"), *files],
        env={"PYTHONPATH": str(ROOT), "PATH": "", "TERM": "xterm-256color", "LANG": "C.UTF-8"},
        dimensions=(24, 60),
        encoding="utf-8",
        timeout=30,
    )
    child.expect(pexpect.EOF)
    shown = str(child.before)
    child.close()
    assert child.exitstatus == ExitCode.UNFINISHED
    assert "\x1b[32m✓\x1b[0m waits.json" in shown
    assert "…" in shown
    assert "operation 3 of the execution, other.py:19 in work" in shown

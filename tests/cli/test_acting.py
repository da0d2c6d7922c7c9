"""`durable callback`, `saga`, `cancel`, `stop`: what they do to an execution, and who goes on with it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import aclosing, closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest

from durable.cli import acting
from durable.cli.acting import Act, Manner, act_on
from durable.cli.awaited import Awaited, Lookout
from durable.cli.options import CommandError
from durable.cli.place import Store
from durable.local import Engine, Reader, Run, load_target, open_engine
from durable.local.inbox import StopExecution
from durable.local.stores.file import EngineLock
from durable.local.stores.sqlite import open_store
from tests.cli.helpers import Call, Outcome, said

ACTS = Path(__file__).parent / "acts.py"
STORE = "durable.db"
HOLDER = "(process "

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture(autouse=True)
def closed_office(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be undone cannot be, until a test sets ACTS_OPEN."""
    monkeypatch.delenv("ACTS_OPEN", raising=False)


def act(name: str) -> str:
    return f"{ACTS}:{name}"


async def begin(engine: Engine, function: str, callbacks: int, *, name: str = "t-1", event: Any = None) -> Run[Any]:
    """Start an execution, and wait until it has asked for so many callbacks."""
    run = await engine.start(load_target(act(function)), event, name=name)
    async with aclosing(run.events()) as events:
        async for one in events:
            callbacks -= one.event_type == "CallbackStarted"
            if callbacks <= 0:
                return run
    raise AssertionError("it is over")


def leave(function: str, callbacks: int = 1, *, name: str = "t-1", event: Any = None) -> None:
    """Leave an execution waiting in a store that nobody has open."""

    async def main() -> None:
        async with open_engine(STORE) as engine:
            await begin(engine, function, callbacks, name=name, event=event)

    anyio.run(main)


@contextmanager
def engine_at_work(
    backend: str, function: str, callbacks: int = 1, *, name: str = "t-1", event: Any = None
) -> Generator[Callable[[], Any]]:
    """An engine in a thread of its own, with an execution that waits. Gives a function that waits for its end."""
    with (
        anyio.from_thread.start_blocking_portal(backend) as portal,
        portal.wrap_async_context_manager(open_engine(STORE)) as engine,
    ):

        async def start() -> Run[Any]:
            return await begin(engine, function, callbacks, name=name, event=event)

        run = portal.call(start)

        async def ended() -> Any:
            with anyio.fail_after(30):
                return await run.wait()

        yield lambda: portal.call(ended)


def awaited(name: str = "t-1") -> list[Awaited]:
    async def read() -> list[Awaited]:
        store = open_store(STORE, read_only=True)
        try:
            return Lookout(await Reader(store).operations(name)).all()
        finally:
            await store.aclose()

    return anyio.run(read)


def callback_id(name: str | None = "number") -> str:
    return next(one.callback_id for one in awaited() if one.name == name)


def undone(outcome: Outcome) -> Any:
    """What the last line of JSON says of the rollback."""
    (rollback,) = outcome.lines[-1]["rollbacks"]
    return {key: [one if isinstance(one, str) else one["name"] for one in rollback[key]] for key in (
        "undone", "failed", "skipped", "not_attempted"
    )}  # fmt: skip


# --- No engine has the store: it is recorded, and the execution goes on here ---------------------------------


@backends
def test_a_callback_is_completed_and_the_execution_goes_on(durable: Call, backend: str):
    """To its end, as `durable resume` follows it; the exit code is the execution's."""
    leave("asks")
    done = durable("callback", "succeed", callback_id(), "--result", "42", "--backend", backend)
    assert (done.code, done.err) == (0, "")
    assert said(done.out, "t-1: ", "goes on, begun", "number succeeded", ": 42", "✓ succeeded", "42")


@pytest.mark.parametrize("how", ["given", "in a file", "on standard input"])
def test_a_result_is_given_as_an_input_is(durable: Call, how: str):
    """As JSON, as a file, or on standard input."""
    leave("asks")
    Path("result.json").write_text("7")
    text = {"given": "7", "in a file": "@result.json", "on standard input": "-"}[how]
    done = durable("callback", "succeed", callback_id(), "--result", text, "--json", stdin="7")
    assert (done.code, done.lines[-1]["result"]) == (0, 7)


def test_a_result_that_is_no_json_is_refused_before_anything_is_done(durable: Call):
    """With what is wrong; the callback waits on."""
    leave("asks")
    Path("7x").write_text("7")
    for text, why in (("7x", "(a file is given as --result @FILE)"), ("@nothing", "cannot be read")):
        done = durable("callback", "succeed", callback_id(), "--result", text)
        assert done.code == 3
        assert why in done.err
    assert [one.kind for one in awaited()] == ["answer"]


def test_text_is_passed_on_as_it_is(durable: Call):
    """For callbacks without a type; a result and a text are one too many."""
    leave("asks_for_text")
    both = durable("callback", "succeed", callback_id(None), "--result", "1", "--text", "2")
    assert (both.code, both.err) == (2, "error: a callback gets a --result or a --text, not both\n")
    done = durable("callback", "succeed", callback_id(None), "--text", '"quoted" ü\n', "--json")
    assert (done.code, done.lines[-1]["result"]) == (0, 'it is "quoted" ü\n')


@pytest.mark.parametrize("command", ["succeed --text", "fail --message", "fail --data"])
def test_what_is_no_text_is_refused(durable: Call, command: str):
    """Bytes on the command line that are not UTF-8: nothing is recorded."""
    leave("asks_for_text")
    verb, option = command.split()
    done = durable("callback", verb, callback_id(None), option, "\udcff")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("error: what was given is no text: ")
    assert [one.kind for one in awaited()] == ["answer"]


def test_without_a_result_it_is_null(durable: Call):
    """Nothing more is known than that it is done."""
    leave("asks_for_text")
    done = durable("callback", "succeed", callback_id(None), "--json")
    assert done.lines[-1]["result"] == "it is null"


def test_a_callback_is_failed(durable: Call):
    """With the error's class, message and data, or without any of them."""
    leave("asks", name="t-1")
    done = durable(
        "callback", "fail", callback_id(), "--type", "ValueError", "--message", "no", "--data", "because", "--json"
    )
    assert (done.code, done.lines[-1]["result"]) == (0, -len("ValueError no because"))
    (ended,) = [line["event"] for line in done.lines if line.get("event", {}).get("EventType") == "CallbackFailed"]
    assert ended["CallbackFailedDetails"]["Error"]["Payload"] == {
        "ErrorType": "ValueError", "ErrorMessage": "no", "ErrorData": "because"
    }  # fmt: skip


def test_a_sign_of_life_runs_nothing(durable: Call):
    """It is recorded, and the execution waits on."""
    leave("asks")
    done = durable("callback", "heartbeat", callback_id())
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "✓ recorded  t-1: callback 'number' has a sign of life\n"
        "  no engine is at work on it\n"
        "  go on with  durable resume t-1\n"
    )
    assert [one.kind for one in awaited()] == ["answer"]


def test_what_is_inside_of_a_wait_is_called_as_its_user_calls_it(durable: Call):
    """Not as it is recorded."""
    leave("asks_inside")
    assert [one.name for one in awaited()] == ["approval"]
    done = durable("callback", "succeed", callback_id("approval"), "-r", "1", "--no-wait")
    assert "callback 'approval' is completed" in done.out


def test_only_recorded(durable: Call):
    """`--no-wait`: the execution goes on when somebody resumes it, and not before."""
    leave("asks")
    done = durable("callback", "succeed", callback_id(), "-r", "5", "--no-wait", "--store", "./durable.db")
    assert (done.code, done.err) == (0, "")
    assert said(
        done.out, "✓ recorded  t-1: callback 'number' is completed", "durable resume t-1 --store ./durable.db"
    )
    assert durable("ls", "--json").lines[0]["status"] == "RUNNING"
    assert durable("resume", "--json").lines[-1]["result"] == 5


def test_callbacks_that_take_nothing(durable: Call):
    """An id that nothing has, one that is answered, a store that is not there: all are told, nothing is made."""
    nowhere = durable("callback", "succeed", "x", "--store", "nowhere.db")
    assert nowhere.code == 3
    assert nowhere.err.startswith("error: there is no store at nowhere.db")
    assert not Path("nowhere.db").exists()
    leave("asks")
    known = callback_id()
    for unknown in ("x", known[:-2], known + "A", "../../etc/passwd", "ü"):
        for command in ("succeed", "fail", "heartbeat"):
            done = durable("callback", command, unknown)
            assert (done.code, done.out) == (3, "")
            assert done.err.startswith("error: there is no callback ")
    assert durable("callback", "succeed", known, "-r", "1", "--no-wait").code == 0
    for command in ("succeed", "fail", "heartbeat"):
        done = durable("callback", command, known)
        assert (done.code, done.out.count("recorded")) == (3, 0)
        assert "takes nothing any more: it is SUCCEEDED" in done.err
    assert durable("resume").code == 0


def test_machines_are_told_first_what_was_recorded(durable: Call):
    """Then what `durable resume --json` tells."""
    leave("asks")
    known = callback_id()
    done = durable("callback", "succeed", known, "-r", "1", "--json")
    assert done.lines[0] == {
        "type": "recorded", "execution": "t-1", "what": "callback succeed", "name": "number",
        "callback_id": known, "engine": None,
    }  # fmt: skip
    assert [line["type"] for line in done.lines[1:]] == ["execution", *["event"] * (len(done.lines) - 3), "outcome"]


def test_code_that_is_gone_does_not_keep_an_answer_from_being_recorded(durable: Call):
    """The execution cannot go on here: that is what the exit code says."""
    Path("gone.py").write_text(ACTS.read_text())

    async def main() -> None:
        async with open_engine(STORE) as engine:
            run = await engine.start(load_target("gone.py:asks"), None, name="t-1")
            async with aclosing(run.events()) as events:
                async for one in events:
                    if one.event_type == "CallbackStarted":
                        return

    anyio.run(main)
    Path("gone.py").unlink()
    done = durable("callback", "succeed", callback_id(), "-r", "1")
    assert done.code == 4
    assert said(done.out, "number succeeded", "cannot go on", "there is no file")
    assert awaited() == []


# --- Decisions -----------------------------------------------------------------------------------------------


@backends
def test_a_compensation_is_tried_again(durable: Call, backend: str, monkeypatch: pytest.MonkeyPatch):
    """And once more if it fails again; each one that fails waits for a decision of its own."""
    leave("parks")
    first = awaited()
    again = durable("saga", "retry", "t-1", "flight", "--no-wait")
    assert again.out.startswith("✓ recorded  t-1: 'flight' is to be undone again\n")

    async def wait_for_it_to_fail() -> None:
        async with open_engine(STORE) as engine:
            (run,) = await engine.resume("t-1")
            async with aclosing(run.events()) as events:
                begun = 0
                async for one in events:
                    begun += one.event_type == "CallbackStarted"
                    if begun == 2:
                        return

    anyio.run(wait_for_it_to_fail)
    (second,) = awaited()
    assert second.name == first[0].name == "flight"
    assert second.callback_id != first[0].callback_id
    monkeypatch.setenv("ACTS_OPEN", "1")
    done = durable("saga", "retry", "t-1", "flight", "--json", "--backend", backend)
    assert done.code == 1
    assert undone(done) == {
        "undone": ["flight", "car", "hotel"], "failed": [], "skipped": [], "not_attempted": []
    }  # fmt: skip
    assert done.lines[-1]["error"]["type"] == "ValueError"
    assert done.lines[0]["what"] == "saga retry"


@backends
def test_a_compensation_is_skipped(durable: Call, backend: str, monkeypatch: pytest.MonkeyPatch):
    """The rest is undone."""
    leave("parks")
    monkeypatch.setenv("ACTS_OPEN", "1")
    done = durable("saga", "skip", "t-1", "flight", "--json", "--backend", backend)
    assert undone(done) == {
        "undone": ["car", "hotel"], "failed": [], "skipped": ["flight"], "not_attempted": []
    }  # fmt: skip


@backends
def test_a_rollback_is_abandoned(durable: Call, backend: str):
    """Nothing more is undone, and that is what the execution fails with."""
    leave("parks")
    done = durable("saga", "abandon", "t-1", "flight", "--json", "--backend", backend)
    assert (done.code, done.lines[-1]["error"]["type"]) == (1, "durable.exceptions.CompensationError")
    assert undone(done) == {
        "undone": [], "failed": ["flight"], "skipped": [], "not_attempted": ["car", "hotel"]
    }  # fmt: skip


@pytest.mark.parametrize("decision", ["retry", "skip", "abandon"])
def test_decisions_that_nobody_waits_for(durable: Call, decision: str):
    """What does wait is listed."""
    leave("parks")
    leave("asks", name="t-2")
    unknown = durable("saga", decision, "t-1", "hotel", "--no-wait")
    assert unknown.code == 3
    assert said(
        unknown.err,
        "error: no 'hotel' in execution 't-1' waits for a decision. These do:\n",
        "  'flight' of saga 'trip': RuntimeError: the office is closed: c\n",
        f"--id {callback_id('flight')}",
    )
    assert durable("saga", decision, "t-1", "flight", "--id", "x", "--no-wait").err.startswith(
        "error: no 'flight' in execution 't-1' waits for a decision by the callback of that id."
    )
    for name in ("t-2", "t-3"):
        assert durable("saga", decision, name, "flight").code == 3
    assert durable("saga", decision, "t-2", "x").err == (
        "error: nothing in execution 't-2' waits for an operator's decision\n"
    )
    assert "no execution is named 't-3'; there is" in durable("saga", decision, "t-3", "x").err
    durable("stop", "t-1")
    over = durable("saga", decision, "t-1", "flight")
    assert over.err == "error: nothing in execution 't-1' waits for an operator's decision: it is STOPPED\n"
    assert awaited("t-2")[0].kind == "answer"


def test_of_several_of_one_name_the_one_is_taken_that_is_asked_for(durable: Call, monkeypatch: pytest.MonkeyPatch):
    """By the id of its callback, which is listed."""
    leave("parks_twice", 2)
    which = durable("saga", "skip", "t-1", "hotel", "--no-wait")
    assert which.code == 3
    first, second = awaited()
    assert {first.saga, second.saga} == {"trip of Ada", "trip of Mary"}
    assert said(which.err, "error: 2 of 'hotel' in execution 't-1' wait for a decision. Say which with --id:\n")
    for one in (first, second):
        assert f"  'hotel' of saga {one.saga!r}: RuntimeError: the office is closed:" in which.err
        assert f"    --id {one.callback_id}\n" in which.err
    shown = durable("show", "t-1").out
    assert f"durable saga retry t-1 hotel --id {second.callback_id}\n" in shown
    done = durable("saga", "skip", "t-1", "hotel", "--id", second.callback_id, "--no-wait", "--json")
    assert done.lines[0]["callback_id"] == second.callback_id
    assert [one.callback_id for one in awaited()] == [first.callback_id]
    monkeypatch.setenv("ACTS_OPEN", "1")
    assert durable("saga", "retry", "t-1", "hotel").code == 0


# --- Cancelling ----------------------------------------------------------------------------------------------


@backends
def test_the_outermost_saga_is_cancelled(durable: Call, backend: str):
    """Everything inside of it is undone, and the reason is in the error."""
    leave("cancellable", 3)
    done = durable("cancel", "t-1", "--reason", "it was a joke", "--json", "--backend", backend)
    assert (done.code, done.lines[0]["what"], done.lines[0]["name"]) == (1, "cancel", "outer")
    assert done.lines[-1]["error"]["type"] == "durable.exceptions.SagaCancelledError"
    assert done.lines[-1]["error"]["message"].endswith("its cancellation was requested: it was a joke")
    assert sorted(name for one in done.lines[-1]["rollbacks"] for name in one["undone"]) == ["car", "hotel"]


@backends
def test_the_saga_is_cancelled_that_is_named(durable: Call, backend: str):
    """The others go on, or fail by it."""
    leave("cancellable", 3)
    wrong = durable("cancel", "t-1", "--saga", "other", "--no-wait")
    assert wrong.code == 3
    assert said(wrong.err, "that saga of execution 't-1' cannot be cancelled. These can be:", "'outer'", "'inner'")
    done = durable("cancel", "t-1", "--saga", "inner", "--json", "--backend", backend)
    assert done.lines[0]["name"] == "inner"
    assert done.lines[-1]["error"]["message"].endswith("its cancellation was requested")


@pytest.mark.parametrize("nesting", ["nested", "flat"])
def test_of_sagas_side_by_side_it_must_be_said_which(durable: Call, nesting: str):
    """None of them is around the other, whether or not branches have contexts of their own."""
    leave("cancellable_side_by_side", 4, event=nesting)
    which = durable("cancel", "t-1", "--no-wait")
    assert which.code == 3
    assert said(which.err, "several sagas of execution 't-1' can be cancelled. Say which with --saga or --id:")
    for name in ("Ada", "Mary"):
        assert f"  saga {name!r}\n    --id {callback_id(name)}\n" in which.err
    assert durable("cancel", "t-1", "--id", callback_id("Mary"), "--no-wait", "--json").lines[0]["name"] == "Mary"
    assert durable("cancel", "t-1", "--saga", "Mary", "--no-wait").err.endswith(
        "is cancelled has been asked for already\n"
    )
    done = durable("callback", "succeed", callback_id("number of Ada"), "-r", "7", "--json")
    assert done.lines[-1]["result"][0] == "7"
    assert "its cancellation was requested" in done.lines[-1]["result"][1]


def test_a_saga_that_is_over_is_not_cancelled(durable: Call):
    """The one is that is under way; it need not have a name."""
    leave("cancellable_once", 3)
    assert [(one.kind, one.name) for one in awaited()] == [("cancellation", None), ("answer", "number")]
    assert durable("cancel", "t-1", "--saga", "first", "--no-wait").code == 3
    done = durable("cancel", "t-1", "--json")
    assert (done.code, done.lines[0]["name"]) == (1, None)
    assert undone(done)["undone"] == ["car"]


def test_what_cannot_be_cancelled(durable: Call):
    """Nothing in it is cancellable: what would have to be otherwise is said, and what can be done instead."""
    leave("asks")
    none = durable("cancel", "t-1")
    assert none.code == 3
    assert said(none.err, "no saga is under way", "saga(ctx, cancellable=True)", "durable stop", "undoes nothing")
    durable("stop", "t-1")
    over = durable("cancel", "t-1")
    assert over.err == "error: execution 't-1' is over, it is STOPPED: there is nothing to cancel\n"
    assert durable("cancel", "t-2").code == 3


# --- Stopping ------------------------------------------------------------------------------------------------


def test_a_stop_ends_it_and_undoes_nothing(durable: Call):
    """Which is said, and with what it would have been undone."""
    leave("cancellable", 3)
    done = durable("stop", "t-1", "--message", "enough")
    assert done.code == 0
    assert done.out == "✓ recorded  t-1: is stopped\n  look with   durable show t-1\n"
    assert done.err == (
        "warning: nothing was undone: what the execution has done stays done\n"
        "durable cancel t-1 would have undone its saga\n"
    )
    (record,) = durable("ls", "--json").lines
    assert (record["status"], record["error"]["message"]) == ("STOPPED", "enough")
    assert "nobody waits for it any more" in durable("show", "t-1").out
    again = durable("stop", "t-1")
    assert (again.code, again.out) == (3, "")
    assert again.err == "error: execution 't-1' is over, it is STOPPED: there is nothing to stop\n"
    assert durable("stop", "t-2").code == 3


def test_a_stop_for_machines(durable: Call):
    """One object, and no hint where there was nothing to cancel."""
    leave("asks")
    done = durable("stop", "t-1", "--json")
    assert done.lines == [
        {"type": "recorded", "execution": "t-1", "what": "stop", "name": None, "callback_id": None, "engine": None}
    ]
    assert done.err == "warning: nothing was undone: what the execution has done stays done\n"


# --- An engine has the store: it is asked, and goes on -------------------------------------------------------


@backends
def test_an_engine_at_work_is_asked(durable: Call, backend: str):
    """It completes the callback and goes on; the command says who does, and does not wait for it."""
    with engine_at_work(backend, "asks") as ended:
        shown = durable("show", "t-1")
        assert said(shown.out, "● not over, an engine has the store (process ")
        assert "go on with" not in shown.out
        known = callback_id()
        assert durable("callback", "heartbeat", known).code == 0
        done = durable("callback", "succeed", known, "--result", "42")
        assert (done.code, done.err) == (0, "")
        assert said(
            done.out, "✓ recorded  t-1: callback 'number' is completed\n", f"  an engine goes on with it {HOLDER}"
        )
        assert done.out.endswith("  look with   durable show t-1\n")
        assert ended().result == "42"
        late = durable("callback", "fail", known, "--json")
        assert (late.code, late.out) == (3, "")
        assert "takes nothing any more: it is SUCCEEDED" in late.err


@backends
def test_it_is_told_to_machines_who_was_asked(durable: Call, backend: str):
    """One object: nothing follows, as the execution is followed elsewhere."""
    with engine_at_work(backend, "asks") as ended:
        (line,) = durable("callback", "fail", callback_id(), "--json").lines
        assert line["engine"].startswith("process ")
        assert ended().result == str(-len("None None None"))


@backends
def test_an_engine_at_work_is_told_a_decision(durable: Call, backend: str, monkeypatch: pytest.MonkeyPatch):
    """Which it follows."""
    with engine_at_work(backend, "parks") as ended:
        monkeypatch.setenv("ACTS_OPEN", "1")
        done = durable("saga", "retry", "t-1", "flight")
        assert said(done.out, "✓ recorded  t-1: 'flight' is to be undone again\n", HOLDER)
        assert ended().error.error_type == "ValueError"


@backends
def test_an_engine_at_work_cancels(durable: Call, backend: str):
    """In the middle of a step."""
    with engine_at_work(backend, "stuck_in_a_step") as ended:
        done = durable("cancel", "t-1", "--reason", "enough")
        assert said(done.out, "✓ recorded  t-1: saga 'trip' is to be rolled back\n", HOLDER)
        assert ended().error.error_message.endswith("its cancellation was requested: enough")
    assert "undone      hotel" in durable("show", "t-1").out


@backends
def test_an_engine_at_work_stops(durable: Call, backend: str):
    """In the middle of a step; nothing is undone."""
    with engine_at_work(backend, "stuck_in_a_step") as ended:
        done = durable("stop", "t-1", "--json")
        assert done.lines[0]["engine"].startswith("process ")
        assert "nothing was undone" in done.err
        assert ended().status == "STOPPED"
    assert "undone" not in durable("show", "t-1").out


# --- Trouble with the engine ---------------------------------------------------------------------------------


@pytest.fixture
def deaf_engine(monkeypatch: pytest.MonkeyPatch) -> Generator[EngineLock]:
    """Somebody has the store and does not look into it; and nobody waits long for an answer."""
    monkeypatch.setattr(acting, "PATIENCE", 0.2)
    leave("asks")
    lock = EngineLock(str(Path(STORE).absolute()))
    yield lock
    lock.release()


def requests() -> int:
    with closing(sqlite3.connect(STORE)) as connection:
        found: int = connection.execute("SELECT count(*) FROM inbox").fetchone()[0]
        return found


def test_an_engine_that_does_not_answer(durable: Call, deaf_engine: EngineLock):
    """What was asked stays, which is said, and the next engine does it."""
    done = durable("callback", "succeed", callback_id(), "-r", "9")
    assert (done.code, done.out) == (3, "")
    assert said(done.err, "error: the engine that has durable.db", HOLDER, "has not answered for 0.2 s", "stays in")
    assert requests() == 1
    deaf_engine.release()
    assert durable("resume", "t-1", "--json").lines[-1]["result"] == 9


def test_an_engine_that_goes_while_it_is_asked(
    durable: Call, deaf_engine: EngineLock, monkeypatch: pytest.MonkeyPatch
):
    """The command notices that soon, and does it itself, once."""
    monkeypatch.setattr(acting, "PATIENCE", 120)

    def leave_when_asked() -> None:
        end = time.monotonic() + 30
        while not requests() and time.monotonic() < end:
            time.sleep(0.01)
        deaf_engine.release()

    known = callback_id()
    engine = threading.Thread(target=leave_when_asked)
    engine.start()
    begun = time.monotonic()
    done = durable("callback", "succeed", known, "-r", "9", "--json")
    engine.join()
    assert time.monotonic() - begun < 60
    assert (done.code, done.lines[0]["engine"], done.lines[-1]["result"]) == (0, None, 9)
    assert requests() == 0


@pytest.mark.usefixtures("deaf_engine")
def test_the_last_that_an_engine_does_counts(durable: Call, monkeypatch: pytest.MonkeyPatch):
    """It answers and is gone before anybody looks: what it has done is not done again."""

    def answer_and_go(_: str) -> None:
        with closing(sqlite3.connect(STORE)) as connection, connection:
            connection.execute("UPDATE inbox SET reply = '{}'")

    monkeypatch.setattr(acting, "engine_of", answer_and_go)
    monkeypatch.setattr(acting, "PATIENCE", 60.0)
    done = durable("callback", "succeed", callback_id(), "-r", "9", "--json")
    assert (done.code, done.err, len(done.lines)) == (0, "", 1)
    assert [one.kind for one in awaited()] == ["answer"]


@pytest.mark.usefixtures("deaf_engine")
def test_who_stops_waiting_asks_no_longer(durable: Call, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C takes the request back."""
    known = callback_id()

    def interrupt(_: float) -> None:
        assert requests() == 1
        raise KeyboardInterrupt

    monkeypatch.setattr("durable.local.stores.inbox.time.sleep", interrupt)
    done = durable("callback", "succeed", known, "-r", "9")
    assert (done.code, done.err) == (130, "error: interrupted\n")
    assert requests() == 0


@pytest.mark.usefixtures("deaf_engine")
def test_an_engine_of_an_older_version_takes_no_requests(durable: Call):
    """That is said, and nothing else happens."""
    with closing(sqlite3.connect(STORE)) as connection:
        connection.execute("DROP TABLE inbox")
    done = durable("callback", "succeed", callback_id())
    assert done.code == 3
    assert done.err == "error: durable.db takes no requests: no such table: inbox\n"


def test_one_that_ends_before_it_is_stopped(durable: Call):
    """Between the look at it and the stop: nothing was stopped, and it is said how it had ended."""
    leave("asks")
    assert durable("callback", "succeed", callback_id(), "-r", "1").code == 0
    stop = Act(what="stop", execution="t-1", request=StopExecution("t-1"), words="is stopped")
    with pytest.raises(CommandError, match="'t-1' is over, it is SUCCEEDED: there is nothing to stop"):
        act_on(stop, Manner(place=Store(STORE)))


# --- Help ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    ["callback succeed", "callback fail", "callback heartbeat", "saga retry", "saga skip", "saga abandon", "cancel",
     "stop"],
)  # fmt: skip
def test_each_command_explains_itself(durable: Call, command: str):
    """What it does, who goes on, what --json gives."""
    run = durable(*command.split(), "--help")
    assert run.code == 0
    assert f"Usage: durable {command} " in run.out
    text = " ".join(run.out.split())
    assert "--json: an object of type recorded" in text
    assert "If an engine has the store it is asked" in text
    assert "[[" not in run.out


@pytest.mark.parametrize("group", ["callback", "saga"])
def test_a_group_without_a_command_names_them(durable: Call, group: str):
    """As the program itself does."""
    run = durable(group)
    assert run.code == 2
    commands = {"callback": ("succeed", "fail", "heartbeat"), "saga": ("retry", "skip", "abandon")}[group]
    assert [command for command in commands if f"│ {command} " not in run.out + run.err] == []


def test_what_is_waited_for_completes_in_a_shell(durable: Call):
    """Steps of the execution, ids of callbacks."""
    from durable.cli.reading import awaited_names

    leave("parks")
    leave("asks", name="t-2")
    assert awaited_names(STORE, "t-1", "decision") == ["flight"]
    assert awaited_names(STORE, "t-2", "decision") == []
    assert awaited_names(STORE, None, "answer") == [one.callback_id for one in awaited("t-2")]
    assert awaited_names("nowhere.db", None, "answer") == []

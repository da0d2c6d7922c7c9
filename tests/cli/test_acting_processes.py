"""The real thing: executions in one process, and whoever acts on them in another; kills in between."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from durable._wire import ExecutionStatus
from durable._wire.events import EventType
from durable.cli import acting
from durable.cli.awaited import Awaited, Lookout
from durable.exceptions import DurableError
from durable.local import Reader
from durable.local.inbox import SucceedCallback, encode_request
from durable.local.stores.file import engine_of
from durable.local.stores.inbox import post
from durable.local.stores.sqlite import open_store
from tests.cli.helpers import ROOT, Call, said, start_process

pytestmark = pytest.mark.process

EXAMPLES = ROOT / "examples"
BOUND = 60.0
"""Seconds that anything may take on a busy machine."""

APPROVED = '{"approved": true, "by": "Grace"}'

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Place:
    """A directory with a store and a ledger, and what is started there."""

    def __init__(self, where: Path) -> None:
        where.mkdir(exist_ok=True)
        self.where = where
        self.store = str(where / "durable.db")
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command."""
        env = {"TRIP_LEDGER": str(self.where / "ledger.db")}
        process = start_process(*arguments, cwd=self.where, env=env)
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """A command's exit code, and what it printed."""
        return ended(self.start(*arguments))

    def start_example(self, target: str, name: str, *more: str, **changes: Any) -> subprocess.Popen[str]:
        """Start an execution of an example."""
        file, _, _ = target.partition(".py")
        event = {**json.loads((EXAMPLES / f"{file}.json").read_text()), **changes}
        return self.start("run", f"{EXAMPLES}/{target}", "-i", json.dumps(event), "-n", name, *more)

    def awaited(self, name: str, *, parked: bool = False) -> list[Awaited]:
        """What an execution waits for; nothing, as long as it is not there or, if asked for, is being invoked."""

        async def read() -> list[Awaited]:
            store = open_store(self.store, read_only=True)
            try:
                record = await Reader(store).execution(name)
                last = (await Reader(store).history(name))[-1]
                if parked and last.event_type is not EventType.INVOCATION_COMPLETED:
                    return []
                is_over = record.status is not ExecutionStatus.RUNNING
                return Lookout(await Reader(store).operations(name), is_over=is_over).all()
            finally:
                await store.aclose()

        try:
            return anyio.run(read)
        except DurableError:
            return []

    def wait_for(self, name: str, kind: str, *, after: str = "") -> Awaited:
        """What of that kind an execution comes to wait for, other than the callback of the id `after`.

        Nothing runs then: whoever is killed now has nothing half done.
        """

        def found() -> Awaited | None:
            new = [one for one in self.awaited(name, parked=True) if one.kind == kind and one.callback_id != after]
            return new[0] if new else None

        one: Awaited = eventually(found)
        return one

    def ledger(self) -> list[str]:
        """What happened in the world."""
        with closing(sqlite3.connect(self.where / "ledger.db")) as connection:
            return [" ".join(row) for row in connection.execute("SELECT action, what FROM entries ORDER BY number")]

    def open_warehouse(self) -> None:
        """What the operator does before he has it tried again."""
        subprocess.run(
            [sys.executable, EXAMPLES / "ledger.py", "open", "warehouse"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TRIP_LEDGER": str(self.where / "ledger.db")},
            check=True,
        )

    def status(self, durable: Call, name: str) -> str:
        found: str = durable("show", name, "--json", "--store", self.store).document["status"]
        return found


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=BOUND)
    return process.returncode, out, err


def eventually(look: Callable[[], Any]) -> Any:
    """What is found, as soon as it is there."""
    end = time.monotonic() + BOUND
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it never came")


@pytest.fixture
def place(tmp_path: Path) -> Any:
    place = Place(tmp_path / "place")
    yield place
    for process in place.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


# --- One process runs it, another acts on it -----------------------------------------------------------------


@backends
def test_an_invoice_is_approved_from_another_terminal(place: Place, backend: str):
    """The command that waits shows what to type, and goes on with the answer."""
    paying = place.start_example("approval.py:pay_invoice", "invoice", "--backend", backend)
    callback_id = place.wait_for("invoice", "answer").callback_id
    code, out, err = place.run("callback", "succeed", callback_id, "--result", APPROVED)
    assert (code, err) == (0, "")
    assert said(out, "✓ recorded  invoice: callback 'approval' is completed", f"(process {paying.pid}, since")
    code, out, err = ended(paying)
    assert (code, err) == (0, "")
    assert said(
        out,
        "saga invoice can be cancelled: durable cancel invoice",
        f"approval / callback waits for an answer: durable callback succeed {callback_id} --result JSON",
        "✓ succeeded",
        "approved by Grace",
    )
    assert place.ledger() == ["put aside money", "ask approval", "transfer money"]


@backends
def test_an_invoice_is_cancelled_from_another_terminal(place: Place, backend: str):
    """What was put aside is released."""
    paying = place.start_example("approval.py:pay_invoice", "invoice", "--backend", backend)
    place.wait_for("invoice", "answer")
    assert place.run("cancel", "invoice", "--reason", "it was a joke")[0] == 0
    code, out, _ = ended(paying)
    assert code == 1
    assert said(out, "saga invoice was asked to be cancelled", "its cancellation was requested: it was a joke")
    assert said(out, "undone      put_aside")
    assert place.ledger() == ["put aside money", "ask approval", "release money"]


@backends
def test_an_invoice_is_stopped_from_another_terminal(place: Place, backend: str):
    """The process that ran it ends; the money stays where it is, which is said."""
    paying = place.start_example("approval.py:pay_invoice", "invoice", "--backend", backend)
    place.wait_for("invoice", "answer")
    code, _, err = place.run("stop", "invoice", "--message", "enough")
    assert code == 0
    assert "warning: nothing was undone" in err
    assert "durable cancel invoice would have undone its saga" in err
    code, out, _ = ended(paying)
    assert code == 1
    assert said(out, "✗ stopped", "enough")
    assert place.ledger() == ["put aside money", "ask approval"]


@backends
def test_a_stuck_order_is_tried_again(place: Place, backend: str):
    """In vain, while the warehouse is closed; each time a new decision is asked for."""
    order = place.start_example("order.py:place_order", "stuck", "--backend", backend, stuck=True)
    first = place.wait_for("stuck", "decision")
    assert place.run("saga", "retry", "stuck", "reserve_stock")[0] == 0
    second = place.wait_for("stuck", "decision", after=first.callback_id)
    assert second.name == "reserve_stock"
    place.open_warehouse()
    assert place.run("saga", "retry", "stuck", "reserve_stock", "--id", second.callback_id)[0] == 0
    code, out, err = ended(order)
    assert (code, err) == (1, "")
    decision = (
        "undo reserve_stock waits for a decision: durable saga retry stuck reserve_stock (or skip, or abandon)"
    )
    assert said(out, decision, "undo reserve_stock was decided on", decision, "was decided on", "✗ failed in")
    assert said(out, "undone      authorise_card, reserve_stock")
    assert place.ledger() == [
        "reserve stock", "authorise card", "void card", "open warehouse", "release stock"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("decision", "error", "left"),
    [
        ("skip", "error       CarrierRefusedError:", "reserve_stock (skipped by an operator)"),
        ("abandon", "error       CompensationError:", "reserve_stock  WarehouseClosedError"),
    ],
)
def test_a_stuck_order_is_let_be(place: Place, decision: str, error: str, left: str):
    """What stays reserved is told as that."""
    order = place.start_example("order.py:place_order", "stuck", stuck=True)
    place.wait_for("stuck", "decision")
    assert place.run("saga", decision, "stuck", "reserve_stock")[0] == 0
    code, out, _ = ended(order)
    assert code == 1
    assert said(out, error, "undone      authorise_card", f"NOT undone  {left}")
    assert place.ledger() == ["reserve stock", "authorise card", "void card"]


# --- Nobody runs it ------------------------------------------------------------------------------------------


def stopped_by(place: Place, process: subprocess.Popen[str], number: signal.Signals) -> str:
    process.send_signal(number)
    _, out, _ = ended(process)
    assert engine_of(place.store) is None
    return out


def test_a_decision_after_ctrl_c(place: Place):
    """The command that was stopped says what to type; that goes on with the order to its end."""
    order = place.start_example("order.py:place_order", "stuck", stuck=True)
    place.wait_for("stuck", "decision")
    out = stopped_by(place, order, signal.SIGINT)
    assert said(
        out,
        "◷ stopped  stuck stays as it is",
        "decide with durable saga retry stuck reserve_stock\n",
        "durable saga skip stuck reserve_stock\n",
        "durable saga abandon stuck reserve_stock\n",
        "go on with  durable resume stuck\n",
    )
    place.open_warehouse()
    code, out, err = place.run("saga", "retry", "stuck", "reserve_stock")
    assert (code, err) == (1, "")
    assert said(out, "stuck: ", "goes on, begun", "was decided on", "undone      authorise_card, reserve_stock")


def test_a_process_that_is_dead_has_no_store(place: Place, durable: Call):
    """After kill -9 nobody is asked: what is recorded is recorded here, and a resume goes on."""
    paying = place.start_example("approval.py:pay_invoice", "invoice")
    callback_id = place.wait_for("invoice", "answer").callback_id
    stopped_by(place, paying, signal.SIGKILL)
    code, out, _ = place.run("callback", "succeed", callback_id, "--result", APPROVED, "--no-wait")
    assert code == 0
    assert said(out, "✓ recorded", "no engine is at work on it")
    assert place.status(durable, "invoice") == "RUNNING"
    assert place.run("resume", "invoice")[0] == 0
    assert place.ledger() == ["put aside money", "ask approval", "transfer money"]


def test_what_was_left_while_nobody_ran_it_is_done_when_somebody_does(place: Place):
    """Also by a command that is about another execution."""
    paying = place.start_example("approval.py:pay_invoice", "invoice")
    callback_id = place.wait_for("invoice", "answer").callback_id
    stopped_by(place, paying, signal.SIGKILL)
    posted = post(place.store, encode_request(SucceedCallback(callback_id, APPROVED)))
    assert ended(place.start_example("order.py:place_order", "order"))[0] == 0
    assert posted.wait(0) == "{}"
    assert place.run("resume")[0] == 0
    assert place.ledger()[-1] == "transfer money"


# --- Kills in between ----------------------------------------------------------------------------------------


def test_an_engine_that_is_killed_before_it_looks(place: Place, durable: Call, monkeypatch: pytest.MonkeyPatch):
    """Who asked was told that it stays, and it does: the next engine does it."""
    paying = place.start_example("approval.py:pay_invoice", "invoice")
    callback_id = place.wait_for("invoice", "answer").callback_id
    paying.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(acting, "PATIENCE", 0.3)
    asked = durable("callback", "succeed", callback_id, "--result", APPROVED, "--store", place.store)
    assert asked.code == 3
    assert said(asked.err, f"(process {paying.pid}, since", "has not answered for 0.3 s", "stays in the store")
    stopped_by(place, paying, signal.SIGKILL)
    code, out, _ = place.run("resume", "invoice")
    assert code == 0
    assert said(out, "approval / callback succeeded", "approved by Grace")


KILLED_BEFORE_IT_REPLIES = """
import os, signal, sys
from durable.local.stores.inbox import SqliteInbox

async def reply(self, number, text):
    os.kill(os.getpid(), signal.SIGKILL)

SqliteInbox.reply = reply
from durable.cli.app import main
main(sys.argv[1:])
"""


@backends
def test_an_engine_that_is_killed_between_doing_and_replying(place: Place, backend: str):
    """It is done, once: who asked hears that there is nothing more to do, and a resume goes on."""
    script = place.where / "killed.py"
    script.write_text(KILLED_BEFORE_IT_REPLIES)
    paying = place.start_example("approval.py:pay_invoice", "invoice")
    callback_id = place.wait_for("invoice", "answer").callback_id
    stopped_by(place, paying, signal.SIGKILL)
    resuming = subprocess.Popen(
        [sys.executable, str(script), "resume", "invoice", "--backend", backend],
        cwd=place.where,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TRIP_LEDGER": str(place.where / "ledger.db")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    place.started.append(resuming)
    eventually(lambda: engine_of(place.store))
    code, _, err = place.run("callback", "succeed", callback_id, "--result", APPROVED)
    ended(resuming)
    assert resuming.returncode == -signal.SIGKILL
    assert code == 3
    assert "takes nothing any more: it is SUCCEEDED" in err
    code, out, _ = place.run("resume", "invoice")
    assert code == 0
    assert said(out, "approval / callback succeeded", "approved by Grace")
    assert place.ledger() == ["put aside money", "ask approval", "transfer money"]


def test_two_commands_at_once(place: Place):
    """With and without an engine: one of them has completed it, the other is told that; nothing happens twice."""
    for name, runs in (("alone", False), ("running", True)):
        paying = place.start_example("approval.py:pay_invoice", name)
        callback_id = place.wait_for(name, "answer").callback_id
        if not runs:
            stopped_by(place, paying, signal.SIGKILL)
        both = [place.start("callback", "succeed", callback_id, "--result", APPROVED) for _ in range(2)]
        outcomes = [ended(one) for one in both]
        assert sorted(code for code, _, _ in outcomes) == [0, 3], outcomes
        (error,) = [err for code, _, err in outcomes if code == 3]
        assert "takes nothing any more: it is SUCCEEDED" in error
        if runs:
            assert ended(paying)[0] == 0
        assert place.ledger().count("transfer money") == (2 if runs else 1)


def decide_whatever_happens(place: Place, rng: random.Random, backend: str) -> int:
    """A stuck order whose engine is killed again and again, while an operator does not give up."""
    kills = 0
    engine = place.start_example("order.py:place_order", "stuck", "--backend", backend, stuck=True)
    place.wait_for("stuck", "decision")
    place.open_warehouse()
    for _ in range(12):
        operator = place.start("saga", "retry", "stuck", "reserve_stock", "--backend", backend)
        if rng.random() < 0.7:
            time.sleep(rng.uniform(0, 1.2))
            victim = rng.choice([engine, operator])
            kills += victim.poll() is None
            victim.kill()
        ended(operator)
        if engine.poll() is not None and place.awaited("stuck"):
            ended(engine)
            engine = place.start("resume", "stuck", "--backend", backend)
        if not place.awaited("stuck"):
            break
    if engine.poll() is None:
        ended(engine)
    assert place.run("resume", "stuck")[0] == 1
    return kills


@backends
def test_whoever_is_killed_the_order_ends_the_same(
    backend: str, tmp_path: Path, durable: Call, record_property: Callable[[str, object], None]
):
    """The engine, or who asks it, at random moments: what was decided is done, and nothing twice."""
    seed = int(os.environ.get("DURABLE_SEED") or random.SystemRandom().randrange(2**32))
    print(f"DURABLE_SEED={seed}")  # noqa: T201 - shown when it fails
    record_property("seed", seed)
    places = [Place(tmp_path / f"place-{number}") for number in range(4)]
    rngs = [random.Random(f"{seed} {number}") for number in range(4)]
    try:
        with ThreadPoolExecutor(2) as pool:
            kills = sum(pool.map(decide_whatever_happens, places, rngs, [backend] * 4))
        for place in places:
            happened = place.ledger()
            assert list(dict.fromkeys(happened)) == [
                "reserve stock", "authorise card", "void card", "open warehouse", "release stock"
            ]  # fmt: skip
            (rollback,) = durable("show", "stuck", "--json", "--store", place.store).document["rollbacks"]
            assert rollback["undone"] == ["authorise_card", "reserve_stock"]
    finally:
        for place in places:
            for process in place.started:
                if process.poll() is None:
                    process.kill()
                process.communicate()
    record_property("kills", kills)

"""The real thing: processes that are killed with SIGKILL at random moments, and gone on with.

What must hold, however often and whenever it is killed:

* it ends as it would have without: outcome, recorded operations, what was undone;
* what was recorded as completed has not happened again;
* what was interrupted may have happened twice, and then with the same idempotency key; once a kill at most;
* in order of their first happening, things happened as they would have without.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from durable._kernel.ids import idempotency_key
from durable._wire import ExecutionStatus
from durable.exceptions import ExecutionNotFoundError, StoreNotFoundError
from durable.local import Reader
from durable.local.stores.sqlite import open_store
from tests.cli.helpers import ROOT, Call, start_process

pytestmark = pytest.mark.process

TARGET = f"{ROOT / 'examples' / 'trip.py'}:book_trip"
INPUT = json.loads((ROOT / "examples" / "trip.json").read_text())
PACE = 0.06
RUNS = 4
"""Executions of each scenario on each event loop."""
MOST_KILLS = 3
"""Kills of one execution."""
MOST_REPEATS = 3
"""How often all of that, as long as no kill has come in the middle."""

BOOKED = ["book hotel", "book flight", "book car"]

# What the input asks for; the exit code; what happens; how many seconds it takes at least.
SCENARIOS: dict[str, tuple[dict[str, Any], int, list[str], float]] = {
    "success": ({"cooling_off": 1}, 0, [*BOOKED, "charge card"], 1 + 3 * PACE),
    "declined": (
        {"card": "declined"},
        1,
        [*BOOKED, "decline card", "cancel car", "cancel flight", "cancel hotel"],
        6 * PACE,
    ),
    "declined, and the flight cannot be cancelled": (
        {"card": "declined", "fail_compensation": "flight"},
        1,
        [*BOOKED, "decline card", "cancel car", "cancel hotel"],
        6 * PACE,
    ),
}


class Entry(msgspec.Struct, frozen=True):
    """A line of the ledger."""

    what: str
    key: str


class Killed(msgspec.Struct):
    """What was found after a kill: completed operations, by idempotency key, with how often each had happened."""

    completed: dict[str, int]
    is_over: bool


def ledger(where: Path) -> list[Entry]:
    if not (where / "ledger.db").exists():
        return []
    connection = sqlite3.connect(where / "ledger.db")
    try:
        rows = connection.execute("SELECT action, what, key FROM entries ORDER BY number").fetchall()
    except sqlite3.OperationalError:  # killed before there was a table
        rows = []
    finally:
        connection.close()
    return [Entry(f"{action} {what}", key) for action, what, key in rows]


def look(where: Path) -> Killed | None:
    """What a killed process has left behind; nothing, if it was killed before it had started anything."""

    async def read() -> Killed | None:
        try:
            store = open_store(str(where / "durable.db"), read_only=True)
        except StoreNotFoundError:
            return None
        try:
            reader = Reader(store)
            record = await reader.execution("t-1")
            operations = await reader.operations("t-1")
        except ExecutionNotFoundError:
            return None
        finally:
            await store.aclose()
        happened = Counter(entry.key for entry in ledger(where))
        keys = [idempotency_key(record.arn, operation.id) for operation in operations if operation.is_final]
        return Killed(
            {key: happened[key] for key in keys if key in happened}, record.status is not ExecutionStatus.RUNNING
        )

    return anyio.run(read)


def kill_and_go_on(where: Path, rng: random.Random, backend: str, scenario: str) -> tuple[int, int]:
    """One execution, killed several times.

    Returns:
        How many kills hit it, and how many of them in the middle.
    """
    changes, code, expected, seconds = SCENARIOS[scenario]
    where.mkdir(parents=True)
    payload = json.dumps({**INPUT, "pace": PACE, "cooling_off": 0, **changes})
    run: tuple[str, ...] = ("run", TARGET, "--input", payload, "--name", "t-1", "--backend", backend)
    commands: list[tuple[str, ...]] = [
        run,
        ("resume", "--backend", backend),
        ("resume", "t-1", "--backend", backend),
    ]
    options: dict[str, Any] = {"cwd": where, "env": {"TRIP_LEDGER": str(where / "ledger.db")}}
    found: list[Killed] = []
    kills = 0
    command = run
    for _ in range(rng.randint(1, MOST_KILLS)):
        process = start_process(*command, **options)
        assert process.stdout is not None
        if rng.random() < 0.8:
            process.stdout.readline()  # it has begun
            time.sleep(rng.uniform(0, 1.1 * seconds))
        else:
            time.sleep(rng.uniform(0, 0.6))  # it may be starting still
        process.kill()
        process.communicate()
        command = run
        if process.returncode != -signal.SIGKILL:
            break  # it was faster
        kills += 1
        left = look(where)
        if left is not None:
            found.append(left)
            if left.is_over:
                break
            command = rng.choice(commands)
    process = start_process(*command, **options)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, (out, err)

    entries = ledger(where)
    happened = Counter(entry.key for entry in entries)
    assert list(dict.fromkeys(entry.what for entry in entries)) == expected
    assert len(happened) == len(expected)
    assert len(entries) - len(expected) <= kills
    for killed in found:
        for key, times in killed.completed.items():
            assert happened[key] == times
    return kills, sum(not killed.is_over and bool(killed.completed) for killed in found)


def shape(document: Any) -> list[tuple[str, Any]]:
    """An execution without times and the like, part by part: the same for every run that ended the same."""
    kept = ("id", "type", "sub_type", "status", "result", "error")
    operations = [(one["name"], [one[key] for key in kept]) for one in document["operations"]]
    rollbacks = [(one["undone"], [failed["name"] for failed in one["failed"]]) for one in document["rollbacks"]]
    return [
        ("outcome", [document["status"], document["result"], document["error"]]),
        ("rollbacks", rollbacks),
        *operations,
    ]


def whole(durable: Call, where: Path, backend: str, scenario: str) -> list[tuple[str, Any]]:
    """The same execution, left alone."""
    changes, code, _, _ = SCENARIOS[scenario]
    payload = json.dumps({**INPUT, "pace": PACE, "cooling_off": 0, **changes})
    store = str(where / "whole.db")
    run = durable("run", TARGET, "-i", payload, "-n", "t-1", "--store", store, "--backend", backend)
    assert run.code == code
    return shape(durable("show", "t-1", "--json", "--store", store).document)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_killed_at_any_moment_it_ends_the_same(
    scenario: str, backend: str, durable: Call, tmp_path: Path, record_property: Callable[[str, object], None]
):
    """Killed up to three times, by `run` and by `resume`, it ends as if nothing had happened."""
    seed = int(os.environ.get("DURABLE_SEED") or random.SystemRandom().randrange(2**32))
    print(f"DURABLE_SEED={seed}")  # noqa: T201 - shown when it fails
    record_property("seed", seed)
    expected = whole(durable, tmp_path, backend, scenario)
    places: list[Path] = []
    hits: list[tuple[int, int]] = []
    # On a busy machine what was meant for the middle may come too early: then as often again.
    for _ in range(MOST_REPEATS):
        places += (more := [tmp_path / f"run-{len(places) + number}" for number in range(RUNS)])
        rngs = [random.Random(f"{seed} {place.name}") for place in more]
        with ThreadPoolExecutor(2) as pool:
            hits += pool.map(kill_and_go_on, more, rngs, [backend] * RUNS, [scenario] * RUNS)
        if any(in_the_middle for _, in_the_middle in hits):
            break
    for place in places:
        found = shape(durable("show", "t-1", "--json", "--store", str(place / "durable.db")).document)
        assert [name for name, _ in found] == [name for name, _ in expected]
        for one, other in zip(found, expected, strict=True):
            assert one == other, place.name
    kills, in_the_middle = (sum(column) for column in zip(*hits, strict=True))
    record_property("kills", kills)
    record_property("in the middle", in_the_middle)
    print(f"{kills} kills, {in_the_middle} of them in the middle")  # noqa: T201
    assert in_the_middle > 0

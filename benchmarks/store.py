"""Steps on SQLite with synchronous=FULL, against the bare commit on the same disk in the same run.

python benchmarks/store.py [DIRECTORY]
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import anyio
import msgspec
from engine import Execution, steps
from report import figure, heading, middle

from durable._engine.clock import SystemClock
from durable.abc import ExecutionRecord
from durable.local.service import LocalService
from durable.local.stores.sqlite import open_store

STEPS = 400
TOGETHER = 50
ROUNDS = 5


def bare_commit(path: Path) -> float:
    """Seconds for one row in one transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY, data BLOB)")
    data = b"x" * 400
    began = time.perf_counter()
    for _ in range(STEPS):
        connection.execute("BEGIN")
        connection.execute("INSERT INTO rows (data) VALUES (?)", (data,))
        connection.execute("COMMIT")
    taken = time.perf_counter() - began
    connection.close()
    return taken / STEPS


async def durable_steps(path: Path) -> tuple[float, float]:
    """Seconds a step, one execution after another and many at once."""
    store = open_store(str(path))

    async def run(count: int) -> None:
        execution = Execution(steps, count)
        execution.record = _named(execution)
        execution.service = service
        await service.create(execution.record)
        await execution.invoke(await execution.begin())

    service = LocalService(store, SystemClock())
    began = time.perf_counter()
    await run(STEPS)
    alone = (time.perf_counter() - began) / STEPS
    each = STEPS // 10
    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(TOGETHER):
            tasks.start_soon(run, each)
    together = (time.perf_counter() - began) / (each * TOGETHER)
    await store.aclose()
    return alone, together


def _named(execution: Execution) -> ExecutionRecord:
    return msgspec.structs.replace(execution.record, name=execution.record.id)


def main() -> None:
    """Measure on both event loops, bare commits in between."""
    heading(f"Steps of {steps.name!r} on SQLite, WAL, synchronous=FULL (median of {ROUNDS})")
    for backend in ("asyncio", "trio"):
        bare, alone, together = [], [], []
        for number in range(ROUNDS):
            with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as directory:
                bare.append(bare_commit(Path(directory) / "bare.db"))
                one, many = anyio.run(durable_steps, Path(directory) / f"{number}.db", backend=backend)
                alone.append(one)
                together.append(many)
        figure(f"{backend}: bare commit", middle(bare) * 1e6, "µs")
        figure(f"{backend}: a step, one after another", middle(alone) * 1e6, "µs")
        figure(
            "ratio to the bare commit",
            middle([one / commit for one, commit in zip(alone, bare, strict=True)]),
            "x",
            budget=2,
        )
        figure(f"{backend}: a step, {TOGETHER} executions at once", middle(together) * 1e6, "µs")
        figure(
            "ratio of the rates",
            middle([one / many for one, many in zip(alone, together, strict=True)]),
            "x",
            budget=4,
            at_least=True,
        )


if __name__ == "__main__":
    main()

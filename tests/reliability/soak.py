"""Many executions on one store file, by a process that is killed at random moments, until all are over.

What the steps do is a line each in a log, written in one call: it is there whenever the process is killed after it.
Whoever starts the process again writes a line into it for each kill, so that it is known what happened in whose
lifetime. What must hold:

* every execution is over, with the result, or the error, that it would have had without kills;
* what is to happen has happened; within the lifetime of one process at most once;
* a step that is to happen at most once has never happened twice, and is in doubt only if a process was killed;
* what was undone was undone in reverse order; nothing was that did not have to be.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio

from durable import DurableContext, StepInterruptedError, durable_execution, saga
from durable._wire import ExecutionStatus
from durable.abc import ExecutionRecord
from durable.exceptions import ExecutionFailedError
from durable.local import Reader, open_engine
from durable.local.stores.sqlite import open_store

ROOT = Path(__file__).parent.parent.parent
AT_ONCE = 200
"""Executions that are under way at once."""
KILLED = "killed"
DOUBT = "in doubt"

_log = -1


async def do(what: str) -> str:
    """A step's body."""
    await anyio.sleep(0.001)
    os.write(_log, f"{what}\n".encode())
    return what


async def undo(what: str) -> None:
    """A compensation's body."""
    await do(f"{what} undone")


@durable_execution
async def chain(name: str, ctx: DurableContext) -> list[str]:
    """Three steps, of which one is to happen at most once."""
    first = await ctx.step(do, f"{name}/a", name="a")
    try:
        second = await ctx.step(do, f"{name}/once", name="once", semantics="at-most-once")
    except StepInterruptedError:
        second = DOUBT
    return [first, second, await ctx.step(do, f"{name}/c", name="c")]


@durable_execution
async def patient(name: str, ctx: DurableContext) -> list[str]:
    """A saga that succeeds, with a wait."""
    async with saga(ctx) as s:
        first = await s.step(do, f"{name}/a", name="a", compensate=undo)
        await ctx.wait(1)
        return [first, await s.step(do, f"{name}/b", name="b", compensate=undo)]


@durable_execution
async def undone(name: str, ctx: DurableContext) -> None:
    """A saga that fails."""
    async with saga(ctx) as s:
        await s.step(do, f"{name}/a", name="a", compensate=undo)
        await s.step(do, f"{name}/b", name="b", compensate=undo)
        raise LookupError("no more")


@durable_execution
async def spread(name: str, ctx: DurableContext) -> list[str]:
    """Items side by side."""

    async def each(ctx: DurableContext, item: str) -> str:
        return await ctx.step(do, f"{name}/{item}", name=item)

    batch = await ctx.map(each, ["a", "b", "c"], name="items")
    return batch.results()


KINDS: Sequence[Any] = (chain, patient, undone, spread)


def name_of(number: int) -> str:
    """An execution's name; it says of which kind it is."""
    return f"{KINDS[number % len(KINDS)].name}-{number}"


def wanted(name: str) -> tuple[list[str], list[str]]:
    """What an execution returns, and what it has to do, by the end; one that fails returns nothing."""
    kind = name.partition("-")[0]
    results = {"chain": ["a", "once", "c"], "patient": ["a", "b"], "undone": [], "spread": ["a", "b", "c"]}[kind]
    effects = ["a", "b", "b undone", "a undone"] if kind == "undone" else results
    return [f"{name}/{what}" for what in results], [f"{name}/{what}" for what in effects]


# --- The process that is killed --------------------------------------------------------------------------------


async def work(store: str, count: int) -> None:
    """Have so many executions come to their ends, those first that have begun."""
    async with open_engine(store) as engine:
        records = await engine.executions()
        over = {record.name for record in records if record.status is not ExecutionStatus.RUNNING}
        begun = [record.name for record in records if record.name not in over]
        sys.stdout.write(f"{json.dumps({'resumed': len(begun)})}\n")
        sys.stdout.flush()
        known = {*over, *begun}
        rest = iter([*begun, *(name for name in map(name_of, range(count)) if name not in known)])

        async def some() -> None:
            for name in rest:
                run = await engine.start(KINDS[int(name.rpartition("-")[2]) % len(KINDS)], name, name=name)
                try:
                    await run.result()
                except ExecutionFailedError:
                    continue

        async with anyio.create_task_group() as tasks:
            for _ in range(AT_ONCE):
                tasks.start_soon(some)


def main() -> None:
    """Arguments: store, log, how many executions, seconds until the end (0: none), event loop."""
    global _log  # noqa: PLW0603 - bodies are called by the engine
    store, log, count, seconds, backend = sys.argv[1:]
    _log = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    if float(seconds):
        timer = threading.Timer(float(seconds), os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
    anyio.run(work, store, int(count), backend=backend)


# --- Who starts it again ---------------------------------------------------------------------------------------


def soak(
    directory: Path, *, executions: int, kills: int | None, lifetime: tuple[float, float], seed: int
) -> Counter[str]:
    """Start the process until all is over, and check everything.

    Args:
        directory: Where the files are.
        executions: How many.
        kills: How often it is killed at most; `None` for as often as it takes.
        lifetime: How long it lives, in seconds: at least, at most.
        seed: When exactly.

    Raises:
        AssertionError: Something does not hold.
    """
    rng = random.Random(seed)
    store, log = directory / "soak.db", directory / "log"
    counts: Counter[str] = Counter(executions=executions)
    while True:
        last = kills is not None and counts["kills"] >= kills
        seconds = 0.0 if last else rng.uniform(*lifetime)
        backend = ("asyncio", "trio")[counts["kills"] % 2]
        command = ["-m", "tests.reliability.soak", str(store), str(log), str(executions), str(seconds), backend]
        ended = subprocess.run(
            [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, timeout=900
        )
        for line in ended.stdout.splitlines():
            counts["executions that were resumed"] += json.loads(line)["resumed"]
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.returncode
        counts["kills"] += 1
        with log.open("a") as lines:
            lines.write(f"{KILLED}\n")
    counts += _check_log(log.read_text(), executions, counts["kills"])
    counts += anyio.run(_check_store, store, executions)
    return counts


def _check_log(log: str, executions: int, kills: int) -> Counter[str]:
    lives = [life.splitlines() for life in log.split(f"{KILLED}\n")]
    assert len(lives) == kills + 1
    total: Counter[str] = Counter()
    first: dict[str, int] = {}
    for life in lives:
        within = Counter(life)
        twice = [what for what, count in within.items() if count > 1]
        assert not twice, f"happened twice without a kill in between: {twice[:5]}"
        for what in life:
            first.setdefault(what, len(first))
        total += within
    expected = {what for number in range(executions) for what in wanted(name_of(number))[1]}
    once = {what for what in expected if what.endswith("/once")}
    assert set(total) <= expected, f"nobody asked for this: {sorted(set(total) - expected)[:5]}"
    missing = expected - once - set(total)
    assert not missing, f"never happened: {sorted(missing)[:5]}"
    assert all(total[what] <= 1 for what in once), "what was to happen at most once did not"
    for number in range(executions):
        order = [first[what] for what in wanted(name_of(number))[1] if what in first]
        assert number % len(KINDS) == KINDS.index(spread) or order == sorted(order), name_of(number)
    return Counter(
        {
            "bodies of steps and compensations that ran": total.total(),
            "bodies that ran again after a kill": total.total() - len(total),
            "at-most-once steps that never ran": len(once) - sum(total[what] for what in once),
        }
    )


async def _check_store(path: Path, executions: int) -> Counter[str]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    store = open_store(str(path), read_only=True)
    try:
        records: dict[str, ExecutionRecord] = {record.name: record for record in await Reader(store).executions()}
    finally:
        await store.aclose()
    assert set(records) == {name_of(number) for number in range(executions)}
    counts: Counter[str] = Counter()
    for name, record in records.items():
        if name.startswith("undone"):
            assert record.status is ExecutionStatus.FAILED, name
            assert record.error is not None
            assert record.error.error_type == "LookupError", (name, record.error)
            continue
        assert record.status is ExecutionStatus.SUCCEEDED, (name, record)
        expected, _ = wanted(name)
        result = json.loads(record.result or "null")
        doubt = DOUBT in result
        counts["at-most-once steps in doubt"] += doubt
        assert result == ([expected[0], DOUBT, expected[2]] if doubt else expected), (name, result)
    return counts


if __name__ == "__main__":
    main()

"""What runs while the disk is watched: a few executions on a store file, and what must hold of them afterwards.

Everything that the world knows is in one log beside the store, a line each, written in one call and never cut off:
that a change was acknowledged (the store has returned from writing it), and that a step's body has come to its end.
"""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
import msgspec

from durable import DurableContext, Retry, current_step, durable_execution, saga
from durable._wire.enums import SubType
from durable.abc import Change, Store
from durable.exceptions import ExecutionFailedError
from durable.local import open_engine
from durable.local.stores.memory import MemoryStore
from durable.local.stores.sqlite import SqliteStore, _row, open_store
from durable.testing import SkippingClock
from tests.reliability.over import OverStore
from tests.sweep import shape

STORE = "store.db"
LOG = "ack"

_log: ContextVar[tuple[int, ...]] = ContextVar("log", default=())
"""Where the world's log is, while something runs."""


class Order(msgspec.Struct, frozen=True):
    """What an execution is to do."""

    name: str
    fails: bool = False
    items: tuple[str, ...] = ()


def happened(what: str) -> None:
    """Write down that a body has come to its end."""
    for log in _log.get():
        os.write(log, f"{json.dumps({'effect': what})}\n".encode())


async def do(order: Order, what: str, *, fails: int = 0) -> str:
    """A step's body."""
    attempt = current_step().attempt
    happened(f"{order.name}/{what}/{attempt}")
    if attempt <= fails:
        raise ValueError(f"{what} failed")
    return what


@durable_execution
async def trip(order: Order, ctx: DurableContext) -> list[str]:
    """A saga: three steps, one of which is tried again, a wait between them; or all of it undone."""

    async def undo(what: str) -> None:
        happened(f"{order.name}/undo {what}/1")

    async def flight() -> str:
        return await do(order, "flight", fails=1)

    async with saga(ctx) as s:
        hotel = await s.step(do, order, "hotel", name="hotel", compensate=undo)
        retry = Retry(attempts=2, initial_delay=1, jitter="none")
        booked = await s.step(flight, name="flight", compensate=undo, retry=retry)
        await ctx.wait(5)
        if order.fails:
            raise LookupError("no more cars")
        card = await s.step(do, order, "card", name="card")
    return [hotel, booked, card]


@durable_execution
async def fan(order: Order, ctx: DurableContext) -> list[str]:
    """Items side by side, two steps each; then some one after another."""

    async def pack(ctx: DurableContext, item: str) -> str:
        await ctx.step(do, order, f"pack {item}", name=f"pack {item}")
        return await ctx.step(do, order, f"send {item}", name=f"send {item}")

    batch = await ctx.map(pack, order.items, name="items", max_concurrency=2)
    last = [await ctx.step(do, order, f"bill {number}", name=f"bill {number}") for number in range(3)]
    return [*batch.results(), *last]


SESSIONS = (
    ((trip, Order("trip-ok")), (trip, Order("trip-no", fails=True))),
    ((fan, Order("fan-1", items=("a", "b"))), (fan, Order("fan-2", items=("c",))), (trip, Order("trip-late"))),
)
"""What runs at once, and is over before the store is closed and opened again."""


class LoggedStore(OverStore):
    """Says what has been acknowledged, before whoever waits for it hears of it."""

    async def create(self, change: Change) -> None:
        await super().create(change)
        assert change.execution is not None
        self._acknowledge(change.execution.id, change)

    async def commit(self, execution_id: str, change: Change) -> None:
        await super().commit(execution_id, change)
        self._acknowledge(execution_id, change)

    @staticmethod
    def _acknowledge(execution_id: str, change: Change) -> None:
        line = {"ack": [execution_id, change.number, zlib.crc32(_row(0, change)[3])]}
        for log in _log.get():
            os.write(log, f"{json.dumps(line)}\n".encode())


async def run_session(store: Store, session: Sequence[tuple[Any, Order]]) -> dict[str, Any]:
    """Have executions run to their ends, also those that had begun; how each ended, and what it recorded."""
    found: dict[str, Any] = {}

    async def one(function: Any, order: Order) -> None:
        run = await engine.start(function, order, name=order.name)
        try:
            result = await run.result()
        except ExecutionFailedError as error:
            result = [str(error.__cause__ or error)]
        found[order.name] = [str(run.name), result, shape(await engine.operations(order.name))]

    with anyio.fail_after(60):
        async with open_engine(store=store, clock=SkippingClock()) as engine, anyio.create_task_group() as tasks:
            for function, order in session:
                tasks.start_soon(one, function, order)
    return found


async def run_all(directory: str, synchronous: str) -> None:
    """The whole of it, on the file in a directory; the log beside it goes on."""
    log = os.open(Path(directory) / LOG, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    _log.set((log,))
    try:
        for session in SESSIONS:
            store = open_store(str(Path(directory) / STORE))
            await set_synchronous(store, synchronous)
            try:
                await run_session(LoggedStore(store), session)
            finally:
                await store.aclose()
    finally:
        os.close(log)


async def set_synchronous(store: SqliteStore, synchronous: str) -> None:
    """Be less careful than the library is: what must be noticed."""
    if synchronous != "FULL":
        await store._thread.read(lambda connection: connection.execute(f"PRAGMA synchronous = {synchronous}"))


async def reference() -> tuple[dict[str, Any], Counter[str]]:
    """How everything ends, and what happens, where nothing goes wrong."""
    found: dict[str, Any] = {}
    read, write = os.pipe()
    os.set_blocking(read, False)
    _log.set((write,))
    try:
        for session in SESSIONS:
            found.update(await run_session(MemoryStore(), session))
        _, effects = parse(os.read(read, 1 << 16))
    finally:
        os.close(read)
        os.close(write)
    return found, effects


def parse(log: bytes) -> tuple[dict[str, dict[int, int]], Counter[str]]:
    """A log: checksums of the acknowledged changes by their numbers, by execution; how often each body has run."""
    acknowledged: dict[str, dict[int, int]] = {}
    effects: Counter[str] = Counter()
    for line in log.splitlines():
        entry = json.loads(line)
        if "effect" in entry:
            effects[entry["effect"]] += 1
        else:
            execution_id, number, checksum = entry["ack"]
            acknowledged.setdefault(execution_id, {})[number] = checksum
    return acknowledged, effects


class Violation(AssertionError):
    """Something that must hold does not."""


async def verify(directory: Path, log: bytes, expected: tuple[dict[str, Any], Counter[str]]) -> Counter[str]:
    """What must hold of the file in a directory, given the log so far; then go on to the end.

    Returns:
        Counts: changes that had been acknowledged, executions that were resumed, bodies that ran again.

    Raises:
        Violation: It does not hold.
        StoreError: The file cannot be opened.
    """
    acknowledged, before = parse(log)
    path = directory / LOG
    path.write_bytes(log)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    store = open_store(str(directory / STORE))
    _log.set((descriptor,))
    try:
        await _check_rows(store, acknowledged)
        recorded = await _recorded(store)
        if lost := recorded - set(before):
            raise Violation(f"recorded, but never happened: {lost}")
        resumed = len([record for record in await store.executions() if record.end_timestamp is None])
        # Those that are over are asked for as well.
        found = await run_session(store, [each for session in SESSIONS for each in session])
    finally:
        await store.aclose()
        os.close(descriptor)
    outcomes, effects = expected
    if found != outcomes:
        raise Violation(f"ended otherwise: {[name for name in outcomes if found.get(name) != outcomes[name]]}")
    _, after = parse(path.read_bytes())
    if set(after) != set(effects):
        raise Violation(f"happened, or did not: {set(after) ^ set(effects)}")
    again = {what for what in after if after[what] > before[what] > 0}
    if again & recorded:
        raise Violation(f"happened again although it was recorded: {again & recorded}")
    if many := {what for what in after if after[what] > max(before[what], 0) + 1 or after[what] > 2}:
        raise Violation(f"happened too often: {many}")
    changes = sum(map(len, acknowledged.values()))
    return Counter({"changes acknowledged": changes, "executions resumed": resumed, "bodies run again": len(again)})


async def _check_rows(store: SqliteStore, acknowledged: dict[str, dict[int, int]]) -> None:
    """The file is whole; each execution has all its changes, and those that were acknowledged as they were."""
    (whole,) = (await store._rows("PRAGMA integrity_check"))[0]
    if whole != "ok":
        raise Violation(f"integrity_check: {whole}")
    rows = await store._rows("SELECT id, number, changes.data FROM changes JOIN executions ON key = execution")
    kept: dict[str, dict[int, int]] = {}
    for execution_id, number, data in rows:
        kept.setdefault(execution_id, {})[number] = zlib.crc32(data)
    for execution_id, changes in kept.items():
        if sorted(changes) != list(range(1, len(changes) + 1)):
            raise Violation(f"changes of {execution_id} with gaps: {sorted(changes)}")
    for execution_id, changes in acknowledged.items():
        have = kept.get(execution_id, {})
        if lost := [number for number, checksum in changes.items() if have.get(number) != checksum]:
            raise Violation(f"acknowledged and lost: changes {lost} of {execution_id}")


async def _recorded(store: SqliteStore) -> set[str]:
    """The bodies whose outcomes are recorded, attempt by attempt."""
    found: set[str] = set()
    for record in await store.executions():
        loaded = await store.load(record.id)
        for operation in loaded.operations if loaded is not None else ():
            name, attempts = f"{record.name}/{operation.name}", 0
            if operation.step_details is not None and operation.name != "rollback":
                attempts = operation.step_details.attempt or 0
            elif operation.sub_type == SubType.COMPENSATION and operation.is_final:
                name, attempts = f"{record.name}/undo {operation.name}", 1
            found.update(f"{name}/{attempt}" for attempt in range(1, attempts + 1))
    return found

"""What every store does, whatever it keeps executions in: the rules are in durable/testing/contracts."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable._wire import Operation, OperationUpdate
from durable._wire.events import EventType
from durable.abc import Change, EventRecord, Store
from durable.local.machine.rules import RefusedUpdateError
from durable.local.machine.state import ExecutionState, Transition
from durable.local.stores.inbox import post
from durable.local.stores.memory import MemoryStore
from durable.local.stores.sqlite import SqliteStore, open_store
from durable.testing.clock import START
from durable.testing.contracts import STORE_RULES, Rule, check_store
from durable.testing.contracts.log import Log, step
from tests.local.machine.bench import Bench, execution
from tests.local.machine.model import Script, scripts

pytestmark = pytest.mark.anyio


class Stores:
    """What opens stores of a kind, each time another one, and the same one again."""

    def __init__(self, directory: Path) -> None:
        self._paths = (str(directory / f"store-{number}.db") for number in itertools.count())

    def open(self):
        return self._opened(MemoryStore())

    def reopen(self, store: Store):
        return self._opened(store)

    async def post(self, store: Store, text: str) -> None:
        raise NotImplementedError

    @asynccontextmanager
    async def _opened(self, store: Store) -> AsyncGenerator[Store]:
        try:
            yield store
        finally:
            await store.aclose()


class SqliteStores(Stores):
    """Stores in files, which are closed before they are opened again."""

    def open(self):
        return self._opened(open_store(next(self._paths)))

    def reopen(self, store: Store):
        return self._opened(open_store(self._path_of(store)))

    async def post(self, store: Store, text: str) -> None:
        await anyio.to_thread.run_sync(post, self._path_of(store), text)

    def _path_of(self, store: Store) -> str:
        assert isinstance(store, SqliteStore)
        return store.path


class KilledStores(SqliteStores):
    """Stores in files, as they are when their process is killed: nothing that closing does has been done."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._left: dict[Store, str] = {}

    @asynccontextmanager
    async def _opened(self, store: Store) -> AsyncGenerator[Store]:
        async with super()._opened(store):
            yield store
            self._left[store] = left = next(self._paths)
            copy(super()._path_of(store), left)

    def _path_of(self, store: Store) -> str:
        return self._left.get(store) or super()._path_of(store)


def copy(path: str, to: str) -> None:
    """A store's file and its log."""
    for end in ("", "-wal"):
        if Path(f"{path}{end}").exists():
            shutil.copy(f"{path}{end}", f"{to}{end}")


KINDS = {"memory": Stores, "sqlite": SqliteStores, "killed": KilledStores}
NO_INBOX = {"an_inbox_begins_empty", "requests_stay_until_there_is_a_reply", "a_request_is_found_whenever_it_comes"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", STORE_RULES, ids=str)
async def test_contract(rule: Rule[Any], kind: str, tmp_path: Path):
    """Each rule, for each kind of store."""
    stores = KINDS[kind](tmp_path)
    report = await check_store(stores.open, reopen=stores.reopen, post=stores.post, rules=[rule])
    assert set(report.skipped) <= (NO_INBOX if kind == "memory" else set())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_whoever_does_not_wait_for_a_commit_has_made_it_all_the_same(kind: str, tmp_path: Path):
    """More than the contract asks for: a cancellation changes nothing about it; later changes follow it."""
    log = Log()
    async with KINDS[kind](tmp_path).open() as store:
        await store.create(log.begin())
        for number in range(5):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await store.commit(log.id, log.change(step(f"s-{number}")))
            await store.commit(log.id, log.change(step(f"t-{number}")))
        other = Log("t-2")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.create(other.begin())
        await store.commit(other.id, other.change(step("a")))
        await log.check(store)
        await other.check(store)


# --- Whatever happens, both keep the same --------------------------------------------------------------------


@settings(max_examples=60, deadline=None, print_blob=True)
@given(scripts=st.lists(scripts(most=8, pauses=True), min_size=1, max_size=3))
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_both_stores_give_the_state_that_was_committed(
    backend: str, scripts: list[Script], tmp_path_factory: pytest.TempPathFactory
):
    """After any calls at any time, on any number of executions; and the state that is loaded goes on alike."""
    directory = tmp_path_factory.mktemp("store")
    anyio.run(_commit_and_compare, scripts, directory, backend=backend)


async def _commit_and_compare(scripts: list[Script], directory: Path) -> None:
    kinds = [Stores(directory), SqliteStores(directory)]
    stores: list[Store] = []
    benches: list[Bench] = []
    for kind in kinds:
        benches = []
        async with kind.open() as store:
            stores.append(store)
            for number, script in enumerate(scripts):
                bench = Bench()
                benches.append(bench)
                record = execution(id=f"e-{number}", name=f"t-{number}", timeout=61)
                bench.state.record = record
                started = EventRecord(EventType.EXECUTION_STARTED, START)
                await store.create(Change(execution=record, events=[started]))
                for part in script:
                    already = len(bench.changes)
                    _play(bench, part)
                    for change in bench.changes[already:]:
                        await store.commit(record.id, change)
    for kind, closed in zip(kinds, stores, strict=True):
        async with kind.reopen(closed) as store:
            for bench in benches:
                await _compare(store, bench)


def _play(bench: Bench, part: list[OperationUpdate] | int | str) -> None:
    if isinstance(part, int):
        bench.wait(part / 1000)
        return
    if isinstance(part, str):
        bench.do(part)
        return
    try:
        bench.call(*part)
    except RefusedUpdateError:
        return


async def _compare(store: Store, bench: Bench) -> None:
    loaded = await store.load(bench.state.record.id)
    assert loaded is not None
    state = ExecutionState(loaded)
    assert state.record == bench.state.record
    assert _in_order(state) == _in_order(bench.state)
    assert state.next_due == bench.state.next_due
    assert [event for _, event in await store.events(state.record.id)][1:] == bench.events
    assert state.change(Transition()) == bench.state.change(Transition())


def _in_order(state: ExecutionState) -> list[Operation]:
    return list(state.operations.values())

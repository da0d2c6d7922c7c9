"""Rules for stores: which executions there are."""

from __future__ import annotations

import itertools
from typing import Any, Final

import msgspec

from ..._wire import ExecutionStatus, Timestamp
from ...abc import ExecutionRecord, Listing, Store
from ..clock import START
from .log import OOPS, Log
from .rules import expect, expect_same
from .store_bench import StoreBench, StoreRules

rule = StoreRules()

_LISTED: Final = (
    ("a", "f", ExecutionStatus.SUCCEEDED),
    ("b", "g", ExecutionStatus.SUCCEEDED),
    ("c", "f", ExecutionStatus.RUNNING),
    ("d", "f", ExecutionStatus.FAILED),
    ("e", "f", ExecutionStatus.SUCCEEDED),
)
"""Executions, in the order in which they were started: name, function, how they stand."""


@rule
async def executions_by_status(bench: StoreBench) -> None:
    """`executions` gives all, or those of a status, as they stand now, oldest first, with their inputs."""
    logs = {name: Log(name, input=f'"{name}"') for name in ("d", "a", "c", "b")}

    async def look(store: Store) -> None:
        expected = {None: "dacb", ExecutionStatus.RUNNING: "dc", ExecutionStatus.SUCCEEDED: "a"}
        for status, names in {**expected, ExecutionStatus.FAILED: "b", ExecutionStatus.STOPPED: ""}.items():
            records = [logs[name].record for name in names]
            expect_same(f"executions({status or ''})", list(await store.executions(status)), records)

    async with bench.opened() as store:
        for log in logs.values():
            await store.create(log.begin())
        await store.commit(logs["a"].id, logs["a"].end())
        await store.commit(logs["b"].id, logs["b"].end(ExecutionStatus.FAILED, error=OOPS))
        await look(store)
    if bench.can_reopen:
        async with bench.reopened() as store:
            await look(store)


@rule
async def the_executions_of_a_function_are_listed(bench: StoreBench) -> None:
    """`listing` gives what fits: by function, statuses, name and time, newest first or oldest first, no inputs."""
    async with bench.opened() as store:
        records = await _fill(store)
        await _look(store, records)
    if bench.can_reopen:
        async with bench.reopened() as store:
            await _look(store, records)


@rule
async def a_listing_comes_in_pages(bench: StoreBench) -> None:
    """A page has at most `limit`, and begins where the one before ended; the last has no position for a next."""
    async with bench.opened() as store:
        records = await _fill(store)
        for limit, oldest_first, statuses in itertools.product(
            (1, 2, 3, 4, 5), (False, True), ((), (ExecutionStatus.SUCCEEDED,))
        ):
            wanted = Listing(function="tests:f", statuses=statuses, oldest_first=oldest_first, limit=limit)
            names = [record.name for record in _expected(records, wanted)]
            expected = [names[begin : begin + limit] for begin in range(0, len(names), limit)]
            found = await _pages(store, wanted)
            expect_same(f"the pages of {limit}, {_how(wanted)},", found, expected)
        none: list[list[str]] = [[]]
        nothing = await _pages(store, Listing(function="tests:nobody"))
        expect_same("the pages of a function without executions", nothing, none)


@rule
async def what_happens_between_two_pages_repeats_nothing(bench: StoreBench) -> None:
    """Executions that begin, or end, while somebody turns pages shift nothing: none comes twice or is left out."""
    async with bench.opened() as store:
        logs = [Log(f"t-{number}") for number in range(6)]
        for log in logs:
            await store.create(log.begin())
        newest = Listing(function="tests:f", statuses=(ExecutionStatus.RUNNING,), limit=2)
        await _turn(store, newest, logs, ["t-5", "t-4", "t-3", "t-2", "t-1", "t-0"])
        oldest = msgspec.structs.replace(newest, oldest_first=True)
        await _turn(store, oldest, logs, ["t-0", "t-1", "t-2", "t-3", "t-5", "t-6", "t-7"])


async def _turn(store: Store, wanted: Listing, logs: list[Log], expected: list[str]) -> None:
    """Turn pages; after the first one an execution begins, and its last one ends, so that it fits no more."""
    found: list[str] = []
    position: int | None = 0
    while position is not None and len(found) <= len(expected):
        page = await store.listing(msgspec.structs.replace(wanted, position=position))
        found += [record.name for record in page.records]
        if position == 0 and found:
            logs.append(Log(f"t-{len(logs)}"))
            await store.create(logs[-1].begin())
            last = next(log for log in logs if log.record.name == found[-1])
            await store.commit(last.id, last.end())
        position = page.position
    expect_same(f"the names on all pages, {_how(wanted)},", found, expected)


async def _fill(store: Store) -> list[ExecutionRecord]:
    records: list[ExecutionRecord] = []
    for seconds, (name, function, status) in enumerate(_LISTED):
        log = Log(name, function=f"tests:{function}", start_timestamp=Timestamp(START + seconds * 1000))
        await store.create(log.begin())
        if status is not ExecutionStatus.RUNNING:
            await store.commit(log.id, log.end(status, result="1"))
        records.append(msgspec.structs.replace(log.record, input=None))
    return records


async def _look(store: Store, records: list[ExecutionRecord]) -> None:
    functions = ("tests:f", "tests:g", "tests:nobody", "tests")
    statuses = ((), (ExecutionStatus.SUCCEEDED,), (ExecutionStatus.FAILED, ExecutionStatus.RUNNING))
    times: tuple[dict[str, Any], ...] = (
        {},
        {"started_after": Timestamp(START + 1999), "started_before": Timestamp(START + 4000)},
        {"started_after": Timestamp(START + 2000), "started_before": Timestamp(START + 4001)},
    )
    for function, some, time, name, oldest_first in itertools.product(
        functions, statuses, times, (None, "c", "b"), (False, True)
    ):
        wanted = Listing(function=function, statuses=some, name=name, oldest_first=oldest_first, **time)
        page = await store.listing(wanted)
        expect_same(f"the listing {_how(wanted)}", list(page.records), _expected(records, wanted))
        expect_same(f"the position of the listing {_how(wanted)}", page.position, None)


async def _pages(store: Store, wanted: Listing) -> list[list[str]]:
    """The pages of a listing, as names."""
    pages: list[list[str]] = []
    position: int | None = 0
    while position is not None:
        expect(len(pages) <= len(_LISTED), "an end of the pages", f"pages without end: {pages}")
        page = await store.listing(msgspec.structs.replace(wanted, position=position))
        pages.append([record.name for record in page.records])
        position = page.position
    return pages


def _expected(records: list[ExecutionRecord], wanted: Listing) -> list[ExecutionRecord]:
    fitting = [record for record in records if wanted.fits(record)]
    return fitting if wanted.oldest_first else fitting[::-1]


def _how(wanted: Listing) -> str:
    fields = ((name, getattr(wanted, name)) for name in wanted.__struct_fields__)
    return ", ".join(f"{name}={value!r}" for name, value in fields if value)

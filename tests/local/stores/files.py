"""Stores in files, for tests: opened and filled here, looked at and killed in other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from durable.local.stores.sqlite import SqliteStore, open_store
from durable.testing.contracts.log import Log, step

ROOT = Path(__file__).parent.parent.parent.parent


@asynccontextmanager
async def opened(path: str, *, read_only: bool = False) -> AsyncGenerator[SqliteStore]:
    store = open_store(path, read_only=read_only)
    try:
        yield store
    finally:
        await store.aclose()


async def filled(path: str, changes: int = 3) -> Log:
    """A store with one execution, closed."""
    log = Log()
    async with opened(path) as store:
        await store.create(log.begin())
        for number in range(changes):
            await store.commit(log.id, log.change(step(f"s-{number}")))
    return log


async def check(store: SqliteStore, log: Log) -> None:
    loaded = await store.load(log.id)
    assert loaded is not None
    assert list(loaded.operations) == list(log.operations.values())
    assert (loaded.events, loaded.changes) == (len(log.events), log.changes)


def elsewhere(code: str, *arguments: str, **options: Any) -> str:
    """What another process prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False, **options)
    assert done.returncode == 0, done.stderr
    printed: str = done.stdout
    return printed.strip()


async def on_the_thread(store: SqliteStore, query: str) -> Any:
    """What the store's own connection answers."""
    return await store._thread.read(lambda connection: connection.execute(query).fetchone())


async def use_up_room(store: SqliteStore) -> None:
    """Leave no free pages in the file: what is written next makes it longer."""
    await on_the_thread(
        store,
        "CREATE TABLE used AS SELECT zeroblob(page_size * freelist_count) AS data "
        "FROM pragma_page_size, pragma_freelist_count",
    )


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def listing(directory: Path) -> set[str]:
    return {found.name for found in directory.iterdir()}


@contextmanager
def writer(path: str, backend: str, executions: int = 1) -> Generator[subprocess.Popen[str]]:
    """A process that writes until it is killed (see writer.py)."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = str(Path(__file__).parent / "writer.py")
    command = [sys.executable, script, path, backend, str(executions)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

"""A process that has a store and writes to it until it is killed; each number it prints has been acknowledged.

python writer.py PATH BACKEND EXECUTIONS
"""

from __future__ import annotations

import sys

import anyio

from durable.local.stores.sqlite import SqliteStore, open_store
from durable.testing.contracts.log import Log, step


async def write(store: SqliteStore, number: int) -> None:
    """One execution that is never over."""
    log = Log(f"t-{number}")
    await store.create(log.begin())
    for count in range(1_000_000):
        await store.commit(log.id, log.change(step(f"s-{count}", f'"{count}"'), step("last", f"{count}")))
        sys.stdout.write(f"{number} {count}\n")
        sys.stdout.flush()


async def main(path: str, executions: int) -> None:
    """Several of them at once."""
    store = open_store(path)
    sys.stdout.write("open\n")
    sys.stdout.flush()
    async with anyio.create_task_group() as tasks:
        for number in range(executions):
            tasks.start_soon(write, store, number)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[3]), backend=sys.argv[2])

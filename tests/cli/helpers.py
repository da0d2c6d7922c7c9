"""Calling the command line as a process, leaving work behind, and reading what was printed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec

from durable.local import Engine, load_target, open_engine

ROOT = Path(__file__).parent.parent.parent
JOBS = Path(__file__).parent / "jobs.py"


class Outcome(msgspec.Struct):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Standard output as JSON, line by line."""
        return [msgspec.json.decode(line) for line in self.out.splitlines()]

    @property
    def document(self) -> Any:
        """Standard output as one JSON document."""
        return msgspec.json.decode(self.out)


Call = Callable[..., Outcome]


def job(name: str) -> str:
    """The target of one of the functions in `jobs.py`."""
    return f"{JOBS}:{name}"


def start_process(*arguments: str, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """Start the command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "durable", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **options.pop("env", {})},
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=options.pop("stderr", subprocess.PIPE),
        text=True,
        **options,
    )


def leave_unfinished(*jobs: tuple[str, Any, str], events: int, target: str | None = None) -> None:
    """Start executions (function, input, name), and close the engine when each has had so many events."""

    async def follow(engine: Engine, name: str, event: Any, execution: str) -> None:
        run = await engine.start(load_target(target or job(name)), event, name=execution)
        async for one in run.events():
            if one.event_id >= events:
                return

    async def main() -> None:
        async with open_engine("durable.db") as engine, anyio.create_task_group() as tasks:
            for one in jobs:
                tasks.start_soon(follow, engine, *one)

    anyio.run(main)


def said(text: str, *parts: str) -> bool:
    """Whether the parts are in the text, in that order."""
    position = 0
    for part in parts:
        position = text.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return True


def names(rows: Sequence[Any], kind: str) -> list[str]:
    """The names in the events of one type."""
    return [row["event"].get("Name", "") for row in rows if row.get("event", {}).get("EventType") == kind]

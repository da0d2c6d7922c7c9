"""The disk under the SQLite engine: every write and sync counted, cut off by SIGKILL, or undone by a power loss.

The engine is the real one, in a real process: a small library that is loaded before all others (disk.c) stands
between SQLite and the C library. What it writes down is enough to build the files anew as a disk may hold them when
the power has failed at any moment (`Disk`):

* what was written to a file before its last sync is there;
* of what was written later, any subset is: none, all, whole writes, or single sectors of 512 bytes; likewise
  changes of the file's length;
* a file is in its directory, or gone from it, for sure only once the directory was synced; before, each name by
  itself may be as it was at any time since.

What is not modelled: a disk that says that it has written what it has not; a sync that fails; bits that decay; and
what the `-shm` file's memory holds, which SQLite throws away when it opens a database that nobody has open.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import anyio

from tests.reliability.workload import LOG, Violation, parse, reference, verify

ROOT = Path(__file__).parent.parent.parent
SECTOR = 512

How: TypeAlias = Literal["nothing", "everything", "writes", "sectors"]
"""Which of what was not synced survives."""
HOWS: Sequence[How] = ("nothing", "everything", "writes", "sectors")


def why_not() -> str | None:
    """Why this cannot be run here; `None` if it can."""
    if not sys.platform.startswith("linux"):
        return "LD_PRELOAD is Linux's"
    return None if shutil.which("cc") else "there is no C compiler"


class Watched:
    """A process whose writes are watched."""

    def __init__(self, directory: Path) -> None:
        library = directory / "disk.so"
        source = str(Path(__file__).parent / "disk.c")
        command = [
            "cc",
            "-O1",
            "-Wall",
            "-Werror",
            "-shared",
            "-fPIC",
            "-o",
            str(library),
            source,
            "-ldl",
            "-lpthread",
        ]
        subprocess.run(command, check=True)
        environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.disk_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )

    def run(
        self,
        directory: Path,
        *,
        kill_at: int = 0,
        torn: bool = False,
        trace: Path | None = None,
        backend: str = "asyncio",
        synchronous: str = "FULL",
    ) -> int | None:
        """Run the workload; how many calls it made, `None` if it was killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        directory.mkdir()
        line = f"{directory} {kill_at} {torn:d} {trace or '-'} {backend} {synchronous}\n"
        self._process.stdin.write(line)
        self._process.stdin.flush()
        answer = self._process.stdout.readline().split()
        if answer == ["killed"]:
            return None
        if answer[:1] != ["done"]:
            raise Violation(f"the process failed: {answer}")
        return int(answer[1])

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def fast_directory() -> Iterator[Path]:
    """A new directory, in memory if there is one: only the processes are real here, the disk is a model.

    It stays if something is found: the files are worth a look.
    """
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield directory
    shutil.rmtree(directory)


@contextmanager
def watched(directory: Path) -> Iterator[Watched]:
    """A process whose writes are watched, in a directory of its own."""
    directory.mkdir()
    process = Watched(directory.resolve())
    try:
        yield process
    finally:
        process.close()


@lru_cache
def expected() -> tuple[dict[str, Any], Counter[str]]:
    """What is to come of the workload."""
    return anyio.run(reference)


# --- Killed at every call --------------------------------------------------------------------------------------


def kill_everywhere(directory: Path, every: int = 1, first: int = 1, processes: int = 1) -> Counter[str]:
    """Kill the process at one in `every` of its calls, each in a run of its own, and go on after each.

    Every second of them is killed in the middle of what it writes; the event loops take turns.

    Args:
        directory: Where the files are.
        every: Every how many-th call.
        first: At which call first.
        processes: How many do this side by side.
    """
    expected()  # once
    with ThreadPoolExecutor(processes) as pool:
        parts = [
            pool.submit(
                _kill_everywhere, directory / f"part-{part}", range(first + part * every, 10**6, processes * every)
            )
            for part in range(processes)
        ]
    counts: Counter[str] = Counter()
    for part in parts:
        counts += part.result()
    counts["calls of one run"] //= processes
    return counts


def _kill_everywhere(directory: Path, calls: Sequence[int]) -> Counter[str]:
    directory.mkdir()
    counts: Counter[str] = Counter()
    with watched(directory / "process") as process:
        for turn, kill_at in enumerate(calls):
            backend = ("asyncio", "trio")[turn // 2 % 2]
            where = directory / f"killed-at-{kill_at}"
            made = process.run(where, kill_at=kill_at, torn=bool(turn % 2), backend=backend)
            log = where / LOG
            counts += _verify(where, log.read_bytes() if log.exists() else b"", backend, f"kill at call {kill_at}")
            shutil.rmtree(where)
            if made is not None:
                counts["calls of one run"] = made
                break
            counts["kills"] += 1
    return counts


def _verify(directory: Path, log: bytes, backend: str, what: str) -> Counter[str]:
    try:
        return anyio.run(partial(verify, directory, log, expected()), backend=backend)
    except Exception as error:
        raise Violation(f"{what}: {error} (the files are in {directory})") from error


# --- The power fails -------------------------------------------------------------------------------------------


class Record(NamedTuple):
    """One call, as it was written down."""

    kind: str
    name: str
    offset: int
    data: bytes


def read_trace(path: Path, directory: Path) -> list[Record]:
    """What was written down; names are those of files in the directory, `.` is the directory itself."""
    data, found, at = path.read_bytes(), [], 0
    head = struct.Struct("=cHQQ")
    while at < len(data):
        kind, name_length, offset, length = head.unpack_from(data, at)
        at += head.size
        name = data[at : at + name_length].decode()
        at += name_length
        found.append(Record(kind.decode(), os.path.relpath(name, directory), offset, data[at : at + length]))
        at += length
    return found


@dataclass(eq=False)
class Content:
    """A file's bytes, whatever it is called: those that are durable, and what was done to them since."""

    durable: bytearray = field(default_factory=bytearray)
    since: list[Record] = field(default_factory=list)

    def sync(self) -> None:
        """What was done is durable now."""
        for record in self.since:
            _apply(self.durable, record)
        self.since.clear()


class Disk:
    """A directory, and what of it is durable."""

    def __init__(self) -> None:
        self._now: dict[str, Content] = {}
        # What each name stood for when the directory was last synced, and each time that this changed since.
        self._durable: dict[str, Content] = {}
        self._since: dict[str, list[Content | None]] = {}
        self.log = b""

    def apply(self, record: Record) -> None:
        """One call was made."""
        kind, name, _, data = record
        if kind == "A":
            self.log += data
        elif kind == "O":
            self._now[name] = Content()
            self._since.setdefault(name, []).append(self._now[name])
        elif kind == "U":
            del self._now[name]
            self._since.setdefault(name, []).append(None)
        elif kind == "S" and name == ".":
            self._durable = dict(self._now)
            self._since.clear()
        elif kind == "S":
            self._now[name].sync()
        else:
            self._now[name].since.append(record)

    def lose_power(self, how: How, rng: random.Random) -> dict[str, bytes]:
        """The files, as they may be found afterwards."""
        names = dict(self._durable)
        for name, changes in self._since.items():
            known = {"nothing": 0, "everything": len(changes)}.get(how, rng.randrange(len(changes) + 1))
            content = changes[known - 1] if known else self._durable.get(name)
            names.pop(name, None)
            if content is not None:
                names[name] = content
        found: dict[str, bytes] = {}
        for name, content in names.items():
            data = bytearray(content.durable)
            for record in _survivors(content.since, how, rng):
                _apply(data, record)
            found[name] = bytes(data)
        return found


def _survivors(records: Sequence[Record], how: How, rng: random.Random) -> Iterator[Record]:
    likely = rng.random()
    for record in records:
        if (
            how == "everything"
            or (how != "nothing" and record.kind == "T" and rng.random() < likely)
            or (how == "writes" and rng.random() < likely)
        ):
            yield record
        elif how == "sectors" and record.kind == "W":
            begin = record.offset
            end = begin + len(record.data)
            while begin < end:
                stop = min(end, (begin // SECTOR + 1) * SECTOR)
                if rng.random() < likely:
                    data = record.data[begin - record.offset : stop - record.offset]
                    yield record._replace(offset=begin, data=data)
                begin = stop


def _apply(data: bytearray, record: Record) -> None:
    if record.kind == "T":
        del data[record.offset :]
        data.extend(bytes(record.offset - len(data)))
    else:
        data.extend(bytes(max(0, record.offset - len(data))))
        data[record.offset : record.offset + len(record.data)] = record.data


def trace(directory: Path, synchronous: str = "FULL", backend: str = "asyncio") -> list[Record]:
    """All calls of one run of the workload that nothing happens to."""
    with watched(directory / "process") as process:
        where = directory / "traced"
        written = directory / "trace"
        process.run(where, trace=written, synchronous=synchronous, backend=backend)
        return read_trace(written, where)


def moments(records: Sequence[Record], most: int, seed: int) -> set[int]:
    """So many of all moments: a third right after an acknowledgement, a third before the first one, a third any.

    While the store is made and its log laid out, moments are many and alike.
    """
    rng = random.Random(seed)
    after = [number for number, record in enumerate(records, 1) if record.kind == "A"]
    parts: list[Sequence[int]] = [after, range(1, after[0]), range(1, len(records) + 1)]
    return {number for part in parts for number in rng.sample(part, min(most // 3, len(part)))}


def lose_power(records: Sequence[Record], directory: Path, chosen: set[int], seed: int) -> Counter[str]:
    """Let the power fail at some moments, each time with every way to lose what was not synced.

    Args:
        records: What the run did.
        directory: Where the files are built.
        chosen: After which calls, from 1.
        seed: What is lost.
    """
    rng = random.Random(seed)
    disk = Disk()
    counts: Counter[str] = Counter()
    for number, record in enumerate(records[: max(chosen)], 1):
        disk.apply(record)
        if number not in chosen:
            continue
        counts["moments"] += 1
        states: list[dict[str, bytes]] = []
        for how in HOWS:
            files = disk.lose_power(how, rng)
            if files in states:
                continue
            states.append(files)
            where = directory / f"{number}-{how}"
            where.mkdir()
            for name, data in files.items():
                (where / name).write_bytes(data)
            what = f"power lost after call {number} of {len(records)}, of the unsynced: {how}, seed {seed}"
            counts += _verify(where, disk.log, ("asyncio", "trio")[number % 2], what)
            counts["disks"] += 1
            shutil.rmtree(where)
    return counts


def acknowledged(records: Sequence[Record]) -> int:
    """How many changes were, in all."""
    changes, _ = parse(b"".join(record.data for record in records if record.kind == "A"))
    return sum(map(len, changes.values()))

"""The SQLite engine on a disk that is watched: killed in the middle of its calls, and after the power failed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.disk import (
    Disk,
    Record,
    acknowledged,
    fast_directory,
    kill_everywhere,
    lose_power,
    moments,
    trace,
    why_not,
)
from tests.reliability.workload import Violation

needs_shim = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where files may be."""
    with fast_directory() as found:
        yield found


@needs_shim
@pytest.mark.process
def test_a_process_that_is_killed_in_the_middle_of_a_call(directory: Path):
    """What was acknowledged is there, and everything ends as it would have, with nothing recorded done again."""
    counts = kill_everywhere(directory, every=211, first=150)
    assert counts["kills"] > 5
    assert counts["changes acknowledged"] > 0


@needs_shim
@pytest.mark.process
def test_the_power_fails(directory: Path):
    """The same, whatever of what was not synced is lost."""
    records = trace(directory)
    assert acknowledged(records) > 50
    counts = lose_power(records, directory, moments(records, 12, seed=1), seed=1)
    assert counts["disks"] > counts["moments"] > 10


@needs_shim
@pytest.mark.process
@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_it_is_noticed_that_syncs_are_missing(synchronous: str, directory: Path):
    """A store that syncs less than ours loses what was acknowledged."""
    records = trace(directory, synchronous)
    (moment, *_) = (number for number in range(len(records)) if acknowledged(records[:number]) == 20)
    with pytest.raises(Violation, match="acknowledged and lost"):
        lose_power(records, directory, {moment}, seed=1)


def lost(records: list[Record]) -> list[dict[str, bytes]]:
    """What a disk may hold after each of many power losses."""
    disk = Disk()
    for record in records:
        disk.apply(record)
    rng = random.Random(0)
    return [disk.lose_power("sectors", rng) for _ in range(200)]


def test_what_was_synced_survives_and_what_was_not_may():
    """By sectors, on top of what is durable; the length as well."""
    synced = [Record("O", "a", 0, b""), Record("W", "a", 0, b"1" * 1024), Record("S", "a", 0, b"")]
    found = lost([*synced, Record("S", ".", 0, b""), Record("W", "a", 512, b"2" * 1024)])
    old, new, hole = b"1" * 512, b"2" * 512, bytes(512)
    assert {each["a"] for each in found} == {
        old + old,
        old + new,
        old + old + new,
        old + new + new,
    }
    assert all(hole not in each["a"] for each in found)
    shorter = lost([*synced, Record("S", ".", 0, b""), Record("T", "a", 3, b"")])
    assert {each["a"] for each in shorter} == {b"111", b"1" * 1024}


def test_a_name_is_sure_once_its_directory_was_synced():
    """Before, the file may be missing or be there again, with the content that it had."""
    made = [Record("O", "a", 0, b""), Record("W", "a", 0, b"1"), Record("S", "a", 0, b"")]
    assert {each.get("a") for each in lost(made)} == {None, b"1"}
    sure = [*made, Record("S", ".", 0, b"")]
    assert {each.get("a") for each in lost(sure)} == {b"1"}
    gone = [*sure, Record("U", "a", 0, b"")]
    assert {each.get("a") for each in lost(gone)} == {None, b"1"}
    anew = [*gone, Record("O", "a", 0, b""), Record("W", "a", 0, b"2"), Record("S", "a", 0, b"")]
    assert {each.get("a") for each in lost(anew)} == {None, b"1", b"2"}
    assert {each.get("a") for each in lost([*anew, Record("S", ".", 0, b"")])} == {b"2"}

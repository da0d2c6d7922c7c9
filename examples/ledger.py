"""What was really booked, cancelled and charged: a small ledger in an SQLite file of its own.

It stands for the outside world of the examples: hotels, airlines and banks. Entries are only ever added, so one can
see afterwards what happened, how often, and in which order. `python examples/ledger.py` prints it, and
`python examples/ledger.py open warehouse` enters that somebody has opened the warehouse.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    action TEXT NOT NULL,
    what TEXT NOT NULL,
    reference TEXT NOT NULL,
    key TEXT NOT NULL,
    attempt INTEGER NOT NULL
)
"""


class Entry(NamedTuple):
    """One thing that happened.

    Attributes:
        number: From 1, in the order in which things happened.
        time: When.
        action: `book`, `cancel`, `charge`, `refund` or `decline`.
        what: To what: `hotel`, `flight`, `car`, `card`.
        reference: Which one.
        key: The idempotency key it was asked for with: the same for a repeat.
        attempt: Which attempt of the step asked for it.
    """

    number: int
    time: str
    action: str
    what: str
    reference: str
    key: str
    attempt: int


def ledger_path() -> Path:
    """Where the ledger is: `TRIP_LEDGER`, or `trip-ledger.db` in the current directory."""
    return Path(os.environ.get("TRIP_LEDGER", "trip-ledger.db"))


def add(action: str, what: str, reference: str, *, key: str, attempt: int) -> None:
    """Add an entry; it is there for good when this returns."""
    with closing(_open()) as connection, connection:
        connection.execute(
            "INSERT INTO entries (time, action, what, reference, key, attempt) VALUES (?, ?, ?, ?, ?, ?)",
            (datetime.now(UTC).isoformat(timespec="milliseconds"), action, what, reference, key, attempt),
        )


def entries() -> list[Entry]:
    """Everything that has happened, in order."""
    with closing(_open()) as connection:
        return [Entry(*row) for row in connection.execute("SELECT * FROM entries ORDER BY number")]


def _open() -> sqlite3.Connection:
    connection = sqlite3.connect(ledger_path(), timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(_TABLE)
    return connection


def main() -> int:
    """Print the ledger, or enter something by hand: an action, and to what."""
    if len(sys.argv) > 1:
        action, what = sys.argv[1:]
        add(action, what, "by hand", key="", attempt=1)
        return 0
    if not ledger_path().exists():
        print(f"there is no ledger at {ledger_path()}: nothing was booked yet", file=sys.stderr)
        return 1
    print(f"{'time':<25}{'action':<9}{'what':<8}{'reference':<22}{'attempt':<9}idempotency key")
    for entry in entries():
        print(
            f"{entry.time[:23]:<25}{entry.action:<9}{entry.what:<8}{entry.reference:<22}{entry.attempt:<9}{entry.key}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m tests.histories NAME...`: record the histories of programs, as this version of the library makes them.

Without a name: tell which programs there are, and which of them this version has made no history of. What there is
already is never overwritten.
"""

from __future__ import annotations

import sys
from functools import partial

import anyio

import durable
from tests.histories.index import keep, kept
from tests.histories.recording import record
from tests.histories.registry import PROGRAMS


def main(names: list[str]) -> int:
    """Record the histories of some programs."""
    made = {one.program for one in kept() if one.version == durable.__version__}
    if not names:
        for name in PROGRAMS:
            sys.stdout.write(f"{name}{'' if name in made else '  (no history of this version)'}\n")
        return 0
    unknown = [name for name in names if name not in PROGRAMS]
    twice = [name for name in names if name in made]
    for problem, which in (("no such program", unknown), ("is there already, and never overwritten", twice)):
        if which:
            sys.stderr.write(f"{', '.join(which)}: {problem}\n")
    if unknown or twice:
        return 3
    for name in names:
        recording = anyio.run(partial(record, name, PROGRAMS[name]))
        entry = keep(name, durable.__version__, tuple(recording.cuts), recording.document())
        sys.stdout.write(f"{entry.file}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

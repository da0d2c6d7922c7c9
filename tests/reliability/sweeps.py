"""How many crashes the tests of engine, operations and sagas let happen, in virtual time.

They crash the process, so to speak, at every call to the service, before it is sent and after it was applied, and
at pairs of calls; each time the execution is run to its end and has to be what it would have been. Each is noted
by the test harness (`tests.harness.CrashError`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TESTS = ("tests/engine", "tests/operations", "tests/saga", "tests/examples", "tests/properties")


def count(directory: Path, tests: tuple[str, ...] = TESTS) -> Counter[str]:
    """Run the tests, and sum up.

    Raises:
        AssertionError: A test fails.
    """
    noted = directory / "crashes"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-m",
        "not process",
        "-p",
        "no:cacheprovider",
        *tests,
    ]
    environment = {**os.environ, "DURABLE_CRASHES": str(noted)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    return summed(noted.read_text())


def summed(noted: str) -> Counter[str]:
    """Crashes, and tests with crashes, on each event loop."""
    crashes = Counter(noted.splitlines())
    counts: Counter[str] = Counter()
    for test, number in crashes.items():
        loop = "trio" if "trio" in test else "asyncio"
        counts[f"crashes on {loop}"] += number
        counts[f"tests with crashes, on {loop}"] += 1
    return counts

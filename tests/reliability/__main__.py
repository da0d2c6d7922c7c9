"""Prove it at length, print what was counted, and write it into docs/reliability.md.

python -m tests.reliability [PART...] [--seed N] [--scale X] [--no-write]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from tests.reliability import mutation, sweeps, two_holders
from tests.reliability.disk import fast_directory, kill_everywhere, lose_power, moments, trace, why_not
from tests.reliability.report import PAGE, Part, figures_of, rewritten, text_of
from tests.reliability.service_machine import machine_over, run_machine
from tests.reliability.soak import soak

Found: TypeAlias = tuple[dict[str, str], tuple[str, ...]]
"""Figures, and details."""


def tell(line: str) -> None:
    """Say how far it is."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def of_size(most: float, scale: float) -> int:
    """How many, at that scale."""
    return max(1, round(most * scale))


def measure_service(scale: float, seed: int, directory: Path) -> Found:
    """The state machine, on both stores and both event loops."""
    counts: Counter[str] = Counter()
    for kind, backend, examples in (
        ("memory", "asyncio", 400),
        ("memory", "trio", 200),
        ("sqlite", "asyncio", 80),
        ("sqlite", "trio", 40),
    ):
        size = of_size(examples, scale)
        counts["runs"] += size
        counts += run_machine(machine_over(kind, backend), examples=size, steps=50, seed=seed)
    shown = {
        "runs": counts["runs"],
        "steps": counts["rules"],
        "calls that were accepted": counts["calls"],
        "calls that were refused, for the same reason": sum(
            number for what, number in counts.items() if what.startswith("refused") and "store" not in what
        ),
        "writes that failed": counts["refused: store before"] + counts["refused: store after"],
        "restarts": counts["restarts"],
        "differences": 0,
    }
    return figures_of(shown), ()


def measure_holders(scale: float, seed: int, directory: Path) -> Found:
    """Two invocations of one execution at once."""
    return {**figures_of(two_holders.measure(of_size(500, scale), seed)), "violations": "0"}, ()


def measure_kills(scale: float, seed: int, directory: Path) -> Found:
    """Kills at calls of the disk."""
    every = max(1, round(2 / scale))
    with fast_directory() as fast:
        counts = kill_everywhere(fast, every=every, first=1 + seed % every, processes=2)
    figures = {"killed at": "every call" if every == 1 else f"one of {every} calls"}
    return {**figures, **figures_of(counts), "violations": "0"}, ()


def measure_power(scale: float, seed: int, directory: Path) -> Found:
    """Power losses."""
    counts: Counter[str] = Counter()
    for number, backend in enumerate(("asyncio", "trio")):
        with fast_directory() as fast:
            records = trace(fast, backend=backend)
            chosen = moments(records, of_size(240, scale), seed + number)
            counts += lose_power(records, fast, chosen, seed + number)
    return {**figures_of(counts), "violations": "0"}, ()


def measure_soak(scale: float, seed: int, directory: Path) -> Found:
    """The soak."""
    counts = soak(directory, executions=of_size(10_000, scale), kills=None, lifetime=(0.5, 4), seed=seed)
    return {**figures_of(counts), "violations": "0"}, ()


def measure_mutants(scale: float, seed: int, directory: Path) -> Found:
    """Mutants of the kernel."""
    every = len(mutation.every_mutant())
    chosen = mutation.sample(of_size(200, scale), seed)
    with fast_directory() as fast:
        survivors = mutation.judge(chosen, fast, processes=2, tell=tell)
    counts = {
        "mutants there are": every,
        "tried": len(chosen),
        "killed": len(chosen) - len(survivors),
        "survived": len(survivors),
    }
    return figures_of(counts), tuple(f"`{mutant}`" for mutant in survivors)


def measure_sweeps(scale: float, seed: int, directory: Path) -> Found:
    """Crashes in the ordinary tests."""
    return figures_of(sweeps.count(directory)), ()


PARTS: dict[str, Callable[[float, int, Path], Found]] = {
    "service": measure_service,
    "holders": measure_holders,
    "kills": measure_kills,
    "power": measure_power,
    "soak": measure_soak,
    "mutants": measure_mutants,
    "sweeps": measure_sweeps,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are asked for: all, if none is."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all, if none is given")
    parser.add_argument("--seed", type=int, default=1, help="decides what is tried")
    parser.add_argument("--scale", type=float, default=1.0, help="how much: 1 is more than half an hour in all")
    parser.add_argument("--no-write", action="store_true", help="leave docs/reliability.md as it is")
    wanted = parser.parse_args(arguments)
    if unknown := set(wanted.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    for name in wanted.parts or PARTS:
        why = why_not() if name in {"kills", "power"} else None
        if why is not None:
            tell(f"{name}: not here, {why}")
            continue
        tell(f"--- {name}, seed {wanted.seed}")
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            figures, details = PARTS[name](wanted.scale, wanted.seed, Path(directory))
        part = Part(name, figures, time.monotonic() - began, wanted.seed, details)
        how = f"nox -s reliability -- {name} --seed {wanted.seed} --scale {wanted.scale:g}"
        tell(text_of(part, how))
        if not wanted.no_write:
            PAGE.write_text(rewritten(PAGE.read_text(), part, how))


if __name__ == "__main__":
    main()

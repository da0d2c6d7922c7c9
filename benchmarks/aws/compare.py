"""This library on AWS, beside the two other SDKs of Lambda's durable functions: one run, one endpoint, one Python.

python benchmarks/aws/compare.py [--rounds N] [--cache DIRECTORY]

Each SDK has a virtual environment of its own, made when it is first needed, and a process of its own. They take
turns, so that noise meets all of them; the endpoint is a further process, whose work is not counted. Processor time
is the client process's, with all its threads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

from report import figure, heading, middle  # noqa: E402 - it is where the other benchmarks are


class Contender(NamedTuple):
    """One SDK."""

    name: str
    module: str
    requirement: str
    version_of: Sequence[str]


OURS = Contender("durable", "ours", f"-e{ROOT}", ("durable", "aiobotocore", "botocore", "httpcore2"))
PEERS = (
    Contender(
        "official SDK",
        "official",
        "aws-durable-execution-sdk-python==3.0.0",
        ("aws-durable-execution-sdk-python", "boto3", "botocore"),
    ),
    Contender(
        "async-durable-execution",
        "community",
        "async-durable-execution==2.5.0",
        ("async-durable-execution", "botocore"),
    ),
    Contender(
        "async-durable-execution, httpx",
        "community",
        "async-durable-execution[httpx]==2.5.0",
        ("async-durable-execution", "botocore", "httpx"),
    ),
)
CONTENDERS = (OURS, *PEERS)

LATENCY = 0.01
STEPS = 200
ITEMS = 1_000
REPLAYED = 2_000
UNDONE = 50
STARTS_A_ROUND = 3

Figures = dict[Contender, list[dict[str, Any]]]


# --- Environments and processes ------------------------------------------------------------------------------


def interpreter(contender: Contender, cache: Path) -> Path:
    """The Python of a contender's environment, which is made if there is none yet."""
    directory = cache / "".join(letter if letter.isalnum() else "-" for letter in contender.name)
    python = directory / "bin" / "python"
    made = directory / "made"
    if not made.exists() or made.read_text() != contender.requirement:
        subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", contender.requirement], check=True)
        made.write_text(contender.requirement)
    return python


def versions(contender: Contender, python: Path) -> str:
    """What is installed there, of what matters."""
    code = (
        "import importlib.metadata as m, sys;"
        "print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]), 'on Python', sys.version.split()[0])"
    )
    return subprocess.check_output([python, "-c", code, *contender.version_of], text=True).strip()


def environment(port: int, **more: str) -> dict[str, str]:
    """What Lambda sets in a sandbox; nothing of this machine's AWS configuration is looked at."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "AWS_SESSION_TOKEN": "a-token-of-a-session" * 20,
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{port}",
        # Lambda's runtime has set it; nobody is there.
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9",
        **more,
    }


class Process:
    """A process that answers line by line."""

    def __init__(self, command: Sequence[str | Path], env: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True, bufsize=1
        )

    def read(self) -> Any:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} has ended")
        return json.loads(line)

    def ask(self, **asked: Any) -> Any:
        """Its answer to a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        return self.read()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


@contextmanager
def process(command: Sequence[str | Path], env: dict[str, str] | None = None) -> Iterator[Process]:
    """A process for as long as the block lasts."""
    started = Process(command, env)
    try:
        yield started
    finally:
        started.close()


# --- Warm: one workload after the other ----------------------------------------------------------------------


def measure(processes: dict[Contender, Process], rounds: int, **asked: Any) -> Figures:
    """A workload on all who have it, in turn; the first time is not counted."""
    found: Figures = {contender: [] for contender in processes}
    for number in range(rounds + 1):
        for contender, running in processes.items():
            told = running.ask(**asked)
            if number:
                found[contender].append(told)
    return found


def measure_replay(processes: dict[Contender, Process], rounds: int) -> Figures:
    """Each replays an execution that it has made itself."""
    made = {
        contender: running.ask(work="steps", input=REPLAYED, latency=0)["execution"]
        for contender, running in processes.items()
    }
    found: Figures = {contender: [] for contender in processes}
    for _ in range(rounds * 2):
        for contender, running in processes.items():
            told = running.ask(work="steps", input=REPLAYED, latency=0, execution=made[contender])
            found[contender].append(told)
    return found


def best(figures: Figures, key: str) -> dict[Contender, float]:
    """The least of each: what disturbs only ever adds."""
    return {contender: min(told[key] for told in rounds) for contender, rounds in figures.items()}


def ratio(figures: Figures, key: str, of: Callable[[Sequence[float]], float] = min) -> float:
    """Ours, to that of the better peer."""
    taken = {contender: of([told[key] for told in rounds]) for contender, rounds in figures.items()}
    return taken.pop(OURS) / min(taken.values())


def show(title: str, figures: Figures) -> None:
    """A workload's figures, one line a contender."""
    print(f"\n  {title}")
    for contender, rounds in figures.items():
        cpu, wall = ([told[key] * 1e3 for told in rounds] for key in ("cpu", "wall"))
        calls = [told["calls"] for told in rounds]
        latency = middle([told["latency"] for told in rounds]) * 1e3
        print(
            f"    {contender.name:<32}CPU {min(cpu):8.1f} (median {middle(cpu):.1f}) ms   "
            f"wall {min(wall):8.1f} (median {middle(wall):.1f}) ms   "
            f"calls {min(calls)}-{max(calls)}, answered in {latency:.2f} ms"
        )


def judge(figures: Figures, key: str, name: str, target: float | None = None) -> None:
    """The ratio to the better peer, by what each needed at least; that of the medians beside it."""
    figure(f"ratio: {name}", ratio(figures, key), f"x ({ratio(figures, key, middle):.2f})", budget=target)


def warm(processes: dict[Contender, Process], rounds: int) -> None:
    """The workloads, in processes that are warm."""
    ours = {OURS: processes[OURS]}

    near = measure(processes, rounds, work="steps", input=STEPS, latency=0)
    show(f"{STEPS} sequential steps, no latency", near)
    judge(near, "cpu", "CPU", 0.5)
    figure("calls", max(told["calls"] for told in near[OURS]), "", budget=STEPS)
    far = measure(processes, rounds, work="steps", input=STEPS, latency=LATENCY)
    show(f"{STEPS} sequential steps, {LATENCY * 1e3:g} ms", far)
    judge(far, "cpu", "CPU", 0.5)
    figure("wall, of steps x latency", best(far, "wall")[OURS] / STEPS / LATENCY, "x", budget=1.25)
    quickest = min(far[OURS], key=lambda told: told["wall"])
    figure("the same, of steps x what the endpoint took", quickest["wall"] / STEPS / quickest["latency"], "x")

    for latency in (0, LATENCY):
        found = measure(processes, rounds, work="map", input=ITEMS, latency=latency)
        show(f"map of {ITEMS:,} items, a step each, {latency * 1e3:g} ms", found)
        judge(found, "wall", "wall", 0.3)
        judge(found, "cpu", "CPU")
        judge(found, "calls", "calls", 1)

    found = measure_replay(processes, rounds)
    show(f"replay of {REPLAYED:,} steps, paged", found)
    judge(found, "cpu", "CPU", 0.25)

    for latency in (0, LATENCY):
        found = measure(processes, rounds, work="saga", input=UNDONE, latency=latency)
        show(f"a saga of {UNDONE} steps rolled back, {latency * 1e3:g} ms", found)
        judge(found, "cpu", "CPU", 0.5)
        figure("calls", max(told["calls"] for told in found[OURS]), "", budget=2 * UNDONE + 1)

    found = measure(ours, rounds, work="batch", input=STEPS, latency=LATENCY)
    show(f"{STEPS} steps in a batch, {LATENCY * 1e3:g} ms", found)
    figure("calls", max(told["calls"] for told in found[OURS]), "", budget=10)


# --- Cold: a process from its start --------------------------------------------------------------------------


def start(python: Path, contender: Contender, port: int, **more: str) -> dict[str, float]:
    """One sandbox, from the start of its process to its first step's record; milliseconds and MB."""
    from contender import control

    url = f"http://127.0.0.1:{port}"
    begun = control(url, do="begin", latency=0, input=1)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as event:
        event.write(json.dumps(begun["event"]))
        event.flush()
        env = environment(port, **more)
        command = [python, HERE / "contender.py", contender.module, event.name]
        began = time.monotonic()
        told = json.loads(subprocess.check_output(command, env=env, text=True))
    recorded = control(url, do="told")["first success"]
    return {
        "total": (recorded - began) * 1e3,
        "init": (told["initialised"] - began) * 1e3,
        "invocation": (recorded - told["invoked"]) * 1e3,
        "cpu": told["cpu"] * 1e3,
        "peak": told["peak"] / 1e3,
    }


def cold(pythons: dict[Contender, Path], rounds: int, port: int, **more: str) -> Figures:
    """Sandboxes that start, in turn; the first time is not counted, as it may compile."""
    found: Figures = {contender: [] for contender in pythons}
    for number in range(rounds * STARTS_A_ROUND + 1):
        for contender, python in pythons.items():
            told = start(python, contender, port, **more)
            if number:
                found[contender].append(told)
    return found


def show_cold(title: str, figures: Figures) -> None:
    """The figures of starts, one line a contender."""
    print(f"\n  {title}")
    for contender, rounds in figures.items():
        parts = []
        for key in ("total", "init", "invocation", "cpu", "peak"):
            values = [told[key] for told in rounds]
            parts.append(f"{key} {min(values):7.1f} (median {middle(values):.1f})")
        print(f"    {contender.name:<32}{'   '.join(parts)}")
    judge(figures, "total", "process start to the first step's record", 1)
    judge(figures, "cpu", "processor time of all of it")
    judge(figures, "invocation", "the first invocation's part", 0.5)
    judge(figures, "peak", "peak memory", 1.2)


def main() -> None:
    """Make the environments, then measure warm and cold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "bench-aws")
    parser.add_argument("--only", choices=("warm", "cold"))
    options = parser.parse_args()
    heading(
        f"On AWS's client, beside the other SDKs (least and median of {options.rounds}; "
        "ratios of the least, in brackets of the medians)"
    )
    pythons = {contender: interpreter(contender, options.cache.absolute()) for contender in CONTENDERS}
    for contender, python in pythons.items():
        print(f"  {contender.name}: {versions(contender, python)}")
    with ExitStack() as stack:
        endpoint = stack.enter_context(process([pythons[OURS], HERE / "endpoint.py"]))
        port: int = endpoint.read()
        if options.only != "cold":
            with ExitStack() as running:
                processes = {
                    contender: running.enter_context(
                        process([python, HERE / "contender.py", contender.module], environment(port))
                    )
                    for contender, python in pythons.items()
                }
                warm(processes, options.rounds)
        if options.only != "warm":
            show_cold(
                "process start to the first step's record (ms), peak memory (MB); client made as each SDK does",
                cold(pythons, options.rounds, port),
            )
            show_cold(
                "the same, with the client of the peers made while their module is imported",
                cold(pythons, options.rounds, port, BENCH_PREPARE="1"),
            )


if __name__ == "__main__":
    main()

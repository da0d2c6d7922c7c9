"""`python -m tests.conformance`: the requirements, against `durable dev` or an endpoint that runs already."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from .clients import clients
from .expected import SUITES
from .handlers import EXITS, SERVED, load
from .handlers.helpers import LOG_FILE
from .outcome import report
from .runner import requirements, run
from .server import serving

HANDLERS = f"{__package__}.handlers"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the requirements and print what became of them.

    Returns:
        The exit code: 1 if something is not as expected.
    """
    asked = _parser().parse_args(arguments)
    if asked.endpoint is not None and asked.log is None:
        sys.stderr.write(f"--endpoint needs --log: the file that the server's {LOG_FILE} names\n")
        return 2
    handlers = load()
    cases = requirements(asked.suite, asked.only)
    with tempfile.TemporaryDirectory(prefix="durable-conformance-") as made:
        directory = Path(made) if asked.output is None else asked.output
        directory.mkdir(parents=True, exist_ok=True)
        log = asked.log or directory / "handlers.log"
        log.unlink(missing_ok=True)
        modules = [f"{HANDLERS}.{module}" for module in SERVED]
        apart = {
            handler.function.name: f"{HANDLERS}.{EXITS}:{handler.function.function.__name__}"
            for handler in handlers.values()
            if handler.exits
        }
        started = serving(modules, apart, directory, log) if asked.endpoint is None else nullcontext(asked.endpoint)
        with started as endpoint:
            began = time.monotonic()
            functions = [handler.function.name for handler in handlers.values()]
            outcomes = run(
                cases,
                handlers,
                clients(endpoint, functions, log, connections=asked.workers),
                directory,
                workers=asked.workers,
                processes=asked.endpoint is None or asked.processes,
            )
            sys.stdout.write(f"{report(outcomes, time.monotonic() - began)}\n")
    return 0 if all(outcome.is_as_expected for outcome in outcomes) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="ID", help="only these requirements, as 1-1 or 9-20")
    parser.add_argument("--suite", nargs="+", choices=SUITES, default=SUITES, help="only these suites")
    parser.add_argument("--endpoint", metavar="URL", help="a server that runs already; otherwise one is started")
    parser.add_argument("--log", type=Path, metavar="FILE", help=f"what the handlers log to: its {LOG_FILE}")
    parser.add_argument(
        "--processes", action="store_true", help="the endpoint runs functions that end their process apart"
    )
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="keep histories and logs there")
    parser.add_argument("--workers", type=int, default=32, help="how many at a time (32)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

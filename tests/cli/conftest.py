"""The command line, called in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from durable.cli.app import app
from tests.cli.helpers import JOBS, Call, Outcome


@pytest.fixture(autouse=True)
def a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has its own directory, and leaves nothing behind in the interpreter."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIP_LEDGER", str(tmp_path / "trip-ledger.db"))
    monkeypatch.setenv("TZ", "UTC")
    for variable in (
        "DURABLE_STORE",
        "DURABLE_ENDPOINT",
        "DURABLE_DEV_TOKEN",
        "NO_COLOR",
        "FORCE_COLOR",
        "COLUMNS",
        "JOBS_BLOCK",
        "JOBS_CHANGED",
        "JOBS_STAY",
    ):
        monkeypatch.delenv(variable, raising=False)
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith((str(tmp_path), str(JOBS))):
            del sys.modules[name]


@pytest.fixture
def durable() -> Call:
    """Call a command in this process: `durable("run", ..., stdin=...)`."""

    def call(*arguments: str, stdin: str | bytes | None = None) -> Outcome:
        result = CliRunner().invoke(app, list(arguments), input=stdin, catch_exceptions=False, prog_name="durable")
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return call

"""`durable dev` as a process, and clients of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config  # type: ignore[import-untyped]

T = TypeVar("T")

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
}
PATIENCE = 60.0


class Dev:
    """The server, started in a directory, over `durable.db` there.

    Args:
        directory: Where.
        arguments: What to serve, and how.
    """

    def __init__(self, directory: Path, *arguments: str, port: int = 0) -> None:
        self._arguments = [sys.executable, "-m", "durable", "dev", *arguments, "--port", str(port)]
        self.directory = directory
        self._log = (directory / "dev.log").open("ab")
        # In a group of its own, so that what it has started ends with it.
        self.process = subprocess.Popen(
            self._arguments,
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **CREDENTIALS, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().decode().strip()
        assert self.url.startswith("http://"), self.log

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.directory / "dev.log").read_text()

    @property
    def client(self) -> Any:
        """A boto3 client, which does not try again."""
        config = Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE, max_pool_connections=60)
        return boto3.Session(
            aws_access_key_id="nobody", aws_secret_access_key="nothing", region_name="us-east-1"
        ).client("lambda", endpoint_url=self.url, config=config)

    def kill(self) -> None:
        """As with kill -9, all of it."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.close()

    def stop(self) -> None:
        """As with Ctrl-C's SIGTERM."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                self.close()
                raise AssertionError(f"it does not end: {self.log}") from None
        self.close()

    def close(self) -> None:
        """Let go of its pipes."""
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()


@contextmanager
def served(directory: Path, *arguments: str) -> Generator[Dev]:
    """A server for the time of the block."""
    dev = Dev(directory, *arguments)
    try:
        yield dev
    finally:
        dev.stop()


def until(found: Callable[[], T | None], dev: Dev) -> T:
    """Wait for something."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"it does not come: {dev.log}")

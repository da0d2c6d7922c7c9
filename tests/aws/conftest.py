"""The environment of a Lambda sandbox."""

from __future__ import annotations

import pytest

from tests.aws.harness import enter_sandbox


@pytest.fixture(autouse=True)
def sandbox_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and a region, and nothing of the machine that the tests run on."""
    enter_sandbox(monkeypatch)

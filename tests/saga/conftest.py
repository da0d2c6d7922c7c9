"""What every saga test begins with: an empty world, and calls whose number does not depend on time."""

from __future__ import annotations

import pytest

from tests.saga.world import LOG


@pytest.fixture(autouse=True)
def _empty_world(monkeypatch: pytest.MonkeyPatch) -> None:
    LOG.clear()
    # A START that nobody waits for never goes out alone: a run has the same calls each time.
    monkeypatch.setattr("durable._engine.journal.LINGER", 3600.0)

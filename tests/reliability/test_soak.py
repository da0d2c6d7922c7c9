"""Executions in a process that is killed at random moments."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.soak import soak


@pytest.mark.process
def test_executions_survive_a_process_that_is_killed(tmp_path: Path):
    """All end as they should; nothing happens twice but what a kill interrupted."""
    counts = soak(tmp_path, executions=60, kills=3, lifetime=(0.3, 0.95), seed=1)
    assert counts["kills"] > 0
    assert counts["executions that were resumed"] > 0

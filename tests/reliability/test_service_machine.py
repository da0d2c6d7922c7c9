"""The service beside its model, on both stores and both event loops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.service_machine import machine_over, run_machine


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_the_service_does_what_the_model_says(kind: str, backend: str):
    """Answers, refusals, records, history and timers, after any calls, faults and restarts."""
    counts = run_machine(machine_over(kind, backend), examples=12 if kind == "memory" else 3, steps=40)
    assert counts["calls"] > 0


def test_the_model_shares_no_code_with_what_it_judges():
    """It can be imported where the library cannot be."""
    path = Path(__file__).parent / "model.py"
    code = (
        "import importlib.util, sys; sys.modules['durable'] = None; "
        f"spec = importlib.util.spec_from_file_location('model', {str(path)!r}); "
        "module = importlib.util.module_from_spec(spec); sys.modules['model'] = module; "
        "spec.loader.exec_module(module)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

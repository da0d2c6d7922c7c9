"""What is counted, and how it comes into the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import CrashError
from tests.reliability.report import Part, rewritten
from tests.reliability.sweeps import summed


def test_a_crash_is_noted_where_somebody_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the test that it happened in; elsewhere it is not."""
    noted = tmp_path / "crashes"
    CrashError()
    monkeypatch.setenv("DURABLE_CRASHES", str(noted))
    for _ in range(3):
        with pytest.raises(CrashError):
            raise CrashError
    assert summed(noted.read_text()) == {"crashes on asyncio": 3, "tests with crashes, on asyncio": 1}
    assert "test_a_crash_is_noted" in noted.read_text()


def test_only_the_measured_part_of_a_page_is_rewritten():
    """What people wrote stays, and so does what another part measured."""
    page = (
        "# A\n\n<!-- measured: one -->\nold\n<!-- end -->\n\ntext\n\n<!-- measured: two -->\nkept\n<!-- end -->\n"
    )
    part = Part("one", {"kills": "1,000"}, 12.4, 7, details=("a survivor",))
    found = rewritten(page, part, "how")
    assert found.startswith("# A\n\n<!-- measured: one -->\n\n| kills | 1,000 |\n")
    assert "- a survivor" in found
    assert found.endswith("text\n\n<!-- measured: two -->\nkept\n<!-- end -->\n")
    assert rewritten(found, part, "how") == found
    with pytest.raises(ValueError, match="three"):
        rewritten(page, Part("three", {}, 1, 1), "how")

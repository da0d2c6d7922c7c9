"""The plugin, run by the real flake8."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from durable.lint import EXAMPLES_BEGIN, RULES, check_source


def flake8(path: Path, *options: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-m", "flake8", "--isolated", *options, path.name],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr == ""
    return run.stdout.splitlines()


@pytest.mark.process
def test_flake8_finds_the_plugin_and_what_it_finds(tmp_path: Path):
    """The same as `durable check`, with nothing set up but what is chosen."""
    path = tmp_path / "shop.py"
    source = EXAMPLES_BEGIN + "".join(rule.bad for rule in RULES.values() if rule.code != "DUR001")
    path.write_text(source)
    expected = {f"shop.py:{one.line}:{one.column}: {one.code} {one.message}" for one in check_source(source)}
    assert len(expected) >= len(RULES) - 1
    assert set(flake8(path, "--select", "DUR")) == expected


@pytest.mark.process
def test_flake8_chooses_by_its_own_options(tmp_path: Path):
    """It chooses rules as those of any plugin, and minds `# noqa`."""
    path = tmp_path / "shop.py"
    path.write_text(EXAMPLES_BEGIN + RULES["DUR101"].bad + RULES["DUR301"].bad)
    assert [line.split()[1] for line in flake8(path, "--select", "DUR1")] == ["DUR101"]
    assert [line.split()[1] for line in flake8(path, "--select", "DUR", "--ignore", "DUR101")] == ["DUR301"]
    path.write_text(path.read_text().replace("ctx.wait(3600)", "ctx.wait(3600)  # noqa: DUR301"))
    assert [line.split()[1] for line in flake8(path, "--select", "DUR3")] == []

"""The program as a whole: help, version, what it loads, and what it says when it cannot be there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.models import CommandInfo, TyperInfo

import durable as package
from durable.cli.app import app
from durable.cli.exits import ExitCode
from tests.cli.helpers import ROOT, Call

COMMANDS = ["run", "resume", "start", "ls", "show", "history", "wait", "cancel", "stop"]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        # Measuring coverage loads what is not to be loaded.
        env={**{key: value for key, value in os.environ.items() if "COVERAGE" not in key}, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def test_version(durable: Call):
    """The package's own."""
    run = durable("--version")
    assert (run.code, run.out) == (0, f"durable {package.__version__}\n")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_every_command_and_exit_code(durable: Call, arguments: tuple[str, ...]):
    """Also when nothing is asked for."""
    run = durable(*arguments)
    text = run.out + run.err
    assert [command for command in COMMANDS if f"│ {command} " not in text] == []
    assert [code for code in ExitCode if f"{code.value}  " not in text] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(durable: Call, command: str):
    """What it does, its options, what --json gives; no line of the text is broken in the middle."""
    run = durable(command, "--help")
    assert run.code == 0
    assert f"Usage: durable {command} " in run.out
    assert "--json" in run.out
    assert "--store" in run.out
    assert "[env var: DURABLE_STORE]" in run.out
    assert "[[" not in run.out


def test_the_page_of_the_command_line_has_every_command_and_exit_code():
    """And every kind of line that --json writes."""
    page = (ROOT / "docs" / "cli.md").read_text()
    groups = [f"{group.name} {one.name}" for group in app.registered_groups for one in _commands(group)]
    commands = [f"durable {one.name}" for one in app.registered_commands]
    assert [command for command in (*commands, *groups) if command not in page] == []
    assert [code for code in ExitCode if not re.search(rf"^\|.*\b{code.value}\b.*\|", page, re.MULTILINE)] == []
    lines = ("execution", "event", "outcome", "recorded")
    assert [kind for kind in lines if f'{{"type": "{kind}"' not in page] == []


def _commands(group: TyperInfo) -> list[CommandInfo]:
    assert group.typer_instance is not None
    return group.typer_instance.registered_commands


def test_help_is_quick():
    """Nothing that only runs or looks is loaded: no engine, no database, no live display."""
    code = (
        "import sys\nsys.argv = ['durable', 'run', '--help']\nfrom durable.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    loaded = python(code).stderr.split()
    assert "durable.cli.app" in loaded
    heavy = {"durable.local", "sqlite3", "rich.live", "trio", "asyncio", "durable.cli.live", "durable.cli.session"}
    assert heavy.isdisjoint(loaded)


@pytest.mark.parametrize(
    ("missing", "named"), [(["typer"], "typer"), (["rich"], "rich"), (["typer", "rich"], "typer and rich")]
)
def test_without_what_it_needs_it_says_what_to_install(missing: list[str], named: str):
    """One line on standard error, exit code 3."""
    run = python(
        f"import sys\nsys.modules.update(dict.fromkeys({missing}))\nsys.argv = ['durable', 'ls']\n"
        "from durable.__main__ import main\nmain()"
    )
    assert (run.returncode, run.stdout) == (3, "")
    assert run.stderr == f"error: the command line needs {named}: pip install 'durable[cli]'\n"


def test_python_m_durable_is_the_same(tmp_path: Path):
    """A process of its own, with its own exit code."""
    run = subprocess.run(
        [sys.executable, "-m", "durable", "ls"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (3, "")
    assert run.stderr.startswith("error: there is no store at durable.db")


def test_names_complete_in_a_shell(durable: Call, monkeypatch: pytest.MonkeyPatch):
    """`durable show <TAB>`, and `--store` is looked at."""
    from tests.cli.helpers import job

    durable("run", job("double"), "-i", "1", "-n", "good-one", "--store", "other.db")
    code = "import sys\nfrom durable.__main__ import main\nmain()"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "_DURABLE_COMPLETE": "complete_bash",
            "COMP_WORDS": "durable show --store other.db go",
            "COMP_CWORD": "4",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.split() == ["good-one"]

"""The project's own files say what is so: commands, versions, links, examples."""

from __future__ import annotations

import builtins
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import durable
import durable.aws
import durable.exceptions

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "examples").glob("**/*.md")])

APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the licence's text as apache.org has it."""


def text(name: str) -> str:
    return (ROOT / name).read_text()


def section(heading: str) -> str:
    """What is under a heading of the README."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text("README.md"), re.MULTILINE | re.DOTALL)
    assert found, f"the README has no section {heading!r}"
    return found[1].lstrip("\n")


def command(heading: str) -> str:
    """The one command that a section of the README begins with."""
    found = re.match(r"```sh\n(.*?)```\n", section(heading), re.DOTALL)
    assert found, f"{heading!r} does not begin with a fenced block"
    lines = found[1].splitlines()
    assert len(lines) == 1, f"{heading!r} begins with {len(lines)} lines, not with one command"
    return lines[0]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def run_program(program: Path, *before: str) -> subprocess.CompletedProcess[str]:
    """Run a page's program in its directory, on this package, installed or not."""
    return subprocess.run(
        [sys.executable, *before, program],
        cwd=program.parent,
        env={**os.environ, "PYTHONPATH": str(Path(durable.__file__).parent.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def without_code(markdown: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL))


def anchors(page: Path) -> set[str]:
    """What the headings of a page can be linked by, as hosting pages make it of them."""
    plain = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- The README's commands -----------------------------------------------------------------------------------


@pytest.mark.parametrize("heading", ["Run it", "Test it"])
def test_a_section_begins_with_one_command_that_sets_up_all_it_needs(heading: str):
    """It begins with the virtual environment and uses nothing outside of it."""
    steps = command(heading).split(" && ")
    assert steps[0] == "python3 -m venv .venv"
    assert len(steps) > 1
    assert all(step.startswith(".venv/bin/") for step in steps[1:])


def test_run_it_installs_extras_that_exist_and_runs_files_that_exist():
    """What the command names is there."""
    run_it = command("Run it")
    (extras,) = re.findall(r"'\.\[(.*?)\]'", run_it)
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    (target, event) = re.findall(r"durable run (\S+):\S+ --input @(\S+)", run_it)[0]
    assert (ROOT / target).is_file()
    assert (ROOT / event).is_file()


def test_ci_runs_the_commands_of_the_readme():
    """It reads them out of the README, and has no copy of its own."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    told = subprocess.run(["bash", str(script), "--dry-run"], check=True, capture_output=True, text=True).stdout
    assert told.splitlines() == [command("Test it"), command("Run it")]
    assert command("Test it") not in script.read_text()
    assert 'stage "Test it" logged bash -c "$test_it"' in script.read_text()


# --- One version, one licence --------------------------------------------------------------------------------


def test_the_version_is_in_one_place():
    """The build reads it from the package; the changelog has an entry for it."""
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["hatch"]["version"] == {"path": "durable/__init__.py"}
    assert f"\n## [{durable.__version__}]" in text("CHANGELOG.md")


def test_the_licence_is_whole():
    """Apache 2.0 to the letter, but for the copyright line."""
    licence, count = re.subn(
        r"Copyright \d{4} The durable authors", "Copyright [yyyy] [name of copyright owner]", text("LICENSE")
    )
    assert count == 1
    assert hashlib.sha256(licence.encode()).hexdigest() == APACHE_2_0
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_the_package_says_that_it_is_typed():
    """Without the marker type checkers ignore annotations of installed packages."""
    assert (Path(durable.__file__).parent / "py.typed").is_file()


# --- Documentation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_resolves(page: Path):
    """Files are there, and so are the headings that links point to."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_python_of_a_page_runs_and_prints_what_the_page_says(page: Path, tmp_path: Path):
    """All of a page's blocks are one program; its `output` blocks are what it prints. Or they are a test file."""
    program = tmp_path / "program.py"
    text = "\n".join(blocks(page, "python"))
    program.write_text(text)
    if "import pytest" in text:
        run = run_program(program, "-m", "pytest", "-q", "-p", "no:cacheprovider")
        assert run.returncode == 0, run.stdout
        assert " passed" in run.stdout
        return
    run = run_program(program)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "".join(blocks(page, "output"))


def test_the_first_program_finds_its_executions_again(tmp_path: Path):
    """As the README says: run once more it prints the results, and no step runs again."""
    program = tmp_path / "program.py"
    program.write_text("\n".join(blocks(ROOT / "README.md", "python")))
    first, second = (run_program(program).stdout for _ in range(2))
    results = [line for line in first.splitlines() if line.startswith(("visa:", "declined:"))]
    assert len(results) == 2
    assert len(first.splitlines()) > len(results)
    assert second.splitlines() == results


@pytest.mark.process
def test_the_shell_commands_of_the_readme_do_what_it_says(tmp_path: Path):
    """The declined trip is undone, the killed one goes on to its end, and nothing that completed happens twice."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    for name, arguments in (("durable", "-m durable"), ("python", "")):
        (bin_directory / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (bin_directory / name).chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if name not in {"TRIP_LEDGER", "DURABLE_STORE"}},
        "PATH": f"{bin_directory}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "92",
    }
    blocks_of_commands = blocks(ROOT / "README.md", "sh")
    setup = {f"{command('Run it')}\n", f"{command('Test it')}\n"}
    script = "".join(block for block in blocks_of_commands if block not in setup)
    # A person waits a second; here, on a busy machine, until there is something to kill.
    assert script.count("sleep 1;") == 1
    script = script.replace("sleep 1;", "until durable ls | grep -q ^killed; do :; done;")
    run = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "undone      rent_car, reserve_flight, reserve_hotel" in run.stdout
    shown = run.stdout.partition("time  ")[2].splitlines()[1:]
    entries = [(*line.split()[1:3], line.split()[-1]) for line in shown]
    declined = [entry[:2] for entry in entries[:7]]
    assert declined == [
        ("book", "hotel"),
        ("book", "flight"),
        ("book", "car"),
        ("decline", "card"),
        ("cancel", "car"),
        ("cancel", "flight"),
        ("cancel", "hotel"),
    ]
    killed = list(dict.fromkeys(entries[7:]))  # a repeat has the same key
    assert [entry[:2] for entry in killed] == [
        ("book", "hotel"),
        ("book", "flight"),
        ("book", "car"),
        ("charge", "card"),
    ]
    assert len(entries[7:]) - len(killed) <= 1


def test_the_exit_codes_of_the_readme_are_those_of_the_command():
    """Each with its meaning, word for word."""
    from durable.cli.exits import MEANING

    told = dict(re.findall(r"^\| (\d+) \| (.*) \|$", text("README.md"), re.MULTILINE))
    assert {int(code): meaning.replace("`", "") for code, meaning in told.items()} == MEANING


def test_the_index_has_every_page():
    """A page that is not in the index is not found."""
    index = text("docs/README.md")
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md"]
    assert [name for name in missing if f"]({name})" not in index] == []


def test_every_public_exception_is_documented():
    """Each has a row, with the builtin that it can be caught as; and there are no rows of others."""
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", text("docs/errors.md"), re.MULTILINE))
    kinds = {
        name: kind
        for name, kind in vars(durable.exceptions).items()
        if isinstance(kind, type) and kind.__module__ == "durable.exceptions" and name != "DurableError"
    }
    kinds["NotDurableInvocationError"] = durable.aws.NotDurableInvocationError
    assert set(rows) == set(kinds)
    for name, kind in kinds.items():
        told = set(re.findall(r"`(\w+)`", rows[name]))
        bases = {base.__name__ for base in kind.__mro__ if base is not kind}
        assert told <= bases, name
        builtin = {base.__name__ for base in kind.__bases__ if hasattr(builtins, base.__name__)}
        assert builtin <= told, name


def test_every_dependency_has_a_reason():
    """CONTRIBUTING has a row for each, with the range that pyproject.toml has."""
    reasons = text("CONTRIBUTING.md")
    groups = PROJECT["dependency-groups"].values()
    requirements = [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *(one for extra in PROJECT["project"]["optional-dependencies"].values() for one in extra),
        *(one for group in groups for one in group if isinstance(one, str)),
    ]
    missing = []
    for requirement in requirements:
        name, bound = re.split(r"(?=[=<>])", requirement, maxsplit=1)
        rows = [row for row in reasons.splitlines() if row.startswith("| ") and name in row.split("|")[1]]
        if not any(f"`{bound}`" in row for row in rows):
            missing.append(requirement)
    assert missing == []


def test_the_map_has_every_part_of_the_package():
    """CONTRIBUTING says of each what it is for."""
    (found,) = re.findall(r"```text\ndurable/\n(.*?)```", text("CONTRIBUTING.md"), re.DOTALL)
    package = Path(durable.__file__).parent
    parts = [f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").is_file()]
    parts += [path.name for path in package.glob("*.py") if path.name != "__main__.py"]
    assert [part for part in parts if f"  {part} " not in found] == []


def test_all_the_python_that_is_supported_is_declared():
    """The classifiers, which say what nox tests, begin at what the package requires."""
    declared = [
        tuple(map(int, version))
        for version in re.findall(r"Python :: (\d+)\.(\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    ]
    lowest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert min(declared) == tuple(map(int, lowest.split(".")))
    assert declared == [(3, minor) for minor in range(declared[0][1], declared[-1][1] + 1)]


def test_the_sources_name_no_machine():
    """Paths and addresses of somebody's machine have no place in what is published."""
    for path in [*PAGES, ROOT / "noxfile.py", ROOT / ".ci" / "run", ROOT / "pyproject.toml"]:
        assert re.findall(r"/(?:home|root|Users|tmp|work)/", path.read_text()) == [], path


def test_tests_that_start_processes_are_not_left_out():
    """No option of pytest's deselects them, and on one Python nothing else does, so that CI runs them."""
    options = PROJECT["tool"]["pytest"]["ini_options"]["addopts"]
    assert not any(option.startswith("-m") for option in options)
    tests_session = text("noxfile.py").partition("def tests(")[2].partition("@nox.session")[0]
    on_the_oldest, otherwise, on_others = tests_session.partition("    else:\n")
    assert "session.python == next(iter(FOUND.values()))" in on_the_oldest
    assert 'session.run("pytest", "-n", "2", *session.posargs)' in on_the_oldest
    assert 'process"' not in on_the_oldest
    assert otherwise
    assert on_others.count("session.run(") == 1

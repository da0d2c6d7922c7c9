"""One session a purpose. `nox -l` lists them, `nox -s NAME` runs one; CONTRIBUTING says when to run which."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests", "lint", "types"]

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")

SUPPORTED = nox.project.python_versions(PROJECT)
"""By the classifiers: 3.11 and later."""

COVERAGE_FLOOR = 95
"""Percent of lines and branches, in all."""

CONFORMANCE = "aws-durable-execution-conformance-tests==1.0.0"
"""Held: docs/conformance.md says what became of the requirements of this version."""

NODE_PACKAGES = ("@aws/durable-execution-sdk-js@2.4.0", "aws-lambda-ric@3.3.0")

_PROBE = "import ensurepip, sqlite3, sys, venv; print('{}.{}'.format(*sys.version_info))"


def interpreters() -> dict[str, str]:
    """Every supported Python of this machine, by version: where it is.

    Each is started and asked, not believed by its name: a version manager's shim may be on PATH and start nothing.
    What cannot make a virtual environment, or has no sqlite3, does not count.
    """
    found: dict[str, str] = {}
    for candidate in _candidates():
        try:
            answer = subprocess.run(
                [candidate, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        version = answer.stdout.strip()
        if version in SUPPORTED:
            found.setdefault(version, candidate)
    return {version: found[version] for version in SUPPORTED if version in found}


def _candidates() -> Iterator[str]:
    """The Python that runs nox, those on PATH, those of pyenv; the newest of a version first."""
    yield sys.executable
    directories = [Path(directory) for directory in os.get_exec_path()]
    roots = [directory.parent for directory in directories if directory.name == "shims"]
    if "PYENV_ROOT" in os.environ:
        roots.append(Path(os.environ["PYENV_ROOT"]))
    elif shutil.which("pyenv"):
        told = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False)
        roots.append(Path(told.stdout.strip()))
    for root in dict.fromkeys(roots):
        directories += sorted((root / "versions").glob("*/bin"), key=_by_version, reverse=True)
    for directory in directories:
        for version in SUPPORTED:
            candidate = directory / f"python{version}"
            if os.access(candidate, os.X_OK):
                yield str(candidate)


def _by_version(directory: Path) -> list[tuple[bool, int, str]]:
    """Sorts `3.9.18` before `3.11.7`, and what is no number (a pre-release) before what is."""
    parts = directory.parent.name.split(".")
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


FOUND = interpreters()
if not FOUND:
    raise SystemExit(f"none of Python {', '.join(SUPPORTED)} works on this machine")


def install(session: nox.Session, *groups: str) -> None:
    """Install the checkout, editable, with what the groups name; as arguments, as an old pip knows no groups."""
    session.install("-e", f"{ROOT}[cli,server,trio]", *nox.project.dependency_groups(PROJECT, *groups))


@nox.session
@nox.parametrize("python", [nox.param(path, id=version) for version, path in FOUND.items()])
def tests(session: nox.Session) -> None:
    """The tests, on every Python that is found: all of them on the oldest.

    On the others those that start processes are left out, and fewer random examples are tried. With arguments after
    `--`, which go to pytest, nothing is.
    """
    install(session, "test")
    if session.posargs or session.python == next(iter(FOUND.values())):
        session.run("pytest", "-n", "2", *session.posargs)
    else:
        session.run("pytest", "-n", "2", "-m", "not process", env={"DURABLE_EXAMPLES": "20"})


@nox.session
def contract(session: nox.Session) -> None:
    """The tests of engine, sagas and operations over real HTTP, and AWS's own emulator as a second opinion."""
    install(session, "test")
    apart = Path(session.create_tmp()) / "emulator"
    session.run("python", "-m", "venv", "--clear", str(apart))
    group = nox.project.dependency_groups(PROJECT, "emulator")
    session.run(str(apart / "bin" / "python"), "-m", "pip", "install", "-q", *group, external=True)
    parts = ("tests/engine", "tests/operations", "tests/saga")
    session.run("pytest", "-n", "2", "--over-http", "--dist", "worksteal", *parts, *session.posargs)
    session.run(
        "pytest", "tests/aws/test_emulator.py", env={"DURABLE_EMULATOR": str(apart / "bin" / "dex-local-runner")}
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: every rule but those that pyproject.toml gives a reason against, and the format."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy and pyright, strict."""
    install(session, "test", "types", "nox")
    if not (shutil.which("node") and shutil.which("npm")):
        session.install("pyright[nodejs]")
    session.run("mypy")
    session.run("pyright", "--pythonpath", str(Path(session.bin) / "python"))


@nox.session
def coverage(session: nox.Session) -> None:
    """The tests once more, measured: lines and branches, those of worker and child processes as well."""
    install(session, "test")
    session.run("coverage", "erase")
    # Measuring loads what imports must not load.
    imports = ("package", "test_kit")
    light = [f"--deselect=tests/test_layers.py::test_importing_the_{what}_is_light" for what in imports]
    session.run("coverage", "run", "-m", "pytest", "-n", "2", *light, *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", f"--fail-under={COVERAGE_FLOOR}")


@nox.session
def docs(session: nox.Session) -> None:
    """Every link in the Markdown files resolves, every Python block in them runs."""
    install(session, "test")
    session.run("pytest", "tests/test_project.py", *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """AWS's requirements for durable execution, judged by AWS's own validator (docs/conformance.md).

    Arguments after `--` go to the runner: `-- --suite step child`, `-- 4-6 --output histories`.
    """
    session.install("-e", f"{ROOT}[cli,server]", *nox.project.dependency_groups(PROJECT, "conformance"))
    # It says that it needs Python 3.14, and runs on 3.11.
    anyway = ("--no-deps", "--ignore-requires-python")
    downloads = Path(session.create_tmp())
    session.run("python", "-m", "pip", "download", "--quiet", *anyway, "--dest", str(downloads), CONFORMANCE)
    session.install(*anyway, *(str(wheel) for wheel in downloads.glob("aws_durable_execution_conformance*.whl")))
    session.run("python", "-m", "tests.conformance", *session.posargs)


@nox.session
def javascript(session: nox.Session) -> None:
    """A function that is written with AWS's SDK for JavaScript, served by `durable dev`.

    Needs Node.js, autoconf, automake, libtool, cmake and a compiler: AWS's runtime client for Node.js is built from
    its sources, which takes some minutes. Where that is not possible, the session says so and is skipped.
    """
    tools = ("npm", "autoreconf", "libtoolize", "cmake", "make", "g++")
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        session.skip(f"this machine has no {', '.join(missing)}")
    install(session, "test")
    packages = Path(session.create_tmp()).resolve()
    where = ("--prefix", str(packages))
    try:
        session.run("npm", "install", "--no-audit", "--no-fund", *where, *NODE_PACKAGES, external=True)
    except CommandFailed:
        session.skip("the packages cannot be had")
    # From version 11 on npm runs no package's scripts unless it is told to; older ones do not know the command.
    approve = ("npm", "install-scripts", "approve", "aws-lambda-ric")
    session.run(*approve, *where, external=True, success_codes=[0, 1])
    session.run("npm", "rebuild", "--foreground-scripts", *where, external=True)
    known = {"DURABLE_NODE_PACKAGES": str(packages)}
    session.run("pytest", "tests/server/test_dev.py", "-k", "javascript", *session.posargs, env=known)


@nox.session
def reliability(session: nox.Session) -> None:
    """What the library survives, at length: counted, printed, and written into docs/reliability.md.

    Arguments after `--` go to it: parts by name, `--seed N`, `--scale X`, `--no-write`. Not part of `.ci/run`: it
    takes more than half an hour. A small form of each part is among the ordinary tests.
    """
    install(session, "test")
    session.run("python", "-m", "tests.reliability", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks, one after another; they print figures and judge nothing (docs/performance.md)."""
    install(session)
    for script in sorted((ROOT / "benchmarks").glob("*.py")):
        if "def main()" in script.read_text():
            session.run("python", str(script))


@nox.session
def bench_aws(session: nox.Session) -> None:
    """This library on AWS beside the other SDKs, each in an environment of its own under .cache; then by part."""
    install(session)
    session.run("python", str(ROOT / "benchmarks" / "aws" / "compare.py"), *session.posargs)
    session.run("python", str(ROOT / "benchmarks" / "aws" / "parts.py"))


@nox.session
def build(session: nox.Session) -> None:
    """The source distribution, the wheel that is built from it, and whether an index would take them."""
    session.install(*nox.project.dependency_groups(PROJECT, "build"))
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    session.run("python", "-m", "build", silent=True)
    session.run("twine", "check", "--strict", *(str(path) for path in (ROOT / "dist").iterdir()))


@nox.session(requires=["build"])
def wheel(session: nox.Session) -> None:
    """What `build` made, installed where there is no checkout: its contents, its tests, the example."""
    (built,) = (ROOT / "dist").glob("*.whl")
    session.install(f"{built}[cli,server,trio]", *nox.project.dependency_groups(PROJECT, "test"))
    elsewhere = Path(session.create_tmp())
    for name in ("tests", "examples", "docs"):
        shutil.rmtree(elsewhere / name, ignore_errors=True)
        shutil.copytree(ROOT / name, elsewhere / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", elsewhere)
    session.chdir(elsewhere)
    session.run("python", "-c", _CHECK_WHEEL, env={"CHECKOUT": str(ROOT)})
    # A part of the tests that reaches every part of the package: what they say of the code is said by `tests`.
    parts = ("kernel", "wire", "operations", "cli", "examples")
    session.run("pytest", "-n", "2", "-m", "not process", *(f"tests/{part}" for part in parts))
    session.run("durable", "run", "examples/trip.py:book_trip", "--input", "@examples/trip.json")


_CHECK_WHEEL = """
import importlib.metadata, os, pathlib
import durable
root = pathlib.Path(durable.__file__).parent
assert not root.is_relative_to(os.environ["CHECKOUT"]) or ".nox" in root.parts, root
assert (root / "py.typed").is_file(), "py.typed is missing"
files = {str(path) for path in importlib.metadata.files("durable")}
assert any(path.endswith("licenses/LICENSE") for path in files), files
assert not any(path.startswith("tests/") for path in files), files
assert importlib.metadata.version("durable") == durable.__version__
print("durable", durable.__version__, "from", root)
"""

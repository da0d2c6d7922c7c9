"""`MODULE_OR_FILE:FUNCTION`: what can be loaded, what cannot, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from durable import DurableFunction, durable_execution
from durable.exceptions import NotDurableError, TargetNotFoundError
from durable.local import load_target, target_of

FLOW = """
from durable import DurableContext, durable_execution

@durable_execution
async def book(event: str, ctx: DurableContext) -> str:
    return "WHO"

@durable_execution
async def cancel(event: str, ctx: DurableContext) -> str:
    return "cancel"

class Flows:
    @durable_execution
    async def inner(event: str, ctx: DurableContext) -> str:
        return "inner"

async def _hidden(event: str, ctx: DurableContext) -> str:
    return "hidden"

shown = durable_execution(_hidden)
plain = 7
async def undecorated(event: str, ctx: DurableContext) -> str: ...
"""


@pytest.fixture(autouse=True)
def imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports is forgotten; the current directory is its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(path: Path, text: str = FLOW, who: str = "WHO") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("WHO", who))
    return path


def source(function: DurableFunction[Any, Any]) -> str:
    return function.function.__code__.co_filename


def test_a_function_of_a_module(tmp_path: Path):
    """Found from the current directory; its target names the module."""
    write(tmp_path / "flow_a.py")
    function = load_target("flow_a:book")
    assert function.name == "book"
    assert target_of(function) == "flow_a:book"
    assert load_target("flow_a:book") is function


def test_a_function_of_a_package(tmp_path: Path):
    """By its dotted name."""
    write(tmp_path / "pack_a" / "flows" / "trip.py")
    (tmp_path / "pack_a" / "__init__.py").touch()
    (tmp_path / "pack_a" / "flows" / "__init__.py").touch()
    assert target_of(load_target("pack_a.flows.trip:book")) == "pack_a.flows.trip:book"


@pytest.mark.parametrize(
    "name", ["flow_b.py", "with space.py", "my-flow.py", "a.b.py", "json.py", "ä.py", "class.py"]
)
def test_a_function_of_a_file(tmp_path: Path, name: str):
    """Whatever the file is called; its target is the whole path, and finds it from everywhere."""
    path = write(tmp_path / "somewhere" / name)
    function = load_target(f"somewhere/{name}:book")
    assert source(function) == str(path)
    assert target_of(function) == f"{path}:book"
    assert load_target(target_of(function)) is function
    assert sys.modules["json"].__name__ == "json"
    assert hasattr(sys.modules["json"], "dumps")


def test_a_file_imports_what_is_beside_it(tmp_path: Path):
    """As when it is run."""
    write(tmp_path / "one" / "beside_a.py", "name = 'beside'")
    write(tmp_path / "one" / "flow_c.py", f"import beside_a\n{FLOW}")
    assert load_target(f"{tmp_path}/one/flow_c.py:book").name == "book"


def test_a_file_of_a_package(tmp_path: Path):
    """It is the package's module, with its relative imports."""
    (tmp_path / "pack_b").mkdir()
    (tmp_path / "pack_b" / "__init__.py").touch()
    write(tmp_path / "pack_b" / "beside.py", "name = 'beside'")
    path = write(tmp_path / "pack_b" / "flow.py", f"from .beside import name\n{FLOW}")
    function = load_target(f"{path}:book")
    assert function.function.__module__ == "pack_b.flow"
    assert load_target("pack_b.flow:book") is function
    assert target_of(function) == f"{path}:book"


def test_files_of_the_same_name(tmp_path: Path):
    """Each is its own."""
    paths = [write(tmp_path / where / "flow_d.py", who=where) for where in ("one", "two", "three")]
    functions = [load_target(f"{path}:book") for path in paths]
    assert [source(function) for function in functions] == [str(path) for path in paths]
    assert [target_of(function) for function in functions] == [f"{path}:book" for path in paths]
    assert [load_target(f"{path}:book") for path in paths] == functions


def test_packages_of_the_same_name(tmp_path: Path):
    """The second one is refused: what its files import would be the first one's."""
    for where in ("one", "two"):
        (tmp_path / where / "pack_c").mkdir(parents=True)
        (tmp_path / where / "pack_c" / "__init__.py").touch()
        write(tmp_path / where / "pack_c" / "beside.py", f"name = {where!r}")
        write(tmp_path / where / "pack_c" / "flow.py", f"from .beside import name\n{FLOW}", where)
        write(tmp_path / where / "pack_c" / "other.py", f"from .beside import name\n{FLOW}", where)
    function = load_target("one/pack_c/flow.py:book")
    for name in ("flow", "other"):
        with pytest.raises(TargetNotFoundError, match="the package pack_c is another one in this process"):
            load_target(f"two/pack_c/{name}.py:book")
    assert load_target("one/pack_c/flow.py:book") is function
    assert load_target("one/pack_c/other.py:book").name == "book"


def test_a_function_under_another_name(tmp_path: Path):
    """It is found under the name that its module has for it; one inside a class by its path."""
    write(tmp_path / "flow_e.py")
    shown = load_target("flow_e:shown")
    assert target_of(shown) == "flow_e:shown"
    assert load_target(target_of(shown)) is shown
    inner = load_target("flow_e:Flows.inner")
    assert target_of(inner) == "flow_e:Flows.inner"


def test_a_function_that_nobody_can_find():
    """Inside another function: its target is told, so that it can be registered, and loading says what is there."""

    @durable_execution
    async def local(event: None, ctx: object) -> None: ...

    target = target_of(local)
    assert target == f"{__name__}:test_a_function_that_nobody_can_find.<locals>.local"
    with pytest.raises(TargetNotFoundError, match="it has no durable function"):
        load_target(target)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("", "it has the form MODULE:FUNCTION or FILE.py:FUNCTION"),
        ("flow", "it has the form MODULE:FUNCTION or FILE.py:FUNCTION"),
        (":book", "it has the form MODULE:FUNCTION or FILE.py:FUNCTION"),
        ("flow:", "it has the form MODULE:FUNCTION or FILE.py:FUNCTION"),
        ("nowhere_at_all:book", "there is no module nowhere_at_all"),
        ("durable.nowhere:book", "there is no module durable.nowhere"),
        ("durable.nowhere.deep:book", "there is no module durable.nowhere"),
        ("nowhere.py:book", "there is no file {here}/nowhere.py"),
        ("./:book", "importing ./ raised"),
        ("..up:book", "importing ..up raised TypeError"),
        ("flow.py:nothing", "flow.py has no nothing; its durable functions are: book, cancel, shown"),
        ("flow.py:book.nothing", "flow.py has no book.nothing; its durable functions are: book, cancel, shown"),
        ("flow.py:.", "flow.py has no .; its durable functions are"),
        ("durable:nothing", "durable has no nothing; it has no durable function"),
        ("broken.py:book", "importing broken.py raised SyntaxError"),
        ("raising.py:book", "importing raising.py raised ZeroDivisionError: division by zero"),
        ("leaving.py:book", "importing leaving.py raised SystemExit: 3"),
        ("lacking.py:book", "importing lacking.py raised ModuleNotFoundError: No module named 'not_installed'"),
        ("lacking:book", "importing lacking raised ModuleNotFoundError: No module named 'not_installed'"),
        ("folder.py:book", "there is no file {here}/folder.py"),
        ("text.txt:book", "there is no module text"),
    ],
)
def test_what_cannot_be_loaded(target: str, why: str, tmp_path: Path):
    """Each time the same error, which says what was not found; and nothing half loaded stays behind."""
    write(tmp_path / "flow.py")
    write(tmp_path / "broken.py", "def")
    write(tmp_path / "raising.py", "1 / 0")
    write(tmp_path / "leaving.py", f"{FLOW}\nimport sys\nsys.exit(3)")
    write(tmp_path / "lacking.py", "import not_installed")
    write(tmp_path / "text.txt")
    (tmp_path / "folder.py").mkdir()
    for _ in range(2):
        with pytest.raises(TargetNotFoundError) as raised:
            load_target(target)
        assert str(raised.value).startswith(f"cannot load {target!r}: {why.format(here=tmp_path)}")
    assert not {"broken", "raising", "leaving", "lacking"} & set(sys.modules)


@pytest.mark.parametrize(
    ("name", "what"), [("plain", "an int"), ("undecorated", "a function"), ("Flows", "a type")]
)
def test_what_is_not_durable(name: str, what: str, tmp_path: Path):
    """It is said what it is, and what makes it durable."""
    write(tmp_path / "flow_f.py")
    with pytest.raises(NotDurableError, match=f"flow_f:{name} is not a durable function: it is {what}. Decorate"):
        load_target(f"flow_f:{name}")

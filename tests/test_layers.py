"""Who may import whom (the map is in CONTRIBUTING), and what importing the package costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import durable

PACKAGE = Path(durable.__file__).parent

# From the bottom up. A module may import from its own layer and from those below, never from above.
LAYERS = [
    ["exceptions", "lint"],
    ["_wire"],
    ["abc"],
    ["_kernel"],
    ["_engine"],
    ["_operations"],
    ["_saga"],
    ["context"],
    ["function", "steps", "serde"],
    ["aws", "local"],
    ["server", "testing"],
    ["cli", "pytest_plugin"],
    ["__main__"],
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
PURE = ("_wire", "_kernel", "exceptions", "local.machine", "lint")
IMPURE = {
    "anyio",
    "asyncio",
    "trio",
    "sqlite3",
    "time",
    "socket",
    "threading",
    "subprocess",
    "botocore",
    "aiobotocore",
}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path) -> set[str]:
    """Absolute names of everything a module imports, inside the package without its prefix."""
    package = ["durable", *(name.split(".") if path.name == "__init__.py" else name.split(".")[:-1])]
    package = [part for part in package if part]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "durable":
                found.update(f"durable.{alias.name}" for alias in node.names)
            else:
                found.add(module)
    return found


def test_imports_point_downwards_only():
    """A lower layer never knows a higher one, and neighbours never know each other."""
    wrong = []
    for name, path in modules().items():
        own = name.split(".")[0]
        if not own:
            continue
        for imported in imports(name, path):
            if not imported.startswith("durable."):
                continue
            other = imported.split(".")[1]
            if other != own and RANK.get(other, 99) >= RANK[own]:
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_the_pure_parts_do_no_io():
    """The kernel, the wire and the service's state machine know no event loop, store, socket or clock."""
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules().items()
        if name.startswith(PURE)
        for imported in imports(name, path)
        if imported.split(".")[0] in IMPURE
    ]
    assert wrong == []


def test_every_module_belongs_to_a_layer():
    """A new part of the package gets its place in the map."""
    assert {name.split(".")[0] for name in modules() if name} <= set(RANK)


def test_importing_the_package_is_light():
    """No client, no database, no CLI library and nothing of only one event loop is loaded by `import durable`."""
    code = "import sys, durable; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    heavy = {"botocore", "aiobotocore", "boto3", "sqlite3", "rich", "typer", "click", "trio", "aiohttp", "httpx2"}
    assert heavy.isdisjoint(loaded)
    assert "durable.local" not in loaded
    assert "durable.aws" not in loaded
    # anyio itself loads its backend when an event loop is started, not when it is imported.
    assert "asyncio" not in loaded


def test_importing_the_test_kit_is_light():
    """Tests on the embedded engine, in memory, need no client and no database."""
    code = "import sys, durable.testing; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert {"botocore", "aiobotocore", "sqlite3", "pytest", "hypothesis", "rich"}.isdisjoint(loaded)


def test_every_public_name_can_be_had_whenever_it_is_loaded():
    """What is loaded later is there all the same, and is told by `dir`."""
    for name in dir(durable):
        assert getattr(durable, name) is not None, name
    assert {"saga", "Completion", "durable_execution", "Retry"} <= set(dir(durable))

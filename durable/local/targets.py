"""`MODULE_OR_FILE:FUNCTION`: how an execution remembers which function it is an execution of."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

from ..exceptions import NotDurableError, TargetNotFoundError
from ..function import DurableFunction

# Files that were loaded by path, by the name of the module they became.
_loaded: dict[str, str] = {}


def load_target(target: str) -> DurableFunction[Any, Any]:
    """The durable function that a target names.

    Args:
        target: `package.module:function`, or `path/to/file.py:function`. A file is loaded the way
            `python path/to/file.py` would find what it imports: its own directory comes first.

    Raises:
        TargetNotFoundError: There is no such module, file or function, or it cannot be imported.
        NotDurableError: There is, and it is not a durable function.
    """
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name:
        raise TargetNotFoundError(target, "it has the form MODULE:FUNCTION or FILE.py:FUNCTION")
    module = _import(target, where)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            durable = [key for key, value in vars(module).items() if isinstance(value, DurableFunction)]
            there = f"its durable functions are: {', '.join(durable)}" if durable else "it has no durable function"
            raise TargetNotFoundError(target, f"{where} has no {name}; {there}")
    if not isinstance(found, DurableFunction):
        raise NotDurableError(target, f"it is {_article(type(found).__name__)}")
    return found  # pyright: ignore[reportUnknownVariableType]


def load_functions(target: str) -> list[Callable[..., Any]]:
    """What there is to serve at a target.

    Args:
        target: As for `load_target`; or a module or file alone, for all durable functions that are written there.
            With a name it may be a plain function as well.

    Raises:
        TargetNotFoundError: There is nothing of the kind, or it cannot be imported.
    """
    where, colon, name = target.rpartition(":")
    if not colon:
        module = _import(target, target)
        found = durable_functions(module)
        if not found:
            raise TargetNotFoundError(target, f"{target} has no durable function: FILE.py:FUNCTION names another")
        # Under several names it is one function; and what is imported from elsewhere is served from there.
        own = module.__name__
        here = [function for function in found if own in {function.function.__module__, function.made_in}]
        return [*dict.fromkeys(here or found)]
    function: Any = getattr(_import(target, where), name, None)
    if not callable(function):
        raise TargetNotFoundError(target, f"{where} has no function {name}")
    return [function]


def _import(target: str, where: str) -> ModuleType:
    try:
        return _load_file(target, where) if where.endswith(".py") else _load_module(target, where)
    except TargetNotFoundError:
        raise
    except (Exception, SystemExit) as error:  # a script that runs, and exits, when it is imported
        raise TargetNotFoundError(target, f"importing {where} raised {type(error).__name__}: {error}") from error


def durable_functions(module: ModuleType | None) -> list[DurableFunction[Any, Any]]:
    """All that a module has."""
    values: list[Any] = [] if module is None else list(vars(module).values())
    return [value for value in values if isinstance(value, DurableFunction)]  # pyright: ignore[reportUnknownVariableType]


def target_of(function: DurableFunction[Any, Any]) -> str:
    """The target that names a durable function; one whose code is elsewhere has its own."""
    own: str | None = getattr(function, "target", None)
    if own is not None:
        return own
    # Where the function is written, as a rule; else where it was made durable.
    for module in (function.function.__module__, function.made_in):
        name = _name_in(sys.modules.get(module), function)
        if name is not None:
            break
    else:
        module, name = function.function.__module__, function.function.__qualname__
    path = _loaded.get(module)
    if path is None and module == "__main__":
        path = getattr(sys.modules["__main__"], "__file__", None)
    return f"{module if path is None else Path(path).resolve()}:{name}"


def _name_in(module: ModuleType | None, function: DurableFunction[Any, Any]) -> str | None:
    """What finds the durable function in a module, if anything: not always the name of the function within it."""
    name = function.function.__qualname__
    named = {} if module is None else vars(module)
    if named.get(name) is function:
        return name
    return next((key for key, value in named.items() if value is function), None)


def _load_module(target: str, name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise TargetNotFoundError(target, f"there is no module {error.name}") from error
        raise


def _load_file(target: str, text: str) -> ModuleType:
    path = Path(text).resolve()
    if not path.is_file():
        raise TargetNotFoundError(target, f"there is no file {path}")
    main = sys.modules.get("__main__")
    if main is not None and Path(getattr(main, "__file__", None) or "").resolve() == path:
        return main  # it is what runs
    root = path.parent
    names = [path.stem]
    while (root / "__init__.py").is_file():
        names.insert(0, root.name)
        root = root.parent
    name = ".".join(names)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    known = sys.modules.get(name)
    if known is None and len(names) > 1:
        known = importlib.import_module(name)
    if known is not None and Path(getattr(known, "__file__", None) or "").resolve() == path:
        module = known
    elif len(names) > 1:
        # What it imports from its package would come from the other one.
        raise TargetNotFoundError(target, f"the package {names[0]} is another one in this process: {known}")
    else:
        # A name that something else has: the file gets one of its own, made from its path.
        own = name if known is None else f"{name}_{blake2b(str(path).encode(), digest_size=4).hexdigest()}"
        module = sys.modules.get(own) or _execute(own, path)
        name = own
    _loaded[name] = str(path)
    return module


def _execute(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"

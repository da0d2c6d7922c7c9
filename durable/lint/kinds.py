"""What expressions are, as far as a file tells: contexts, sagas, groups of tasks, clients, sets.

Nothing is imported: it is told by annotations, by what made a value, and by where it is handed to.
"""

from __future__ import annotations

import ast
from enum import Enum, auto
from typing import Final

from . import known
from .scopes import DEEPEST, FUNCTIONS, Module, Scope, Source


class Kind(Enum):
    """What an expression is."""

    CONTEXT = auto()
    SAGA = auto()
    GROUP = auto()
    HANDLE = auto()
    CALLBACK = auto()
    PLAIN_GROUP = auto()
    CLIENT = auto()
    PATH = auto()
    LOGGER = auto()
    UNORDERED = auto()


_TYPES: Final = {
    "DurableContext": Kind.CONTEXT,
    "SagaScope": Kind.SAGA,
    "TaskGroup": Kind.GROUP,
    "TaskHandle": Kind.HANDLE,
    "Callback": Kind.CALLBACK,
}
_MAKERS: Final = {"current_context": Kind.CONTEXT, "current_saga": Kind.SAGA, "saga": Kind.SAGA}
_MADE_BY: Final = {
    (Kind.CONTEXT, "task_group"): Kind.GROUP,
    (Kind.CONTEXT, "create_callback"): Kind.CALLBACK,
    (Kind.GROUP, "start_soon"): Kind.HANDLE,
}
_MADE_OF: Final = {
    known.CLIENTS: Kind.CLIENT,
    known.PLAIN_GROUPS: Kind.PLAIN_GROUP,
    known.PATHS: Kind.PATH,
    known.LOGGERS: Kind.LOGGER,
    known.UNORDERED: Kind.UNORDERED,
}


def ours(dotted: str | None) -> str:
    """The last part of a name of ours, wherever in the package it was imported from; empty for others."""
    return dotted.rpartition(".")[2] if dotted is not None and dotted.startswith("durable.") else ""


class Kinds:
    """Tells what expressions of a module are.

    Attributes:
        contexts: Parameters that are handed a context, as their functions and names.
    """

    def __init__(self, module: Module) -> None:
        self.module = module
        self.contexts: set[tuple[Scope, str]] = set()
        # What was found out, by the list of sources; those that are being looked at are nothing yet.
        self._found: dict[int, Kind | None] = {}
        # What attributes of a class's instances are assigned.
        self._attributes: dict[tuple[Scope, str], list[Source]] = {}
        for scope in module.classes:
            for name, sources in scope.names.items():
                self._attributes[scope, name] = list(sources)
        for function in module.functions:
            owner = owner_of(function)
            for node in module.own[function] if owner is not None else ():
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and self.is_self(node.value):
                    source = module.source_of(node) or Source("other", node)
                    self._attributes.setdefault((owner or function, node.attr), []).append(source)

    def forget(self) -> None:
        """Find everything out anew, as there are more contexts now."""
        self._found.clear()

    def is_self(self, node: ast.AST) -> bool:
        """Whether an expression is the instance that a method was called on."""
        if not isinstance(node, ast.Name):
            return False
        found = self.module.scope_of[node].lookup(node.id)
        return found is not None and node.id == own_name(found[0])

    def of(self, node: ast.AST | None, depth: int = 0) -> Kind | None:
        """What an expression is; `None` if it is nothing that matters, or may be one or the other."""
        if node is None or depth > DEEPEST:
            return None
        match node:
            case ast.Name():
                return self._of_name(node, depth)
            case ast.Attribute():
                return self._of_attribute(node, depth)
            case ast.Call():
                return self._of_call(node, depth)
            case ast.Await() | ast.NamedExpr() | ast.Starred():
                return self.of(node.value, depth + 1)
            case _:
                return self._of_display(node, depth)

    def _of_display(self, node: ast.AST, depth: int) -> Kind | None:
        """What comes of braces, brackets and operators."""
        if isinstance(node, (ast.Set, ast.SetComp)):
            return Kind.UNORDERED
        if isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.DictComp)):
            return self._unordered(node.generators[0].iter, depth)
        if isinstance(node, ast.IfExp):
            return self.of(node.body, depth + 1) or self.of(node.orelse, depth + 1)
        if not isinstance(node, ast.BinOp):
            return None
        kinds = {self.of(node.left, depth + 1), self.of(node.right, depth + 1)}
        if isinstance(node.op, ast.Div):
            return Kind.PATH if Kind.PATH in kinds else None
        is_set = isinstance(node.op, (ast.BitOr, ast.BitAnd, ast.BitXor, ast.Sub)) and Kind.UNORDERED in kinds
        return Kind.UNORDERED if is_set else None

    def of_annotation(self, node: ast.expr | None, depth: int = 0) -> Kind | None:
        """What a value with this annotation is."""
        if node is None or depth > DEEPEST:
            return None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self._of_text(node)
        if isinstance(node, ast.BinOp):
            return self.of_annotation(node.left, depth + 1) or self.of_annotation(node.right, depth + 1)
        if isinstance(node, ast.Subscript):
            outer = (self.module.resolve(node.value) or "").rpartition(".")[2]
            if outer in {"Optional", "Annotated", "Final", "ClassVar"}:
                first = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
                return self.of_annotation(first, depth + 1)
            return self.of_annotation(node.value, depth + 1)
        return self._of_type(self.module.resolve(node))

    def _of_text(self, node: ast.Constant) -> Kind | None:
        """An annotation in quotation marks: looked up where it stands, if it is a name."""
        name, _, rest = str(node.value).partition(".")
        found = self.module.scope_of[node].lookup(name.strip())
        dotted = next((source.dotted for source in found[1] if source.kind == "import"), "") if found else ""
        return self._of_type(".".join(part for part in (dotted, rest.strip()) if part))

    def _of_type(self, dotted: str | None) -> Kind | None:
        if dotted in known.CLIENT_TYPES:
            return Kind.CLIENT
        if dotted in known.PATHS:
            return Kind.PATH
        if dotted in known.UNORDERED_TYPES:
            return Kind.UNORDERED
        if dotted in known.PLAIN_GROUPS:
            return Kind.PLAIN_GROUP
        return _TYPES.get(ours(dotted))

    def _of_name(self, node: ast.Name, depth: int) -> Kind | None:
        found = self.module.scope_of[node].lookup(node.id)
        if found is None:
            return None
        scope, sources = found
        if (scope, node.id) in self.contexts:
            return Kind.CONTEXT
        kind = self._of_sources(sources, depth)
        if kind is Kind.UNORDERED and self._is_sorted(scope, node.id):
            return None
        return kind

    def _of_sources(self, sources: list[Source], depth: int) -> Kind | None:
        """What something is that gets its values from there: what all of them are, but for `None`."""
        if id(sources) in self._found:
            return self._found[id(sources)]
        self._found[id(sources)] = None  # what depends on itself (`x = x.parent`)
        kinds: set[Kind | None] = set()
        for source in sources:
            if isinstance(source.node, ast.Constant) and source.node.value is None:
                continue
            if source.annotation is not None:
                kinds.add(self.of_annotation(source.annotation, depth + 1))
            elif source.kind in {"value", "with"}:
                kinds.add(self.of(source.node, depth + 1))
            else:
                kinds.add(None)
        kind = self._found[id(sources)] = kinds.pop() if len(kinds) == 1 else None
        return kind

    def _is_sorted(self, scope: Scope, name: str) -> bool:
        return any(
            isinstance(node, ast.Attribute)
            and node.attr == "sort"
            and isinstance(node.value, ast.Name)
            and node.value.id == name
            for node in self.module.own.get(scope, ())
        )

    def _of_attribute(self, node: ast.Attribute, depth: int) -> Kind | None:
        if self.is_self(node.value):
            found = self.module.scope_of[node.value].lookup(getattr(node.value, "id", ""))
            owner = owner_of(found[0]) if found else None
            sources = self._attributes.get((owner, node.attr)) if owner else None
            return self._of_sources(sources, depth) if sources else None
        kind = self.of(node.value, depth + 1)
        if kind is Kind.CLIENT or (kind is Kind.PATH and node.attr in {"parent", "absolute"}):
            return kind
        return None

    def _of_call(self, node: ast.Call, depth: int) -> Kind | None:
        dotted = self.module.resolve(node.func) or ""
        if name := ours(dotted):
            return _MAKERS.get(name)
        for names, kind in _MADE_OF.items():
            if dotted in names:
                return kind
        if dotted in known.KEEPS_ORDER:
            return next((Kind.UNORDERED for one in node.args if self._unordered(one, depth)), None)
        return self._of_method(node.func, depth) if isinstance(node.func, ast.Attribute) else None

    def _of_method(self, method: ast.Attribute, depth: int) -> Kind | None:
        """What the call of a method gives."""
        kind = self.of(method.value, depth + 1)
        if kind is None:
            return None
        if kind in {Kind.UNORDERED, Kind.CLIENT, Kind.PATH}:
            return kind if method.attr in known.SAME_AGAIN else None
        return _MADE_BY.get((kind, method.attr))

    def _unordered(self, node: ast.AST, depth: int) -> Kind | None:
        return Kind.UNORDERED if self.of(node, depth + 1) is Kind.UNORDERED else None


def owner_of(function: Scope) -> Scope | None:
    """The class that a function is a method of."""
    parent = function.parent
    return parent if parent is not None and parent.is_class and isinstance(function.node, FUNCTIONS) else None


def own_name(function: Scope) -> str | None:
    """What a method calls its instance."""
    node = function.node
    if owner_of(function) is None or not isinstance(node, FUNCTIONS) or isinstance(node, ast.Lambda):
        return None
    decorators = {getattr(one, "id", "") for one in node.decorator_list}
    first = [*node.args.posonlyargs, *node.args.args][:1]
    return first[0].arg if first and "staticmethod" not in decorators else None

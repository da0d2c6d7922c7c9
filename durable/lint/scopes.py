"""What the names in a module stand for: scopes, what is bound in them, and imports by their full names.

Everything is walked without recursion: a file may be nested more deeply than Python's stack.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension: TypeAlias = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
ScopeNode: TypeAlias = ast.Module | ast.ClassDef | FunctionNode | Comprehension

FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

DEEPEST: Final = 40
"""How long a chain of names and attributes may be that is followed to what it stands for."""


@dataclass(slots=True)
class Source:
    """Where a name gets something from.

    Attributes:
        kind: How: an import, an assignment, a context manager's `as`, an iteration's item, a parameter, a
            definition, or anything else.
        node: The expression, the annotation, or the definition; as `kind` says.
        dotted: Of an import: the full name.
        annotation: Of a parameter, or of a variable that has one.
    """

    kind: Literal["import", "value", "with", "item", "parameter", "function", "class", "other"]
    node: ast.AST | None = None
    dotted: str = ""
    annotation: ast.expr | None = None


@dataclass(slots=True, eq=False)
class Scope:
    """A module, class, function or comprehension, and what is bound in it."""

    node: ScopeNode
    parent: Scope | None
    names: dict[str, list[Source]] = field(default_factory=dict[str, list[Source]])
    global_names: set[str] = field(default_factory=set[str])
    outer_names: set[str] = field(default_factory=set[str])

    @property
    def is_class(self) -> bool:
        """Whether names in it cannot be seen from the functions in it."""
        return isinstance(self.node, ast.ClassDef)

    @property
    def function(self) -> Scope:
        """The function that its code runs in; the module or class where it is in none."""
        scope = self
        while isinstance(scope.node, COMPREHENSIONS) and scope.parent is not None:
            scope = scope.parent
        return scope

    @property
    def name(self) -> str:
        """What its function or class is called."""
        return getattr(self.node, "name", "the lambda")

    def around(self) -> Iterator[Scope]:
        """It and the scopes that it is in, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def bind(self, name: str, source: Source) -> None:
        """Note that a name gets something here."""
        target = self
        if name in self.global_names:
            target = list(self.around())[-1]
        elif name in self.outer_names:
            found = self.lookup(name)
            target = self if found is None else found[0]
        target.names.setdefault(name, []).append(source)

    def lookup(self, name: str) -> tuple[Scope, list[Source]] | None:
        """Where a name that is used here is bound, and to what; `None` for builtins and what nobody binds."""
        for scope in self.around():
            if scope is not self and scope.is_class:
                continue
            if name in scope.global_names:
                module = list(scope.around())[-1]
                return (module, module.names[name]) if name in module.names else None
            if name in scope.names:
                return scope, scope.names[name]
        return None


class Module:
    """A module's tree, with the scope of every node.

    Attributes:
        tree: The tree.
        scope_of: The scope that the code of a node runs in; of a function's definition, the one around it.
        inner: The scope that a function, class or comprehension makes.
        parent_of: The node that a node is a part of.
        own: The nodes of each function, without those of functions inside of it, in the order of the source.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.root = Scope(tree, None)
        self.scope_of: dict[ast.AST, Scope] = {tree: self.root}
        self.inner: dict[ast.AST, Scope] = {tree: self.root}
        self.parent_of: dict[ast.AST, ast.AST] = {}
        self.own: dict[Scope, list[ast.AST]] = {self.root: []}
        self._sources: dict[ast.AST, Source] = {}
        self._walk()
        self.functions = [scope for scope in self.own if isinstance(scope.node, FUNCTIONS)]
        self.classes = [scope for node, scope in self.inner.items() if isinstance(node, ast.ClassDef)]

    def resolve(self, node: ast.AST, depth: int = 0) -> str | None:
        """The full name of what an expression of names and attributes stands for, as far as imports tell."""
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or depth > DEEPEST:
            return None
        base = self._resolve_name(node, depth)
        return None if base is None else ".".join([base, *reversed(attributes)])

    def _resolve_name(self, node: ast.Name, depth: int) -> str | None:
        found = self.scope_of[node].lookup(node.id)
        if found is None:
            return f"builtins.{node.id}"
        imported = [source.dotted for source in found[1] if source.kind == "import"]
        if imported:
            return imported[-1]
        if len(found[1]) == 1 and found[1][0].kind == "value":
            value = found[1][0].node
            if isinstance(value, (ast.Name, ast.Attribute)):
                return self.resolve(value, depth + 1)
        return None

    def ancestors(self, node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
        """What a node is in, up to its function, innermost first; each with the part of it that the node is in."""
        child = node
        while (parent := self.parent_of.get(child)) is not None:
            yield parent, child
            if isinstance(parent, (*FUNCTIONS, ast.ClassDef)):
                return
            child = parent

    def inside(self, nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
        """The nodes and all that they are made of, but for the bodies of functions and classes in them."""
        stack = list(nodes)[::-1]
        while stack:
            node = stack.pop()
            yield node
            if not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                stack.extend(reversed(list(ast.iter_child_nodes(node))))

    # --- Building --------------------------------------------------------------------------------------------

    def _walk(self) -> None:
        stack: list[tuple[ast.AST, Scope]] = [(self.tree, self.root)]
        while stack:
            node, scope = stack.pop()
            self.scope_of[node] = scope
            self.own.setdefault(scope.function, []).append(node)
            self._bind(node, scope)
            children = list(self._children(node, scope))
            for child, _ in children:
                self.parent_of[child] = node
            stack.extend(reversed(children))

    def _children(self, node: ast.AST, scope: Scope) -> Iterator[tuple[ast.AST, Scope]]:
        """The parts of a node, each with the scope that it is evaluated in."""
        inside: set[ast.AST] = set()
        own = scope
        if isinstance(node, COMPREHENSIONS):
            own = self.inner[node] = Scope(node, scope)
            self._bind_targets(own, node.generators)
            inside.update(ast.iter_child_nodes(node))
        elif isinstance(node, ast.comprehension):
            # The first iterable is evaluated before there is a comprehension.
            is_first = isinstance(scope.node, COMPREHENSIONS) and scope.node.generators[0] is node
            outer = scope.parent if is_first else None
            scope = scope if outer is None else outer
            inside.update(one for one in ast.iter_child_nodes(node) if one is not node.iter)
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            own = self.inner[node] = Scope(node, scope)
            self.own[own] = []
            if not isinstance(node, ast.ClassDef):
                self._bind_parameters(own, node.args)
            inside.update([node.body] if isinstance(node, ast.Lambda) else node.body)
        for child in ast.iter_child_nodes(node):
            yield child, own if child in inside else scope

    def _bind_targets(self, own: Scope, generators: Iterable[ast.comprehension]) -> None:
        for generator in generators:
            for part in ast.walk(generator.target):
                if isinstance(part, ast.Name):
                    own.bind(part.id, Source("item", generator.iter))

    def _bind_parameters(self, own: Scope, arguments: ast.arguments) -> None:
        for one in parameters_of(arguments):
            own.bind(one.arg, Source("parameter", one, annotation=one.annotation))
        for rest in (arguments.vararg, arguments.kwarg):
            if rest is not None:
                own.bind(rest.arg, Source("other", rest))

    def _bind(self, node: ast.AST, scope: Scope) -> None:  # noqa: C901, PLR0912 - a line for each way of binding
        match node:
            case ast.Import():
                for alias in node.names:
                    dotted = alias.name if alias.asname else alias.name.partition(".")[0]
                    scope.bind(alias.asname or dotted, Source("import", node, dotted))
            case ast.ImportFrom():
                package = "." * node.level + (node.module or "")
                for alias in node.names:
                    scope.bind(alias.asname or alias.name, Source("import", node, f"{package}.{alias.name}"))
            case ast.Global():
                scope.global_names.update(node.names)
            case ast.Nonlocal():
                scope.outer_names.update(node.names)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                scope.bind(node.name, Source("function", node))
            case ast.ClassDef():
                scope.bind(node.name, Source("class", node))
            case ast.Assign():
                for target in node.targets:
                    self._note(target, Source("value", node.value))
            case ast.AnnAssign():
                self._sources[node.target] = Source("value", node.value, annotation=node.annotation)
            case ast.NamedExpr():
                self._sources[node.target] = Source("value", node.value)
            case ast.withitem() if node.optional_vars is not None:
                self._sources[node.optional_vars] = Source("with", node.context_expr)
            case ast.For() | ast.AsyncFor():
                self._sources[node.target] = Source("item", node.iter)
            case ast.Name(ctx=ast.Store() | ast.Del()):
                # The targets of a comprehension are bound with it; what `:=` binds in there is the function's.
                if node in self._sources or not isinstance(scope.node, COMPREHENSIONS):
                    scope.function.bind(node.id, self._sources.get(node) or Source("other", node))
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                scope.bind(name, Source("other", node))
            case ast.MatchMapping(rest=str(name)):
                scope.bind(name, Source("other", node))
            case _:
                pass

    def _note(self, target: ast.expr, source: Source) -> None:
        """Where the names in a target of an assignment get their values from."""
        value = source.node
        if isinstance(target, (ast.Tuple, ast.List)):
            values = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
            if len(values) == len(target.elts) and not any(isinstance(one, ast.Starred) for one in target.elts):
                for part, one in zip(target.elts, values, strict=True):
                    self._note(part, Source("value", one))
        else:
            self._sources[target] = source

    def source_of(self, target: ast.AST) -> Source | None:
        """Where a target of an assignment that is no name (`self.client`) gets its value from."""
        return self._sources.get(target)


def parameters_of(arguments: ast.arguments) -> list[ast.arg]:
    """Parameters, in the order in which positional arguments come to them; then those by keyword alone."""
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]

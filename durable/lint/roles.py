"""Which functions are durable, and which are bodies of steps, children and tasks: found by how they are used."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from . import known
from .kinds import Kind, Kinds, ours, own_name, owner_of
from .scopes import DEEPEST, FUNCTIONS, Module, Scope


class Role(Enum):
    """What a function is for."""

    DURABLE = auto()
    STEP = auto()
    UNDO = auto()
    BRANCH = auto()


COROUTINES: Final = frozenset({
    *((Kind.CONTEXT, verb) for verb in (
        "step", "wait", "create_callback", "wait_for_callback", "invoke", "wait_for_condition", "child", "parallel",
        "race", "map",
    )),
    (Kind.SAGA, "step"), (Kind.SAGA, "rollback"), (Kind.SAGA, "rollback_to"),
    (Kind.HANDLE, "wait"), (Kind.CALLBACK, "result"),
})  # fmt: skip
"""What must be awaited."""

AT_ONCE: Final = frozenset({
    *((Kind.CONTEXT, verb) for verb in (
        "now", "uuid4", "random", "task_group", "batch", "move_on_after", "fail_after",
    )),
    *((Kind.SAGA, verb) for verb in ("compensate", "cleanup", "savepoint", "pivot")),
    (Kind.GROUP, "start_soon"),
})  # fmt: skip
"""What need not be."""

SUSPENDING: Final = frozenset({
    (Kind.CONTEXT, "wait"), (Kind.CONTEXT, "wait_for_callback"), (Kind.CONTEXT, "invoke"),
    (Kind.CONTEXT, "wait_for_condition"), (Kind.CALLBACK, "result"),
})  # fmt: skip
"""What waits for the world, so that the invocation ends meanwhile."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A call of something durable.

    Attributes:
        call: The call.
        kind: Of what; `None` for a declared step.
        verb: Which one.
        shown: As it stands in the code.
    """

    call: ast.Call
    kind: Kind | None
    verb: str
    shown: str

    @property
    def is_awaited(self) -> bool:
        """Whether it is to be."""
        return self.kind is None or (self.kind, self.verb) in COROUTINES

    @property
    def suspends(self) -> bool:
        """Whether it always waits for the world."""
        return (self.kind, self.verb) in SUSPENDING


@dataclass(frozen=True, slots=True)
class Body:
    """A function that something durable is given to run.

    Attributes:
        node: The expression.
        role: What for.
        arguments: What it gets, after its own context if it gets one.
    """

    node: ast.expr
    role: Role
    arguments: tuple[ast.expr, ...] = ()


class Analysis:
    """A module, and what its functions are.

    Attributes:
        module: The module.
        kinds: What its expressions are.
        roles: What its functions are for.
        handlers: Its classes whose `handle` is a durable function.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.module = Module(tree)
        self.kinds = Kinds(self.module)
        self.roles: dict[Scope, set[Role]] = {function: set() for function in self.module.functions}
        self._calls = [node for nodes in self.module.own.values() for node in nodes if isinstance(node, ast.Call)]
        self.handlers = {scope for scope in self.module.classes if self._is_handler(scope)}
        self._find_roots()
        while self._spread():
            pass

    @property
    def durable(self) -> Iterator[Scope]:
        """The functions whose code runs again on every replay."""
        return (function for function in self.module.functions if self.is_durable(function))

    def is_durable(self, function: Scope) -> bool:
        """Whether a function's code runs again on every replay."""
        return Role.DURABLE in self.roles.get(function, ()) and not self._is_inside(function, Role.STEP, Role.UNDO)

    def has_role(self, function: Scope, *roles: Role) -> bool:
        """Whether a function has one of these roles."""
        return not self.roles.get(function, set()).isdisjoint(roles)

    def _is_inside(self, function: Scope, *roles: Role) -> bool:
        return any(self.has_role(scope, *roles) for scope in function.around())

    def operation(self, node: ast.AST) -> Operation | None:
        """What durable thing a node calls."""
        if not isinstance(node, ast.Call):
            return None
        if isinstance(node.func, ast.Attribute):
            kind = self.kinds.of(node.func.value)
            if kind is not None and {(kind, node.func.attr)} & (COROUTINES | AT_ONCE):
                return Operation(node, kind, node.func.attr, text_of(node.func))
        function = self.function_of(node.func)
        if function is not None and self.is_declared(function):
            return Operation(node, None, "step", text_of(node.func))
        return None

    def operations(self, function: Scope) -> Iterator[Operation]:
        """What durable things a function calls, in the order of the source."""
        found = (self.operation(node) for node in self.module.own[function])
        return (one for one in found if one is not None)

    def calls_durable(self, node: ast.AST) -> str:
        """What durable thing a node calls, itself or by a function that it hands a context; empty if none."""
        operation = self.operation(node)
        if operation is not None:
            return operation.shown
        if isinstance(node, ast.Call) and self.handed_context(node) is not None:
            return text_of(node.func)
        return ""

    def handed_context(self, call: ast.Call) -> ast.expr | None:
        """The context that a call hands on."""
        if ours(self.module.resolve(call.func)):
            return None  # saga(ctx) takes one, and is used here
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        return next((one for one in arguments if self.kinds.of(one) is Kind.CONTEXT), None)

    def is_declared(self, function: Scope) -> bool:
        """Whether it is declared as a step."""
        return any(name == "step" for name, _ in self.decorators(function))

    def decorators(self, function: Scope) -> Iterator[tuple[str, ast.Call | None]]:
        """Our decorators of a function or class, each with the call that has its options."""
        for one in getattr(function.node, "decorator_list", ()):
            call = one if isinstance(one, ast.Call) else None
            if name := ours(self.module.resolve(one.func if isinstance(one, ast.Call) else one)):
                yield name, call

    def function_of(self, node: ast.AST | None, depth: int = 0) -> Scope | None:
        """The function of this file that an expression stands for."""
        if node is None or depth > DEEPEST:
            return None
        if isinstance(node, ast.Lambda):
            return self.module.inner[node]
        if isinstance(node, ast.Call) and self.module.resolve(node.func) == "functools.partial" and node.args:
            return self.function_of(node.args[0], depth + 1)
        sources = None
        if isinstance(node, ast.Name):
            found = self.module.scope_of[node].lookup(node.id)
            sources = found[1] if found else None
        elif (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and self.kinds.is_self(node.value)
        ):
            found = self.module.scope_of[node.value].lookup(node.value.id)
            owner = owner_of(found[0]) if found else None
            sources = owner.names.get(node.attr) if owner else None
        if sources is None or len(sources) != 1 or sources[0].node is None:
            return None
        if sources[0].kind == "function":
            return self.module.inner[sources[0].node]
        return self.function_of(sources[0].node, depth + 1) if sources[0].kind == "value" else None

    def bodies(self, operation: Operation) -> Iterator[Body]:
        """The functions that something durable is given to run."""
        arguments, verb = operation.call.args, operation.verb
        keywords = {keyword.arg: keyword.value for keyword in operation.call.keywords}
        first = arguments[:1] or [keywords[key] for key in ("submitter", "check") if key in keywords]
        if "compensate" in keywords:
            yield Body(keywords["compensate"], Role.UNDO)
        if operation.kind is None or not first:
            return
        rest = tuple(arguments[1:])
        match operation.kind, verb:
            case (Kind.CONTEXT | Kind.SAGA, "step") | (Kind.CONTEXT, "wait_for_callback" | "wait_for_condition"):
                yield Body(first[0], Role.STEP, rest)
            case Kind.SAGA, "compensate" | "cleanup":
                yield Body(first[0], Role.UNDO, rest)
            case (Kind.CONTEXT, "child") | (Kind.GROUP, "start_soon"):
                yield Body(first[0], Role.BRANCH, rest)
            case Kind.CONTEXT, "map":
                yield Body(first[0], Role.BRANCH)
            case Kind.CONTEXT, "race":
                yield from (Body(one, Role.BRANCH) for one in arguments)
            case Kind.CONTEXT, "parallel":
                yield from (Body(one, Role.BRANCH) for one in _members(first[0]))
            case _:
                pass

    # --- Finding out -----------------------------------------------------------------------------------------

    def _find_roots(self) -> None:
        for function in self.module.functions:
            names = dict(self.decorators(function))
            if "durable_execution" in names or (function.name == "handle" and owner_of(function) in self.handlers):
                self._make_durable(function)
            if "step" in names:
                self.roles[function].add(Role.STEP)
                options = names["step"].keywords if names["step"] is not None else []
                for undo in (one.value for one in options if one.arg == "compensate"):
                    self._give(Body(undo, Role.UNDO))
        for function in self.module.functions:
            for one in _positional(function):
                if self.kinds.of_annotation(one.annotation) is Kind.CONTEXT:
                    self.kinds.contexts.add((function, one.arg))
        for call in self._calls:
            made = ours(self.module.resolve(call.func)) == "durable_execution" and call.args
            given = self.function_of(call.args[0]) if made else None
            if given is not None:
                self._make_durable(given)

    def _is_handler(self, scope: Scope) -> bool:
        """Whether a class, or one of this file that it derives from, is a handler."""
        seen: set[Scope] = set()
        ahead = [scope]
        while ahead:
            one = ahead.pop()
            if one in seen or not isinstance(one.node, ast.ClassDef):
                continue
            seen.add(one)
            if any(name == "durable_execution" for name, _ in self.decorators(one)):
                return True
            for base in one.node.bases:
                if ours(self.module.resolve(base)) == "DurableHandler":
                    return True
                found = self.module.scope_of[base].lookup(base.id) if isinstance(base, ast.Name) else None
                nodes = [source.node for source in found[1] if source.kind == "class"] if found is not None else []
                ahead += [self.module.inner[node] for node in nodes if node is not None]
        return False

    def _make_durable(self, function: Scope) -> None:
        self.roles[function].add(Role.DURABLE)
        for one in _positional(function)[1:2]:  # (event, ctx)
            self.kinds.contexts.add((function, one.arg))

    def _spread(self) -> bool:
        """Follow contexts and functions to where they are handed; whether anything came of it."""
        self.kinds.forget()
        before = (len(self.kinds.contexts), sum(map(len, self.roles.values())))
        for call in self._calls:
            operation = self.operation(call)
            for body in self.bodies(operation) if operation is not None else ():
                self._give(body)
            self._hand_on(self.function_of(call.func), call.args, call.keywords)
        for function in self.module.functions:
            has_context = any(scope is function for scope, _ in self.kinds.contexts)
            if has_context or next(self.operations(function), None) is not None:
                self.roles[function].add(Role.DURABLE)
        return before != (len(self.kinds.contexts), sum(map(len, self.roles.values())))

    def _give(self, body: Body) -> None:
        function = self.function_of(body.node)
        if function is None or self.is_declared(function):
            return
        self.roles[function].add(body.role)
        is_partial = isinstance(body.node, ast.Call)
        taken = len(body.node.args) - 1 if isinstance(body.node, ast.Call) else 0
        parameters = _positional(function)[taken:]
        if body.role is Role.BRANCH and parameters:
            self.kinds.contexts.add((function, parameters[0].arg))
        elif not is_partial:
            self._hand_on(function, body.arguments, ())

    def _hand_on(
        self, function: Scope | None, arguments: Sequence[ast.expr], keywords: Sequence[ast.keyword]
    ) -> None:
        if function is None:
            return
        for parameter, argument in zip(_positional(function), arguments, strict=False):
            if self.kinds.of(argument) is Kind.CONTEXT:
                self.kinds.contexts.add((function, parameter.arg))
        names = {one.arg for one in _positional(function)}
        for keyword in keywords:
            if keyword.arg is not None and keyword.arg in names and self.kinds.of(keyword.value) is Kind.CONTEXT:
                self.kinds.contexts.add((function, keyword.arg))


def _members(node: ast.expr) -> list[ast.expr]:
    """The branches in what `parallel` is given."""
    if isinstance(node, (ast.List, ast.Tuple)):
        return node.elts
    if isinstance(node, ast.Dict):
        return node.values
    if isinstance(node, ast.DictComp):
        return [node.value]
    return [node.elt] if isinstance(node, (ast.ListComp, ast.GeneratorExp)) else []


def _positional(function: Scope) -> list[ast.arg]:
    """The parameters that positional arguments come to, without a method's own."""
    node = function.node
    if not isinstance(node, FUNCTIONS):
        return []
    parameters = [*node.args.posonlyargs, *node.args.args]
    parameters = parameters[own_name(function) is not None :]
    return [*parameters, *node.args.kwonlyargs]


def text_of(node: ast.AST) -> str:
    """A name, with what it is an attribute of, as it stands in the code."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Call):
        parts.append(f"{text_of(node.func)}()")
    elif isinstance(node, ast.Name):
        parts.append(node.id)
    else:
        parts.append("...")
    return ".".join(reversed(parts))


def context_name(analysis: Analysis, function: Scope) -> str:
    """What the context is called in a function, for advice."""
    for scope in function.around():
        names = sorted(name for owner, name in analysis.kinds.contexts if owner is scope and name[0] != "_")
        if names:
            return names[0]
    return "ctx"


def is_inline(module: Module, node: ast.Lambda) -> bool:
    """Whether a lambda is called by what it is handed to, there and then."""
    parent = module.parent_of.get(node)
    if isinstance(parent, ast.keyword):
        parent = module.parent_of.get(parent)
    if not isinstance(parent, ast.Call):
        return False
    is_sort = isinstance(parent.func, ast.Attribute) and parent.func.attr == "sort"
    return is_sort or module.resolve(parent.func) in known.INLINE

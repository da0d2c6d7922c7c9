"""What code does that a replay would do again, or otherwise: clocks, chance, the outside world (DUR1xx, DUR201)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from . import known
from .kinds import Kind, owner_of
from .roles import Analysis, Role, context_name, is_inline, text_of
from .scopes import DEEPEST, Scope

_HARMLESS_DECORATORS: Final = frozenset({
    "functools.cache", "functools.lru_cache", "functools.wraps", "builtins.staticmethod", "builtins.classmethod",
    "typing.no_type_check", "typing.final", "typing.override",
})  # fmt: skip
"""Those under which a call of a function still is a call of its body, there and then."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that code does.

    Attributes:
        node: Where.
        code: The rule that it is against in a durable function.
        shown: What, as it stands in the code.
        wrong: What is wrong with it.
        instead: What to do instead; `CTX` in it is the context.
    """

    node: ast.AST
    code: str
    shown: str
    wrong: str
    instead: str


@dataclass(slots=True)
class Effects:
    """Finds what functions do, themselves or by functions of the same file that they call."""

    analysis: Analysis
    _inside: dict[Scope, Effect | None] = field(default_factory=dict[Scope, "Effect | None"])

    def of(self, function: Scope) -> Iterator[Effect]:
        """What a durable function does, in the order of the source."""
        for node in self._nodes(function):
            effect = self._effect(node, function) or self._through(node)
            if effect is not None and not self._is_under(node, "is_replaying"):
                yield effect

    def _nodes(self, function: Scope) -> Iterator[ast.AST]:
        """A function's nodes, with those of lambdas that are called where they stand."""
        for node in self.analysis.module.own[function]:
            yield node
            if isinstance(node, ast.Lambda) and is_inline(self.analysis.module, node):
                yield from self.analysis.module.own[self.analysis.module.inner[node]]

    def _through(self, node: ast.AST) -> Effect | None:
        """What a call of a function of this file comes to."""
        if not isinstance(node, ast.Call):
            return None
        function = self._called(node)
        inside = None if function is None else self._first_inside(function)
        if function is None or inside is None:
            return None
        shown = f"{text_of(node.func)}() comes to {inside.shown} (line {getattr(inside.node, 'lineno', 0)}), which"
        return Effect(node, inside.code, shown, inside.wrong, inside.instead)

    def _called(self, call: ast.Call) -> Scope | None:
        """The function of this file whose body a call runs there and then."""
        analysis = self.analysis
        function = analysis.function_of(call.func)
        if function is None and analysis.module.resolve(call.func) in known.THREADS and call.args:
            function = analysis.function_of(call.args[0])
        if function is None or isinstance(function.node, ast.Lambda) or Role.DURABLE in analysis.roles[function]:
            return None
        decorators: list[ast.expr] = getattr(function.node, "decorator_list", [])
        names = {analysis.module.resolve(one.func if isinstance(one, ast.Call) else one) for one in decorators}
        return function if names <= _HARMLESS_DECORATORS else None

    def _first_inside(self, function: Scope) -> Effect | None:
        """The first thing that a function does, itself or by others that it calls."""
        ahead, seen = [function], {function}
        if function in self._inside:
            return self._inside[function]
        found: Effect | None = None
        while ahead and found is None and len(seen) < DEEPEST:
            one = ahead.pop(0)
            for node in self._nodes(one):
                found = self._effect(node, one)
                if found is not None:
                    break
                called = self._called(node) if isinstance(node, ast.Call) else None
                if called is not None and called not in seen:
                    seen.add(called)
                    ahead.append(called)
        self._inside[function] = found
        return found

    # --- One thing -------------------------------------------------------------------------------------------

    def _effect(self, node: ast.AST, function: Scope) -> Effect | None:
        found = self._call(node) if isinstance(node, ast.Call) else None
        if found is not None:
            return found
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            dotted = self.analysis.module.resolve(node)
            parent = self.analysis.module.parent_of.get(node)
            is_method = (
                isinstance(parent, ast.Attribute) and self.analysis.module.resolve(parent) in known.ENVIRONMENT
            )
            if dotted in known.ENVIRONMENT_VALUES and not is_method:
                return Effect(node, "DUR103", text_of(node), "may be another on a replay", _ASK_ONCE)
        changed = self._changed(node, function)
        if changed and not self._is_under(node, changed.rpartition(".")[2]):
            wrong = "outlives the execution: every replay changes it again, and others see it"
            return Effect(node, "DUR107", changed, wrong, "return values, or keep it elsewhere in a step")
        return None

    def _is_under(self, node: ast.AST, name: str) -> bool:
        """Whether a node is in the block of an `if` that looks at this name: a cache, or what is not replayed."""
        for parent, child in self.analysis.module.ancestors(node):
            if isinstance(parent, ast.If) and child is not parent.test:
                tested = self.analysis.module.inside([parent.test])
                if any(name in {getattr(one, "id", None), getattr(one, "attr", None)} for one in tested):
                    return True
        return False

    def _call(self, call: ast.Call) -> Effect | None:
        module, kinds = self.analysis.module, self.analysis.kinds
        dotted, func = module.resolve(call.func) or "", call.func
        if dotted in known.THREADS and call.args:
            # The function that it is given is called, there and then.
            dotted, func = module.resolve(call.args[0]) or "", call.args[0]
        shown = f"{text_of(func)}()"
        if isinstance(func, ast.Attribute):
            kind = kinds.of(func.value)
            if kind is Kind.CLIENT and func.attr not in known.NO_IO_OF_CLIENTS and dotted not in known.CLIENTS:
                return Effect(call, "DUR104", shown, "is done again on every replay", "do it in a step")
            if kind is Kind.PATH and func.attr in known.PATH_IO:
                return Effect(call, "DUR104", shown, "is done again on every replay", "do it in a step")
            if kind is Kind.LOGGER and func.attr in known.LOG_VERBS:
                return Effect(call, "DUR108", shown, "says it again on every replay", "use CTX.logger")
        return self._known(dotted, call, shown)

    def _known(self, dotted: str, call: ast.Call, shown: str) -> Effect | None:  # noqa: PLR0911 - one a rule
        if known.is_clock(dotted, call):
            return Effect(call, "DUR101", shown, "is another time on every replay", "use CTX.now(), or a step")
        if dotted in known.IDENTITIES:
            return Effect(call, "DUR102", shown, "is another one on every replay", "use CTX.uuid4(), or a step")
        if known.is_chance(dotted, call):
            is_secret = dotted in known.SECRETS or dotted.startswith("secrets.")
            instead = "make it in a step" if is_secret else "use CTX.random(), or a step"
            return Effect(call, "DUR102", shown, "is another one on every replay", instead)
        if dotted in known.ENVIRONMENT:
            return Effect(call, "DUR103", shown, "may be another on a replay", _ASK_ONCE)
        if dotted in known.IO:
            return Effect(call, "DUR104", shown, "is done again on every replay", "do it in a step")
        if dotted in {"builtins.hash", "builtins.id"}:
            return Effect(call, "DUR105", shown, "is another value in another process", "use hashlib, or a key")
        if dotted in known.SAID:
            return Effect(call, "DUR108", shown, "says it again on every replay", "use CTX.logger, or a step")
        if dotted in known.SLEEPS and not _is_zero(call):
            wrong = "sleeps again on every replay, and suspends nothing"
            return Effect(call, "DUR201", shown, wrong, "use CTX.wait()")
        return None

    def _changed(self, node: ast.AST, function: Scope) -> str:
        """The global, or the attribute of a handler, that a node changes; empty if none."""
        name = changed_name(node, self.analysis)
        if name is None:
            return ""
        if self.analysis.kinds.is_self(name) and owner_of(function) in self.analysis.handlers:
            attribute = self.analysis.module.parent_of.get(name)
            return text_of(attribute) if isinstance(attribute, ast.Attribute) else ""
        if isinstance(node, ast.Name) and node.id not in function.global_names:
            return ""
        found = self.analysis.module.scope_of[name].lookup(name.id)
        if found is None or found[0] is not self.analysis.module.root:
            return ""
        return name.id if any(source.kind in {"value", "other"} for source in found[1]) else ""


_ASK_ONCE: Final = "ask once, in a step"


def advice(effect: Effect, analysis: Analysis, function: Scope) -> str:
    """An effect in one line, with what to do."""
    return f"{effect.shown} {effect.wrong}: {effect.instead.replace('CTX', context_name(analysis, function))}"


def changed_name(node: ast.AST, analysis: Analysis) -> ast.Name | None:
    """The variable that a node changes, or in which it changes something.

    `x = ...` and `x += ...`, `x[...] = ...`, `x.y = ...`, `del x[...]`, and methods that change a container.
    """
    target: ast.AST | None = None
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return node
    if isinstance(node, (ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load):
        target = node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in known.MUTATORS:
        base = node.func.value
        if isinstance(base, ast.Name):
            return base if is_container(base, analysis) else None
        target = base if isinstance(base, ast.Subscript) else None
    while isinstance(target, (ast.Subscript, ast.Attribute)):
        target = target.value
    return target if isinstance(target, ast.Name) else None


def is_container(name: ast.Name, analysis: Analysis) -> bool:
    """Whether a variable holds a list, a dict or the like, as far as the file tells."""
    found = analysis.module.scope_of[name].lookup(name.id)
    for source in found[1] if found is not None else ():
        made = source.node if source.kind == "value" else None
        if isinstance(made, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)):
            return True
        if isinstance(made, ast.Call) and _type(made.func, analysis) in known.CONTAINERS:
            return True
        annotation = source.annotation
        if isinstance(annotation, ast.Subscript):
            annotation = annotation.value
        if annotation is not None and _type(annotation, analysis) in known.CONTAINERS:
            return True
    return False


def _type(node: ast.expr, analysis: Analysis) -> str:
    return analysis.module.resolve(node.value if isinstance(node, ast.Subscript) else node) or ""


def _is_zero(call: ast.Call) -> bool:
    """Whether it only lets others have their turn."""
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0

"""Operations in the wrong place, or not awaited; changes that are lost (DUR106, DUR202, DUR203, DUR3xx, DUR4xx)."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from . import known
from .effects import changed_name
from .kinds import Kind, ours
from .roles import Analysis, Operation, Role, context_name, text_of
from .scopes import COMPREHENSIONS, FUNCTIONS, Scope

Found: TypeAlias = tuple[ast.AST, str, str]
"""A node, the rule that it is against, and what to say."""

_LONGEST_NAME: Final = 256
_LONGEST_WAIT: Final = 366 * 86_400
_GROUPS: Final = "give each a context of its own by CTX.task_group(), CTX.parallel or CTX.map"


def unordered(analysis: Analysis, function: Scope) -> Iterator[Found]:
    """DUR106: operations in the order of a set."""
    said = "is a set, which another process has in another order: use sorted(...) around it, or a list"
    for node in analysis.module.own[function]:
        loops: list[ast.expr]
        body: Sequence[ast.AST]
        if isinstance(node, (ast.For, ast.AsyncFor)):
            loops, body = [node.iter], node.body
        elif isinstance(node, COMPREHENSIONS):
            loops, body = [one.iter for one in node.generators], [node]
        else:
            operation = analysis.operation(node)
            if operation is not None and operation.kind is Kind.CONTEXT and operation.verb in {"map", "parallel"}:
                items = operation.call.args[1:2] if operation.verb == "map" else operation.call.args[:1]
                for one in items:
                    if analysis.kinds.of(one) is Kind.UNORDERED:
                        yield one, "DUR106", f"what {operation.shown}() is given {said}"
            continue
        if any(analysis.calls_durable(one) for one in analysis.module.inside(body)):
            for one in loops:
                if analysis.kinds.of(one) is Kind.UNORDERED:
                    yield one, "DUR106", f"what durable operations loop over {said}"


def limits(analysis: Analysis, function: Scope) -> Iterator[Found]:
    """DUR202, DUR203: time limits and shields of the event loop."""
    for operation in analysis.operations(function):
        for parent, child in analysis.module.ancestors(operation.call):
            if isinstance(parent, (ast.With, ast.AsyncWith)) and child in parent.body:
                opened = [one.context_expr for one in parent.items]
                shield = next((one for one in opened if _is_shield(analysis, one)), None)
                if shield is not None and operation.suspends:
                    what = f"{operation.shown}() cannot suspend under a shield (line {shield.lineno})"
                    yield operation.call, "DUR203", f"{what}: take it out of there"
                    break
                limit = next((one for one in opened if _is_limit(analysis, one)), None)
                if limit is not None and (operation.suspends or not _in_saga(analysis, operation.call, parent)):
                    yield operation.call, "DUR202", _about_limit(analysis, function, operation, limit)
                    break
            elif isinstance(parent, ast.Call) and _is_limit(analysis, parent):
                yield operation.call, "DUR202", _about_limit(analysis, function, operation, parent)
                break


def _about_limit(analysis: Analysis, function: Scope, operation: Operation, limit: ast.expr) -> str:
    ctx = context_name(analysis, function)
    shown = text_of(limit.func if isinstance(limit, ast.Call) else limit)
    why = "does not outlive a suspension" if operation.suspends else "is not recorded: a replay may go another way"
    return f"{shown}() around {operation.shown}() {why}: use {ctx}.move_on_after() or {ctx}.fail_after()"


def _is_limit(analysis: Analysis, node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and analysis.module.resolve(node.func) in known.NATIVE_LIMITS


def _is_shield(analysis: Analysis, node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and analysis.module.resolve(node.func) in known.SHIELDS
        and any(one.arg == "shield" and getattr(one.value, "value", None) is True for one in node.keywords)
    )


def _in_saga(analysis: Analysis, node: ast.AST, limit: ast.AST) -> bool:
    """Whether there is a saga's block between a node and the limit around it: it records how it was left."""
    for parent, _ in analysis.module.ancestors(node):
        opened = [one.context_expr for one in parent.items] if isinstance(parent, ast.AsyncWith) else []
        if any(analysis.kinds.of(one) is Kind.SAGA for one in opened):
            return True
        if parent is limit:
            return False
    return False


def not_awaited(analysis: Analysis, function: Scope) -> Iterator[Found]:
    """DUR301: coroutines that nobody awaits."""
    awaited: set[str] | None = None
    for operation in analysis.operations(function):
        if not operation.is_awaited:
            continue
        node: ast.AST = operation.call
        parent = analysis.module.parent_of.get(node)
        while isinstance(parent, (ast.IfExp, ast.NamedExpr)) and node is not getattr(parent, "test", None):
            node, parent = parent, analysis.module.parent_of.get(parent)
        is_lost = isinstance(
            parent,
            (ast.Expr, ast.Attribute, ast.BinOp, ast.BoolOp, ast.Compare, ast.If, ast.While, ast.FormattedValue,
             ast.UnaryOp, ast.AugAssign, ast.Subscript, ast.For, ast.IfExp),
        )  # fmt: skip
        if isinstance(parent, ast.Return):
            is_lost = isinstance(function.node, ast.AsyncFunctionDef)
        elif isinstance(parent, (ast.Assign, ast.AnnAssign)):
            targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            if awaited is None:
                awaited = set(_awaited(analysis, function))
            is_lost = len(names) == len(targets) and names.isdisjoint(awaited)
        elif isinstance(parent, ast.Call) and parent.func is not node:
            is_lost = analysis.operation(parent) is not None
        if is_lost:
            yield operation.call, "DUR301", f"{operation.shown}() is not awaited, and does not happen: await it"


def _awaited(analysis: Analysis, function: Scope) -> Iterator[str]:
    """Names that may be awaited: after `await`, handed to something that is not durable, returned, in a list."""
    for node in analysis.module.own[function]:
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
            continue
        parent = analysis.module.parent_of.get(node)
        is_handed = isinstance(parent, ast.Call) and analysis.operation(parent) is None and parent.func is not node
        if is_handed or isinstance(parent, (ast.Await, ast.Return, ast.List, ast.Tuple, ast.Starred, ast.Yield)):
            yield node.id


def plain_tasks(analysis: Analysis, function: Scope) -> Iterator[Found]:
    """DUR302: durable operations in tasks of the event loop."""
    for node in analysis.module.own[function]:
        if not isinstance(node, ast.Call) or not _makes_tasks(analysis, node):
            continue
        parts: list[ast.AST] = [*node.args, *(one.value for one in node.keywords)]
        shown = next(filter(None, (analysis.calls_durable(one) for one in analysis.module.inside(parts))), "")
        what = f"{shown}()" if shown else _durable_task(analysis, node)
        if what:
            advice = _GROUPS.replace("CTX", context_name(analysis, function))
            yield node, "DUR302", f"{text_of(node.func)}() runs {what} in a task of the event loop: {advice}"


def _makes_tasks(analysis: Analysis, node: ast.Call) -> bool:
    dotted = analysis.module.resolve(node.func)
    if dotted in known.TASK_MAKERS or dotted in known.THREADS:
        return True
    if not isinstance(node.func, ast.Attribute):
        return False
    if node.func.attr in {"start_soon", "start", "create_task"}:
        return analysis.kinds.of(node.func.value) is Kind.PLAIN_GROUP
    return False


def _durable_task(analysis: Analysis, call: ast.Call) -> str:
    """What durable thing the function of a new task does."""
    dotted = analysis.module.resolve(call.func)
    if dotted in known.TASK_MAKERS:
        return ""
    handed = next((one for one in call.args if analysis.kinds.of(one) is Kind.CONTEXT), None)
    if handed is not None:
        return f"what uses {text_of(handed)}"
    first = call.args[0] if call.args else None
    if isinstance(first, ast.Attribute):
        kind = analysis.kinds.of(first.value)
        if kind in {Kind.CONTEXT, Kind.SAGA}:
            return f"{text_of(first)}()"
    body = analysis.function_of(first)
    if body is None or not (analysis.is_durable(body) or analysis.is_declared(body)):
        return ""
    if analysis.is_declared(body):
        return f"{text_of(first)}()" if first is not None else ""
    operation = next(analysis.operations(body), None)
    return f"{operation.shown}()" if operation is not None else ""


def places(analysis: Analysis, function: Scope) -> Iterator[Found]:
    """DUR303, DUR304: operations inside of a step, or on the context around a child."""
    for node in analysis.module.own[function]:
        if not isinstance(node, ast.Call):
            continue
        operation = analysis.operation(node)
        handed = analysis.handed_context(node)
        if operation is not None:
            shown, used = f"{operation.shown}()", getattr(node.func, "value", None)
        elif handed is not None:
            shown, used = f"{text_of(node.func)}(), which gets {text_of(handed)},", handed
        elif ours(analysis.module.resolve(node.func)) == "saga" and node.args:
            shown, used = f"{text_of(node.func)}({text_of(node.args[0])})", node.args[0]
        else:
            continue
        step = next((one for one in function.around() if analysis.has_role(one, Role.STEP)), None)
        if step is not None and not (handed is not None and operation is None and _only_looks(analysis, node)):
            what = f"{shown} is called inside of step {step.name}"
            yield node, "DUR303", f"{what}: do it outside, or in a child context"
        else:
            yield from _outside(analysis, function, node, shown, used)
        for body in analysis.bodies(operation) if operation is not None else ():
            handed_on = [one for one in body.arguments if analysis.kinds.of(one) is Kind.CONTEXT]
            if body.role is Role.BRANCH and handed_on:
                what = f"{operation.shown}() hands {text_of(handed_on[0])} on" if operation is not None else ""
                yield (
                    handed_on[0],
                    "DUR304",
                    f"{what}: its function gets a context of its own as its first argument",
                )


def _only_looks(analysis: Analysis, node: ast.Call) -> bool:
    """Whether a function that is handed a context by a step does nothing durable with it, as far as is known."""
    body = analysis.function_of(node.func)
    return body is None or next(analysis.operations(body), None) is None


def _outside(
    analysis: Analysis, function: Scope, node: ast.AST, shown: str, used: ast.expr | None
) -> Iterator[Found]:
    """Where a context is used that belongs to code around a child, a branch or a compensation."""
    if not isinstance(used, ast.Name) or analysis.kinds.of(used) is not Kind.CONTEXT:
        return
    found = analysis.module.scope_of[used].lookup(used.id)
    if found is None:
        return
    for scope in function.around():
        if scope is found[0]:
            return
        if analysis.has_role(scope, Role.BRANCH, Role.UNDO):
            own = [name for owner, name in analysis.kinds.contexts if owner is scope]
            instead = own[0] if own and own[0][0] != "_" else "its first argument" if own else "current_context()"
            what = f"{shown} uses the context around {scope.name}"
            yield node, "DUR304", f"{what}: use its own, {instead}"
            return


def lost_changes(analysis: Analysis, function: Scope) -> Iterator[Found]:
    """DUR305: variables of the code around it that a body changes."""
    scopes = list(function.around())
    body = next((one for one in scopes if analysis.has_role(one, Role.STEP, Role.BRANCH, Role.UNDO)), None)
    if body is None:
        return
    inside = set(scopes[: scopes.index(body) + 1])
    for node in analysis.module.own[function]:
        name = changed_name(node, analysis)
        if name is None or (isinstance(node, ast.Name) and node.id not in function.outer_names):
            continue
        found = analysis.module.scope_of[name].lookup(name.id)
        if found is None or found[0] in inside or found[0].function in inside:
            continue
        owner = found[0].function
        if isinstance(owner.node, FUNCTIONS) and (
            analysis.is_durable(owner) or analysis.has_role(owner, Role.BRANCH)
        ):
            what = f"{body.name} changes {name.id} of {owner.name}"
            yield node, "DUR305", f"{what}, and does not run on replay: return the value instead"


def unwinding(analysis: Analysis, function: Scope) -> Iterator[Found]:
    """DUR306, DUR307: `finally`, and cancellations that are caught."""
    for operation in analysis.operations(function):
        for parent, child in analysis.module.ancestors(operation.call):
            is_late = isinstance(parent, (ast.Try, ast.TryStar)) and child in parent.finalbody
            if is_late or (isinstance(parent, ast.ExceptHandler) and _catches_cancellation(analysis, parent)):
                where = "a finally" if is_late else "a handler of cancellations"
                what = f"{operation.shown}() in {where} records nothing when the execution suspends"
                yield operation.call, "DUR306", f"{what}: use a saga, or its cleanup()"
                break
    for node in analysis.module.own[function]:
        if isinstance(node, (ast.Try, ast.TryStar)) and any(
            analysis.calls_durable(one) for one in analysis.module.inside(node.body)
        ):
            for handler in node.handlers:
                if _catches_cancellation(analysis, handler) and not _goes_on(analysis, handler):
                    caught = "except:" if handler.type is None else f"except {text_of(_caught(handler.type))}"
                    what = f"{caught} swallows the cancellation by which an execution suspends"
                    yield handler, "DUR307", f"{what}: catch Exception, or raise at its end"


def _catches_cancellation(analysis: Analysis, handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    for kind in kinds:
        called = isinstance(kind, ast.Call)
        dotted = analysis.module.resolve(kind.func if isinstance(kind, ast.Call) else kind) or ""
        if dotted in known.CANCELLATIONS or (called and dotted == "anyio.get_cancelled_exc_class"):
            return True
    return False


def _goes_on(analysis: Analysis, handler: ast.ExceptHandler) -> bool:
    return any(isinstance(one, ast.Raise) for one in analysis.module.inside(handler.body))


def _caught(node: ast.expr) -> ast.expr:
    return node.elts[0] if isinstance(node, ast.Tuple) and node.elts else node


def refused(analysis: Analysis, function: Scope) -> Iterator[Found]:
    """DUR401, DUR402: constants that the operation will refuse."""
    for operation in analysis.operations(function):
        if operation.kind is None:
            continue
        if operation.kind is Kind.CONTEXT and operation.verb in {"wait", "move_on_after", "fail_after"}:
            seconds = _seconds(analysis, operation.call.args[0]) if operation.call.args else None
            if seconds is not None and not 1 <= seconds <= _LONGEST_WAIT:
                what = f"{operation.shown}() is given {seconds:g} seconds"
                yield operation.call, "DUR401", f"{what}: it takes 1 second to 366 days"
        for keyword in operation.call.keywords:
            name = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            if keyword.arg == "name" and isinstance(name, str) and not _is_name(name):
                what = f"the name {name[:20]!a} is refused by {operation.shown}()"
                yield keyword.value, "DUR402", f"{what}: a name is 1 to 256 printable ASCII characters"


def _is_name(name: str) -> bool:
    return 1 <= len(name) <= _LONGEST_NAME and name.isascii() and name.isprintable()


def _seconds(analysis: Analysis, node: ast.expr) -> float | None:
    """A duration that is a constant: a number, or `timedelta` of numbers."""
    sign = -1 if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else 1
    value = node.operand if isinstance(node, ast.UnaryOp) else node
    if isinstance(value, ast.Constant):
        number = value.value
        return sign * number if isinstance(number, (int, float)) and not isinstance(number, bool) else None
    if not isinstance(value, ast.Call) or analysis.module.resolve(value.func) != "datetime.timedelta" or value.args:
        return None
    units = {"weeks": 604_800, "days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1, "milliseconds": 1e-3}
    total = 0.0
    for keyword in value.keywords:
        amount = _seconds(analysis, keyword.value)
        if keyword.arg not in units or amount is None:
            return None
        total += amount * units[keyword.arg]
    return sign * total

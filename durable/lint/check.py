"""Checks a file: every rule over every function, without what `# noqa` says is meant."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from . import frames
from .effects import Effects, advice
from .noqa import Exceptions
from .roles import Analysis


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that a rule has found.

    Attributes:
        line: From 1.
        column: From 1, in characters.
        code: The rule.
        message: What is wrong, and what to do, on one line.
    """

    line: int
    column: int
    code: str
    message: str


def check_source(source: str | bytes) -> list[Finding]:
    """What the rules find in a file, in the order of its lines.

    Args:
        source: Its text; or its bytes, with an encoding as Python reads it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return [_unreadable(error)]
    text = source if isinstance(source, str) else _decoded(source)
    lines = io.StringIO(text, newline="").readlines()  # as Python counts them: other than splitlines() does
    found = check_tree(tree, lines)
    exceptions = Exceptions(lines) if found else None
    return [one for one in found if exceptions is None or not exceptions.has(one.line, one.code)]


def check_tree(tree: ast.Module, lines: Sequence[str] = ()) -> list[Finding]:
    """What the rules find in a tree, whatever `# noqa` says.

    Args:
        tree: A module.
        lines: Its lines, so that columns are counted in characters.
    """
    if not _imports_ours(tree):
        return []
    analysis = Analysis(tree)
    effects = Effects(analysis)
    found: set[Finding] = set()
    for function in analysis.module.functions:
        told = list(frames.places(analysis, function))
        told += frames.lost_changes(analysis, function)
        told += frames.not_awaited(analysis, function)
        if analysis.is_durable(function):
            told += ((one.node, one.code, advice(one, analysis, function)) for one in effects.of(function))
            for check in (frames.unordered, frames.limits, frames.plain_tasks, frames.unwinding, frames.refused):
                told += check(analysis, function)
        found.update(_finding(node, code, message, lines) for node, code, message in told)
    return sorted(found)


def is_chosen(code: str, select: Sequence[str] = (), ignore: Sequence[str] = ()) -> bool:
    """Whether a rule counts: the longest beginning of its code that is named decides.

    Args:
        code: The rule's.
        select: Beginnings of the codes that count; empty for all.
        ignore: Beginnings of those that do not.
    """
    chosen = max((len(one) for one in select if code.startswith(one)), default=-1 if select else 0)
    ignored = max((len(one) for one in ignore if code.startswith(one)), default=-1)
    return chosen > ignored


def _imports_ours(tree: ast.Module) -> bool:
    """Whether a file can have durable functions at all."""
    return any("durable" in name for name in _imported(tree))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def _finding(node: ast.AST, code: str, message: str, lines: Sequence[str]) -> Finding:
    line, offset = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
    if line <= len(lines):
        offset = len(lines[line - 1].encode()[:offset].decode(errors="replace"))
    return Finding(line, offset + 1, code, message)


def _unreadable(error: Exception) -> Finding:
    if isinstance(error, SyntaxError):
        return Finding(
            max(error.lineno or 1, 1), max(error.offset or 1, 1), "DUR001", f"does not parse: {error.msg}"
        )
    if isinstance(error, (RecursionError, MemoryError)):
        return Finding(1, 1, "DUR001", "cannot be parsed: it is nested too deeply")
    return Finding(1, 1, "DUR001", f"cannot be parsed: {error}")


def _decoded(source: bytes) -> str:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    return source.decode(encoding, errors="replace")

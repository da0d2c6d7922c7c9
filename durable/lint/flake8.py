"""The rules as a plugin of flake8, which finds it when it is installed beside this package."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from .check import check_tree


class Plugin:
    """What flake8 calls for each file. `# noqa`, `select` and `ignore` are flake8's own business.

    Args:
        tree: The file, parsed.
        lines: Its lines.
    """

    name = "durable"

    def __init__(self, tree: ast.Module, lines: Sequence[str]) -> None:
        self._tree = tree
        self._lines = lines

    def run(self) -> Iterator[tuple[int, int, str, type[Plugin]]]:
        """Line, column from 0, text and type of what was found."""
        for one in check_tree(self._tree, self._lines):
            yield one.line, one.column - 1, f"{one.code} {one.message}", type(self)

"""`# noqa`, as flake8 and ruff have it: for the whole statement that it stands in."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Sequence
from typing import Final

_NOQA: Final = re.compile(r"#\s*noqa(?::\s*(?P<codes>[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*))?", re.IGNORECASE)


class Exceptions:
    """What a file says is meant.

    Args:
        lines: Its lines, with their ends.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        # The beginnings of codes, by line; empty ones stand for all.
        self._codes: dict[int, list[str]] = {}
        if not any(_NOQA.search(line) for line in lines):
            return
        first: int | None = None
        codes: list[str] = []
        ahead = iter(lines)
        try:
            for token in tokenize.generate_tokens(lambda: next(ahead, "")):
                if token.type == tokenize.COMMENT:
                    said = _NOQA.search(token.string)
                    codes += [""] if said and not said["codes"] else []
                    codes += re.split(r"[,\s]+", said["codes"].upper()) if said and said["codes"] else []
                if token.type in {tokenize.NEWLINE, tokenize.NL} and (
                    token.type == tokenize.NEWLINE or first is None
                ):
                    for line in range(first or token.start[0], token.end[0] + 1):
                        self._codes.setdefault(line, []).extend(codes)
                    first, codes = None, []
                elif first is None and token.type not in {tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT}:
                    first = token.start[0]
        except (tokenize.TokenError, SyntaxError):
            return

    def has(self, line: int, code: str) -> bool:
        """Whether what a rule has found in a line is meant."""
        return any(code.startswith(one) for one in self._codes.get(line, ()))

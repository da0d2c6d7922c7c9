"""`durable check`: what makes replays differ, found in the code without running it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .exits import CHECKED, ExitCode, explain
from .options import CommandError, DebugOption, reporting
from .texts import count_text, paragraphs, path_text, safe_text

if TYPE_CHECKING:
    from rich.text import Text

    from ..lint import Finding

HELP: Final = paragraphs("""
Find what makes a replay differ, or loses work, in durable functions: clocks, chance and I/O between operations,
operations that are not awaited or in the wrong place.

Nothing is run or imported. A line's comment # noqa: DUR101 says that it is meant.
""")

EPILOG: Final = (
    f"--json: one object a line, of type finding, with path, line, column, code and message.\n\n{explain(CHECKED)}"
)

_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})
"""Directories that have nobody's own code; those whose names begin with a dot, and virtual environments, too."""


@reporting
def check(
    *,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH",
            help="Files, and directories with all that is in them; by default the current one.",
            show_default=False,
        ),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option("--select", metavar="CODES", help="Only these rules: DUR1,DUR301.", show_default=False),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="CODES", help="All but these rules.", show_default=False),
    ] = None,
    as_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line (see below).")] = False,
    rule: Annotated[
        str | None,
        typer.Option(
            "--explain", metavar="CODE", help="Say what a rule is about, with an example.", show_default=False
        ),
    ] = None,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """Check files and directories."""
    from ..lint import is_chosen

    if rule is not None:
        return _explain(rule)
    # What cannot be read is told whatever was selected.
    selected, ignored = [*_codes(select), "DUR0"] if select else ["DUR"], _codes(ignore)
    missing = [path for path in paths or () if not path.exists()]
    if missing:
        raise CommandError(f"there is no {missing[0]}", code=ExitCode.USAGE)
    tell = _tell_json if as_lines else _tell
    checked, bad, number = 0, 0, 0
    for path in _files(paths or [Path()]):
        source, found = _check(path)
        findings = [one for one in found if is_chosen(one.code, selected, ignored)]
        if findings:
            tell(path_text(str(path)), source, findings)
        checked, bad, number = checked + 1, bad + bool(findings), number + len(findings)
    if not as_lines:
        _summarise(checked, bad, number)
    return ExitCode.FAILED if number else ExitCode.SUCCEEDED


def _codes(given: Sequence[str] | None) -> list[str]:
    """Codes, or their beginnings, as an option has them: with commas, or more than once."""
    from ..lint import RULES

    codes = [one.strip().upper() for text in given or () for one in text.split(",") if one.strip()]
    for code in codes:
        if not any(known.startswith(code) for known in RULES):
            raise CommandError(f"no rule is called {code}: they are {', '.join(RULES)}", code=ExitCode.USAGE)
    return codes


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files themselves, and all Python in the directories; each once, in order."""
    seen: set[Path] = set()
    for path in paths:
        for one in _python_in(path) if path.is_dir() else [path]:
            if (found := one.resolve()) not in seen:
                seen.add(found)
                yield one


def _python_in(directory: Path) -> Iterator[Path]:
    for place, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if not _is_skipped(Path(place, name)))
        yield from (Path(place, name) for name in sorted(names) if name.endswith(".py"))


def _is_skipped(directory: Path) -> bool:
    name = directory.name
    return name.startswith(".") or name in _SKIPPED or (directory / "pyvenv.cfg").exists()


def _check(path: Path) -> tuple[bytes, list[Finding]]:
    from ..lint import Finding, check_source

    try:
        source = path.read_bytes()
    except OSError as error:
        return b"", [Finding(1, 1, "DUR001", f"cannot be read: {error.strerror or error}")]
    return source, check_source(source)


def _tell(path: str, source: bytes, findings: Sequence[Finding]) -> None:
    """A line for each; on a terminal broken between words, and with the code that it is about."""
    from rich.text import Text

    from .terminal import console_for, is_terminal, put

    console, is_for_people = console_for(sys.stdout), is_terminal(sys.stdout)
    code = source.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for one in findings:
        where = f":{one.line}:{one.column}: "
        line = Text.assemble((safe_text(path), "bold"), (where, "dim"), (one.code, "bold red"), f" {one.message}")
        if not is_for_people:
            console.print(line, soft_wrap=True)
            continue
        console.print(line)
        if one.line <= len(code):
            for shown in _excerpt(code[one.line - 1], one):
                put(console, shown)
        put(console, "")


def _excerpt(line: str, finding: Finding) -> Iterator[Text]:
    """A line of code, and below it where in it something was found."""
    from rich.cells import cell_len
    from rich.text import Text

    before = line[: finding.column - 1].expandtabs(4)
    shown = line.expandtabs(4)
    indent = len(shown) - len(shown.lstrip())
    number = f"{finding.line:>6} | "
    yield Text.assemble((number, "dim"), safe_text(shown[indent:]))
    yield Text.assemble((" " * (len(number) - 2) + "| ", "dim"), (" " * (cell_len(before) - indent) + "^", "red"))


def _tell_json(path: str, _: bytes, findings: Sequence[Finding]) -> None:
    from .machine import encode

    for one in findings:
        shape = {
            "type": "finding",
            "path": path,
            "line": one.line,
            "column": one.column,
            "code": one.code,
            "message": one.message,
        }
        sys.stdout.write(f"{encode(shape)}\n")


def _summarise(checked: int, bad: int, number: int) -> None:
    """What it all came to, on standard error."""
    from rich.text import Text

    from .terminal import console_for, signs_of

    sys.stdout.flush()
    console = console_for(sys.stderr)
    signs = signs_of(console)
    files = count_text(checked, "file")
    if not number:
        console.print(Text.assemble((signs.succeeded, "green"), f" nothing found in {files}"))
        return
    told = f"{count_text(number, 'problem')} in {bad:,} of {files}"
    console.print(Text.assemble((signs.failed, "red"), f" {told}"))
    if console.is_terminal:
        console.print(Text("durable check --explain CODE tells more of a rule, with an example", "dim"))


def _explain(code: str) -> ExitCode:
    from rich.text import Text

    from ..lint import RULES
    from .terminal import console_for

    found = RULES.get(code.strip().upper())
    if found is None:
        raise CommandError(f"no rule is called {code}: they are {', '.join(RULES)}", code=ExitCode.USAGE)
    console = console_for(sys.stdout)
    told = [
        Text.assemble((found.code, "bold"), f"  {_plain(found.finds)}"),
        Text(f"Instead: {_plain(found.instead)}"),
    ]
    for title, style, example in (("Bad", "red", found.bad), ("Good", "green", found.good)):
        told += [
            Text(),
            Text(title, style),
            Text("\n".join(f"    {line}".rstrip() for line in example.splitlines())),
        ]
    for one in told:
        console.print(one, soft_wrap=True)
    return ExitCode.SUCCEEDED


def _plain(markdown: str) -> str:
    return markdown.replace("`", "")

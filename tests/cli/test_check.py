"""`durable check`: which files, which rules, how it is told, how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from durable.cli.exits import CHECKED, ExitCode
from durable.lint import EXAMPLES_BEGIN, RULES
from tests.cli.helpers import ROOT, Call
from tests.cli.test_terminal import ended, on_terminal, visible

CLOCK = EXAMPLES_BEGIN + RULES["DUR101"].bad
UNAWAITED = EXAMPLES_BEGIN + RULES["DUR301"].bad
CLOCK_SAID = "6:12: DUR101 datetime.now() is another time on every replay: use ctx.now(), or a step"
UNAWAITED_SAID = "4:5: DUR301 ctx.wait() is not awaited, and does not happen: await it"


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_what_is_found_is_told_in_lines(durable: Call):
    """File, line, column, rule, what to do; in the order of the names. How much it is goes to standard error."""
    write("b.py", CLOCK)
    write("a.py", UNAWAITED)
    write("good.py", EXAMPLES_BEGIN + RULES["DUR101"].good)
    run = durable("check")
    assert run.code == 1
    assert run.out == f"a.py:{UNAWAITED_SAID}\nb.py:{CLOCK_SAID}\n"
    assert run.err == "✗ 2 problems in 2 of 3 files\n"


def test_nothing_found(durable: Call):
    """Exit code 0, and nothing on standard output."""
    write("good.py", EXAMPLES_BEGIN + RULES["DUR101"].good)
    run = durable("check", "good.py")
    assert (run.code, run.out, run.err) == (0, "", "✓ nothing found in 1 file\n")


def test_directories_are_walked_without_what_is_nobodys_own_code(durable: Call):
    """Hidden ones, caches, virtual environments and dependencies; what is named itself is checked all the same."""
    for directory in ("src/shop", ".venv/lib", "__pycache__", "node_modules/a", "lib/site-packages", "env"):
        write(f"{directory}/shop.py", CLOCK)
    write("env/pyvenv.cfg", "")
    write("src/notes.txt", CLOCK)
    assert durable("check").out == f"src/shop/shop.py:{CLOCK_SAID}\n"
    assert durable("check", ".venv").out == f".venv/lib/shop.py:{CLOCK_SAID}\n"
    assert durable("check", "src/notes.txt").out == f"src/notes.txt:{CLOCK_SAID}\n"


def test_a_file_is_checked_once(durable: Call):
    """Also if several paths lead to it."""
    write("src/shop.py", CLOCK)
    Path("link.py").symlink_to("src/shop.py")
    assert durable("check", "src", "src/shop.py", ".").out == f"src/shop.py:{CLOCK_SAID}\n"


def test_rules_are_chosen(durable: Call):
    """By their codes or the beginnings of those; the longer one of two that fit counts."""
    write("shop.py", CLOCK + RULES["DUR102"].bad + RULES["DUR301"].bad)

    def found(*options: str) -> list[str]:
        return [line.split()[1] for line in durable("check", *options).out.splitlines()]

    assert found() == ["DUR101", "DUR102", "DUR301"]
    assert found("--select", "DUR101,dur3") == ["DUR101", "DUR301"]
    assert found("--select", "DUR1", "--select", "DUR301") == ["DUR101", "DUR102", "DUR301"]
    assert found("--ignore", "DUR1") == ["DUR301"]
    assert found("--select", "DUR1", "--ignore", "DUR102") == ["DUR101"]
    assert found("--select", "DUR102", "--ignore", "DUR1") == ["DUR102"]
    assert durable("check", "--ignore", "DUR").code == 0


def test_a_file_that_does_not_parse_is_told_and_the_others_are_checked(durable: Call):
    """With its place; whatever rules were chosen, as nothing is known of it."""
    write("a.py", "def f(:\n")
    write("b.py", CLOCK)
    Path("c.py").symlink_to("nowhere.py")
    run = durable("check", "--select", "DUR1")
    first, second, third = run.out.splitlines()
    assert first.startswith("a.py:1:7: DUR001 does not parse: ")
    assert second == f"b.py:{CLOCK_SAID}"
    assert third == "c.py:1:1: DUR001 cannot be read: No such file or directory"
    assert run.code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nope.py",), "there is no nope.py"),
        (("--select", "DUR999"), "no rule is called DUR999: they are DUR001, DUR101"),
        (("--ignore", "E501"), "no rule is called E501"),
        (("--explain", "W1"), "no rule is called W1"),
    ],
)
def test_a_command_line_that_is_wrong(durable: Call, arguments: tuple[str, ...], said: str):
    """Exit code 2, before anything is checked."""
    write("shop.py", CLOCK)
    run = durable("check", *arguments)
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith(f"error: {said}")


def test_for_machines(durable: Call):
    """An object a line, nothing else anywhere."""
    write("shop.py", CLOCK)
    run = durable("check", "--json")
    (found,) = run.lines
    assert found == {
        "type": "finding",
        "path": "shop.py",
        "line": 6,
        "column": 12,
        "code": "DUR101",
        "message": CLOCK_SAID.partition("DUR101 ")[2],
    }
    assert (run.code, run.err) == (1, "")


def test_a_rule_is_explained(durable: Call):
    """With both examples, as code that can be copied."""
    run = durable("check", "--explain", "dur306")
    assert run.code == 0
    assert run.out.startswith("DUR306  a durable operation in a finally, ")
    for example in (RULES["DUR306"].bad, RULES["DUR306"].good):
        lines = [f"    {line}".rstrip() for line in example.splitlines()]
        assert "\n".join(lines) in run.out


def test_it_explains_itself(durable: Call):
    """What it is for, its options, how it ends."""
    run = durable("check", "--help")
    assert "Usage: durable check " in run.out
    assert [code for code in CHECKED if f"{code.value}  {CHECKED[code]}" not in run.out] == []
    assert ExitCode.NOT_DONE not in CHECKED
    assert "--json" in run.out


@pytest.mark.process
def test_it_loads_no_engine(tmp_path: Path):
    """Only what reads code, and what writes lines."""
    write(str(tmp_path / "shop.py"), CLOCK)
    code = (
        f"import sys\nsys.argv = ['durable', 'check', {str(tmp_path)!r}]\nfrom durable.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert "DUR101" in run.stdout
    assert "durable.lint.rules" in run.stderr.split()
    assert {"durable.local", "sqlite3", "trio", "asyncio", "shop"}.isdisjoint(run.stderr.split())


@pytest.mark.process
def test_on_a_terminal_the_code_is_shown():
    """Below each line, with a sign at the place, however wide the letters before it are; broken between words."""
    wide = f'"世界", {CLOCK.splitlines()[-1].strip().removeprefix("return ")}'
    write("shop.py", EXAMPLES_BEGIN + RULES["DUR101"].bad.replace("datetime.now(UTC).isoformat()", wide))
    text, code = ended(on_terminal("check", "shop.py", width=70))
    assert code == 1
    assert "\x1b[1;31mDUR101" in text
    assert visible(text) == [
        "shop.py:6:18: DUR101 datetime.now() is another time on every replay:",
        "use ctx.now(), or a step",
        f"     6 | return {wide}",
        "       |" + " " * (1 + len("return ") + len('"世界", ') + 2) + "^",
        "✗ 1 problem in 1 of 1 file",
        "durable check --explain CODE tells more of a rule, with an example",
    ]
    text, _ = ended(on_terminal("check", "shop.py", width=70, env={"NO_COLOR": "1"}))
    assert "\x1b[1;31m" not in text
    text, _ = ended(on_terminal("check", "shop.py", width=70, env={"TERM": "dumb"}))
    assert "return" not in text

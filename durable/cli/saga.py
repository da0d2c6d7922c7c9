"""`durable saga retry`, `skip`, `abandon`: decide what becomes of a compensation that failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .exits import ExitCode
from .options import (
    RECORDED_OR_FOLLOWED,
    WHO_GOES_ON,
    Backend,
    BackendOption,
    CommandError,
    DebugOption,
    FunctionOption,
    LinesOption,
    NameArgument,
    NoWaitOption,
    VerboseOption,
    anywhere,
    complete_step,
    reporting,
)
from .place import Place
from .texts import error_text, paragraphs

if TYPE_CHECKING:
    from .acting import Manner
    from .awaited import Awaited

HELP: Final = "Decide what becomes of a step that could not be undone: retry, skip, abandon."

_WHERE: Final = """
A saga with on_error="park" waits for this when a compensation has failed. durable show NAME shows what is waited
for.
"""

# The command, what it does, and what is then so.
_DECISIONS: Final = (
    ("retry", "Have the undoing of a step tried again.", "is to be undone again"),
    ("skip", "Go on with a rollback as if a step had been undone.", "is skipped, and stays as it is"),
    ("abandon", "Give a rollback up: nothing more of the saga is undone.", "stays as it is, and so does the rest"),
)

app = typer.Typer(no_args_is_help=True)


def _deciding(decision: str, became: str) -> Callable[..., ExitCode]:
    def decide(
        *,
        name: NameArgument,
        step: Annotated[
            str,
            typer.Argument(
                metavar="STEP",
                help="The step that could not be undone.",
                autocompletion=complete_step,
                show_default=False,
            ),
        ],
        function: FunctionOption = None,
        callback_id: Annotated[
            str | None,
            typer.Option(
                "--id",
                metavar="ID",
                help="Of several of that name the one that waits for the callback of this id.",
                show_default=False,
            ),
        ] = None,
        no_wait: NoWaitOption = False,
        backend: BackendOption = Backend.ASYNCIO,
        as_lines: LinesOption = False,
        place: Place,
        verbosity: VerboseOption = 0,
        debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
    ) -> ExitCode:
        from ..local.inbox import SucceedCallback
        from .acting import Act, Manner, act_on

        manner = Manner(
            place=place.of(function), goes_on=not no_wait, backend=backend, as_lines=as_lines, verbosity=verbosity
        )
        awaited = _find(name, step, callback_id, manner)
        act = Act(
            what=f"saga {decision}",
            execution=name,
            request=SucceedCallback(awaited.callback_id, f'{{"decision": "{decision}"}}'),
            words=f"{step!r} {became}",
            name=step,
            callback_id=awaited.callback_id,
        )
        return act_on(act, manner)

    return decide


for _decision, _does, _became in _DECISIONS:
    _help = f"{_does}\n\n{paragraphs(_WHERE)}\n\n{WHO_GOES_ON}"
    app.command(_decision, help=_help, epilog=RECORDED_OR_FOLLOWED)(
        reporting(anywhere(_deciding(_decision, _became)))
    )


def _find(name: str, step: str, callback_id: str | None, manner: Manner) -> Awaited:
    """What waits for the decision.

    Raises:
        CommandError: Nothing does, or several do.
    """
    from .reading import awaited

    record, lookout = awaited(manner.place, name)
    waiting = [one for one in lookout.all() if one.kind == "decision"]
    if not waiting:
        over = f": it is {record.status}" if lookout.is_over else ""
        raise CommandError(f"nothing in execution {name!r} waits for an operator's decision{over}")
    found = [one for one in waiting if one.name == step and callback_id in {None, one.callback_id}]
    if not found:
        which = f"no {step!r} in execution {name!r} waits for a decision"
        if callback_id is not None:
            which += " by the callback of that id"
        raise CommandError(f"{which}. These do:\n{_listed(waiting)}")
    if len(found) > 1:
        raise CommandError(
            f"{len(found)} of {step!r} in execution {name!r} wait for a decision. Say which with --id:\n"
            f"{_listed(found)}"
        )
    return found[0]


def _listed(waiting: Sequence[Awaited]) -> str:
    return "\n".join(
        f"  {one.name!r} of saga {one.saga!r}: {error_text(one.error)}\n    --id {one.callback_id}"
        for one in waiting
    )

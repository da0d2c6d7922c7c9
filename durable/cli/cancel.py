"""`durable cancel`: have a saga rolled back."""

from __future__ import annotations

from collections.abc import Sequence
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
    reporting,
)
from .place import Place
from .texts import paragraphs

if TYPE_CHECKING:
    from .acting import Manner
    from .awaited import Awaited

HELP: Final = paragraphs(f"""
Cancel an execution: the outermost of its sagas that can be cancelled is rolled back.

Those are the sagas made by saga(ctx, cancellable=True). What was done in the block is undone, and the block raises
SagaCancelledError.

{WHO_GOES_ON}
""")

EPILOG: Final = RECORDED_OR_FOLLOWED


@reporting
@anywhere
def cancel(
    *,
    name: NameArgument,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why; goes into the error.", show_default=False)
    ] = None,
    saga: Annotated[
        str | None, typer.Option("--saga", metavar="SAGA", help="The saga to cancel.", show_default=False)
    ] = None,
    function: FunctionOption = None,
    callback_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="Of several sagas of that name the one that is cancelled by the callback of this id.",
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
    """Have a saga rolled back."""
    import msgspec

    from ..local.inbox import SucceedCallback
    from .acting import Act, Manner, act_on

    manner = Manner(
        place=place.of(function), goes_on=not no_wait, backend=backend, as_lines=as_lines, verbosity=verbosity
    )
    found = _find(name, saga, callback_id, manner)
    act = Act(
        what="cancel",
        execution=name,
        request=SucceedCallback(found.callback_id, msgspec.json.encode(reason).decode()),
        words=f"{shown_saga(found)} is to be rolled back",
        name=found.name,
        callback_id=found.callback_id,
    )
    return act_on(act, manner)


def shown_saga(one: Awaited) -> str:
    """A saga for people."""
    return "the saga without a name" if one.name is None else f"saga {one.name!r}"


def _find(name: str, saga: str | None, callback_id: str | None, manner: Manner) -> Awaited:
    """The saga to cancel.

    Raises:
        CommandError: None can be, or it must be said which.
    """
    from .reading import awaited

    record, lookout = awaited(manner.place, name)
    possible = [one for one in lookout.all() if one.kind == "cancellation"]
    if lookout.is_over:
        raise CommandError(f"execution {name!r} is over, it is {record.status}: there is nothing to cancel")
    if not possible:
        raise CommandError(
            f"no saga is under way in execution {name!r} that can be cancelled: those made by "
            "saga(ctx, cancellable=True) can. durable stop ends the execution, and undoes nothing."
        )
    if saga is None and callback_id is None:
        found = lookout.outermost(possible)
    else:
        found = [one for one in possible if saga in {None, one.name} and callback_id in {None, one.callback_id}]
    if not found:
        raise CommandError(
            f"that saga of execution {name!r} cannot be cancelled. These can be:\n{_listed(possible)}"
        )
    if len(found) > 1:
        raise CommandError(
            f"several sagas of execution {name!r} can be cancelled. Say which with --saga or --id:\n"
            f"{_listed(found)}"
        )
    if found[0].is_done:
        raise CommandError(
            f"that {shown_saga(found[0])} of execution {name!r} is cancelled has been asked for already"
        )
    return found[0]


def _listed(possible: Sequence[Awaited]) -> str:
    return "\n".join(f"  {shown_saga(one)}\n    --id {one.callback_id}" for one in possible)

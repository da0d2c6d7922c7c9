"""`durable callback succeed`, `fail`, `heartbeat`: answer what an execution asks of the outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from .exits import ExitCode
from .options import (
    RECORDED,
    RECORDED_OR_FOLLOWED,
    WHO_GOES_ON,
    Backend,
    BackendOption,
    CommandError,
    DebugOption,
    LinesOption,
    NoWaitOption,
    VerboseOption,
    anywhere,
    complete_callback,
    reporting,
)
from .place import Place, Store
from .texts import paragraphs

if TYPE_CHECKING:
    from ..abc import ExecutionRecord
    from ..local import Reader
    from ..local.inbox import Request
    from .acting import Manner
    from .awaited import Awaited

HELP: Final = "Answer a callback that an execution waits for: succeed, fail, heartbeat."

SUCCEED: Final = paragraphs(f"""
Complete a callback: whoever waits for it gets the result.

durable show and durable run show the ids of the callbacks that are waited for.

{WHO_GOES_ON}
""")

FAIL: Final = paragraphs(f"""
Fail a callback: whoever waits for it gets the error.

{WHO_GOES_ON}
""")

HEARTBEAT: Final = paragraphs("""
Tell that whoever is to complete a callback is alive: its heartbeat timeout begins anew.

If an engine has the store it is asked, and so are a server (--endpoint) and AWS (--aws). Otherwise it is
recorded, and nothing runs.
""")

IdArgument = Annotated[
    str,
    typer.Argument(metavar="ID", help="The callback's id.", autocompletion=complete_callback, show_default=False),
]

app = typer.Typer(no_args_is_help=True)


@app.command("succeed", help=SUCCEED, epilog=RECORDED_OR_FOLLOWED)
@reporting
@anywhere
def succeed(
    *,
    callback_id: IdArgument,
    result: Annotated[
        str, typer.Option("--result", "-r", metavar="JSON|@FILE|-", help="The result; - is standard input.")
    ] = "null",
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="TEXT",
            help="The result of a callback that has no type: text, passed on as it is.",
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
    """Complete a callback with a result."""
    from ..local.inbox import SucceedCallback
    from .acting import Manner
    from .inputs import read_input

    if text is not None and result != "null":
        raise CommandError("a callback gets a --result or a --text, not both", code=ExitCode.USAGE)
    payload = read_input(result, "--result") if text is None else text
    manner = Manner(place=place, goes_on=not no_wait, backend=backend, as_lines=as_lines, verbosity=verbosity)
    return _answer("succeed", callback_id, SucceedCallback(callback_id, payload), "is completed", manner)


@app.command("fail", help=FAIL, epilog=RECORDED_OR_FOLLOWED)
@reporting
@anywhere
def fail(
    *,
    callback_id: IdArgument,
    message: Annotated[
        str | None, typer.Option("--message", "-m", metavar="TEXT", help="What happened.", show_default=False)
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="CLASS",
            help="The error's class: ValueError, or package.module.ShopClosedError.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="TEXT", help="What else there is to say.", show_default=False)
    ] = None,
    no_wait: NoWaitOption = False,
    backend: BackendOption = Backend.ASYNCIO,
    as_lines: LinesOption = False,
    place: Place,
    verbosity: VerboseOption = 0,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """Complete a callback with an error."""
    from .._wire import ErrorObject
    from ..local.inbox import FailCallback
    from .acting import Manner

    error = ErrorObject(error_message=message, error_type=kind, error_data=data)
    manner = Manner(place=place, goes_on=not no_wait, backend=backend, as_lines=as_lines, verbosity=verbosity)
    return _answer("fail", callback_id, FailCallback(callback_id, error), "has failed", manner)


@app.command("heartbeat", help=HEARTBEAT, epilog=RECORDED)
@reporting
@anywhere
def heartbeat(
    *,
    callback_id: IdArgument,
    as_lines: LinesOption = False,
    place: Place,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """Give a sign of life."""
    from ..local.inbox import HeartbeatCallback
    from .acting import Manner

    manner = Manner(place=place, as_lines=as_lines)
    return _answer("heartbeat", callback_id, HeartbeatCallback(callback_id), "has a sign of life", manner)


def _answer(what: str, callback_id: str, request: Request, became: str, manner: Manner) -> ExitCode:
    from .acting import Act, act_on

    # By the API a callback is known by its id alone.
    place = manner.place
    execution, name = _find(place.path, callback_id) if isinstance(place, Store) else (None, None)
    act = Act(
        what=f"callback {what}",
        execution=execution,
        request=request,
        words=f"{'the callback' if name is None else f'callback {name!r}'} {became}",
        name=name,
        callback_id=callback_id,
    )
    return act_on(act, manner)


def _find(store: str, callback_id: str) -> tuple[str, str | None]:
    """The execution that a callback belongs to, and what the callback is called."""
    from .awaited import Lookout
    from .reading import read_store

    async def read(reader: Reader) -> tuple[ExecutionRecord, list[Awaited]]:
        record = await reader.execution_of(callback_id)
        return record, Lookout(await reader.operations(record.name)).all()

    record, awaited = read_store(store, read)
    return record.name, next((one.name for one in awaited if one.callback_id == callback_id), None)

"""`durable show`: one execution, its operations as a tree."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from .exits import ExitCode
from .options import DebugOption, FunctionOption, NameArgument, anywhere, reporting
from .place import Place, Store
from .texts import paragraphs

if TYPE_CHECKING:
    from .._wire import Operation
    from .._wire.events import Event
    from ..abc import ExecutionRecord
    from .reading import Source

HELP: Final = paragraphs("""
Show an execution and the tree of its operations.

Each with status, attempts, duration, result or error. What a rollback has undone hangs below the step it undoes,
numbered in the order of undoing. What it waits for that somebody has to do is listed with the commands for it.
Works while an engine is at work on the store, and on a server (--endpoint) or AWS (--aws).
""")

EPILOG: Final = (
    "--json: one object with what durable ls --json has; the input; its pause, or null, with requested, since, "
    "reason and holds_timeout; the engine that has the store, or null, or the URL that was asked; what it awaits, "
    "each with kind (answer, decision, cancellation), name, callback_id, saga, error and is_done; rollbacks; and "
    "operations, each with id, parent_id, type, sub_type, name, status, started, ended, seconds, attempts, until, "
    "callback_id, result, error, and undoes and undone_by, which pair "
    "compensations with what they undo by id."
)


class Found(msgspec.Struct, frozen=True):
    """One execution, whole."""

    record: ExecutionRecord
    operations: list[Operation]
    events: list[Event]


@reporting
@anywhere
def show(
    *,
    name: NameArgument,
    function: FunctionOption = None,
    as_document: Annotated[bool, typer.Option("--json", help="One JSON object (see below).")] = False,
    place: Place,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """Show an execution and its operations."""
    from .reading import find, look

    async def read(reader: Source) -> Found:
        record = await find(reader, name)
        # Events last: whatever an operation has come to, they tell it as well.
        operations = await reader.operations(name)
        return Found(record, list(operations), list(await reader.history(name)))

    place = place.of(function)
    found = look(place, read)
    if isinstance(place, Store):
        from ..local.stores.file import engine_of

        engine, service = engine_of(place.path), None
    else:
        from .remote import with_history

        found = msgspec.structs.replace(found, record=with_history(found.record, found.events))
        engine = service = str(place)
    if as_document:
        from .machine import encode

        document = msgspec.json.format(encode(_document(found, engine)), indent=2)
        sys.stdout.write(f"{document}\n")
    else:
        from .terminal import console_for
        from .tree_view import print_execution

        print_execution(
            console_for(sys.stdout),
            found.record,
            found.operations,
            found.events,
            engine=engine,
            command=place.command,
            service=service,
        )
    return ExitCode.SUCCEEDED


def _document(found: Found, engine: str | None) -> dict[str, Any]:
    from .awaited import Lookout
    from .machine import awaited_shape, execution_shape, operation_shape, pause_shape, rollback_shape, value_shape
    from .story import Story
    from .tree import Tree

    story = Story()
    story.recall(found.events)
    undoes = Tree(found.operations).pairs()
    undone_by = {forward: compensation for compensation, forward in undoes.items()}
    return {
        **execution_shape(found.record),
        "input": value_shape(found.record.input),
        "pause": pause_shape(found.record.pause),
        "engine": engine,
        "awaits": [
            awaited_shape(one) for one in Lookout(found.operations, is_over=found.record.status.is_over).all()
        ],
        "rollbacks": [rollback_shape(rollback) for rollback in story.rollbacks.values()],
        "operations": [
            operation_shape(operation, undoes=undoes.get(operation.id), undone_by=undone_by.get(operation.id))
            for operation in found.operations
        ],
    }

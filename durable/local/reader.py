"""Looking at executions: the same for an engine at work and for a file that nobody has open."""

from __future__ import annotations

from collections.abc import Sequence

from .._wire import ExecutionStatus, Operation
from .._wire.events import Event
from ..abc import ExecutionRecord, Listing, Page, Store
from ..exceptions import CallbackNotFoundError, ExecutionNotFoundError
from .machine.callback import named_by
from .machine.execution import name_of
from .machine.history import event_of


class Reader:
    """Reads a store. What it tells has been committed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def executions(self, status: ExecutionStatus | None = None) -> Sequence[ExecutionRecord]:
        """All executions, or those of one status; oldest first."""
        return await self._store.executions(status)

    async def execution(self, name: str) -> ExecutionRecord:
        """One execution.

        Raises:
            ExecutionNotFoundError: There is none of this name.
        """
        record = await self._store.find(name)
        if record is None:
            raise ExecutionNotFoundError(name)
        return record

    async def execution_by_arn(self, arn: str) -> ExecutionRecord:
        """One execution, by what its function knows it by.

        Raises:
            ExecutionNotFoundError: There is none of this ARN.
        """
        name = name_of(arn)
        record = await self._store.find(name)
        if record is None or record.arn != arn:
            raise ExecutionNotFoundError(arn)
        return record

    async def listing(self, wanted: Listing) -> Page:
        """A page of the executions of one function, in the order in which they were started."""
        return await self._store.listing(wanted)

    async def execution_of(self, callback_id: str) -> ExecutionRecord:
        """The execution that a callback belongs to, whether or not it is still waited for.

        Raises:
            CallbackNotFoundError: There is no such callback.
        """
        named = named_by(callback_id)
        loaded = None if named is None else await self._store.load(named[0])
        if loaded is None or not any(
            operation.callback_details is not None and operation.callback_details.callback_id == callback_id
            for operation in loaded.operations
        ):
            raise CallbackNotFoundError(callback_id)
        return loaded.execution

    async def operations(self, name: str) -> Sequence[Operation]:
        """An execution's operations, in the order of their first record; without the EXECUTION itself.

        Raises:
            ExecutionNotFoundError: There is none of this name.
        """
        loaded = await self._store.load((await self.execution(name)).id)
        return () if loaded is None else loaded.operations

    async def history(self, name: str, after: int = 0) -> Sequence[Event]:
        """An execution's history events, from the one after number `after`.

        Raises:
            ExecutionNotFoundError: There is none of this name.
        """
        record = await self.execution(name)
        # Events first: an operation that one of them is about is then surely there.
        kept = await self._store.events(record.id, after)
        loaded = await self._store.load(record.id)
        if loaded is None:
            raise ExecutionNotFoundError(name)
        operations = {operation.id: operation for operation in loaded.operations}
        return [event_of(number, event, loaded.execution, operations, loaded.extras) for number, event in kept]

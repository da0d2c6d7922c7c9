"""An execution as a test sees it: how it ended, what it recorded, and whether that is what it should be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Generic, TypeVar

from .._kernel.batch import check_payload
from .._kernel.errors import as_error_object
from .._kernel.values import PLAIN
from .._wire import ErrorObject, ExecutionStatus, Operation, OperationStatus, OperationType, SubType
from .._wire.events import Event
from ..abc import ExecutionRecord
from ..exceptions import ExecutionFailedError
from .target import Started, Target

ResultT = TypeVar("ResultT")

KINDS: Final = {
    SubType.STEP: "step",
    SubType.WAIT_FOR_CONDITION: "condition",
    SubType.WAIT: "wait",
    SubType.CALLBACK: "callback",
    SubType.CHAINED_INVOKE: "invoke",
    SubType.RUN_IN_CHILD_CONTEXT: "child",
    SubType.MAP: "map",
    SubType.MAP_ITERATION: "item",
    SubType.PARALLEL: "parallel",
    SubType.PARALLEL_BRANCH: "branch",
    SubType.WAIT_FOR_CALLBACK: "wait_for_callback",
    SubType.SAGA: "saga",
    SubType.COMPENSATION: "compensation",
    SubType.CLEANUP: "cleanup",
    SubType.CANCELLATION: "cancellation",
}
"""What an operation of a subtype is called in assertions; others by their type, in lower case."""


class TestCallback:
    """A callback that somebody waits for. Made by `TestRun.callback`.

    Attributes:
        id: What the outside world knows it by.
        name: What it is called.
    """

    __test__ = False

    def __init__(self, target: Target, callback_id: str, name: str) -> None:
        self._target = target
        self.id = callback_id
        self.name = name

    async def succeed(self, value: Any = None, *, text: str | None = None) -> None:
        """Complete it.

        Args:
            value: The result; encoded as JSON.
            text: The result as text, instead of a value: it is passed on as it is.

        Raises:
            CallbackCompletedError: It has ended, or nobody waits for it any more.
            SerializationError: The value cannot be encoded.
            PayloadTooLargeError: It is over 1 MB encoded.
            ValueError: Both `value` and `text` are given.
        """
        if text is not None and value is not None:
            raise ValueError("a callback is completed with a value or with text, not both")
        what = f"the result of callback {self.name!r}"
        result = PLAIN.encode(value, what) if text is None else text
        check_payload(result, what)
        await self._target.succeed_callback(self.id, result)

    async def fail(self, error: Exception | str | ErrorObject) -> None:
        """Fail it: an exception, what happened, or an error object.

        Raises:
            CallbackCompletedError: It has ended, or nobody waits for it any more.
        """
        await self._target.fail_callback(self.id, as_error_object(error))

    async def heartbeat(self) -> None:
        """Tell that whoever is to complete it is alive.

        Raises:
            CallbackCompletedError: It has ended, or nobody waits for it any more.
        """
        await self._target.heartbeat_callback(self.id)

    def __repr__(self) -> str:
        return f"<TestCallback {self.name!r} id={self.id!r}>"


class TestRun(Generic[ResultT]):
    """One execution. Made by `DurableTest.start`."""

    __test__ = False

    def __init__(self, target: Target, started: Started) -> None:
        self._target = target
        self._started = started

    @property
    def name(self) -> str:
        """The execution's name."""
        return self._started.name

    @property
    def arn(self) -> str:
        """What its function knows it by."""
        return self._started.arn

    # --- How it ends -----------------------------------------------------------------------------------------

    async def wait(self) -> ExecutionRecord:
        """Wait until the execution is over, however it ends.

        Raises:
            StuckError: It waits for what the test does not do.
            NonDeterminismError: Its function does not follow its history.
        """
        return await self._started.wait()

    async def result(self) -> ResultT:
        """Wait until the execution is over, and return what its function returned.

        Raises:
            ExecutionFailedError: It ended without a result; the error it ended with is the cause.
            SerializationError: The result does not fit the function's annotation.
            DurableError: See `wait`.
        """
        record = await self.wait()
        if record.status is ExecutionStatus.SUCCEEDED:
            result: ResultT = await self._started.function.load_result(record.result)
            return result
        error = record.error
        kind, message = (None, None) if error is None else (error.error_type, error.error_message)
        failed = ExecutionFailedError(self.name, record.status, kind, message)
        raise failed from (None if error is None else self._started.function.decode_error(error))

    async def error(self) -> Exception:
        """Wait until the execution is over, and return what it failed with, as its own type where that is possible.

        Raises:
            AssertionError: It succeeded, or was ended without an error.
            DurableError: See `wait`.
        """
        record = await self.wait()
        if record.error is None:
            how = f"succeeded with {record.result}" if record.status is ExecutionStatus.SUCCEEDED else record.status
            raise AssertionError(f"execution {self.name!r} was to fail: it {how}")
        return self._started.function.decode_error(record.error)

    async def status(self) -> ExecutionStatus:
        """Where the execution stands now."""
        return (await self._started.record()).status

    # --- What there is ---------------------------------------------------------------------------------------

    async def operations(self) -> Sequence[Operation]:
        """What is recorded now, in the order of the first record; without the EXECUTION itself."""
        return await self._started.operations()

    async def operation(self, name: str) -> Operation:
        """The first operation of that name.

        Raises:
            AssertionError: There is none; the error says which there are.
        """
        operations = await self.operations()
        for operation in operations:
            if operation.name == name:
                return operation
        names = ", ".join(repr(operation.name) for operation in operations) or "none"
        raise AssertionError(f"execution {self.name!r} has recorded no operation {name!r}; there are: {names}")

    async def history(self) -> Sequence[Event]:
        """What has happened, in order."""
        return await self._started.history()

    async def callback(self, name: str) -> TestCallback:
        """Wait until the function waits for a callback, and return it.

        Args:
            name: What `create_callback` or `wait_for_callback` calls it; of several that are open, the oldest.

        Raises:
            AssertionError: The execution was over before.
            StuckError: The execution waits for something else.
        """
        changes = self._started.changes()
        try:
            async for _ in changes:
                for found in open_callbacks(await self.operations(), name):
                    return TestCallback(self._target, found, name)
        finally:
            await changes.aclose()
        record = await self._started.record()
        raise AssertionError(
            f"execution {self.name!r} ended, {record.status}, without waiting for a callback {name!r}"
        )

    # --- What has been recorded ------------------------------------------------------------------------------

    @property
    def recorded(self) -> list[str]:
        """The operations that this run has recorded, as `"step:reserve_hotel"`, in the order of the first record.

        What was recorded before it (`DurableTest.start(..., history=...)`) is not among them.
        """
        return [f"{kind}:{name}" for kind, name in self._recorded()]

    @property
    def call_count(self) -> int:
        """How many calls to the service have recorded something."""
        return len(self._started.calls)

    def assert_no_records(self) -> None:
        """Assert that nothing was recorded: all that the function did was replayed."""
        self.assert_operations([])

    def assert_operations(self, expected: Iterable[str]) -> None:
        """Assert what was recorded, in order: `["step:validate", "wait:cooldown"]` (see `recorded`)."""
        _assert_same(self.name, self.recorded, list(expected))

    def assert_operation_names(self, expected: Iterable[str]) -> None:
        """Assert the names of what was recorded, in order."""
        _assert_same(self.name, [name for _, name in self._recorded()], list(expected))

    def assert_operation_count(self, expected: int) -> None:
        """Assert how many operations were recorded."""
        found = self.recorded
        if len(found) != expected:
            raise AssertionError(
                f"execution {self.name!r} was to record {expected} operations, and has recorded {len(found)}: "
                f"{found}"
            )

    def assert_call_count(self, expected: int) -> None:
        """Assert how many calls to the service have recorded something."""
        if self.call_count != expected:
            shown = [[f"{update.action} {update.name}" for update in call] for call in self._started.calls]
            raise AssertionError(
                f"execution {self.name!r} was to make {expected} calls, and has made {self.call_count}: {shown}"
            )

    def _recorded(self) -> list[tuple[str, str]]:
        found: dict[str, tuple[str, str]] = {}
        for call in self._started.calls:
            for update in call:
                if update.type is not OperationType.EXECUTION:
                    kind = KINDS.get(update.sub_type or "", update.type.lower())
                    found.setdefault(update.id, (kind, update.name or ""))
        return list(found.values())

    def __repr__(self) -> str:
        return f"<TestRun {self.name!r}>"


def open_callbacks(operations: Sequence[Operation], name: str) -> list[str]:
    """The ids of the callbacks of that name that have not ended, oldest first."""
    parents = {
        operation.id
        for operation in operations
        if operation.name == name and operation.sub_type == SubType.WAIT_FOR_CALLBACK
    }
    return [
        operation.callback_details.callback_id
        for operation in operations
        if operation.callback_details is not None
        and operation.callback_details.callback_id is not None
        and operation.status is OperationStatus.STARTED
        and (operation.name == name or operation.parent_id in parents)
    ]


def _assert_same(name: str, found: list[str], expected: list[str]) -> None:
    if found == expected:
        return
    pairs = zip([*found, None], [*expected, None], strict=False)
    at = next(number for number, (one, other) in enumerate(pairs) if one != other)
    raise AssertionError(
        f"execution {name!r} recorded something else than expected, first at {at}:\n"
        f"  recorded: {found}\n  expected: {expected}"
    )

"""A durable function under test: started, watched and answered from inside of one test, in virtual time."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Generic, TypeVar

import anyio
import anyio.abc
import anyio.lowlevel

from .._engine.current import StepInfo, frame_var
from .._wire import Operation, OperationAction, OperationType, OperationUpdate
from ..abc import ServiceClient
from ..exceptions import CallbackCompletedError, DurableError
from ..function import DurableFunction
from ..local.engine import Engine
from .clock import SkippingClock
from .conditions import conditions
from .faults import Faults
from .history import History
from .local import LocalTarget, open_local
from .probe import KitProbe, StandIn
from .run import TestCallback, TestRun, open_callbacks
from .target import NotOnTargetError, Started, StuckError, Target

InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT")
OtherInputT = TypeVar("OtherInputT")
OtherResultT = TypeVar("OtherResultT")

PATIENCE = 5.0
"""Seconds, of real time, until an execution that waits for the outside alone counts as stuck."""

PATIENCE_AFAR = 60.0
"""The same, at least, for executions of a function that is deployed."""

Answer = Callable[[TestCallback], Any]


class UnusedStandInError(DurableError, AssertionError):
    """A test replaced a step or the like that never ran: its name may be misspelt."""

    def __init__(self, unused: Sequence[str], names: Sequence[str]) -> None:
        super().__init__(
            f"never used: {', '.join(unused)}. Steps, checks and compensations that ran: "
            f"{', '.join(map(repr, names)) or 'none'}"
        )


@asynccontextmanager
async def durable_test(
    function: DurableFunction[InputT, ResultT],
    *,
    clock: SkippingClock | None = None,
    always_replay: bool | None = None,
    faults: Callable[[ServiceClient], ServiceClient] | None = None,
    max_operations: int | None = None,
    patience: float = PATIENCE,
) -> AsyncGenerator[DurableTest[InputT, ResultT]]:
    """Open an engine in memory for a durable function, in virtual time.

    Use it as `async with durable_test(book_trip) as t:`, on asyncio or trio. A wait of 30 days takes milliseconds.
    What the block raises comes out as it is. Leaving it abandons what still runs.

    With `pytest --durable-target aws:FUNCTION` the executions are those of a function that is deployed, in real
    time: the test may start them, look at them and answer callbacks; whatever else it wants raises a
    `NotOnTargetError`.

    Args:
        function: Made by `@durable_execution`.
        clock: The time to go by; by default it begins at some day in 2025.
        always_replay: Whether each new operation is preceded by a replay of all before it, as if the execution had
            been suspended there; by default as pytest was told (`--durable-always-replay`), else not.
        faults: What goes wrong between the function and the service, as `Faults(seed=1)`; by default as pytest was
            told (`--durable-faults SEED`), else nothing.
        max_operations: How many operations an execution may have; on AWS it is 3,000. By default there is no limit.
        patience: Seconds, of real time, until an execution that waits for the outside alone counts as stuck.

    Raises:
        UnusedStandInError: Something was replaced that never ran.
        ValueError: The target is named otherwise than `aws:FUNCTION`.
    """
    now = conditions()
    failure: BaseException | None = None
    async with AsyncExitStack() as stack:
        target: Target
        if now.target:
            from .cloud import open_cloud  # only here: it loads AWS's client

            target = await stack.enter_async_context(open_cloud(now.target, function, max(patience, PATIENCE_AFAR)))
        else:
            if faults is None and now.faults is not None:
                faults = Faults(now.faults)
            always = now.always_replay if always_replay is None else always_replay
            probe = KitProbe(always_replays=always, crashes=now.crashes, faulty=faults)
            opened = open_local(probe, clock or SkippingClock(), max_operations=max_operations, patience=patience)
            target = await stack.enter_async_context(opened)
            if now.on_probe is not None:
                now.on_probe(probe)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        try:
            yield DurableTest(function, target, tasks)
        except (GeneratorExit, anyio.get_cancelled_exc_class()):
            raise
        except BaseException as error:  # noqa: BLE001 - raised below, where the task group does not wrap it
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if isinstance(target, LocalTarget) and target.probe.unused():
        raise UnusedStandInError(target.probe.unused(), target.probe.names)


class DurableTest(Generic[InputT, ResultT]):
    """A durable function under test. Made by `durable_test`.

    Attributes:
        function: The function.
    """

    __test__ = False

    def __init__(
        self, function: DurableFunction[InputT, ResultT], target: Target, tasks: anyio.abc.TaskGroup
    ) -> None:
        self.function = function
        self._target = target
        self._tasks = tasks
        self._answers: dict[str, Answer] = {}
        self._answered: set[str] = set()
        if isinstance(target, LocalTarget):
            target.probe.on_recorded = self._look_for_callbacks

    @property
    def engine(self) -> Engine:
        """The embedded engine that runs the executions."""
        return self._local("t.engine").engine

    @property
    def clock(self) -> SkippingClock:
        """The time they go by: `await t.clock.sleep(3600)` lets an hour pass."""
        return self._local("t.clock").clock

    @property
    def target(self) -> str:
        """Where executions run: `"local"`, or `"aws:FUNCTION"`."""
        return str(self._target)

    def _local(self, what: str) -> LocalTarget:
        if isinstance(self._target, LocalTarget):
            return self._target
        raise NotOnTargetError(what, str(self._target))

    # --- Running ---------------------------------------------------------------------------------------------

    async def start(
        self, event: InputT, *, name: str | None = None, history: History | None = None
    ) -> TestRun[ResultT]:
        """Start an execution; it runs while the test awaits something.

        Args:
            event: The function's input.
            name: What the execution is called; made up if not given.
            history: What it has recorded already: it is taken up there, as after a crash.

        Raises:
            DurableError: See `Engine.start`.
            ValueError: The history is not possible.
        """
        return await self.start_other(self.function, event, name=name, history=history)

    async def start_other(
        self,
        function: DurableFunction[OtherInputT, OtherResultT],
        event: OtherInputT,
        *,
        name: str | None = None,
        history: History | None = None,
    ) -> TestRun[OtherResultT]:
        """Start an execution of another durable function; otherwise as `start`."""
        started = await self._target.start(function, event, name, history)
        if not isinstance(self._target, LocalTarget):
            self._tasks.start_soon(self._follow, started)
        return TestRun(self._target, started)

    async def crash(self) -> None:
        """Let the process die, in effect: all invocations that are under way are cut off and begun anew.

        Called from inside a step, or anywhere in a durable function, it does not return.
        """
        self._local("t.crash()").engine.cut_off()
        await (anyio.lowlevel.checkpoint() if frame_var.get(None) is None else anyio.sleep_forever())

    # --- What is invoked -------------------------------------------------------------------------------------

    def register(self, function: DurableFunction[Any, Any] | Callable[[Any], Any], name: str | None = None) -> None:
        """Have a function known that `ctx.invoke` calls (see `Engine.register`)."""
        self._local("t.register()").engine.register(function, name)

    def stub_invoke(self, name: str, result: Any = None, *, error: Exception | None = None) -> None:
        """Answer `ctx.invoke(name, ...)` with a result, or an error, whatever it is called with.

        Args:
            name: What the function is invoked by.
            result: What it returns.
            error: What it raises.

        Raises:
            FunctionExistsError: A function of that name is known.
        """

        async def stub(_payload: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            if error is not None:
                raise error
            return result

        self._local("t.stub_invoke()").engine.register(stub, name)

    # --- What steps do ---------------------------------------------------------------------------------------

    def stub_step(self, name: str, result: Any = None) -> None:
        """Let a step return this, and not call its function.

        Args:
            name: The step's; also that of a check of `ctx.wait_for_condition`.
            result: What it returns; it is recorded by the step's annotation as what its function would return.
        """
        self.replace_step(name, lambda *_: result, what=f"stub_step({name!r})")

    def replace_step(self, name: str, function: Callable[..., Any], *, what: str = "") -> None:
        """Let a step call this function instead of its own, with the same arguments.

        Args:
            name: The step's; also that of a check of `ctx.wait_for_condition`.
            function: Called in the event loop if it is a coroutine function, else as a step's function is.
            what: What an error calls it.
        """
        what = what or f"replace_step({name!r})"
        self._replace(what, lambda info: info.name == name and not info.is_compensation, _in_loop(function))

    def fail_step(self, name: str, error: Exception | type[Exception], *, times: int | None = 1) -> None:
        """Let the first attempts of a step fail, without a call of its function.

        Args:
            name: The step's; of several with that name, each.
            error: What it raises.
            times: How many attempts fail; `None` for all.
        """
        self._fail(f"fail_step({name!r})", name, error, times, compensation=False)

    def fail_compensation(self, name: str, error: Exception | type[Exception], *, times: int | None = None) -> None:
        """Let a compensation fail, without a call of its function.

        Args:
            name: What it is called: the name of the step that it undoes, unless it was registered by hand.
            error: What it raises.
            times: How many attempts fail; all by default.
        """
        self._fail(f"fail_compensation({name!r})", name, error, times, compensation=True)

    def _fail(
        self, what: str, name: str, error: Exception | type[Exception], times: int | None, *, compensation: bool
    ) -> None:
        def applies(info: StepInfo) -> bool:
            return (
                info.name == name
                and info.is_compensation is compensation
                and (times is None or info.attempt <= times)
            )

        async def fail(*_: object) -> None:
            await anyio.lowlevel.checkpoint()
            raise error

        self._replace(what, applies, fail)

    def _replace(self, what: str, applies: Callable[[StepInfo], bool], body: Callable[..., Any]) -> None:
        self._local(f"t.{what}").probe.add(StandIn(what, applies, body))

    # --- Callbacks -------------------------------------------------------------------------------------------

    def on_callback(self, name: str, answer: Any = None) -> None:
        """Complete each callback of a name as soon as the function has made it.

        To act at a time of the test's choosing, see `TestRun.callback`.

        Args:
            name: What `create_callback` or `wait_for_callback` calls it.
            answer: The result; an exception to fail it with; or a function, async or not, of the `TestCallback`,
                which completes it itself.
        """
        self._answers[name] = answer if callable(answer) else _answer_with(answer)

    def _look_for_callbacks(self, arn: str, updates: Sequence[OperationUpdate]) -> None:
        if self._answers and any(
            update.type is OperationType.CALLBACK and update.action is OperationAction.START for update in updates
        ):
            self._tasks.start_soon(self._answer_in, arn)

    async def _answer_in(self, arn: str) -> None:
        execution = await self.engine.execution_by_arn(arn)
        await self._answer(await self.engine.operations(execution.name))

    async def _follow(self, started: Started) -> None:
        """Where nobody tells what was recorded: look, until the execution is over or hopeless."""
        with suppress(StuckError):
            async for _ in started.changes():
                if self._answers:
                    await self._answer(await started.operations())

    async def _answer(self, operations: Sequence[Operation]) -> None:
        for name, answer in self._answers.items():
            for callback_id in open_callbacks(operations, name):
                if callback_id in self._answered:
                    continue
                self._answered.add(callback_id)
                with suppress(CallbackCompletedError):  # it has timed out, or nobody waits for it any more
                    outcome = answer(TestCallback(self._target, callback_id, name))
                    if inspect.isawaitable(outcome):
                        await outcome


def _answer_with(answer: Any) -> Answer:
    async def complete(callback: TestCallback) -> None:
        if isinstance(answer, Exception):
            await callback.fail(answer)
        else:
            await callback.succeed(answer)

    return complete


def _in_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function as a coroutine function: a stand-in needs no worker thread."""
    if inspect.iscoroutinefunction(function):
        return function

    async def call(*args: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        result = function(*args)
        return await result if inspect.isawaitable(result) else result

    return call

"""Ordinary `async def` functions that survive crashes, restarts and waits of months.

Their heart is the saga: each forward step carries its undo, and a failure undoes what was done, in reverse,
durably. See the README for a first program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._engine.current import StepInfo as StepInfo
from ._engine.current import current_step as current_step
from ._kernel.retry import Backoff as Backoff
from ._kernel.retry import Retry as Retry
from .context import DurableContext as DurableContext
from .context import current_context as current_context
from .exceptions import BatchError as BatchError
from .exceptions import CallbackError as CallbackError
from .exceptions import CallbackFailedError as CallbackFailedError
from .exceptions import CallbackHeartbeatError as CallbackHeartbeatError
from .exceptions import CallbackTimeoutError as CallbackTimeoutError
from .exceptions import CleanupError as CleanupError
from .exceptions import CompensationError as CompensationError
from .exceptions import ConditionNotMetError as ConditionNotMetError
from .exceptions import ConditionTimeoutError as ConditionTimeoutError
from .exceptions import DurableError as DurableError
from .exceptions import ExecutionConflictError as ExecutionConflictError
from .exceptions import ExecutionExistsError as ExecutionExistsError
from .exceptions import ExecutionFailedError as ExecutionFailedError
from .exceptions import ExecutionNotFoundError as ExecutionNotFoundError
from .exceptions import FrameMisuseError as FrameMisuseError
from .exceptions import InvalidDurationError as InvalidDurationError
from .exceptions import InvalidNameError as InvalidNameError
from .exceptions import InvokeError as InvokeError
from .exceptions import InvokeFailedError as InvokeFailedError
from .exceptions import InvokeStoppedError as InvokeStoppedError
from .exceptions import InvokeTimedOutError as InvokeTimedOutError
from .exceptions import MissingCompensationError as MissingCompensationError
from .exceptions import NonDeterminismError as NonDeterminismError
from .exceptions import NotDurableError as NotDurableError
from .exceptions import OperationBudgetError as OperationBudgetError
from .exceptions import PayloadTooLargeError as PayloadTooLargeError
from .exceptions import RecordedError as RecordedError
from .exceptions import RollbackTimeoutError as RollbackTimeoutError
from .exceptions import SagaCancelledError as SagaCancelledError
from .exceptions import SagaDeadlineError as SagaDeadlineError
from .exceptions import SagaRolledBackError as SagaRolledBackError
from .exceptions import SerializationError as SerializationError
from .exceptions import ServiceError as ServiceError
from .exceptions import StepInterruptedError as StepInterruptedError
from .exceptions import StepTimeoutError as StepTimeoutError
from .exceptions import StoreError as StoreError
from .exceptions import SuspendedError as SuspendedError
from .exceptions import TimeLimitError as TimeLimitError
from .exceptions import UnawaitedOperationError as UnawaitedOperationError
from .function import DurableFunction as DurableFunction
from .function import DurableHandler as DurableHandler
from .function import durable_execution as durable_execution

if TYPE_CHECKING:
    from ._kernel.completion import BatchItem as BatchItem
    from ._kernel.completion import BatchProgress as BatchProgress
    from ._kernel.completion import BatchResult as BatchResult
    from ._kernel.completion import Completion as Completion
    from ._kernel.completion import Winner as Winner
    from ._kernel.ledger import StepOutcome as StepOutcome
    from ._kernel.report import CompensationItem as CompensationItem
    from ._kernel.report import CompensationResult as CompensationResult
    from ._operations.callback import Callback as Callback
    from ._operations.task_group import TaskGroup as TaskGroup
    from ._operations.task_group import TaskHandle as TaskHandle
    from ._saga.registration import Savepoint as Savepoint
    from ._saga.scope import SagaScope as SagaScope
    from ._saga.scope import current_saga as current_saga
    from ._saga.scope import saga as saga
    from .steps import DurableStep as DurableStep
    from .steps import step as step
else:
    # What not every function uses is loaded when somebody asks for it.
    _LATER = {
        "StepOutcome": "._kernel.ledger",
        "Savepoint": "._saga.registration",
        "SagaScope": "._saga.scope",
        "current_saga": "._saga.scope",
        "saga": "._saga.scope",
        "DurableStep": ".steps",
        "step": ".steps",
        "CompensationItem": "._kernel.report",
        "CompensationResult": "._kernel.report",
        "BatchItem": "._kernel.completion",
        "BatchProgress": "._kernel.completion",
        "BatchResult": "._kernel.completion",
        "Completion": "._kernel.completion",
        "Winner": "._kernel.completion",
        "Callback": "._operations.callback",
        "TaskGroup": "._operations.task_group",
        "TaskHandle": "._operations.task_group",
    }

    def __getattr__(name: str) -> object:
        if name in _LATER:
            from importlib import import_module

            return getattr(import_module(_LATER[name], __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LATER} - {"_LATER", "TYPE_CHECKING"})


__version__ = "0.1.0"

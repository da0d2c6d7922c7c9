"""The service's API, every shape of it, and nothing else."""

from __future__ import annotations

from .enums import FINAL_STATUSES as FINAL_STATUSES
from .enums import ExecutionStatus as ExecutionStatus
from .enums import InvocationStatus as InvocationStatus
from .enums import OperationAction as OperationAction
from .enums import OperationStatus as OperationStatus
from .enums import OperationType as OperationType
from .enums import SubType as SubType
from .invocation import InvocationInput as InvocationInput
from .invocation import InvocationOutput as InvocationOutput
from .operations import Operation as Operation
from .shapes import ErrorObject as ErrorObject
from .timestamps import Timestamp as Timestamp
from .updates import OperationUpdate as OperationUpdate

"""What tests of durable functions use."""

from __future__ import annotations

from .clock import SkippingClock as SkippingClock
from .contracts import ContractError as ContractError
from .contracts import ContractReport as ContractReport
from .contracts import check_client as check_client
from .contracts import check_store as check_store
from .faults import FaultKind as FaultKind
from .faults import Faults as Faults
from .harness import DurableTest as DurableTest
from .harness import UnusedStandInError as UnusedStandInError
from .harness import durable_test as durable_test
from .history import History as History
from .probe import Crash as Crash
from .replaying import ReplayResult as ReplayResult
from .replaying import replay as replay
from .run import TestCallback as TestCallback
from .run import TestRun as TestRun
from .schedule import trio_schedule as trio_schedule
from .sweep import CrashSweepError as CrashSweepError
from .sweep import CrashSweepReport as CrashSweepReport
from .sweep import crash_everywhere as crash_everywhere
from .sweep import sweep as sweep
from .target import NotOnTargetError as NotOnTargetError
from .target import StuckError as StuckError

"""What tests of durable functions use."""

from __future__ import annotations

from .clock import SkippingClock as SkippingClock
from .harness import DurableTest as DurableTest
from .harness import UnusedStandInError as UnusedStandInError
from .harness import durable_test as durable_test
from .run import TestCallback as TestCallback
from .run import TestRun as TestRun
from .target import NotOnTargetError as NotOnTargetError
from .target import StuckError as StuckError

"""All programs that have histories."""

from __future__ import annotations

from tests.histories import branches as branches
from tests.histories import operations as operations
from tests.histories import sagas as sagas
from tests.histories.world import PROGRAMS as PROGRAMS

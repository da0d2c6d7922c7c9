"""Changes of executions as a service makes them, one after another."""

from __future__ import annotations

from durable.testing.contracts.log import Log as Log
from durable.testing.contracts.log import step as step

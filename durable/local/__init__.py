"""The embedded engine: durable functions in this process, over memory or an SQLite file."""

from __future__ import annotations

from ..abc import ExecutionRecord as ExecutionRecord
from .engine import Engine as Engine
from .engine import open_engine as open_engine
from .reader import Reader as Reader
from .run import Run as Run
from .stores.memory import MemoryStore as MemoryStore
from .targets import load_target as load_target
from .targets import target_of as target_of

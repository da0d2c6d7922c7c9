"""Lambda's durable execution API over HTTP, on the embedded engine: what `durable dev` serves."""

from __future__ import annotations

from .app import make_app as make_app
from .guard import Guard as Guard

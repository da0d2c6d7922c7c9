"""What tests of durable functions use."""

from __future__ import annotations

from .clock import SkippingClock as SkippingClock

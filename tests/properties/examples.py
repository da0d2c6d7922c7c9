"""How many random examples there are, and which.

`DURABLE_EXAMPLES=5000 DURABLE_RANDOM=1 pytest tests/properties` looks for what nobody has found yet. By default the
examples are the same each time: what fails is of the change at hand.
"""

from __future__ import annotations

import os

EXAMPLES = int(os.environ.get("DURABLE_EXAMPLES", "60"))
"""How many on each event loop."""

RANDOM = bool(os.environ.get("DURABLE_RANDOM"))
"""Whether they are other ones each time."""

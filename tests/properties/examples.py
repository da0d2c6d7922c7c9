"""How many random examples there are, and which.

`DURABLE_EXAMPLES=5000 DURABLE_RANDOM=1 pytest tests/properties` looks for what nobody has found yet. By default the
examples are the same each time: what fails is of the change at hand.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = settings(
    max_examples=int(os.environ.get("DURABLE_EXAMPLES", "60")),
    derandomize=not os.environ.get("DURABLE_RANDOM"),
    deadline=None,
    print_blob=True,
    suppress_health_check=[*HealthCheck],
)
"""How many on each event loop, and whether they are other ones each time."""

"""The service's limits (PROTOCOL section 1), each named once."""

from __future__ import annotations

from typing import Final

MAX_NAME_LENGTH: Final = 256
"""An operation's name: 1 to 256 printable ASCII characters."""

MAX_EXECUTION_NAME_LENGTH: Final = 64
MAX_CHECKPOINT_TOKEN_LENGTH: Final = 2048

MAX_PAYLOAD_BYTES: Final = 1024 * 1024
"""One operation's payload, or all fields of one error object together."""

MAX_EXECUTION_PAYLOAD_BYTES: Final = 6 * 1024 * 1024
"""The input of an execution, and the answer of an invocation."""

MAX_ANSWER_BYTES: Final = MAX_EXECUTION_PAYLOAD_BYTES - 50
"""A result longer than this is recorded as an EXECUTION update before the answer."""

REPLAY_CHILDREN_BYTES: Final = 256 * 1024
"""A child context's result longer than this is rebuilt on replay from the child's own records."""

MIN_DELAY_SECONDS: Final = 1
MAX_DELAY_SECONDS: Final = 31_622_400
"""A wait and a retry delay: whole seconds, up to 366 days."""

MAX_CALLBACK_TIMEOUT_SECONDS: Final = 99_999_999

MAX_REASON_LENGTH: Final = 1024
"""Characters of why an execution is paused or resumed."""

MAX_FUNCTION_NAME_LENGTH: Final = 256
MAX_TENANT_ID_LENGTH: Final = 256

MAX_UPDATES_PER_CALL: Final = 250
MAX_BYTES_PER_CALL: Final = 750 * 1024
"""Our own bound on what one call carries; a single larger update travels alone."""

MAX_STATE_PAGE: Final = 1000
DEFAULT_STATE_PAGE: Final = 100
MAX_OPERATIONS: Final = 3_000
"""The operations of one execution on AWS, a hard limit there."""

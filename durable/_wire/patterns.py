"""What the service takes as ids and names (PROTOCOL section 1), for whoever checks what others send."""

from __future__ import annotations

import re
from typing import Final

NAME_PATTERN: Final = re.compile(r"[\x20-\x7E]{1,256}")
"""An operation's name: 1 to 256 printable ASCII characters."""

ID_PATTERN: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""An operation's id, and its parent's."""

SUB_TYPE_PATTERN: Final = re.compile(r"[a-zA-Z0-9_-]{1,32}")
EXECUTION_NAME_PATTERN: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
CLIENT_TOKEN_PATTERN: Final = re.compile(r"[\x21-\x7E]{1,64}")
CHECKPOINT_TOKEN_PATTERN: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")

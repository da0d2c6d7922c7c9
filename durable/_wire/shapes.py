"""How every shape on the wire is declared.

Unknown fields are ignored, so that an older library reads a newer service. A required field has no default;
an absent optional field is `None` and is not sent.
"""

from __future__ import annotations

import msgspec


class Shape(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal", gc=False):
    """A wire structure: immutable, PascalCase on the wire, snake_case here."""


class ErrorObject(Shape, frozen=True, kw_only=True):
    """An error as the service carries it.

    Attributes:
        error_message: What happened, for people.
        error_type: The class: builtins by bare name, others as `module.qualname`.
        error_data: Free text; ours is JSON, the exception's own data.
        stack_trace: Formatted frames, outermost first.
    """

    error_message: str | None = None
    error_type: str | None = None
    error_data: str | None = None
    stack_trace: tuple[str, ...] | None = None

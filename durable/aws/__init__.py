"""AWS Lambda durable functions: the client of the service, the Lambda handler, and a runtime of its own.

A durable function is a Lambda handler as it is; what is here is for those who want more: a handler with a client of
their own (`make_handler`), or the client itself (`open_client`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import NotDurableInvocationError as NotDurableInvocationError

if TYPE_CHECKING:
    from .client import AwsClient as AwsClient
    from .client import open_client as open_client
    from .handler import make_handler as make_handler
else:
    # They load botocore, or an event loop.
    _LATER = {"AwsClient": ".client", "open_client": ".client", "make_handler": ".handler"}

    def __getattr__(name: str) -> object:
        if name in _LATER:
            from importlib import import_module

            return getattr(import_module(_LATER[name], __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What a test may put between an invocation and the world; where there is none, nothing is asked."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .._kernel.signatures import Signature, signature_of

if TYPE_CHECKING:
    from ..abc import ServiceClient
    from .current import StepInfo


class Probe:
    """What invocations ask that find it in `probe_var` when they begin. This one changes nothing.

    Attributes:
        always_replays: Whether an invocation does one new thing in each branch, and is then begun anew.
    """

    always_replays = False

    def between(self, client: ServiceClient) -> ServiceClient:
        """The client that an invocation calls the service by."""
        return client

    def instead_of(self, info: StepInfo, body: Callable[..., Any]) -> Callable[..., Any]:  # noqa: ARG002
        """What is called as the body of a step, a check or a compensation."""
        return body

    async def cut(self, arn: str) -> None:
        """Have whoever runs the invocation cancel it, as if its process had died."""
        raise NotImplementedError(f"{arn} cannot be cut off by {type(self).__name__}")


probe_var: ContextVar[Probe | None] = ContextVar("durable_probe", default=None)


def body_of(
    probe: Probe | None, info: StepInfo, signature: Signature, body: Callable[..., Any]
) -> tuple[Signature, Callable[..., Any]]:
    """What is called as the body of an operation, with its signature."""
    if probe is None:
        return signature, body
    instead = probe.instead_of(info, body)
    return (signature, body) if instead is body else (signature_of(instead), instead)

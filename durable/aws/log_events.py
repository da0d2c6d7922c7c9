"""What functions have logged on AWS: events of CloudWatch Logs, in the log group of the function.

An execution's are found by its ARN, which `ctx.logger` gives to each record: it is a field of its own where the
function logs as JSON (Lambda's `LoggingConfig`). Of what is logged as text nobody can tell whose it is.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from ..exceptions import ServiceError
from . import untyped
from .client import answer_of
from .control import client_config, region_of_environment

_SERVICE: Final = "logs"
_NO_GROUP: Final = "ResourceNotFoundException"


class LogEvents:
    """Reads log groups. Made by `open_log_events`."""

    def __init__(self, logs_client: Any) -> None:
        self._client = logs_client

    async def events(self, function: str, arn: str, since: int = 0) -> list[dict[str, Any]]:
        """What an execution has logged, oldest first.

        Args:
            function: The function's name.
            arn: The execution's ARN.
            since: From then on; milliseconds since the epoch.

        Returns:
            Events as CloudWatch Logs has them: `timestamp`, `message`, `eventId`. None if there is no log group.

        Raises:
            ServiceError: The call is refused, or not answered.
        """
        wanted: dict[str, Any] = {
            "logGroupName": f"/aws/lambda/{function}",
            # Ours, and that of AWS's own SDKs. Quoted as JSON is.
            "filterPattern": f"{{ ($.execution_arn = {json.dumps(arn)}) || ($.executionArn = {json.dumps(arn)}) }}",
            "startTime": since,
        }
        found: list[dict[str, Any]] = []
        token: str | None = None
        while True:
            more = {} if token is None else {"nextToken": token}
            try:
                page = await answer_of(self._client.filter_log_events(**wanted, **more))
            except ServiceError as error:
                if error.code == _NO_GROUP:
                    return []
                raise
            found.extend(page.get("events", ()))
            before, token = token, page.get("nextToken")
            if not token or token == before:
                return sorted(found, key=lambda event: int(event.get("timestamp", 0)))


@asynccontextmanager
async def open_log_events(*, region: str | None = None, profile: str | None = None) -> AsyncGenerator[LogEvents]:
    """Open a client of CloudWatch Logs; credentials and all else are looked up as every AWS SDK does.

    Raises:
        botocore.exceptions.BotoCoreError: No region, no such profile, and the like.
    """
    config = client_config()
    session = untyped.make_usual_session(config, profile)
    region = region_of_environment(session, region)
    async with untyped.make_client(
        session, config=config, endpoint_url=None, region=region, service=_SERVICE
    ) as logs_client:
        yield LogEvents(logs_client)

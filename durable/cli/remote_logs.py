"""What functions log on a `durable dev`, by a path of its own: Lambda's API has nothing of the kind."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

from ..local.logs import LOGS_RESPONSE
from .options import CommandError

if TYPE_CHECKING:
    from ..local.logs import LogLine
    from .place import Remote

TIMEOUT: Final = 60
"""Seconds."""


def fetch_lines(place: Remote, arn: str, position: str) -> tuple[Sequence[LogLine], str]:
    """What an execution has logged after a position, and where that ends.

    Raises:
        CommandError: The server does not answer, or not with that.
        MalformedPayloadError: It answers something else.
    """
    url = f"{(place.endpoint or '').rstrip('/')}/durable/executions/{quote(arn, safe='')}/logs"
    request = Request(f"{url}?{urlencode({'After': position})}")  # noqa: S310 - the user's own server
    if place.token is not None:
        request.add_header("Authorization", f"Bearer {place.token}")
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT) as response:
            answer = LOGS_RESPONSE.decode(response.read())
    except HTTPError as error:
        with error:
            if error.code == HTTPStatus.NOT_FOUND:
                why = f"{place} does not tell what functions log, as durable dev does"
                raise CommandError(why) from error
            raise CommandError(f"{place} does not tell what functions log: {error}") from error
    except (URLError, OSError, http.client.HTTPException) as error:
        raise CommandError(f"{place} does not answer: {error}") from error
    return answer.lines, answer.position

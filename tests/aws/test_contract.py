"""The contract of clients, for the one of AWS: real HTTP between it and the service."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from durable.abc import ServiceClient
from durable.testing.contracts import CLIENT_RULES, Rule, check_client
from tests.aws.fake_lambda import FakeLambda
from tests.aws.harness import impatient, linked

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("answer_page", [None, 7], ids=["", "in pages"])
@pytest.mark.parametrize("rule", CLIENT_RULES, ids=str)
async def test_contract(rule: Rule[Any], answer_page: int | None):
    """Each rule, also with answers that come in pages."""

    @asynccontextmanager
    async def connect(service: ServiceClient) -> AsyncGenerator[ServiceClient]:
        config = impatient(max_pool_connections=4)
        async with linked(FakeLambda(service, answer_page=answer_page), config) as link:
            yield link.client

    await check_client(connect, rules=[rule])

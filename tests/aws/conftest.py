"""The environment of a Lambda sandbox."""

from __future__ import annotations

import pytest

from tests.aws.harness import ENVIRONMENT


@pytest.fixture(autouse=True)
def sandbox_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and a region, and nothing of the machine that the tests run on."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

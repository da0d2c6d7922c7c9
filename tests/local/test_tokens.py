"""Checkpoint tokens as text."""

from __future__ import annotations

import base64

import pytest

from durable._wire.limits import MAX_CHECKPOINT_TOKEN_LENGTH
from durable._wire.patterns import CHECKPOINT_TOKEN_PATTERN
from durable.exceptions import StaleTokenError
from durable.local.tokens import Token


@pytest.mark.parametrize("token", [Token("a", 1, 0), Token("e" * 64, 10**9, 10**9), Token("A-_9", 0, 0)])
def test_a_token_comes_back_as_it_was(token: Token):
    """As text it is what the service model allows."""
    text = token.encode()
    assert CHECKPOINT_TOKEN_PATTERN.fullmatch(text)
    assert len(text) <= MAX_CHECKPOINT_TOKEN_LENGTH
    assert Token.decode(text) == token


def test_every_call_has_a_token_of_its_own():
    """No two are alike."""
    tokens = {Token(key, n, m).encode() for key in ("a", "a1", "a-1") for n in range(12) for m in range(12)}
    assert len(tokens) == 3 * 12 * 12


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "????",
        "ä",
        "\udcff",
        "\x00",
        "AAAA",
        "Zg==",
        Token("a", 1, 0).encode() + "=",
        Token("a", 1, 0).encode()[:-1],
        f" {Token('a', 1, 0).encode()}",
        f"{Token('a', 1, 0).encode()}\n",
        *(base64.b64encode(inner).decode() for inner in (b"a/1", b"a/1/2/3", b"a/x/0", b"a/1/", b"\xff/1/2")),
        base64.b64encode(b"a/1/" + b"9" * 5000).decode(),
    ],
)
def test_what_is_no_token_is_told_apart(text: str):
    """The error is the one that a stale token gives: whoever has it must stop writing."""
    with pytest.raises(
        StaleTokenError, match=r"^InvalidParameterValueException: Invalid checkpoint token"
    ) as raised:
        Token.decode(text)
    assert raised.value.retryable

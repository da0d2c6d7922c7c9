"""Where botocore and aiobotocore are touched, which have no types: beside tls.py and signing.py nothing knows them.

Only what they offer in public is used: a session with components, a client configuration with a session class, and
events. Importing this module loads both of them, a third of a second.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from copy import deepcopy
from importlib import import_module
from typing import Any, Final

from .._wire.codec import (
    CHECKPOINT_RESPONSE,
    DELETE_RESPONSE,
    EXECUTION_RESPONSE,
    HISTORY_RESPONSE,
    LIST_RESPONSE,
    STATE_RESPONSE,
    STOP_RESPONSE,
)
from ..exceptions import MalformedPayloadError
from .errors import KMS_ERRORS
from .later import completed
from .model import API_VERSION, SERVICE, endpoints

# Bound as `Any`, once, instead of an ignored error at every use.
_exceptions: Any = import_module("botocore.exceptions")
_httpsession: Any = import_module("botocore.httpsession")
_loaders: Any = import_module("botocore.loaders")
_hooks: Any = import_module("botocore.hooks")
_AWSRequest: Any = import_module("botocore.awsrequest").AWSRequest
_AioSession: Any = import_module("aiobotocore.session").AioSession
_HttpxAWSResponse: Any = import_module("aiobotocore.awsrequest").HttpxAWSResponse
AioConfig: Any = import_module("aiobotocore.config").AioConfig
HttpxSession: Any = import_module("aiobotocore.httpxsession").HttpxSession

UNSIGNED: Any = import_module("botocore").UNSIGNED

BotoCoreError: type[Exception] = _exceptions.BotoCoreError
ClientError: type[Exception] = _exceptions.ClientError
ParamValidationError: type[Exception] = _exceptions.ParamValidationError

DECODED: Final = "Decoded"
"""Where the decoded answer is in what a call returns."""

_SERVICE: Final = ("lambda", API_VERSION)
_FIRST_ERROR: Final = 300

body_var: ContextVar[bytes] = ContextVar("durable_checkpoint_body")
"""The body of the checkpoint call that is being made, encoded."""


# --- The session and its data --------------------------------------------------------------------------------


def make_loader() -> Any:
    """A loader of botocore's data that has what two operations need at hand, and finds all else as usual."""

    class Loader(_loaders.Loader):  # type: ignore[misc]
        def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
            """A model, without looking through the directories of all services for Lambda's."""
            if service_name != _SERVICE[0] or api_version not in {None, _SERVICE[1]}:
                usual: Any = super()
                return usual.load_service_model(service_name, type_name, api_version)
            if type_name == "service-2":
                return deepcopy(SERVICE)  # botocore adds to what it is given
            if type_name == "endpoint-rule-set-1":
                # Rules are gone through for each call. Without any, botocore takes the endpoints below, once.
                raise _exceptions.UnknownServiceError(service_name=service_name, known_service_names=[])
            return self.load_data("/".join((*_SERVICE, type_name)))

        def load_data_with_path(self, name: str) -> tuple[Any, str]:
            """A data file and where it is; of the endpoints, the rule of each partition."""
            if name == "endpoints":
                return endpoints(), __file__
            usual: Any = super()
            found: tuple[Any, str] = usual.load_data_with_path(name)
            return found

    return Loader()


def make_session(config: Any) -> Any:
    """An aiobotocore session that has a configuration for all of its clients, also those that get credentials."""
    session = _AioSession()
    session.register_component("data_loader", make_loader())
    session.set_default_client_config(config)
    return session


def make_usual_session(config: Any, profile: str | None) -> Any:
    """An aiobotocore session as everybody has it, with all of botocore's data, and a little more of Lambda."""
    session = _AioSession(profile=profile)
    session.set_default_client_config(config)
    loader = session.get_component("data_loader")
    usual = loader.load_service_model

    def load_service_model(service_name: str, type_name: str, api_version: str | None = None) -> Any:
        """A model; Lambda's with what later versions know of it."""
        model = usual(service_name, type_name, api_version)
        is_lambda = service_name == _SERVICE[0] and type_name == "service-2"
        return completed(model) if is_lambda else model

    loader.load_service_model = load_service_model
    return session


def make_client(
    session: Any, *, config: Any, endpoint_url: str | None, region: str | None, service: str = _SERVICE[0]
) -> AbstractAsyncContextManager[Any]:
    """A client of a session, to be entered: of Lambda, unless another service is named."""
    context: AbstractAsyncContextManager[Any] = session.create_client(
        service, config=config, endpoint_url=endpoint_url, region_name=region
    )
    return context


def region_of(session: Any) -> str | None:
    """The region that a session is configured with."""
    region: str | None = session.get_config_variable("region")
    return region


def retry_mode_of(client: Any) -> str | None:
    """How a client repeats calls: "legacy", "standard" or "adaptive"."""
    retries: Mapping[str, Any] = client.meta.config.retries or {}
    return retries.get("mode")


def user_agent_of(session: Any) -> str:
    """What a session's clients call themselves."""
    agent: str = session.user_agent()
    return agent


# --- Operations ----------------------------------------------------------------------------------------------


def register_codecs(client: Any) -> None:
    """Have a client encode and decode by msgspec what botocore would by walking its model in Python."""
    events = client.meta.events
    events.register("before-call.lambda.CheckpointDurableExecution", _set_body)
    events.register("before-parse.lambda.CheckpointDurableExecution", _decoding(CHECKPOINT_RESPONSE.decode))
    events.register("before-parse.lambda.GetDurableExecutionState", _decoding(STATE_RESPONSE.decode))
    events.register_first("needs-retry.lambda", _refuse_retry)


def register_control_codecs(client: Any) -> None:
    """Have a client decode by our own shapes what people and tools ask for."""
    events = client.meta.events
    for operation, codec in (
        ("GetDurableExecution", EXECUTION_RESPONSE),
        ("GetDurableExecutionHistory", HISTORY_RESPONSE),
        ("ListDurableExecutionsByFunction", LIST_RESPONSE),
        ("StopDurableExecution", STOP_RESPONSE),
        ("DeleteDurableExecution", DELETE_RESPONSE),
    ):
        events.register(f"before-parse.lambda.{operation}", _decoding(codec.decode))


def register_token(client: Any, token: str) -> None:
    """Have a client send a bearer token with whatever it sends."""

    def show(*, params: dict[str, Any], **_: Any) -> None:
        params["headers"]["Authorization"] = f"Bearer {token}"

    client.meta.events.register("before-call.lambda", show)


def _set_body(*, params: dict[str, Any], **_: Any) -> None:
    """Before the call is signed: the body that was encoded, instead of the one without any updates."""
    params["body"] = body_var.get()


def _decoding(decode: Callable[[bytes], Any]) -> Callable[..., None]:
    def handle(*, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
        if response_dict["status_code"] < _FIRST_ERROR:
            try:
                customized_response_dict[DECODED] = decode(response_dict["body"])
            except MalformedPayloadError as error:
                customized_response_dict[DECODED] = error
            response_dict["body"] = b"{}"  # nothing is left for botocore's own parser

    return handle


def _refuse_retry(*, response: tuple[Any, Mapping[str, Any]] | None, **_: Any) -> bool | None:
    """No repeat of what it does not help, although it comes as 502: the first handler's answer counts."""
    error: Mapping[str, Any] = {} if response is None else response[1].get("Error") or {}
    return False if error.get("Code") in KMS_ERRORS else None


class _Headers:
    """Headers of a request as botocore's signer and handlers of events use them.

    Before a request is signed, botocore has an e-mail's for it, and afterwards a mapping: these are both. Names are
    the same in any case. What is not there is `None`, and may be deleted.
    """

    __slots__ = ("_pairs",)

    def __init__(self, headers: Mapping[str, Any]) -> None:
        self._pairs: dict[str, tuple[str, Any]] = {name.lower(): (name, headers[name]) for name in headers}

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._pairs

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._pairs[name.lower()] = (name, value)

    def __delitem__(self, name: str) -> None:
        self._pairs.pop(name.lower(), None)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._pairs)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a header."""
        pair = self._pairs.get(name.lower())
        return default if pair is None else pair[1]

    def get_all(self, name: str, default: Any = None) -> Any:
        """The values of a header."""
        pair = self._pairs.get(name.lower())
        return default if pair is None else [pair[1]]

    def add_header(self, name: str, value: Any) -> None:
        """Set a header."""
        self[name] = value

    replace_header = add_header

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The value of a header, which is set if it is not there."""
        return self._pairs.setdefault(name.lower(), (name, default))[1]

    def update(self, headers: Mapping[str, Any]) -> None:
        """Set headers."""
        for name in headers:
            self[name] = headers[name]

    def pop(self, name: str, default: Any = None) -> Any:
        """The value of a header, which is taken away."""
        pair = self._pairs.pop(name.lower(), None)
        return default if pair is None else pair[1]

    def keys(self) -> list[str]:
        """The names."""
        return [name for name, _ in self._pairs.values()]

    def values(self) -> list[Any]:
        """The values."""
        return [value for _, value in self._pairs.values()]

    def items(self) -> list[tuple[str, Any]]:
        """Names and values."""
        return list(self._pairs.values())


class _Request(_AWSRequest):  # type: ignore[misc] # untyped; what handlers of events expect
    """A request whose body is bytes: otherwise a copy of the whole is made whenever the body is asked for."""

    @property
    def body(self) -> bytes:
        """Its body."""
        body: bytes = self.data
        return body


def make_request(params: dict[str, Any]) -> Any:
    """A request of what a call is made with, to be signed."""
    request = _Request(method=params["method"], url=params["url"], data=params["body"])
    request.headers = _Headers(params["headers"])
    request.context = params["context"]
    return request


def first_answer(responses: Any) -> Any:
    """What the first handler of an event that said anything has said."""
    return _hooks.first_non_none_response(responses)


# --- For the HTTP session ------------------------------------------------------------------------------------


def make_response(url: str, status: int, headers: Sequence[tuple[bytes, bytes]], raw: Any) -> Any:
    """A response as aiobotocore has it, over one that has an `aread`."""
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    return _HttpxAWSResponse(url, status, pairs, raw)


def make_proxies(proxies: Any, settings: Any) -> Any:
    """What botocore makes of settings: which proxy is for what."""
    return _httpsession.ProxyConfiguration(proxies=proxies, proxies_settings=settings)


def connect_error(url: str, error: Exception, *, proxy: str | None, tls: ssl.SSLError | None) -> Exception:
    """The connection was not made."""
    made: Exception
    if tls is not None:
        made = _exceptions.SSLError(endpoint_url=url, error=tls)
    elif proxy is not None:
        made = _exceptions.ProxyConnectionError(proxy_url=_httpsession.mask_proxy_url(proxy), error=error)
    else:
        made = _exceptions.EndpointConnectionError(endpoint_url=url, error=error)
    return made


def connect_timeout(url: str, error: Exception) -> Exception:
    """The connection was not made, or not free, in time."""
    made: Exception = _exceptions.ConnectTimeoutError(endpoint_url=url, error=error)
    return made


def read_timeout(url: str, error: Exception) -> Exception:
    """The answer did not come in time."""
    made: Exception = _exceptions.ReadTimeoutError(endpoint_url=url, error=error)
    return made


def connection_closed(url: str, error: Exception) -> Exception:
    """The connection ended before the answer."""
    made: Exception = _exceptions.ConnectionClosedError(endpoint_url=url, error=error, request=None)
    return made

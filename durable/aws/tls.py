"""TLS settings as botocore has them: made once, and early.

Reading all the authorities that botocore trusts takes 20 ms, in which OpenSSL leaves Python's lock alone: while
Lambda initialises that goes on in a thread, beside the imports, and is done when they are.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

_httpsession: Any = import_module("botocore.httpsession")
_loading: Final = threading.Lock()


def load_early() -> None:
    """Begin to make the settings that will most likely be asked for; whoever asks meanwhile waits for them."""
    verify = os.environ.get("AWS_CA_BUNDLE") or True
    threading.Thread(target=_try, args=[verify], name="durable-tls", daemon=True).start()


def _try(verify: bool | str) -> None:  # noqa: FBT001 - as botocore has it
    with contextlib.suppress(OSError, ValueError):  # whoever needs them is told
        tls_context(verify, None)


def tls_context(verify: bool | str, certificate: str | tuple[str, str] | None) -> ssl.SSLContext:  # noqa: FBT001
    """TLS settings; the same ones are made once, also by two threads that want them at the same time."""
    with _loading:
        return _tls_context(verify, certificate)


@lru_cache(maxsize=8)
def _tls_context(verify: bool | str, certificate: str | tuple[str, str] | None) -> ssl.SSLContext:  # noqa: FBT001
    return make_tls_context(verify, certificate)


def make_tls_context(
    verify: bool | str,  # noqa: FBT001 - as botocore has it: yes, no, or a file
    certificate: str | tuple[str, str] | None,
) -> ssl.SSLContext:
    """The TLS settings that botocore would use.

    Args:
        verify: Whether to check the server's certificate, or the file of those who may have signed it.
        certificate: Our own: one file, or certificate and key.
    """
    context: ssl.SSLContext = _httpsession.create_urllib3_context()
    if verify:
        context.check_hostname = True
        context.load_verify_locations(_httpsession.get_cert_path(verify))
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(*([certificate] if isinstance(certificate, str) else certificate))
    return context

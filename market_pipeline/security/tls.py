"""The least version of TLS, also for the clients of boto3, which have no option for it."""

from __future__ import annotations

import ssl
from typing import Any

__all__ = ["require_tls", "tls_context", "tls_version"]


def tls_version(minimum: str) -> ssl.TLSVersion:
    """The version that 1.2 or 1.3 names."""
    return ssl.TLSVersion[f"TLSv{minimum.replace('.', '_')}"]


def tls_context(minimum: str) -> ssl.SSLContext:
    """Of a client that speaks no older version than 1.2 or 1.3, and trusts nobody yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = tls_version(minimum)
    return context


def require_tls(client: Any, minimum: str) -> None:
    """Has a client of boto3 speak no older version of TLS than 1.2 or 1.3."""
    session: Any = client._endpoint.http_session
    version = tls_version(minimum)
    made = session._get_ssl_context

    def context() -> ssl.SSLContext:  # of a proxy, too
        context: ssl.SSLContext = made()
        context.minimum_version = version
        return context

    session._get_ssl_context = context
    session._manager.connection_pool_kw["ssl_context"].minimum_version = version

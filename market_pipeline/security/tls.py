"""The least version of TLS for the clients of boto3, which have no option for it."""

from __future__ import annotations

import ssl
from typing import Any

__all__ = ["require_tls"]


def require_tls(client: Any, minimum: str) -> None:
    """Has a client of boto3 speak no older version of TLS than 1.2 or 1.3."""
    session: Any = client._endpoint.http_session
    version = ssl.TLSVersion[f"TLSv{minimum.replace('.', '_')}"]
    made = session._get_ssl_context

    def context() -> ssl.SSLContext:  # of a proxy, too
        context: ssl.SSLContext = made()
        context.minimum_version = version
        return context

    session._get_ssl_context = context
    session._manager.connection_pool_kw["ssl_context"].minimum_version = version

"""The session of requests for one address: TLS by a context of ours, and no login but its own."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth

__all__ = ["tls_session"]


class _Adapter(HTTPAdapter):
    """Connects with a TLS context of ours; requests loads the authorities into it.

    Those are the adapter's: an exporter sets those of its session, and REQUESTS_CA_BUNDLE any.
    """

    def __init__(self, context: ssl.SSLContext, authorities: str | None) -> None:
        self._context, self._authorities = context, authorities
        super().__init__()

    def send(self, *request: Any, **named: Any) -> requests.Response:
        if self._authorities is not None:
            named["verify"] = self._authorities
        return super().send(*request, **named)

    def init_poolmanager(self, *places: Any, **named: Any) -> None:
        super().init_poolmanager(*places, ssl_context=self._context, **named)

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=self._context, **named)


def tls_session(address: str, context: ssl.SSLContext, authorities: str | None) -> requests.Session:
    """A session that sends the login of one address and shows it nowhere.

    Args:
        address: With or without a login.
        context: For all its connections, also those through a proxy.
        authorities: PEM file of those that are trusted; None for the usual.
    """
    session = requests.Session()
    session.mount("https://", _Adapter(context, authorities))
    parts = urlsplit(address)
    if parts.username is None:
        session.auth = _unchanged  # left alone, requests would look into ~/.netrc
    else:
        # As bytes: of text, requests sends what is Latin-1, and raises at any other.
        login = (unquote_to_bytes(each or "") for each in (parts.username, parts.password))
        session.auth = HTTPBasicAuth(*login)
    return session


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request

"""The HTTP session for who takes figures: TLS as the settings want it, no redirect, no ~/.netrc."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth

from market_pipeline.config.settings import Settings

__all__ = ["push_session", "without_login"]


class _Adapter(HTTPAdapter):
    """Connects with a TLS context of ours; requests loads the authorities into it.

    Those are the adapter's: an exporter sets those of its session, and REQUESTS_CA_BUNDLE any.
    """

    def __init__(self, minimum: str, authorities: Path | None) -> None:
        self._authorities = authorities
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion[f"TLSv{minimum.replace('.', '_')}"]
        super().__init__()

    def send(self, *request: Any, **named: Any) -> requests.Response:
        if self._authorities is not None:
            named["verify"] = str(self._authorities)
        return super().send(*request, **named)

    def init_poolmanager(self, *places: Any, **named: Any) -> None:
        super().init_poolmanager(*places, ssl_context=self._context, **named)

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=self._context, **named)


def push_session(settings: Settings, address: str) -> requests.Session:
    """A session for one address, whose login it sends and shows nowhere."""
    session = requests.Session()
    session.mount("https://", _Adapter(settings.tls_minimum, settings.telemetry_ca_bundle))
    session.max_redirects = 0
    parts = urlsplit(address)
    if parts.username is None:
        session.auth = _unchanged  # left alone, requests would look into ~/.netrc
    else:
        session.auth = HTTPBasicAuth(unquote(parts.username), unquote(parts.password or ""))
    return session


def without_login(address: str) -> str:
    """The address as it may be asked for: a login in it goes into a header."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request

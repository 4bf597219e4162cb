"""The HTTP session for who takes figures: TLS as the settings want it, no redirect, no ~/.netrc."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import requests

from market_pipeline.config.settings import Settings
from market_pipeline.scrub.scrubber import learn
from market_pipeline.security.tls import tls_context
from market_pipeline.security.tls_session import tls_session

__all__ = ["collector_headers", "push_session", "without_login"]


def push_session(settings: Settings, address: str) -> requests.Session:
    """A session for one address, whose login it sends and shows nowhere."""
    trusted = settings.telemetry_ca_bundle
    session = tls_session(
        address, tls_context(settings.tls_minimum), None if trusted is None else str(trusted)
    )
    session.max_redirects = 0
    return session


def without_login(address: str) -> str:
    """The address as it may be asked for: a login in it goes into a header."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")


def collector_headers(settings: Settings) -> dict[str, str]:
    """What every collector of `otlp_url` is sent to know who pushes; values are secrets."""
    text = "" if settings.otlp_headers is None else settings.otlp_headers.get_secret_value()
    pairs = [each.partition("=") for each in text.split(",") if each]
    headers = {name.strip(): value.strip() for name, _, value in pairs}
    for value in headers.values():  # only all of them together were known as one secret
        learn(value, *value.split())
    return headers

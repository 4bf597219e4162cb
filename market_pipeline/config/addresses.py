"""Web addresses among the settings, some of them secret: an error never shows one."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from market_pipeline.config.values import blank_is_none

__all__ = ["OptionalEndpoint", "PageAddress", "SecretAddresses", "addresses_of"]


def addresses_of(secret: SecretStr | None) -> tuple[str, ...]:
    """The addresses of a comma-separated secret, each once."""
    text = "" if secret is None else secret.get_secret_value()
    return tuple(dict.fromkeys(address for address in map(str.strip, text.split(",")) if address))


def _require_http(address: str, what: str) -> None:
    try:
        parts = urlsplit(address)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # of urlsplit itself, whose text holds the address
        usable = False
    if not usable or re.search(r"\s", address):
        raise ValueError(f"expected {what} to be http://host/… or https://host/…")


def _usable_secret(value: SecretStr | None) -> SecretStr | None:
    for number, address in enumerate(addresses_of(value), start=1):
        _require_http(address, f"address {number}")
    return value


def _usable_page(value: str) -> str:
    _require_http(value, "it")
    if "@" in urlsplit(value).netloc:  # it stands in every alert
        raise ValueError("expected it to be http://host/… or https://host/… without a login")
    return value.rstrip("/")


def _usable_endpoint(value: str | None) -> str | None:
    if value is None:
        return None
    _require_http(value, "it")
    parts = urlsplit(value)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("expected it to be http://host/… or https://host/… without a login or `?`")
    return value.rstrip("/")


SecretAddresses = Annotated[
    SecretStr | None, BeforeValidator(blank_is_none), AfterValidator(_usable_secret)
]
"""Addresses separated by commas, or None."""

PageAddress = Annotated[str, AfterValidator(_usable_page)]
"""One address, without a slash at its end."""

OptionalEndpoint = Annotated[
    str | None, BeforeValidator(blank_is_none), AfterValidator(_usable_endpoint)
]
"""One address that holds no login, without a slash at its end, or None."""

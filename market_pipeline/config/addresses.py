"""Addresses among the settings, of the web and of mail: an error never shows one."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from market_pipeline.config.values import Names, blank_is_none

__all__ = [
    "MailServer",
    "Mailbox",
    "Mailboxes",
    "OptionalEndpoint",
    "PageAddress",
    "SecretAddresses",
    "addresses_of",
]

_MAIL = {"smtp", "smtps", "smtp+starttls"}
# `=?` begins what `email` decodes.
_MAILBOX = re.compile(
    r"(?!.*=\?)[\w.!#$%&'*+/=?^`{|}~-]+@(?:[\w-]+(?:\.[\w-]+)*|\[[\w.:]+\])", re.ASCII
)


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


def _usable_mailboxes(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(_usable_mailbox, value)))


def _usable_mailbox(value: str) -> str:
    if not _MAILBOX.fullmatch(value):
        raise ValueError("expected it to be name@host")
    return value


def _usable_mail_server(value: str) -> str:
    try:
        parts = urlsplit(value)
        # Its own parts again, so nothing else is in it: no login, path or space.
        port = "" if parts.port is None else f":{parts.port}"
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        usable = parts.port != 0 and value.lower() == f"{parts.scheme}://{host}{port}"
    except ValueError:
        usable = False
    if not usable or parts.scheme not in _MAIL or re.search(r"\s", value):
        raise ValueError(
            "expected it to be smtps://host:465, smtp+starttls://host:587 or smtp://host:25, "
            "without a login"
        )
    return value


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

Mailbox = Annotated[str, AfterValidator(_usable_mailbox)]
"""One mailbox, `name@host` and no more."""

Mailboxes = Annotated[Names, AfterValidator(_usable_mailboxes)]
"""Mailboxes separated by commas, each once."""

MailServer = Annotated[str, AfterValidator(_usable_mail_server)]
"""Scheme, host and port of a server of mail; the scheme says what is encrypted."""

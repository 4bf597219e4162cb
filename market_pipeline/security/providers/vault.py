"""Secrets of Vault, or of OpenBao: one secret of a key-value store, version 2.

Source: "KV secrets engine, version 2 (API)" of the Vault documentation.
"""

from __future__ import annotations

import json
import ssl
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from market_pipeline.config.secret_values import learn_secret
from market_pipeline.security.envelope import read_whole
from market_pipeline.security.providers.checked import refused, required, texts
from market_pipeline.security.tls import tls_version

if TYPE_CHECKING:
    from market_pipeline.config.settings import Settings

__all__ = ["read", "token_seconds"]

_NAME = "vault"
_WAIT_SECONDS = 10.0
_MAX_BYTES = 10_000
_MAX_ANSWER_BYTES = 1 << 20
_ANSWERS: dict[int, tuple[str, str]] = {
    HTTPStatus.FORBIDDEN: ("token", "Vault does not accept the token for that path"),
    HTTPStatus.NOT_FOUND: ("path", "Vault has no such secret"),
    HTTPStatus.SERVICE_UNAVAILABLE: ("address", "Vault is sealed or in maintenance"),
}


def read(settings: Settings) -> dict[str, str]:
    """What the secret at `PIPELINE_SECRETS__PATH` holds now.

    Raises:
        SettingsError: Vault cannot be asked, or what it has is not usable.
    """
    mount, _, path = required(_NAME, "path", settings.secrets.path).strip("/").partition("/")
    if not path:
        raise refused(_NAME, "path", "expected mount/path")
    return texts(_NAME, _data(_asked(settings, f"{quote(mount)}/data/{quote(path)}")))


def token_seconds(settings: Settings) -> float | None:
    """How long the token is still good for; None for ever.

    Raises:
        SettingsError: Vault cannot be asked, or does not say.
    """
    body = _asked(settings, "auth/token/lookup-self")
    try:
        data = json.loads(body)["data"]
        return float(data["ttl"]) if data["expire_time"] else None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise refused(_NAME, "token", "Vault does not say until when it is good") from None


def _asked(settings: Settings, what: str) -> bytes:
    """What Vault answers, if it answers well.

    Raises:
        SettingsError: It does not.
    """
    address = required(_NAME, "address", settings.secrets.address)
    try:
        with httpx.stream(
            "GET",
            f"{address}/v1/{what}",
            headers={"X-Vault-Token": _token(settings)},
            verify=_context(settings),
            timeout=_WAIT_SECONDS,
        ) as answer:
            body = _body(answer)
    except httpx.HTTPError as error:  # its text may hold what was sent
        why = _of_tls(error, settings) or ("address", f"({type(error).__name__})")
        raise refused(_NAME, why[0], f"Vault cannot be asked {why[1]}") from None
    if answer.status_code != HTTPStatus.OK:
        other = ("address", f"Vault answered {answer.status_code}")
        raise refused(_NAME, *_ANSWERS.get(answer.status_code, other))
    return body


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.secrets.ca_bundle)
    except OSError:
        raise refused(
            _NAME, "ca_bundle", "it cannot be read as a PEM file of authorities"
        ) from None
    context.minimum_version = tls_version(settings.tls_minimum)
    return context


def _of_tls(error: BaseException | None, settings: Settings) -> tuple[str, str] | None:
    """The setting to look at, and why, if TLS is why; else None."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    if isinstance(error, ssl.SSLCertVerificationError):
        return "ca_bundle", "(its TLS certificate was not accepted)"
    minimum = f"TLS {settings.tls_minimum} or newer (PIPELINE_TLS_MINIMUM)"
    return "address", f"(it was not reached by {minimum})"


def _body(answer: httpx.Response) -> bytes:
    """What Vault sends, if it is little and soon there."""
    body, until_s = b"", time.monotonic() + _WAIT_SECONDS
    for chunk in answer.iter_bytes():
        body += chunk
        if len(body) > _MAX_ANSWER_BYTES or time.monotonic() > until_s:
            raise refused(_NAME, "address", "the answer is too large or too slow for Vault")
    return body


def _data(body: bytes) -> Any:
    try:
        return json.loads(body)["data"]["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise refused(_NAME, "path", "expected a key-value store of version 2") from None


def _token(settings: Settings) -> str:
    secrets = settings.secrets
    if secrets.token is not None:
        token = secrets.token.get_secret_value()
        if not token.isascii() or not token.isprintable():
            raise refused(_NAME, "token", "it holds a character that no token has")
        return token
    if secrets.token_file is None:
        raise refused(_NAME, "token", "it is needed and not set, nor is the file")
    try:
        token = read_whole(secrets.token_file, _MAX_BYTES).decode("ascii").strip()
    except OSError as error:
        raise refused(_NAME, "token_file", f"it cannot be read: {error.strerror}") from None
    except ValueError:
        token = ""
    if not token or not token.isprintable():
        raise refused(_NAME, "token_file", "it holds no token")
    learn_secret(token)
    return token

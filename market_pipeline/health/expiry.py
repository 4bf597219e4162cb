"""Certificates and credentials that end some day: of whom is spoken to, and of whom is trusted."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from market_pipeline.config.settings import Settings
from market_pipeline.config.transport import addresses_spoken_to
from market_pipeline.doctor.finding import Finding
from market_pipeline.errors import SettingsError
from market_pipeline.health._server_looks import (
    WAIT_S,
    Server,
    certificate_ends,
    ends_in,
    under_way_s,
)

__all__ = [
    "Expiry",
    "certificates",
    "check_bundles",
    "check_expiries",
    "check_servers",
    "session_of_store",
    "token_for_vault",
]

_PORTS = {"https": 443, "wss": 443, "smtps": 465}
"""Those whose certificate is shown first, before anything is sent."""
_WARN_DAYS = 14.0
_RENEWED_WARN_DAYS = 1 / 24
_SECONDS_PER_DAY = 86_400.0
_SESSION_END = "AWS_CREDENTIAL_EXPIRATION"
_RENEW = {
    "certificate": "Have it renewed by who runs that server, or put the new authority into the "
    "file.",
    "credential": "Make a new one, and put it where the old one stands.",
}

Kind = Literal["certificate", "credential"]


@dataclass(frozen=True, slots=True)
class Expiry:
    """What ends at a time.

    Attributes:
        kind: What it is.
        setting: The setting, in lower case, that names it or where it is shown.
        text: What it is for a person, without an address.
        at_s: When it ends, Unix time.
        is_renewed: Whether somebody replaces it by itself, so that it ends soon and often.
    """

    kind: Kind
    setting: str
    text: str
    at_s: float
    is_renewed: bool = False


def check_expiries(found: Iterable[Expiry], kind: Kind, now_s: float) -> Iterator[Finding]:
    """Is everything still good for a while?"""
    known = sorted((each for each in found if each.kind == kind), key=lambda each: each.at_s)
    for each in known:
        left = (each.at_s - now_s) / _SECONDS_PER_DAY
        warn_days = _RENEWED_WARN_DAYS if each.is_renewed else _WARN_DAYS
        if left < warn_days:
            end = datetime.fromtimestamp(each.at_s, UTC)
            word = "expires" if left > 0 else "expired"
            text = f"{each.text} {word} {end:%Y-%m-%d %H:%M} UTC"
            yield "warn" if left > 0 else "error", text, _RENEW[kind]
            continue
        yield "ok", f"{each.text} is good for {left:,.0f} days"
    if not known:
        yield "ok", f"no {kind} whose end is known"


def certificates(settings: Settings, now_s: float) -> list[Expiry]:
    """The certificates of the servers that the settings name, and of the authorities in files.

    Of a file it is the first end that lies ahead, as an authority that has ended is in no one's way
    beside others; the last one where all have ended.

    Who does not answer within five seconds is passed over: others find that out. Nothing is sent
    but a greeting, and of a certificate only its end counts.
    """
    found = [
        Expiry("certificate", name, f"an authority in PIPELINE_{name.upper()}", at_s)
        for name, path in _bundles(settings).items()
        if (at_s := _next_end(path, now_s)) is not None
    ]
    servers = _servers(settings)
    ends = certificate_ends({server for _, _, server in servers})
    return found + [
        Expiry("certificate", name, f"the certificate of {text}", ends[server])
        for name, text, server in servers
        if server in ends
    ]


def check_servers(settings: Settings) -> Iterator[Finding]:
    """Does a look at a server's certificate hang that an earlier look at the health has begun?"""
    for _, text, server in _servers(settings):
        seconds = under_way_s(server)
        if seconds > 2 * WAIT_S:
            yield (
                "warn",
                f"the look at the certificate of {text} has been under way for {seconds:,.0f} s, "
                "so its name is not being found",
                "See whether the name servers of this machine answer: `getent hosts` with the name "
                "of that host.",
            )


def check_bundles(settings: Settings) -> Iterator[Finding]:
    """Can each file of authorities be read? Without it nobody who is to be trusted by it is."""
    for name, path in _bundles(settings).items():
        try:  # as whoever connects with it does: one that is cut off is refused as a whole
            ssl.create_default_context(cafile=path)
        except OSError:
            yield (
                "error",
                f"PIPELINE_{name.upper()}: {path} cannot be read as certificates in PEM",
                "Put the authority's certificates there, each whole from BEGIN to END.",
            )


def session_of_store() -> list[Expiry]:
    """The session of the store's keys, where the environment says its end.

    Raises:
        SettingsError: It says something else.
    """
    end = os.environ.get(_SESSION_END)
    if not end:
        return []
    try:
        at_s = datetime.fromisoformat(end).timestamp()
    except (ValueError, OverflowError):
        problem = f"{_SESSION_END}: expected a time, such as 2026-03-01T12:00:00Z"
        raise SettingsError([problem]) from None
    return [Expiry("credential", "lake_uri", "the session of the store's keys", at_s)]


def token_for_vault(settings: Settings, now_s: float) -> list[Expiry]:
    """Vault's token, where secrets are Vault's and it ends.

    Raises:
        SettingsError: Vault cannot be asked.
    """
    secrets = settings.secrets
    if secrets.provider != "vault":
        return []
    from market_pipeline.security.providers.vault import token_seconds  # noqa: PLC0415

    left_s = token_seconds(settings)
    if left_s is None:
        return []
    is_renewed = secrets.token is None
    name = "secrets__token_file" if is_renewed else "secrets__token"
    return [Expiry("credential", name, "the token for Vault", now_s + left_s, is_renewed)]


def _servers(settings: Settings) -> list[tuple[str, str, Server]]:
    """The servers that show a certificate first: the setting, which address of it, and where."""
    return [
        (name, f"address {number} in PIPELINE_{name.upper()}", server)
        for name, of_setting in addresses_spoken_to(settings).items()
        for number, address in enumerate(of_setting, start=1)
        if (server := _server(address)) is not None
    ]


def _server(address: str) -> Server | None:
    """Where an address leads; None if no certificate is shown there first."""
    with suppress(ValueError):
        parts = urlsplit(address)
        if parts.hostname and parts.scheme in _PORTS:
            return parts.hostname, parts.port or _PORTS[parts.scheme]
    return None


def _bundles(settings: Settings) -> dict[str, Path]:
    """The files of authorities, by the settings that name them."""
    files = {
        "lake_ca_bundle": settings.lake_ca_bundle,
        "alert_ca_bundle": settings.alert_ca_bundle,
        "telemetry_ca_bundle": settings.telemetry_ca_bundle,
        "capture__ca_bundle": settings.capture.ca_bundle,
        "secrets__ca_bundle": settings.secrets.ca_bundle,
    }
    return {name: path for name, path in files.items() if path is not None}


def _next_end(path: Path, now_s: float) -> float | None:
    """When the next of the certificates in a file ends; None where one cannot be read."""
    with suppress(OSError, ValueError):
        ends = ends_in(path.read_bytes())
        return min((each for each in ends if each > now_s), default=max(ends))
    return None

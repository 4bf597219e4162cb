"""How other machines are spoken to: the least version of TLS, and which addresses have none."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field

from market_pipeline.config.addresses import addresses_of
from market_pipeline.config.values import Names

if TYPE_CHECKING:
    from market_pipeline.config.settings import Settings

__all__ = [
    "TlsVersion",
    "TransportSettings",
    "addresses_spoken_to",
    "is_loopback",
    "spoken_to_in_clear",
]

TlsVersion = Literal["1.2", "1.3"]
_SECURE = {"http": "https://", "ws": "wss://", "smtp": "smtps:// or smtp+starttls://"}
"""What the address of another machine begins with, by how one begins that has no TLS."""


class TransportSettings(BaseModel):
    """The part of the settings that is about how other machines are spoken to; see `Settings`."""

    tls_minimum: TlsVersion = Field(
        default="1.3",
        description=(
            "The least version of TLS that a store or a receiver of alerts must offer: 1.3, or 1.2 "
            "for those that are older."
        ),
    )
    plain_hosts: Names = Field(
        default=(),
        description=(
            "Hosts besides this machine that may be spoken to without TLS (http://, ws://, "
            "smtp://), separated by commas: whatever is sent to them can be read on the way."
        ),
    )


def addresses_spoken_to(settings: Settings) -> dict[str, tuple[str, ...]]:
    """The addresses of other machines by the setting that names them; empty where it names none."""
    capture = settings.capture
    return {
        "alert_webhook_urls": addresses_of(settings.alert_webhook_urls),
        "alert_slack_urls": addresses_of(settings.alert_slack_urls),
        "alert_alertmanager_urls": addresses_of(settings.alert_alertmanager_urls),
        "alert_email_server": (settings.alert_email_server,),
        "watchdog_url": addresses_of(settings.watchdog_url),
        "otlp_url": addresses_of(settings.otlp_url),
        "pushgateway_url": addresses_of(settings.pushgateway_url),
        "lake_endpoint_url": (settings.lake_endpoint_url or "",),
        "capture__websocket_urls": capture.websocket_urls,
        "capture__rest_url": (capture.rest_url or "",),
        "secrets__address": (settings.secrets.address or "",),
    }


def spoken_to_in_clear(settings: Settings) -> Iterator[tuple[str, str]]:
    """The settings that name such an address of another machine, each with what is wrong with it.

    No text shows an address. The hosts of `plain_hosts` are the ones that the user excepts.
    """
    for name, of_setting in addresses_spoken_to(settings).items():
        for number, address in enumerate(of_setting, start=1):
            parts = urlsplit(address)
            host = parts.hostname or ""
            if parts.scheme not in _SECURE or is_loopback(host) or host in settings.plain_hosts:
                continue
            yield (
                name,
                f"expected address {number} to begin with {_SECURE[parts.scheme]}, as whatever is "
                "sent to it could be read on the way; PIPELINE_PLAIN_HOSTS names hosts for which "
                "that is accepted",
            )


def is_loopback(host: str) -> bool:
    """Whether a name or address is of this machine, as far as the text tells."""
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"

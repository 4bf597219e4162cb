"""The receivers of alerts, and how one alert is handed to one of them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

import requests
from requests.auth import HTTPBasicAuth
from requests.utils import get_auth_from_url

from market_pipeline.addresses import addresses_of
from market_pipeline.alerts.alert import Alert
from market_pipeline.alerts.payloads import Links, alertmanager_payload, line, slack_payload
from market_pipeline.settings import Settings

__all__ = ["LOGGER", "Refused", "Target", "configured_targets", "send"]

LOGGER = logging.getLogger("market_pipeline.alerts")

# At DEBUG it logs the path of every request, which is the secret part of a webhook's address.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)

_PAYLOADS: dict[str, Callable[[Alert, Links], dict[str, Any]]] = {
    "webhook": alertmanager_payload,
    "slack": slack_payload,
}


@dataclass(frozen=True, slots=True)
class Target:
    """One receiver.

    Attributes:
        kind: How an alert is worded for it.
        url: Its address, a secret; empty for the log.
    """

    kind: Literal["log", "webhook", "slack"]
    url: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """What may be shown of it: its kind and a few digits that tell its address from others."""
        if self.kind == "log":
            return "log"
        return f"{self.kind}-{hashlib.sha256(self.url.encode()).hexdigest()[:8]}"


class Refused(Exception):
    """A receiver did not take an alert; the text shows nothing of its address.

    Attributes:
        retry_after_seconds: How long the receiver asked to be left alone; 0 if it did not.
    """

    def __init__(self, reason: str, retry_after_seconds: float = 0.0) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(reason)


def configured_targets(settings: Settings) -> tuple[Target, ...]:
    """Every receiver that the settings name, the log first."""
    webhooks = [Target("webhook", url) for url in addresses_of(settings.alert_webhook_urls)]
    slack = [Target("slack", url) for url in addresses_of(settings.alert_slack_urls)]
    return (*([Target("log")] if settings.alert_log else []), *webhooks, *slack)


def send(target: Target, alert: Alert, links: Links, *, timeout_seconds: float) -> None:
    """Hands an alert to a receiver; it has it if this returns.

    No redirect is followed, TLS certificates are verified, and the answer's body is not read.

    Args:
        target: The receiver.
        alert: What to tell.
        links: Where it points to.
        timeout_seconds: How long to wait for a connection, and then for the answer.

    Raises:
        Refused: It did not take it, or did not say so in time.
    """
    if target.kind == "log":
        level = logging.ERROR if alert.severity == "ERROR" else logging.WARNING
        LOGGER.log(level, "%s", line(alert, links))
        return
    try:
        with requests.Session() as session:
            session.auth = _login(target.url)
            answer = session.post(
                target.url,
                json=_PAYLOADS[target.kind](alert, links),
                timeout=timeout_seconds,
                allow_redirects=False,
                stream=True,
            )
            answer.close()
    # Texts and causes of these errors hold the address: only their kind is told.
    except requests.exceptions.SSLError:
        raise Refused("its TLS certificate was not accepted") from None
    except requests.exceptions.Timeout:
        raise Refused(f"no answer within {timeout_seconds:g} s") from None
    except requests.exceptions.ConnectionError:
        raise Refused("no connection to it") from None
    except (requests.exceptions.RequestException, ValueError) as error:
        raise Refused(f"it cannot be asked ({type(error).__name__})") from None
    if not HTTPStatus.OK <= answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
        raise Refused(f"it answered {answer.status_code}", _retry_after(answer))


def _login(url: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """Those of the address itself, or none: left alone, requests would look into ~/.netrc."""
    user, password = get_auth_from_url(url)
    return HTTPBasicAuth(user, password) if user or password else _unchanged


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _retry_after(answer: requests.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0

"""The receivers of alerts, and how one alert is handed to one of them."""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from market_pipeline.alerts import _post as post
from market_pipeline.alerts.alert import Alert
from market_pipeline.alerts.payloads import (
    Links,
    alertmanager_payload,
    line,
    mail_payload,
    slack_payload,
    webhook_payload,
)
from market_pipeline.config.addresses import addresses_of
from market_pipeline.config.settings import Settings
from market_pipeline.config.transport import TlsVersion
from market_pipeline.config.values import JsonValue

__all__ = [
    "LOGGER",
    "Refused",
    "Target",
    "configured_targets",
    "post_to",
    "send",
    "watchdogs",
]

LOGGER = logging.getLogger("market_pipeline.alerts")

_START_SECONDS = 20.0
"""Beyond the time limit, for the process that posts to start on a busy machine."""

_PAYLOADS: dict[str, Callable[[Alert, Links], JsonValue]] = {
    "webhook": webhook_payload,
    "slack": slack_payload,
    "alertmanager": lambda alert, links: alertmanager_payload(alert, links, time.time_ns()),
    "email": mail_payload,
}
_PATHS = {"alertmanager": "/api/v2/alerts"}
"""What is added to the path of a receiver's address."""


@dataclass(frozen=True, slots=True)
class Mail:
    """Whom a mail is from and for, and the login of the server that it is handed to.

    Attributes:
        sender, recipient: Mailboxes.
        user: Who logs in.
        password: A secret; None if there is no login.
    """

    sender: str
    recipient: str
    user: str
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """One receiver.

    Attributes:
        kind: How an alert is worded for it.
        url: Its address, a secret, or that of a server of mail; empty for the log.
        tls_minimum: The least version of TLS it must offer, where its address has any.
        ca_bundle: PEM file of the authorities that are trusted; None for the usual.
        mail: Of a mailbox only.
    """

    kind: Literal["log", "webhook", "slack", "alertmanager", "email", "watchdog"]
    url: str = field(default="", repr=False)
    tls_minimum: TlsVersion = "1.3"
    ca_bundle: Path | None = None
    mail: Mail | None = None

    @property
    def name(self) -> str:
        """What may be shown of it: its kind and a few digits that tell its address from others.

        A mailbox stays the same one if another server takes its mail.
        """
        if self.kind == "log":
            return "log"
        address = self.url if self.mail is None else self.mail.recipient
        return f"{self.kind}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"


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
    trust = (settings.tls_minimum, settings.alert_ca_bundle)
    webhooks = [Target("webhook", url, *trust) for url in addresses_of(settings.alert_webhook_urls)]
    slack = [Target("slack", url, *trust) for url in addresses_of(settings.alert_slack_urls)]
    alertmanagers = [
        Target("alertmanager", url, *trust)
        for url in addresses_of(settings.alert_alertmanager_urls)
    ]
    mails = [
        Target("email", settings.alert_email_server, *trust, each) for each in _mails(settings)
    ]
    log = [Target("log")] if settings.alert_log else []
    return (*log, *webhooks, *slack, *alertmanagers, *mails)


def _mails(settings: Settings) -> Iterator[Mail]:
    sender, password = settings.alert_email_from, settings.alert_email_password
    for recipient in settings.alert_email_to:
        yield Mail(
            sender,
            recipient,
            settings.alert_email_user or sender,
            None if password is None else password.get_secret_value(),
        )


def watchdogs(settings: Settings) -> tuple[Target, ...]:
    """Who is to notice when this machine says nothing any more; they take no alerts."""
    trust = (settings.tls_minimum, settings.alert_ca_bundle)
    return tuple(Target("watchdog", url, *trust) for url in addresses_of(settings.watchdog_url))


def send(target: Target, alert: Alert, links: Links, *, timeout_seconds: float) -> None:
    """Hands an alert to a receiver; it has it if this returns.

    No redirect is followed, TLS certificates are verified, and the answer's body is not read.
    Nothing of an attempt outlives its time limit, whatever the receiver does: `post` says why.

    Args:
        target: The receiver.
        alert: What to tell.
        links: Where it points to.
        timeout_seconds: The time for all of it, from looking up its address to its answer.

    Raises:
        Refused: It did not take it, or did not say so in time.
    """
    if target.kind == "log":
        level = logging.ERROR if alert.severity == "ERROR" else logging.WARNING
        LOGGER.log(level, "%s", line(alert, links))
        return
    post_to(target, _PAYLOADS[target.kind](alert, links), timeout_seconds)


def post_to(target: Target, payload: JsonValue, timeout_seconds: float) -> None:
    """Posts JSON to the address of a receiver, or a mail, with the limits of `send`.

    Raises:
        Refused: As `send` does.
    """
    answer = _posted(target, payload, timeout_seconds)
    if answer.refused is not None:
        raise Refused(answer.refused)
    if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        raise Refused(f"it answered {answer.status}", answer.retry_after_seconds)


class _Answer(msgspec.Struct):
    """The last line that `_post.main` writes."""

    status: int = 0
    retry_after_seconds: float = 0.0
    refused: str | None = None


_answer = msgspec.json.Decoder(_Answer)


def _with_path(url: str, path: str | None) -> str:
    """With what is added to its path, before a query: behind it another page says yes."""
    parts = urlsplit(url)
    return url if path is None else parts._replace(path=parts.path.rstrip("/") + path).geturl()


def _posted(target: Target, payload: JsonValue, timeout_seconds: float) -> _Answer:
    """What `_post.main` reported. The address goes through a pipe: anybody may see arguments."""
    message = {
        "url": _with_path(target.url, _PATHS.get(target.kind)),
        "payload": payload,
        "seconds": timeout_seconds,
        "tls_minimum": target.tls_minimum,
        "ca_bundle": None if target.ca_bundle is None else str(target.ca_bundle),
        "mail": None if target.mail is None else asdict(target.mail),
    }
    try:
        ended = subprocess.run(
            [sys.executable, "-P", str(Path(post.__file__))],
            input=json.dumps(message).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a traceback would show the address
            timeout=timeout_seconds + _START_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Refused("it was not asked: this machine is too busy to start a process") from None
    except OSError as error:
        raise Refused(f"it was not asked: no process could be started ({error})") from None
    if ended.returncode == 0:
        return _answer.decode(ended.stdout.splitlines()[-1])
    if ended.returncode == -signal.SIGALRM:
        raise Refused(f"no answer within {timeout_seconds:g} s")
    raise Refused(f"no answer: the process that asked ended with {ended.returncode}")

"""Settings of alerts: who receives them, how often they are tried, and where they lead to."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, SecretStr

from market_pipeline.config.addresses import (
    Mailbox,
    Mailboxes,
    MailServer,
    PageAddress,
    SecretAddresses,
)
from market_pipeline.config.values import Integer, OptionalPath, OptionalText, Real, blank_is_none

__all__ = ["AlertSettings"]


class AlertSettings(BaseModel):
    """The part of the settings that is about alerts; see `Settings`."""

    alert_webhook_urls: SecretAddresses = Field(
        default=None,
        description=(
            "Addresses that take alerts in the payload of Alertmanager's webhooks, separated by "
            "commas. A secret."
        ),
    )
    alert_slack_urls: SecretAddresses = Field(
        default=None,
        description=(
            "Addresses of Slack-compatible incoming webhooks that take alerts, separated by "
            "commas. A secret."
        ),
    )
    alert_alertmanager_urls: SecretAddresses = Field(
        default=None,
        description=(
            "Addresses of Alertmanagers that take alerts through their own API, such as "
            "http://127.0.0.1:9093, separated by commas. A secret."
        ),
    )
    alert_email_to: Mailboxes = Field(
        default=(), description="Mailboxes that take alerts, separated by commas."
    )
    alert_email_from: Mailbox = Field(
        default="market-pipeline@localhost", description="Whom these mails are from."
    )
    alert_email_server: MailServer = Field(
        default="smtp://127.0.0.1:25",
        description=(
            "The server that mails are handed to: smtps://host:465, smtp+starttls://host:587, or "
            "without TLS smtp://host:25."
        ),
    )
    alert_email_user: OptionalText = Field(
        default=None,
        description="Who logs in to that server; without it the mailbox of `alert_email_from`.",
    )
    alert_email_password: Annotated[SecretStr | None, BeforeValidator(blank_is_none)] = Field(
        default=None,
        description="The password for that server; without it there is no login. A secret.",
    )
    watchdog_url: SecretAddresses = Field(
        default=None,
        description=(
            "Where `market-pipeline health --alert` says at each look that this machine is alive, "
            "for a monitor elsewhere that notices when it is not. A secret."
        ),
    )
    alert_ca_bundle: OptionalPath = Field(
        default=None,
        description=(
            "A PEM file with the certificate authorities to trust for receivers of alerts, instead "
            "of the usual ones."
        ),
    )
    alert_log: bool = Field(
        default=True, description="Whether each alert is also a line of the daemon's log."
    )
    alert_interval_seconds: Integer = Field(
        default=30,
        ge=1,
        le=3_600,
        description="Seconds between two looks for ended runs, and for alerts to be delivered.",
    )
    alert_timeout_seconds: Real = Field(
        default=5.0,
        gt=0,
        le=15,
        description=(
            "Seconds for one attempt to hand an alert to a receiver, from looking up its address "
            "to its answer."
        ),
    )
    alert_attempts: Integer = Field(
        default=20,
        ge=1,
        description="Attempts to deliver an alert before it is put with the dead letters.",
    )
    alert_first_retry_seconds: Real = Field(
        default=30.0,
        gt=0,
        description="Seconds until the second attempt; each later wait is twice as long.",
    )
    alert_longest_retry_seconds: Real = Field(
        default=3600.0,
        gt=0,
        description="The longest wait in seconds between two attempts.",
    )
    ui_url: PageAddress = Field(
        default="http://127.0.0.1:3000",
        description="Where the UI is to be reached; alerts link to their run there.",
    )
    docs_url: str = Field(
        default="docs",
        min_length=1,
        description="Where these pages are to be read: an address or a folder; alerts name theirs.",
    )

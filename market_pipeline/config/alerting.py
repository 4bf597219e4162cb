"""Settings of alerts: who receives them, how often they are tried, and where they lead to."""

from __future__ import annotations

from pydantic import BaseModel, Field

from market_pipeline.config.addresses import PageAddress, SecretAddresses
from market_pipeline.config.values import Integer, OptionalPath, Real

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

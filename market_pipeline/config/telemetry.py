"""Settings of telemetry: what the pipeline keeps about itself, where, and where it is served."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr

from market_pipeline.config.addresses import SecretAddresses
from market_pipeline.config.values import Integer, OptionalPath, blank_is_none

__all__ = ["TelemetrySettings"]


_LEAST_TOKEN = 16
_HEADER = re.compile(r"[\w.!#$%&'*+^`|~-]+\s*=[ -~]+", re.ASCII)


def _address(value: str) -> str:
    return str(IPv4Address(value))


def _usable_token(value: SecretStr | None) -> SecretStr | None:
    text = "" if value is None else value.get_secret_value()
    if value is not None and (len(text) < _LEAST_TOKEN or not text.isascii() or " " in text):
        raise ValueError(f"expected {_LEAST_TOKEN} characters of ASCII or more, without a space")
    return value


def _usable_headers(value: SecretStr | None) -> SecretStr | None:
    given = [] if value is None else value.get_secret_value().split(",")
    for number, each in enumerate(given, start=1):
        if not _HEADER.fullmatch(each.strip()):  # it would be left out without a word
            raise ValueError(f"expected header {number} to be name=value, in characters of ASCII")
    return value


class TelemetrySettings(BaseModel):
    """The part of the settings that is about telemetry; see `Settings`."""

    metrics: bool = Field(
        default=True,
        description=(
            "Whether runs, captures and the daemon keep figures about themselves in "
            "`metrics` inside `data_dir`."
        ),
    )
    metrics_port: Integer = Field(
        default=9464,
        ge=1,
        le=65_535,
        description="The port at which `telemetry serve` has them for Prometheus.",
    )
    metrics_host: Annotated[str, AfterValidator(_address)] = Field(
        default="127.0.0.1",
        description=(
            "The IPv4 address at which `telemetry serve` listens; one that other machines reach "
            "needs `metrics_token`."
        ),
    )
    metrics_token: Annotated[
        SecretStr | None, BeforeValidator(blank_is_none), AfterValidator(_usable_token)
    ] = Field(
        default=None,
        description=(
            "What `telemetry serve` has clients show (`Authorization: Bearer …`), 16 characters or "
            "more. A secret."
        ),
    )
    traces: bool = Field(
        default=True,
        description=(
            "Whether runs keep what they did when, as spans, in `traces` inside `data_dir`."
        ),
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="The least level of what is logged: debug, info, warning or error.",
    )
    log_to: Literal["file", "journald", "none"] = Field(
        default="file",
        description=(
            "Where processes log to: file (one for each below `log_dir`), journald, or none."
        ),
    )
    log_dir: OptionalPath = Field(
        default=None,
        description="The folder of the files of logs; without it `logs` inside `data_dir`.",
    )
    otlp_url: SecretAddresses = Field(
        default=None,
        description=(
            "The address of a collector, as https://host:4318, to which `telemetry serve` pushes "
            "all figures and new spans every 30 s by OTLP over HTTP. A secret."
        ),
    )
    otlp_headers: Annotated[
        SecretStr | None, BeforeValidator(blank_is_none), AfterValidator(_usable_headers)
    ] = Field(
        default=None,
        description=(
            "Headers for the collector, as name=value, separated by commas: what it asks for to "
            "know who pushes. A secret."
        ),
    )
    pushgateway_url: SecretAddresses = Field(
        default=None,
        description=(
            "The address of a Pushgateway, to which runs push what the last run of each step took. "
            "A secret."
        ),
    )
    telemetry_ca_bundle: OptionalPath = Field(
        default=None,
        description=(
            "A PEM file of the authorities that are trusted for both, instead of the usual ones."
        ),
    )

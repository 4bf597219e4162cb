"""Typed settings from every source over their defaults, all problems at once.

The environment is before `.env`, that before the folder of secrets; then come the provider of
secrets and `config.yaml`.

Use `load_settings()`. It refuses unknown keys in every source and lists everything that is wrong
in one `SettingsError`, so that a user fixes a file once and not once per mistake.

Secrets are the fields of type `SecretStr`: refused in `config.yaml`, and never shown. The values of
settings are kept out of error texts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, SecretStr, ValidationError

from market_pipeline.config._layers import (
    CREDENTIAL_VARIABLES,
    ENV_PREFIX,
    Known,
    Layer,
    provider_layer,
    read_layers,
)
from market_pipeline.config.alerting import AlertSettings
from market_pipeline.config.backup import BackupSettings
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.config.env_copies import ENV_FILE, copies
from market_pipeline.config.golden import GoldenSettings
from market_pipeline.config.lake import LakeSettings
from market_pipeline.config.listeners import unguarded
from market_pipeline.config.providers import SecretsSettings, provided
from market_pipeline.config.retention import RetentionSettings
from market_pipeline.config.security import SecuritySettings
from market_pipeline.config.telemetry import TelemetrySettings
from market_pipeline.config.transport import spoken_to_in_clear
from market_pipeline.config.values import (
    AbsolutePath,
    Day,
    Integer,
    OptionalPath,
    Real,
    SettingsModel,
    Widths,
)
from market_pipeline.errors import SettingsError

__all__ = [
    "CREDENTIAL_VARIABLES",
    "ENV_FILE",
    "ENV_PREFIX",
    "FIELDS",
    "SECRETS",
    "Settings",
    "load_settings",
    "store_credentials",
    "usable_settings",
]

# In the environment boto3 reads them itself.
_NAMING_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE")


def _cpu_count() -> int:
    """How many CPUs this process may use (a container may be given fewer than the machine has)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Settings(
    AlertSettings,
    BackupSettings,
    LakeSettings,
    RetentionSettings,
    SecuritySettings,
    TelemetrySettings,
):
    """Everything a user may set, immutable once loaded.

    Each field is the environment variable `PIPELINE_<FIELD>` and the key `<field>` of
    `config.yaml`, which `load_settings()` reads; this class knows only what it is given. A field of
    a section is `PIPELINE_<SECTION>__<FIELD>`, and `<field>` below `<section>` in `config.yaml`.
    """

    model_config = SettingsModel.model_config

    config_file: AbsolutePath = Field(
        default=Path("config.yaml"),
        description=(
            "The YAML file of settings. It can be set in the environment or in .env only, and it "
            "must exist if it is set."
        ),
    )
    secrets_dir: OptionalPath = Field(
        default=None,
        description=(
            "A folder with a file for each secret, or other setting, named as it, as Kubernetes "
            "mounts them. It can be set in the environment or in .env only."
        ),
    )
    instruments_file: AbsolutePath = Field(
        default=Path("instruments.yaml"),
        description="The YAML file that lists the instruments.",
    )
    start_date: Day = Field(
        default=date(2024, 1, 1),
        description="The first daily partition, a UTC day written YYYY-MM-DD.",
    )
    depth_interval_ms: Integer = Field(
        default=100,
        ge=0,
        le=86_400_000,
        description="Milliseconds between two rows of books.depth; 0 means one row per message.",
    )
    checkpoint_seconds: Integer = Field(
        default=300,
        ge=1,
        le=86_400,
        description="Seconds of market time between two full-depth checkpoints of a book.",
    )
    bar_seconds: Widths = Field(
        default=(1, 60, 300, 3_600, 86_400),
        description=(
            "Widths of the bars in metrics.bars in seconds, separated by commas; each divides the "
            "next and all divide the day."
        ),
    )
    metrics_seconds: Widths = Field(
        default=(1, 60),
        description=(
            "Widths of the intervals in metrics.book_metrics in seconds, separated by commas; each "
            "divides the next and all divide the day."
        ),
    )
    reference_minutes: Integer = Field(
        default=3,
        ge=0,
        le=1_440,
        description=(
            "Minutes of each instrument and day that a plain second implementation rebuilds to "
            "compare, each as far as its part of the check's cost goes; 0 turns it off."
        ),
    )
    threads: Integer = Field(
        default_factory=_cpu_count,
        ge=1,
        description="How many instruments of a day may be worked on at once.",
    )
    memory_budget_mb: Integer = Field(
        default=1024,
        ge=1,
        description=(
            "Megabytes the instruments worked on at once may use together, by their messages and "
            "trades; a small budget lowers their number, never below one."
        ),
    )
    lock_timeout_seconds: Real = Field(
        default=120.0,
        ge=0,
        description="Seconds to wait for another process that is writing to the warehouse.",
    )
    vendor_lag_hours: Real = Field(
        default=4.0,
        ge=0,
        description=(
            "Hours after the end of a UTC day until its raw files are due: before that a day "
            "without files is pending, after it the day is missing."
        ),
    )
    capture: CaptureSettings = Field(
        default=CaptureSettings(), description="What the live capture records, and how."
    )
    golden: GoldenSettings = Field(
        default=GoldenSettings(), description="What a golden sample must be to pass."
    )
    secrets: SecretsSettings = Field(
        default=SecretsSettings(), description="The provider of secrets, and how it is asked."
    )

    @property
    def backup_ended(self) -> Path | None:
        """The file whose time is that of the last backup; None where no backup is looked for."""
        if self.backup_stamp is None and self.backup_folder is not None:
            return self.data_dir / "state" / "backup-ended"
        return self.backup_stamp


_SECTIONS: dict[str, type[SettingsModel]] = {
    "capture": CaptureSettings,
    "golden": GoldenSettings,
    "secrets": SecretsSettings,
}

FIELDS = {name: info for name, info in Settings.model_fields.items() if name not in _SECTIONS} | {
    f"{section}__{name}": info
    for section, model in _SECTIONS.items()
    for name, info in model.model_fields.items()
}
"""Every setting by its name in lower case, those of a section as `section__name`."""

SECRETS = frozenset(name for name, info in FIELDS.items() if SecretStr in get_args(info.annotation))
"""Those that are secrets."""
_KNOWN = Known(FIELDS, SECRETS, _SECTIONS)


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from every source.

    Args:
        **overrides: Settings that take precedence over every source, by field name.

    Raises:
        SettingsError: Something is not usable. `problems` lists everything that is: unreadable
            files, unknown keys and refused values, each with its source and key, what was
            expected and what to do. Values are not shown.
    """
    settings, problems = usable_settings(**overrides)
    if problems:
        raise SettingsError(problems)
    return settings


def usable_settings(**overrides: Any) -> tuple[Settings, list[str]]:
    """The settings without what is not usable in them, and every problem with the rest.

    For who must go on whatever is wrong, as the watch that reports it; see `load_settings`.
    """
    layers = _with_provider(read_layers(overrides, _KNOWN))
    return _usable(layers)


def store_credentials() -> tuple[dict[str, str], str]:
    """The credentials of the object store that stand with the secrets, and where they stand.

    All are of the first source that names a key or a profile: half of two would be a pair that
    nobody meant. None where the environment names one: boto3 reads that itself.
    """
    left_to_file = {*copies()}
    if not any(os.environ.get(name) for name in _NAMING_CREDENTIALS if name not in left_to_file):
        for layer in _with_provider(read_layers({}, _KNOWN)):
            if any(layer.credentials.get(name) for name in _NAMING_CREDENTIALS):
                return {name: text for name, text in layer.credentials.items() if text}, layer.label
    return {}, ""


def _with_provider(layers: list[Layer]) -> list[Layer]:
    """With what the provider gives that the others name; `config.yaml` stays the weakest."""
    if any(layer.values.get("secrets__provider") for layer in layers):
        settings, _ = _usable(layers)
        if settings.secrets.provider is not None:
            label = f"provider {settings.secrets.provider}"
            try:
                values = provided(settings)
            except SettingsError as error:
                values = {}
                layers[-1].problems += error.problems
            layers.insert(-1, provider_layer(label, values, _KNOWN))
    return layers


def _usable(layers: list[Layer]) -> tuple[Settings, list[str]]:
    """The settings of some layers, and what is wrong with these."""
    problems = [problem for layer in layers for problem in layer.problems]
    merged = {key: value for layer in reversed(layers) for key, value in layer.values.items()}
    while True:
        try:
            settings = Settings(**_nested(merged))
            refused = [*spoken_to_in_clear(settings), *unguarded(settings)]
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
            found = [(_name_of(*map(str, each["loc"])), each["msg"]) for each in details]
            refused = [(name, reason) for name, reason in found if name in merged]
            if not refused:
                raise
        else:
            if not refused:
                return settings, problems
        for name, reason in refused:
            layer = next(layer for layer in layers if name in layer.values)
            problems.append(_refusal(layer, name, reason))
            merged.pop(name, None)


def _name_of(section: str, *inner: str) -> str:
    """The name of what the model refuses, by where in its input that stands."""
    return f"{section}__{inner[0]}" if section in _SECTIONS and inner else section


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the model takes them: those of a section in a mapping of their own."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        section, separator, inner = name.partition("__")
        if separator:
            nested.setdefault(section, {})[inner] = value
        else:
            nested[name] = value
    return nested


def _refusal(layer: Layer, name: str, message: str) -> str:
    reason = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return (
        f"{layer.label}: {layer.keys[name]}: {reason}. "
        f"What it is: {FIELDS[name].description} Correct it, or remove it to use the default."
    )

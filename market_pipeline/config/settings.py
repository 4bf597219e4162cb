"""Typed settings: environment over `.env` over `config.yaml` over defaults, all problems at once.

Use `load_settings()`. It refuses unknown keys in every source and lists everything that is wrong
in one `SettingsError`, so that a user fixes a file once and not once per mistake.

Secrets are the fields of type `SecretStr`: read from the environment or `.env` only (a key in
`config.yaml` is a problem) and never shown. The values of settings are kept out of error texts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any, get_args

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import Field, SecretStr, ValidationError

from market_pipeline.config.alerting import AlertSettings
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.config.golden import GoldenSettings
from market_pipeline.config.lake import LakeSettings
from market_pipeline.config.retention import RetentionSettings
from market_pipeline.config.secret_values import (
    learn_address,
    learn_environment,
    learn_secret,
    learn_variables,
)
from market_pipeline.config.security import SecuritySettings
from market_pipeline.config.transport import spoken_to_in_clear
from market_pipeline.config.values import (
    AbsolutePath,
    Day,
    Integer,
    Real,
    SettingsModel,
    Widths,
    absolute_path,
)
from market_pipeline.config.yaml_files import nearest_known, read_yaml_mapping
from market_pipeline.errors import SettingsError

__all__ = [
    "CREDENTIAL_VARIABLES",
    "ENV_FILE",
    "ENV_PREFIX",
    "FIELDS",
    "Settings",
    "load_settings",
    "usable_settings",
]

ENV_PREFIX = "PIPELINE_"
ENV_FILE = Path(".env")

# Dagster reads the same `.env`, so its variables may stand there beside ours.
_NEIGHBOUR_PREFIX = "DAGSTER_"

CREDENTIAL_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
)
"""What may stand in `.env` for the object store; see `store._credentials`."""


def _cpu_count() -> int:
    """How many CPUs this process may use (a container may be given fewer than the machine has)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Settings(AlertSettings, LakeSettings, RetentionSettings, SecuritySettings):
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


_SECTIONS: dict[str, type[SettingsModel]] = {"capture": CaptureSettings, "golden": GoldenSettings}

FIELDS = {name: info for name, info in Settings.model_fields.items() if name not in _SECTIONS} | {
    f"{section}__{name}": info
    for section, model in _SECTIONS.items()
    for name, info in model.model_fields.items()
}
"""Every setting by its name in lower case, those of a section as `section__name`."""

_SECRETS = frozenset(
    name for name, info in FIELDS.items() if SecretStr in get_args(info.annotation)
)


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
    layers = _read_layers(overrides)
    problems = [problem for layer in layers for problem in layer.problems]
    merged = {key: value for layer in reversed(layers) for key, value in layer.values.items()}
    while True:
        try:
            settings = Settings(**_nested(merged))
            refused = [*spoken_to_in_clear(settings)]
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


def _refusal(layer: _Layer, name: str, message: str) -> str:
    reason = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return (
        f"{layer.label}: {layer.keys[name]}: {reason}. "
        f"What it is: {FIELDS[name].description} Correct it, or remove it to use the default."
    )


# --- sources ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Layer:
    """One source of settings: known values and their keys as spelt there, and its problems."""

    label: str
    values: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, spelt: str, name: str, value: object, spelling: Callable[[str], str]) -> None:
        """Take one key of the source, or list it as a problem if no field has that name."""
        if isinstance(value, str):
            (learn_secret if name in _SECRETS else learn_address)(value)
        if name in FIELDS:
            if name in self.values:
                self.problems.append(
                    f"{self.label}: {spelt} is given twice, the first time as {self.keys[name]}. "
                    "Remove one of them."
                )
            self.values[name] = value
            self.keys[name] = spelt
            return
        known = [spelling(known_name) for known_name in FIELDS]
        self.problems.append(
            f"{self.label}: {spelt} is not a known key ({nearest_known(spelt, known)}). "
            "Rename or remove it."
        )


def _read_layers(arguments: Mapping[str, Any]) -> list[_Layer]:
    """Every source that can be set, the strongest first."""
    layers = [_read_arguments(arguments), _read_environment(), _read_env_file()]
    named = next((x.values["config_file"] for x in layers if "config_file" in x.values), None)
    layers.append(_read_config_file(named))
    return layers


def _read_arguments(arguments: Mapping[str, Any]) -> _Layer:
    layer = _Layer("argument")
    for name, value in arguments.items():
        layer.add(name, name, value, str)
    return layer


def _variable(name: str) -> str:
    return ENV_PREFIX + name.upper()


def _read_environment() -> _Layer:
    layer = _Layer("environment")
    learn_environment()
    for spelt, text in os.environ.items():
        if spelt.upper().startswith(ENV_PREFIX):
            layer.add(spelt, spelt[len(ENV_PREFIX) :].lower(), text, _variable)
    return layer


def _read_env_file() -> _Layer:
    layer = _Layer(str(ENV_FILE))
    if not ENV_FILE.exists():
        return layer
    try:
        text = ENV_FILE.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        layer.problems.append(f"{ENV_FILE}: cannot be read: {error}. Make it a readable text file.")
        return layer
    understood = StringIO()
    given: set[str] = set()
    for line in parse_stream(StringIO(text)):
        if line.key is not None and line.key in given:
            layer.problems.append(
                f"{ENV_FILE}: line {line.original.line} gives {line.key} a second time. Remove one."
            )
        given.update([line.key] if line.key else [])
        if line.error or (line.key is not None and line.value is None):
            layer.problems.append(
                f"{ENV_FILE}: line {line.original.line} is not KEY=value. Correct or remove it."
            )
        else:
            understood.write(line.original.string)
    understood.seek(0)
    values = dotenv_values(stream=understood)
    learn_variables(values)
    for spelt, value in values.items():
        if value is None or spelt.upper().startswith(_NEIGHBOUR_PREFIX):
            continue
        if spelt in CREDENTIAL_VARIABLES:
            continue  # secrets of the store: only its client reads them
        own = spelt.upper().startswith(ENV_PREFIX)
        layer.add(spelt, spelt[len(ENV_PREFIX) :].lower() if own else "", value, _variable)
    return layer


def _read_config_file(named: object) -> _Layer:
    """The layer of the file that `config_file` names, or of `config.yaml` if it is not set."""
    if named is not None and not (isinstance(named, str | Path) and str(named).strip()):
        return _Layer("config.yaml")  # `config_file` itself is refused where it was set
    path = Path("config.yaml") if named is None else Path(named)
    layer = _Layer(str(path))
    try:
        path = absolute_path(path)
    except ValueError:
        return layer
    if named is None and not path.exists():
        return layer
    values, problems = read_yaml_mapping(path)
    layer.problems.extend(f"{layer.label}: {problem}." for problem in problems)
    for name, value in values.items():
        if name == "config_file":
            layer.problems.append(
                f"{layer.label}: config_file cannot be set in a settings file. Set "
                f"{_variable(name)} in the environment or in {ENV_FILE}."
            )
        elif name in _SECRETS:
            layer.problems.append(
                f"{layer.label}: {name} is a secret and cannot stand in a settings file. Remove it "
                f"and set {_variable(name)} in the environment or in {ENV_FILE}."
            )
        elif name in _SECTIONS:
            _add_section(layer, name, value)
        else:
            layer.add(name, name, value, _dotted)
    return layer


def _dotted(name: str) -> str:
    return name.replace("__", ".")


def _add_section(layer: _Layer, section: str, values: object) -> None:
    if not isinstance(values, Mapping):
        layer.problems.append(
            f"{layer.label}: {section} is a section. Write its keys below it, indented."
        )
        return
    for name, value in values.items():
        spelt = f"{section}.{name}"
        layer.add(spelt, f"{section}__{name}", value, _dotted)

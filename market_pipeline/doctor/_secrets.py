"""Whether secrets can get out, and whether they can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from market_pipeline.config.env_copies import dagster_home
from market_pipeline.config.providers import ask_provider
from market_pipeline.config.settings import Settings
from market_pipeline.config.yaml_files import read_yaml_mapping
from market_pipeline.doctor.finding import Finding

__all__ = ["check_provider", "check_scrubbing"]

_SCRUBBING = {
    "event_log_storage": "market_pipeline.defs.event_log",
    "run_storage": "market_pipeline.defs.storages",
    "schedule_storage": "market_pipeline.defs.storages",
    "compute_logs": "market_pipeline.defs.compute_logs",
}
"""What of an instance writes through `scrub`, and the module of its class."""


def check_scrubbing() -> Iterator[Finding]:
    """Are Dagster's databases and the output of steps written without secrets?"""
    file = Path(dagster_home(), "dagster.yaml")
    if not file.is_absolute() or not file.is_file():
        return  # the finding `dagster_home` says so
    configured, _ = read_yaml_mapping(file)
    without = []
    for name, module in _SCRUBBING.items():
        section = configured.get(name)
        if not isinstance(section, dict) or section.get("module") != module:
            without.append(name)
    if without:
        yield (
            "warn",
            f"{file}: secrets are not taken out of {', '.join(without)}",
            "Copy these sections from dagster_home/dagster.yaml of the project.",
        )
    else:
        yield "ok", f"{file}: events, runs, ticks and output are written without secrets"


def check_provider(settings: Settings) -> Iterator[Finding]:
    """Which secrets does the provider give? Only if there is one; it is asked once more."""
    provider = settings.secrets.provider
    if provider is None:
        return
    names = ", ".join(sorted(ask_provider(settings)))
    if names:
        yield "ok", f"{provider} gives {names}"
    else:
        yield (
            "warn",
            f"{provider} gives no secret",
            "Put some there (`market-pipeline secrets set` for `sealed`), or remove the provider.",
        )

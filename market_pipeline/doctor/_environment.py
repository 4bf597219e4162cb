"""What the program runs in: Python, the libraries, the process's limits, Dagster's home, `.env`."""

from __future__ import annotations

import platform
import re
import shlex
from collections.abc import Collection, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from market_pipeline.config.env_copies import dagster_home
from market_pipeline.config.settings import ENV_FILE, Settings
from market_pipeline.config.transport import is_loopback
from market_pipeline.doctor.finding import Finding
from market_pipeline.doctor.folders import open_to_others, unusable
from market_pipeline.machine import require_memory, require_open_files
from market_pipeline.security.master import ring_of

__all__ = [
    "check_dagster_home",
    "check_env_file",
    "check_listeners",
    "check_memory",
    "check_open_files",
    "check_package",
    "check_plain_hosts",
    "check_python",
    "check_tls_minimum",
]

# A lower bound that is included and an upper bound that is not.
_Range = tuple[tuple[int, ...], tuple[int, ...]]
PYTHON_RANGE: _Range = ((3, 11), (3, 14))
DUCKDB_RANGE: _Range = ((1, 5, 5), (2,))
_INSTALL = "Install what the lock names: `make setup`."


def _within(text: str, bounds: _Range) -> bool:
    """Whether a version such as 1.5.6 is in a range; a pre-release counts as its release."""
    numbers = re.match(r"\d+(?:\.\d+)*", text)
    release = tuple(int(part) for part in numbers[0].split(".")) if numbers else ()
    lowest, beyond = bounds
    return lowest <= release < beyond


def check_python() -> Iterator[Finding]:
    """Is it a version that the package was made for?"""
    found = platform.python_version()
    if _within(found, PYTHON_RANGE):
        yield "ok", found
    else:
        yield "error", found, "Use Python 3.11, 3.12 or 3.13."


def check_package(name: str) -> Iterator[Finding]:
    """Is a library installed, and is it none of the versions known to be wrong?"""
    try:
        found = version(name)
    except PackageNotFoundError:
        yield "error", "not installed", _INSTALL
        return
    if name == "duckdb" and not _within(found, DUCKDB_RANGE):
        wrong = (
            f"{found}, but the range is >=1.5.5,<2: DuckDB 2.0.0 was measured to return wrong rows "
            "from an ASOF join over hive-partitioned Parquet"
        )
        yield "error", wrong, _INSTALL
    else:
        yield "ok", found


def check_open_files() -> Iterator[Finding]:
    """How many files may be open; too few raise."""
    yield "ok", f"{require_open_files():,} files may be open at once"


def check_memory() -> Iterator[Finding]:
    """How much memory the process may have; too little raises."""
    limits = [f"{limit / 10**9:,.1f} GB of {name}" for name, limit in require_memory().items()]
    found = f"is limited to {' and '.join(limits)}" if limits else "is not limited"
    yield "ok", f"the memory of a process {found}"


def check_dagster_home() -> Iterator[Finding]:
    """Is there a folder for the history of runs, with the project's configuration?"""
    text = dagster_home()
    if not text:
        yield (
            "warn",
            "DAGSTER_HOME is not set: Dagster keeps its runs in a temporary folder and forgets "
            "them when the process ends; schedules and sensors do not run",
            'Set it to an absolute folder: `export DAGSTER_HOME="$PWD/dagster_home"`.',
        )
        return
    home = Path(text)
    if not home.is_absolute() or not home.is_dir():
        reason = "does not exist" if home.is_absolute() else "is not an absolute path"
        found = f"DAGSTER_HOME={text} {reason}, so Dagster refuses to start"
        yield "error", found, "Set it to the absolute path of an existing folder."
    elif finding := unusable((home,), (*home.glob("*.db"), *home.glob(".*.lock")), "DAGSTER_HOME"):
        yield finding
    elif not (home / "dagster.yaml").is_file():
        yield (
            "warn",
            f"{home} has no dagster.yaml, so Dagster runs with its own defaults (telemetry on, "
            "no write pool)",
            f"Copy the project's: `cp dagster_home/dagster.yaml {shlex.quote(text)}/`.",
        )
    else:
        yield "ok", str(home)


def check_env_file() -> Iterator[Finding]:
    """Is `.env`, which may hold secrets, its owner's alone? It is optional."""
    if ENV_FILE.is_file():
        path = ENV_FILE.absolute()
        yield open_to_others(path, "600") or ("ok", f"{path} is its owner's alone")


def check_tls_minimum(minimum: str) -> Iterator[Finding]:
    """Is an older version of TLS accepted than is safe? Only if the settings say so."""
    if minimum != "1.3":
        yield (
            "warn",
            f"PIPELINE_TLS_MINIMUM: stores and receivers of alerts may speak TLS {minimum}",
            "Have them offer TLS 1.3, then remove the setting.",
        )


def check_listeners(settings: Settings) -> Iterator[Finding]:
    """Do other machines reach what listens? Only if the settings say so, and with a token."""
    if not is_loopback(settings.metrics_host):
        yield (
            "warn",
            f"PIPELINE_METRICS_HOST={settings.metrics_host}: other machines reach `telemetry "
            "serve`, and the token that they show can be read on the way",
            "Listen at 127.0.0.1 behind a proxy with TLS, or on a network that is encrypted.",
        )


def check_sealing(settings: Settings) -> Iterator[Finding]:
    """Is there a key for all that is to be sealed? A ring that has none raises."""
    if settings.seal:
        ring = ring_of(settings, with_master=False)
        keys = ", ".join(ring.active(purpose).id for purpose in settings.seal)
        yield "ok", f"{', '.join(settings.seal)} are sealed with {keys}"


def check_plain_hosts(hosts: Collection[str]) -> Iterator[Finding]:
    """Is another machine spoken to without TLS? Only if the settings except it by name."""
    if hosts:
        yield (
            "warn",
            f"PIPELINE_PLAIN_HOSTS: {', '.join(hosts)}: what is sent there can be read on the way",
            "Give these machines certificates (a private authority will do), then remove them.",
        )

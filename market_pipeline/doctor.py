"""The look before a start: is everything the pipeline needs there, and usable?

Each check gives one or more findings and never raises: what goes wrong while looking is itself a
finding, so that one run names everything. Nothing is created or changed.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import duckdb
from dotenv import dotenv_values

from market_pipeline.config.instruments import Instrument, load_instruments
from market_pipeline.config.settings import ENV_FILE, Settings, load_settings
from market_pipeline.errors import (
    InstrumentsError,
    MarketPipelineError,
    PublishError,
    SettingsError,
    StoreError,
    WarehouseBusyError,
)
from market_pipeline.machine import (
    as_machine_error,
    nearest_folder,
    require_memory,
    require_open_files,
)
from market_pipeline.sources.crypto_lake import DELTAS
from market_pipeline.sources.raw_names import Series
from market_pipeline.sources.registry import converter_of, is_converter
from market_pipeline.stages.raw.days import FolderDays
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.catalogue import connect
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.locks import is_locked_elsewhere
from market_pipeline.warehouse.working import damaged

__all__ = ["Diagnosis", "DoctorReport", "run_doctor"]

FREE_DISK_WARN_BYTES = 5 * 10**9
FREE_DISK_ERROR_BYTES = 500 * 10**6

# A lower bound that is included and an upper bound that is not.
_Range = tuple[tuple[int, ...], tuple[int, ...]]
PYTHON_RANGE: _Range = ((3, 11), (3, 14))
DUCKDB_RANGE: _Range = ((1, 5, 5), (2,))
_OTHER_PATH = "Set PIPELINE_DATA_DIR to a path without them; `run` refuses this one."
_PACKAGES = ("dagster", "duckdb", "polars", "deltalake", "numba")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What one check found. `next_step` is empty when there is nothing to do."""

    name: str
    status: Literal["ok", "warn", "error"]
    found: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """Every finding, in the order of the checks."""

    findings: tuple[Diagnosis, ...]

    @property
    def ok(self) -> bool:
        """Whether the pipeline can run: no finding is an error (warnings are allowed)."""
        return all(finding.status != "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """`{"ok": …, "findings": [{"name", "status", "found", "next_step"}, …]}`."""
        return {"ok": self.ok, "findings": [asdict(finding) for finding in self.findings]}


def run_doctor(load: Callable[[], Settings] = load_settings) -> DoctorReport:
    """Examine the settings, folders, instruments, versions and Dagster's home.

    Args:
        load: How to load the settings; a CLI passes one that holds its own options. If it fails,
            the checks that need settings are left out and the finding `settings` says so.
    """
    findings = _collect("python", _check_python)
    for package in _PACKAGES:
        findings += _collect(package, partial(_check_package, package))
    findings += _collect("open_files", _check_open_files)
    findings += _collect("memory", _check_memory)
    findings += _collect("dagster_home", _check_dagster_home)
    findings += _collect("env_file", _check_env_file)
    try:
        settings = load()
    except SettingsError as error:
        listed = "".join(f"\n  - {problem}" for problem in error.problems)
        found = f"{error.problem}:{listed}"
        next_step = "Fix what is listed and run this again: folders and instruments come next."
        return DoctorReport((Diagnosis("settings", "error", found, next_step), *findings))
    except Exception as error:  # a finding must not hide the others
        return DoctorReport((_unexpected("settings", error), *findings))
    start = Diagnosis("settings", "ok", f"{len(Settings.model_fields)} settings are usable")
    findings += _collect("data_dir", partial(_check_data_dir, settings.data_dir))
    if findings[-1].next_step != _OTHER_PATH:
        findings += _collect("working", partial(_check_working, settings.data_dir))
        findings += _collect("catalogue", partial(_check_catalogue, settings.data_dir))
    findings += _collect("free_disk", partial(_check_free_disk, settings.data_dir))
    instruments: list[Instrument] = []
    findings += _collect("instruments", partial(_check_instruments, settings, instruments))
    if settings.store_address is None:
        findings += _collect("lake", partial(_check_lake, settings.lake_path, instruments))
    else:
        findings += _collect("lake", partial(_check_store, settings, instruments))
    return DoctorReport((start, *findings))


def _collect(name: str, check: Callable[[], Iterable[Diagnosis]]) -> list[Diagnosis]:
    try:
        return list(check())
    except Exception as error:  # a check that fails must not hide the others
        return [_unexpected(name, error)]


def _unexpected(name: str, error: Exception) -> Diagnosis:
    if isinstance(error, StoreError):
        found = f"{error.uri}: {error.problem}{f' ({error.found})' if error.found else ''}"
        return Diagnosis(name, "error", found, error.next_step)
    ours = as_machine_error(error) or error
    if isinstance(ours, MarketPipelineError):
        needed = f"needed: {ours.expected}" if ours.expected else None
        parts = "; ".join(part for part in (needed, ours.found) if part)
        where = f"{ours.file}: " if ours.file else ""
        found = f"{where}{ours.problem}" + (f" ({parts})" if parts else "")
        return Diagnosis(name, "error", found, ours.next_step)
    return Diagnosis(
        name,
        "error",
        f"the check itself failed: {type(error).__name__}: {error}",
        "Fix what it names; if it names nothing of yours, report it as a fault of this program.",
    )


# --- versions and environment -----------------------------------------------------------------


def _within(text: str, bounds: _Range) -> bool:
    """Whether a version such as 1.5.6 is in a range; a pre-release counts as its release."""
    numbers = re.match(r"\d+(?:\.\d+)*", text)
    release = tuple(int(part) for part in numbers[0].split(".")) if numbers else ()
    lowest, beyond = bounds
    return lowest <= release < beyond


def _check_python() -> Iterator[Diagnosis]:
    found = platform.python_version()
    if _within(found, PYTHON_RANGE):
        yield Diagnosis("python", "ok", found)
    else:
        yield Diagnosis("python", "error", found, "Use Python 3.11, 3.12 or 3.13.")


def _check_package(name: str) -> Iterator[Diagnosis]:
    try:
        found = version(name)
    except PackageNotFoundError:
        yield Diagnosis(
            name, "error", "not installed", "Install what the lock names: `make setup`."
        )
        return
    if name == "duckdb" and not _within(found, DUCKDB_RANGE):
        yield Diagnosis(
            name,
            "error",
            f"{found}, but the range is >=1.5.5,<2: DuckDB 2.0.0 was measured to return wrong rows "
            "from an ASOF join over hive-partitioned Parquet",
            "Install what the lock names: `make setup`.",
        )
        return
    yield Diagnosis(name, "ok", found)


def _check_open_files() -> Iterator[Diagnosis]:
    limit = require_open_files()
    yield Diagnosis("open_files", "ok", f"{limit:,} files may be open at once")


def _check_memory() -> Iterator[Diagnosis]:
    limits = [f"{limit / 10**9:,.1f} GB of {name}" for name, limit in require_memory().items()]
    found = f"is limited to {' and '.join(limits)}" if limits else "is not limited"
    yield Diagnosis("memory", "ok", f"the memory of a process {found}")


def _dagster_home() -> str:
    """`DAGSTER_HOME` as a run finds it: in the environment, else in `.env`."""
    return os.environ.get("DAGSTER_HOME") or dotenv_values(ENV_FILE).get("DAGSTER_HOME") or ""


def _check_dagster_home() -> Iterator[Diagnosis]:
    name = "dagster_home"
    text = _dagster_home()
    if not text:
        yield Diagnosis(
            name,
            "warn",
            "DAGSTER_HOME is not set: Dagster keeps its runs in a temporary folder and forgets "
            "them when the process ends; schedules and sensors do not run",
            'Set it to an absolute folder: `export DAGSTER_HOME="$PWD/dagster_home"`.',
        )
        return
    home = Path(text)
    if not home.is_absolute() or not home.is_dir():
        reason = "does not exist" if home.is_absolute() else "is not an absolute path"
        yield Diagnosis(
            name,
            "error",
            f"DAGSTER_HOME={text} {reason}, so Dagster refuses to start",
            "Set it to the absolute path of an existing folder.",
        )
        return
    files = (*home.glob("*.db"), *home.glob(".*.lock"))
    unusable = list(_unusable(name, (home,), files, "DAGSTER_HOME"))
    if unusable:
        yield from unusable
    elif not (home / "dagster.yaml").is_file():
        yield Diagnosis(
            name,
            "warn",
            f"{home} has no dagster.yaml, so Dagster runs with its own defaults (telemetry on, "
            "no write pool)",
            f"Copy the project's: `cp dagster_home/dagster.yaml {shlex.quote(text)}/`.",
        )
    else:
        yield Diagnosis(name, "ok", str(home))


def _check_env_file() -> Iterator[Diagnosis]:
    if not ENV_FILE.is_file():
        return  # the file is optional
    mode = stat.S_IMODE(ENV_FILE.stat().st_mode)
    if mode & 0o077:
        found = f"{ENV_FILE.absolute()} has mode {mode:04o}: other users of this machine may use it"
        command = f"chmod 600 {shlex.quote(str(ENV_FILE.absolute()))}"
        yield Diagnosis("env_file", "warn", found, f"Keep it to its owner: `{command}`.")
    else:
        yield Diagnosis("env_file", "ok", f"{ENV_FILE.absolute()} is its owner's alone")


# --- folders ----------------------------------------------------------------------------------


def _unusable(
    name: str, folders: Iterable[Path], files: Iterable[Path], setting: str
) -> Iterator[Diagnosis]:
    """A finding for the first folder or file, of those there are, that a run could not write to."""
    path = Path()
    try:
        for path in folders:
            if path.exists():
                with tempfile.TemporaryFile(dir=path) as file:
                    file.write(b" ")
        for path in files:
            if path.exists():
                os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        yield Diagnosis(
            name,
            "error",
            f"{path} cannot be written to: {error.strerror}",
            f"Set {setting} to a folder that you may write to, or fix its permissions.",
        )


def _check_data_dir(data_dir: Path) -> Iterator[Diagnosis]:
    name = "data_dir"
    try:
        warehouse = Warehouse(data_dir)
    except SettingsError as error:
        yield Diagnosis(name, "error", "; ".join(error.problems), _OTHER_PATH)
        return
    existing = nearest_folder(data_dir)
    if not existing.is_dir():
        yield Diagnosis(
            name,
            "error",
            f"{existing} is a file, not a folder",
            "Set PIPELINE_DATA_DIR to a folder, or move that file away.",
        )
        return
    deltas = [warehouse.table_dir(table) for table in TABLES.values()]
    folders = (
        *(existing, warehouse.tables_dir, warehouse.state_dir, warehouse.warehouse_dir),
        *(warehouse.staging_dir, warehouse.quarantine_dir),
        *(each for folder in deltas for each in (folder, folder / "_delta_log")),
    )
    files = (*warehouse.state_dir.glob("*.lock"), warehouse.working_database)
    unusable = list(_unusable(name, folders, files, "PIPELINE_DATA_DIR"))
    if unusable:
        yield from unusable
        return
    if existing != data_dir:
        yield Diagnosis(name, "ok", f"{data_dir} does not exist yet and can be created")
        return
    mode = stat.S_IMODE(data_dir.stat().st_mode)
    if mode & 0o077:
        yield Diagnosis(
            name,
            "warn",
            f"{data_dir} has mode {mode:04o}: other users of this machine may use it",
            f"Keep it to its owner: `chmod 700 {shlex.quote(str(data_dir))}`.",
        )
    else:
        yield Diagnosis(name, "ok", f"{data_dir} can be written to and is its owner's alone")


def _check_working(data_dir: Path) -> Iterator[Diagnosis]:
    warehouse = Warehouse(data_dir)
    if not warehouse.working_database.exists():
        return  # the first run makes it
    found = f"{warehouse.working_database} can be opened"
    try:
        duckdb.connect(str(warehouse.working_database), read_only=True).close()
    except duckdb.Error as error:
        if not is_locked_elsewhere(error):
            raise damaged(warehouse, error) from error
        found = f"{warehouse.working_database} is in use by a run"
    yield Diagnosis("working", "ok", found)


def _check_catalogue(data_dir: Path) -> Iterator[Diagnosis]:
    name = "catalogue"
    warehouse = Warehouse(data_dir)
    if not warehouse.catalogue.exists():
        return  # the first run makes it
    try:
        connect(data_dir).close()
    except (PublishError, WarehouseBusyError) as error:
        yield Diagnosis(name, "warn", f"{error.file}: {error.problem}", error.next_step)
        return
    kept = sorted(warehouse.set_aside_dir.glob("*"))
    if kept:
        yield Diagnosis(
            name,
            "warn",
            f"somebody wrote into {warehouse.catalogue}; readers see what was published, and what "
            f"was written is kept: {', '.join(map(str, kept))}",
            "Copy what is needed into a database of its own, which may ATTACH the catalogue "
            f"READ_ONLY, then remove {shlex.quote(str(warehouse.set_aside_dir))}.",
        )
        return
    yield Diagnosis(name, "ok", f"{warehouse.catalogue} is as it was published")


def _check_free_disk(data_dir: Path) -> Iterator[Diagnosis]:
    folders = [data_dir, *([Path(home)] if (home := _dagster_home()) else [])]
    disks = {nearest_folder(folder.absolute()).stat().st_dev: folder for folder in folders[::-1]}
    for folder in reversed(disks.values()):
        existing = nearest_folder(folder.absolute())
        free, disk = shutil.disk_usage(existing).free, os.statvfs(existing)
        found = f"{free / 10**9:,.1f} GB are free for {folder}"
        has_no_inode = disk.f_files > 0 and disk.f_favail == 0
        if has_no_inode:
            found += ", but no further file (the disk has no inode left)"
        if free >= FREE_DISK_WARN_BYTES and not has_no_inode:
            yield Diagnosis("free_disk", "ok", found)
        else:
            yield Diagnosis(
                "free_disk",
                "error" if free < FREE_DISK_ERROR_BYTES or has_no_inode else "warn",
                found,
                "Free some space (below 0.5 GB a day may not fit), or set PIPELINE_DATA_DIR or "
                "DAGSTER_HOME to a larger disk.",
            )


def _check_instruments(settings: Settings, instruments: list[Instrument]) -> Iterator[Diagnosis]:
    """Validate the instruments file and hand its instruments on for the check of the lake."""
    path = settings.instruments_file
    try:
        instruments.extend(load_instruments(path))
    except InstrumentsError as error:
        next_step = error.next_step
        if not path.exists():
            next_step = (
                "Copy instruments.example.yaml to that path and edit it, or set "
                "PIPELINE_INSTRUMENTS_FILE."
            )
        found = f"{path}: {error.problem}:{error.found or ''}"
        yield Diagnosis("instruments", "error", found, next_step)
        return
    count = len(instruments)
    yield Diagnosis("instruments", "ok", f"{path}: {count} instrument{'s' if count > 1 else ''}")


def _check_lake(lake: Path, instruments: list[Instrument]) -> Iterator[Diagnosis]:
    name = "lake"
    if not lake.is_dir():
        yield Diagnosis(
            name,
            "error",
            f"{lake} {'is not a folder' if lake.exists() else 'does not exist'}",
            "Set PIPELINE_LAKE_URI to the folder of the raw days, or let `make demo` simulate one.",
        )
        return
    try:
        next(lake.iterdir(), None)
    except OSError as error:
        yield Diagnosis(
            name,
            "error",
            f"{lake} cannot be read: {error.strerror}",
            "Fix its permissions, or set PIPELINE_LAKE_URI to a folder that you may read.",
        )
        return
    if not instruments:
        yield Diagnosis(name, "ok", f"{lake} can be read; no instruments to look for")
        return
    without = [each.id for each in instruments if not _has_a_day(lake, each)]
    yield _days_found(f"{lake} holds", len(instruments), without, "or fetch their days")


def _days_found(subject: str, asked: int, without: list[str], otherwise: str) -> Diagnosis:
    """The finding that a lake has days of the instruments but those it is without."""
    found = f"{subject} days of {asked - len(without)} of {asked} instruments"
    if not without:
        return Diagnosis("lake", "ok", found)
    return Diagnosis(
        "lake",
        "warn",
        f"{found}; none of {', '.join(without)}",
        "Check how the instruments file spells them against the folders "
        f"book_delta_v2/exchange=…/symbol=… of the lake, {otherwise}.",
    )


def _deltas(instrument: Instrument) -> Series:
    return Series(DELTAS.name, instrument.venue, instrument.symbol)


def _has_a_day(lake: Path, instrument: Instrument) -> bool:
    if is_converter(instrument.source):
        converter_of(instrument.source)
        return any(path.is_file() for path in (lake / instrument.source).rglob("*"))
    return any(FolderDays(lake).files(_deltas(instrument)))


# --- object store -----------------------------------------------------------------------------


def _check_store(settings: Settings, instruments: list[Instrument]) -> Iterator[Diagnosis]:
    """Ask the store for the symbols of each exchange: one listing, however many instruments."""
    # boto3 takes half a second to load, which a lake in a folder need not wait for.
    from market_pipeline.store.client import open_store  # noqa: PLC0415
    from market_pipeline.store.objects import Patience  # noqa: PLC0415

    patience = Patience(attempts=2, connect_seconds=5.0, read_seconds=15.0)
    store = open_store(settings, patience=patience)
    if store is None:
        return
    with store:
        asked = [each for each in instruments if not is_converter(each.source)]
        venues = sorted({f"{_deltas(each).folder.rpartition('/')[0]}/" for each in asked})
        symbols = {folder for venue in venues for folder in store.folders(venue)}
        if not venues:
            next(store.folders(), None)  # whether it may be listed at all
        subject = f"{store.address.uri} can be listed with credentials from {store.credentials}"
        if store.address.anonymous:
            subject = f"{store.address.uri} can be listed without credentials"
    if not asked:
        yield Diagnosis("lake", "ok", f"{subject}; no instruments to look for")
        return
    without = [each.id for each in asked if f"{_deltas(each).folder}/" not in symbols]
    yield _days_found(f"{subject} and holds", len(asked), without, "or PIPELINE_LAKE_URI's prefix")

"""Every check in its order.

Each check gives one or more findings and never raises: what goes wrong while looking is itself a
finding, so that one run names everything. Nothing is created or changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import FIELDS, Settings, load_settings
from market_pipeline.doctor import _environment as environment
from market_pipeline.doctor import _lake as lake
from market_pipeline.doctor import _secrets as secrets
from market_pipeline.doctor import folders
from market_pipeline.doctor._access import check_access
from market_pipeline.doctor._backup import check_backup
from market_pipeline.doctor.finding import Diagnosis, DoctorReport, Finding
from market_pipeline.errors import MarketPipelineError, SettingsError, StoreError
from market_pipeline.machine import as_machine_error

__all__ = ["collect", "run_doctor"]

_PACKAGES = ("dagster", "duckdb", "polars", "deltalake", "numba")


def run_doctor(load: Callable[[], Settings] = load_settings) -> DoctorReport:
    """Examine the settings, folders, instruments, versions and Dagster's home.

    Args:
        load: How to load the settings; a CLI passes one that holds its own options. If it fails,
            the checks that need settings are left out and the finding `settings` says so.
    """
    findings = collect("python", environment.check_python)
    for package in _PACKAGES:
        findings += collect(package, environment.check_package, package)
    findings += collect("open_files", environment.check_open_files)
    findings += collect("memory", environment.check_memory)
    findings += collect("dagster_home", environment.check_dagster_home)
    findings += collect("scrubbing", secrets.check_scrubbing)
    findings += collect("env_file", environment.check_env_file)
    try:
        settings = load()
    except SettingsError as error:
        listed = "".join(f"\n  - {problem}" for problem in error.problems)
        found = f"{error.problem}:{listed}"
        next_step = "Fix what is listed and run this again: folders and instruments come next."
        return DoctorReport((Diagnosis("settings", "error", found, next_step), *findings))
    except Exception as error:  # a finding must not hide the others
        return DoctorReport((_unexpected("settings", error), *findings))
    start = Diagnosis("settings", "ok", f"{len(FIELDS)} settings are usable")
    findings += collect("tls_minimum", environment.check_tls_minimum, settings.tls_minimum)
    findings += collect("plain_hosts", environment.check_plain_hosts, settings.plain_hosts)
    findings += collect("listeners", environment.check_listeners, settings)
    findings += collect("sealing", environment.check_sealing, settings)
    findings += collect("secrets", secrets.check_provider, settings)
    readers = settings.readers_group
    findings += collect("access", check_access, settings)
    findings += collect("data_dir", folders.check_data_dir, settings.data_dir, readers)
    findings += collect("logs", folders.check_logs, settings)
    findings += collect("working", folders.check_working, settings.data_dir)
    findings += collect("catalogue", folders.check_catalogue, settings.data_dir)
    own_lake = settings.lake_path if settings.store_address is None else None
    findings += collect("backup", check_backup, settings)
    private = settings.data_dir, own_lake, readers, settings.backup_folder
    findings += collect("modes", folders.check_modes, *private)
    findings += collect("free_disk", folders.check_free_disk, settings.data_dir)
    is_required = settings.require_encrypted_disk
    findings += collect(
        "disks", partial(folders.check_disks, is_required=is_required), settings.data_dir
    )
    instruments: list[Instrument] = []
    findings += collect("instruments", lake.check_instruments, settings, instruments)
    if settings.store_address is None:
        findings += collect("lake", lake.check_lake, settings.lake_path, instruments)
    else:
        findings += collect("lake", lake.check_store, settings, instruments)
    return DoctorReport((start, *findings))


def collect(
    name: str, check: Callable[..., Iterable[Finding]], *arguments: object
) -> list[Diagnosis]:
    """What a check finds, under a name; what it raises is a finding itself."""
    try:
        return [Diagnosis(name, *finding) for finding in check(*arguments)]
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

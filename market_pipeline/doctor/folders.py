"""What a run writes to: the data folder, the databases inside it, and the disk they lie on."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import duckdb

from market_pipeline.audit.record import AUDIT_FOLDER
from market_pipeline.config.env_copies import dagster_home
from market_pipeline.config.settings import Settings
from market_pipeline.doctor.finding import Finding
from market_pipeline.errors import PublishError, WarehouseBusyError
from market_pipeline.machine import nearest_folder
from market_pipeline.security.access import COMMITTED, group_bits, members
from market_pipeline.security.disks import disk_of
from market_pipeline.tables import TABLES
from market_pipeline.telemetry.files import line_files
from market_pipeline.telemetry.logs.files import ERRORS
from market_pipeline.telemetry.logs.process_log import log_folder
from market_pipeline.telemetry.metrics.recording import FOLDER as METRICS
from market_pipeline.telemetry.traces.work import TRACES
from market_pipeline.warehouse.catalogue import connect
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.locks import is_locked_elsewhere
from market_pipeline.warehouse.working_file import damaged

__all__ = [
    "check_catalogue",
    "check_data_dir",
    "check_disks",
    "check_free_disk",
    "check_logs",
    "check_modes",
    "check_working",
    "open_to_others",
    "unusable",
    "written_to",
]

FREE_DISK_WARN_BYTES = 5 * 10**9
FREE_DISK_ERROR_BYTES = 500 * 10**6


def open_to_others(path: Path, mode: str, allowed: int = 0) -> Finding | None:
    """A finding if others than the owner may use a file or folder, with the mode it should have."""
    found = stat.S_IMODE(path.stat().st_mode)
    if not found & 0o077 & ~allowed:
        return None
    command = f"chmod {mode} {shlex.quote(str(path))}"
    return (
        "warn",
        f"{path} has mode {found:04o}: other users of this machine may use it",
        f"Keep it to its owner: `{command}`.",
    )


def unusable(folders: Iterable[Path], files: Iterable[Path], setting: str) -> Finding | None:
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
        return (
            "error",
            f"{path} cannot be written to: {error.strerror}",
            f"Set {setting} to a folder that you may write to, or fix its permissions.",
        )
    return None


def check_data_dir(data_dir: Path, readers: str | None = None) -> Iterator[Finding]:
    """Can it be written to, or made, and is it its owner's alone, but for the group of readers?"""
    warehouse = Warehouse(data_dir)
    existing = nearest_folder(data_dir)
    if not existing.is_dir():
        next_step = "Set PIPELINE_DATA_DIR to a folder, or move that file away."
        yield "error", f"{existing} is a file, not a folder", next_step
        return
    deltas = [warehouse.table_dir(table) for table in TABLES.values()]
    folders = (
        *(existing, warehouse.tables_dir, warehouse.state_dir, warehouse.warehouse_dir),
        *(warehouse.staging_dir, warehouse.quarantine_dir, data_dir / AUDIT_FOLDER),
        *(each for folder in deltas for each in (folder, folder / "_delta_log")),
    )
    files = (
        *(*warehouse.state_dir.glob("*.lock"), warehouse.working_database),
        *(data_dir / AUDIT_FOLDER).glob("*.jsonl"),
    )
    if finding := unusable(folders, files, "PIPELINE_DATA_DIR"):
        yield finding
    elif existing != data_dir:
        yield "ok", f"{data_dir} does not exist yet and can be created"
    else:
        allowed = 0
        if readers and data_dir.stat().st_gid == members(readers)[0]:
            allowed = group_bits(data_dir, True, data_dir)
        yield open_to_others(data_dir, "700", allowed) or (
            "ok",
            f"{data_dir} can be written to and is its owner's alone",
        )


def check_logs(settings: Settings) -> Iterator[Finding]:
    """Can every process add to the files of logs, figures and spans that all of them share?

    One that another user made, as root by a verb, takes no line of this one's, and a run goes on.
    """
    logs = log_folder(settings)
    of_lines = [settings.data_dir / name for name in (METRICS, TRACES)]
    locks = [each / ".lock" for each in of_lines]
    # Looked for behind the folders: in one that another user made there is nothing to list.
    last = (path for folder in of_lines for path in line_files(folder)[-1:])
    found = unusable(
        [logs, *of_lines],
        chain([logs / ERRORS], locks, last),
        "PIPELINE_DATA_DIR or PIPELINE_LOG_DIR",
    )
    if found is None:
        yield "ok", "logs, figures and spans can be written"
    else:
        yield (
            "warn",
            f"{found[1]}: lines of this user's processes are lost",
            "Give it to the user that runs the pipeline: `chown`, or `market-pipeline access "
            "--apply` as root.",
        )


def check_modes(
    data_dir: Path,
    own_lake: Path | None,
    readers: str | None = None,
    backups: Path | None = None,
) -> Iterator[Finding]:
    """Is every file below the data folder, DAGSTER_HOME and the backup folder its owner's alone?

    Left out are a lake in a folder, which is the user's, what the project has committed, and that
    the group of readers reads what is published.
    """
    roots = [data_dir, *([Path(home)] if (home := dagster_home()) else [])]
    roots += [backups] if backups else []
    group = members(readers)[0] if readers else None
    looked_at, wider = 0, []
    for path, found in _found([root for root in roots if root.is_dir()], {own_lake}):
        looked_at += 1
        mode, allowed = stat.S_IMODE(found.st_mode), 0
        if found.st_gid == group:
            allowed = group_bits(path, stat.S_ISDIR(found.st_mode), data_dir)
        if mode & 0o077 & ~allowed:
            wider.append((path, mode))
    if wider:
        path, mode = min(wider)
        of = " ".join(shlex.quote(str(root)) for root in roots)
        yield (
            "warn",
            f"{len(wider):,} of {looked_at:,} files and folders may be used by other users, the "
            f"first is {path} ({mode:04o})",
            f"Close them, unless they are open on purpose: `chmod -R go= {of}`"
            f"{', then `market-pipeline access --apply`' if readers else ''}.",
        )
    elif looked_at:
        but = f", but for what {readers} may read" if readers else ""
        yield "ok", f"all {looked_at:,} files and folders are their owner's alone{but}"


def _found(
    folders: list[Path], left_out: Container[Path | None]
) -> Iterator[tuple[Path, os.stat_result]]:
    """Every file and folder below, but links, with what the system says of it."""
    while folders:
        for entry in os.scandir(folders.pop()):
            path = Path(entry.path)
            if entry.is_symlink() or path in left_out or entry.name in COMMITTED:
                continue
            if entry.is_dir():
                folders.append(path)
            with suppress(FileNotFoundError):  # a run removes what it is done with
                yield path, entry.stat()


def check_working(data_dir: Path) -> Iterator[Finding]:
    """Can the private database be opened? The first run makes it."""
    warehouse = Warehouse(data_dir)
    if not warehouse.working_database.exists():
        return
    found = f"{warehouse.working_database} can be opened"
    try:
        duckdb.connect(str(warehouse.working_database), read_only=True).close()
    except duckdb.Error as error:
        if not is_locked_elsewhere(error):
            raise damaged(warehouse, error) from error
        found = f"{warehouse.working_database} is in use by a run"
    yield "ok", found


def check_catalogue(data_dir: Path) -> Iterator[Finding]:
    """Is what readers open there as it was published? The first run makes it."""
    warehouse = Warehouse(data_dir)
    if not warehouse.catalogue.exists():
        return
    try:
        connect(data_dir).close()
    except (PublishError, WarehouseBusyError) as error:
        yield "warn", f"{error.file}: {error.problem}", error.next_step
        return
    kept = sorted(warehouse.set_aside_dir.glob("*"))
    if kept:
        yield (
            "warn",
            f"somebody wrote into {warehouse.catalogue}; readers see what was published, and what "
            f"was written is kept: {', '.join(map(str, kept))}",
            "Copy what is needed into a database of its own, which may ATTACH the catalogue "
            f"READ_ONLY, then remove {shlex.quote(str(warehouse.set_aside_dir))}.",
        )
        return
    yield "ok", f"{warehouse.catalogue} is as it was published"


def written_to(data_dir: Path) -> list[Path]:
    """Where data, the history and logs of runs, and temporary files lie."""
    homes = [Path(home)] if (home := dagster_home()) else []
    return [data_dir, *homes, Path(tempfile.gettempdir())]


def check_disks(data_dir: Path, *, is_required: bool) -> Iterator[Finding]:
    """Is what is written known to be encrypted on its disk?"""
    for disk in map(disk_of, written_to(data_dir)):
        found = f"{disk.folder} lies on {disk.found}"
        if disk.is_encrypted:
            yield "ok", found
        elif not is_required:
            yield "ok", f"{found}, which is not known to be encrypted"
        else:
            yield (
                "error",
                f"{found}, which is not known to be encrypted",
                "Move it, encrypt the disk (docs/security.md), or remove "
                "PIPELINE_REQUIRE_ENCRYPTED_DISK.",
            )


def check_free_disk(data_dir: Path) -> Iterator[Finding]:
    """Is there room for a day, for every disk that data or Dagster's home lies on?"""
    folders = [data_dir, *([Path(home)] if (home := dagster_home()) else [])]
    disks = {nearest_folder(folder.absolute()).stat().st_dev: folder for folder in folders[::-1]}
    for folder in reversed(disks.values()):
        existing = nearest_folder(folder.absolute())
        free, disk = shutil.disk_usage(existing).free, os.statvfs(existing)
        found = f"{free / 10**9:,.1f} GB are free for {folder}"
        has_no_inode = disk.f_files > 0 and disk.f_favail == 0
        if has_no_inode:
            found += ", but no further file (the disk has no inode left)"
        if free >= FREE_DISK_WARN_BYTES and not has_no_inode:
            yield "ok", found
        else:
            yield (
                "error" if free < FREE_DISK_ERROR_BYTES or has_no_inode else "warn",
                found,
                "Free some space (below 0.5 GB a day may not fit), or set PIPELINE_DATA_DIR or "
                "DAGSTER_HOME to a larger disk.",
            )

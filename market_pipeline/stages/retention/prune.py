"""Which days and leftovers may be removed, and removing them.

`plan` decides and touches nothing; `carry_out` does what was decided. Killed at any moment the
next call goes on: each step is whole or not done, and what proves that a day can be had again goes
last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

from market_pipeline.audit.record import record
from market_pipeline.config.values import JsonValue
from market_pipeline.security.envelope import slots_path
from market_pipeline.security.stored import is_sealed, remove_stored, sealed_path, stored_size
from market_pipeline.tables import RECORDS, TABLES, refresh_catalogue
from market_pipeline.warehouse.layout import Warehouse, sync
from market_pipeline.warehouse.ledger import alone_in
from market_pipeline.warehouse.locks import locking
from market_pipeline.warehouse.manifest import MANIFESTS
from market_pipeline.warehouse.publish import vacuum, withdraw
from market_pipeline.warehouse.staging import staging_age, sweep_staging
from market_pipeline.warehouse.working import delete_rows

__all__ = [
    "DELTA_TABLES",
    "SMALL_TABLES",
    "Candidate",
    "Kind",
    "Planned",
    "Retention",
    "carry_out",
    "plan",
]

Kind = Literal["raw", "derived", "recording", "quarantine", "staging", "replaced"]

DELTA_TABLES = tuple(table for table in TABLES.values() if table.storage == "delta")
SMALL_TABLES = tuple(
    table
    for table in (*TABLES.values(), *RECORDS)
    if table.storage == "duckdb" and table not in MANIFESTS
)
"""The small tables but for the manifests."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that takes room: a day of an instrument, or what a run left behind.

    Attributes:
        kind: raw (a day's folder of a raw table in the local lake of a store, or what a converter
            made of a day), derived (the day in all published tables), recording (what the live
            capture recorded of a day), quarantine (a copied file and its reason), staging (what
            killed runs left), replaced (files of a table that no version within a week holds).
        name: The raw table, the published table, or the file.
        instrument, day: Whose; None if that is unknown.
        files, rows, bytes: How much it is; rows are those of small tables.
        paths: The files that go with it, with the size of each. Of derived days there are none.
        again: How it could be had again.
        last_copy: Why it could not be had again; None if it could.
        stays: Why it is not removed whatever is asked; None if it may be.
        example: The file that the reason is about.
        lock: The lock file that who writes the files holds; None if they lock their folder.
    """

    kind: Kind
    name: str
    instrument: str | None
    day: date | None
    files: int
    bytes: int
    rows: int = 0
    paths: tuple[tuple[Path, int], ...] = ()
    again: str | None = None
    last_copy: str | None = None
    stays: str | None = None
    example: str | None = None
    lock: Path | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """How long days stay.

    Attributes:
        today: The UTC day under way.
        keep_raw_days, keep_derived_days, keep_recording_days: A day goes once so many whole days
            have passed since its end; None is never.
        also_last_copies: Whether what could not be had again goes too.
    """

    today: date
    keep_raw_days: int | None = None
    keep_derived_days: int | None = None
    also_last_copies: bool = False
    keep_recording_days: int | None = None

    def keeps_from(self, kind: Kind) -> date | None:
        """The first day that stays; None if all do."""
        own = {"derived": self.keep_derived_days, "recording": self.keep_recording_days}
        days = own.get(kind, self.keep_raw_days)
        return None if days is None else self.today - timedelta(days=days)


@dataclass(frozen=True, slots=True)
class Planned:
    """What is due by its age: whether it goes, and why, or why it stays."""

    candidate: Candidate
    goes: bool
    why: str

    def as_json(self) -> dict[str, JsonValue]:
        """All of it as JSON values."""
        candidate = self.candidate
        return {
            "kind": candidate.kind,
            "name": candidate.name,
            "instrument": candidate.instrument,
            "day": None if candidate.day is None else candidate.day.isoformat(),
            "files": candidate.files,
            "rows": candidate.rows,
            "bytes": candidate.bytes,
            "goes": self.goes,
            "why": self.why,
            "example": candidate.example,
            "last_copy": candidate.last_copy is not None,
        }


_LEFT_BEHIND: dict[Kind, str] = {
    "staging": "left by a run that was killed",
    "replaced": "no version of the last week holds it",
}


def plan(candidates: Iterable[Candidate], retention: Retention) -> list[Planned]:
    """What is due, in the order given; the rest is left out.

    Days are due by their age, each kind by its own setting, and never else. What killed runs left
    and what no reader can need is always due.
    """
    planned = []
    for each in candidates:
        reason = _LEFT_BEHIND.get(each.kind)
        if reason is None:
            keeps_from = retention.keeps_from(each.kind)
            if keeps_from is None or each.day is None or each.day >= keeps_from:
                continue
            reason = f"older than {(retention.today - keeps_from).days:,} days"
        if each.stays is not None:
            planned.append(Planned(each, goes=False, why=each.stays))
        elif each.last_copy is None:
            planned.append(
                Planned(each, goes=True, why=", and ".join(filter(None, (reason, each.again))))
            )
        elif retention.also_last_copies:
            planned.append(Planned(each, goes=True, why=f"{reason}; last copy: {each.last_copy}"))
        else:
            planned.append(Planned(each, goes=False, why=f"last copy: {each.last_copy}"))
    return planned


def carry_out(
    planned: Sequence[Planned],
    warehouse: Warehouse,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> list[tuple[Candidate, str]]:
    """Removes what goes, and returns what could not be removed, with the reason.

    A raw file that changed since it was listed stays. Of a raw day the ledger stays, so that a
    vendor's correction is known as one when the day is fetched again.

    Args:
        planned: From `plan`.
        warehouse: Whose tables, staging and quarantine.
        progress: Called with a line on what is done next.

    Each removal is recorded in the audit log before it is done.

    Raises:
        WarehouseBusyError: Another process kept a table for the whole wait.
        AuditError: A removal could not be recorded; it and those after it are not done.
    """
    going = [each.candidate for each in planned if each.goes]
    _remove_derived(going, warehouse, progress)
    failed = []
    for each in going:
        if each.kind in {"raw", "recording", "quarantine"}:
            progress(f"{each.name} {each.instrument} {each.day}")
            _record(each, warehouse)
            failed += [(each, reason) for reason in _remove_files(each, warehouse)]
    if any(each.kind == "staging" for each in going):
        progress("staging")
        record(warehouse.data_dir, "delete", {"kind": "staging"})
        with staging_age(warehouse) as older_than:
            sweep_staging(warehouse, older_than)
    of_tables = {each.name for each in going if each.kind == "replaced"}
    for table in DELTA_TABLES:
        if table.sql_name in of_tables:
            progress(f"replaced files of {table.sql_name}")
            record(warehouse.data_dir, "delete", {"kind": "replaced", "table": table.sql_name})
            vacuum(warehouse, table)
    return failed


def _remove_derived(
    going: Iterable[Candidate],
    warehouse: Warehouse,
    progress: Callable[[str], None],
) -> None:
    """Takes days out of every table: verdicts first, what proves they can be made again last."""
    partitions: dict[date, set[str]] = {}
    vacuums = False
    for each in going:
        vacuums = vacuums or each.kind == "replaced"
        if each.kind == "derived" and each.day is not None and each.instrument is not None:
            partitions.setdefault(each.day, set()).add(each.instrument)
    if partitions:
        progress("rows of published tables")
        for day, instruments in partitions.items():
            what = {"kind": "derived", "day": f"{day}", "instruments": sorted(instruments)}
            record(warehouse.data_dir, "delete", what)
        delete_rows(warehouse, SMALL_TABLES, partitions)
        for table in DELTA_TABLES:
            progress(table.sql_name)
            withdraw(warehouse, table, partitions)
        delete_rows(warehouse, MANIFESTS, partitions)
    if partitions or vacuums:
        progress("catalogue")
        refresh_catalogue(warehouse)


def _record(candidate: Candidate, warehouse: Warehouse) -> None:
    what = {
        "kind": candidate.kind,
        "name": candidate.name,
        "instrument": candidate.instrument,
        "day": candidate.day and f"{candidate.day}",
        "files": [str(path) for path, _ in candidate.paths],
        "last_copy": candidate.last_copy,
    }
    record(warehouse.data_dir, "delete", what)


def _remove_files(candidate: Candidate, warehouse: Warehouse) -> list[str]:
    """Removes the files of a raw or recorded day or of quarantine; why some could not be."""
    folders = {path.parent for path, _ in candidate.paths}
    failed = []
    for folder in sorted(folders):
        try:
            with alone_in(folder) if candidate.lock is None else locking(candidate.lock):
                own = [(path, size) for path, size in candidate.paths if path.parent == folder]
                changed = [path for path, size in own if _size(path) not in {size, None}]
                if changed:
                    failed.append(f"{changed[0]} changed meanwhile, and the day stays")
                    continue
                _unlink([path for path, _ in own], folder)
        except OSError as error:
            failed.append(f"{folder}: {error.strerror}")
        if candidate.kind == "quarantine":
            _remove_empty(folder, warehouse.quarantine_dir)
        elif candidate.kind == "recording":
            _remove_empty(folder, folder.parents[2])
    return failed


def _unlink(paths: Sequence[Path], folder: Path) -> None:
    """Removes files; of sealed ones the slots first, without which nothing of them is readable.

    What a disk still has of the bytes is then as good as noise.
    """
    slots = [slots_path(sealed_path(path)) for path in paths if sealed_path(path).exists()]
    for path in slots:
        path.unlink(missing_ok=True)
    if slots:
        sync(folder)
    for path in paths:
        remove_stored(path)
    sync(folder)


def _size(path: Path) -> int | None:
    try:
        return stored_size(path) if is_sealed(path) else path.lstat().st_size
    except FileNotFoundError:
        return None


def _remove_empty(folder: Path, up_to: Path) -> None:
    """Removes a folder and those above it while they are empty, but not the last one."""
    with suppress(OSError):
        while folder != up_to and folder.is_relative_to(up_to):
            folder.rmdir()
            folder = folder.parent

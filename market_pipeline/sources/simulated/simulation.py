"""Simulated days, written into a lake: which days, with which faults, by how many threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from itertools import combinations
from pathlib import Path

from market_pipeline.errors import SimulationError, naming
from market_pipeline.sources.raw_names import Series
from market_pipeline.sources.simulated._faults import TRUNCATED_SHARE, planters
from market_pipeline.sources.simulated._writer import (
    CONTRACT_TABLES,
    RAW_TABLES,
    REFERENCE_TABLE,
    DayWriter,
)
from market_pipeline.sources.simulated.market import Market
from market_pipeline.sources.simulated.plan import Fault, FaultKind, SimulatedInstrument
from market_pipeline.threads import Workers, check_stopped

__all__ = ["simulate"]

_MAX_SHARDS = 1_000


def simulate(
    lake: Path,
    instruments: Sequence[SimulatedInstrument],
    start: date,
    end: date,
    *,
    faults: Sequence[Fault] = (),
    messages_per_day: int = 100_000,
    snapshot_interval_s: float = 1.0,
    shards: int = 1,
    truth: Path | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> list[Path]:
    """Writes simulated days of some instruments into a lake folder.

    The same arguments give the same bytes (with the same releases of numpy, numba and pyarrow); the
    order of the instruments and what else is simulated beside one do not matter. Days are made in
    order, each from the closing book of the one before, so another `start` gives other days.

    Args:
        lake: The lake's root; the tables are folders in it.
        instruments: What to simulate; each id once.
        start, end: First and last UTC day, both inclusive.
        faults: What goes wrong, where and when.
        messages_per_day: Messages of an average day, of about 7 delta rows each.
        snapshot_interval_s: At least so many seconds between two rows of `book`.
        shards: Files per day and table, each an equal part of the day's hours.
        truth: Where to write `reference_bbo`, the market's own touch after every message, without
            any fault and also for a missing day; nowhere if None.
        overwrite: Replace days that are already there.
        progress: Called with one line of text after each instrument's day, in the caller's thread.

    Returns:
        The raw and reference files written, sorted.

    Raises:
        SimulationError: A fault fits no simulated day or another fault, or a day is already there.
        OSError: A file cannot be written. Days finished before stay; of an unfinished one nothing
            does.
    """
    days = [start + timedelta(days=count) for count in range((end - start).days + 1)]
    _check(instruments, days, faults, shards)
    markets = [
        Market(instrument, messages_per_day, snapshot_interval_s) for instrument in instruments
    ]
    run = _Run(lake=lake, truth=truth, faults=tuple(faults), shards=shards)
    if not overwrite:
        _refuse_existing(run, instruments, days)
    written: list[Path] = []
    with Workers(min(len(markets), os.cpu_count() or 1), "simulate") as pool:
        for day in days:
            # The market's kernel and the Parquet writer both work without the interpreter's lock.
            for outcome in pool.map(run.write_day, markets, [day] * len(markets)):
                written.extend(outcome.files)
                if progress is not None:
                    progress(outcome.text)
    return sorted(written)


@dataclass(frozen=True, slots=True)
class _Outcome:
    files: list[Path]
    text: str


@dataclass(frozen=True, slots=True)
class _Run:
    lake: Path
    truth: Path | None
    faults: tuple[Fault, ...]
    shards: int

    def folders(self, instrument: SimulatedInstrument, day: date) -> dict[str, Path]:
        """The folder of each table to be written, in the order they are to appear in."""

        def folder(root: Path, table: str) -> Path:
            series = Series(table, instrument.venue, instrument.symbol)
            return root / series.day_folder(day)

        contract = CONTRACT_TABLES if instrument.symbol.endswith("-PERP") else ()
        folders = {table: folder(self.lake, table) for table in (*contract, *RAW_TABLES)}
        if self.truth is not None:
            # First, so that whoever waits for the deltas finds it.
            return {REFERENCE_TABLE: folder(self.truth, REFERENCE_TABLE)} | folders
        return folders

    def write_day(self, market: Market, day: date) -> _Outcome:
        with naming(self.lake):
            return self._write_day(market, day)

    def _write_day(self, market: Market, day: date) -> _Outcome:
        instrument = market.instrument
        kinds = {
            fault.kind for fault in self.faults if fault.id == instrument.id and fault.day == day
        }
        day_start_ms = round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000
        faulty = planters(self.faults, instrument, day)
        counts = dict.fromkeys(RAW_TABLES, 0)
        folders = self.folders(instrument, day)
        if FaultKind.MISSING_DAY in kinds:
            for table in {*folders} - {REFERENCE_TABLE}:
                _remove_day(folders.pop(table))
        with ExitStack() as open_files:
            writers = {
                table: open_files.enter_context(
                    DayWriter(
                        table, folder, day_start_ms, 1 if table == REFERENCE_TABLE else self.shards
                    )
                )
                for table, folder in folders.items()
            }
            for batch in market.day(day):
                check_stopped()
                rows = reduce(lambda made, plant: plant(made), faulty, batch)
                for table, writer in writers.items():
                    counts[table] = counts.get(table, 0) + writer.write(rows)
            for table, writer in writers.items():
                cut = table == "book_delta_v2" and FaultKind.TRUNCATED_FILE in kinds
                writer.finish(last_shard_share=TRUNCATED_SHARE if cut else 1.0)
            # Only now: where the disk is full, a day is not to have some of its tables.
            files = [file for writer in writers.values() for file in writer.publish()]
        text = (
            f"{instrument.id} {day}: {counts['book_delta_v2']:,} delta rows, "
            f"{counts['trades']:,} trades, {counts['book']:,} snapshots"
        )
        planted = ", ".join(sorted(kind.replace("_", " ") for kind in kinds))
        return _Outcome(files, f"{text}; planted: {planted}" if planted else text)


def _remove_day(folder: Path) -> None:
    for file in folder.glob("*.snappy.parquet"):
        file.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _check(
    instruments: Sequence[SimulatedInstrument],
    days: Sequence[date],
    faults: Sequence[Fault],
    shards: int,
) -> None:
    ids = [instrument.id for instrument in instruments]
    if not ids or len(set(ids)) < len(ids):
        raise SimulationError(
            "A simulation needs at least one instrument, and each only once",
            found=", ".join(ids) or "none",
            next_step="Correct the instruments of the simulation.",
        )
    if not days:
        raise SimulationError(
            "The simulation ends before it begins",
            next_step="Give a last day that is not before the first one.",
        )
    if not 1 <= shards <= _MAX_SHARDS:
        raise SimulationError(
            "A day cannot have so many shards",
            expected=f"1 to {_MAX_SHARDS}",
            found=str(shards),
            next_step="Choose another number of shards.",
        )
    for fault in faults:
        if fault.id not in ids or fault.day not in days:
            raise _fault_error(fault, "it is planted in a day that is not simulated")
    for one, other in combinations(faults, 2):
        if (one.id, one.day) == (other.id, other.day) and _collide(one, other):
            raise _fault_error(other, f"it falls together with a {one.kind} fault")


def _collide(one: Fault, other: Fault) -> bool:
    """Whether two faults of the same day would change what the other is documented to do."""
    kinds = {one.kind, other.kind}
    if FaultKind.MISSING_DAY in kinds or len(kinds) == 1:
        both_timed = one.duration_s > 0 and other.duration_s > 0
        return not both_timed or _overlap(one, other)
    if kinds & {FaultKind.TRUNCATED_FILE, FaultKind.CLOCK_SKEW}:
        return False
    return _overlap(one, other)


def _overlap(one: Fault, other: Fault) -> bool:
    return one.at_s < other.end_s and other.at_s < one.end_s


def _fault_error(fault: Fault, problem: str) -> SimulationError:
    return SimulationError(
        f"A {fault.kind} fault cannot be planted: {problem}",
        exchange=fault.venue,
        symbol=fault.symbol,
        day=fault.day,
        next_step="Correct the faults of the simulation.",
    )


def _refuse_existing(
    run: _Run, instruments: Sequence[SimulatedInstrument], days: Sequence[date]
) -> None:
    for day in days:
        for instrument in instruments:
            for folder in run.folders(instrument, day).values():
                existing = sorted(folder.glob("*.snappy.parquet"))
                if existing:
                    raise SimulationError(
                        "A simulated day is already there",
                        exchange=instrument.venue,
                        symbol=instrument.symbol,
                        day=day,
                        file=existing[0],
                        next_step="Simulate into another folder, or allow it to be overwritten.",
                    )

"""Which arrived days are to be run: those whose files no run has seen as they are now.

What a run saw is in `lake.manifest`, whoever started it; when it began, only Dagster knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

from market_pipeline.errors import StoreError
from market_pipeline.stages.raw.days import MANIFEST_OF, VendorFile, object_name
from market_pipeline.stages.triggers.lake_state import (
    ArrivedDay,
    LakeState,
    fingerprint_of,
    stream_digest,
)
from market_pipeline.stages.triggers.listing import RawLake, Stream
from market_pipeline.tables import open_catalogue
from market_pipeline.warehouse.manifest import MANIFEST

__all__ = ["Known", "Registered", "RunRequests", "has_arrived_since", "registered", "run_requests"]

_MOST_DAYS = 100
_MOST_SECONDS = 20.0
_RAW_TABLES = {table.name: raw for raw, table in MANIFEST_OF.items()}


class Registered(NamedTuple):
    """What the last run of a day saw of some streams.

    Attributes:
        fingerprint: As that of a `ArrivedDay` of a store; of a folder or a converter it says
            nothing.
        files, bytes: How many files there were, and their bytes; those for converters count as
            none.
    """

    fingerprint: str
    files: int
    bytes: int


def registered(data_dir: Path, streams: Sequence[Stream], day: date) -> Registered:
    """What the manifest says of a day; an object that could not be fetched was not seen.

    Args:
        data_dir: Whose catalogue.
        streams: Those that count.
        day: Which.
    """
    folders = {
        (each.raw and each.raw.name, *each.series[1:]): each.series.folder
        for each in streams
        if each.instrument.is_listed_on(day)
    }
    with closing(open_catalogue(data_dir)) as connection:
        rows = connection.execute(
            "SELECT asset, exchange, symbol, coalesce(uri, path), bytes, etag, made_from "
            f"FROM {MANIFEST.sql_name} WHERE dt = $1 AND status <> 'missing'",
            [day],
        ).fetchall()
    files: dict[str, set[tuple[str, int, str]]] = {}
    for asset, exchange, symbol, place, size, etag, made_from in rows:
        if made_from is None:
            raw = _RAW_TABLES.get(asset, asset)  # of an optional table there is no stream
            objects = {(object_name(place), size, etag or "")}
        else:  # each of a converter's tables tells all of its files
            raw = None
            objects = {(VendorFile.parts_of(made)[1], 0, "") for made in made_from}
        folder = folders.get((raw, exchange, symbol))
        if folder is not None:
            files.setdefault(folder, set()).update(objects)
    found = [each for of_stream in files.values() for each in of_stream]
    return Registered(
        fingerprint_of(sum(stream_digest(folder, each) for folder, each in files.items())),
        len(found),
        sum(size for _, size, _ in found),
    )


@dataclass(frozen=True, slots=True)
class Known:
    """Who can tell of runs.

    Attributes:
        is_under_way: Whether a run of a day is queued or going on.
        last_whole_run_s: When the last successful run of all of a day began, Unix time, if any.
        registered: What that run, or a later one, saw of the day.
        marks_are_registered: Whether a fingerprint is comparable with a registered one, as of a
            store without converters. Otherwise a file that was changed since the run began tells.
        settle_seconds: Then, so long before it too.
    """

    is_under_way: Callable[[date], bool]
    last_whole_run_s: Callable[[date], float | None]
    registered: Callable[[date], Registered]
    marks_are_registered: bool
    settle_seconds: float = 0.0

    def was_seen(self, arrived: ArrivedDay, began_s: float) -> bool:
        """Whether the run that began then has seen the day as it is now."""
        if began_s < arrived.newest_s + (0 if self.marks_are_registered else self.settle_seconds):
            return False
        seen = self.registered(arrived.day)
        if self.marks_are_registered:
            return seen.fingerprint == arrived.fingerprint
        return (seen.files, seen.bytes) == (arrived.files, arrived.bytes)


@dataclass(frozen=True, slots=True)
class RunRequests:
    """The days to run with the key of each run, and how many wait for a run's end or a new scan."""

    runs: Sequence[tuple[date, str]]
    waiting: int


def run_requests(
    state: LakeState,
    arrived: Iterable[ArrivedDay],
    known: Known,
    most: int,
    now_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> RunRequests:
    """The days that no run has seen as they are now; the state takes note of them.

    A run key is the day and its fingerprint, so that one that failed is not requested again even
    if the state is lost. After a successful run it has the time too: what is there now may be what
    was there before that run.

    Args:
        state: What is known of each day of the lake; it takes note of days that no run has seen.
        arrived: Its `arrived` days, in the order in which they are to be run.
        known: Who can tell of runs.
        most: No more days than these; the others are left for the next tick, as are those that
            there is no time to ask about.
        now_s: Unix time.
        clock: Seconds that only ever grow.
    """
    end = clock() + _MOST_SECONDS
    runs: list[tuple[date, str]] = []
    waiting = 0
    for number, each in enumerate(arrived):
        if len(runs) == most or number == _MOST_DAYS or clock() >= end:
            break
        if known.is_under_way(each.day):
            state.forget(each.day)
            waiting += 1
            continue
        began_s = known.last_whole_run_s(each.day)
        if began_s is None:
            runs.append((each.day, f"{each.day}:{each.fingerprint}"))
        elif not known.was_seen(each, began_s):
            if began_s >= state.full_s:
                # That run may have seen more than the last full scan, so the next one decides.
                waiting += 1
                continue
            runs.append((each.day, f"{each.day}:{each.fingerprint}:{int(now_s)}"))
        state.note(each)
    return RunRequests(runs, waiting)


def has_arrived_since(
    lake: RawLake,
    streams: Sequence[Stream],
    day: date,
    since_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Whether a file of a day, in any of these streams, was changed at or after a Unix time.

    If that is not known in time, or the store cannot be listed, the answer is yes: a run will
    tell.
    """
    end = clock() + _MOST_SECONDS
    for stream in streams:
        if clock() >= end:
            return True
        try:
            for file in lake.files(stream, day):
                if file.day > day:
                    break
                if file.changed_s >= since_s:
                    return True
        except StoreError:
            return True
    return False

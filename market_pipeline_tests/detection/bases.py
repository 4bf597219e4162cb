"""The clean days that faults are put into: real sample days and whole simulated ones."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from market_pipeline.config.instruments import Instrument
from market_pipeline.sources.simulated import simulate
from market_pipeline_tests.detection.faults.capture_day import CaptureDay, depth_ids
from market_pipeline_tests.detection.faults.day import RECEIPT, RawDay, shifted_days
from market_pipeline_tests.detection.planted import Planted, matched
from market_pipeline_tests.detection.run import Outcome, run_day
from market_pipeline_tests.detection.truth import BookTruth, Truth, full_book
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, read_table, sample_root
from market_pipeline_tests.sources.simulated.days import DAY
from market_pipeline_tests.sources.simulated.days import instrument as simulated

__all__ = [
    "SIMULATED",
    "Base",
    "copy_warehouse",
    "finish",
    "head",
    "load_base",
    "planted_of",
    "prepare_sample",
    "prepare_simulated",
]

IntArray = npt.NDArray[np.int64]

BEFORE = DAY - timedelta(days=1)
NEIGHBOUR_MESSAGES = 300
SIMULATED = {"whole day": 1.0, "whole day with few snapshots": 40.0}
"""Seconds between two snapshots of each simulated whole day."""
SIMULATED_MESSAGES = 8_000


@dataclass(frozen=True)
class Base:
    """A clean day, ready to be spoilt.

    Attributes:
        name: What the table calls it.
        day: The clean day; faults may take rows of the other day and instrument in it.
        receipt_ns: int64 (messages,), when each message was received; 0 for one that is not in it.
        instrument, neighbour: Whose day it is, and one that is validated in the same run.
        lake: A lake with both clean days.
        data_dir: A warehouse in which the day before is published, to be copied.
        truth: What is known of the book after each message.
        clean: The outcome of the clean day.
    """

    name: str
    day: RawDay | CaptureDay
    receipt_ns: IntArray
    instrument: Instrument
    neighbour: Instrument
    lake: Path
    data_dir: Path
    truth: Truth
    clean: Outcome


def load_base(file: Path) -> Base:
    """A base that was prepared before."""
    return _loaded(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _loaded(file: Path, _: int) -> Base:
    # Made by `finish` of this module a moment ago.
    base: Base = pickle.loads(file.read_bytes())
    return base


def prepare_sample(root: Path, number: int) -> Path:
    """Prepares one of the real sample days; returns the file that `load_base` takes."""
    exchange, symbol, day = SAMPLE_DAYS[number]
    source = sample_root() / "lake"
    own = RawDay.read(source, exchange, symbol, day)
    same = [each for each in SAMPLE_DAYS if each[:2] == (exchange, symbol) and each[2] != day]
    other = RawDay.read(source, *same[0]) if same else None
    # On the same date another instrument, or else one of another date moved to it.
    elsewhere = [each for each in SAMPLE_DAYS if each[1] != symbol]
    elsewhere.sort(key=lambda each: (each[2] != day, each[0] != "BINANCE_DELIVERY"))
    neighbour = shifted_days(head(RawDay.read(source, *elsewhere[0])), day)
    before = other if other is not None and other.day < day else None
    accounts = full_book(
        _rest_snapshot(exchange, symbol),
        [each.deltas for each in ([before] if before else [])] + [own.deltas],
        applies_own_number=exchange != "BINANCE",
    )
    day_of = replace(own, other_day=other, other_instrument=neighbour)
    name = f"{exchange}:{symbol} {day}"
    return finish(
        root / f"sample-{number}",
        name,
        day_of,
        neighbour,
        accounts[-1:],
        instrument_of(own),
        before,
    )


def _rest_snapshot(exchange: str, symbol: str) -> pl.DataFrame:
    """The full snapshot that the truth of an instrument's days begins with."""
    first = min(each[2] for each in SAMPLE_DAYS if each[:2] == (exchange, symbol))
    return read_table("truth/rest_snapshot", exchange, symbol, first)


def prepare_simulated(root: Path, name: str, messages: int = SIMULATED_MESSAGES) -> Path:
    """Prepares a whole simulated day, with the day before published."""
    folder = root / name.replace(" ", "-")
    made = [simulated("BTC-USDT-PERP"), simulated("ETH-USDT-PERP")]
    source, truth = folder / "simulated", folder / "truth"
    interval_s = SIMULATED[name]
    arguments: dict[str, Any] = {"snapshot_interval_s": interval_s, "overwrite": True}
    simulate(source, made[:1], BEFORE, DAY, messages_per_day=messages, truth=truth, **arguments)
    simulate(source, made[1:], BEFORE, DAY, messages_per_day=messages // 6, **arguments)
    own, before = (RawDay.read(source, "SIMULATED", "BTC-USDT-PERP", day) for day in (DAY, BEFORE))
    neighbour = RawDay.read(source, "SIMULATED", "ETH-USDT-PERP", DAY)
    touch = pl.read_parquet(
        truth / f"reference_bbo/exchange=SIMULATED/symbol=BTC-USDT-PERP/dt={DAY}/*.parquet",
        hive_partitioning=False,
    )
    columns = ("bid_0_price", "bid_0_size", "ask_0_price", "ask_0_size")
    account = BookTruth(
        touch.select(columns).to_numpy(),
        np.full((touch.height, 2, 20, 2), np.nan),
        np.ones(touch.height, np.bool_),
        has_depth=False,
    )
    day_of = replace(own, other_day=before, other_instrument=neighbour)
    return finish(folder, name, day_of, neighbour, [account], instrument_of(own), before)


def head(day: RawDay) -> RawDay:
    """The first messages of a day, and what was received meanwhile."""
    deltas = day.messages.take(range(NEIGHBOUR_MESSAGES))
    end = int(deltas[RECEIPT][-1])
    short = day.put("deltas", deltas)
    for table in ("snapshots", "trades"):
        short = short.put(table, day.table(table).filter(pl.col(RECEIPT) <= end))
    return short


def instrument_of(day: RawDay) -> Instrument:
    """The instrument of a day, as a user without any figure would configure it."""
    source = "simulated" if day.exchange == "SIMULATED" else "crypto_lake"
    return Instrument(venue=day.exchange, symbol=day.symbol, source=source)


def finish(
    folder: Path,
    name: str,
    day: RawDay | CaptureDay,
    beside: RawDay,
    accounts: Sequence[BookTruth],
    instrument: Instrument,
    before: RawDay | None = None,
) -> Path:
    """Publishes the clean day, and writes the base to a file.

    Args:
        folder: Where to keep all of it.
        name: What the table calls it.
        day: The clean day.
        beside: The day of another instrument, which is validated in the same run.
        accounts: What is known of the book apart from what is published.
        instrument: Whose day it is.
        before: The day before, to be published first.
    """
    neighbour = instrument_of(beside)
    lake, data_dir = folder / "lake", folder / "before"
    folder.mkdir(parents=True, exist_ok=True)
    data_dir.mkdir(exist_ok=True)
    if before is not None:
        before.write(lake)
        run_day(lake, data_dir, [instrument], before.day)
    day.write(lake)
    beside.write(lake)
    copied = folder / "clean"
    copy_warehouse(data_dir, copied)
    clean = run_day(lake, copied, [instrument, neighbour], day.day, depth_interval_ms=0)
    assert clean.crashed is None, clean.crashed
    planted = planted_of(day)
    count = len(accounts[0].known)
    times = np.zeros(count, np.int64)
    times[planted.message] = planted.ts_receipt_ns
    truth = Truth((*accounts, _published(planted, count, clean)))
    base = Base(name, day, times, instrument, neighbour, lake, data_dir, truth, clean)
    file = folder / "base.pickle"
    file.write_bytes(pickle.dumps(base))
    return file


def copy_warehouse(source: Path, target: Path) -> None:
    """A copy of a warehouse that may be published into."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)


def planted_of(day: RawDay | CaptureDay, *, snapshots: bool = False) -> Planted:
    """The messages of a day in the order of its files; its snapshots, if rows are of these."""
    if isinstance(day, CaptureDay):
        lines = sum((lines for _, lines in day.more), day.lines)
        return Planted(*depth_ids(lines))
    return Planted.of_snapshots(day.snapshots) if snapshots else Planted.of_rows(day.deltas)


def _published(planted: Planted, count: int, clean: Outcome) -> BookTruth:
    """What the clean day was published as, by message."""
    touch, top = np.full((count, 4), np.nan), np.full((count, 2, 20, 2), np.nan)
    known = np.zeros(count, np.bool_)
    at = matched(planted, clean.bbo.sequence_number, clean.bbo.ts_receipt_ns)
    touch[planted.message[at]] = clean.bbo.touch
    known[planted.message[at]] = clean.bbo.valid
    in_depth = matched(planted, clean.depth.sequence_number, clean.depth.ts_receipt_ns)
    top[planted.message[in_depth]] = clean.depth.top
    return BookTruth(touch, top, known)

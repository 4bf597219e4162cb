from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.arrow import BookArrow
from market_pipeline.books.flags import BookFlag
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.scale import Scale
from market_pipeline.books.tables import CHECKPOINTS, INTERVALS
from market_pipeline.config.instruments import Instrument
from market_pipeline.quality.findings import Finding, Measured
from market_pipeline.quality.reference.book import plain_rebuild
from market_pipeline.quality.reference.feed import (
    Row,
    Snapshot,
    mark_messages,
    mark_snapshots,
    messages_of,
)
from market_pipeline.quality.reference.state import PlainBook
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, day_folder
from market_pipeline.sources.simulated import simulate
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.stages.raw.register import register_day
from market_pipeline.stages.rebuild.close_replay import replay_close
from market_pipeline.stages.rebuild.seed import keyframe_of
from market_pipeline.stages.validation.context import InstrumentDay, PublishedBooks
from market_pipeline.stages.validation.day_boundary import measure_day_boundary
from market_pipeline.stages.validation.lookups import Lookups
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.read import day_rows, scan
from market_pipeline.warehouse.staging import StagedWriter
from market_pipeline_tests.books.feeds import any_side, sound_feeds
from market_pipeline_tests.books.test_resumed import ONE, Feed
from market_pipeline_tests.detection.real_faults import copied
from market_pipeline_tests.detection.validating import validate
from market_pipeline_tests.quality.factory import a_record
from market_pipeline_tests.sources.simulated.days import DAY as MONDAY
from market_pipeline_tests.sources.simulated.days import NEXT_DAY as TUESDAY
from market_pipeline_tests.sources.simulated.days import instrument as simulated
from market_pipeline_tests.stages.days import ASSETS, rebuild_instrument
from market_pipeline_tests.stages.days import settings as settings_of

SECOND = 10**9
MARKET = simulated()
OF = MARKET.as_instrument()
TICK, LOT = Scale(1, 1), Scale(1, 3)
HOLDS = {
    "day_boundary_levels": 40,
    "day_boundary_mismatch_share": 0.0,
    "day_boundary_mid_deviation_ticks": 0.0,
}


def raw_of(lake: Path, of: Instrument, day: date) -> RegisteredDay:
    objects = []
    for raw in (DELTAS, SNAPSHOTS, TRADES):
        table = TABLES[ASSETS[raw.name]]
        objects.append(RawObjects(lake, table.frame(register_day(lake, raw, of, day))))
    return RegisteredDay(day, lake, *objects)


@dataclass
class TwoDays:
    """Two simulated days; Monday's closing book is published, Tuesday is about to be validated."""

    lake: Path
    warehouse: Warehouse
    settings: Any

    def file(self, table: Any, day: date = TUESDAY) -> Path:
        (file,) = day_folder(self.lake, table, OF.venue, OF.symbol, day).glob("*.parquet")
        return file

    def spoil(self, table: Any, change: Any) -> None:
        """Writes Tuesday's rows of a table as `change` makes them."""
        rows = pl.read_parquet(self.file(table), hive_partitioning=False)
        change(rows).write_parquet(self.file(table), compression="snappy")

    def close(self) -> Keyframe:
        rows = scan(self.warehouse, CHECKPOINTS, MONDAY).filter(kind="closing").collect()
        return keyframe_of(rows.row(0, named=True), TICK, LOT)

    def close_with(self, close: Keyframe, scales: tuple[Scale, Scale] = (TICK, LOT)) -> None:
        """Publishes another closing book of Monday."""
        with StagedWriter(self.warehouse, CHECKPOINTS, OF.id) as writer:
            writer.write(BookArrow(OF, MONDAY, *scales).checkpoints([close]))
        publish(self.warehouse, CHECKPOINTS, MONDAY, [writer.staged])

    def measure(self, **record: object) -> Measured:
        nothing = day_rows(self.warehouse, INTERVALS, TUESDAY)
        books = PublishedBooks(pl.DataFrame(), nothing, nothing, nothing)
        of_tuesday = a_record(
            **{"tick": "0.1", "lot": "0.001", "strategy": "full_deltas", **record}
        )
        lookups = Lookups(raw_of(self.lake, OF, TUESDAY), self.warehouse)
        return measure_day_boundary(InstrumentDay(OF, lookups, of_tuesday, books, self.settings))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of both days, and a warehouse with Monday's closing book."""
    root = tmp_path_factory.mktemp("two")
    warehouse = Warehouse(root / "data")
    warehouse.prepare()
    simulate(root / "lake", [MARKET], MONDAY, TUESDAY, messages_per_day=4_000)
    raw = raw_of(root / "lake", OF, MONDAY)
    files, _ = rebuild_instrument(raw, OF, settings_of(root), warehouse)
    publish(warehouse, CHECKPOINTS, MONDAY, files[CHECKPOINTS.sql_name])
    return root


@pytest.fixture
def two(made: Path, folder: Path) -> TwoDays:
    """Copies of both, to be spoilt."""
    shutil.copytree(made, folder, symlinks=True, dirs_exist_ok=True)
    return TwoDays(folder / "lake", Warehouse(folder / "data"), settings_of(folder))


def first_of(measured: Measured) -> Finding:
    first = measured.findings[0]
    assert ("day_boundary", "first") == (first.check, first.place)
    return first


class TestHolds:
    def test_days_that_join(self, two: TwoDays):
        """All forty levels of the first snapshot are those of the carried book; nothing is told."""
        measured = two.measure()

        assert HOLDS.items() <= measured.columns.items()
        assert (None, []) == (measured.columns["day_boundary_problem"], measured.findings)
        assert 0 < measured.columns["day_boundary_pause_seconds"] < 60

    def test_a_pause_in_which_nothing_was_lost(self, two: TwoDays):
        """However long the pause, levels that are all right show that nothing was lost."""
        close = two.close()
        two.close_with(replace(close, ts_receipt_ns=close.ts_receipt_ns - 3_600 * SECOND))
        measured = two.measure()

        assert HOLDS.items() <= measured.columns.items()
        assert 3_600 < measured.columns["day_boundary_pause_seconds"]
        assert measured.columns["day_boundary_problem"] is None

    def test_without_a_snapshot(self, two: TwoDays):
        """Days that join in time and numbers have no problem, only no level to compare."""
        shutil.rmtree(two.lake / "book")
        columns = two.measure().columns

        assert (0, None, None, None) == tuple(
            columns[name]
            for name in (
                "day_boundary_levels",
                "day_boundary_mismatch_share",
                "day_boundary_mid_deviation_ticks",
                "day_boundary_problem",
            )
        )

    def test_a_snapshot_much_later_is_not_waited_for(self, two: TwoDays):
        """Beyond ten minutes of market time the search ends."""
        begin = pl.read_parquet(two.file(DELTAS), hive_partitioning=False)["receipt_timestamp"][0]
        late = pl.col("receipt_timestamp") > begin + 601 * SECOND
        two.spoil(SNAPSHOTS, lambda rows: rows.filter(late))

        assert 0 == two.measure().columns["day_boundary_levels"]

    def test_snapshots_that_began_long_before(self, two: TwoDays):
        """More than are read at once lie before the ten minutes; the first in these is compared."""
        early = pl.col("receipt_timestamp") - 1_200 * SECOND
        two.spoil(SNAPSHOTS, lambda rows: pl.concat([rows[[0] * 10_000].with_columns(early), rows]))

        assert HOLDS.items() <= two.measure().columns.items()


class TestNotAsked:
    def test_of_a_day_without_yesterday(self, two: TwoDays):
        """No published closing book is no day boundary, and no problem."""
        shutil.rmtree(two.warehouse.data_dir)

        assert Measured() == two.measure()

    def test_of_a_day_of_snapshots(self, two: TwoDays):
        """A day published from its snapshots has no messages to carry a book through."""
        assert Measured() == two.measure(strategy="snapshots_only")


class TestLevels:
    def test_a_level_changed_in_the_closing_book(self, two: TwoDays):
        """It is found at its price, with both sizes, and where the snapshot holds it."""
        close = two.close()
        snapshot = pl.read_parquet(two.file(SNAPSHOTS), hive_partitioning=False).row(0, named=True)
        at = close.bid_price_ticks.tolist().index(round(snapshot["bid_17_price"] * 10))
        sizes = close.bid_size_lots.copy()
        sizes[at] += 1_000
        two.close_with(replace(close, bid_size_lots=sizes))
        measured = two.measure()
        first = first_of(measured)

        assert (40, 1 / 40, 0.0, None) == tuple(
            measured.columns[name]
            for name in (
                "day_boundary_levels",
                "day_boundary_mismatch_share",
                "day_boundary_mid_deviation_ticks",
                "day_boundary_problem",
            )
        )
        assert 1 == len(measured.findings)
        assert ("bid_17_size", 0, snapshot["sequence_number"]) == (
            first.column,
            first.row,
            first.sequence_number,
        )
        assert 1.0 == pytest.approx(float(first.value or 0) - float(first.expected or 0))
        assert f"{snapshot['bid_17_price']:.1f}" in first.note

    def test_a_ghost(self, two: TwoDays):
        """A level that only the closing book has counts, and stands in no column."""
        close = two.close()
        at = int(np.flatnonzero(np.diff(close.ask_price_ticks) > 1)[0])
        new = close.ask_price_ticks[at] + 1
        asks = np.insert(close.ask_price_ticks, at + 1, new)
        lots = np.insert(close.ask_size_lots, at + 1, 7)
        two.close_with(replace(close, ask_price_ticks=asks, ask_size_lots=lots))
        measured = two.measure()
        first = first_of(measured)

        assert (41, 1 / 41) == (
            measured.columns["day_boundary_levels"],
            measured.columns["day_boundary_mismatch_share"],
        )
        assert ("0.007", "no level", None) == (first.value, first.expected, first.column)


class TestProblems:
    def test_messages_lost_after_midnight(self, two: TwoDays):
        """A pause that is a silence, with levels that differ, is told with its length."""
        start = pl.read_parquet(two.file(DELTAS), hive_partitioning=False)["receipt_timestamp"][0]
        kept = pl.col("receipt_timestamp") > start + 3_600 * SECOND
        two.spoil(DELTAS, lambda rows: rows.filter(kept))
        measured = two.measure()
        first = first_of(measured)

        assert "is a silence: messages may be lost" in measured.columns["day_boundary_problem"]
        assert 0 < measured.columns["day_boundary_mismatch_share"]
        assert (0, True) == (first.row, (first.file or "").startswith("book_delta_v2/"))
        assert {"further"} == {finding.place for finding in measured.findings[1:]}
        assert 21 >= len(measured.findings)

    def test_messages_in_both_days(self, two: TwoDays):
        """A day that begins with the last messages of the one before overlaps with it."""
        before = pl.read_parquet(two.file(DELTAS, MONDAY), hive_partitioning=False).tail(200)
        two.spoil(DELTAS, lambda rows: pl.concat([before, rows]))
        measured = two.measure()
        problem = measured.columns["day_boundary_problem"]

        assert HOLDS.items() <= measured.columns.items()
        assert "messages are in both days, or the ids began anew" in problem
        assert "before the time of the closing book" in problem
        assert str(before["sequence_number"][0]) == first_of(measured).value

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"flags": int(BookFlag.GAP | BookFlag.CROSSED)}, "is not valid (GAP, CROSSED)"),
            ({"flags": int(BookFlag.SNAPSHOT_ONLY)}, "is a snapshot"),
            ({"bid_horizon_ticks": None, "ask_horizon_ticks": None}, "was never seeded"),
        ],
    )
    def test_a_closing_book_that_is_none_to_go_on_from(self, two: TwoDays, changes, text):
        """It is said why, and nothing is compared."""
        two.close_with(replace(two.close(), **changes))
        measured = two.measure()

        assert (
            f"the closing book of {MONDAY} {text}"
            == measured.columns["day_boundary_problem"][
                : len(f"the closing book of {MONDAY} {text}")
            ]
        )
        assert 0 == measured.columns["day_boundary_levels"]
        assert text in first_of(measured).note

    def test_another_grid(self, two: TwoDays):
        """A closing book between today's ticks is told with both grids."""
        measured = two.measure(tick="0.2")

        assert (
            f"the closing book of {MONDAY} is not on this day's grid "
            "(expected tick 0.2, lot 0.001, found tick 0.1, lot 0.001)"
        ) == measured.columns["day_boundary_problem"]

    def test_a_damaged_closing_book(self, two: TwoDays):
        """A row whose checksum is not that of its levels is not carried."""
        closing = scan(two.warehouse, CHECKPOINTS, MONDAY).filter(kind="closing").collect()
        rows = closing.with_columns(checksum=pl.lit("0" * 64)).to_arrow()
        with StagedWriter(two.warehouse, CHECKPOINTS, OF.id) as writer:
            for batch in rows.cast(CHECKPOINTS.arrow_schema).to_batches():
                writer.write(batch)
        publish(two.warehouse, CHECKPOINTS, MONDAY, [writer.staged])

        assert "is damaged" in two.measure().columns["day_boundary_problem"]

    def test_not_for_want_of_descriptors(self, two: TwoDays, monkeypatch):
        """What cannot be read because too many files are open is raised: no day tells of it."""

        def many(_: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(pl.LazyFrame, "collect", many)
        with pytest.raises(OSError, match="Too many open files"):
            two.measure()

    def test_a_file_that_cannot_be_read(self, two: TwoDays):
        """What has become of today's deltas is told as a problem, not raised."""
        two.file(DELTAS).write_bytes(b"no parquet")
        measured = two.measure()

        assert "cannot be read" in measured.columns["day_boundary_problem"]
        assert 0 == measured.columns["day_boundary_levels"]


@st.composite
def closing_books(draw) -> Keyframe:
    """A book a side of some levels, the last one or two of them beyond the known horizon."""
    sides = []
    best = draw(st.integers(992, 1006))
    for start, away in ((best, -1), (best + draw(st.integers(1, 3)), 1)):
        levels = any_side(draw, start, away)
        sides += [np.array(column, np.int64) for column in zip(*levels, strict=True)]
    low, high = (draw(st.sampled_from(side[-2:].tolist())) for side in (sides[0], sides[2]))
    return Keyframe("closing", 0, 0, 99, 1, 0, *sides, low, high)


@pytest.mark.slow
class TestAgainstThePlainBook:
    @settings(max_examples=100)
    @given(closing_books(), sound_feeds(), st.lists(st.integers(0, 200), max_size=3))
    def test_counts_what_it_counts(self, close, feed, cuts):
        """Levels compared and differing are the plain book's, wherever batches are cut."""
        parts, snapshots = feed
        rows = [row for part in parts for row in part]
        if not rows:
            return
        today = Feed(rows, snapshots, [], [], np.empty(0, np.int64))
        carried = replay_close(close, today.deltas(cuts), today.books(2), ONE, ONE)
        plain = carried_plainly(close, rows, snapshots)

        for name in (
            "snapshots_compared",
            "snapshots_mismatched",
            "snapshot_levels",
            "snapshot_levels_matching",
        ):
            assert plain.counts.get(name, 0) == carried.figures[name]
        assert (
            plain.counts.get("snapshot_levels_ghost", 0) == carried.figures["snapshot_levels_ghost"]
        )
        assert (carried.snapshot is not None) == (carried.figures["snapshots_compared"] == 1)
        if max(len(plain.bids.prices), len(plain.asks.prices)) <= 20:
            assert carried.levels_differing == len(carried.differences)


def carried_plainly(close: Keyframe, rows: list[Row], snapshots: list[Snapshot]) -> PlainBook:
    """The plain book after the first snapshot of the first ten minutes that is compared."""
    plain = PlainBook(resync="never")
    for snapshot in snapshots:
        is_near = abs(snapshot.ts_receipt_ns - rows[0].ts_receipt_ns) <= 600 * SECOND
        if is_near and snapshot.sequence_number in {99, *(row.sequence_number for row in rows)}:
            plain = PlainBook(resync="never")
            plain.go_on_from(close)
            messages = list(messages_of(rows))
            mark_messages(messages)
            for _ in plain_rebuild(plain, messages, mark_snapshots([snapshot])):
                pass
            if plain.counts.get("snapshots_compared"):
                break
    return plain


REAL = (
    ("BINANCE_FUTURES", "ETH-USDT-PERP", date(2024, 7, 18), date(2024, 7, 19)),
    ("BINANCE", "BTC-USDT", date(2024, 8, 8), date(2024, 8, 9)),
    ("BINANCE_DELIVERY", "BTC-USD-PERP", date(2024, 8, 8), date(2024, 8, 9)),
)


@pytest.mark.slow
class TestRealDays:
    @pytest.mark.parametrize(("exchange", "symbol", "first", "second"), REAL)
    def test_captures_that_run_across_midnight_join(
        self, sample_data: Path, folder: Path, exchange, symbol, first, second
    ):
        """All levels of the second day's first snapshot are those of the carried book."""
        lake = folder / "lake"
        for day in (first, second):
            copied(sample_data, lake, exchange, symbol, str(day))
        of = Instrument(venue=exchange, symbol=symbol, source="crypto_lake")
        before = validate(lake, folder / "data", [of], first)[symbol]
        after = validate(lake, folder / "data", [of], second)[symbol]

        assert before.row.day_boundary_levels is None
        assert (40, 0.0, 0.0, None) == (
            after.row.day_boundary_levels,
            after.row.day_boundary_mismatch_share,
            after.row.day_boundary_mid_deviation_ticks,
            after.row.day_boundary_problem,
        )
        assert after.outcomes["day_boundary"].passed

    def test_messages_dropped_after_midnight_show(self, sample_data: Path, folder: Path):
        """Eight lost messages of a tenth of a second, no silence at all, are found by levels."""
        exchange, symbol, first, second = REAL[2]
        copied(sample_data, folder / "lake", exchange, symbol, str(first))
        spoilt = copied(sample_data, folder / "lake", exchange, symbol, str(second))
        rows = spoilt.read("book_delta_v2")
        lost = rows["sequence_number"].unique(maintain_order=True)[:8]
        spoilt.write("book_delta_v2", rows.filter(~pl.col("sequence_number").is_in(lost.implode())))
        of = Instrument(venue=exchange, symbol=symbol, source="crypto_lake")
        validate(folder / "lake", folder / "data", [of], first)
        said = validate(folder / "lake", folder / "data", [of], second)[symbol]

        assert {"day_boundary": "WARN"}.items() <= said.failed.items()
        assert said.row.day_boundary_problem is None
        assert 0 < said.row.day_boundary_mismatch_share < 0.2
        assert said.places("day_boundary")[0].column is not None

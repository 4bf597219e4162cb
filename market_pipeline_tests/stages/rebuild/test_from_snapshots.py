from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.scale import Scale
from market_pipeline.books.tables import BBO, CHECKPOINTS, DEPTH, INTERVALS, REBUILDS
from market_pipeline.config.instruments import GapRule, Instrument, Policies
from market_pipeline.config.settings import Settings
from market_pipeline.quality.row import ReportRow
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, day_folder
from market_pipeline.stages.raw.objects import RegisteredDay
from market_pipeline.stages.rebuild.day import rebuild_day
from market_pipeline.stages.rebuild.raw_files import RawFiles
from market_pipeline.stages.rebuild.seed import choose_seed
from market_pipeline.stages.validation.context import PublishedBooks
from market_pipeline.stages.validation.day import report_day
from market_pipeline.stages.validation.lookups import Lookups
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline_tests.sources.raw_files import shard, snapshots
from market_pipeline_tests.stages.day_rows import staged_rows
from market_pipeline_tests.stages.days import (
    BTC,
    DAY,
    END_NS,
    FIRST_SEQUENCE,
    HOUR_NS,
    START_NS,
    delta_rows,
    instrument,
    raw_day,
    rebuild_instrument,
    settings,
    trade_rows,
    with_profiles,
    write_day,
)

SECOND = 10**9
ONLY, STALE = int(BookFlag.SNAPSHOT_ONLY), int(BookFlag.STALE)
EVERY_SECONDS = 30
COUNT = 24 * 60 * 2


def snapshot_table(seconds: Sequence[float], **columns) -> pa.Table:
    """Snapshots some seconds after midnight; best 99 x 1 and 101 x 1, 20 levels a side."""
    at = START_NS + np.round(np.array(seconds) * SECOND).astype(np.int64)
    times = {
        "timestamp": at - 2_000_000,
        "receipt_timestamp": at,
        "sequence_number": FIRST_SEQUENCE + np.arange(at.size),
    }
    return snapshots(at.size, **(times | columns))


def write_snapshots(lake: Path, of: Instrument, rows: pa.Table, shards: int = 1) -> None:
    size = -(-rows.num_rows // shards)
    folder = day_folder(lake, SNAPSHOTS, of.venue, of.symbol, DAY)
    for number in range(shards):
        shard(folder, number + 1, rows.slice(number * size, size))


def write_trades(lake: Path, of: Instrument, rows: pa.Table | None = None) -> None:
    shard(
        day_folder(lake, TRADES, of.venue, of.symbol, DAY),
        1,
        trade_rows() if rows is None else rows,
    )


def every_half_minute() -> np.ndarray:
    return np.arange(COUNT) * float(EVERY_SECONDS)


def looked_through(lake: Path, *instruments: Instrument) -> RegisteredDay:
    """The registered day with the profiles of its raw tables."""
    return with_profiles(raw_day(lake, *instruments), *instruments)


def read(files) -> pl.DataFrame:
    return pl.read_parquet([file.path for file in files], hive_partitioning=False)


def marked(
    lake: Path, warehouse: Warehouse, of: Instrument, options: Settings
) -> tuple[dict, pl.DataFrame, ReportRow]:
    """The record, the rows and the verdict of a day."""
    raw = looked_through(lake, of)
    day = rebuild_day(raw, [of], options, warehouse)
    bbo, depth, intervals = (
        staged_rows(table, day.staged[table.sql_name]) for table in (BBO, DEPTH, INTERVALS)
    )
    books = PublishedBooks(
        REBUILDS.frame(each.as_record() for each in day.records), bbo, depth, intervals
    )
    lookups = Lookups(raw, warehouse)
    (verdict,) = report_day(lookups, [of], books, options, as_of_ns=END_NS + 3 * 10**14)
    return day.records[0].as_record(), bbo.of(of.id).collect(), verdict.row


class TestWithoutDeltas:
    def test_rows_record_and_interval(self, lake: Path, folder: Path, warehouse: Warehouse):
        """Each snapshot is a row, flagged; record and interval say that, and why."""
        write_snapshots(lake, BTC, snapshot_table(every_half_minute()))
        write_trades(lake, BTC)
        raw = looked_through(lake, BTC)
        files, record = rebuild_instrument(raw, BTC, settings(folder), warehouse)
        bbo, intervals = read(files["books.bbo"]), read(files["books.intervals"])
        (interval,) = intervals.filter(pl.col("cause") != "UNVERIFIED").to_dicts()

        assert [(99.0, 1.0, 101.0, 1.0, ONLY)] == bbo.select(
            "bid_price", "bid_size", "ask_price", "ask_size", "flags"
        ).unique().rows()
        assert (COUNT, START_NS - 2_000_000, START_NS, FIRST_SEQUENCE) == (
            bbo.height,
            *bbo.row(0)[3:6],
        )
        assert [column.name for column in REBUILDS.columns] == list(record)
        assert {
            "outcome": "rebuilt",
            "failure": None,
            "strategy": "snapshots_only",
            "rows": 0,
            "messages": COUNT,
            "snapshots": COUNT,
            "seed": "first_snapshot",
            "seed_sequence_number": FIRST_SEQUENCE,
            "snapshots_compared": 0,
            "known_low_price": 80.0,
            "known_high_price": 120.0,
            "tick": "0.1",
            "price_losses": 0,
            "input_sha256": [*raw.snapshots.files_of(BTC)[1], *raw.trades.files_of(BTC)[1]],
        }.items() <= record.items()
        assert record["strategy_reason"]
        assert ("SNAPSHOT_ONLY", "open", False, START_NS, END_NS, COUNT) == tuple(
            interval[name]
            for name in ("cause", "action", "invalidates", "start_ns", "end_ns", "messages")
        )
        assert (
            f"{COUNT} rows are snapshots, because the deltas of the day cannot be used, and nobody "
            "knows the book between; nothing ended it before the day did." == interval["evidence"]
        )

    def test_depth_and_checkpoints(self, lake: Path, folder: Path, warehouse: Warehouse):
        """Depth and checkpoints come as often as the settings say, and at the day's end."""
        write_snapshots(lake, BTC, snapshot_table(every_half_minute()))
        options = settings(folder, depth_interval_ms=3_600_000, checkpoint_seconds=43_200)
        files, _ = rebuild_instrument(looked_through(lake, BTC), BTC, options, warehouse)
        checkpoints = read(files["books.checkpoints"])

        assert [24] == [file.rows for file in files["books.depth"]]
        assert [("keyframe", COUNT // 2, ONLY), ("closing", COUNT, ONLY)] == checkpoints.select(
            "kind", "messages", "flags"
        ).rows()
        assert list(range(990, 790, -10)) == checkpoints["bid_price_ticks"][0].to_list()

    def test_steps_are_inferred(self, lake: Path, folder: Path, warehouse: Warehouse):
        """Where nothing is configured, tick and lot follow from the levels that are there."""
        of = instrument(tick="infer", lot="infer")
        best = np.where(np.arange(COUNT) % 5 == 0, 99.25, 99.0)
        write_snapshots(lake, of, snapshot_table(every_half_minute(), bid_0_price=best))
        raw = looked_through(lake, of)
        _, record = rebuild_instrument(raw, of, settings(folder), warehouse)

        assert ("0.25", "1", True, True) == tuple(
            record[name] for name in ("tick", "lot", "tick_inferred", "lot_inferred")
        )

    def test_the_same_bytes_in_other_shards(self, lake: Path, folder: Path, warehouse: Warehouse):
        """Where the files are cut, and threads, change no byte."""
        rows = snapshot_table(every_half_minute())
        write_snapshots(lake, BTC, rows)
        options = settings(folder)
        one, _ = rebuild_instrument(looked_through(lake, BTC), BTC, options, warehouse)
        write_snapshots(lake, BTC, rows, shards=7)
        two, _ = rebuild_instrument(
            looked_through(lake, BTC), BTC, options, warehouse, overlap=True
        )

        assert {name: [file.sha256 for file in files] for name, files in one.items()} == {
            name: [file.sha256 for file in files] for name, files in two.items()
        }

    def test_policies_are_recorded(self, lake: Path, folder: Path, warehouse: Warehouse):
        """The record has the policies in force, of days from deltas and of failed ones too."""
        of = instrument(policies=Policies(resync="never", crossed="uncross"))
        write_day(lake, of)
        gone = instrument("ETH-USDT", policies=Policies(resync="always"))
        raw = looked_through(lake, of, gone)
        records = rebuild_day(raw, [of, gone], settings(folder), warehouse).records

        assert [each.policies.model_dump() for each in (of, gone)] == [
            json.loads(record.policies) for record in records
        ]
        assert [("rebuilt", "full_deltas"), ("no_data", "none")] == [
            (record.outcome, record.strategy) for record in records
        ]


class TestVerdict:
    def test_damaged_deltas_degrade_the_day(self, lake: Path, folder: Path, warehouse: Warehouse):
        """A day of which the delta file is damaged is published from snapshots, and degraded."""
        file, *_ = write_day(lake, BTC)
        write_snapshots(lake, BTC, snapshot_table(every_half_minute()))
        file.write_bytes(file.read_bytes()[:-8])
        record, bbo, verdict = marked(lake, warehouse, BTC, settings(folder))

        assert ("rebuilt", "snapshots_only", COUNT) == (
            record["outcome"],
            record["strategy"],
            bbo.height,
        )
        assert ("degraded", "snapshots_only") == (verdict.condition, verdict.strategy)
        assert record["strategy_reason"] == verdict.strategy_reason
        (reason,) = [text for text in verdict.reasons if "snapshots only" in text]
        assert f"The day is published from snapshots only: {record['strategy_reason']}" == reason

    def test_a_hole_is_no_valid_time(self, lake: Path, folder: Path, warehouse: Warehouse):
        """Time between two snapshots counts as valid up to the silence threshold, never beyond.

        One hole has trades in it and is a gap, one has none and is shorter than what the report
        calls a quiet hole; both begin with a stale row.
        """
        of = instrument(gap_rule=GapRule(silence_floor_seconds=40.0, quiet_floor_seconds=400.0))
        seconds = every_half_minute()
        gap = (seconds > 3_000) & (seconds < 3_600)
        quiet = (seconds > 6_000) & (seconds < 6_300)
        kept = seconds[~(gap | quiet)]
        write_snapshots(lake, of, snapshot_table(kept))
        trades = trade_rows()
        after = (trades["timestamp"].to_numpy() - START_NS) / SECOND
        write_trades(lake, of, trades.filter(pa.array(~((after > 6_000) & (after < 6_300)))))
        record, bbo, verdict = marked(lake, warehouse, of, settings(folder))
        stale = bbo.filter(pl.col("flags") == ONLY | STALE)

        assert [(s - START_NS) / SECOND for s in stale["ts_receipt_ns"]] == [3_000.0, 6_000.0]
        assert (1, 600.0, 0) == (verdict.gap_count, verdict.gap_seconds, verdict.quiet_count)
        assert (kept[-1] - 600 - 300, kept[-1] - 600) == (
            verdict.valid_seconds,
            verdict.observed_seconds,
        )
        assert (300.0, 1) == (verdict.stale_seconds, record["gaps"])

    @pytest.mark.parametrize("stamp_ns", [0, END_NS - 1, END_NS + HOUR_NS, 2**62])
    def test_one_bad_stamp(self, lake: Path, folder: Path, warehouse: Warehouse, stamp_ns: int):
        """It costs its own row: the day's valid time is what it was but for half a minute."""
        seconds = every_half_minute()
        stamps = snapshot_table(seconds)["receipt_timestamp"].to_numpy().copy()
        stamps[COUNT // 2] = stamp_ns
        write_snapshots(lake, BTC, snapshot_table(seconds, receipt_timestamp=stamps))
        write_trades(lake, BTC)
        record, bbo, verdict = marked(lake, warehouse, BTC, settings(folder))

        bad = ONLY | int(BookFlag.BAD_TS_RECEIPT)
        assert [COUNT // 2] == np.flatnonzero(bbo["flags"].to_numpy() == bad).tolist()
        assert {ONLY, bad} == set(bbo["flags"].to_list())
        assert (1, 0) == (record["bad_receipt_stamps"], record["outside_day_messages"])
        assert seconds[-1] - 60 <= verdict.valid_seconds <= seconds[-1]
        assert (0, 0) == (verdict.gap_count, verdict.quiet_count)

    def test_the_intervals_tell_of_holes(self, lake: Path, folder: Path, warehouse: Warehouse):
        """A hole is an interval of STALE, with its length and the trades meanwhile."""
        seconds = every_half_minute()
        seconds = seconds[(seconds <= 3_000) | (seconds >= 3_600)]
        write_snapshots(lake, BTC, snapshot_table(seconds))
        write_trades(lake, BTC)
        files, _ = rebuild_instrument(looked_through(lake, BTC), BTC, settings(folder), warehouse)
        stale = read(files["books.intervals"]).filter(cause="STALE").to_dicts()

        assert [(3_000.0, 3_600.0, True, "none", 1)] == [
            (
                (each["start_ns"] - START_NS) / SECOND,
                (each["end_ns"] - START_NS) / SECOND,
                each["invalidates"],
                each["action"],
                each["messages"],
            )
            for each in stale
        ]
        assert (
            f"No snapshot came for 600.000 s after sequence number {FIRST_SEQUENCE + 100}, and 19 "
            "trades meanwhile; the next snapshot ended it." == stale[0]["evidence"]
        )

    def test_crossed_snapshots(self, lake: Path, folder: Path, warehouse: Warehouse):
        """A snapshot that is crossed is published crossed, and its time is not valid."""
        best = np.where(np.arange(COUNT) == 7, 101.5, 99.0)
        write_snapshots(lake, BTC, snapshot_table(every_half_minute(), bid_0_price=best))
        write_trades(lake, BTC)
        record, bbo, verdict = marked(lake, warehouse, BTC, settings(folder))

        assert [ONLY | int(BookFlag.CROSSED)] == bbo["flags"][7:8].to_list()
        assert (1, 30.0, 30.0) == (
            record["crossed_messages"],
            record["crossed_seconds"],
            verdict.crossed_seconds,
        )
        assert EVERY_SECONDS * (COUNT - 2) == verdict.valid_seconds


class TestRefusals:
    def test_no_snapshot_is_a_book(self, lake: Path, folder: Path, warehouse: Warehouse):
        """Where no snapshot is on the grid the day is set aside, and nothing is staged."""
        off = np.full(COUNT, 99.05)
        write_snapshots(lake, BTC, snapshot_table(every_half_minute(), bid_0_price=off))
        day = rebuild_day(looked_through(lake, BTC), [BTC], settings(folder), warehouse)

        assert ("quarantined", "DomainError", "snapshots_only") == tuple(
            getattr(day.records[0], name) for name in ("outcome", "failure_kind", "strategy")
        )
        assert f"{COUNT} snapshots, none of them usable" in day.records[0].failure
        assert [] == list(warehouse.staging_dir.iterdir())

    def test_deltas_that_break_later(self, lake: Path, folder: Path, warehouse: Warehouse):
        """Deltas that looked usable and turn out to be damaged set the day aside as before."""
        file, *_ = write_day(lake, BTC)
        write_snapshots(lake, BTC, snapshot_table(every_half_minute()))
        profiles = looked_through(lake, BTC).profiles
        content = bytearray(file.read_bytes())
        column = pq.ParquetFile(file).metadata.row_group(0).column(4)
        content[column.data_page_offset : column.data_page_offset + 64] = bytes(64)
        file.write_bytes(content)
        raw = replace(raw_day(lake, BTC), profiles=profiles)
        (record,) = rebuild_day(raw, [BTC], settings(folder), warehouse).records

        assert ("quarantined", "LakeFileError", "full_deltas") == tuple(
            getattr(record, name) for name in ("outcome", "failure_kind", "strategy")
        )

    def test_it_seeds_no_next_day(self, lake: Path, folder: Path, warehouse: Warehouse):
        """The last snapshot is no close to go on from: what came after it is not known."""
        of = instrument(policies=Policies(seed="previous_close"))
        write_snapshots(lake, of, snapshot_table(every_half_minute()))
        raw = looked_through(lake, of)
        files, _ = rebuild_instrument(raw, of, settings(folder), warehouse)
        publish(warehouse, CHECKPOINTS, DAY, files["books.checkpoints"])
        steps = Scale.of(Decimal("0.1")), Scale.of(Decimal("0.001"))
        next_day = RawFiles(of, DAY + timedelta(days=1), DELTAS, [], [], [], [], *steps, warehouse)
        seed = choose_seed(warehouse, next_day)

        assert (None, "first_snapshot") == (seed.state, seed.name)
        assert "is a snapshot, and nobody knows what came after it" in (seed.refused or "")

    @pytest.mark.parametrize("rows", [0, 3])
    def test_empty_deltas(self, lake: Path, folder: Path, warehouse: Warehouse, rows: int):
        """Empty deltas leave the snapshots; where they are empty too there is no data."""
        write_day(lake, BTC, deltas=delta_rows(0), snapshots=False)
        write_snapshots(lake, BTC, snapshot_table(every_half_minute()[:rows]))
        (record,) = rebuild_day(
            looked_through(lake, BTC), [BTC], settings(folder), warehouse
        ).records

        assert ("rebuilt" if rows else "no_data", rows or None) == (
            record.outcome,
            record.messages,
        )

    def test_deltas_are_not_read(self, lake: Path, folder: Path, warehouse: Warehouse):
        """What the day is made of does not depend on the bytes of the deltas that were refused."""
        file, *_ = write_day(lake, BTC)
        write_snapshots(lake, BTC, snapshot_table(every_half_minute()))
        file.write_bytes(b"no parquet")
        one, record = rebuild_instrument(
            looked_through(lake, BTC), BTC, settings(folder), warehouse
        )
        file.unlink()
        two, _ = rebuild_instrument(looked_through(lake, BTC), BTC, settings(folder), warehouse)

        assert one["books.bbo"][0].sha256 == two["books.bbo"][0].sha256
        assert DELTAS.name not in str(record["price_loss_files"])

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from market_pipeline.books.tables import CHECKPOINTS
from market_pipeline.config.instruments import Policies
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, day_folder
from market_pipeline.stages.rebuild import dry_run as stage
from market_pipeline.stages.rebuild.day import rebuild_day
from market_pipeline.stages.rebuild.dry_run import LISTED, dry_run
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline_tests.sources.raw_files import shard
from market_pipeline_tests.stages.days import (
    BTC,
    DAY,
    END_NS,
    ETH,
    EVERY_NS,
    FIRST_SEQUENCE,
    MESSAGES,
    START_NS,
    delta_rows,
    instrument,
    raw_day,
    settings,
    snapshot_rows,
    write_day,
)
from market_pipeline_tests.stages.rebuild.test_quarantine import copies, digest, truncated


def crossing(of, lake: Path, every: int, until: int = MESSAGES) -> None:
    """The day with a bid above the ask in some messages, which `uncross` removes levels for."""
    rows = delta_rows()
    prices = rows["price"].to_pylist()
    for message in range(every, until, every):
        prices[2 * message] = 101.5
    rows = rows.set_column(rows.column_names.index("price"), "price", pa.array(prices))
    write_day(lake, of, deltas=rows)


class TestWhatIsTold:
    def test_a_good_day(self, lake: Path, folder: Path):
        """A day without faults has one repair, its seed, with span, cause and evidence."""
        write_day(lake, BTC)
        (planned,) = dry_run(DAY, [BTC], settings(folder))

        assert planned.is_plain
        assert {("NOT_SEEDED", "seed"): 1} == planned.counts
        assert 0 == planned.left_out
        (repair,) = planned.repairs
        assert (START_NS + 3_000_000, START_NS + 3_000_000 + EVERY_NS, 1) == (
            repair["start_ns"],
            repair["end_ns"],
            repair["messages"],
        )
        assert f"seeded from the snapshot of sequence number {FIRST_SEQUENCE}" in repair["evidence"]

    def test_as_the_run_does_it(self, lake: Path, folder: Path, warehouse: Warehouse):
        """The record is that of the run, but for the tables that a look writes seldom."""
        write_day(lake, BTC)
        (planned,) = dry_run(DAY, [BTC], settings(folder))
        raw = stage.registered_day(DAY, [BTC], settings(folder), folder)
        (record,) = rebuild_day(raw, [BTC], settings(folder), warehouse).records

        assert record == planned.record

    def test_more_than_are_listed(self, lake: Path, folder: Path):
        """Of many repairs the first fifty are listed, and all are counted by cause and action."""
        of = instrument(policies=Policies(crossed="uncross"))
        crossing(of, lake, every=20)
        (planned,) = dry_run(DAY, [of], settings(folder))
        told = planned.as_json()

        assert LISTED == len(planned.repairs) == len(told["repairs"])
        starts = [repair["start_ns"] for repair in planned.repairs]
        assert starts == sorted(starts)
        assert sum(planned.counts.values()) == LISTED + planned.left_out
        assert planned.left_out == told["repairs_left_out"] > 50
        assert planned.counts["CROSSED", "uncross"] > 100
        assert {"seed", "uncross"} <= {each["action"] for each in told["counts"]}
        assert not planned.is_plain

    def test_an_open_interval(self, lake: Path, folder: Path):
        """What nothing would end before the day does is listed as open, to the end of the day."""
        crossing(BTC, lake, every=MESSAGES - 1)
        (planned,) = dry_run(DAY, [BTC], settings(folder))
        last = planned.repairs[-1]

        assert ("CROSSED", "open", END_NS) == (last["cause"], last["action"], last["end_ns"])
        assert not planned.is_plain

    def test_files_set_aside_and_days_without(self, lake: Path, folder: Path):
        """A damaged file is named with its error but not copied; a day without files has none."""
        truncated(lake, snapshots=False)
        bad, missing = dry_run(DAY, [BTC, ETH], settings(folder))

        assert ["quarantined", "no_data"] == [each.record.outcome for each in (bad, missing)]
        ((file, reason),) = bad.set_aside
        assert file == f"{DELTAS.name}/exchange=BINANCE/symbol=BTC-USDT/dt={DAY}/1.snappy.parquet"
        assert "cannot be read as Parquet" in reason
        assert reason == bad.record.failure
        assert [] == missing.set_aside
        assert not (bad.is_plain or missing.is_plain)

    def test_a_day_from_snapshots(self, lake: Path, folder: Path):
        """A day that would be published from snapshots says so and why; it is no plain day."""
        shard(day_folder(lake, SNAPSHOTS, BTC.venue, BTC.symbol, DAY), 1, snapshot_rows())
        (planned,) = dry_run(DAY, [BTC], settings(folder))
        told = planned.as_json()

        assert ("rebuilt", "snapshots_only", 1) == (
            told["outcome"],
            told["strategy"],
            told["messages"],
        )
        assert told["strategy_reason"]
        assert {("SNAPSHOT_ONLY", "open"): 1} == planned.counts
        assert not planned.is_plain

    def test_json(self, lake: Path, folder: Path):
        """All that is told survives JSON, the policies in force included."""
        write_day(lake, BTC)
        (planned,) = dry_run(DAY, [BTC], settings(folder))
        told = planned.as_json()

        assert told == json.loads(json.dumps(told))
        assert (BTC.id, DAY.isoformat(), BTC.policies.model_dump()) == (
            told["instrument"],
            told["day"],
            told["policies"],
        )


class TestNothingChanges:
    @pytest.mark.parametrize("make", [write_day, lambda lake, _: truncated(lake)])
    def test_data_and_lake(self, lake: Path, folder: Path, warehouse: Warehouse, make):
        """No byte, time or mode of the data folder and the lake is another afterwards."""
        make(lake, BTC)
        files = rebuild_day(raw_day(lake, BTC), [BTC], settings(folder), warehouse).staged
        publish(warehouse, CHECKPOINTS, DAY, files["books.checkpoints"])
        before = digest(folder)
        dry_run(DAY, [BTC], settings(folder))

        assert before == digest(folder)

    def test_no_data_folder_is_made(self, lake: Path, folder: Path):
        """Where nothing was published yet, a look makes no folder."""
        truncated(lake)
        dry_run(DAY, [BTC], settings(folder))

        assert ["lake"] == [path.name for path in folder.iterdir()]

    def test_the_temporary_folder_is_gone(self, lake: Path, folder: Path, monkeypatch):
        """What the look wrote is gone afterwards."""
        write_day(lake, BTC)
        temporary = folder / "temporary"
        temporary.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(temporary))
        dry_run(DAY, [BTC], settings(folder))

        assert [] == list(temporary.iterdir())

    def test_the_published_close_is_read(self, lake: Path, folder: Path, warehouse: Warehouse):
        """A day that begins with the close of the day before finds the published one."""
        of = instrument(policies=Policies(seed="previous_close"))
        write_day(lake, of)
        files = rebuild_day(raw_day(lake, of), [of], settings(folder), warehouse).staged
        publish(warehouse, CHECKPOINTS, DAY, files["books.checkpoints"])
        after = delta_rows(10)
        for column, by in (
            ("timestamp", 86_400 * 10**9),
            ("receipt_timestamp", 86_400 * 10**9),
            ("sequence_number", MESSAGES),
        ):
            moved = pa.array(after[column].to_numpy() + np.int64(by))
            after = after.set_column(after.column_names.index(column), column, moved)
        next_day = DAY + timedelta(days=1)
        shard(day_folder(lake, DELTAS, of.venue, of.symbol, next_day), 1, after)
        (planned,) = dry_run(next_day, [of], settings(folder))

        assert ("previous_close", None) == (
            planned.record.seed,
            planned.record.seed_refused,
        )
        assert ({}, True) == (planned.counts, planned.is_plain)
        assert [] == copies(warehouse)

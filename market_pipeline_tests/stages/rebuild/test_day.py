from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_pipeline import __version__
from market_pipeline.books.tables import BBO, CHECKPOINTS, DEPTH, INTERVALS, REBUILDS
from market_pipeline.config.instruments import Policies
from market_pipeline.errors import DomainError, LakeFileError, MissingDataError
from market_pipeline.quality.profile import PROFILES
from market_pipeline.sources.crypto_lake import DELTAS
from market_pipeline.stages.rebuild import day as day_stage
from market_pipeline.stages.rebuild import instrument as stage
from market_pipeline.stages.rebuild.day import rebuild_day
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.stages.days import (
    BTC,
    DAY,
    ETH,
    FIRST_SEQUENCE,
    MESSAGES,
    START_NS,
    delta_rows,
    instrument,
    raw_day,
    rebuild_instrument,
    settings,
    write_day,
)

LTC = instrument("LTC-USDT")


def changed(column: str, row: int, value: float) -> pa.Table:
    """The day's delta rows with another value in one place."""
    rows = delta_rows()
    values = rows[column].to_pylist()
    values[row] = value
    return rows.set_column(rows.column_names.index(column), column, pa.array(values))


def staged(files) -> pl.DataFrame:
    return pl.read_parquet([file.path for file in files], hive_partitioning=False)


class TestOneInstrument:
    def test_files_and_record(self, lake: Path, folder: Path, warehouse: Warehouse):
        """A day becomes four staged files and a record that says what was read and made."""
        write_day(lake, BTC)
        raw = raw_day(lake, BTC)
        files, record = rebuild_instrument(raw, BTC, settings(folder), warehouse)
        bbo = staged(files["books.bbo"])

        assert {table.sql_name for table in (BBO, DEPTH, CHECKPOINTS, INTERVALS)} == set(files)
        assert [column.name for column in REBUILDS.columns] == list(record)
        assert {
            "outcome": "rebuilt",
            "failure": None,
            "tick": "0.1",
            "lot": "0.001",
            "tick_inferred": False,
            "lot_inferred": False,
            "rows": 2 * MESSAGES,
            "messages": MESSAGES,
            "snapshots": 1,
            "seed_sequence_number": FIRST_SEQUENCE,
            "seed_ts_receipt_ns": START_NS + 3_000_000,
            "snapshots_compared": 0,
            "max_mid_deviation_ticks": None,
            "price_losses": 0,
            "price_loss_files": [],
            "input_sha256": [
                raw_hash
                for objects in (raw.deltas, raw.snapshots, raw.trades)
                for raw_hash in objects.files_of(BTC)[1]
            ],
            "output_sha256": hashlib.sha256(files["books.bbo"][0].sha256.encode()).hexdigest(),
            "code_version": __version__,
        }.items() <= record.items()
        assert (MESSAGES, [100.0], [100.5]) == (
            bbo.height,
            bbo["bid_price"].unique().to_list(),
            bbo["ask_price"].unique().to_list(),
        )
        # The snapshot holds the book after the message of its number, so the next row has it.
        assert [1, 0, 0] == bbo["flags"].head(3).to_list()
        assert 1 == bbo["flags"].sum()
        assert {b"tick": b"0.1", b"lot": b"0.001"}.items() <= pq.read_schema(
            files["books.bbo"][0].path
        ).metadata.items()

    def test_the_same_bytes_again(self, lake: Path, folder: Path, warehouse: Warehouse):
        """The same raw files in other shards and threads make the same bytes."""
        write_day(lake, BTC)
        one, _ = rebuild_instrument(raw_day(lake, BTC), BTC, settings(folder), warehouse)
        write_day(lake, BTC, shards=13)
        two, record = rebuild_instrument(
            raw_day(lake, BTC), BTC, settings(folder, threads=1), warehouse
        )

        assert 13 + 2 == len(record["input_sha256"])
        assert {name: [file.sha256 for file in files] for name, files in one.items()} == {
            name: [file.sha256 for file in files] for name, files in two.items()
        }

    def test_settings_are_in_force(self, lake: Path, folder: Path, warehouse: Warehouse):
        """Depth and checkpoints come as often as the settings say, and at the day's end."""
        write_day(lake, BTC)
        sparse = settings(folder, depth_interval_ms=3_600_000, checkpoint_seconds=43_200)
        files, _ = rebuild_instrument(raw_day(lake, BTC), BTC, sparse, warehouse)
        checkpoints = staged(files["books.checkpoints"])

        assert [24] == [file.rows for file in files["books.depth"]]
        assert ["keyframe", "closing"] == checkpoints["kind"].to_list()
        assert [MESSAGES] == checkpoints["messages"].to_list()[-1:]

    @pytest.mark.parametrize(("resync", "resyncs"), [("never", 0), ("always", 1)])
    def test_policies_are_in_force(
        self, lake: Path, folder: Path, warehouse: Warehouse, resync, resyncs
    ):
        """Whether a later snapshot replaces the book is the instrument's policy."""
        of = instrument(policies=Policies(resync=resync))
        write_day(lake, of)
        snapshot = next((lake / "book").rglob("*.parquet"))
        first = pq.read_table(snapshot, partitioning=None)
        later = first.set_column(2, "sequence_number", pa.array([FIRST_SEQUENCE + 3]))
        later = later.set_column(1, "receipt_timestamp", pa.array([START_NS + 90_003_000_000]))
        pq.write_table(pa.concat_tables([first, later]), snapshot)
        _, record = rebuild_instrument(raw_day(lake, of), of, settings(folder), warehouse)

        assert (1, resyncs) == (record["snapshots_compared"], record["resyncs"])

    def test_without_snapshots_and_trades(self, lake: Path, folder: Path, warehouse: Warehouse):
        """A day of deltas alone is rebuilt from a cold start, and every row says so."""
        write_day(lake, BTC, snapshots=False, trades=False)
        files, record = rebuild_instrument(raw_day(lake, BTC), BTC, settings(folder), warehouse)

        assert (None, None, None) == (
            record["seed_sequence_number"],
            record["known_low_price"],
            record["first_mismatch_ns"],
        )
        assert (staged(files["books.bbo"])["flags"] & 1 == 1).all()

    def test_losses_are_located_below_the_lake(
        self, lake: Path, folder: Path, warehouse: Warehouse
    ):
        """A value off its step is told with its file below the lake, its row and its value."""
        write_day(lake, BTC, deltas=changed("size", 7, 0.00025))
        _, record = rebuild_instrument(raw_day(lake, BTC), BTC, settings(folder), warehouse)

        assert (0, 1, [7], [0.00025]) == (
            record["price_losses"],
            record["size_losses"],
            record["size_loss_rows"],
            record["size_loss_values"],
        )
        assert [
            "book_delta_v2/exchange=BINANCE/symbol=BTC-USDT/dt=2024-08-08/1.snappy.parquet"
        ] == (record["size_loss_files"])

    def test_an_error_leaves_nothing_staged(self, lake: Path, folder: Path, warehouse: Warehouse):
        """A bad value late in the day leaves no unfinished file behind."""
        write_day(lake, BTC, deltas=changed("price", 2 * MESSAGES - 1, -1.0))
        with pytest.raises(DomainError) as caught:
            rebuild_instrument(raw_day(lake, BTC), BTC, settings(folder), warehouse)

        assert (2 * MESSAGES - 1, "price") == (caught.value.row, caught.value.column)
        assert [] == list(warehouse.staging_dir.iterdir())

    def test_missing(self, lake: Path, folder: Path, warehouse: Warehouse):
        """An instrument without delta files is missing data, whatever else it has."""
        write_day(lake, BTC)
        next((lake / "book_delta_v2").rglob("*.parquet")).unlink()
        with pytest.raises(MissingDataError):
            rebuild_instrument(raw_day(lake, BTC), BTC, settings(folder), warehouse)

    @pytest.mark.parametrize("shards", [1, 3])
    def test_no_row(self, lake: Path, folder: Path, warehouse: Warehouse, shards):
        """Files without any row are missing data, not an empty book."""
        files = write_day(lake, BTC, deltas=delta_rows(0), shards=shards)
        with pytest.raises(MissingDataError) as caught:
            rebuild_instrument(raw_day(lake, BTC), BTC, settings(folder), warehouse)

        assert ("BTC-USDT", DAY, str(files[0]), "0 rows") == (
            caught.value.symbol,
            caught.value.day,
            caught.value.file,
            caught.value.found,
        )

    def test_bad_trades(self, lake: Path, folder: Path, warehouse: Warehouse):
        """Trades that cannot be read set the day aside: without them gaps would go unseen."""
        write_day(lake, BTC)
        next((lake / "trades").rglob("*.parquet")).write_bytes(b"PAR1")
        with pytest.raises(LakeFileError, match="The trades file"):
            rebuild_instrument(raw_day(lake, BTC), BTC, settings(folder), warehouse)


class TestDay:
    @pytest.fixture
    def raw(self, lake: Path):
        """Three instruments; the second one's deltas cannot be read."""
        for each in (BTC, ETH, LTC):
            write_day(lake, each)
        bad = next((lake / "book_delta_v2").rglob("symbol=ETH-USDT/**/*.parquet"))
        bad.write_bytes(bad.read_bytes()[:500])
        return raw_day(lake, BTC, ETH, LTC)

    @pytest.mark.parametrize("threads", [1, 3])
    def test_a_bad_one_is_recorded(self, raw, folder: Path, warehouse: Warehouse, threads):
        """The others are staged, the bad one is withdrawn and has its record in its place."""
        said: list[str] = []
        day = rebuild_day(
            raw, (LTC, ETH, BTC), settings(folder, threads=threads), warehouse, said.append
        )
        outcomes = [(each.symbol, each.outcome, each.dt) for each in day.records]

        assert [
            ("LTC-USDT", "rebuilt", DAY),
            ("ETH-USDT", "quarantined", DAY),
            ("BTC-USDT", "rebuilt", DAY),
        ] == outcomes
        assert [ETH.id] == day.withdrawn
        for files in day.staged.values():
            assert [LTC.id, BTC.id] == [file.instrument for file in files]
        assert ("LakeFileError", None, None) == tuple(
            getattr(day.records[1], name) for name in ("failure_kind", "messages", "output_sha256")
        )
        assert [f"{LTC.id}: 2,880 messages", f"{ETH.id}: {day.records[1].failure}"] == said[:2]

    def test_none_usable(self, raw, folder: Path, warehouse: Warehouse):
        """Where no instrument is usable all are withdrawn and nothing is staged."""
        gone = instrument("XRP-USDT")
        day = rebuild_day(raw, (ETH, gone), settings(folder), warehouse)

        assert ["quarantined", "no_data"] == [each.outcome for each in day.records]
        assert [ETH.id, gone.id] == day.withdrawn
        assert {(): 3} == {tuple(files): 3 for files in day.staged.values()}
        assert [] == list(warehouse.staging_dir.iterdir())

    @pytest.mark.parametrize(
        "where", ["publish_deltas", "choose_seed", "blank_record"], ids=lambda name: name
    )
    def test_whatever_one_fails_at_the_others_go_on(
        self, raw, folder: Path, warehouse: Warehouse, monkeypatch, caplog, where: str
    ):
        """An error nobody thought of is the record of its instrument, and the log has more."""

        def raises(original):
            def call(*arguments, **more):
                if LTC in [getattr(each, "instrument", each) for each in arguments]:
                    raise ZeroDivisionError("by nothing")
                return original(*arguments, **more)

            return call

        monkeypatch.setattr(stage, where, raises(getattr(stage, where)))
        if where == "blank_record":
            monkeypatch.setattr(day_stage, where, raises(getattr(day_stage, where)))
        day = rebuild_day(raw, (LTC, ETH, BTC), settings(folder), warehouse)
        record = day.records[0]

        assert ["quarantined", "quarantined", "rebuilt"] == [each.outcome for each in day.records]
        assert ("LTC-USDT", DAY, "ZeroDivisionError") == tuple(
            getattr(record, name) for name in ("symbol", "dt", "failure_kind")
        )
        assert "failed on the day's data: ZeroDivisionError: by nothing. See the" in record.failure
        assert {LTC.id, ETH.id} == set(day.withdrawn)
        assert {LTC.id, ETH.id, BTC.id} == set(day.made_of)
        assert "Traceback" in caplog.text
        assert [column.name for column in REBUILDS.columns] == list(record.as_record())

    def test_what_is_the_machines_is_raised(
        self, raw, folder: Path, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
    ):
        """A full disk stops the day: it must not look like bad data."""
        original = stage.publish_deltas

        def full(files, *arguments, **more):
            if files.instrument == LTC:
                raise OSError(28, "No space left on device")
            return original(files, *arguments, **more)

        monkeypatch.setattr(stage, "publish_deltas", full)
        with pytest.raises(OSError, match="No space left"):
            rebuild_day(raw, (BTC, ETH, LTC), settings(folder), warehouse)

    def test_memory_bounds_the_threads(
        self, raw, folder: Path, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
    ):
        """So many are worked on at once as fit the budget, the largest first, and never none."""
        workers: list[int] = []
        pool = day_stage.Workers

        def counted(count: int, name: str):
            workers.append(count)
            return pool(count, name)

        monkeypatch.setattr(day_stage, "Workers", counted)
        for budget, messages in ((1, 9), (600, 9), (700, 9), (700, 3_000_000), (10_000, 9)):
            profiles = PROFILES.frame(
                [
                    dict.fromkeys(column.name for column in PROFILES.columns)
                    | {"exchange": ETH.venue, "symbol": ETH.symbol, "dt": DAY}
                    | {"raw_table": DELTAS.name, "status": "usable", "messages": messages}
                ]
            )
            rebuild_day(
                replace(raw, profiles=profiles),
                (ETH, BTC, ETH),
                settings(folder, threads=8, memory_budget_mb=budget),
                warehouse,
            )

        assert [1, 1, 2, 1, 3] == workers


def test_the_raw_files_are_only_read(lake: Path, folder: Path, warehouse: Warehouse):
    """A rebuild leaves the lake as it was, to the byte and the time."""
    write_day(lake, BTC)
    before = {path: path.stat() for path in lake.rglob("*")}
    rebuild_day(raw_day(lake, BTC), (BTC,), settings(folder), warehouse)

    assert DELTAS.name in {path.name for path in before}
    assert {path: (s.st_size, s.st_mtime_ns) for path, s in before.items()} == {
        path: (path.stat().st_size, path.stat().st_mtime_ns) for path in lake.rglob("*")
    }

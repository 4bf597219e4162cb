from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from market_pipeline.books.arrow import BookArrow
from market_pipeline.books.flags import BookFlag
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.rebuild import Rebuild
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import BboRows
from market_pipeline.books.tables import BBO, CHECKPOINTS
from market_pipeline.config.instruments import Instrument, Policies
from market_pipeline.config.settings import Settings
from market_pipeline.errors import CheckpointError
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, day_shards, read_deltas
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline.sources.simulated import simulate
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.stages.raw.register import register_day
from market_pipeline.stages.rebuild.seed import keyframe_of
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.read import scan
from market_pipeline.warehouse.staging import StagedWriter
from market_pipeline_tests.sources.simulated.days import DAY as MONDAY
from market_pipeline_tests.sources.simulated.days import NEXT_DAY as TUESDAY
from market_pipeline_tests.sources.simulated.days import instrument as simulated
from market_pipeline_tests.stages import days
from market_pipeline_tests.stages.days import (
    DAY,
    FIRST_SEQUENCE,
    START_NS,
    instrument,
    raw_day,
    rebuild_instrument,
    settings,
    snapshot_rows,
    write_day,
)

CARRIED = Policies(seed="previous_close")
BTC = instrument(policies=CARRIED)
TICK, LOT = Scale(1, 1), Scale(1, 3)
SECOND = 10**9


_LEVELS = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")


def book(*levels: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.array(column, np.int64) for column in zip(*levels, strict=True))


# Ten seconds before the day's first message; 80.0 and 120.0 are in no message and no snapshot.
CLOSE = Keyframe(
    "closing",
    START_NS - 10 * SECOND,
    START_NS - 10 * SECOND,
    FIRST_SEQUENCE - 1,
    77,
    0,
    *book((1000, 3000), (800, 7000)),
    *book((1006, 3000), (1200, 9000)),
    800,
    1200,
)


def snapshot_levels(side: str) -> list[tuple[int, int]]:
    """Price in ticks and size in lots of each level of the day's snapshot."""
    (snapshot,) = snapshot_rows().to_pylist()
    return [
        (round(snapshot[f"{side}_{n}_price"] * 10), round(snapshot[f"{side}_{n}_size"] * 1e3))
        for n in range(20)
    ]


def publish_close(
    warehouse: Warehouse, close: Keyframe = CLOSE, scales=(TICK, LOT), **changes: object
) -> None:
    """Publishes a closing book of the day before; `changes` overwrite columns of its row."""
    before = DAY - timedelta(days=1)
    row = BookArrow(BTC, before, *scales).checkpoints([close])
    for name, value in changes.items():
        at = row.schema.get_field_index(name)
        row = row.set_column(at, row.schema.field(at), pa.array([value], row.schema.field(at).type))
    with StagedWriter(warehouse, CHECKPOINTS, BTC.id) as writer:
        writer.write(row)
    publish(warehouse, CHECKPOINTS, before, [writer.staged])


@pytest.fixture
def rebuilt(lake: Path, folder: Path, warehouse: Warehouse) -> Callable[..., tuple]:
    """Rebuilds the small day of an instrument: its staged files and its record."""
    write_day(lake, BTC)

    def rebuild(of: Instrument = BTC):
        return rebuild_instrument(raw_day(lake, of), of, settings(folder), warehouse)

    return rebuild


def read(files) -> pl.DataFrame:
    return pl.read_parquet([file.path for file in files], hive_partitioning=False)


class TestJoined:
    def test_the_day_begins_with_the_close(self, rebuilt, warehouse: Warehouse):
        """Every row is valid from the first message on, and carried levels live on to the close."""
        bids = book(*snapshot_levels("bid"), (800, 7000))
        asks = book(*snapshot_levels("ask"), (1200, 9000))
        changes = dict(zip(_LEVELS, (*bids, *asks), strict=True))
        publish_close(warehouse, replace(CLOSE, **changes))
        files, record = rebuilt()
        closing = read(files["books.checkpoints"]).row(-1, named=True)

        assert {
            "seed": "previous_close",
            "seed_refused": None,
            "seed_sequence_number": FIRST_SEQUENCE - 1,
            "seed_ts_receipt_ns": CLOSE.ts_receipt_ns,
            "known_low_price": 80.0,
            "known_high_price": 120.0,
        }.items() <= record.items()
        assert read(files["books.bbo"])["flags"].sum() == 0
        assert (closing["bid_price_ticks"][-1], closing["bid_size_lots"][-1]) == (800, 7000)
        assert (closing["ask_price_ticks"][-1], closing["ask_size_lots"][-1]) == (1200, 9000)

    def test_the_first_snapshot_is_compared(self, rebuilt, warehouse: Warehouse):
        """The book is held against the day's own snapshot instead of being replaced by it."""
        publish_close(warehouse)
        _, record = rebuilt()

        assert (record["snapshots"], record["snapshots_compared"]) == (1, 1)

    @pytest.mark.parametrize("pause", [0, 150])
    def test_within_a_time_that_is_no_silence(self, rebuilt, warehouse: Warehouse, pause):
        """The pause may be as long as the day's own silences may be: here five times 30 s."""
        first_ns = START_NS + 3_000_000
        publish_close(warehouse, replace(CLOSE, ts_receipt_ns=first_ns - pause * SECOND))

        assert rebuilt()[1]["seed"] == "previous_close"

    def test_after_a_silence_in_which_nothing_was_lost(self, rebuilt, lake, warehouse: Warehouse):
        """Where the carried book is the day's own snapshot, level by level, the days join."""
        sides = [book(*snapshot_levels(side)) for side in ("bid", "ask")]
        close = Keyframe(
            "closing",
            CLOSE.ts_origin_ns,
            START_NS - 3_600 * SECOND,
            FIRST_SEQUENCE - 1,
            77,
            0,
            *sides[0],
            *sides[1],
            int(sides[0][0][-1]),
            int(sides[1][0][-1]),
        )
        publish_close(warehouse, close)

        assert rebuilt()[1]["seed"] == "previous_close"

        wrong = replace(close, ask_size_lots=close.ask_size_lots + 1)
        publish_close(warehouse, wrong)
        assert "is a silence: messages may be lost" in rebuilt()[1]["seed_refused"]

    def test_in_other_steps(self, rebuilt, warehouse: Warehouse):
        """A close in a coarser tick and lot, as another day's inference gave, is converted."""
        publish_close(warehouse)
        expected, _ = rebuilt()
        halved = {
            name: getattr(CLOSE, name) // 2
            for name in ("bid_price_ticks", "ask_price_ticks", "bid_size_lots", "ask_size_lots")
        }
        coarse = replace(CLOSE, **halved, bid_horizon_ticks=400, ask_horizon_ticks=600)
        publish_close(warehouse, coarse, (Scale(2, 1), Scale(2, 3)))
        files, record = rebuilt()

        assert record["seed"] == "previous_close"
        assert [file.sha256 for file in files["books.bbo"]] == [
            file.sha256 for file in expected["books.bbo"]
        ]

    def test_only_if_asked_for(self, rebuilt, warehouse: Warehouse):
        """By default a day is computed alone, whatever is published of the day before."""
        publish_close(warehouse)
        _, record = rebuilt(instrument())

        assert (record["seed"], record["seed_refused"]) == ("first_snapshot", None)


REFUSED = {
    "same sequence": (replace(CLOSE, sequence_number=FIRST_SEQUENCE), {}, "is not after 1000"),
    "later sequence": (replace(CLOSE, sequence_number=5000), {}, "is not after 5000"),
    "a silence": (
        replace(CLOSE, ts_receipt_ns=START_NS - 150 * SECOND),
        {},
        "150.003 s pass between the closing book and the first message, and more than 150.000 s is",
    ),
    "the clock ran back": (
        replace(CLOSE, ts_receipt_ns=START_NS + SECOND),
        {},
        "begins 0.997 s before",
    ),
    "invalid": (replace(CLOSE, flags=int(BookFlag.GAP)), {}, "is not valid (GAP)"),
    "never seeded": (
        replace(CLOSE, bid_horizon_ticks=None, ask_horizon_ticks=None),
        {},
        "was never seeded",
    ),
    "damaged": (CLOSE, {"bid_size_lots": [3000, 7001]}, "is damaged"),
    "other tick": (CLOSE, {"tick": "0.2"}, "is damaged"),
    "older format": (CLOSE, {"format_version": 1}, "is of another format"),
    "off our grid": (CLOSE, {"scales": (Scale(1, 3), LOT)}, "is not on this day's grid"),
}


class TestRefused:
    @pytest.mark.parametrize("case", REFUSED)
    def test_the_record_says_why_and_the_day_is_computed_alone(
        self, rebuilt, warehouse: Warehouse, case
    ):
        """A close that does not join is told, and the bytes are those of the day's own snapshot."""
        alone, _ = rebuilt(instrument())
        close, changes, reason = REFUSED[case]
        publish_close(warehouse, close, **changes)
        files, record = rebuilt()

        assert record["seed"] == "first_snapshot"
        assert reason in record["seed_refused"]
        assert record["seed_sequence_number"] == FIRST_SEQUENCE
        assert {name: [file.sha256 for file in parts] for name, parts in files.items()} == {
            name: [file.sha256 for file in parts] for name, parts in alone.items()
        }

    def test_not_for_want_of_descriptors(self, rebuilt, warehouse: Warehouse, monkeypatch):
        """A close that could not be opened because too many files are open ends the run instead."""

        def many(_: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        publish_close(warehouse, CLOSE)
        monkeypatch.setattr(pl.LazyFrame, "collect", many)
        with pytest.raises(OSError, match="Too many open files"):
            rebuilt()

    def test_nothing_published(self, rebuilt):
        """A day whose day before was never published says so."""
        _, record = rebuilt()

        assert record["seed_refused"] == "no closing book of 2024-08-07 is published"

    def test_only_keyframes_published(self, rebuilt, warehouse: Warehouse):
        """A keyframe on the way is no closing book, however late it is."""
        publish_close(warehouse, replace(CLOSE, kind="keyframe"))
        _, record = rebuilt()

        assert "no closing book" in record["seed_refused"]

    def test_another_day_is_not_looked_at(self, rebuilt, warehouse: Warehouse, lake, monkeypatch):
        """The close of two days ago is none: only the day before can join."""
        publish_close(warehouse)
        monkeypatch.setattr(days, "DAY", DAY + timedelta(days=1))
        write_day(lake, BTC)
        _, record = rebuilt()

        assert record["seed_refused"] == "no closing book of 2024-08-08 is published"


class TestKeyframeOf:
    def row(self) -> dict[str, object]:
        (row,) = BookArrow(BTC, DAY, TICK, LOT).checkpoints([CLOSE]).to_pylist()
        return row

    def test_is_the_keyframe_that_was_written(self):
        """A row read back is the keyframe, arrays and horizons included."""
        found = keyframe_of(self.row(), TICK, LOT)

        assert np.array_equal(found.bid_price_ticks, CLOSE.bid_price_ticks)
        assert np.array_equal(found.ask_size_lots, CLOSE.ask_size_lots)
        assert (found.bid_horizon_ticks, found.ask_horizon_ticks) == (800, 1200)
        assert (found.kind, found.messages, found.sequence_number) == ("closing", 77, 999)

    def test_errors_name_instrument_and_day(self):
        """A refusal has its parts as attributes and says what to do."""
        with pytest.raises(CheckpointError, match="Materialize the books") as caught:
            keyframe_of(self.row() | {"checksum": "0" * 64}, TICK, LOT)

        assert (caught.value.exchange, caught.value.symbol) == ("BINANCE", "BTC-USDT")
        assert (caught.value.day, caught.value.expected) == (DAY, "0" * 64)


def raw_of(lake: Path, of: Instrument, day: date) -> RegisteredDay:
    objects = []
    for raw in (DELTAS, SNAPSHOTS, TRADES):
        rows = register_day(lake, raw, of, day)
        objects.append(RawObjects(lake, TABLES[days.ASSETS[raw.name]].frame(rows)))
    return RegisteredDay(day, lake, *objects)


class TestTwoDays:
    MARKET = simulated()
    OF = MARKET.as_instrument().model_copy(update={"policies": CARRIED})

    @pytest.fixture
    def records(self, lake: Path, folder: Path, warehouse: Warehouse) -> list[dict]:
        """Two simulated days that join, rebuilt and published one after the other."""
        simulate(lake, [self.MARKET], MONDAY, TUESDAY, messages_per_day=20_000)
        given: Settings = settings(folder)
        made = []
        for day in (MONDAY, TUESDAY):
            files, record = rebuild_instrument(
                raw_of(lake, self.OF, day), self.OF, given, warehouse
            )
            for table in (BBO, CHECKPOINTS):
                publish(warehouse, table, day, files[table.sql_name])
            made.append(record)
        return made

    def test_are_as_one_rebuild_straight_through(self, records, lake: Path, warehouse: Warehouse):
        """The second day's book is that of one rebuild through both days, at every message."""
        first, second = records
        shards = {
            table.name: [
                shard
                for day in (MONDAY, TUESDAY)
                for shard in day_shards(lake, table, self.OF.venue, self.OF.symbol, day)
            ]
            for table in (DELTAS, SNAPSHOTS)
        }
        scales = (Scale.of(Decimal(second["tick"])), Scale.of(Decimal(second["lot"])))
        feeds = read_deltas(shards[DELTAS.name]), read_snapshots(shards[SNAPSHOTS.name])
        blocks = list(Rebuild(*scales).blocks(*feeds))
        names = ("sequence_number", "bid_price_ticks", "bid_size_lots", "ask_price_ticks")
        straight = pl.concat(
            pl.DataFrame({name: getattr(block, name) for name in (*names, "ask_size_lots")})
            for block in blocks
            if isinstance(block, BboRows)
        )
        rows = scan(warehouse, BBO, TUESDAY).collect()
        closing = scan(warehouse, CHECKPOINTS, TUESDAY).collect().row(-1, named=True)

        assert (first["seed"], second["seed"]) == ("first_snapshot", "previous_close")
        assert second["messages"] > 10_000
        assert rows.select(straight.columns).equals(straight[first["messages"] :])
        assert rows["flags"].sum() == 0
        *_, last = (block for block in blocks if isinstance(block, Keyframe))
        assert closing["bid_price_ticks"] == last.bid_price_ticks.tolist()
        assert closing["ask_size_lots"] == last.ask_size_lots.tolist()

    def test_the_day_boundary_agrees(self, records):
        """No snapshot of the second day finds a ghost or a hole in the carried book."""
        _, second = records

        assert second["snapshots_compared"] > 1000
        assert (second["snapshots_mismatched"], second["snapshot_levels_ghost"]) == (0, 0)
        assert second["snapshot_levels_matching"] == second["snapshot_levels"]

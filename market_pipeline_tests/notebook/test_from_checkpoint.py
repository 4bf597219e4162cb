from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from market_pipeline import book_at, events, replay
from market_pipeline.books.flags import BookFlag
from market_pipeline.books.tables import BOOK_FILES
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.errors import CheckpointError, LakeFileError, MissingDataError
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable, day_folder
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.stages.raw.profile import profile_day
from market_pipeline.stages.raw.register import register_day
from market_pipeline.stages.rebuild.day import rebuild_day
from market_pipeline.tables import TABLES, refresh_catalogue
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.working import replace_rows
from market_pipeline_tests.sources.raw_files import deltas, shard, snapshots

pytestmark = pytest.mark.slow

DAY = date(2024, 8, 8)
START_NS = round(datetime(2024, 8, 8, tzinfo=UTC).timestamp()) * 10**9
SECOND = 10**9
BTC = Instrument(venue="BINANCE", symbol="BTC-USDT", source="crypto_lake")


def rows() -> pa.Table:
    """A snapshot a second for five minutes, then one an hour later; the best bid moves."""
    seconds = np.append(np.arange(300), 3_900)
    times = START_NS + seconds * SECOND
    return snapshots(
        seconds.size,
        timestamp=times - 1_000,
        receipt_timestamp=times,
        sequence_number=seconds + 1,
        bid_0_price=99.0 + seconds % 3 * 0.5,
    )


@pytest.fixture
def data_dir(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A day that was published from its snapshots; it has no deltas."""
    return _published(folder, monkeypatch, [(SNAPSHOTS, rows())])


@pytest.fixture
def one_message(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A day of one message, which the first snapshot has the number of."""
    message = deltas(
        2,
        timestamp=[START_NS] * 2,
        receipt_timestamp=[START_NS + 1] * 2,
        sequence_number=[1] * 2,
        side_is_bid=[True, False],
        price=[98.0, 103.0],
        size=[1.0, 2.0],
    )
    return _published(folder, monkeypatch, [(SNAPSHOTS, rows()), (DELTAS, message)])


def _published(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tables: list[tuple[RawTable, pa.Table]]
) -> Path:
    lake, data_dir = folder / "lake", folder / "data"
    monkeypatch.setenv("PIPELINE_LAKE_URI", str(lake))
    warehouse = Warehouse(data_dir)
    warehouse.prepare()
    for table, of_day in tables:
        shard(day_folder(lake, table, BTC.venue, BTC.symbol, DAY), 1, of_day)

    def registered(asset: str, raw: RawTable) -> RawObjects:
        frame = TABLES[asset].frame(register_day(lake, raw, BTC, DAY))
        replace_rows(warehouse, TABLES[asset], DAY, [BTC.id], frame)
        return RawObjects(lake, frame)

    raw = RegisteredDay(
        day=DAY,
        lake=lake,
        deltas=registered("raw_book_deltas", DELTAS),
        snapshots=registered("raw_book_snapshots", SNAPSHOTS),
        trades=registered("raw_trades", TRADES),
    )
    raw = replace(raw, profiles=TABLES["raw_profiles"].frame(profile_day(raw, [BTC])))
    day = rebuild_day(raw, [BTC], Settings(data_dir=data_dir), warehouse)
    for table in BOOK_FILES:
        publish(warehouse, table, DAY, day.staged[table.sql_name])
    rebuilds = TABLES["book_rebuilds"]
    replace_rows(
        warehouse,
        rebuilds,
        DAY,
        [BTC.id],
        rebuilds.frame([each.as_record() for each in day.records]),
    )
    refresh_catalogue(warehouse)
    return data_dir


class TestADayOfSnapshots:
    @pytest.mark.parametrize("second", [0, 1, 100, 298])
    def test_the_book_is_the_snapshot(self, data_dir: Path, second: int):
        """At an instant the book is the last snapshot, whole, and says that it is no more."""
        at_ns = START_NS + second * SECOND + 17
        book = book_at(BTC.id, at_ns, data_dir=data_dir)

        assert (START_NS + second * SECOND, second + 1, BookFlag.SNAPSHOT_ONLY) == (
            book.ts_receipt_ns,
            book.sequence_number,
            book.flags,
        )
        assert (20, 20, 99.0 + second % 3 * 0.5) == (
            book.bids.height,
            book.asks.height,
            book.bids["price"][0],
        )

    def test_before_a_hole(self, data_dir: Path):
        """The last snapshot before a hole is stale at once, as its published row is."""
        book = book_at(BTC.id, START_NS + 299 * SECOND, data_dir=data_dir)

        assert BookFlag.SNAPSHOT_ONLY | BookFlag.STALE == book.flags

    @pytest.mark.parametrize("read", [replay, partial(replay, depth=1), events])
    def test_has_no_messages(self, data_dir: Path, read: Callable[..., Iterator[object]]):
        """Replay and events refuse it and name the day and the instrument."""
        with pytest.raises(MissingDataError, match="from its snapshots") as refused:
            list(read(BTC.id, START_NS, START_NS + 10 * SECOND, data_dir=data_dir))

        error = refused.value
        assert (BTC.venue, BTC.symbol, DAY) == (error.exchange, error.symbol, error.day)

    def test_the_raw_file_changed(self, data_dir: Path, folder: Path):
        """A snapshot that is not in the lake any more is not made up."""
        (file,) = (folder / "lake").rglob("*.parquet")
        moved = rows()
        numbers = pa.array(moved["sequence_number"].to_numpy() + 1_000)
        moved = moved.set_column(2, "sequence_number", numbers)
        shard(file.parent, 1, moved)
        # Which of the two depends on whether the file has the same size as before.
        with pytest.raises((CheckpointError, LakeFileError), match=r"changed since|do not lead"):
            book_at(BTC.id, START_NS + SECOND, data_dir=data_dir)


def test_a_message_that_a_snapshot_begins_the_book_after(one_message: Path):
    """The book after a message is its own, though the checkpoint behind it is of the snapshot."""
    book = book_at(BTC.id, START_NS + 1, data_dir=one_message)

    assert (BookFlag.NOT_SEEDED, [98.0], [103.0]) == (
        book.flags,
        book.bids["price"].to_list(),
        book.asks["price"].to_list(),
    )

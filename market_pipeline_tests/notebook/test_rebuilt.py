from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from market_pipeline import rebuild
from market_pipeline.books.flags import MEANING, BookFlag
from market_pipeline.books.kernel import advance
from market_pipeline.books.tables import IDENTITY
from market_pipeline.errors import DomainError, InstrumentsError, MissingDataError
from market_pipeline.notebook import in_memory
from market_pipeline_tests.notebook.conftest import Market
from market_pipeline_tests.sources.capture_files import capture, depth, line, rest, trade

pytestmark = pytest.mark.slow

SECOND = 1_000_000_000
WITHOUT = [column.name for column in IDENTITY]


def message(number: int, *levels: tuple[bool, float, float]) -> list[tuple]:
    """The rows of one message, a second after the one before."""
    return [(number * SECOND, number * SECOND + 5, number, *level) for level in levels]


def deltas(*messages: list[tuple]) -> pl.DataFrame:
    """Messages as a frame in the vendor's columns."""
    names = ("timestamp", "receipt_timestamp", "sequence_number", "side_is_bid", "price", "size")
    return pl.DataFrame([row for rows in messages for row in rows], schema=names, orient="row")


def snapshot(number: int, bid: float, ask: float, size: float = 1.0) -> pl.DataFrame:
    """A snapshot of one level a side after the message of that number."""
    return pl.DataFrame(
        {
            "receipt_timestamp": [number * SECOND + 6],
            "sequence_number": [number],
            "bid_0_price": [bid],
            "bid_0_size": [size],
            "ask_0_price": [ask],
            "ask_0_size": [size],
        }
    )


THREE = deltas(
    message(1, (True, 99.9, 1.0), (False, 100.1, 1.0)),
    message(2, (True, 100.0, 2.5)),
    message(3, (True, 99.8, 0.5), (False, 100.1, 0.0), (False, 100.3, 4.0)),
)


class TestSameAsThePipeline:
    def test_bbo_depth_and_intervals(self, market: Market):
        """From the files of a day come the very rows that the stages published of it."""
        rebuilt = rebuild(
            market.deltas,
            market.snapshots,
            trades=market.trades,
            tick=Decimal("0.1"),
            lot="0.001",
            depth_every=100,
        )
        assert rebuilt.bbo.equals(market.published("book_bbo").drop(WITHOUT))
        assert rebuilt.depth.equals(market.published("book_depth").drop(WITHOUT))
        assert rebuilt.intervals.equals(market.published("book_intervals").drop(WITHOUT))
        assert (1, 10) == (rebuilt.figures["gaps"], rebuilt.figures["price_losses"])

    def test_closing_book(self, market: Market):
        """The book is the closing checkpoint, level by level, with its horizon and its flags."""
        rebuilt = rebuild(
            market.deltas, market.snapshots, trades=market.trades, tick=0.1, lot=0.001
        )
        closing = market.published("book_checkpoints").row(-1, named=True)
        book = rebuilt.book
        for side, levels in (("bid", book.bids), ("ask", book.asks)):
            assert closing[f"{side}_price_ticks"] == levels["price_ticks"].to_list()
            assert closing[f"{side}_size_lots"] == levels["size_lots"].to_list()
        assert (closing["ts_receipt_ns"], closing["sequence_number"]) == (
            book.ts_receipt_ns,
            book.sequence_number,
        )
        assert (
            closing["bid_horizon_ticks"] / 10,
            closing["ask_horizon_ticks"] / 10,
            market.published("book_bbo")["flags"][-1],
        ) == (book.known_low_price, book.known_high_price, book.flags)

    def test_figures(self, market: Market):
        """The counters are those of the day's record in books.rebuilds."""
        from market_pipeline import connect

        rebuilt = rebuild(
            market.deltas, market.snapshots, trades=market.trades, tick=0.1, lot=0.001
        )
        with connect(market.data_dir) as connection:
            record = connection.sql("FROM books.rebuilds WHERE outcome = 'rebuilt' LIMIT 1").pl()
        recorded = record.row(0, named=True)
        shared = [
            name
            for name in rebuilt.figures
            if name in recorded and not name.endswith("_loss_files")  # below the lake there
        ]
        assert {"messages", "snapshots_compared", "price_loss_rows", "seed_sequence_number"} <= set(
            shared
        )
        assert {name: recorded[name] for name in shared} == {
            name: rebuilt.figures[name] for name in shared
        }

    def test_frames_and_arrays_give_the_same_as_files(
        self, market: Market, monkeypatch: pytest.MonkeyPatch
    ):
        """In whatever form the rows are given, however they are sliced, the book is the same."""
        tables = [
            pl.concat(
                pl.read_parquet(folder / f"{n}.snappy.parquet", hive_partitioning=False)
                for n in range(1, 12)
            )
            for folder in (market.deltas, market.snapshots, market.trades)
        ]
        monkeypatch.setattr(in_memory, "_SLICE_ROWS", 1_000)
        monkeypatch.setattr(in_memory, "_SNAPSHOT_SLICE_ROWS", 77)
        frames = rebuild(tables[0], tables[1], trades=tables[2].lazy(), depth_every=1_000)
        arrays = rebuild(
            {column.name: column.to_numpy() for column in tables[0]},
            tables[1].to_arrow(),
            trades={column.name: column.to_numpy() for column in tables[2]},
            depth_every=1_000,
        )
        files = rebuild(
            [market.deltas / f"{n}.snappy.parquet" for n in range(1, 12)],
            str(market.snapshots),
            trades=market.trades,
            depth_every=1_000,
        )
        for other in (frames, arrays):
            assert files.bbo.equals(other.bbo)
            assert files.depth.equals(other.depth)
            assert files.book.bids.equals(other.book.bids)
            assert files.book.asks.equals(other.book.asks)
        assert Decimal("0.01") == files.tick  # ten prices of the day are 0.03 off the grid

    def test_one_machine_code_for_all(self):
        """Read-only frames and writable arrays do not make numba compile the kernel twice."""
        arrays = {column.name: column.to_numpy().copy() for column in THREE}
        shots = {column.name: column.to_numpy().copy() for column in snapshot(1, 99.9, 100.1)}
        rebuild(arrays, shots)
        compiled = len(advance.signatures)
        rebuild(THREE, snapshot(1, 99.9, 100.1))
        assert compiled == len(advance.signatures)


class TestRebuild:
    def test_best_bid_and_ask_after_every_message(self):
        """One row per message: prices and sizes as floats, ticks and lots, and the times."""
        rebuilt = rebuild(THREE, snapshot(1, 99.9, 100.1))
        assert (Decimal("0.1"), Decimal("0.5")) == (rebuilt.tick, rebuilt.lot)
        expected = pl.DataFrame(
            {
                "ts_origin_ns": [1 * SECOND, 2 * SECOND, 3 * SECOND],
                "ts_receipt_ns": [1 * SECOND + 5, 2 * SECOND + 5, 3 * SECOND + 5],
                "sequence_number": [1, 2, 3],
                "bid_price_ticks": [999, 1000, 1000],
                "bid_size_lots": [2, 5, 5],
                "ask_price_ticks": [1001, 1001, 1003],
                "ask_size_lots": [2, 2, 8],
                "bid_price": [99.9, 100.0, 100.0],
                "bid_size": [1.0, 2.5, 2.5],
                "ask_price": [100.1, 100.1, 100.3],
                "ask_size": [1.0, 1.0, 4.0],
            }
        )
        assert expected.equals(rebuilt.bbo.drop("flags", "verified"))
        assert BookFlag.NOT_SEEDED == rebuilt.bbo["flags"][0]
        assert not rebuilt.bbo["flags"][1] & BookFlag.NOT_SEEDED

    def test_closing_book(self):
        """The book has all levels of both sides, best first."""
        book = rebuild(THREE, snapshot(1, 99.9, 100.1)).book
        assert [(100.0, 2.5, 1000, 5), (99.9, 1.0, 999, 2), (99.8, 0.5, 998, 1)] == book.bids.rows()
        assert [(100.3, 4.0, 1003, 8)] == book.asks.rows()

    def test_without_snapshots_nothing_is_seeded(self):
        """Every row says that no snapshot has confirmed the book."""
        rebuilt = rebuild(THREE)
        assert [1, 1, 1] == rebuilt.bbo["flags"].to_list()
        assert (None, None, None) == (
            rebuilt.figures["seed_sequence_number"],
            rebuilt.book.known_low_price,
            rebuilt.book.known_high_price,
        )

    @pytest.mark.parametrize(
        ("every", "sequences"), [(None, []), ("message", [1, 2, 3]), (2000, [1, 3])]
    )
    def test_depth_comes_as_asked_for(self, every, sequences):
        """No depth, depth after every message, or after the last of each interval."""
        depth = rebuild(THREE, depth_every=every).depth
        assert sequences == depth["sequence_number"].to_list()
        assert {"bid_0_price", "ask_19_size", "flags"} <= set(depth.columns)

    def test_a_given_step_is_in_force(self):
        """A price that is not on the given tick is refused, counted and located."""
        rows = deltas(
            message(1, (True, 99.9, 1.0), (False, 100.1, 1.0)), message(2, (True, 99.95, 1))
        )
        rebuilt = rebuild(rows, snapshot(1, 99.9, 100.1), tick="0.1", lot=1)
        assert (1, [2], [99.95]) == tuple(
            rebuilt.figures[name]
            for name in ("price_losses", "price_loss_rows", "price_loss_values")
        )
        assert BookFlag.PRECISION_LOSS & rebuilt.bbo["flags"][-1]

    def test_removals_alone_have_no_lot(self):
        """Rows that only remove levels leave an empty book, whose lot is 1."""
        rebuilt = rebuild(deltas(message(1, (True, 99.9, 0.0))))
        assert (Decimal(1), 0, 0) == (
            rebuilt.lot,
            rebuilt.book.bids.height,
            rebuilt.book.asks.height,
        )
        assert [None] == rebuilt.bbo["bid_price"].to_list()

    def test_resync_is_in_force(self):
        """A snapshot that disagrees, also two messages later, replaces the book unless never."""
        later = [deltas(message(n, (True, 99.5, float(n)))) for n in (4, 5)]
        rows = pl.concat([THREE, *later])
        shots = pl.concat([snapshot(1, 99.9, 100.1), snapshot(2, 99.7, 100.1)])
        recovered, kept = (rebuild(rows, shots, resync=each) for each in ("when_invalid", "never"))
        assert (1, 0) == (recovered.figures["resyncs"], kept.figures["resyncs"])

    def test_gaps_need_trades(self):
        """A silence is a suspected gap if trades went on in it, and nobody knows without trades."""
        rows = deltas(
            *(message(n, (True, 99.9, 1.0 + n % 2), (False, 100.1, 1.0)) for n in range(1, 50)),
            message(90, (True, 99.9, 3.0)),
        )
        trades = pl.DataFrame({"timestamp": [70 * SECOND], "receipt_timestamp": [70 * SECOND + 5]})
        shots = snapshot(1, 99.9, 100.1, 2.0)
        silent, traded, none = (
            rebuild(rows, shots, trades=each) for each in (None, trades, trades.head(0))
        )
        assert [0, 1, 0] == [each.figures["gaps"] for each in (silent, traded, none)]
        assert (0, BookFlag.GAP) == (silent.bbo["flags"][-1], traded.bbo["flags"][-1])

    @pytest.mark.parametrize(
        ("arguments", "column"),
        [
            ({"tick": 0}, "tick"),
            ({"tick": "fine"}, "tick"),
            ({"lot": -1}, "lot"),
            ({"lot": "1e-16"}, "lot"),
            ({"depth_every": 0}, "depth_every"),
            ({"depth_every": "100ms"}, "depth_every"),
            ({"depth_every": 1.5}, "depth_every"),
            ({"resync": "sometimes"}, "resync"),
            ({"crossed": "repair"}, "crossed"),
            ({"crossed_resync_seconds": -1}, "crossed_resync_seconds"),
            ({"crossed_resync_seconds": float("nan")}, "crossed_resync_seconds"),
        ],
    )
    def test_arguments_out_of_range(self, arguments, column):
        """An argument that cannot be used is named."""
        with pytest.raises(DomainError) as caught:
            rebuild(THREE, **arguments)
        assert column == caught.value.column

    @pytest.mark.parametrize("steps", [{}, {"tick": 1, "lot": 1}])
    def test_no_rows(self, steps):
        """Without a row there is no book."""
        with pytest.raises(MissingDataError, match="no delta row"):
            rebuild(THREE.head(0), **steps)

    def test_raw_files_need_no_folder(self, tmp_path: Path):
        """Any Parquet file with the vendor's columns will do."""
        THREE.write_parquet(tmp_path / "mine.parquet")
        assert rebuild(THREE).bbo.equals(rebuild(tmp_path / "mine.parquet").bbo)


class TestCapture:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        """A snapshot, two messages that continue it, a damaged line and a message after a loss."""
        lines = [
            line(rest(10, [("99.9", "1.0")], [("100.1", "1.0")]), 0),
            line(depth("spot", (10, 12), bids=[("100.0", "2.5")]), 100),
            line(depth("spot", (12, 13), asks=[("100.1", "0"), ("100.3", "4.0")]), 200),
            b"1723161600300000000 {",
            line(trade(1), 350),
            line(depth("spot", (20, 21), bids=[("99.8", "0.5")]), 400),
        ]
        return capture(tmp_path / "btcusdt.gz", lines)

    def test_brings_its_own_snapshots(self, file: Path):
        """Deltas and snapshots of one file make the book; a proven gap needs no trades."""
        rebuilt = rebuild(file, instrument="BINANCE:BTC-USDT")
        assert [12, 13, 21] == rebuilt.bbo["sequence_number"].to_list()
        beyond = BookFlag.UNCONFIRMED_DEPTH  # the snapshot has one level a side
        assert [0, beyond, beyond | BookFlag.GAP] == rebuilt.bbo["flags"].to_list()
        assert [100.0, 99.9, 99.8] == rebuilt.book.bids["price"].to_list()
        assert [100.3] == rebuilt.book.asks["price"].to_list()

    def test_a_mismatch_after_a_loss_reaches_back_to_the_loss(self, file: Path):
        """Ids prove the messages before it, so only what follows it is in doubt."""
        levels = [("99.0", "1.0")], [("101.0", "1.0")]
        more = [
            line(rest(21, *levels), 500),
            line(depth("spot", (22, 22), bids=[("98.9", "1.0")]), 600),
        ]
        capture(file, [*gzip.decompress(file.read_bytes()).splitlines(), *more])
        flags = rebuild(file, instrument="BINANCE:BTC-USDT").bbo["flags"].to_list()
        assert [0, 0, BookFlag.SNAPSHOT_MISMATCH, 0] == [
            flag & BookFlag.SNAPSHOT_MISMATCH for flag in flags
        ]

    def test_tells_what_it_found(self, file: Path):
        """Each finding comes once, with its file, its line and what it means."""
        found = rebuild([file], trades=file, instrument="BINANCE:BTC-USDT").findings
        assert {("truncated_line", str(file), 4), ("gap", str(file), 6)} == set(
            found.select("kind", "file", "line").rows()
        )
        assert 2 == found.height
        assert found["meaning"].str.ends_with(".").all()

    @pytest.mark.parametrize("instrument", [None, "BTCUSDT", "KRAKEN:BTC-USD", "BINANCE:"])
    def test_whose_it_is(self, file: Path, instrument):
        """A capture needs an instrument of Binance, because the venue's rules decide."""
        with pytest.raises(InstrumentsError) as caught:
            rebuild(file, instrument=instrument)
        assert (instrument or "no instrument") == caught.value.found


class TestBook:
    def test_says_what_it_is(self):
        """Its text has the time, the touch, the number of levels and the flags."""
        book = rebuild(THREE).book
        assert (
            "Book(1970-01-01T00:00:03.000000005Z, best bid 2.5 @ 100, best ask 4 @ 100.3, "
            "3 bids, 1 asks, flags: NOT_SEEDED)"
        ) == repr(book)

    def test_says_why_it_is_not_valid(self):
        """Each flag has its sentence."""
        seeded, cold = rebuild(THREE, snapshot(1, 99.9, 100.1)).book, rebuild(THREE).book
        assert (True, False) == (seeded.is_valid, cold.is_valid)
        assert [MEANING[BookFlag.NOT_SEEDED]] == cold.reasons

    def test_top(self):
        """Cut to some levels it is the same book otherwise."""
        book = rebuild(THREE).book
        top = book.top(2)
        assert ([100.0, 99.9], [100.3]) == (
            top.bids["price"].to_list(),
            top.asks["price"].to_list(),
        )
        assert (book.flags, book.ts_receipt_ns) == (top.flags, top.ts_receipt_ns)

    def test_an_empty_side(self):
        """A side without levels is a frame without rows."""
        book = rebuild(deltas(message(1, (True, 99.9, 1.0)))).book
        assert (0, np.float64) == (book.asks.height, book.asks["price"].to_numpy().dtype)
        assert "best ask nothing" in repr(book)

"""Tardis's files become messages, snapshots and trades of the raw contract, or a clear error."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import DomainError, LakeFileError, SchemaError
from market_pipeline.sources.converted_columns import LOST_BEFORE, RECOVERED
from market_pipeline.sources.crypto_lake import read_deltas
from market_pipeline.sources.crypto_lake_contracts import read_funding, read_open_interest
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.tardis_csv import (
    CONVERTER,
    reading,
    tardis_exchange,
    tardis_symbol,
)
from market_pipeline.sources.tardis_csv import (
    _books as books,
)
from market_pipeline_tests.sources.tardis_files import (
    BOOK_25,
    HEADINGS,
    INCREMENTAL,
    TICKER,
    TRADES,
    path_of,
    write_lines,
    write_text,
)

DAY = date(2024, 8, 8)
BTC = Instrument(venue="BINANCE_FUTURES", symbol="BTC-USDT-PERP", source="tardis_csv")
HEAD = "binance-futures,BTCUSDT"
T0 = 1_723_075_200_000_000
"""The begin of the day in microseconds."""


@dataclass(frozen=True)
class Made:
    """What a day became: the files of each table, and the notes."""

    folder: Path
    notes: list[str]

    def files(self, table: str) -> list[Path]:
        return sorted((self.folder / table).glob("*.parquet"))

    def deltas(self) -> pl.DataFrame:
        return pl.read_parquet(self.files("book_delta_v2"))


def lines_of(*rows: str) -> list[str]:
    return [f"{HEAD},{row}" for row in rows]


def write_day(lake: Path, **types: list[str]) -> None:
    names = {"incremental": INCREMENTAL, "book": BOOK_25, "trades": TRADES, "ticker": TICKER}
    for name, lines in types.items():
        kind = names[name]
        write_lines(path_of(lake, "binance-futures", kind, DAY, "BTCUSDT"), kind, lines)


def made(lake: Path, of: Instrument = BTC) -> Made:
    """Converts the day that lies below a folder."""
    folder = lake / "made"
    with RawWriter(folder, "test") as out:
        CONVERTER.convert(CONVERTER.find(lake, of, DAY), out, of, DAY)
    return Made(folder, out.notes)


def level_row(at: int, *, asks: list[tuple[float, float]], bids: list[tuple[float, float]]) -> str:
    """A row of `book_snapshot_25`; levels beyond those given are empty."""
    cells = []
    for level in range(25):
        for side in (asks, bids):
            cells += map(str, side[level]) if level < len(side) else ["", ""]
    return f"{T0 + at - 5},{T0 + at},{','.join(cells)}"


class TestMessages:
    def test_equal_local_timestamps_are_a_message_and_times_become_nanoseconds(self, tmp_path):
        """Messages are numbered from 1; amount 0 removes a level; the exchange's time is kept."""
        write_day(
            tmp_path,
            incremental=lines_of(
                f"{T0},{T0 + 7},false,bid,100.5,1.25",
                f"{T0 + 1},{T0 + 7},false,ask,101,0",
                f"{T0 + 1},{T0 + 9},false,bid,100.5,0",
            ),
        )

        rows = made(tmp_path).deltas()

        assert rows.rows() == [
            (T0 * 1_000, (T0 + 7) * 1_000, 1, True, 100.5, 1.25, 0),
            ((T0 + 1) * 1_000, (T0 + 7) * 1_000, 1, False, 101.0, 0.0, 0),
            ((T0 + 1) * 1_000, (T0 + 9) * 1_000, 2, True, 100.5, 0.0, 0),
        ]

    def test_a_block_of_snapshot_rows_is_a_row_of_book_and_a_message(self, tmp_path):
        """The first seeds and is no loss; a later one stands where the connection began anew.

        The later row of a price counts, a level of amount 0 is none, and the best come first.
        """
        write_day(
            tmp_path,
            incremental=lines_of(
                f"{T0},{T0},true,ask,102,1",
                f"{T0},{T0},true,bid,99,2",
                f"{T0},{T0},true,bid,100,3",
                f"{T0},{T0 + 3},false,bid,100,1",
                f"{T0},{T0 + 5},true,ask,103,1",
                f"{T0},{T0 + 6},true,ask,103,4",
                f"{T0},{T0 + 6},true,ask,101,0",
                f"{T0},{T0 + 6},false,ask,103,5",
            ),
        )

        day = made(tmp_path)
        books = list(read_snapshots(day.files("book")))

        assert day.deltas()["sequence_number"].to_list() == [2, 2, 2, 3, 5, 6, 6, 7]
        assert day.deltas()[LOST_BEFORE].to_list() == [0, 0, 0, 0, RECOVERED, 0, 0, 0]
        assert [1, 4] == [number for book in books for number in book.sequence_number.tolist()]
        bid_price = np.concatenate([book.bid_price for book in books])
        ask_size = np.concatenate([book.ask_size for book in books])
        assert [[100.0, 99.0, 0.0], [0.0, 0.0, 0.0]] == bid_price[:, :3].tolist()
        assert [[1.0, 0.0], [4.0, 0.0]] == ask_size[:, :2].tolist()

    def test_rows_before_the_first_block_are_of_another_connection(self, tmp_path):
        """They are messages; the block that follows them takes their place."""
        write_day(
            tmp_path,
            incremental=lines_of(
                f"{T0},{T0},false,ask,102,1",
                f"{T0},{T0 + 1},true,ask,103,1",
            ),
        )
        assert [0, RECOVERED] == made(tmp_path).deltas()[LOST_BEFORE].to_list()

    def test_a_deep_block_keeps_all_its_levels(self, tmp_path):
        """More than the vendor's 20 levels a side come back from the row of `book`."""
        levels = [f"{T0},{T0},true,bid,{1_000 - level},1" for level in range(300)]
        write_day(tmp_path, incremental=lines_of(*levels))
        (book,) = read_snapshots(made(tmp_path).files("book"))
        assert (1, 300) == book.bid_price.shape
        assert [1_000.0, 701.0] == book.bid_price[0, [0, -1]].tolist()


class TestTopRows:
    def test_each_is_numbered_as_the_message_with_its_time(self, tmp_path):
        """A row whose time no message has is left out, and the note says which."""
        at = [T0, T0 + 4, T0 + 9]
        write_day(
            tmp_path,
            incremental=lines_of(*(f"{us},{us},false,bid,100,1" for us in at)),
            book=lines_of(
                level_row(0, asks=[(101, 1)], bids=[(100, 1)]),
                level_row(3, asks=[(101, 1)], bids=[(100, 1)]),
                level_row(9, asks=[(101, 1), (102, 2)], bids=[]),
            ),
        )

        day = made(tmp_path)
        (book,) = read_snapshots(day.files("book"), with_origin=True)

        assert [1, 3] == book.sequence_number.tolist()
        assert [(T0 - 5) * 1_000, (T0 + 4) * 1_000] == book.ts_origin_ns.tolist()
        assert [[1.0, 0.0], [1.0, 2.0]] == book.ask_size[:, :2].tolist()
        (note,) = day.notes
        assert note.startswith("1 x book_snapshot_25 rows left out") and "row 1 of" in note

    def test_alone_they_are_numbered_from_1(self, tmp_path):
        """Without an incremental file there are snapshots, and no delta."""
        rows = [level_row(at, asks=[(101, 1)], bids=[(100, 1)]) for at in (2, 5)]
        write_day(tmp_path, book=lines_of(*rows))
        day = made(tmp_path)
        (book,) = read_snapshots(day.files("book"))
        assert ([1, 2], []) == (book.sequence_number.tolist(), day.files("book_delta_v2"))


class TestTrades:
    def test_they_keep_the_venue_s_ids(self, tmp_path):
        """Side, price, amount and times come through; a trade of an unknown side is noted."""
        write_day(
            tmp_path,
            trades=lines_of(
                f"{T0},{T0 + 1},77,buy,100.5,2",
                f"{T0},{T0 + 1},78,unknown,100.5,2",
                f"{T0 + 2},{T0 + 3},79,sell,100,1",
            ),
        )

        day = made(tmp_path)
        trades = read_trades(day.files("trades"))

        assert [77, 79] == pl.read_parquet(day.files("trades"))["id"].to_list()
        assert ([True, False], [2.0, 1.0]) == (trades.is_buy.tolist(), trades.quantity.tolist())
        assert [(T0 + 1) * 1_000, (T0 + 3) * 1_000] == trades.ts_receipt_ns.tolist()
        (note,) = day.notes
        assert note.startswith("1 x trades left out, because their side is unknown; first: row 1")

    @pytest.mark.parametrize("second", ["", "b-2"], ids=["empty", "text"])
    def test_ids_that_are_no_numbers_are_counted_instead(self, tmp_path, second):
        """Then all of the day are numbered from 1, so that none occurs twice."""
        write_day(
            tmp_path,
            trades=lines_of(f"{T0},{T0},500,buy,100,2", f"{T0},{T0},{second},buy,100,2"),
        )
        day = made(tmp_path)
        assert [1, 2] == pl.read_parquet(day.files("trades"))["id"].to_list()
        assert "numbered from 1" in day.notes[0]


GOOD = f"{HEAD},{T0},{T0},false,bid,100,1"


class TestRefused:
    """What is not as Tardis documents it is an error with its place, and nothing is guessed."""

    @pytest.mark.parametrize(
        ("row", "column", "found"),
        [
            (f"{HEAD},{T0},{T0},false,bid,0,1", "price", "0.0"),
            (f"{HEAD},{T0},{T0},false,bid,nan,1", "price", "nan"),
            (f"{HEAD},{T0},{T0},false,bid,100,-1", "amount", "-1.0"),
            (f"{HEAD},{T0},{T0},false,bid,100,inf", "amount", "inf"),
            (f"{HEAD},{T0},{T0},false,buy,100,1", "side", "'buy'"),
            (f"{HEAD},{T0},{T0},false,,100,1", "side", "''"),
            (f"{HEAD},{T0},{T0},false,bid,,1", "price", "nothing"),
            (f"{HEAD},,{T0},false,bid,100,1", "timestamp", "nothing"),
            (f"{HEAD},{T0},{T0 // 1_000},false,bid,100,1", "local_timestamp", str(T0 // 1_000)),
            (f"{HEAD},{T0},{T0 - 1},false,bid,100,1", "local_timestamp", str(T0 - 1)),
            (f"binance-futures,ETHUSDT,{T0},{T0},false,bid,100,1", "symbol", "'ETHUSDT'"),
            (f"binance,BTCUSDT,{T0},{T0},false,bid,100,1", "exchange", "'binance'"),
        ],
    )
    def test_a_value_outside_its_domain(self, tmp_path, row, column, found):
        """The error names file, row, column, and what was found."""
        write_day(tmp_path, incremental=[GOOD, GOOD, row])
        with pytest.raises(DomainError) as told:
            made(tmp_path)
        error = told.value
        assert (2, column, found) == (error.row, error.column, error.found)
        assert error.file == str(path_of(tmp_path, "binance-futures", INCREMENTAL, DAY, "BTCUSDT"))

    @pytest.mark.parametrize(
        "row",
        [
            f"{HEAD},{T0}.5,{T0},false,bid,100,1",
            f"{HEAD},{T0},{T0},maybe,bid,100,1",
            f"{HEAD},{T0},{T0},false,bid,1OO,1",
            f"{HEAD},{T0},{T0},false,bid,100",
            f"{HEAD},{T0},{T0},false,bid,100,1,2",
        ],
        ids=["time", "bool", "price", "too few", "too many"],
    )
    def test_a_row_that_is_not_of_its_type(self, tmp_path, row):
        """The error has what the reader said of it."""
        write_day(tmp_path, incremental=[GOOD, row])
        with pytest.raises(SchemaError, match="not of its type"):
            made(tmp_path)

    @pytest.mark.parametrize(
        ("heading", "told"),
        [
            (HEADINGS[TRADES], "missing: is_snapshot; unexpected: id"),
            (HEADINGS[INCREMENTAL] + ",more", "missing: none; unexpected: more"),
            (HEADINGS[INCREMENTAL] + ',"x, y"', "missing: none; unexpected: 'x, y'"),
            (HEADINGS[INCREMENTAL].replace("price,amount", "amount,price"), "missing: none"),
        ],
        ids=["another type", "one more", "two words", "another order"],
    )
    def test_other_columns(self, tmp_path, heading, told):
        """All columns must be those of the data type, in their order."""
        path = path_of(tmp_path, "binance-futures", INCREMENTAL, DAY, "BTCUSDT")
        write_text(path, f"{heading}\n")
        with pytest.raises(SchemaError) as error:
            made(tmp_path)
        assert told in str(error.value.found)

    @pytest.mark.parametrize("what", ["cut", "no gzip", "empty"])
    def test_a_file_that_is_not_whole(self, tmp_path, what):
        """A cut gzip, another format and no bytes at all are the same kind of error."""
        path = path_of(tmp_path, "binance-futures", INCREMENTAL, DAY, "BTCUSDT")
        rows = "\n".join([HEADINGS[INCREMENTAL], *[GOOD] * 5_000])
        whole = gzip.compress(rows.encode(), 1, mtime=0)
        path.parent.mkdir(parents=True)
        path.write_bytes({"cut": whole[:-20], "no gzip": rows.encode(), "empty": b""}[what])
        with pytest.raises(LakeFileError, match="cannot be read to its end"):
            made(tmp_path)


class TestLarge:
    """What would not fit into memory is refused as it is met, whatever the file unpacks to."""

    def test_a_heading_without_an_end(self, tmp_path):
        """It does not become millions of columns first."""
        path = path_of(tmp_path, "binance-futures", INCREMENTAL, DAY, "BTCUSDT")
        write_text(path, HEADINGS[INCREMENTAL] + "," * 100_000)
        with pytest.raises(SchemaError, match="heading of the CSV file does not end"):
            made(tmp_path)

    def test_a_value_longer_than_a_block(self, tmp_path):
        """Its row is refused, and the error does not repeat it."""
        write_day(tmp_path, incremental=[GOOD, f"{HEAD},{T0},{T0},false,{'b' * (20 << 20)},1,1"])
        with pytest.raises(SchemaError, match="not of its type") as error:
            made(tmp_path)
        assert len(str(error.value)) < 5_000

    def test_a_block_of_snapshot_rows_without_an_end(self, tmp_path, monkeypatch):
        """A block is held until its end, so it must have one."""
        monkeypatch.setattr(books, "MAX_MESSAGE_ROWS", 200)
        levels = [f"{T0},{T0},true,bid,{1_000 - level},1" for level in range(201)]
        write_day(tmp_path, incremental=lines_of(*levels))
        with pytest.raises(LakeFileError, match="block of snapshot rows does not end"):
            made(tmp_path)


class TestFind:
    def test_both_layouts_of_tardis_are_found(self, tmp_path):
        """Its client's flat names, and the folders of its server; other days are not."""
        flat = path_of(tmp_path, "binance-futures", INCREMENTAL, DAY, "BTCUSDT")
        deep = tmp_path / "tardis_csv/binance-futures/trades/2024/08/08/BTCUSDT.csv.gz"
        for each in (flat, deep):
            write_text(each, "")
        assert [flat, deep] == CONVERTER.find(tmp_path, BTC, DAY)
        assert [] == CONVERTER.find(tmp_path, BTC, date(2024, 8, 9))

    def test_a_data_type_in_both_layouts(self, tmp_path):
        """Nobody can say which of two files is the day's, so neither is read."""
        flat = path_of(tmp_path, "binance-futures", TRADES, DAY, "BTCUSDT")
        deep = tmp_path / "tardis_csv/binance-futures/trades/2024/08/08/BTCUSDT.csv.gz"
        for each in (flat, deep):
            write_lines(each, TRADES, [])
        with pytest.raises(LakeFileError, match="Two files are the trades of a day") as caught:
            made(tmp_path)

        assert str(deep) == caught.value.file
        assert str(flat) in str(caught.value)

    @pytest.mark.parametrize(
        ("venue", "symbol", "expected"),
        [
            ("BINANCE", "BTC-USDT", ("binance", "BTCUSDT")),
            ("BINANCE_DELIVERY", "BTC-USD-PERP", ("binance-delivery", "BTCUSD_PERP")),
            ("OKEX_SWAP", "BTC-USDT-SWAP", ("okex-swap", "BTC-USDT-SWAP")),
        ],
    )
    def test_names_are_tardis_s(self, venue, symbol, expected):
        """Binance's symbols are translated; those of other venues are the venue's own."""
        of = Instrument(venue=venue, symbol=symbol, source="tardis_csv")
        assert expected == (tardis_exchange(of), tardis_symbol(of))


class TestTicker:
    @pytest.mark.parametrize("block_bytes", [256, 1 << 20])
    def test_a_row_where_a_value_changes(self, tmp_path, monkeypatch, block_bytes):
        """Funding and open interest have the rows in which one of their own values is another.

        What is not given is null; where the file is cut while it is read changes nothing.
        """
        monkeypatch.setattr(reading, "_BLOCK_BYTES", block_bytes)
        paid = T0 + 28_800_000_000
        write_day(
            tmp_path,
            ticker=lines_of(
                f"{T0 + 1},{T0 + 5},,,,,60000.5,,",  # a price of a trade: no row of either
                f"{T0 + 2},{T0 + 6},{paid},0.0001,0.0002,,60000.5,59999.5,60000.25",
                f"{T0 + 3},{T0 + 7},{paid},0.0001,0.0003,,60000.5,59999.5,60000.25",
                f"{T0 + 4},{T0 + 8},{paid},0.0001,0.0003,0,60000.5,59999.5,60000.25",
                f"{T0 + 5},{T0 + 9},{paid},-0.0001,0.0003,0,60000.5,59999.5,",
                f"{T0 + 6},{T0 + 9},{paid},-0.0001,0.0003,7.5,60001,59999.5,",
            ),
        )
        day = made(tmp_path)

        paid_ns = paid * 1_000
        assert [
            ((T0 + 2) * 1_000, (T0 + 6) * 1_000, 0.0001, 60_000.25, 59_999.5, paid_ns),
            ((T0 + 5) * 1_000, (T0 + 9) * 1_000, -0.0001, None, 59_999.5, paid_ns),
        ] == read_funding(day.files("funding")).rows()
        assert [
            ((T0 + 4) * 1_000, (T0 + 8) * 1_000, 0.0),
            ((T0 + 6) * 1_000, (T0 + 9) * 1_000, 7.5),
        ] == read_open_interest(day.files("open_interest")).rows()
        assert [] == day.notes

    @pytest.mark.parametrize(
        ("bad", "column"),
        [
            (f"{T0},{T0},,inf,,,,,", "funding_rate"),
            (f"{T0},{T0},,0.1,,,,,0", "mark_price"),
            (f"{T0},{T0},,0.1,,,,-1,", "index_price"),
            (f"{T0},{T0},,,,-1,,,", "open_interest"),
            (f"{T0},{T0},1723075200000,0.1,,,,,", "funding_timestamp"),
            (f"{T0 - 1},{T0 - 1},,0.1,,,,,", "local_timestamp"),
        ],
    )
    def test_a_bad_file_is_left_out_and_the_book_stays(self, tmp_path, bad, column):
        """It is noted with the row and column that are wrong, and nothing of it is used."""
        write_day(
            tmp_path,
            incremental=lines_of(f"{T0},{T0},false,bid,1,1"),
            ticker=lines_of(f"{T0},{T0},,0.1,,5,,,", bad),
        )
        day = made(tmp_path)
        (note,) = day.notes

        file = path_of(tmp_path, "binance-futures", TICKER, DAY, "BTCUSDT").name
        expected = f"1 x derivative_ticker file left out; first: row 1 of {file}, {column}: "
        assert note.startswith(expected)
        assert (1, [], []) == (
            day.deltas().height,
            day.files("funding"),
            day.files("open_interest"),
        )


ROWS = st.lists(
    st.tuples(
        st.integers(0, 2),  # microseconds since the row before
        st.sampled_from([False, False, False, True]),
        st.sampled_from(["bid", "ask"]),
        st.integers(1, 10**9).map(lambda ticks: ticks / 100),
        st.integers(0, 10**6).map(lambda lots: lots / 1_000),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40)
@given(ROWS, st.sampled_from([256, 1 << 20]))
def test_any_feed_comes_back_message_by_message(feed, block_bytes):
    """A random feed, written as CSV and converted, has the messages of the documented rule.

    How the file is cut into parts while it is read changes nothing.
    """
    rows, at = [], T0
    for step, *rest in feed:
        at += step
        rows.append((at, *rest))
    expected = [
        [(side == "bid", price, size) for _, _, side, price, size in group]
        for _, group in groupby(rows, key=lambda row: row[:2])
    ]
    lines = [f"{t},{t},{str(snap).lower()},{side},{p!r},{q!r}" for t, snap, side, p, q in rows]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_BLOCK_BYTES", block_bytes)
        write_day(Path(folder), incremental=lines_of(*lines))
        day = made(Path(folder))
        (batch,) = read_deltas(day.files("book_delta_v2"))
        shots = [
            (number, book.ts_receipt_ns[at], book.bid_price[at], book.ask_price[at])
            for book in read_snapshots(day.files("book"))
            for at, number in enumerate(book.sequence_number.tolist())
        ]
    columns = (batch.sequence_number, batch.ts_receipt_ns, batch.is_bid, batch.price, batch.size)
    found = [
        [row[2:] for row in group]
        for _, group in groupby(zip(*(c.tolist() for c in columns), strict=True), lambda r: r[:2])
    ]
    assert expected == found
    assert [at * 1_000 for at, *_ in rows] == batch.ts_receipt_ns.tolist()

    blocks = [list(group) for snap, group in groupby(rows, lambda row: row[1]) if snap]
    assert len(blocks) == len(shots)
    for block, (number, receipt_ns, bids, asks) in zip(blocks, shots, strict=True):
        assert receipt_ns == block[0][0] * 1_000
        assert number + 1 in batch.sequence_number and number not in batch.sequence_number
        for side, prices in (("bid", bids), ("ask", asks)):
            last = {price: size for _, _, of, price, size in block if of == side}
            there = sorted((p for p, size in last.items() if size), reverse=side == "bid")
            assert there == prices[prices > 0].tolist()

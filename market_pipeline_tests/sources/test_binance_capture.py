from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from market_pipeline.sources.batches import MARKET, OUTSIDE_MARKET, UNMARKED
from market_pipeline.sources.binance_capture import (
    Findings,
    agg_trades,
    book_ticker,
    deltas,
    read_agg_trades,
    read_book_ticker,
    read_deltas,
    read_snapshots,
    read_trades,
    snapshots,
    trades,
)
from market_pipeline_tests.sources.capture_files import (
    BEGIN_MS,
    SYMBOL,
    capture,
    column,
    depth,
    line,
    rest,
    told,
    trade,
)

MARKETS = ("spot", "usdm", "coinm")
BOOK = ([("100.5", "1.25")], [("100.6", "0.5"), ("100.7", "0")])


def deltas_of(path: Path, market: str = "usdm", symbol: str | None = None):
    findings = Findings()
    return list(read_deltas([path], market, symbol or SYMBOL[market], findings)), told(findings)


class TestDeltas:
    @pytest.mark.parametrize("market", MARKETS)
    @pytest.mark.parametrize("stream", [None, "btcusdt@depth@100ms"])
    def test_values(self, tmp_path: Path, market, stream):
        """An event gives one row per level, bids first, in the envelope as bare."""
        frames = [depth(market, (10, 20), *BOOK), depth(market, (20, 30), [], BOOK[1])]
        lines = [line(frame, 7 * at, stream=stream) for at, frame in enumerate(frames)]
        (batch,), findings = deltas_of(capture(tmp_path / "c.gz", lines), market)
        origin = (BEGIN_MS + 20) * 10**6
        assert (tmp_path / "c.gz", 0, []) == (batch.file, batch.first_row, findings)
        assert [20, 20, 20, 30, 30] == batch.sequence_number.tolist()
        assert [True, False, False, False, False] == batch.is_bid.tolist()
        assert [100.5, 100.6, 100.7, 100.6, 100.7] == batch.price.tolist()
        assert [1.25, 0.5, 0.0, 0.5, 0.0] == batch.size.tolist()
        assert [0, 0, 0, 10**7, 10**7] == (batch.ts_origin_ns - origin).tolist()
        assert [0, 0, 0, 7 * 10**6, 7 * 10**6] == (batch.ts_receipt_ns - BEGIN_MS * 10**6).tolist()
        assert [0] == batch.gap_rows.tolist()

    def test_types(self, tmp_path: Path):
        """The arrays have the dtypes that the rebuild takes as they are."""
        (batch,), _ = deltas_of(capture(tmp_path / "c.gz", [line(depth("usdm", (1, 2), *BOOK))]))
        kinds = {name: getattr(batch, name).dtype for name in ("sequence_number", "gap_rows")}
        assert {"sequence_number": np.int64, "gap_rows": np.int64} == kinds
        assert (np.bool_, np.float64) == (batch.is_bid.dtype, batch.price.dtype)
        assert batch.price.flags.c_contiguous and batch.ts_origin_ns.flags.c_contiguous

    def test_microseconds(self, tmp_path: Path):
        """An event time of 16 digits is in µs, as spot sends on request."""
        frame = depth("spot", (1, 2), *BOOK, E=BEGIN_MS * 1000 + 123)
        (batch,), _ = deltas_of(capture(tmp_path / "c.gz", [line(frame)]), "spot")
        assert {BEGIN_MS * 10**6 + 123_000} == set(batch.ts_origin_ns.tolist())

    def test_every_digit_is_kept(self, tmp_path: Path):
        """A price becomes the float nearest to the text, as Python reads it."""
        prices = ["61837.63000000", "0.00000001", "617050.10", "0.1", "123456789.12345678"]
        frame = depth("usdm", (1, 2), [(price, "1") for price in prices])
        (batch,), _ = deltas_of(capture(tmp_path / "c.gz", [line(frame)]))
        assert [float(price) for price in prices] == batch.price.tolist()

    def test_other_streams_are_passed_over(self, tmp_path: Path):
        """Trades, best bids, answers to requests and partial books are no events of the book."""
        lines = [
            line(trade(1)),
            line({"u": 1, "s": "BTCUSDT", "b": "1", "B": "1", "a": "2", "A": "1"}),
            line({"result": None, "id": 1}),
            line(depth("usdm", (1, 2), *BOOK), stream="btcusdt@depth20@100ms"),
            line(rest(5, *BOOK), stream="btcusdt@depth5"),
        ]
        assert ([], []) == deltas_of(capture(tmp_path / "c.gz", lines))

    @pytest.mark.parametrize(
        ("bad", "kind"),
        [
            (line(depth("usdm", (20, 30), *BOOK))[:-9], "truncated_line"),
            (line(trade(1))[:-1], "truncated_line"),
            (line(depth("usdm", (20, 30), *BOOK)) + line(trade(1)), "undecodable"),
            (line(depth("spot", (20, 30), *BOOK)), "undecodable"),
            (line(depth("usdm", (20, 30), [("0", "1")])), "undecodable"),
            (line(depth("usdm", (20, 30), [("-1", "1")])), "undecodable"),
            (line(depth("usdm", (20, 30), [("nan", "1")])), "undecodable"),
            (line(depth("usdm", (20, 30), [("1", "-1")])), "undecodable"),
            (line(depth("usdm", (20, 30), [("1", "inf")])), "undecodable"),
            (line(depth("usdm", (20, 30), [("1", "1", "1")])), "undecodable"),
            (line(depth("usdm", (20, 2**63), *BOOK)), "undecodable"),
            (line(depth("usdm", (20, 30), *BOOK, E=12345)), "undecodable"),
            (line(depth("usdm", (20, 30), *BOOK, s="ETHUSDT")), "unknown_symbol"),
            (b"%d [1]" % (BEGIN_MS * 10**6), "undecodable"),
            (b"%d \xff\xfe" % (BEGIN_MS * 10**6), "undecodable"),
            (
                line(depth("usdm", (20, 30), *BOOK), stream="~@depth").replace(b"~", b"\x80"),
                "undecodable",
            ),
        ],
    )
    def test_a_bad_line_is_left_out_and_the_loss_is_proven(self, tmp_path: Path, bad, kind):
        """It is told with its line; the next event does not continue the last good one."""
        good = [line(depth("usdm", ids, *BOOK)) for ids in ((10, 20), (30, 40))]
        (batch,), findings = deltas_of(capture(tmp_path / "c.gz", [good[0], bad, good[1]]))
        assert [20, 20, 20, 40, 40, 40] == batch.sequence_number.tolist()
        assert [0, 3] == batch.gap_rows.tolist()
        assert [(kind, "c.gz", 2), ("gap", "c.gz", 3)] == findings

    def test_files_continue_each_other(self, tmp_path: Path):
        """Ids link across files, and each file's rows are counted from 0 in batches of its own."""
        ids = [(10, 20), (20, 30), (30, 40), (45, 50)]
        events = [line(depth("usdm", each, *BOOK)) for each in ids]
        files = [
            capture(tmp_path / "1.gz", [line(rest(15, *BOOK)), *events[:2]]),
            capture(tmp_path / "2.gz", []),
            capture(tmp_path / "3.gz", events[2:]),
        ]
        findings = Findings()
        batches = list(read_deltas(files, "usdm", "BTCUSDT", findings))
        seen = [(batch.file.name, batch.first_row, batch.gap_rows.tolist()) for batch in batches]
        assert [("1.gz", 0, []), ("3.gz", 0, [3])] == seen
        assert [("gap", "3.gz", 2)] == told(findings)

    def test_a_file_cut_short_is_a_gap_in_the_next(self, tmp_path: Path):
        """What is before the cut is used; the next file's first event does not continue it."""
        events = [line(depth("usdm", (k, k + 1), *BOOK), k) for k in range(200)]
        first = capture(tmp_path / "1.gz", [line(rest(0, *BOOK)), *events[:150]])
        first.write_bytes(first.read_bytes()[:-200])
        second = capture(tmp_path / "2.gz", events[150:])
        findings = Findings()
        batches = list(read_deltas([first, second], "usdm", "BTCUSDT", findings))
        read = len(set(batches[0].sequence_number.tolist()))
        assert 0 < read < 150
        assert [("truncated_gzip", "1.gz", read + 2), ("gap", "2.gz", 1)] == told(findings)
        assert [[], [0]] == [batch.gap_rows.tolist() for batch in batches]

    def test_batches_are_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """A batch ends with the message that fills it."""
        monkeypatch.setattr(deltas, "BATCH_ROWS", 4)
        events = [line(depth("usdm", (k, k + 1), *BOOK)) for k in range(5)]
        batches, _ = deltas_of(capture(tmp_path / "c.gz", events))
        assert [(0, 6), (6, 6), (12, 3)] == [(each.first_row, each.price.size) for each in batches]

    def test_spaces_in_the_json(self, tmp_path: Path):
        """JSON written again by another program, with spaces, is read alike."""
        frame = json.dumps({"stream": "btcusdt@depth", "data": depth("usdm", (1, 2), *BOOK)})
        text = b"%d %s" % (BEGIN_MS * 10**6, frame.encode())
        (batch,), findings = deltas_of(capture(tmp_path / "c.gz", [text]))
        assert (3, []) == (batch.price.size, findings)


class TestSnapshots:
    @pytest.mark.parametrize(("market", "sequences"), [("spot", [15, 25]), ("coinm", [14, 25])])
    def test_padded_to_the_deepest(self, tmp_path: Path, market, sequences):
        """Each side is best first and padded with size 0; the number is where the book meets it."""
        deep = [("99", "3"), ("98", "2"), ("97", "1")]
        lines = [
            line(rest(15, deep, [("101", "1")]), 5),
            line(depth(market, (10, 20), *BOOK)),
            line(rest(25, [], [("102", "4"), ("103", "5")]), 9),
        ]
        path = capture(tmp_path / "c.gz", lines)
        findings = Findings()
        (batch,) = read_snapshots([path], market, SYMBOL[market], findings)
        assert ([], path, 0) == (findings.located, batch.file, batch.first_row)
        assert sequences == batch.sequence_number.tolist()
        assert [5, 9] == (batch.ts_receipt_ns // 10**6 - BEGIN_MS).tolist()
        assert [[99, 98, 97], [0, 0, 0]] == batch.bid_price.tolist()
        assert [[3, 2, 1], [0, 0, 0]] == batch.bid_size.tolist()
        assert [[101, 0, 0], [102, 103, 0]] == batch.ask_price.tolist()
        assert [[1, 0, 0], [4, 5, 0]] == batch.ask_size.tolist()

    def test_batches_are_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """A batch ends with the snapshot that fills it."""
        monkeypatch.setattr(snapshots, "BATCH_ROWS", 5)
        lines = [line(rest(number, *BOOK)) for number in range(1, 6)]
        batches = list(
            read_snapshots([capture(tmp_path / "c.gz", lines)], "spot", "BTCUSDT", Findings())
        )
        assert [(0, 2), (2, 2), (4, 1)] == [
            (batch.first_row, batch.sequence_number.size) for batch in batches
        ]

    def test_a_deep_one_among_shallow_ones(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """A batch is never wider than its share: what is deep does not make the others so."""
        monkeypatch.setattr(snapshots, "PADDED_LEVELS", 100)
        deep = [[str(price), "1"] for price in range(1, 51)]
        lines = [line(rest(n, deep if n == 6 else [["1", "1"]], [])) for n in range(1, 11)]
        batches = list(
            read_snapshots([capture(tmp_path / "c.gz", lines)], "spot", "BTCUSDT", Findings())
        )
        assert list(range(1, 11)) == [n for batch in batches for n in batch.sequence_number]
        assert [(5, 1), (2, 50), (3, 1)] == [batch.bid_price.shape for batch in batches]

    def test_a_snapshot_without_any_level(self, tmp_path: Path):
        """It is told as an empty book, which the rebuild does not take for one."""
        path = capture(tmp_path / "c.gz", [line(rest(1, [], []))])
        (batch,) = read_snapshots([path], "spot", "BTCUSDT", Findings())
        assert ([[0.0]], [[0.0]]) == (batch.bid_size.tolist(), batch.ask_size.tolist())

    @pytest.mark.parametrize(
        ("bad", "kind"),
        [
            (line(rest(15, *BOOK))[:-2], "truncated_line"),
            (line(rest(15, [("0", "1")], [])), "undecodable"),
            (line(rest(15, *BOOK, symbol="ETHUSD_PERP")), "unknown_symbol"),
            (line(rest(9, *BOOK)), "snapshot_out_of_date"),
            (line(trade(1))[:-1], "truncated_line"),
        ],
    )
    def test_a_bad_line_is_left_out(self, tmp_path: Path, bad, kind):
        """It is told with its line by both readers, and no event links to it."""
        path = capture(tmp_path / "c.gz", [bad, line(depth("coinm", (10, 20), *BOOK))])
        findings = Findings()
        assert [] == list(read_snapshots([path], "coinm", "BTCUSD_PERP", findings))
        (batch,), told_with_deltas = deltas_of(path, "coinm")
        assert [(kind, "c.gz", 1)] == told(findings) == told_with_deltas
        assert [0] == batch.gap_rows.tolist()


class TestTrades:
    def test_values(self, tmp_path: Path):
        """The time is that of the match; the taker bought unless the buyer was the maker."""
        lines = [line(trade(1), 3), line(trade(2, m=False, p="101"), 4, stream="btcusdt@trade")]
        findings = Findings()
        (trades,) = read_trades([capture(tmp_path / "c.gz", lines)], "BTCUSDT", findings)
        assert [1, 2] == (trades.ts_origin_ns // 10**6 - BEGIN_MS).tolist()
        assert [3, 4] == (trades.ts_receipt_ns // 10**6 - BEGIN_MS).tolist()
        assert ([100.5, 101.0], [0.25, 0.25]) == (trades.price.tolist(), trades.quantity.tolist())
        assert ([False, True], []) == (trades.is_buy.tolist(), findings.located)

    def test_ids_rise_by_one(self, tmp_path: Path):
        """A missing trade is told; one that came before is told and left out."""
        lines = [line(trade(number, q=str(number))) for number in (5, 6, 6, 8, 7, 9)]
        findings = Findings()
        (trades,) = read_trades([capture(tmp_path / "c.gz", lines)], "BTCUSDT", findings)
        assert [5, 6, 8, 9] == trades.quantity.tolist()
        assert [
            ("duplicate", "c.gz", 3),
            ("gap", "c.gz", 4),
            ("out_of_order", "c.gz", 5),
        ] == told(findings)

    @pytest.mark.parametrize("spaced", [False, True])
    def test_marks(self, tmp_path: Path, spaced):
        """The venue's word says whether a trade is of the market; an unknown one says nothing."""
        words = ["MARKET", "INSURANCE_FUND", "ADL", "NA", "MARKETS", "AD", None]
        lines = [line(trade(number, X=word)) for number, word in enumerate(words, 1)]
        if spaced:  # which the kernel leaves alone
            lines = [each.replace(b'":', b'": ') for each in lines]
        findings = Findings()
        (trades,) = read_trades([capture(tmp_path / "c.gz", lines)], "BTCUSDT", findings)
        assert [MARKET, *[OUTSIDE_MARKET] * 3, *[UNMARKED] * 3] == trades.mark.tolist()
        assert np.int8 == trades.mark.dtype
        assert [] == findings.located

    def test_without_marks(self, tmp_path: Path):
        """Spot marks no trade."""
        (trades,) = read_trades(
            [capture(tmp_path / "c.gz", [line(trade(1))])], "BTCUSDT", Findings()
        )
        assert trades.mark is None

    def test_nothing_traded(self, tmp_path: Path):
        """A number that the venue gave to no trade is told, and is no gap."""
        lines = [line(trade(1)), line(trade(2, p="0", q="0", X="NA")), line(trade(3))]
        findings = Findings()
        (trades,) = read_trades([capture(tmp_path / "c.gz", lines)], "BTCUSDT", findings)
        assert [1, 3] == trades.id.tolist()
        assert [("nothing_traded", "c.gz", 2)] == told(findings)

    @pytest.mark.parametrize(
        "changed",
        [
            *({"p": "0"}, {"q": "0"}, {"T": 5}, {"m": "perhaps"}, {"p": "0", "q": "0"}),
            *({"p": "0", "q": "0", "X": "MARKET"}, {"p": "0", "X": "NA"}),
        ],
    )
    def test_what_is_no_trade_is_told(self, tmp_path: Path, changed):
        """A price or quantity of 0, a time that is none or an unknown side is left out."""
        findings = Findings()
        path = capture(tmp_path / "c.gz", [line(trade(1, **changed))])
        assert [] == list(read_trades([path], "BTCUSDT", findings))
        assert [("undecodable", "c.gz", 1)] == told(findings)

    def test_none(self):
        """No file, no trades."""
        assert [] == list(read_trades([], "BTCUSDT", Findings()))

    def test_batches(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """They come a bounded number at a time, whichever files they are in."""
        monkeypatch.setattr(trades, "BATCH_ROWS", 2)
        files = [
            capture(tmp_path / name, [line(trade(n)) for n in numbers])
            for name, numbers in (("a.gz", (1, 2, 3)), ("b.gz", (4, 5)))
        ]
        batches = list(read_trades(files, "BTCUSDT", Findings()))
        assert [[1, 2], [3, 4], [5]] == [batch.id.tolist() for batch in batches]


class TestAggTrades:
    def test_values_beside_the_prints(self, tmp_path: Path):
        """Each is the sum of the prints that it names, which stand in the same file."""
        aggregated = {"e": "aggTrade", "E": BEGIN_MS, "T": BEGIN_MS, "s": "BTCUSDT", "p": "100.5"}
        lines = [
            line(trade(1), 1),
            line(trade(2, q="0.5"), 2, stream="btcusdt@trade"),
            line(aggregated | {"a": 8, "f": 1, "l": 2, "q": "0.75", "m": True}, 3),
            line(trade(3, m=False), 4),
            line(aggregated | {"a": 9, "f": 3, "l": 3, "q": "0.25", "m": False}, 5, stream="x"),
        ]
        path, findings = capture(tmp_path / "c.gz", lines), Findings()
        (found,) = read_agg_trades([path], "BTCUSDT", findings)
        (prints,) = read_trades([path], "BTCUSDT", findings)

        assert ([8, 9], [1, 3], [2, 3]) == tuple(
            each.tolist() for each in (found.id, found.first_id, found.last_id)
        )
        assert ([False, True], [3, 5]) == (
            found.is_buy.tolist(),
            (found.ts_receipt_ns // 10**6 - BEGIN_MS).tolist(),
        )
        sums = np.add.reduceat(prints.quantity, np.searchsorted(prints.id, found.first_id))
        assert sums.tolist() == found.quantity.tolist()
        assert [] == findings.located

    def test_ids_rise_by_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """A missing one is told, one that came before left out; batches are bounded."""
        monkeypatch.setattr(agg_trades, "BATCH_ROWS", 2)
        frame = trade(0, e="aggTrade", f=1, l=1)
        lines = [line(frame | {"a": number}) for number in (5, 6, 6, 8, 7, 9)]
        lines += [line(frame | {"a": 10, "q": "0"}), line(frame | {"a": 10, "T": 5})]
        findings = Findings()
        batches = list(read_agg_trades([capture(tmp_path / "c.gz", lines)], "BTCUSDT", findings))

        assert [[5, 6], [8, 9]] == [batch.id.tolist() for batch in batches]
        kinds = ("duplicate", "gap", "out_of_order", "undecodable", "undecodable")
        assert list(zip(kinds, ["c.gz"] * 5, (3, 4, 5, 7, 8), strict=True)) == told(findings)


class TestBookTicker:
    @pytest.mark.parametrize("stream", [None, "btcusdt@bookTicker"])
    @pytest.mark.parametrize(
        ("more", "origin"), [({}, 0), ({"e": "bookTicker", "E": BEGIN_MS}, BEGIN_MS * 10**6)]
    )
    def test_values(self, tmp_path: Path, stream, more, origin):
        """Spot names neither event nor time; futures name both."""
        frame = more | {"u": 7, "s": "BTCUSDT", "b": "1.5", "B": "2", "a": "1.6", "A": "0"}
        noise = [line(depth("spot", (1, 2), *BOOK)), line(trade(1)), line(rest(5, *BOOK))]
        findings = Findings()
        path = capture(tmp_path / "c.gz", [*noise, line(frame, 4, stream=stream)])
        (batch,) = read_book_ticker([path], "BTCUSDT", findings)
        assert ([origin], [7]) == (batch.ts_origin_ns.tolist(), batch.update_id.tolist())
        assert [4] == (batch.ts_receipt_ns // 10**6 - BEGIN_MS).tolist()
        touch = (batch.bid_price, batch.bid_size, batch.ask_price, batch.ask_size)
        assert [1.5, 2.0, 1.6, 0.0] == [float(each[0]) for each in touch]
        assert [] == findings.located

    def test_batches_are_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """No batch has more rows than the bound."""
        monkeypatch.setattr(book_ticker, "BATCH_ROWS", 2)
        frame = {"s": "BTCUSDT", "b": "1.5", "B": "2", "a": "1.6", "A": "1"}
        path = capture(tmp_path / "c.gz", [line(frame | {"u": number}) for number in range(5)])
        batches = list(read_book_ticker([path], "BTCUSDT", Findings()))
        assert [[0, 1], [2, 3], [4]] == [batch.update_id.tolist() for batch in batches]
        assert [0, 1, 2, 3, 4] == column(batches, "update_id")

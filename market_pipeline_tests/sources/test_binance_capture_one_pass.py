"""One pass gives what a pass for each table gives, and the kernel what plain decoding gives."""

from __future__ import annotations

import gzip
import tempfile
from dataclasses import fields
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.errors import LakeFileError
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch, Trades
from market_pipeline.sources.binance_capture import (
    Findings,
    TableFindings,
    find_losses,
    lines,
    parsed,
    read_deltas,
    read_snapshots,
    read_tables,
    read_trades,
)
from market_pipeline.sources.binance_capture.frame_kernel import (
    DEPTH,
    KIND,
    LEFT,
    OTHER,
    RECEIPT_NS,
    TRADE,
)
from market_pipeline.sources.binance_capture.parsed import Parser
from market_pipeline_tests.naive.capture_lines import naive_frame, naive_parse_lines
from market_pipeline_tests.sources.capture_files import (
    BEGIN_MS,
    SYMBOL,
    capture,
    depth,
    line,
    rest,
    trade,
)

MARKETS = ("spot", "usdm", "coinm")
STAMP = BEGIN_MS * 10**6

PLAIN = ["0", "0.0", "0.10", "1", "61837.63000000", "0.00000001", "9007199254740992"]
PLAIN += ["0.3000000000000000", "123456789.12000000", "123456789012.00000000", f"1.{'0' * 40}"]
NOT_PLAIN = ["1.", ".5", "00.5", "-1", "1e3", "nan", "1_0", "1.5.0", "9007199254740993"]
NOT_PLAIN += ["123456789.12345678", "0.30000000000000004", f"{2**64 + 1}", f"{2**64 + 1}.0"]
NUMBERS = PLAIN + NOT_PLAIN
BREAKS = st.one_of(
    st.tuples(st.just("cut"), st.integers(0, 400), st.just(b"")),
    st.tuples(st.just("put"), st.integers(0, 400), st.binary(max_size=2)),
    st.tuples(
        st.just("put"),
        st.integers(0, 400),
        st.sampled_from([bytes([each]) for each in b'0123456789.,:"[]{} \\eE-+t\n\r']),
    ),
)
WORDS = ("depthUpdate", "trade", "lastUpdateId", "data", "stream", "b", "|", "pu", "e")
MARKS = [{}, *({"X": word} for word in ("MARKET", "ADL", "NA", "NAN", "RPI", "", None, 1, True))]
STREAMS = (None, "btcusdt@depth@100ms", "btcusdt@depth20@100ms", "trade", "a@depth5")


DECIMALS = st.one_of(
    st.sampled_from(["100.5", "0.25", "3"]),
    st.decimals(0, 10**9, places=8, allow_nan=False).map(lambda each: f"{each:f}"),
    st.sampled_from(NUMBERS),
)
LEVELS = st.lists(st.tuples(DECIMALS, DECIMALS), max_size=3)
KINDS = st.sampled_from(["depth", "trade", "rest", "touch", "aggTrade", "kline"])
MARK = st.sampled_from(MARKS)
IS_CHANGED = st.sampled_from([False, False, False, True])
CHANGED_TO = st.sampled_from([*WORDS, 0, -1, True, None, [], {}, 1.5, 10**18, 2**63, "1", BEGIN_MS])
STREAM = st.sampled_from(STREAMS)


@st.composite
def frames(draw, market: str) -> dict:
    """A frame of any kind, mostly as the venue would send it."""
    ids, kind = draw(st.integers(1, 40)), draw(KINDS)
    if kind == "depth":
        last = ids + draw(st.integers(0, 3))
        frame = depth(market, (ids, last), draw(LEVELS), draw(LEVELS))
    elif kind == "trade":
        frame = trade(ids, s=SYMBOL[market], p=draw(DECIMALS), q=draw(DECIMALS), **draw(MARK))
    elif kind == "rest":
        frame = rest(ids, [("100", "1")], draw(LEVELS))
    elif kind == "touch":
        frame = {"u": 7, "s": SYMBOL[market], "b": "1.5", "B": "2", "a": "1.6", "A": "0"}
    elif kind == "aggTrade":
        frame = {"e": "aggTrade", "E": BEGIN_MS, "p": "1", "nq": None, "m": False}
    else:
        frame = {"e": "kline", "k": {"t": 1, "trade": [1.5, -2]}}
    if draw(IS_CHANGED):
        names = st.sampled_from([*frame, *WORDS])
        frame |= dict(draw(st.lists(st.tuples(names, CHANGED_TO), max_size=2)))
    if draw(st.integers(0, 9)) == 0:
        frame = dict(draw(st.permutations(list(frame.items()))))
    return frame


@st.composite
def capture_lines(draw, market: str) -> bytes:
    """A line with a frame, one time in four spoilt."""
    written = line(draw(frames(market)), stream=draw(STREAM))
    if draw(st.integers(0, 3)) == 0:
        kind, at, put = draw(BREAKS)
        at = min(at, len(written))
        written = written[:at] if kind == "cut" else written[:at] + put + written[at:]
    return written


def new_findings() -> TableFindings:
    return TableFindings(Findings(), Findings(), Findings())


def values(batch: object) -> dict:
    """All of a batch, for comparison."""
    each = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: np.asarray(value).tolist() for name, value in each.items()}


def rows_of(batches: list, kind: type) -> list[dict]:
    return [values(batch) for batch in batches if isinstance(batch, kind)]


def found(findings: Findings) -> tuple:
    return findings.located, dict(findings.counts)


class TestOnePass:
    @settings(max_examples=60)
    @given(data=st.data(), market=st.sampled_from(MARKETS), block=st.sampled_from([50, 1 << 20]))
    def test_equals_three_passes_that_decode_plainly(self, data, market, block):
        """The same batches and findings, whatever is spoilt and wherever files and blocks end.

        But for the first message, which the one pass never counts as one after a loss.
        """
        each = data.draw(st.lists(capture_lines(market), max_size=25))
        cut = data.draw(st.integers(0, len(each)))
        symbol, one, three = SYMBOL[market], new_findings(), new_findings()
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(lines, "_BLOCK_BYTES", block)
            files = [
                capture(Path(folder) / name, part)
                for name, part in (("a.gz", each[:cut]), ("b.gz", each[cut:]))
            ]
            batches = list(read_tables(files, market, symbol, one))
            patch.setattr(parsed, "parse_lines", naive_parse_lines)
            deltas = list(read_deltas(files, market, symbol, three.deltas))
            snapshots = list(read_snapshots(files, market, symbol, three.snapshots))
            trades = list(read_trades(files, symbol, three.trades))
        expected = rows_of(deltas, DeltaBatch)
        if expected and expected[0]["gap_rows"][:1] == [0]:
            del expected[0]["gap_rows"][0]
        assert expected == rows_of(batches, DeltaBatch)
        assert rows_of(snapshots, SnapshotBatch) == rows_of(batches, SnapshotBatch)
        assert rows_of(trades, Trades) == rows_of(batches, Trades)
        assert [*map(found, three)] == [*map(found, one)]

    @settings(max_examples=30)
    @given(data=st.data(), market=st.sampled_from(MARKETS))
    def test_losses_alone_are_those_of_the_rows(self, data, market):
        """`find_losses` finds what `read_deltas` finds."""
        each = data.draw(st.lists(capture_lines(market), max_size=25))
        alone, with_rows = Findings(), Findings()
        with tempfile.TemporaryDirectory() as folder:
            files = [capture(Path(folder) / "c.gz", each)]
            find_losses(files, market, SYMBOL[market], alone)
            list(read_deltas(files, market, SYMBOL[market], with_rows))
        assert found(with_rows) == found(alone)

    @pytest.mark.parametrize(("ids", "passes"), [((20, 30), 1), ((25, 30), 2)])
    def test_a_file_is_read_once_unless_something_is_lost(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids, passes
    ):
        """Where nothing is, its beginning alone is looked at before."""
        levels = [("100", "1")]
        noise = [b"%d {}" % STAMP] * 200_000
        each = [line(depth("usdm", (10, 20), levels)), *noise, line(depth("usdm", ids, levels))]
        files = [capture(tmp_path / "c.gz", each)]
        inflated, blocks = lines._inflated, []
        monkeypatch.setattr(
            lines, "_inflated", lambda file: (blocks.append(1) or block for block in inflated(file))
        )
        list(inflated(files[0]))
        count = len(list(inflated(files[0])))
        list(read_tables(files, "usdm", "BTCUSDT", new_findings()))
        assert count * passes + 1 == len(blocks)

    def test_a_line_that_does_not_end_is_refused(self, tmp_path: Path):
        """Before it is in memory as a whole, and with its number."""
        path = tmp_path / "c.gz"
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(b"%d {}\n" % STAMP)
            for _ in range(40):
                file.write(b"[" * (1 << 20))
        with pytest.raises(LakeFileError, match="Line 2 of the capture does not end"):
            list(read_tables([path], "spot", "BTCUSDT", new_findings()))


def parsed_line(market: str, text: bytes) -> parsed.Lines:
    return Parser(market, SYMBOL[market]).parse(Path("c.gz"), 1, 1, text + b"\n")


class TestKernel:
    @settings(max_examples=400)
    @given(data=st.data(), market=st.sampled_from(MARKETS))
    def test_what_it_takes_is_what_json_and_decimal_say(self, data, market):
        """Kind, times, ids and the float nearest to each number; a line it cannot is left alone."""
        text = data.draw(capture_lines(market)).replace(b"\n", b"")
        block = parsed_line(market, text)
        if block.columns[0, KIND] == LEFT:
            assert [0] == block.left()
            return
        kind, integers, numbers = naive_frame(market, SYMBOL[market], text)
        pairs = {"trade": block.trades}.get(kind, np.column_stack([block.price, block.size]))
        assert {"depth": DEPTH, "trade": TRADE, "other": OTHER}[kind] == block.columns[0, KIND]
        assert integers == block.columns[0, RECEIPT_NS:].tolist()[: len(integers)]
        assert [[float(each) for each in pair] for pair in numbers] == pairs.tolist()

    @pytest.mark.parametrize("market", MARKETS)
    def test_it_takes_what_the_venue_sends(self, market):
        """Depth events, trades and best bids, bare and in the envelope; snapshots it leaves."""
        levels = [("61837.63000000", "0.00000000"), ("0.1", "123456789012.00000000")]
        sent = [
            depth(market, (1, 2), levels, levels),
            trade(1, s=SYMBOL[market]),
            {"u": 7, "s": SYMBOL[market], "b": "1.5", "B": "2", "a": "1.6", "A": "0"},
            rest(5, levels, levels),
        ]
        for stream in (None, "btcusdt@depth@100ms"):
            kinds = [
                int(parsed_line(market, line(frame, stream=stream)).columns[0, KIND])
                for frame in sent
            ]
            assert [DEPTH, TRADE, OTHER, LEFT] == kinds

    @pytest.mark.parametrize("number", NUMBERS)
    def test_numbers(self, number):
        """A plain number becomes the float64 nearest to it; the line of any other is left alone."""
        block = parsed_line("spot", line(depth("spot", (1, 2), [("1", number)])))
        nearest = [] if number in NOT_PLAIN else [float(Decimal(number))]
        assert nearest == block.size.tolist()
        assert (LEFT if number in NOT_PLAIN else DEPTH) == block.columns[0, KIND]

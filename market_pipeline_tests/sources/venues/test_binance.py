"""Binance's frames, in the form that the venue documents, and those of the sample captures."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.errors import DomainError
from market_pipeline.sources.binance_capture.lines import Findings, read_lines
from market_pipeline.sources.venues import VENUES
from market_pipeline.sources.venues.continuity import ContinuityChecker, Step
from market_pipeline.sources.venues.reading import FrameReader, time_ns
from market_pipeline.sources.venues.records import BookLevels, Funding, Kline, Quote, Trade
from market_pipeline.sources.venues.venue import Classified, Kind
from market_pipeline_tests.sources.capture_sample import SETS, CaptureSet

SPOT, USDM = FrameReader(VENUES["binance_spot"]), FrameReader(VENUES["binance_usdm"])


def frame(stream: str, **data: object) -> bytes:
    return json.dumps({"stream": stream, "data": data}).encode()


DEPTH = frame(
    "btcusdt@depth@0ms",
    e="depthUpdate",
    E=1723161256299,
    T=1723161256298,
    s="BTCUSDT",
    U=11,
    u=15,
    pu=9,
    b=[["58710.20", "0.014"]],
    a=[["61800.30", "0"]],
)


class TestClassify:
    def test_depth(self):
        """A depth event has its ids, its time and its stream's name."""
        assert SPOT.classify(DEPTH) == USDM.classify(DEPTH)
        assert USDM.classify(DEPTH) == Classified(
            Kind.DEPTH, "depth:BTCUSDT", "BTCUSDT", 11, 15, 9, 1723161256299000000
        )

    def test_the_top_of_the_book_is_no_depth_event(self):
        """`@depth20` shares the name's beginning and nothing else."""
        partial = frame("btcusdt@depth20@100ms", s="BTCUSDT", bids=[], asks=[])
        assert Classified(Kind.CONTROL) == SPOT.classify(partial)

    def test_a_rest_snapshot(self):
        """The answer of the REST endpoint is known by its id."""
        answer = b'{"lastUpdateId":7,"bids":[["1.0","2.0"]],"asks":[]}'
        found = SPOT.classify(answer)
        assert (Kind.SNAPSHOT, 7, True) == (found.kind, found.last_id, found.is_snapshot)
        assert BookLevels([("1.0", "2.0")], []) == SPOT.levels(answer, Kind.SNAPSHOT)

    @given(st.binary(max_size=300) | st.binary(max_size=20).map(lambda more: DEPTH[:90] + more))
    def test_nothing_is_raised(self, noise):
        """Whatever a frame holds, it is classified."""
        assert isinstance(SPOT.classify(noise), Classified)


class TestRecords:
    def test_levels_as_written(self):
        """Levels keep the venue's text."""
        assert BookLevels([("58710.20", "0.014")], [("61800.30", "0")]) == USDM.levels(DEPTH)

    def test_trade(self):
        """The taker bought if the buyer was not the maker; a mark says what is of the market."""
        text = frame(
            "btcusdt@trade", e="trade", E=1723161256322, T=1723161256321, s="BTCUSDT", t=5,
            p="61800.30", q="0.006", X="INSURANCE_FUND", m=True,
        )  # fmt: skip
        expected = Trade(1723161256321000000, 61800.30, 0.006, False, 5, False)
        assert [expected] == USDM.records(text, Kind.TRADES)

    def test_quote_of_spot_has_no_time(self):
        """Spot's best quotes name neither their kind nor a time."""
        text = frame("btcusdt@bookTicker", u=3, s="BTCUSDT", b="1.5", B="2", a="1.6", A="4")
        assert Kind.QUOTES is SPOT.classify(text).kind
        assert [Quote(1.5, 2.0, 1.6, 4.0, 3)] == SPOT.records(text, Kind.QUOTES)

    def test_kline(self):
        """A kline has its bar's start and whether it is closed."""
        bar = {"t": 1723161240000, "o": "1", "h": "4", "l": "0.5", "c": "2", "v": "9", "n": 3}
        bar |= {"x": True, "V": "5", "f": 20, "L": 22}
        text = frame("btcusdt@kline_1m", e="kline", E=1723161300001, s="BTCUSDT", k=bar)
        expected = Kline(1723161240000000000, 1, 4, 0.5, 2, 9, True, 3, 5, 20, 22)
        assert [expected] == SPOT.records(text, Kind.KLINES)

    def test_funding(self):
        """The mark price comes with the rate and the time of the next funding."""
        text = frame(
            "btcusdt@markPrice@1s", e="markPriceUpdate", E=1723161256000, s="BTCUSDT",
            p="61800.1", i="61801.2", r="-0.0001", T=1723190400000,
        )  # fmt: skip
        expected = Funding(
            1723161256000000000, 61800.1, 61801.2, -0.0001, 1723190400000000000, None
        )
        assert [expected] == USDM.records(text, Kind.FUNDING)

    @pytest.mark.parametrize("price", ["-1", "nan", "x", None])
    def test_a_value_outside_its_domain(self, price):
        """A quote of no possible price is refused, with the frame in the message."""
        text = frame("btcusdt@bookTicker", u=3, s="BTCUSDT", b=price, B="2", a="1.6", A="4")
        with pytest.raises(DomainError, match="bookTicker"):
            SPOT.records(text, Kind.QUOTES)


class TestAddresses:
    def test_streams_in_the_address(self):
        """Binance's streams are named in the address; nothing is sent."""
        venue = VENUES["binance_spot"]
        kinds = (Kind.DEPTH, Kind.TRADES)
        expected = "wss://x/stream?streams=btcusdt@depth@100ms/btcusdt@trade"
        assert expected == venue.address("wss://x", kinds, ["BTCUSDT"])
        assert [] == venue.subscribe(kinds, ["BTCUSDT"])

    def test_routes_take_connections_of_their_own(self):
        """Depth and trades of USD-M are on two routes."""
        venue = VENUES["binance_usdm"]
        assert venue.address("wss://x", [Kind.DEPTH], ["A"]).startswith("wss://x/public/stream?")
        with pytest.raises(ValueError, match="2 connections"):
            venue.address("wss://x", [Kind.DEPTH, Kind.TRADES], ["A"])


@pytest.mark.parametrize("each", SETS, ids=lambda each: each.name)
def test_real_frames_prove_that_none_is_missing(each: CaptureSet, sample_data: Path):
    """Every depth event and print of the sample captures follows the one before, across files."""
    venue = VENUES[f"binance_{each.market}"]
    reader, checker = FrameReader(venue), ContinuityChecker(venue)
    steps: Counter[tuple[Kind, Step]] = Counter()
    for file in each.files(sample_data):
        for _, _, text in read_lines(file, Findings()):
            found = reader.classify(text)
            steps[found.kind, checker.check("a", found).step] += 1
    assert set(steps) == {
        (Kind.DEPTH, Step.BEGINS),
        (Kind.DEPTH, Step.FOLLOWS),
        (Kind.TRADES, Step.BEGINS),
        (Kind.TRADES, Step.FOLLOWS),
        (Kind.QUOTES, Step.UNPROVEN),
        (Kind.SNAPSHOT, Step.UNPROVEN),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (1723161256299, 1723161256299000000),
        ("1723161256299", 1723161256299000000),
        (1723161256299001, 1723161256299001000),
        ("1582905486.493008", 1582905486493008000),
        ("2023-02-09T20:32:50.714964855Z", 1675974770714964855),
        ("2026-04-07 14:30:10.5+00:00", 1775572210500000000),
        ("2026-04-07T14:30:10Z", 1775572210000000000),
        (5, None),
        ("soon", None),
        (None, None),
    ],
)
def test_times(text, expected):
    """Every form of a time that a venue of ours writes, to the nanosecond; null is none of them."""
    assert expected == time_ns(text)

"""Our bars of a minute held against the venue's klines, live and of a published day."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from typer.testing import CliRunner

from market_pipeline.books.scale import Scale
from market_pipeline.capture.bars import Bar, BarOperator
from market_pipeline.capture.klines import (
    KlineComparison,
    day_differences,
    kline_differences,
    recorded_klines,
)
from market_pipeline.capture.operators import Bars
from market_pipeline.capture.pipeline import Event
from market_pipeline.cli.app import app
from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.tables import BARS
from market_pipeline.notebook.metric_loaders import load_bars
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.recording import CONVERTER, RecordingOf, RecordingWriter, RecordKind
from market_pipeline.sources.recording.reader import read_footer
from market_pipeline.sources.venues import VENUES
from market_pipeline.sources.venues.reading import FrameReader
from market_pipeline.sources.venues.records import Kline
from market_pipeline.sources.venues.venue import Kind
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.runs import StagedRuns
from market_pipeline_tests.capture.recorded import record_market
from market_pipeline_tests.capture.scenario import lived
from market_pipeline_tests.capture.test_bars import DAY, LOT, START_NS, TICK, a_print, minute_bars
from market_pipeline_tests.exchange.market import START_MS, Market
from market_pipeline_tests.exchange.server import Faults

MINUTE_NS = 60_000_000_000
_PRICES = ("open", "high", "low", "close")
KLINE = Kline(START_NS, 1.0, 2.0, 1.0, 2.0, 2.0, True, 2, 2.0)


def a_bar() -> Bar:
    operator = BarOperator("X", TICK, LOT)
    operator.take([a_print(1), a_print(2, 2.0)])
    return operator.finish()[0]


def test_what_differs_is_named():
    """The venue's bar of the same prints equals ours; a missing print is in count and volume."""
    columns = msgspec.structs.asdict(a_bar())
    more = msgspec.structs.replace(KLINE, volume=3.0, trade_count=3)
    assert [] == kline_differences(columns, KLINE)
    assert ["volume: 2.0, 3.0", "trade_count: 2, 3"] == kline_differences(columns, more)


class TestComparison:
    def test_whichever_comes_first(self):
        """A kline waits for its bar and a bar for its kline; one that is not closed is none."""
        reports = []
        klines = KlineComparison("X", lambda level, text: reports.append(text))
        klines.take_kline(KLINE)
        klines.compare(START_NS, START_NS + MINUTE_NS - 1)
        assert (0, 0) == (klines.equal, klines.different)
        klines.take_bars([a_bar()])
        klines.compare(START_NS, START_NS + MINUTE_NS)
        later = {"start_ns": START_NS + MINUTE_NS}
        klines.take_bars([msgspec.structs.replace(a_bar(), **later)])
        klines.take_kline(msgspec.structs.replace(KLINE, **later, is_closed=False, volume=9.0))
        klines.take_kline(msgspec.structs.replace(KLINE, **later, high=3.0))
        klines.compare(START_NS, START_NS + 2 * MINUTE_NS)
        assert (1, 1) == (klines.equal, klines.different)
        assert ["klines:X: the bar of 00:01 UTC is not the venue's: high: 2.0, 3.0"] == reports

    def test_minutes_without_a_bar(self):
        """A minute without a print agrees with an empty kline; one that was begun is left out."""
        klines = KlineComparison("X", lambda level, text: None)
        empty = msgspec.structs.replace(KLINE, volume=0.0, buy_volume=0.0, trade_count=0)
        for minute, (kline, begun_ns) in enumerate(((empty, 0), (KLINE, 0), (KLINE, 1))):
            start_ns = START_NS + minute * MINUTE_NS
            klines.take_kline(msgspec.structs.replace(kline, start_ns=start_ns))
            klines.compare(start_ns + begun_ns, start_ns + MINUTE_NS)
        assert (1, 1) == (klines.equal, klines.different)

    @pytest.mark.parametrize("is_closed", [True, None], ids=["closed", "unsaid"])
    def test_klines_that_come_again(self, is_closed):
        """A further connection sends those of past minutes again: they were compared already."""
        klines = KlineComparison("X", lambda level, text: None)
        sent = [
            msgspec.structs.replace(
                KLINE, start_ns=START_NS + minute * MINUTE_NS, is_closed=is_closed
            )
            for minute in range(3)
        ]
        klines.take_bars(
            msgspec.structs.replace(a_bar(), start_ns=each.start_ns) for each in sent[:2]
        )
        for _ in range(2):
            for each in sent:
                klines.take_kline(each)
            klines.compare(START_NS, START_NS + 2 * MINUTE_NS)
        assert (2, 0) == (klines.equal, klines.different)


def is_closed(at_ms):
    """Whether a kline is the last of its minute, but for that of the last minute."""
    return at_ms % 60_000 == 30_000 and at_ms < START_MS + 240_000


def binance_frames(at_ms, number, prices, volume):
    head = {"E": at_ms, "s": "X"}
    trade = {"e": "trade", **head, "t": number, "p": prices[3], "q": "1", "T": at_ms, "m": False}
    begin_ms = at_ms // 60_000 * 60_000
    kline = {
        "t": begin_ms,
        **dict(zip("ohlc", prices, strict=True)),
        "v": volume,
        "V": volume,
        "n": int(volume),
    }
    kline["x"] = is_closed(at_ms)
    frames = (("trade", {**trade, "X": "MARKET"}), ("kline_1m", {"e": "kline", **head, "k": kline}))
    return [{"stream": f"x@{name}", "data": data} for name, data in frames]


def bybit_frames(at_ms, number, prices, volume):
    begin_ms = at_ms // 60_000 * 60_000
    trade = {"T": at_ms, "s": "X", "S": "Buy", "v": "1", "p": prices[3]}
    kline = {"start": begin_ms, **dict(zip(_PRICES, prices, strict=True)), "volume": volume}
    kline["confirm"] = is_closed(at_ms)
    frames = (("publicTrade.X", trade), ("kline.1.X", kline))
    return [{"topic": t, "type": "snapshot", "ts": at_ms, "data": [data]} for t, data in frames]


def kraken_frames(at_ms, number, prices, volume):
    at, begin = (
        f"{datetime.fromtimestamp(ms / 1e3, UTC):%Y-%m-%dT%H:%M:%S}.000000Z"
        for ms in (at_ms, at_ms // 60_000 * 60_000)
    )
    trade = {"symbol": "X", "side": "buy", "price": float(prices[3]), "qty": 1, "trade_id": number}
    kline = {"symbol": "X", **dict(zip(_PRICES, map(float, prices), strict=True))}
    kline |= {"volume": int(volume), "trades": int(volume), "interval_begin": begin}
    return [
        {"channel": channel, "type": "update", "data": [{**data, "timestamp": at}]}
        for channel, data in (("trade", trade), ("ohlc", kline))
    ]


def hyperliquid_frames(at_ms, number, prices, volume):
    trade = {"coin": "X", "side": "B", "px": prices[3], "sz": "1", "time": at_ms, "tid": number}
    kline = {
        "t": at_ms // 60_000 * 60_000,
        "s": "X",
        **dict(zip("ohlc", prices, strict=True)),
        "v": volume,
    }
    kline["n"] = int(volume)
    return [{"channel": "trades", "data": [trade]}, {"channel": "candle", "data": kline}]


FRAMES = {
    **dict.fromkeys(("binance_spot", "binance_usdm", "binance_coinm"), binance_frames),
    **dict.fromkeys(("bybit_spot", "bybit_linear"), bybit_frames),
    **{"kraken": kraken_frames, "hyperliquid": hyperliquid_frames},
}


def test_every_venue_with_klines_is_tested():
    """A further one needs its frames above."""
    having = {
        name
        for name, venue in VENUES.items()
        if any(channel.kind is Kind.KLINES for channel in venue.channels)
    }
    assert having == {*FRAMES}


@pytest.mark.parametrize("venue", FRAMES)
def test_klines_of_each_venue(venue):
    """In the form of the venue, which may not say when a kline is closed: two of whole minutes are
    our bars, one of another high is not, and the first and the open one are not compared.
    """
    reader, reports = FrameReader(VENUES[venue]), []
    klines = KlineComparison("X", lambda level, text: reports.append(text))
    bars = Bars("X", reader, lambda of: BarOperator("X", *of), lambda: (TICK, LOT), klines)
    for number in range(10):
        minute, is_second = divmod(number, 2)
        close, high = ("2", "9" if minute == 3 else "2") if is_second else ("1", "1")
        at_ms = START_MS + 60_000 * minute + (30_000 if is_second else 1_000)
        for each in FRAMES[venue](at_ms, number, ("1", high, "1", close), f"{1 + is_second}"):
            frame = json.dumps(each).encode()
            bars.take([Event(frame, reader.classify(frame), at_ms * 1_000_000)])
    assert (2, 1) == (klines.equal, klines.different)
    assert ["klines:X: the bar of 00:03 UTC is not the venue's: high: 2.0, 9.0"] == reports


def test_recorded_klines_without_a_flag(tmp_path):
    """Of a venue that does not say when a kline is closed each minute has its last one, and the
    newest minute of a recording none.
    """
    writer = RecordingWriter(tmp_path, RecordingOf("KRAKEN", "X", "host", "run"))
    for at_ms in (START_MS + 1_000, START_MS + 30_000, START_MS + 61_000):
        _, kline = kraken_frames(at_ms, 0, ("1", "2", "1", "2"), f"{at_ms % 60_000}")
        frame, wall_ns = json.dumps(kline).encode(), at_ms * 1_000_000
        writer.append(RecordKind.FRAME, wall_ns, wall_ns, 1, "klines:X", frame)
    found = recorded_klines([writer.close().path], "KRAKEN", pytest.fail)
    assert {START_NS: 30_000.0} == {start_ns: each.volume for start_ns, each in found.items()}


def test_a_recording_without_klines_is_not_read(tmp_path):
    """Its footer says that it has none, so damage in it does not even show."""
    writer = RecordingWriter(tmp_path, RecordingOf("KRAKEN", "X", "host", "run"))
    writer.append(RecordKind.FRAME, 1, 1, 1, "trades:X", b"{}" * 1_000)
    path = writer.close().path
    begin = read_footer(path).index[0].offset
    damaged = bytearray(path.read_bytes())
    damaged[begin + 40] ^= 1
    path.write_bytes(damaged)
    assert {} == recorded_klines([path], "KRAKEN", pytest.fail)


def minutes_of(sent: list[bytes]) -> tuple[Counter[int], dict[int, int]]:
    """By minute the prints that were sent, and those that its closed kline counts."""
    prints, klines = Counter(), {}
    for data in (json.loads(each)["data"] for each in sent):
        if data["e"] == "trade":
            prints[data["T"] // 60_000] += 1
        elif data["e"] == "kline" and data["k"]["x"]:
            klines[data["k"]["t"] // 60_000] = data["k"]["n"]
    return prints, klines


@pytest.mark.slow
def test_live_bars_are_the_venues(certificates):
    """Every closed kline is our bar where every print came, and none where one was lost."""
    options = {"streams": "depth,trades,klines", "steps": 600, "redundancy": 1}
    markets = [Market("BTCUSDT", step_ms=1_000)]
    outcome = lived(certificates, markets=markets, faults=Faults(loss=0.01), **options)
    prints, klines = minutes_of(outcome.exchange.clients[0].sent)
    # The first minute had begun, and of the last bars no later print was sent.
    whole = [minute for minute in klines if min(prints) < minute < max(prints)]
    equal = sum(prints[minute] == klines[minute] for minute in whole)
    status = outcome.recorder.status.streams["klines:BTCUSDT"]
    assert 0 < equal < len(whole)
    assert (equal, len(whole) - equal) == (status.klines_equal, status.klines_different)
    warned = [text for level, text in outcome.reports if "is not the venue's" in text]
    assert status.klines_different == len(warned)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The recording of some minutes, of which what was converted is published as bars."""
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "instruments.yaml").write_text(
        "instruments: [{venue: BINANCE, symbol: BTC-USDT, source: recording}]\n"
    )
    lake = tmp_path / "data" / "lake"
    record_market(lake, 60)
    instrument = Instrument(venue="BINANCE", symbol="BTC-USDT", source=CONVERTER.name)
    files = CONVERTER.find(lake, instrument, DAY)
    with RawWriter(tmp_path / "raw", "test") as raw:
        CONVERTER.convert(files, raw, instrument, DAY)
    shards = sorted((tmp_path / "raw").glob("trades/*.parquet"))
    scales = Scale.of(Decimal("0.01")), Scale.of(Decimal("0.001"))
    bars = minute_bars(read_trades(shards, with_ids=True), DAY, *scales)
    warehouse = Warehouse(tmp_path / "data")
    warehouse.prepare()
    with StagedRuns(warehouse, BARS, instrument.id, {"tick": "0.01", "lot": "0.001"}) as staged:
        staged.write(bars)
    publish(warehouse, BARS, DAY, [staged.staged])
    return files


def compared(*arguments: str) -> tuple[int, dict]:
    done = CliRunner().invoke(app, ["recording", "klines", "--json", *arguments])
    return done.exit_code, json.loads(done.stdout)[0]


@pytest.mark.slow
def test_published_bars_are_the_venues(published):
    """Bars of a converted day equal the klines of its recording; a changed one is named."""
    code, found = compared()
    assert (0, 7, 7) == (code, found["klines"], found["equal"])
    bars = load_bars("BINANCE:BTC-USDT", DAY).lazy()
    agreeing = {START_NS + minute * MINUTE_NS: [] for minute in range(7)}
    assert agreeing == day_differences(published, "BINANCE", bars, DAY)
    assert {} == day_differences(published, "BINANCE", bars, DAY + timedelta(days=1))
    (file,) = published
    folder = file.parent.parent / "2024-08-09"
    later = RecordingWriter(folder.parents[2], RecordingOf("BINANCE", "BTCUSDT", "host", "later"))
    other, none = (
        json.dumps(
            {"stream": "btcusdt@kline_1m", "data": {"e": "kline", "s": "BTCUSDT", "k": kline}}
        ).encode()
        for kline in (
            {**dict.fromkeys("ohlc", "1.00"), "t": START_MS, "v": "1", "n": 1, "x": True},
            {**dict.fromkeys("ohlc", "1.00"), "t": START_MS + 86_400_000, "v": "0", "x": True},
        )
    )
    for at, frame in enumerate((other, none)):
        wall_ns = (START_MS + 86_400_000) * 1_000_000 + at
        later.append(RecordKind.FRAME, wall_ns, wall_ns, 1, "klines:BTCUSDT", frame)
    later.close()
    code, found = compared()
    assert (1, 8, 6, 1, 1) == (
        code,
        *(found[name] for name in ("klines", "equal", "different", "not_published")),
    )
    assert ["2024-08-08 00:00"] == list(found["differences"])

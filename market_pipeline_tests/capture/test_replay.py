"""A replay of recorded files: what was made live, and what the batch makes of the day."""

from __future__ import annotations

import asyncio
import json
import time
from decimal import Decimal

import msgspec
import polars as pl
import pytest
from typer.testing import CliRunner

from market_pipeline.books.scale import Scale
from market_pipeline.capture.derived import derived_part
from market_pipeline.capture.files import RecordingFiles
from market_pipeline.capture.replay import Replay, recorded, recorded_settings
from market_pipeline.capture.simulated import SIMULATED, simulated, simulated_settings
from market_pipeline.capture.sinks import JsonLines
from market_pipeline.cli.app import app
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.errors import VenueError
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.recording import CONVERTER, RecordingOf, RecordingWriter, RecordKind
from market_pipeline.sources.recording.format import Connect
from market_pipeline.sources.simulated.market import Market as SimulatedMarket
from market_pipeline.sources.simulated.plan import demo_plan
from market_pipeline_tests.capture.recorded import STEP_MS, record_market
from market_pipeline_tests.capture.scenario import lived
from market_pipeline_tests.capture.test_bars import COLUMNS, DAY, START_NS, minute_bars
from market_pipeline_tests.exchange.market import Market
from market_pipeline_tests.exchange.server import Faults


def replayed(folder, root, *, speed=None) -> Replay:
    """Replays what is recorded below `root` to JSON lines below `folder`."""
    files = sorted(root.rglob("*.recording"))
    chosen, venue = recorded_settings(settings_in(folder), files)
    return run(recorded(files), chosen, venue, speed=speed)


def settings_in(folder, **more) -> Settings:
    capture = {"sinks": "jsonl", "sink_folder": folder / "rows", **more}
    return Settings(data_dir=folder, capture=capture)


def run(records, settings, venue, *, speed=None) -> Replay:
    derived = derived_part(settings, venue, lambda level, text: None)
    source = Replay(
        *(records, settings.capture, venue), derived=derived, speed=speed,
        report=lambda level, text: None,
    )  # fmt: skip

    async def running() -> None:
        await source.run(asyncio.Event())

    asyncio.run(running())
    source.refresh(1.0, 0)
    return source


def rows(folder) -> dict[str, list[str]]:
    return {path.stem: path.read_text().splitlines() for path in folder.glob("*.jsonl")}


@pytest.mark.slow
def test_a_replay_makes_what_was_made_live(certificates, tmp_path):
    """Of two connections with losses every row of bars and quotes, and of metrics, comes again."""
    outcome = lived(
        certificates,
        markets=[Market("BTCUSDT", step_ms=1_000)],
        faults=Faults(loss=0.01),
        steps=300,
        sinks={"lines": JsonLines(tmp_path / "live")},
        streams="depth,trades,klines",
        **{"queue_batches": 10_000, "sink_policy": "block", "sink_rows_per_second": 1e9},
    )
    files = RecordingFiles(tmp_path / "recorded", "BINANCE", "host", "session")
    files.settle(outcome.entries)
    files.close()
    source = replayed(tmp_path, tmp_path / "recorded")
    live, again = rows(tmp_path / "live"), rows(tmp_path / "rows")
    assert [True] * 3 == [len(live[kind]) > 2 for kind in ("bars", "best_quotes")] + [live == again]
    was, now = outcome.recorder.status.streams, source.status.streams
    counts = ("frames", "messages", "duplicates", "filled", "gaps", "klines_equal")
    for name in ("depth:BTCUSDT", "trades:BTCUSDT", "klines:BTCUSDT"):
        assert [getattr(was[name], each) for each in counts] == [
            getattr(now[name], each) for each in counts
        ]
    assert ("live", 0) == (now["depth:BTCUSDT"].book, source.status.derived_dropped)


@pytest.mark.slow
def test_replayed_bars_are_the_batchs(tmp_path):
    """Bars of a replay equal those of the converted day in every column they share."""
    record_market(tmp_path, 60)
    replayed(tmp_path, tmp_path / CONVERTER.name)
    instrument = Instrument(venue="BINANCE", symbol="BTC-USDT", source=CONVERTER.name)
    with RawWriter(tmp_path / "raw", "test") as raw:
        CONVERTER.convert(CONVERTER.find(tmp_path, instrument, DAY), raw, instrument, DAY)
    shards = sorted((tmp_path / "raw").glob("trades/*.parquet"))
    scales = Scale.of(Decimal("0.01")), Scale.of(Decimal("0.001"))
    batch = minute_bars(read_trades(shards, with_ids=True), DAY, *scales).expanded()
    batch = batch.with_columns(start_ns=pl.col("bar_start").dt.epoch("us") * 1000)
    live = pl.read_ndjson(tmp_path / "rows" / "bars.jsonl")
    same = batch.join(live.select("start_ns"), on="start_ns").select("start_ns", *COLUMNS)
    assert 60 * STEP_MS // 60_000 - 2 <= live.height
    assert same.rows() == live.select("start_ns", *COLUMNS).rows()


def test_speed(tmp_path):
    """At ten thousand times its speed a record of minutes takes its part of a second, or longer."""
    record_market(tmp_path, 60)
    began_s = time.monotonic()
    source = replayed(tmp_path, tmp_path / CONVERTER.name, speed=10_000.0)
    assert 59 * STEP_MS / 1_000 / 10_000 <= time.monotonic() - began_s
    assert 60 == source.status.streams["depth:BTCUSDT"].messages


def test_a_recorder_that_was_killed(tmp_path):
    """Where another session goes on, its stream was down between; the first one's end is not."""
    between_ns = 1_000_000_000
    for number, session in enumerate(("one", "two")):
        of = RecordingOf("BINANCE", "BTCUSDT", "host", session)
        writer = RecordingWriter(tmp_path / CONVERTER.name, of)
        at_ns = START_NS + 4 * number * between_ns
        connect = msgspec.json.encode(Connect("wss://one", ("trades:BTCUSDT",)))
        writer.append(RecordKind.CONNECT, at_ns, at_ns, 1, "", connect)
        for at in range(3):
            frame = json.dumps(
                {"stream": "btcusdt@trade", "data": {"s": "BTCUSDT", "t": 4 * number + at}}
            ).encode()
            stamp = at_ns + at * between_ns
            writer.append(RecordKind.FRAME, stamp, stamp, 1, "trades:BTCUSDT", frame)
        writer.close()
    stream = replayed(tmp_path, tmp_path / CONVERTER.name).status.streams["trades:BTCUSDT"]
    assert (6, 1, 2.0) == (stream.messages, stream.gaps, stream.downtime_s)


def capture(*arguments):
    return CliRunner().invoke(app, ["capture", *map(str, arguments)])


@pytest.mark.slow
def test_the_verb(tmp_path, monkeypatch):
    """It replays without recording, tells a gap by its code, and mixes no rows of two replays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    record_market(tmp_path / "lake", 60, lost=frozenset({5}))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.recording*")}
    done = capture("--replay", tmp_path / "lake", "--sink", "jsonl", "--sink", "delta", "--json")
    last = json.loads(done.stdout.splitlines()[-1])
    assert (1, 1) == (done.exit_code, sum(each["gaps"] for each in last["streams"].values()))
    sinks = last["sinks"]
    assert sinks["jsonl"]["written"] == sinks["delta"]["written"] > 60
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.recording*")}
    folder = tmp_path / "data" / "replay" / "binance_spot"
    assert sinks["delta"]["commits"] == len([*folder.glob("*/_delta_log")])
    again = capture("--replay", tmp_path / "lake", "--sink", "jsonl")
    assert "another replay" in str(again.exception)
    assert 2 == capture("--replay", tmp_path / "lake", "--venue", "okx").exit_code


@pytest.mark.slow
def test_the_simulated_venue(tmp_path):
    """Of every message the live book has the touch that the venue's own market had after it."""
    instrument, day, messages = demo_plan().instruments[0], demo_plan().start, 500
    of = settings_in(tmp_path, symbols=instrument.symbol, metrics_seconds=3_600)
    chosen = simulated_settings(of)
    source = run(simulated([instrument], day, messages), chosen, SIMULATED)
    found = pl.read_ndjson(tmp_path / "rows" / "best_quotes.jsonl")
    tick, lot = (float(found[name][0]) for name in ("tick", "lot"))
    market, last, expected = SimulatedMarket(instrument, messages, 86_400.0), None, []
    market.open(day)
    for batch in market.day(day):
        touch = batch.touch
        for sequence, (bid, bid_size, ask, ask_size) in zip(
            touch.sequence_number.tolist(), touch.prices_and_sizes.tolist(), strict=True
        ):
            row = (
                *(round(bid / tick), round(bid_size / lot)),
                *(round(ask / tick), round(ask_size / lot)),
            )
            if row != last:
                expected.append((sequence, *row))
            last = row
    columns = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")
    # The first row is of the book before the first message.
    assert expected == found.select("sequence_number", *columns).rows()[-len(expected) :]
    assert (0, "live") == (source.status.gaps, source.status.streams["depth:BTC-USDT-PERP"].book)
    with pytest.raises(VenueError, match="ETH-USDT-PERP"):
        simulated_settings(settings_in(tmp_path, symbols="XRP"))

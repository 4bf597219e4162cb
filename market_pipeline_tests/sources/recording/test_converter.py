"""Recordings as days of the graph."""

from __future__ import annotations

import gzip
import random
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import load_settings
from market_pipeline.sources.binance_capture import CONVERTER as CAPTURES
from market_pipeline.sources.binance_capture import MARKET_OF_VENUE, capture_symbol
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.recording import CONVERTER, RecordingOf, RecordingWriter, RecordKind
from market_pipeline.sources.registry import converter_of
from market_pipeline.telemetry.bridge.sums import Bridge
from market_pipeline.telemetry.metrics.recording import FOLDER, begin
from market_pipeline_tests.sources.capture_sample import SETS


def recorded(lake, of, lines, host, lost, sessions=2):
    """A host's recording of each line but some, in sessions one after the other."""
    symbol = capture_symbol(MARKET_OF_VENUE[of.venue], of.our_symbol)
    for session in range(sessions):
        whose = RecordingOf(of.venue, symbol, host, f"{9 - session}")
        writer = RecordingWriter(lake / CONVERTER.name, whose)
        for at in range(session, len(lines), 1):
            if at * sessions // len(lines) != session or at in lost:
                continue
            stamp, _, payload = lines[at].partition(b" ")
            wall_ns = int(stamp) * (1000 if len(stamp) == 16 else 1)
            kind = RecordKind.SNAPSHOT if b'"lastUpdateId"' in payload else RecordKind.FRAME
            stream = "depth" if b'"depthUpdate"' in payload else payload[:40].decode()
            writer.append(kind, wall_ns, wall_ns, 1, stream, payload)
        writer.close()


def tables(converter, files, instrument, day, folder):
    with RawWriter(folder, "test") as raw:
        converter.convert(files, raw, instrument, day)
    found = {
        table.name: pl.concat(map(pl.read_parquet, sorted(table.glob("*.parquet"))))
        for table in sorted(folder.iterdir())
    }
    return found, raw.notes


@pytest.mark.slow
@pytest.mark.parametrize("of", SETS, ids=lambda each: each.name)
def test_a_day_of_two_hosts_is_the_capture(sample_data, tmp_path, of):
    """Two hosts that each lost other frames and began anew once, whose sessions do not sort by
    name, give the raw tables and notes of the capture that they heard, and note and count what was
    filled.
    """
    original, day = of.files(sample_data)[0], date.fromisoformat(of.days[0])
    instrument = Instrument(venue=of.venue, symbol=of.our_symbol, source=CONVERTER.name)
    lines = gzip.decompress(original.read_bytes()).splitlines()
    chance = random.Random(3)
    lost = {at for at in range(1, len(lines)) if chance.random() < 0.02}
    recorded(tmp_path, of, lines, "one", {at for at in lost if at % 2})
    recorded(tmp_path, of, lines, "two", {at for at in lost if not at % 2})
    converter = converter_of(CONVERTER.name)
    files = converter.find(tmp_path, instrument, day)
    assert 4 <= len(files)
    begin(load_settings(data_dir=tmp_path / "data"), "run")
    found, notes = tables(converter, files, instrument, day, tmp_path / "found")
    begin(load_settings(data_dir=tmp_path / "data", metrics=False), "run")
    expected, expected_notes = tables(CAPTURES, [original], instrument, day, tmp_path / "expected")
    assert expected.keys() == found.keys()
    assert [True] * len(expected) == [expected[name].equals(found[name]) for name in expected]
    gaps = [note for note in notes if " gaps of " in note]
    assert len(expected_notes) == len(notes) - len(gaps)
    filled = sum(int(note.split(" x ")[0]) for note in gaps if "filled from 20" in note)
    assert 0 < filled <= len(lost)
    bridge = Bridge(tmp_path / "data" / FOLDER)
    bridge.update()
    ((_, family),) = bridge.families(0)
    counted = {
        (each.labels["outcome"], each.labels["hour"]): each.value for each in family.series.values()
    }
    assert 48 == len(counted)
    assert filled == sum(count for (outcome, _), count in counted.items() if outcome == "filled")


def test_a_day_is_found_when_it_is_over(tmp_path):
    """Closed files of a finished day are found, those being written and of today are not."""
    instrument = Instrument(venue="BINANCE", symbol="BTC-USDT", source=CONVERTER.name)
    today = datetime.now(UTC).date()
    days = [date(2024, 8, 8), today, today + timedelta(days=1)]
    for day in days:
        folder = tmp_path / "recording" / "BINANCE" / "BTCUSDT" / day.isoformat()
        folder.mkdir(parents=True)
        for name in ("01_a_b_0.recording", "02_a_b_0.recording.partial"):
            (folder / name).touch()
    found = [CONVERTER.find(tmp_path, instrument, day) for day in days]
    assert [["01_a_b_0.recording"], [], []] == [[file.name for file in each] for each in found]
    other = Instrument(venue="KRAKEN", symbol="BTC-USDT", source=CONVERTER.name)
    assert [] == CONVERTER.find(tmp_path, other, days[0])

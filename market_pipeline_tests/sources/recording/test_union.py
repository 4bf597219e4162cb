"""The union of connections and hosts, and its export."""

import gzip
import random
import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.config.instruments import Instrument
from market_pipeline.sources.binance_capture import CONVERTER
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.recording.format import Record, RecordKind
from market_pipeline.sources.recording.union import (
    Received,
    export_collector_form,
    received,
    union,
)
from market_pipeline.sources.recording.writer import RecordingOf, RecordingWriter
from market_pipeline_tests.sources.capture_sample import SETS

_ID = re.compile(rb'"(?:u|t)":(\d+)')


def update_id(record):
    found = None if record.stream == "other" else _ID.search(record.payload)
    return int(found[1]) if found else None


def frame(number, wall_ns, connection):
    return Record(RecordKind.FRAME, wall_ns, wall_ns, connection, "depth", b'{"u":%d}' % number)


def united(sources):
    """The ids of the union of hosts, whose records are merged as files are."""
    arrivals = [Received(host, None, each) for host, some in enumerate(sources) for each in some]
    arrivals.sort(key=lambda each: each.record.wall_ns)
    return [update_id(each.record) for each in union(arrivals, update_id)]


class TestUnion:
    @given(
        lost=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60),
        late_ns=st.integers(0, 1_500_000_000),
        hosts=st.sampled_from([1, 2]),
    )
    @settings(deadline=None)
    def test_fills_one_s_gaps_from_the_other(self, lost, late_ns, hosts):
        """Ids come in order, once each, and none is missing that either connection had."""
        step_ns = 100_000_000
        first = [frame(n, n * step_ns, 1) for n, (gone, _) in enumerate(lost) if not gone]
        second = [
            frame(n, n * step_ns + late_ns, 2) for n, (_, gone) in enumerate(lost) if not gone
        ]
        sources = [first, second]
        if hosts == 1:
            sources = [sorted(first + second, key=lambda each: each.wall_ns)]
        assert [n for n, gone in enumerate(lost) if not all(gone)] == united(sources)

    def test_keeps_what_a_connection_sent_twice(self):
        """A frame that the venue sends twice on each of two connections comes twice."""
        records = [frame(1, at, connection) for at, connection in enumerate((1, 2, 1, 2))]
        assert [1, 1] == united([records])


def stream_of(payload):
    if b'"depthUpdate"' in payload:
        return "depth"
    return "trade" if b'"e":"trade"' in payload else "other"


def recorded(root, lines, connections, loss):
    """A host's file of each line on every connection; each connection loses others of them."""
    writer = RecordingWriter(root, RecordingOf("BINANCE", "BTC-USDT", "host", "run"))
    chance = random.Random(5)
    for at, line in enumerate(lines):
        stamp, _, payload = line.partition(b" ")
        wall_ns = int(stamp) * (1000 if len(stamp) == 16 else 1)
        lost = chance.random() / loss if loss else 9.0
        for connection in connections:
            if not connection - 1 < lost <= connection:
                kind = RecordKind.SNAPSHOT if b'"lastUpdateId"' in payload else RecordKind.FRAME
                writer.append(kind, wall_ns, wall_ns, connection, stream_of(payload), payload)
        if at % 1_000 == 0:
            writer.flush()
    return [writer.close().path]


def tables(file, instrument, day, out):
    with RawWriter(out, "test") as raw:
        CONVERTER.convert([file], raw, instrument, day)
    return {
        table: pl.concat(
            [pl.read_parquet(each) for each in sorted((out / table).glob("*.parquet"))]
        )
        for table in ("book_delta_v2", "book", "trades")
        if (out / table).is_dir()
    }, raw.notes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hosts", "loss"),
    [([(1,)], 0.0), ([(1, 2)], 0.01), ([(1,), (2,)], 0.01)],
    ids=["one_connection", "two_connections", "two_hosts"],
)
@pytest.mark.parametrize("of", [SETS[1], SETS[2]], ids=lambda each: each.name)
def test_real_frames_convert_as_the_original(sample_data, tmp_path, of, hosts, loss):
    """Frames recorded, also with losses that do not meet, give the raw tables of the capture."""
    instrument = Instrument(venue=of.venue, symbol=of.our_symbol, source="binance_capture")
    original = of.files(sample_data)[0]
    lines = gzip.decompress(original.read_bytes()).splitlines()
    files = [recorded(tmp_path / str(n), lines, each, loss) for n, each in enumerate(hosts)]
    exported = tmp_path / "exported.gz"
    assert len(lines) == export_collector_form(union(received(files), update_id), exported)
    expected, expected_notes = tables(original, instrument, of.days[0], tmp_path / "expected")
    found, notes = tables(exported, instrument, of.days[0], tmp_path / "found")
    assert expected_notes == notes
    assert expected.keys() == found.keys()
    for table, rows in expected.items():
        assert rows.equals(found[table])

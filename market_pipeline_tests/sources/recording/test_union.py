"""The union of connections and hosts, and its export."""

import gzip
import random
import re
import shutil

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
    by_host,
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
    arrivals = [
        Received(each.wall_ns, host, host, None, each)
        for host, some in enumerate(sources)
        for each in some
    ]
    arrivals.sort(key=lambda each: each.at_ns)
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


STEP_NS = 100_000_000
START_NS = 1_723_161_600_000_000_000


def file_of(folder, numbers, host, wall_ns=lambda number: START_NS + number * STEP_NS):
    """A file with a frame of each number on each of two connections, and stamps as given."""
    writer = RecordingWriter(folder, RecordingOf("BINANCE", "BTC-USDT", host, "run"))
    for number in numbers:
        for connection in (1, 2):
            writer.append(
                *frame(number, wall_ns(number), connection)._replace(monotonic_ns=number * STEP_NS)
            )
    return writer.close().path


def ids_of(*files):
    return [update_id(e.record) for e in union(received(by_host(files)), update_id)]


class TestFiles:
    def test_a_copy_counts_once(self, tmp_path):
        """A file under two names, or its beginning as a recovery leaves it, adds nothing."""
        first = file_of(tmp_path, range(50), "one")
        later = file_of(tmp_path, range(50, 80), "one")
        copy = shutil.copy(first, tmp_path / "copy.recording")
        beginning = file_of(tmp_path / "other", range(20), "one")
        assert list(range(80)) == ids_of(first, copy, later, beginning)

    @pytest.mark.parametrize("ahead_ns", [3 * STEP_NS * 10**4, -3 * STEP_NS * 10**4])
    @pytest.mark.parametrize("wrong", [range(20, 21), range(20, 40)])
    def test_a_stamp_far_off_misplaces_nothing(self, tmp_path, ahead_ns, wrong):
        """Stamps of one host that leave its monotonic clock and come back cost no duplicate."""

        def stamp(number):
            return START_NS + number * STEP_NS + (ahead_ns if number in wrong else 0)

        files = file_of(tmp_path, range(90), "one", stamp), file_of(tmp_path, range(90), "two")
        assert list(range(90)) == ids_of(*files)

    def test_a_clock_that_was_set_back(self, tmp_path):
        """Of one host each frame comes once, before and after its clock is set back."""
        back_ns = 60 * 10**9
        file = file_of(
            tmp_path, range(200), "one",
            lambda number: START_NS + number * STEP_NS - (back_ns if number > 99 else 0),
        )  # fmt: skip
        assert list(range(200)) == ids_of(file)


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

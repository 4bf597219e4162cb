import errno
import fcntl
import hashlib
import os
import random
import shutil
import signal
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.errors import LakeFileError, WarehouseBusyError
from market_pipeline.sources.recording import (
    HourlyRecorder,
    RecordingOf,
    RecordingWriter,
    read_recording,
    recover,
)
from market_pipeline.sources.recording import writer as writer_module
from market_pipeline.sources.recording.format import (
    VERSION,
    BlockKind,
    Drop,
    Record,
    RecordKind,
    encode_block,
)
from market_pipeline.sources.recording.reader import read_footer, read_header
from market_pipeline_tests.defs.workspace import forks
from market_pipeline_tests.sources.recording.victim import record_for_ever

OF = RecordingOf("BINANCE", "BTC-USDT", "host", "run")
START_NS = 1_723_161_600_000_000_000
HOUR_NS = 3_600_000_000_000

_records = st.lists(
    st.builds(
        Record,
        st.sampled_from(list(RecordKind)),
        st.integers(0, 2**62),
        st.integers(0, 2**62),
        st.integers(0, 65_535),
        st.text(max_size=8),
        st.binary(max_size=40),
        st.integers(0, 15),
    ),
    min_size=1,
    max_size=30,
)


def frames(count, begin_ns=START_NS, step_ns=1_000):
    return [
        Record(RecordKind.FRAME, begin_ns + at * step_ns, at * step_ns, 1, "depth", b"%d" % at * 9)
        for at in range(count)
    ]


def written(root, records, flush_every=4):
    writer = RecordingWriter(root, OF)
    for at, record in enumerate(records, 1):
        writer.append(*record)
        if at % flush_every == 0:
            writer.flush()
    return writer


def read(path, on_damage=None):
    return [record for chunk in read_recording(path, on_damage) for record in chunk.records()]


class TestRoundTrip:
    @given(records=_records, flush_every=st.integers(1, 9))
    @settings(max_examples=20, deadline=None)
    def test_gives_back_what_was_appended(self, tmp_path_factory, records, flush_every):
        """Any records come back equal and in order, however flushes cut them into blocks."""
        root = tmp_path_factory.mktemp("records")
        records = [record._replace(wall_ns=records[0].wall_ns) for record in records]
        closed = written(root, records, flush_every).close()
        assert records == read(closed.path)

    def test_says_what_it_holds(self, tmp_path):
        """Header, footer and the result of closing agree with the bytes and the records."""
        writer = written(tmp_path, frames(10))
        writer.append(RecordKind.FRAME, START_NS, 0, 1, "trade", b"x", update_id=7)
        writer.append(RecordKind.FRAME, START_NS, 0, 1, "trade", b"x", update_id=9)
        closed = writer.close()
        data = closed.path.read_bytes()
        footer = read_footer(closed.path)
        assert ("BINANCE", "BTC-USDT") == (
            read_header(closed.path).exchange,
            read_header(closed.path).symbol,
        )
        assert {"frame": 12} == footer.kinds
        assert (2, 7, 9) == (
            footer.streams["trade"].records,
            footer.streams["trade"].first_id,
            footer.streams["trade"].last_id,
        )
        assert [4, 4, 4] == [entry.records for entry in footer.index]
        assert hashlib.sha256(data).hexdigest() == closed.sha256
        assert len(data) == closed.size_bytes
        assert "cannot be seen" in footer.note

    def test_keeps_files_private_and_never_writes_over_one(self, tmp_path):
        """Files are 0600 in folders 0700, and a second run of the same name makes another part."""
        first = written(tmp_path, frames(3)).close()
        second = written(tmp_path, frames(5)).close()
        assert ("00_host_run_0.recording", "00_host_run_1.recording") == (
            first.path.name,
            second.path.name,
        )
        assert (0o600, 0o700) == (
            first.path.stat().st_mode & 0o777,
            first.path.parent.stat().st_mode & 0o777,
        )
        assert frames(3) == read(first.path)

    def test_makes_a_file_for_each_hour(self, tmp_path):
        """Records of three hours lie in three closed files, and a clock put back makes no more."""
        recorder = HourlyRecorder(tmp_path, OF)
        records = [record for hour in range(3) for record in frames(4, START_NS + hour * HOUR_NS)]
        records.append(records[-1]._replace(wall_ns=records[-1].wall_ns - 1_000_000_000))
        for record in records:
            recorder.append(*record)
        recorder.flush()
        assert 2 == len(list(tmp_path.rglob("*.recording")))
        recorder.close()
        files = sorted(tmp_path.rglob("*.recording"))
        assert [4, 4, 5] == [len(read(file)) for file in files]
        assert not list(tmp_path.rglob("*.partial"))

    def test_what_comes_after_its_hour_was_closed(self, tmp_path):
        """A record that was on its way when the clock ended its hour lies in a further file of
        that hour, and the records of the next hour in a file of theirs.
        """
        end_ns = START_NS + HOUR_NS
        records = frames(6, end_ns - 3, 1)
        recorder = HourlyRecorder(tmp_path, OF)
        for begin, end in ((0, 2), (2, 6)):
            for record in records[begin:end]:
                recorder.append(*record)
            recorder.flush(end_ns + 1)
        recorder.close()
        files = sorted(tmp_path.rglob("*.recording"))
        assert ["00_host_run_0", "00_host_run_1", "01_host_run_0"] == [each.stem for each in files]
        assert [records[:2], records[2:3], records[3:]] == [read(file) for file in files]


class TestDamage:
    def test_cut_at_every_byte(self, tmp_path):
        """A file cut anywhere is recovered to its last whole block, and says how much is gone."""
        writer = written(tmp_path, frames(12))
        (partial,) = tmp_path.rglob("*.partial")
        data = partial.read_bytes()
        writer.close().path.unlink()
        ends = [block_end(data, number) for number in range(4)]
        for size in range(len(data) + 1):
            partial.write_bytes(data[:size])
            recovered = recover(partial)
            whole = max((number for number in range(4) if ends[number] <= size), default=0)
            if whole == 0:
                assert recovered is None
                continue
            assert size - ends[whole] == recovered.lost_bytes
            assert frames(4 * whole) == read(recovered.closed.path)
            assert recovered.lost_bytes == read_footer(recovered.closed.path).recovered_bytes
            recovered.closed.path.unlink()

    def test_every_flipped_byte_is_found(self, tmp_path):
        """A changed byte anywhere in the blocks is refused, located, and costs one block."""
        path = written(tmp_path, frames(12)).close().path
        data = path.read_bytes()
        ends = [block_end(data, number) for number in range(4)]
        records = frames(12)
        for at in range(ends[-1]):
            changed = bytearray(data)
            changed[at] ^= 0x10
            path.write_bytes(changed)
            hit = next(number for number in range(4) if at < ends[number])
            with pytest.raises(LakeFileError):
                read(path)
            damages = []
            found = read(path, damages.append)
            expected = [each for n, each in enumerate(records) if n // 4 + 1 != hit]
            assert expected == found
            assert [(ends[hit - 1] if hit else 0, ends[hit])] == [
                (each.offset, each.offset + each.size_bytes) for each in damages
            ]

    def test_counts_kinds_it_does_not_know(self, tmp_path):
        """Records of a kind that a later version added are recovered, and counted by number."""
        later = frames(4)[3]._replace(kind=99)
        partial = left_behind(tmp_path, [*frames(3), later])
        closed = recover(partial).closed
        assert [*frames(3), later] == read(closed.path)
        assert {"frame": 3, "kind_99": 1} == read_footer(closed.path).kinds

    def test_refuses_a_later_version(self, tmp_path):
        """A file of a later version is left as it is, and the error names both versions."""
        partial = left_behind(tmp_path, frames(4))
        data = partial.read_bytes()
        header = msgspec.structs.replace(read_header(partial), version=VERSION + 1)
        block = encode_block(BlockKind.HEADER, 0, msgspec.json.encode(header))
        partial.write_bytes(block + data[block_end(data, 0) :])
        before = partial.read_bytes()
        with pytest.raises(LakeFileError, match=r"recording 1.*recording 2"):
            recover(partial)
        assert before == partial.read_bytes()

    def test_refuses_a_file_under_way(self, tmp_path):
        """A file that a process still writes is left alone."""
        writer = written(tmp_path, frames(4))
        (partial,) = tmp_path.rglob("*.partial")
        with pytest.raises(WarehouseBusyError):
            recover(partial)
        assert 4 == writer.close().records

    def test_a_file_that_is_removed_is_written_again(self, tmp_path):
        """A file that somebody removes while it is written is an error once, and nothing is lost;
        one that was moved away is left to who did it.
        """
        writer = written(tmp_path / "lake", frames(8))
        shutil.rmtree(tmp_path / "lake")
        with pytest.raises(OSError, match="removed"):
            writer.sync()
        writer.sync()
        for record in frames(12)[8:]:
            writer.append(*record)
        (tmp_path / "lake").rename(tmp_path / "moved")
        assert frames(12) == read(writer.close().path)
        assert frames(12) == read(next((tmp_path / "moved").rglob("*.partial")))

    def test_a_file_that_is_opened_or_closed_meanwhile(self, tmp_path, monkeypatch):
        """A recovery in the moment between a writer's open and its lock costs the writer nothing,
        and one in the moment in which it closes its file changes nothing.
        """
        lock, between = fcntl.flock, []

        def locked(file, how):
            if between:
                between.pop()()
            lock(file, how)

        monkeypatch.setattr(fcntl, "flock", locked)
        between.append(lambda: recover(next(tmp_path.rglob("*.partial"))))
        writer = written(tmp_path, frames(4))
        (partial,) = tmp_path.rglob("*.partial")
        closed = []
        between.append(lambda: closed.append(writer.close()))
        with pytest.raises(WarehouseBusyError):
            recover(partial)
        assert frames(4) == read(closed[0].path)
        assert closed[0].sha256 == hashlib.sha256(closed[0].path.read_bytes()).hexdigest()


def left_behind(folder, records):
    """A file as a killed process leaves it."""
    written(folder / "written", records)
    (partial,) = (folder / "written").rglob("*.partial")
    return Path(shutil.copy(partial, folder))


def block_end(data, number):
    end = 0
    for _ in range(number + 1):
        end += 28 + int.from_bytes(data[end + 12 : end + 16], "little")
    return end


class TestFullDisk:
    @pytest.fixture
    def full(self, monkeypatch):
        """Has every write stop after so many bytes, as on a full disk, until that is None."""
        room = [None]
        pwrite = os.pwrite

        def write(file, data, offset):
            if room[0] is None:
                return pwrite(file, data, offset)
            if room[0] == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done = pwrite(file, data[: room[0]], offset)
            room[0] -= done
            return done

        monkeypatch.setattr(writer_module.os, "pwrite", write)
        return room

    def test_resumes_when_there_is_room(self, tmp_path, full):
        """A write that fails half way spoils nothing, and its records follow when there is room."""
        writer = written(tmp_path, frames(8))
        (partial,) = tmp_path.rglob("*.partial")
        size = partial.stat().st_size
        full[0] = 5
        for record in frames(20)[8:]:
            writer.append(*record)
            with pytest.raises(OSError, match="No space") as refused:
                writer.flush()
        assert str(partial) == refused.value.filename
        assert size == partial.stat().st_size
        full[0] = None
        assert frames(20) == read(writer.close().path)

    def test_an_hour_ends_meanwhile(self, tmp_path, full, monkeypatch):
        """While the file of an hour cannot be closed, what waits of the next hour has an end as
        well, and is counted.
        """
        monkeypatch.setattr(writer_module, "BACKLOG_BYTES", 100)
        recorder = HourlyRecorder(tmp_path, OF)
        recorder.append(*frames(1)[0])
        recorder.flush()
        full[0] = 0
        for record in frames(5, START_NS + HOUR_NS):
            recorder.append(*record)
            with pytest.raises(OSError, match="No space"):
                recorder.flush()
        full[0] = None
        recorder.close()
        first, second = sorted(tmp_path.rglob("*.recording"))
        assert frames(1) == read(first)
        *kept, drop = read(second)
        assert frames(5, START_NS + HOUR_NS)[: len(kept)] == kept
        assert 5 - len(kept) == msgspec.json.decode(drop.payload, type=Drop).records > 0

    def test_files_that_share_memory(self, tmp_path, monkeypatch):
        """While a file is refused, its records and those of other refused ones wait up to one
        limit; of files that are not, nothing is dropped.
        """
        monkeypatch.setattr(writer_module, "BACKLOG_BYTES", 1_000)
        waiting, blocked = writer_module.Backlog(), tmp_path / "BINANCE"
        blocked.mkdir()
        names = ("A", "B", "C")
        for name in names[:2]:
            (blocked / name).touch()  # where its folder is to be
        recorders = {
            name: HourlyRecorder(
                tmp_path, RecordingOf("BINANCE", name, "host", "run"), waiting=waiting
            )
            for name in names
        }
        for record in frames(40):
            for name, recorder in recorders.items():
                recorder.append(*record)
                with nullcontext() if name == "C" else pytest.raises(OSError, match=name):
                    recorder.flush()
        assert 1_000 < waiting.size_bytes < 2_000
        for name in names[:2]:
            (blocked / name).unlink()
        held = {}
        for name, recorder in recorders.items():
            recorder.close()
            (path,) = (blocked / name).rglob("*.recording")
            found = read(path)
            drops = [msgspec.json.decode(e.payload, type=Drop).records for e in found if e.kind]
            held[name] = (len(found) - len(drops), sum(drops))
        assert [40, 40, 40] == [sum(each) for each in held.values()]
        assert (True, True, (40, 0)) == (held["A"][1] > 0, held["B"][1] > 0, held["C"])
        assert 0 == waiting.size_bytes

    def test_records_what_memory_could_not_hold(self, tmp_path, full, monkeypatch):
        """Records dropped while the disk stayed full are counted by a record in their place."""
        monkeypatch.setattr(writer_module, "BACKLOG_BYTES", 100)
        writer = written(tmp_path, frames(4))
        full[0] = 0
        for record in frames(12)[4:]:
            writer.append(*record)
            with pytest.raises(OSError, match="No space"):
                writer.flush()
        full[0] = None
        records = read(writer.close().path)
        (drop,) = (each for each in records if each.kind == RecordKind.DROP)
        dropped = msgspec.json.decode(drop.payload, type=Drop)
        assert frames(12 - dropped.records) == [each for each in records if each is not drop]
        assert ("depth", frames(12)[-1].wall_ns) == (drop.stream, dropped.last_wall_ns)
        assert dropped.records > 0


@pytest.mark.slow
def test_kill_at_random_moments(tmp_path):
    """After kill -9 at 50 random moments all that was flushed is read, in order, with no hole."""
    chance = random.Random(5)
    at = 0
    for session in range(50):
        flushes, of_process = forks().Pipe(duplex=False)
        process = forks().Process(
            target=record_for_ever, args=(of_process, tmp_path, str(session), at, START_NS)
        )
        process.start()
        of_process.close()
        flushed = flushes.recv()
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        with flushes, suppress(EOFError, OSError):  # the last one may be cut off, too
            while True:
                flushed = flushes.recv()
        process.join()
        assert -signal.SIGKILL == process.exitcode
        for partial in tmp_path.rglob("*.partial"):
            recover(partial)
        files = [f for f in tmp_path.rglob("*.recording") if f"_{session}_" in f.name]
        found = [
            int(r.payload) for f in sorted(files, key=lambda f: (f.parent, f)) for r in read(f)
        ]
        assert list(range(at, at + len(found))) == found
        assert at + len(found) >= flushed
        at += len(found)

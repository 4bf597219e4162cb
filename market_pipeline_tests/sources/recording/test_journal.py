"""What a recorder had received when it was killed, and no file had yet."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tracemalloc
from bisect import bisect_right
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.sources.recording import HourlyRecorder, RecordingOf, read_recording
from market_pipeline.sources.recording.check import check_recording, find_recordings
from market_pipeline.sources.recording.format import Entry, Record
from market_pipeline.sources.recording.hours import HOUR_NS
from market_pipeline.sources.recording.journal import (
    Journal,
    JournalDay,
    left_journals,
    read_journal,
    recover_journals,
)

START_NS = 498_656 * HOUR_NS
OF = ("BINANCE", "ho st", "run")


def entries(count, begin=0, symbols=("A", "B")):
    return [
        Entry(symbols[at % len(symbols)], 0, START_NS + at, at, 1, "depth", b"%d" % at, 1, at)
        for at in range(begin, begin + count)
    ]


def journal(folder, *appended):
    made = Journal(folder, *OF)
    for each in appended:
        made.append(each)
    (path,) = folder.glob(".*.journal")
    return made, path


def records(path):
    return [record for chunk in read_recording(path) for record in chunk.records()]


def of_symbol(symbol, expected):
    return [Record(*each) for each in (_fields(e) for e in expected if e.symbol == symbol)]


def _fields(entry):
    return (
        *(entry.kind, entry.wall_ns, entry.monotonic_ns, entry.connection),
        *(entry.stream, entry.payload, entry.opcode),
    )


_entries = st.lists(
    st.builds(
        Entry,
        st.sampled_from(["A", "B", "ß"]),
        st.integers(0, 255),
        st.integers(0, 2**62),
        st.integers(0, 2**62),
        st.integers(0, 65_535),
        st.text(max_size=8),
        st.binary(max_size=40),
        st.integers(0, 15),
        st.none() | st.integers(-(2**63), 2**63 - 1),
    ),
    min_size=1,
    max_size=20,
)


class TestJournal:
    # Magic, length, CRC-32 and MessagePack: of whose it is, and of one entry.
    GOLDEN = (
        "4d504a31 13000000 9c5677db 93a74249 4e414e43 45a5686f 207374a3 72756e4d"
        " 504a3116 000000eb 4f96c291 99a14100 070501a7 64657074 683a41c4 027b7d01 09"
    )

    @given(appended=st.lists(_entries, min_size=1, max_size=5), data=st.data())
    @settings(max_examples=40, deadline=None)
    def test_cut_anywhere(self, tmp_path_factory, appended, data):
        """Any entries come back equal and in order, and of a journal that is cut off at any byte
        those of every whole write.
        """
        folder = tmp_path_factory.mktemp("journal")
        made, path = journal(folder, appended[0])
        ends = [path.stat().st_size]
        for each in appended[1:]:
            made.append(each)
            ends.append(path.stat().st_size)
        content = path.read_bytes()
        damages = []
        of, found = read_journal(path, damages.append)
        assert (RecordingOf("BINANCE", "", "ho st", "run"), [*chain(*appended)]) == (of, found)
        size = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:size])
        whole = [each for end, each in zip(ends, appended, strict=True) if end <= size]
        read = read_journal(path, damages.append)
        assert [*chain(*whole)] == ([] if read is None else read[1])
        assert (size > 0 and read is None) == bool(damages)
        made.remove()
        assert [] == list(folder.iterdir())

    def test_every_flipped_byte_is_found(self, tmp_path):
        """A changed byte anywhere is located, and costs one chunk; that of the beginning all.

        But where it makes the last chunk longer than the file, that one is as if cut off.
        """
        appended = [entries(2, begin) for begin in (0, 2, 4)]
        _, path = journal(tmp_path, *appended)
        content = path.read_bytes()
        begins = [match.start() for match in re.finditer(b"MPJ1", content)]
        for at in range(len(content)):
            changed = bytearray(content)
            changed[at] ^= 0x10
            path.write_bytes(changed)
            damages = []
            read = read_journal(path, damages.append)
            hit = bisect_right(begins, at) - 1
            if hit == 0:
                assert (None, 0) == (read, damages[0].offset)
                continue
            assert [*chain(*(each for n, each in enumerate(appended, 1) if n != hit))] == read[1]
            is_longer = 4 <= at - begins[hit] < 8 and changed[at] > content[at]
            is_as_cut = hit == 3 and is_longer
            assert [begins[hit]][is_as_cut:] == [each.offset for each in damages]

    def test_refused_at_first(self, tmp_path, monkeypatch):
        """A disk that is full when a journal is made costs nothing of what comes when there is
        room again.
        """
        made = Journal(tmp_path, *OF)
        with monkeypatch.context() as full, pytest.raises(OSError, match="No space"):
            full.setattr(os, "pwrite", _no_space)
            made.append(entries(1))
        made.append(entries(2))
        (path,) = tmp_path.glob(".*.journal")
        assert entries(2) == read_journal(path, pytest.fail)[1]

    def test_what_was_left_is_listed_without_payloads(self, tmp_path):
        """Of left journals counts and times are kept, so that ten of a megabyte take two of it."""
        payload, paths = bytes(100_000), []
        for host in "abcdefghij":
            made = Journal(tmp_path, "BINANCE", host, "run")
            made.append([Entry("A", 0, START_NS + at, at, 1, "depth", payload) for at in range(10)])
            os.close(made._file)
            paths.append(made._path)
        tracemalloc.start()
        try:
            left = list(left_journals(paths))
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        day = {("A", "2026-11-20"): JournalDay(10, START_NS, START_NS + 9)}
        assert [day] * 10 == [each.days for each in left]
        assert peak_bytes < 3e6

    @pytest.mark.parametrize("symbol", ["../A", "/A", "A/../../B"])
    def test_leads_out_of_the_folder(self, tmp_path, symbol):
        """Of a journal with a symbol that is a way out of the folder nothing is written."""
        _, path = journal(tmp_path, [*entries(1), Entry(symbol, 0, 7, 5, 1, "", b"")])
        damages = []
        assert read_journal(path, damages.append) is None
        assert ["leads out of the folder"] == [each.found[12:35] for each in damages]

    def test_its_bytes(self, tmp_path):
        """Its bytes are those that the page of the format shows."""
        _, path = journal(tmp_path, [Entry("A", 0, 7, 5, 1, "depth:A", b"{}", 1, 9)])
        assert ".ho-st_run_000000.journal" == path.name
        assert 0o600 == path.stat().st_mode & 0o777
        assert self.GOLDEN == path.read_bytes().hex(" ", -4)


def _no_space(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Killed:
    """A recorder of two symbols that was killed after some blocks and some of the journal."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "BINANCE"
        self.recorders = {
            symbol: HourlyRecorder(root, RecordingOf("BINANCE", symbol, "ho st", "run"))
            for symbol in ("A", "B")
        }

    def write(self, symbol, own):
        self.recorders[symbol].extend([each for each in own if each.symbol == symbol])
        self.recorders[symbol].flush()

    def left(self, to: Path) -> Path:
        """What is on the disk, in the hands of nobody."""
        shutil.copytree(self.root, to)
        return to


class TestRecovery:
    @pytest.mark.parametrize("written", [(), ("A",), ("A", "B")], ids=["none", "one", "both"])
    @pytest.mark.parametrize("begins", [0, 10], ids=["first", "later"])
    def test_what_no_file_has(self, tmp_path, written, begins):
        """Whichever files have the entries of the journal, each has them once at the end, behind
        those of before; a second recovery changes nothing.
        """
        killed = Killed(tmp_path / "recording")
        before, after = entries(begins), entries(9, begins)
        for symbol in ("A", "B"):
            killed.write(symbol, before)
        journal(killed.folder, after[:4], after[4:])
        for symbol in written:
            killed.write(symbol, after)
        left = killed.left(tmp_path / "left")
        done = list(recover_journals(left))
        assert 2 == len(done)
        files = find_recordings([left])
        assert [()] * 2 == [check_recording(path).damages for path in files]
        assert [of_symbol(each, before + after) for each in ("A", "B")] == [
            records(path) for path in files
        ]
        assert ([], files) == (list(recover_journals(left)), find_recordings([left]))
        assert [] == list(left.rglob("*.journal"))

    @pytest.mark.parametrize("written", [2, 4], ids=["left open", "closed"])
    def test_over_the_hour(self, tmp_path, written):
        """Entries around a full hour lie in the files of their hours, each once: a day is read from
        the files of its hours alone.
        """
        killed = Killed(tmp_path / "recording")
        own = [
            Entry("A", 0, START_NS + HOUR_NS - 3 + at, at, 1, "depth", b"%d" % at)
            for at in range(6)
        ]
        killed.write("A", own[:written])
        journal(killed.folder, own)
        left = killed.left(tmp_path / "left")
        list(recover_journals(left))
        files = find_recordings([left])
        assert [of_symbol("A", own[:3]), of_symbol("A", own[3:])] == [records(f) for f in files]

    def test_a_writer_that_lives(self, tmp_path):
        """The journal of a process that still writes is left to it, and a copy of another host's
        to that host.
        """
        made, path = journal(tmp_path / "BINANCE", entries(3))
        shutil.copytree(tmp_path / "BINANCE", tmp_path / "copies" / "BINANCE")
        assert ([], True) == (list(recover_journals(tmp_path, "here")), path.exists())
        made.remove()
        assert 2 == len(list(recover_journals(tmp_path, "ho st")))

    def test_not_one_of_ours(self, tmp_path):
        """What has no whole beginning, or another one, is reported and stays for whoever looks at
        it; of a process that ended before it wrote anything, nothing stays.
        """
        folder = tmp_path / "BINANCE"
        folder.mkdir()
        for name, content in (("a", b"MPJ2" + bytes(40)), ("b", b"MP"), ("c", b"")):
            (folder / f".{name}.journal").write_bytes(content)
        damages = []
        assert [] == list(recover_journals(tmp_path, on_damage=damages.append))
        left = [folder / ".a.journal", folder / ".b.journal"]
        assert (left, set(left)) == (sorted(folder.iterdir()), {each.path for each in damages})

    def test_damaged_in_the_middle(self, tmp_path):
        """What follows a damaged chunk is in the files too, and the journal is kept."""
        _, path = journal(tmp_path / "BINANCE", *(entries(2, begin) for begin in (0, 2, 4)))
        data = path.read_bytes()
        at = data.index(b"MPJ1", data.index(b"MPJ1", 1) + 1)
        left = tmp_path / "left" / "BINANCE" / path.name
        left.parent.mkdir(parents=True)
        left.write_bytes(data[: at + 20] + b"?" + data[at + 21 :])
        damages = []
        for _ in range(2):  # the second finds nothing to do
            list(recover_journals(tmp_path / "left", on_damage=damages.append))
            files = find_recordings([tmp_path / "left"])
            whole = [*entries(2), *entries(2, 4)]
            assert [of_symbol(each, whole) for each in ("A", "B")] == [records(f) for f in files]
        assert [at] == [each.offset for each in damages]
        assert [f"{path.name}.damaged"] == [f.name for f in left.parent.iterdir() if f.is_file()]

    def test_a_number_that_is_given_again(self, tmp_path):
        """Entries come in the order of receipt, also where the later journal took the number of
        one that was removed before.
        """
        killed = Killed(tmp_path / "recording")
        made = [Journal(killed.folder, *OF) for _ in range(3)]
        for number, each in enumerate(made):
            each.append(entries(2, number * 2))
            if number == 1:
                made[0].remove()
        left = killed.left(tmp_path / "left")
        list(recover_journals(left))
        expected = [of_symbol(each, entries(4, 2)) for each in ("A", "B")]
        assert expected == [records(path) for path in find_recordings([left])]

    def test_a_copy_of_the_folder(self, tmp_path):
        """A copy of the folder of an exchange, found with it, is one of its own."""
        killed = Killed(tmp_path / "recording")
        journal(killed.folder, entries(4))
        for name in ("left", "copy"):
            killed.left(tmp_path / "both" / name)
        list(recover_journals(tmp_path / "both"))
        files = find_recordings([tmp_path / "both"])
        expected = [of_symbol(each, entries(4)) for each in ("A", "B")]
        assert 2 * expected == [records(path) for path in files]

    def test_a_damaged_file(self, tmp_path):
        """Where the file that was left is damaged before its end, it stays, and what the journal
        has is in a file of its own.
        """
        killed = Killed(tmp_path / "recording")
        killed.write("A", entries(4))
        killed.write("A", entries(4, 4))
        journal(killed.folder, entries(4, 8, ("A",)))
        left = killed.left(tmp_path / "left")
        (partial,) = left.rglob("*.partial")
        data = bytearray(partial.read_bytes())
        data[len(data) // 2] ^= 1
        partial.write_bytes(data)
        (done,) = recover_journals(left)
        assert of_symbol("A", entries(4, 8, ("A",))) == records(done.closed.path)
        assert bytes(data) == partial.read_bytes()

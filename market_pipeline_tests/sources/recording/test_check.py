"""What a recording file is worth."""

from __future__ import annotations

import hashlib

import pytest

from market_pipeline.errors import LakeFileError
from market_pipeline.sources.recording import RecordingOf, RecordingWriter, RecordKind
from market_pipeline.sources.recording import check as check_module
from market_pipeline.sources.recording.check import (
    FileState,
    check_recording,
    find_recordings,
    read_facts,
)
from market_pipeline.sources.recording.reader import (
    read_footer,
    read_header,
    read_recording,
    recover,
)

START_NS = 1_723_161_600_000_000_000


def writer_of(root, session="run", blocks=3):
    writer = RecordingWriter(root, RecordingOf("BINANCE", "BTCUSDT", "host", session))
    for at in range(4 * blocks):
        wall_ns = START_NS + at * 1_000
        writer.append(RecordKind.FRAME, wall_ns, at, 1, "depth:BTCUSDT", b"%d" % at * 9)
        if at % 4 == 3:
            writer.flush()
    return writer


class TestCheck:
    def test_a_closed_file_is_as_written(self, tmp_path):
        """Its records, bytes and hash are those that were written, and nothing is damaged."""
        closed = writer_of(tmp_path).close()
        found = check_recording(closed.path)
        assert (FileState.CLOSED, 12, ()) == (found.state, found.records, found.damages)
        assert (closed.sha256, closed.size_bytes) == (found.sha256, found.size_bytes)
        assert (START_NS, START_NS + 11_000) == read_facts(closed.path).span_ns

    def test_a_file_that_is_closed_meanwhile(self, tmp_path, monkeypatch):
        """A file that its writer closes after it was found, or while it is read, is checked by the
        name that it has then.
        """
        writer = writer_of(tmp_path)
        (partial,) = find_recordings([tmp_path])
        closed = []

        def closing(_):
            closed.append(writer.close())
            return True

        monkeypatch.setattr(check_module, "is_being_written", closing)
        for _ in ("meanwhile", "before"):
            found = check_recording(partial)
            assert (FileState.CLOSED, ()) == (found.state, found.damages)
            assert closed[0].path == found.path
        assert 12 == sum(chunk.kind.size for chunk in read_recording(partial))
        assert "host" == read_header(partial).host
        closed[0].path.unlink()
        with pytest.raises(LakeFileError, match="Run this again"):
            read_header(partial)
        with pytest.raises(FileNotFoundError):
            check_recording(partial)

    def test_a_file_that_is_closed_once_its_header_is_read(self, tmp_path, monkeypatch):
        """What a file says is read by its new name, whenever its writer closes it."""
        writer, look = writer_of(tmp_path), check_module.is_being_written
        (partial,) = find_recordings([tmp_path])
        monkeypatch.setattr(
            check_module, "is_being_written", lambda path: [writer.close(), look(path)][1]
        )
        assert FileState.CLOSED is read_facts(partial).state

    def test_every_changed_byte_is_found(self, tmp_path):
        """A changed byte anywhere is found, and in a block is located to that block."""
        path = writer_of(tmp_path).close().path
        data = path.read_bytes()
        begins = [each.offset for each in read_footer(path).index]
        unfound, elsewhere = [], []
        for at in range(len(data)):
            changed = bytearray(data)
            changed[at] ^= 0x10
            path.write_bytes(changed)
            damages = check_recording(path).damages
            if not damages:
                unfound.append(at)
            elif begins[0] <= at < begins[-1] and not any(
                each.offset <= at < each.offset + each.size_bytes for each in damages
            ):
                elsewhere.append(at)
        assert ([], []) == (unfound, elsewhere)

    def test_a_block_that_was_taken_out_is_found(self, tmp_path):
        """A file of whole blocks that lacks one is not what its footer counts."""
        path = writer_of(tmp_path).close().path
        data, index = path.read_bytes(), read_footer(path).index
        path.write_bytes(data[: index[1].offset] + data[index[2].offset :])
        assert () != check_recording(path).damages

    def test_files_that_are_not_closed(self, tmp_path):
        """A file that is written is not one that was left, and that is not a recovered one."""
        writer = writer_of(tmp_path)
        (partial,) = find_recordings([tmp_path])
        assert FileState.WRITTEN is read_facts(partial).state
        left = partial.with_name(partial.name.replace("run", "left"))
        left.write_bytes(partial.read_bytes())
        writer.close()
        assert FileState.LEFT_OPEN is check_recording(left).state
        recovered = check_recording(recover(left).closed.path)
        assert (FileState.RECOVERED, 12, ()) == (
            recovered.state,
            recovered.records,
            recovered.damages,
        )

    @pytest.mark.parametrize("content", [b"", b"no recording at all, but for its name"])
    def test_what_is_no_recording(self, tmp_path, content):
        """A file that only has the name is damaged, and its hash is that of its bytes."""
        path = tmp_path / "00_host_run_0.recording"
        path.write_bytes(content)
        found = check_recording(path)
        assert (FileState.UNREADABLE, hashlib.sha256(content).hexdigest(), True) == (
            found.state,
            found.sha256,
            bool(found.damages),
        )

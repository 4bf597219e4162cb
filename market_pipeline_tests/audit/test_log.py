"""Facts about appending to the audit log and reading it back."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.synchronize import Event
from pathlib import Path

import msgspec
import pytest

from market_pipeline.audit.chain import ChainKey, line_of, parsed
from market_pipeline.audit.log import AuditLog, log_files
from market_pipeline.audit.verify import Anchor, Fault, Verified, read_entries, verify
from market_pipeline.errors import WarehouseBusyError
from market_pipeline_tests.defs.workspace import PATIENCE_SECONDS, forks

KEY = ChainKey.derived(bytes(range(32)))


def log_of(folder: Path, key: ChainKey = KEY, **options: int) -> AuditLog:
    return AuditLog(folder, key, "somebody", **options)


def write(log: AuditLog, numbers: range) -> None:
    for number in numbers:
        log.append("cli", "test", "read", {"number": number}, flush=False)


def ten_entries(folder: Path, key: ChainKey = KEY) -> Path:
    write(log_of(folder, key), range(1, 11))
    (file,) = log_files(folder)
    return file


def kinds(found: Verified) -> list[str]:
    return [each.kind for each in found.faults]


def write_in_a_process(folder: Path, first: int) -> None:
    write(log_of(folder, max_bytes=20_000), range(first, first + 250))


def write_for_ever(folder: Path, begun: Event) -> None:
    log = log_of(folder)
    write(log, range(1))
    begun.set()
    while True:
        write(log, range(100))


class TestAppend:
    def test_entries_are_chained_and_private(self, tmp_path: Path):
        """Entries count from 1, verify with their key, and lie in a 0600 file of a 0700 folder."""
        file = ten_entries(tmp_path / "audit")
        found = verify(file.parent, KEY)
        modes = [
            stat.S_IMODE(each.stat().st_mode) for each in (*file.parent.iterdir(), file.parent)
        ]
        assert (10, 10, 0, 10, []) == (
            *(found.entries, found.keyed, found.plain, found.last, found.faults),
        )
        assert [0o600, 0o600, 0o700] == modes
        assert [*range(1, 11)] == [each.what["number"] for each in read_entries(file.parent)]

    def test_four_processes_at_once(self, tmp_path: Path):
        """What four processes write at once, over several files, is one chain with every entry."""
        writers = [
            forks().Process(target=write_in_a_process, args=(tmp_path, 250 * number))
            for number in range(4)
        ]
        for each in writers:
            each.start()
        for each in writers:
            each.join()
        found = verify(tmp_path, KEY)
        assert ([0] * 4, 1_000, []) == (
            [each.exitcode for each in writers],
            found.entries,
            found.faults,
        )
        assert found.files > 5
        assert {*range(1_000)} == {each.what["number"] for each in read_entries(tmp_path)}

    def test_a_file_that_is_full_is_followed(self, tmp_path: Path):
        """Files are named by their first sequence, and the chain goes on through them."""
        log = log_of(tmp_path, max_bytes=1_000)
        write(log, range(20))
        first = [json.loads(path.open().readline())["sequence"] for path in log_files(tmp_path)]
        assert first == [int(path.stem) for path in log_files(tmp_path)]
        assert (20, [], True) == (
            verify(tmp_path, KEY).entries,
            verify(tmp_path, KEY).faults,
            len(first) > 3,
        )

    def test_a_file_that_was_begun_and_not_written_to(self, tmp_path: Path):
        """A process killed between two files leaves an empty one, which the chain goes on in."""
        file = ten_entries(tmp_path)
        (tmp_path / "000000000011.jsonl").touch(0o600)
        write(log_of(tmp_path), range(1))
        found = verify(file.parent, KEY)
        assert (2, 11, []) == (found.files, found.last, found.faults)

    @pytest.mark.parametrize("cut", [1, 40, 240])
    def test_a_torn_line_is_accounted_for(self, tmp_path: Path, cut: int):
        """What a kill leaves of a line is ended and recorded by the next entry."""
        file = ten_entries(tmp_path)
        content = file.read_bytes()
        file.write_bytes(content + content.splitlines()[-1][:cut])
        before = verify(tmp_path, KEY)
        write(log_of(tmp_path), range(1))
        after = verify(tmp_path, KEY)
        assert (cut, [], 0, 12, []) == (
            *(before.torn_bytes, before.faults),
            *(after.torn_bytes, after.entries, after.faults),
        )

    def test_an_entry_that_lacks_its_end(self, tmp_path: Path):
        """A line that is whole but for its end is an entry, which the next one ends."""
        file = ten_entries(tmp_path)
        file.write_bytes(file.read_bytes()[:-1])
        write(log_of(tmp_path), range(1))
        assert (11, []) == (verify(tmp_path, KEY).entries, verify(tmp_path, KEY).faults)

    def test_a_writer_that_is_killed(self, tmp_path: Path):
        """After kill -9 in the middle of writing, the next process goes on and all verifies."""
        for _ in range(3):
            begun = forks().Event()
            writer = forks().Process(target=write_for_ever, args=(tmp_path, begun))
            writer.start()
            assert begun.wait(PATIENCE_SECONDS)
            writer.kill()
            writer.join()
        write(log_of(tmp_path), range(1))
        assert [] == verify(tmp_path, KEY).faults

    def test_a_full_disk(self, tmp_path: Path, full_at: Callable[[int], AbstractContextManager]):
        """An entry that the disk takes a part of is an error, and accounted for by the next one."""
        file = ten_entries(tmp_path)
        log = log_of(tmp_path)
        with full_at(file.stat().st_size + 30), pytest.raises(OSError, match="File too large"):
            write(log, range(1))
        write(log, range(1))
        assert (12, []) == (verify(tmp_path, KEY).entries, verify(tmp_path, KEY).faults)

    def test_a_holder_that_stands_still(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """A lock that another process keeps is an error that names the file, and not a wait."""
        monkeypatch.setattr("market_pipeline.audit.log._WAIT_SECONDS", 0.05)
        other = log_of(tmp_path)
        with other._alone(), pytest.raises(WarehouseBusyError, match=str(tmp_path / "lock")):
            write(log_of(tmp_path), range(1))

    def test_nobody_waits_for_a_flush(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """While a process flushes, which a busy disk makes long, others append."""
        log, other = log_of(tmp_path), log_of(tmp_path)
        write(log, range(1))
        monkeypatch.setattr("market_pipeline.audit.log._WAIT_SECONDS", 0.05)
        monkeypatch.setattr("os.fsync", lambda _: write(other, range(1)))
        log.append("cli", "", "delete", {}, flush=True)
        assert 3 == log.last()[0]
        assert (4, []) == (verify(tmp_path, KEY).last, verify(tmp_path, KEY).faults)

    def test_what_is_no_text(self, tmp_path: Path):
        """A name that is no text is recorded in a form that is."""
        log_of(tmp_path).append("cli", "", "read", {"file": "\udcff", "at": tmp_path}, flush=True)
        log_of(tmp_path).append("cli", "", "read", {"at": tmp_path}, flush=True)
        assert [True, True] == [str(tmp_path) in str(each.what) for each in read_entries(tmp_path)]
        assert [] == verify(tmp_path, KEY).faults

    def test_a_link_is_not_followed(self, tmp_path: Path):
        """A file that is a link to another place is refused."""
        (tmp_path / "audit").mkdir()
        (tmp_path / "audit/000000000001.jsonl").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError, match="symbolic link"):
            write(log_of(tmp_path / "audit"), range(1))
        assert not (tmp_path / "elsewhere").exists()


def changed(lines: list[bytes]) -> None:
    lines[4] = lines[4].replace(b"somebody", b"sombeody")


def code_changed(lines: list[bytes]) -> None:
    lines[4] = lines[4].replace(b'"}\n', b'0"}\n')


def deleted(lines: list[bytes]) -> None:
    del lines[4]


def several_deleted(lines: list[bytes]) -> None:
    del lines[4:7]


def first_deleted(lines: list[bytes]) -> None:
    del lines[0]


def swapped(lines: list[bytes]) -> None:
    lines[4], lines[5] = lines[5], lines[4]


def repeated(lines: list[bytes]) -> None:
    lines.insert(5, lines[4])


def put_in(lines: list[bytes]) -> None:
    lines.insert(4, b"{}\n")


class TestTampering:
    @pytest.mark.parametrize(
        ("tamper", "expected"),
        [
            (changed, [("changed", 5, "entry 5 is not as it was written")]),
            (code_changed, [("changed", 5, "entry 5"), ("changed", 6, "entry 6")]),
            (deleted, [("deleted", 5, "entry 5 is not there")]),
            (several_deleted, [("deleted", 5, "entries 5 to 7 are not there")]),
            (first_deleted, [("deleted", 1, "entry 1 is not there")]),
            (swapped, [("moved", 6, "entry 5 stands behind 6")]),
            (repeated, [("moved", 6, "entry 5 stands behind 5")]),
            (put_in, [("no_entry", 5, "2 bytes are no entry")]),
        ],
        ids=lambda value: getattr(value, "__name__", ""),
    )
    def test_found_and_located(self, tmp_path: Path, tamper, expected):
        """What was tampered with is found, by its kind, in its line, and nothing else is."""
        file = ten_entries(tmp_path)
        lines = file.read_bytes().splitlines(keepends=True)
        tamper(lines)
        file.write_bytes(b"".join(lines))
        found = verify(tmp_path, KEY).faults
        assert [(kind, line) for kind, line, _ in expected] == [(f.kind, f.line) for f in found]
        for fault, (_, _, text) in zip(found, expected, strict=True):
            assert (file.name, True) == (fault.file, fault.found.startswith(text))

    def test_a_tail_that_is_cut_off(self, tmp_path: Path):
        """Only an anchor shows that the end is gone; it says from where."""
        file = ten_entries(tmp_path)
        last = Anchor(*log_of(tmp_path).last(), "run 1")
        lines = file.read_bytes().splitlines(keepends=True)
        whole = verify(tmp_path, KEY, [last])
        file.write_bytes(b"".join(lines[:7]))
        assert ([], 10, 1) == (whole.faults, whole.anchored, whole.anchors)
        assert [] == verify(tmp_path, KEY).faults
        assert [
            Fault("cut_off", "entries 8 to 10 are not there, and run 1 has the last of them")
        ] == verify(tmp_path, KEY, [last]).faults

    def test_a_log_made_anew(self, tmp_path: Path):
        """A log without a key that somebody writes anew is whole, and is not that of the anchor."""
        file = ten_entries(tmp_path, ChainKey())
        last = Anchor(*log_of(tmp_path, ChainKey()).last(), "run 1")
        file.unlink()
        ten_entries(tmp_path, ChainKey())
        assert ([], ["changed"]) == (
            kinds(verify(tmp_path, ChainKey())),
            kinds(verify(tmp_path, ChainKey(), [last])),
        )

    def test_the_log_is_removed_under_a_writer(self, tmp_path: Path):
        """A process that has the log open goes on counting: what was removed is a gap."""
        log = log_of(tmp_path / "audit")
        write(log, range(5))
        for path in (tmp_path / "audit").iterdir():
            path.unlink()
        write(log, range(1))
        write(log_of(tmp_path / "audit"), range(1))
        found = verify(tmp_path / "audit", KEY)
        assert (2, ["deleted"], 1) == (found.entries, kinds(found), found.faults[0].line)

    def test_the_folder_is_moved_under_writers(self, tmp_path: Path):
        """Those that had it open and those that begin behind that go on as one chain."""
        logs = [log_of(tmp_path / "audit") for _ in range(2)]
        for log in logs:
            write(log, range(2))
        (tmp_path / "audit").rename(tmp_path / "moved")
        write(logs[1], range(1))
        begun = log_of(tmp_path / "audit")
        with begun._alone():
            assert not logs[0]._locked()
        for log in (begun, *logs):
            write(log, range(1))
        found = verify(tmp_path / "audit", KEY)
        assert (4, 8, ["deleted"]) == (found.entries, found.last, kinds(found))

    def test_a_sequence_far_behind_the_last(self, tmp_path: Path):
        """An entry that was put in with a huge sequence is found at once."""
        file = ten_entries(tmp_path)
        entry, _ = parsed(file.read_bytes().splitlines()[-1])
        far = msgspec.structs.replace(entry, sequence=1 << 60, mac="")
        with file.open("ab") as end:
            end.write(line_of(far, "", ChainKey())[0])
        assert [("deleted", f"entries 11 to {(1 << 60) - 1} are not there")] == [
            (each.kind, each.found) for each in verify(tmp_path, KEY).faults
        ]

    def test_codes_computed_without_the_key(self, tmp_path: Path):
        """Who has no key cannot change an entry and compute it and all behind it anew."""
        ten_entries(tmp_path / "true")
        entries = [*read_entries(tmp_path / "true")]
        forged = log_of(tmp_path / "forged", ChainKey(bytes(32), KEY.name))
        for each in entries:
            forged.append(each.component, each.why, each.action, each.what, flush=False)
        assert ["changed"] * 10 == kinds(verify(tmp_path / "forged", KEY))


class TestKeys:
    def test_entries_without_a_key_between_others(self, tmp_path: Path):
        """Processes with and without the key share a log; those without are counted and named."""
        for number in range(5):
            write(log_of(tmp_path, KEY if number % 2 else ChainKey()), range(2))
        found = verify(tmp_path, KEY)
        assert (4, 6, []) == (found.keyed, found.plain, found.faults)
        assert [(5, 6), (9, 10)] == found.unproven

    def test_a_tail_is_replaced_without_the_key(self, tmp_path: Path):
        """What stands there instead is named, also once an entry with the key follows."""
        file = ten_entries(tmp_path)
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:7]))
        write(log_of(tmp_path, ChainKey()), range(3))
        write(log_of(tmp_path), range(1))
        assert ([], [(8, 10)]) == (verify(tmp_path, KEY).faults, verify(tmp_path, KEY).unproven)

    def test_an_entry_without_a_key_is_proven_by_the_next_with_one(self, tmp_path: Path):
        """Who changes one and computes its code anew is found by the entry behind it."""
        write(log_of(tmp_path, ChainKey()), range(1))
        write(log_of(tmp_path), range(1))
        (file,) = log_files(tmp_path)
        other = log_of(tmp_path / "other", ChainKey())
        write(other, range(9, 10))
        (forged,) = log_files(tmp_path / "other")
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(forged.read_bytes() + lines[1])
        assert [("changed", 2)] == [(f.kind, f.line) for f in verify(tmp_path, KEY).faults]

    def test_another_key(self, tmp_path: Path):
        """Entries of a key that is not set are reported once for each, by name, as unchecked."""
        keys = KEY, ChainKey.derived(b"x" * 32)
        for key in (*keys, *keys):
            write(log_of(tmp_path, key), range(2))
        for key in (ChainKey(), ChainKey.derived(bytes(32))):
            faults = verify(tmp_path, key).faults
            assert ["unchecked"] * 2 == [each.kind for each in faults]
            assert all(key.name in each.found for key, each in zip(keys, faults, strict=True))

"""Sealed files and their keys: what opens them, what does not, and what a kill leaves."""

from __future__ import annotations

import base64
import os
import random
import signal
import stat
import subprocess
import sys
import time

import polars as pl
import pytest

from market_pipeline.errors import SealError
from market_pipeline.security import files
from market_pipeline.security.envelope import Slot, read_all_slots, slots_path, write_slots
from market_pipeline.security.files import (
    find_sealed,
    find_slots,
    open_sealed,
    reseal,
    rewrap,
    sealed_whole,
)
from market_pipeline.security.ring import KeyRing

MASTER, OTHER_MASTER = bytes(range(32)), bytes(range(1, 33))
CONTENT = random.Random(3).randbytes(2_300_000)


@pytest.fixture
def ring(tmp_path):
    """A ring with a key for exports."""
    ring = KeyRing(tmp_path / "keys", MASTER)
    ring.new("exports")
    return ring


def make(path, ring, content=CONTENT, purpose="exports"):
    with sealed_whole(path, ring, purpose) as stream:
        stream.write(content)
    return path


@pytest.fixture
def file(tmp_path, ring):
    return make(tmp_path / "rows.sealed", ring)


def content_of(path, ring, **how):
    with open_sealed(path, ring, **how) as found:
        return found.read()


def refusal(path, ring):
    with pytest.raises(SealError) as caught:
        content_of(path, ring)
    return caught.value


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_read_as_a_plain_file(file, ring):
    """Any part is read as of a plain file, and nothing of what is in it lies on the disk."""
    with open_sealed(file, ring) as found:
        for offset, size in [(0, 5), (1_048_500, 50), (2_299_990, 100), (7, 2_000_000), (9**8, 1)]:
            found.seek(offset)
            assert CONTENT[offset : offset + size] == found.read(size)
        assert len(CONTENT) == found.seek(0, os.SEEK_END)
    assert CONTENT[:64] not in file.read_bytes()
    assert (0o600, 0o600) == (mode(file), mode(slots_path(file)))
    assert [file] == find_sealed([file.parent, file.parent])


def test_a_library_reads_it(tmp_path, ring):
    """Polars reads a sealed Parquet file through the file object."""
    rows = pl.DataFrame({"price": range(100_000)})
    path = tmp_path / "rows.parquet.sealed"
    with sealed_whole(path, ring, "exports") as stream:
        rows.write_parquet(tmp_path / "plain")
        stream.write((tmp_path / "plain").read_bytes())
    with open_sealed(path, ring) as found:
        assert rows.equals(pl.read_parquet(found))


def test_no_file_is_replaced(file, ring):
    """A name that is taken is refused, and the file stays."""
    with pytest.raises(SealError, match="already"):
        make(file, ring, b"other")
    assert CONTENT == content_of(file, ring)


def test_what_fails_leaves_no_file(tmp_path, ring):
    """A source that breaks off leaves no sealed file, and the name can be used again."""
    path = tmp_path / "rows.sealed"
    with pytest.raises(OSError, match="broke"), sealed_whole(path, ring, "exports") as stream:
        stream.write(b"half")
        raise OSError("the source broke")
    assert [] == list(tmp_path.glob("rows*"))
    assert b"whole" == content_of(make(path, ring, b"whole"), ring)


def test_another_master_key(file, ring):
    """It opens nothing and seals nothing, and the error names key and file, and no key's bytes."""
    other = KeyRing(ring.path.parent, OTHER_MASTER)
    error = refusal(file, other)
    key = ring.active("exports").id
    assert str(file) == error.file
    assert f"{key}: the master key is not the one it was made with" == error.found
    assert OTHER_MASTER.hex() not in f"{error} {vars(error)}"
    with pytest.raises(SealError, match="not the one"):
        make(file.with_name("more.sealed"), other)


def test_no_master_key(file, ring):
    """Without one nothing is opened, and the error says so."""
    assert "no master key is set" in refusal(file, KeyRing(ring.path.parent, None)).found


def test_without_the_ring(file, ring, tmp_path):
    """The master key alone opens a file: the ring holds nothing that cannot be done without."""
    assert CONTENT == content_of(file, KeyRing(tmp_path / "elsewhere", MASTER))


def test_rotation(file, ring):
    """The new key opens, the file's bytes stay, and the old key can be destroyed."""
    before, old = file.read_bytes(), ring.active("exports").id
    ring.new("exports")
    assert CONTENT == content_of(file, ring)
    assert 0 < rewrap(file, ring) < 1_000
    assert 0 == rewrap(file, ring)
    assert before == file.read_bytes()
    ring.destroy(old)
    assert CONTENT == content_of(file, ring)
    assert CONTENT == content_of(file, KeyRing(ring.path.parent, MASTER))


def test_a_destroyed_key(file, ring):
    """What it sealed is gone, and it seals nothing more."""
    key = ring.active("exports").id
    ring.destroy(key)
    assert f"{key}: it was destroyed" == refusal(file, ring).found
    with pytest.raises(SealError, match="no key for exports"):
        make(file.with_name("more.sealed"), ring)


def test_resealed(file, ring):
    """With another file key nothing of the old sealed bytes stays, and the content does."""
    before, slots = file.read_bytes(), slots_path(file).read_bytes()
    assert len(CONTENT) == reseal(file, ring)
    assert CONTENT == content_of(file, ring)
    assert before[200:] != file.read_bytes()[200:]
    assert slots != slots_path(file).read_bytes()
    assert 1 == len(read_all_slots(file))


def test_a_host_that_seals_and_does_not_open(tmp_path, ring):
    """With the public half alone a file is sealed, and only the other host opens it."""
    pair = ring.new("captures", pair=True)
    host = KeyRing(tmp_path / "host", None)
    assert pair.id == host.adopt(pair.public_text).id
    path = make(tmp_path / "hour.sealed", host, purpose="captures")
    assert "no master key is set" in refusal(path, host).found
    assert CONTENT == content_of(path, ring)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "captures-20261125-0f1e2d3c",
        "captures-20261125-0f1e2d3c:AAAA",
        "trades-20261125-0f1e2d3c:" + "A" * 43 + "=",
        "captures-20261125-0f1e2d3c:" + "é" * 44,
        "captures-20261125-0f1e2d3c:" + "A" * 43 + "=",
    ],
)
def test_no_public_key(ring, text):
    """A text that is none is refused, and the ring stays."""
    with pytest.raises(SealError, match="cannot be read"):
        ring.adopt(text)
    assert 1 == len(KeyRing(ring.path.parent, MASTER).keys)


def test_slots_of_another_file(file, ring, tmp_path):
    """The slots beside it, or a single slot, of another file open nothing."""
    other = make(tmp_path / "other.sealed", ring, b"other")
    mine, theirs = read_all_slots(file), read_all_slots(other)
    slots_path(file).write_bytes(slots_path(other).read_bytes())
    assert "beside the sealed file are those of another" in refusal(file, ring).problem
    write_slots(file, {name: next(iter(theirs.values())) for name in mine})
    assert "the slot is of another file" in refusal(file, ring).found
    write_slots(file, mine)
    assert CONTENT == content_of(file, ring)


def test_a_changed_slot(file, ring):
    """A slot with any byte changed opens nothing."""
    ((name, (slot,)),) = read_all_slots(file).items()
    for at in range(len(slot.wrapped)):
        wrapped = bytearray(slot.wrapped)
        wrapped[at] ^= 1
        write_slots(file, {name: [type(slot)(slot.key, slot.kind, bytes(wrapped))]})
        assert "the slot was changed" in refusal(file, ring).found


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff",
        b'{"0":[{"key":1}]}',
        b'{"0":[{"key":"","kind":"aes-kw","wrapped":"","x":' + b"[" * 30_000,
        b"{" + b" " * (1 << 16) + b"}",
    ],
    ids=range(7),
)
def test_damaged_slots(file, ring, text):
    """Slots that cannot be read, or none, are an error that names their file."""
    slots_path(file).write_bytes(text)
    error = refusal(file, ring)
    assert str(slots_path(file)) == error.file


def test_a_changed_head(file, ring):
    """A head with any byte changed is refused: the sealed bytes are bound to it."""
    content = bytearray(file.read_bytes())
    begin = content.index(b"}") + 1
    for at in range(begin):
        content[at] ^= 1
        file.write_bytes(bytes(content))
        assert refusal(file, ring).file in {str(file), str(slots_path(file))}
        content[at] ^= 1
    file.write_bytes(bytes(content))
    assert CONTENT == content_of(file, ring)


def test_slots_of_a_file_that_was_moved_away_stay(file, ring):
    """A new file under its name takes no key from it: put back, it opens."""
    aside = file.with_name("aside")
    file.rename(aside)
    make(file, ring, b"new").unlink()
    aside.rename(file)
    assert CONTENT == content_of(file, ring)


def test_rotation_leaves_the_slots_of_a_file_that_was_moved_away(file, ring):
    """The file that has its name now is given to the new key, and the one put back opens."""
    aside = file.with_name("aside")
    file.rename(aside)
    make(file, ring, b"new")
    ring.new("exports")
    rewrap(file, ring)
    reseal(file, ring)
    aside.replace(file)
    assert CONTENT == content_of(file, ring)


def test_rotated_and_destroyed_while_it_is_sealed(tmp_path, ring):
    """What is being sealed when another process destroys its key is given to the active one."""
    old, path = ring.active("exports").id, tmp_path / "hour.sealed"
    with sealed_whole(path, ring, "exports") as stream:
        stream.write(b"rows")
        elsewhere = KeyRing(ring.path.parent, MASTER)
        elsewhere.new("exports")
        elsewhere.destroy(old)
    assert b"rows" == content_of(path, elsewhere)


def test_no_file_is_given_to_a_key_that_another_process_destroyed(file, ring):
    """Its old key goes on opening it; and what another process destroyed opens nothing here."""
    old, new = ring.active("exports").id, ring.new("exports").id
    elsewhere = KeyRing(ring.path.parent, MASTER)
    elsewhere.destroy(new)
    with pytest.raises(SealError, match="no key for exports"):
        rewrap(file, ring)
    assert CONTENT == content_of(file, ring)
    elsewhere.destroy(old)
    assert "it was destroyed" in refusal(file, ring).found


def test_a_key_is_destroyed_only_as_agreed(ring):
    """If it opens something else by then, it stays."""
    key = ring.active("exports")
    with pytest.raises(SealError, match="changed meanwhile"):
        ring.destroy(key.id, agreed=lambda: False)
    assert key == KeyRing(ring.path.parent, None).active("exports")


def test_two_seal_one_name_at_once(tmp_path, ring):
    """The first to end has it, the other is refused, and no slot of that one stays."""
    path = tmp_path / "rows.sealed"
    with pytest.raises(SealError, match="already"), sealed_whole(path, ring, "exports") as late:
        late.write(b"late")
        make(path, ring, b"first")
        ring.new("exports")
        rewrap(path, ring)
    assert b"first" == content_of(path, ring)
    assert 1 == len(read_all_slots(path))
    assert [] == list(tmp_path.glob("*.partial"))


def test_resealed_while_it_is_opened(file, ring, monkeypatch):
    """Whoever opens it between its head and its slots gets it all the same."""
    read_slots = files.read_slots

    def late(path, file_id):
        monkeypatch.undo()
        reseal(path, ring)
        return read_slots(path, file_id)

    monkeypatch.setattr(files, "read_slots", late)
    assert CONTENT == content_of(file, ring)


def test_two_reseal_one_file_at_once(file, ring, monkeypatch):
    """The second is refused, and what the first sealed opens."""
    stream = files.SealingStream

    def late(*parts):
        monkeypatch.undo()
        reseal(file, ring)
        return stream(*parts)

    monkeypatch.setattr(files, "SealingStream", late)
    with pytest.raises(SealError, match="replaced while"):
        reseal(file, ring)
    assert CONTENT == content_of(file, ring)


def test_a_link_stands_for_its_file(file, ring, tmp_path):
    """Rotated or resealed by a link it is the file that is, and the link stays one."""
    link = tmp_path / "link.sealed"
    link.symlink_to(file)
    before, old = file.read_bytes(), ring.active("exports").id
    ring.new("exports")
    rewrap(link, ring)
    ring.destroy(old)
    reseal(link, ring)
    assert (True, False) == (link.is_symlink(), before == file.read_bytes())
    assert CONTENT == content_of(file, ring)


def test_what_a_kill_leaves_is_opened_under_its_name(file, ring):
    """The slots of the file that was being sealed are found for its first part."""
    partial = file.rename(f"{file}.{'0' * 32}.partial")
    os.truncate(partial, 3 << 19)
    found = content_of(partial, ring, crashed=True)
    assert CONTENT[: len(found)] == found
    assert len(found) > 1_000_000


def test_more_slots_than_are_read_are_not_written(file, ring):
    """They are refused, and those that are there stay."""
    slot = Slot("exports", "aes-kw", bytes(56))
    with pytest.raises(SealError, match="too many"):
        write_slots(file, {str(number): [slot] for number in range(900)})
    assert CONTENT == content_of(file, ring)


@pytest.mark.parametrize("make_it", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("which", [lambda path: path, slots_path], ids=["file", "slots"])
def test_no_regular_file(file, ring, make_it, which):
    """A pipe or folder in its place is an error at once, and none is found by looking."""
    which(file).unlink()
    make_it(which(file))
    with pytest.raises((OSError, SealError), match=r"not a regular|Is a directory"):
        content_of(file, ring)
    assert file not in (find_sealed if which(file) == file else find_slots)([file.parent])


def test_a_folder_that_cannot_be_read_is_not_passed_over(file):
    """What lies in it would be missed."""
    with pytest.raises(NotADirectoryError):
        find_sealed([file])


def test_a_deep_head(file, ring):
    """A head of lists in lists is refused as any other."""
    text = b'{"id":"' + b"0" * 32 + b'","purpose":"raw","x":' + b"[" * 30_000
    file.write_bytes(b"MPSEALED" + len(text).to_bytes(2, "little") + text)
    assert "does not begin" in refusal(file, ring).problem


def test_a_ring_has_one_master_key(ring):
    """With another none is made, and the active one stays; once they are destroyed it is."""
    other, key = KeyRing(ring.path.parent, OTHER_MASTER), ring.active("exports")
    with pytest.raises(SealError, match="not the one"):
        other.new("exports")
    assert key == KeyRing(ring.path.parent, MASTER).active("exports")
    other.destroy(key.id)
    assert other.new("exports") == other.active("exports")


def test_a_public_half_that_hides_nothing(ring):
    """A point of low order is refused when it is taken, and when it stands in the ring."""
    ring.adopt("raw-20261125-0f1e2d3c:" + base64.b64encode(bytes([9] + [0] * 31)).decode())
    before = base64.b64encode(bytes([9] + [0] * 31))
    ring.path.write_bytes(ring.path.read_bytes().replace(before, base64.b64encode(bytes(32))))
    with pytest.raises(SealError, match="public half is none"):
        make(ring.path.with_name("rows.sealed"), ring, purpose="raw")


@pytest.mark.parametrize("text", [b"[" * 60_000, b'[{"id":' + b"[" * 60_000, b" " * (1 << 23)])
def test_a_ring_that_is_no_list_of_keys(ring, text):
    """However deep or large, it is an error."""
    ring.path.write_bytes(text)
    with pytest.raises(SealError, match="ring"):
        KeyRing(ring.path.parent, MASTER)


def test_a_damaged_ring(ring):
    """A ring that cannot be read is an error, and is not replaced by an empty one."""
    ring.path.write_bytes(b"[")
    with pytest.raises(SealError, match="ring"):
        KeyRing(ring.path.parent, MASTER)
    assert b"[" == ring.path.read_bytes()


_WORK = """
import sys
from pathlib import Path
from market_pipeline.security.files import find_sealed, reseal, rewrap
from market_pipeline.security.ring import KeyRing
folder = Path(sys.argv[1])
ring = KeyRing(folder / "keys", bytes(range(32)))
print("ready", flush=True)
while True:
    ring.new("exports")
    for path in find_sealed([folder]):
        rewrap(path, ring)
        reseal(path, ring)
"""


@pytest.mark.slow
def test_killed_at_any_moment(file, ring, tmp_path):
    """Killed while keys are made, slots are replaced and files resealed, every file opens."""
    small = make(tmp_path / "small.sealed", ring, b"small")
    for seed in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", _WORK, str(tmp_path)], stdout=subprocess.PIPE
        ) as process:
            assert b"ready\n" == process.stdout.readline()
            time.sleep(random.Random(seed).random() / 4)
            process.send_signal(signal.SIGKILL)
        now = KeyRing(ring.path.parent, MASTER)
        assert b"small" == content_of(small, now)
        assert CONTENT == content_of(file, now)
    assert ring.keys[0].id not in {
        slot.key for each in read_all_slots(file).values() for slot in each
    }

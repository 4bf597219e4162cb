"""Files that lie sealed are what they were; sealing one never loses it."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market_pipeline.errors import SealError
from market_pipeline.security import sealing
from market_pipeline.security.envelope import slots_path
from market_pipeline.security.ring import KeyRing
from market_pipeline.security.sealing import seal_in_place
from market_pipeline.security.segments import SEGMENT_BYTES
from market_pipeline.security.stored import (
    copy_stored,
    is_sealed,
    is_stored,
    open_stored,
    plain_name,
    remove_stored,
    sealed_path,
    stored_digest,
    stored_in,
    stored_size,
    stored_stat,
)
from market_pipeline_tests.security.keys import use_keys

CONTENT = random.Random(5).randbytes(2_300_000)
# Where the plain bytes of the first, and of the second segment end.
FIRST = SEGMENT_BYTES - 40 - 16
BORDERS = [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + SEGMENT_BYTES - 16]


@pytest.fixture
def ring(tmp_path, monkeypatch):
    return use_keys(monkeypatch, tmp_path / "data", "captures", "raw")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "hour" / "00_host.recording"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    os.utime(path, ns=(1, 1_700_000_000_123_456_789))
    return path


def content_of(path):
    with open_stored(path) as found:
        return found.read()


def test_sealed_it_is_what_it_was(file, ring):
    """Name, size, hash and time of change stay, and nothing of it lies plain."""
    before = (
        stored_size(file),
        stored_digest(file),
        stored_stat(file),
        stored_in(file.parent),
    )
    assert not is_sealed(file)
    seal_in_place(file, ring, "captures")
    assert not file.exists()
    assert is_sealed(file)
    after = (
        stored_size(file),
        stored_digest(file),
        stored_stat(file),
        stored_in(file.parent),
    )
    assert before == after
    assert CONTENT == content_of(file)
    assert stored_digest(file, "md5") == hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    sealed = sealed_path(file)
    assert [file] * 3 == [plain_name(each) for each in (file, sealed, slots_path(sealed))]
    remove_stored(file)
    assert [] == list(file.parent.iterdir())


@pytest.mark.parametrize("size", BORDERS)
def test_the_size_needs_no_key(tmp_path, ring, monkeypatch, size):
    """Also at the borders of segments it is that of the plain file."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT[:size])
    seal_in_place(path, ring, "raw")
    monkeypatch.delenv("PIPELINE_MASTER_KEY")
    assert size == stored_size(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reads=st.lists(
        st.tuples(
            st.one_of(st.integers(0, len(CONTENT) + 9), st.sampled_from(BORDERS)),
            st.one_of(st.integers(-1, 3), st.integers(0, SEGMENT_BYTES * 2)),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_part_is_read_as_of_the_plain_file(tmp_path_factory, ring, reads):
    """Reads from any place, of any length, give what the plain file gives, and end where it does.

    The property of reading: `seek`, `read` and `readinto`.
    """
    path = tmp_path_factory.getbasetemp() / "any_part"
    if not is_stored(path):
        path.write_bytes(CONTENT)
        seal_in_place(path, ring, "raw")
    with open_stored(path) as found:
        for offset, size in reads:
            found.seek(offset)
            expected = CONTENT[offset:] if size < 0 else CONTENT[offset : offset + size]
            assert expected == found.read(size)
            assert offset + len(expected) == found.tell()
            buffer = bytearray(max(size, 0))
            found.seek(offset)
            assert len(expected) >= found.readinto(buffer) or size < 0


def test_there_both_ways(file, ring):
    """As a kill leaves it, it is one file, and sealing it again ends with the sealed one."""
    seal_in_place(file, ring, "captures")
    before = sealed_path(file).read_bytes()
    file.write_bytes(CONTENT)
    assert ([file], False) == (stored_in(file.parent), is_sealed(file))
    seal_in_place(file, ring, "captures")
    assert (True, before) == (is_sealed(file), sealed_path(file).read_bytes())


@pytest.mark.parametrize("other", [b"other", CONTENT[:-1] + b"!"], ids=["size", "bytes"])
def test_something_else_lies_sealed_beside_it(file, ring, other):
    """Neither is touched, the plain one is read, and the error names the sealed one."""
    seal_in_place(file, ring, "captures")
    file.write_bytes(other)
    with pytest.raises(SealError, match="not what is in the plain file") as caught:
        seal_in_place(file, ring, "captures")
    assert str(sealed_path(file)) == caught.value.file
    assert other == content_of(file)
    file.unlink()
    assert CONTENT == content_of(file)


def test_a_host_that_cannot_open(file, ring, tmp_path, monkeypatch):
    """It seals with a public half, also what a kill left both ways; the other host opens it."""
    host = KeyRing(tmp_path / "host", None)
    host.adopt(ring.new("captures", pair=True).public_text)
    seal_in_place(file, host, "captures")
    file.write_bytes(CONTENT)
    seal_in_place(file, host, "captures")
    assert CONTENT == content_of(file)
    monkeypatch.delenv("PIPELINE_MASTER_KEY")
    with pytest.raises(SealError, match="no master key"):
        open_stored(file)
    assert len(CONTENT) == stored_size(file)


@pytest.mark.parametrize("opens", [True, False], ids=["opens", "seals only"])
def test_what_the_disk_changed_is_found(file, ring, tmp_path, monkeypatch, opens):
    """Sealed bytes that come back otherwise cost the sealed file, not the plain one."""
    host = ring
    if not opens:
        host = KeyRing(tmp_path / "host", None)
        host.adopt(ring.new("captures", pair=True).public_text)
    rename = os.rename

    def damaging(path, target):
        rename(path, target)
        if target == sealed_path(file):
            damaged = bytearray(target.read_bytes())
            damaged[SEGMENT_BYTES + 500_000] ^= 1
            target.write_bytes(damaged)

    monkeypatch.setattr(os, "rename", damaging)
    with pytest.raises(SealError, match=r"not as it was sealed|not what is in"):
        seal_in_place(file, host, "captures")
    assert [file] == list(file.parent.iterdir())


@pytest.mark.parametrize("change", ["replaced", "written to", "removed"])
def test_changed_before_the_plain_one_goes(file, ring, monkeypatch, change):
    """What another process puts there while it is read back stays, and nothing sealed does."""
    read_back = sealing._sha256

    def changing(opened):
        found = read_back(opened)
        if change == "written to":
            file.write_bytes(b"new")
        elif change == "removed":
            file.unlink()
        else:
            (file.parent / "new").write_bytes(CONTENT)
            os.utime(file.parent / "new", ns=(1, file.stat().st_mtime_ns))
            (file.parent / "new").replace(file)
        return found

    monkeypatch.setattr(sealing, "_sha256", changing)
    with pytest.raises(FileNotFoundError if change == "removed" else SealError):
        seal_in_place(file, ring, "captures")
    assert ([] if change == "removed" else [file]) == list(file.parent.iterdir())


def test_the_plain_one_of_two_is_removed(file, ring, monkeypatch):
    """Who deletes the plain one of the two that a kill left keeps the sealed one."""
    seal_in_place(file, ring, "captures")
    file.write_bytes(CONTENT)
    compare = sealing._refuse_other

    def removing(*arguments, **options):
        compare(*arguments, **options)
        file.unlink()

    monkeypatch.setattr(sealing, "_refuse_other", removing)
    with pytest.raises(FileNotFoundError):
        seal_in_place(file, ring, "captures")
    assert CONTENT == content_of(file)


def test_a_link_is_not_sealed(file, ring, tmp_path):
    """The file that it leads to would stay plain behind what says that it is sealed."""
    link = tmp_path / "link.recording"
    link.symlink_to(file)
    with pytest.raises(SealError, match="A link is not sealed"):
        seal_in_place(link, ring, "captures")
    assert (True, False, CONTENT) == (link.is_symlink(), is_sealed(link), content_of(file))


def test_what_kills_left_is_removed(file, ring):
    """A kill leaves a part as large as the file; the next sealing removes it, and no other's."""
    left = [file.with_name(f"{file.name}{each}.{'0' * 32}.partial") for each in (".sealed", "")]
    for path in left:
        path.touch()
    seal_in_place(file, ring, "captures")
    assert {left[1], sealed_path(file), slots_path(sealed_path(file))} == {*file.parent.iterdir()}
    assert CONTENT == content_of(file)


def test_a_sealed_file_that_is_sealed_is_not_removed_with_the_first(file, ring):
    """Removing a file takes what belongs to its name, and to no longer one."""
    seal_in_place(file, ring, "captures")
    file.write_bytes(CONTENT)
    other = sealed_path(sealed_path(file))
    other.touch()
    remove_stored(file)
    assert [other] == list(file.parent.iterdir())


def test_no_key(file, ring):
    """What there is no key for stays plain, and so does what a destroyed one would seal."""
    ring.destroy(ring.active("captures").id)
    with pytest.raises(SealError, match="no key for captures"):
        seal_in_place(file, ring, "captures")
    assert [file] == list(file.parent.iterdir())


def test_a_lost_key_names_key_and_file(file, ring):
    """A destroyed key is an error that names both."""
    seal_in_place(file, ring, "captures")
    key = ring.active("captures").id
    ring.destroy(key)
    with pytest.raises(SealError, match=f"{key}: it was destroyed") as caught:
        open_stored(file)
    assert str(sealed_path(file)) == caught.value.file


def test_a_copy_stays_sealed(file, ring, tmp_path):
    """It is copied without a key, and opens as the first does."""
    seal_in_place(file, ring, "captures")
    copy_stored(file, tmp_path / "copy")
    assert is_sealed(tmp_path / "copy")
    assert CONTENT == content_of(tmp_path / "copy")


_CHILD = """
import sys
from pathlib import Path
from market_pipeline.config.settings import load_settings
from market_pipeline.security.master import ring_of
from market_pipeline.security.sealing import seal_in_place

ring = ring_of(load_settings())
for path in sorted(Path(sys.argv[1]).glob("*.recording")):
    print("next", flush=True)
    seal_in_place(path, ring, "captures")
"""


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path, ring):
    """After kill -9 each file is there once with what was in it, and sealing ends it."""
    folder, chance = tmp_path / "hours", random.Random(11)
    folder.mkdir()
    files = {folder / f"{at:02}.recording": chance.randbytes(1_500_000) for at in range(30)}
    for path, content in files.items():
        path.write_bytes(content)
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(folder)], stdout=subprocess.PIPE
        )
        for _ in range(chance.randrange(1, 4)):
            child.stdout.readline()
        time.sleep(chance.uniform(0, 0.02))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        for path, content in files.items():
            assert content == content_of(path)
        assert sorted(files) == [each for each in stored_in(folder) if is_stored(each)]
    assert 0 < sum(map(is_sealed, files)) < len(files)
    for path in folder.glob("*.recording"):
        seal_in_place(path, ring, "captures")
    assert all(is_sealed(path) and content_of(path) == files[path] for path in files)
    for path in files:
        remove_stored(path)
    assert [] == list(folder.iterdir())

from __future__ import annotations

import os
import socket
import stat
import time

from market_pipeline.warehouse.heartbeats import Sign, beat, heartbeats, stop_beating
from market_pipeline.warehouse.layout import Warehouse


def test_the_last_sign_is_read(tmp_path):
    """Of each process there is the last sign with its state, and none after its end."""
    warehouse = Warehouse(tmp_path / "data")
    beat(warehouse, "capture-A/B", b'{"frames":1}')
    beat(warehouse, "capture-A/B", b'{"frames":2}')
    beat(warehouse, "other")
    first, second = heartbeats(warehouse)

    assert ("capture-A/B", socket.gethostname(), os.getpid()) == (
        first.process,
        first.host,
        first.pid,
    )
    assert (b'{"frames":2}', b"null") == (bytes(first.state), bytes(second.state))
    assert abs(time.time_ns() - first.wall_ns) < 60 * 10**9
    stop_beating(warehouse, "capture-A/B")
    stop_beating(warehouse, "capture-A/B")
    assert ["other"] == [each.process for each in heartbeats(warehouse)]


def test_files_are_their_owners_alone(tmp_path):
    """Folder and files have the modes 0700 and 0600, and nothing half-written is left."""
    warehouse = Warehouse(tmp_path / "data")
    beat(warehouse, "one")
    (file,) = warehouse.heartbeats_dir.iterdir()

    assert (0o600, 0o700) == (
        stat.S_IMODE(file.stat().st_mode),
        stat.S_IMODE(file.parent.stat().st_mode),
    )


def test_what_cannot_be_read_is_as_old_as_its_file(tmp_path):
    """A damaged sign is one of its process, of the time when it was written, and hides no other."""
    warehouse = Warehouse(tmp_path / "data")
    beat(warehouse, "one")
    (file,) = warehouse.heartbeats_dir.iterdir()
    file.write_bytes(b"{")
    os.utime(file, ns=(5, 5 * 10**9))
    folder = warehouse.heartbeats_dir / "other@box.json"
    folder.mkdir()
    os.utime(folder, ns=(6, 6 * 10**9))

    assert [("one", 0, 5 * 10**9), ("other", 0, 6 * 10**9)] == [
        (each.process, each.pid, each.wall_ns) for each in heartbeats(warehouse)
    ]


def test_a_sign_is_written_when_it_is_due(tmp_path):
    """Once in 30 s, whatever the disk says, until its end."""
    warehouse = Warehouse(tmp_path / "data")
    sign = Sign(warehouse, "one")
    sign.beat(b"1")
    sign.beat(b"2")

    assert [b"1"] == [bytes(each.state) for each in heartbeats(warehouse)]
    sign.stop()
    assert [] == heartbeats(warehouse)
    (tmp_path / "file").touch()
    Sign(Warehouse(tmp_path / "file"), "two").beat()

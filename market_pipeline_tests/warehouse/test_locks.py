from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from market_pipeline.errors import WarehouseBusyError
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.locks import holding, locking, newest_change, take_lock

_HOLD = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def stopped(tmp_path) -> Iterator[tuple[Path, int]]:
    """A lock file, and the process that holds it and was stopped, as by Ctrl-Z."""
    file = Warehouse(tmp_path).lock_file("working")
    file.parent.mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(file)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        yield file, process.pid
    finally:
        process.kill()
        process.communicate()


class TestStoppedHolder:
    def test_a_lock_file(self, stopped):
        """A wait for a process that was stopped ends, and names it and says that it is stopped."""
        file, pid = stopped
        with pytest.raises(WarehouseBusyError) as caught, locking(file, timeout_seconds=0.1):
            pass

        assert (str(file), "working.lock was in use by another process for 0.1 s") == (
            caught.value.file,
            caught.value.problem,
        )
        assert caught.value.found is not None
        assert caught.value.found.startswith(f"process {pid} (python")
        assert caught.value.found.endswith("state T (stopped)")

    def test_a_lock_of_the_warehouse(self, stopped, tmp_path):
        """So does the wait for a lock of the warehouse, which says the same."""
        _, pid = stopped
        with (
            pytest.raises(WarehouseBusyError, match=rf"found=process {pid} .*stopped") as caught,
            holding(Warehouse(tmp_path, 0.1), "working"),
        ):
            pass

        assert "working was in use by another process for 0.1 s" == caught.value.problem


class TestWaiting:
    def test_a_sign_of_life(self, tmp_path):
        """A holder that goes on working is waited for longer than the limit, until it is done."""
        file = tmp_path / "lock"
        held = os.open(file, os.O_RDWR | os.O_CREAT)
        fcntl.flock(held, fcntl.LOCK_EX)
        signs, began = count(), time.monotonic()
        ends = threading.Timer(0.5, os.close, [held])
        ends.start()
        with locking(file, sign=lambda: next(signs), timeout_seconds=0.1):
            waited = time.monotonic() - began
        ends.join()

        assert waited > 0.1

    def test_shared(self, tmp_path):
        """Any number may share a lock, and who wants it alone waits for them."""
        first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
        try:
            take_lock(first, tmp_path, shared=True, timeout_seconds=0)
            take_lock(second, tmp_path, shared=True, timeout_seconds=0)
            with pytest.raises(WarehouseBusyError), locking(tmp_path, timeout_seconds=0):
                pass
        finally:
            os.close(first)
            os.close(second)
        with locking(tmp_path, timeout_seconds=0):
            assert [] == list(tmp_path.iterdir())

    def test_newest_change(self, tmp_path):
        """What is written anywhere below a folder is a sign; a missing folder gives none."""
        (tmp_path / "below").mkdir()
        file = tmp_path / "below" / "file"
        file.touch()
        os.utime(file, ns=(0, 4_000_000_000_000_000_000))

        assert (4_000_000_000_000_000_000, 0) == (
            newest_change(tmp_path),
            newest_change(tmp_path / "nowhere"),
        )

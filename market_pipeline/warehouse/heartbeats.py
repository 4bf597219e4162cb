"""Heartbeats of long-lived processes: a file each, written again and again while it works.

One that ends as it was asked to takes its file away. So a file that is old is of a process that was
killed, hangs, or can write no more, and whoever looks need not know how to look at a process.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import msgspec

from market_pipeline.warehouse.layout import Warehouse, make_private_folder, written_whole

__all__ = ["BEAT_SECONDS", "Heartbeat", "Sign", "beat", "heartbeats", "stop_beating"]

BEAT_SECONDS = 10.0
"""How often a long-lived process beats."""


class Heartbeat(msgspec.Struct, frozen=True):
    """The last sign of a process.

    Attributes:
        process: What it does, such as `capture-BINANCE`; with the host it names the process.
        host, pid: Where it runs, and as which process.
        wall_ns: When it was written, ns UTC by the clock of that host.
        state: What the process says of itself, JSON of its own form; null if nothing.
    """

    process: str
    host: str
    pid: int
    wall_ns: int
    state: msgspec.Raw = msgspec.Raw(b"null")


_heartbeat = msgspec.json.Decoder(Heartbeat)


def beat(warehouse: Warehouse, process: str, state: bytes = b"null") -> None:
    """Writes the sign of a process; not flushed to disk, as it is worth nothing after a power cut.

    Args:
        warehouse: Below whose data folder.
        process: What the process does.
        state: JSON of what it says of itself.

    Raises:
        OSError: The disk takes nothing.
    """
    sign = Heartbeat(process, socket.gethostname(), os.getpid(), time.time_ns(), msgspec.Raw(state))
    make_private_folder(warehouse.heartbeats_dir)
    with written_whole(warehouse.heartbeats_dir / _name(process), flushed=False) as file:
        file.write(msgspec.json.encode(sign))


def stop_beating(warehouse: Warehouse, process: str) -> None:
    """Takes the sign of a process away, which ends as it was asked to."""
    (warehouse.heartbeats_dir / _name(process)).unlink(missing_ok=True)


class Sign:
    """The heartbeat of a process, written from the loop that does its work: it stops where that
    hangs.

    Args:
        warehouse: Below whose data folder.
        process: What the process does.
    """

    def __init__(self, warehouse: Warehouse, process: str) -> None:
        self._warehouse, self._process = warehouse, process
        self._beaten_s = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether the last one is `BEAT_SECONDS` old."""
        return time.monotonic() - self._beaten_s >= BEAT_SECONDS

    def beat(self, state: bytes = b"null") -> None:
        """Writes it when it is due; a disk that takes none is for others to report."""
        if self.is_due:
            self._beaten_s = time.monotonic()
            with suppress(OSError):
                beat(self._warehouse, self._process, state)

    def stop(self) -> None:
        """Takes it away, at the end that was asked for."""
        with suppress(OSError):
            stop_beating(self._warehouse, self._process)


def heartbeats(warehouse: Warehouse) -> list[Heartbeat]:
    """The last sign of each process that has not ended as it was asked to, by name."""
    found = []
    for path in sorted(warehouse.heartbeats_dir.glob("*.json")):
        with suppress(FileNotFoundError):  # it ended meanwhile
            found.append(_read(path))
    return found


def _read(path: Path) -> Heartbeat:
    """The sign in a file; of one that cannot be read what its name and age say."""
    written_ns = path.stat().st_mtime_ns
    try:
        return _heartbeat.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, RecursionError):
        process, _, host = path.stem.rpartition("@")
        return Heartbeat(process, host, 0, written_ns)


def _name(process: str) -> str:
    return f"{quote(process, safe='-_.')}@{quote(socket.gethostname(), safe='-_.')}.json"

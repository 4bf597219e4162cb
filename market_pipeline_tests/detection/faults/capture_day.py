"""A websocket capture in memory: its lines, which faults transform, and the files they become."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["CaptureDay", "Line", "depth_ids"]


@dataclass(frozen=True)
class Line:
    """A line of a capture file.

    Attributes:
        text: Its bytes without the line feed.
        kind: depth, rest, or other, as it was recorded.
        message: Which message of the clean day it is; -1 if none.
    """

    text: bytes
    kind: str
    message: int

    @property
    def stamp(self) -> bytes:
        """The local stamp."""
        return self.text.partition(b" ")[0]

    @property
    def frame(self) -> dict[str, Any]:
        """The frame without its envelope."""
        body = json.loads(self.text.partition(b" ")[2])
        frame: dict[str, Any] = body.get("data", body)
        return frame

    def with_frame(self, **changed: Any) -> Line:
        """The line with other values in its frame."""
        body = json.loads(self.text.partition(b" ")[2])
        body.get("data", body).update(changed)
        text = json.dumps(body, separators=(",", ":")).encode()
        return replace(self, text=self.stamp + b" " + text)

    def with_stamp(self, stamp: int | bytes) -> Line:
        """The line with another local stamp."""
        written = stamp if isinstance(stamp, bytes) else str(stamp).encode()
        return replace(self, text=written + b" " + self.text.partition(b" ")[2])


@dataclass(frozen=True, eq=False)
class CaptureDay:
    """The capture of one instrument and day.

    Attributes:
        market, venue, symbol, day: Whose.
        lines: In the order of the file.
        place: Where faults happen, as a share of the depth events.
        more: Further files of the day, by the end of their names.
        joined_by: What ends a line.
        damage: What happens to the bytes of the first file, in order.
    """

    market: str
    venue: str
    symbol: str
    day: date
    lines: tuple[Line, ...]
    place: float = 0.5
    more: tuple[tuple[str, tuple[Line, ...]], ...] = ()
    joined_by: bytes = b"\n"
    damage: tuple[Callable[[bytes], bytes], ...] = ()

    def put(self, lines: list[Line] | tuple[Line, ...]) -> CaptureDay:
        """The day with other lines."""
        return replace(self, lines=tuple(lines))

    def of_kind(self, kind: str) -> list[int]:
        """The places of the lines of a kind."""
        return [at for at, line in enumerate(self.lines) if line.kind == kind]

    def depth_at(self, beyond: int = 0, place: float | None = None) -> int:
        """The place of the depth event at a share of the day, or some events beyond it."""
        events = self.of_kind("depth")
        share = self.place if place is None else place
        return events[max(0, min(len(events) - 1, int(len(events) * share) + beyond))]

    def change(self, at: int, change: Callable[[Line], Line]) -> CaptureDay:
        """The day with one line changed."""
        return self.put([*self.lines[:at], change(self.lines[at]), *self.lines[at + 1 :]])

    def write(self, lake: Path) -> None:
        """Writes the day's files, the same bytes for the same lines."""
        folder = lake / "binance_capture" / self.market
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{self._symbol().lower()}_{self.day:%Y%m%d}"
        content = _zipped(self.lines, self.joined_by)
        for damage in self.damage:
            content = damage(content)
        (folder / f"{stem}.gz").write_bytes(content)
        for end, lines in self.more:
            (folder / f"{stem}{end}.gz").write_bytes(_zipped(lines, self.joined_by))

    def _symbol(self) -> str:
        if self.market == "coinm":
            pair, _, contract = self.symbol.rpartition("-")
            return f"{pair.replace('-', '')}_{contract}"
        return self.symbol.removesuffix("-PERP").replace("-", "")


def _zipped(lines: tuple[Line, ...], joined_by: bytes) -> bytes:
    # The level costs more time than all the rest of a case.
    return gzip.compress(b"".join(each.text + joined_by for each in lines), 1, mtime=0)


def depth_ids(lines: tuple[Line, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Update id, local stamp and message of all lines that can be read as depth events."""
    found = []
    for line in lines:
        if b"depthUpdate" not in line.text:
            continue
        stamp, _, body = line.text.partition(b" ")
        begin = body.find(b'"u":') + 4
        digits = body[begin : begin + 20].split(b",")[0].strip()
        if stamp.isdigit() and digits.isdigit() and int(digits) < 2**63 and int(stamp) < 2**63:
            found.append((int(digits), _ns(int(stamp)), line.message))
    columns = np.array(found, np.int64).reshape(-1, 3)
    return columns[:, 0], columns[:, 1], columns[:, 2]


def _ns(stamp: int) -> int:
    if 10**12 <= stamp < 10**13:
        return stamp * 1_000_000
    return stamp * 1_000 if 10**15 <= stamp < 10**16 else stamp

"""What a capture is doing, as its view shows it and its status lines have it."""

from __future__ import annotations

import msgspec

__all__ = ["Status", "StreamStatus"]


class StreamStatus(msgspec.Struct):
    """One stream.

    Attributes:
        frames: Recorded from all connections.
        messages: After duplicates were left out.
        duplicates: What another connection had brought before.
        filled: Messages that one connection lost and another had.
        gaps: What no connection had.
        silence: Empty, `warning` or `error`, the worst of its connections.
        last_wall_ns: When its last frame arrived; null before the first.
    """

    frames: int = 0
    messages: int = 0
    duplicates: int = 0
    filled: int = 0
    gaps: int = 0
    silence: str = ""
    last_wall_ns: int | None = None


class Status(msgspec.Struct):
    """The whole capture at a moment.

    Attributes:
        wall_ns: The moment.
        frames: Recorded since the start.
        frames_per_second: Since the status before.
        lag_p50_ms, lag_p99_ms: From receipt to the system, of the last flushes; null before any.
        waiting: Frames that the system does not have yet.
        connections, links: How many are live, and how many there are to be.
        reconnects: Connections that ended without being replaced before.
        undecodable: Frames that are no message of the venue; they are recorded like all.
        snapshots, refused: Whole books taken over REST, and refusals with 429 or 418.
        free_bytes: What the disk has left.
        offset_ms: The machine's clock less the venue's; null if unknown.
        disk: Why nothing can be written; empty if it can.
        streams: Every stream by its name.
    """

    wall_ns: int
    frames: int = 0
    frames_per_second: float = 0.0
    lag_p50_ms: float | None = None
    lag_p99_ms: float | None = None
    waiting: int = 0
    connections: int = 0
    links: int = 0
    reconnects: int = 0
    undecodable: int = 0
    snapshots: int = 0
    refused: int = 0
    free_bytes: int = 0
    offset_ms: float | None = None
    disk: str = ""
    streams: dict[str, StreamStatus] = {}

    @property
    def gaps(self) -> int:
        """Gaps of all streams."""
        return sum(stream.gaps for stream in self.streams.values())

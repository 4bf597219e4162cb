"""What a capture is doing, as its view shows it and its status lines have it."""

from __future__ import annotations

import msgspec

from market_pipeline.capture.stream_state import StreamSeconds
from market_pipeline.quality.intervals import NS_PER_SECOND

__all__ = ["SinkStatus", "Status", "StreamStatus"]


class StreamStatus(msgspec.Struct):
    """One stream.

    Attributes:
        frames: Recorded from all connections.
        messages: After duplicates were left out.
        duplicates: What another connection had brought before.
        filled: Messages that one connection lost and another had.
        gaps: What no connection had.
        silence: Empty, `warning` or `error`, the worst of its connections.
        unheard: The same, the least of its open connections: what is not empty comes over none.
        last_wall_ns: When its last frame arrived; null before the first.
        verified_s: For how long the venue's proof vouches for it; they and the next three add up to
            the time observed.
        unverifiable_s: For how long it came and the venue proves nothing.
        gap_s: For how long something was missing, or its book not right.
        downtime_s: For how long no connection had it.
        book: `syncing`, `live`, `resync`, `down`, `off` after a fault of ours; empty without one.
        reason: What made the book so.
        resyncs: How often a whole book took its place.
        refused_levels: Levels that are no whole number of ticks or lots.
        klines_equal, klines_different: Closed klines of the venue that are our bars of their
            minutes, and that are not.
        bars: Bars that were closed.
        late_trades: Prints that came after their bar was closed.
    """

    frames: int = 0
    messages: int = 0
    duplicates: int = 0
    filled: int = 0
    gaps: int = 0
    silence: str = ""
    unheard: str = ""
    last_wall_ns: int | None = None
    verified_s: float = 0.0
    unverifiable_s: float = 0.0
    gap_s: float = 0.0
    downtime_s: float = 0.0
    book: str = ""
    reason: str = ""
    resyncs: int = 0
    refused_levels: int = 0
    klines_equal: int = 0
    klines_different: int = 0
    bars: int = 0
    late_trades: int = 0

    def count(self, seconds: StreamSeconds) -> None:
        """Takes the time in each state over."""
        self.verified_s = seconds.verified_ns / NS_PER_SECOND
        self.unverifiable_s = seconds.unverifiable_ns / NS_PER_SECOND
        self.gap_s = seconds.gap_ns / NS_PER_SECOND
        self.downtime_s = seconds.downtime_ns / NS_PER_SECOND


class SinkStatus(msgspec.Struct):
    """One sink.

    Attributes:
        written: Rows it took.
        dropped, waiting: Batches that were dropped before it, and that wait.
        blocked_s: For how long books and bars waited for it.
        commits, failures: How often it put rows where they are safe, and could not.
        paced_s: For how long rows waited for its rows a second.
        share: How full its queue is.
        left_out: Rows it raised at, or was not given as it had raised at others of their kind.
    """

    written: int = 0
    dropped: int = 0
    waiting: int = 0
    blocked_s: float = 0.0
    commits: int = 0
    failures: int = 0
    paced_s: float = 0.0
    share: float = 0.0
    left_out: int = 0


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
        derived_waiting, derived_dropped: Frames that wait for books and bars, and that these never
            had because they were too slow; all are recorded.
        derived_share: How full their queue is.
        conflated: Best quotes that no sink was given, as a later one was while a sink was behind.
        snapshots_held_s: For how long REST snapshots were put off because books or sinks were
            behind.
        verified_share: Verified time of the time observed, of all streams whose venue proves
            something; null before any.
        switched_off: Books and bars that failed, and kinds of rows that a sink failed at, until it
            takes such again; why.
        sinks: Every sink by its name.
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
    derived_waiting: int = 0
    derived_dropped: int = 0
    derived_share: float = 0.0
    conflated: int = 0
    snapshots_held_s: float = 0.0
    verified_share: float | None = None
    switched_off: dict[str, str] = {}
    sinks: dict[str, SinkStatus] = {}
    streams: dict[str, StreamStatus] = {}

    @property
    def gaps(self) -> int:
        """Gaps of all streams."""
        return sum(stream.gaps for stream in self.streams.values())

    def count_verified(self) -> None:
        """Brings `verified_share` up to date."""
        proven = [each for each in self.streams.values() if not each.unverifiable_s]
        whole = sum(each.verified_s + each.gap_s + each.downtime_s for each in proven)
        self.verified_share = sum(each.verified_s for each in proven) / whole if whole else None

"""What a span of recordings proves: ids in order, gaps found, filled and left, and verified time.

A gap of one host that another host has is filled; of a single host the connections stand for the
hosts. What nobody has is left. Ids are those of the venue, so only streams that number their
messages prove anything; time of the others is unverifiable.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from market_pipeline.sources.recording.format import RecordKind
from market_pipeline.sources.recording.heads import Heads
from market_pipeline.sources.recording.hours import HOUR_NS
from market_pipeline.sources.recording.union import Received, file_name, union
from market_pipeline.sources.recording.uptime import Uptime
from market_pipeline.sources.venues.continuity import Sequence as Ids
from market_pipeline.sources.venues.continuity import Step
from market_pipeline.sources.venues.merge import Hole, Merge, Message
from market_pipeline.sources.venues.venue import NO_PROOF, Classified, Continuity, Scope

__all__ = ["FoundGap", "Hour", "HourGaps", "SpanProof", "StreamProof"]

_FILL_S = 1.0
"""So long a message of one host waits for another of its connections to have those before it."""


class StreamProof(msgspec.Struct):
    """What a span holds of a stream, each message once.

    Attributes:
        messages: From all connections and hosts, each once.
        first_id, last_id: None where its messages have no ids.
        repeated, out_of_order: Messages with an id that was there before, or below it.
        gaps: Left: what no host had.
        missing_ids: In those gaps; of a chain, whose ids have holes, the ids between. None where
            ids prove nothing.
        verified_ns, unverifiable_ns, gap_ns, downtime_ns: How long ids vouch for it, nothing could,
            something is missing, and no host had a connection. Together they are the span.
    """

    messages: int = 0
    first_id: int | None = None
    last_id: int | None = None
    repeated: int = 0
    out_of_order: int = 0
    gaps: int = 0
    missing_ids: int | None = None
    verified_ns: int = 0
    unverifiable_ns: int = 0
    gap_ns: int = 0
    downtime_ns: int = 0


class HourGaps(msgspec.Struct):
    """Gaps of a stream in an hour: found, and what became of them."""

    found: int = 0
    filled: int = 0
    left: int = 0


class Hour(msgspec.Struct):
    """An hour of the wall clock, by its begin in UTC.

    Attributes:
        gaps: By stream; streams without a gap are left out.
        frames: How many frames and snapshots came from which file, by its day and name.
    """

    hour: str
    gaps: dict[str, HourGaps] = {}
    frames: dict[str, int] = {}


class FoundGap(NamedTuple):
    """A gap: after and before which id, and who lacked it.

    Attributes:
        wall_ns: When the message behind it was received.
        host, connection: Who lacked it; None if all did, or if it is of all connections of a host.
        filled_by: The file that what was missing came from; None if it is left.
    """

    stream: str
    wall_ns: int
    after_id: int
    before_id: int
    host: int | None = None
    connection: int | None = None
    filled_by: Path | None = None


class _Stream:
    """A stream of the union: its ids, its gaps, and until when its time was accounted for."""

    def __init__(self, rule: Continuity, start_ns: int) -> None:
        is_proven = rule.start(0, 0, 0) is not None
        self.ids = Ids(rule) if is_proven and rule.scope is Scope.SYMBOL else None
        self.proof = StreamProof(missing_ids=None if self.ids is None else 0)
        self.until_ns = start_ns
        self.left_after, self.left_before = array("q"), array("q")
        self.pending: list[FoundGap] = []
        self.file: Path | None = None

    def has_left(self, after_id: int, before_id: int) -> bool:
        """Whether ids between these are missing from all hosts."""
        at = bisect_left(self.left_before, after_id + 1)
        return at < len(self.left_after) and self.left_after[at] < before_id


class SpanProof:
    """Goes through the records of a span once; bounded by two seconds of frames.

    Args:
        heads: Of the venue.
        hosts: The files of each host, the earliest first.
        start_ns, end_ns: The span; records received outside it are passed over.
        on_gap: Takes each gap once it is known what became of it.

    Attributes:
        streams: By name.
        first_ns, last_ns: When the first and the last frame was received; None without one.
    """

    def __init__(
        self,
        heads: Heads,
        hosts: Sequence[Sequence[Path]],
        start_ns: int,
        end_ns: int,
        on_gap: Callable[[FoundGap], None] = lambda gap: None,
    ) -> None:
        self.streams: dict[str, StreamProof] = {}
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self._heads, self._span, self._on_gap = heads, (start_ns, end_ns), on_gap
        self._several = len(hosts) > 1
        self._rules = {c.kind: c.continuity for c in heads.reader.venue.channels}
        self._uptime = Uptime(hosts, start_ns)
        self._streams: dict[str, _Stream] = {}
        self._merges: dict[tuple[str, int, int | None], Merge] = {}
        self._gaps: dict[int, dict[str, HourGaps]] = defaultdict(dict)
        self._frames: dict[int, Counter[str]] = defaultdict(Counter)
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of all frames and snapshots of the union: stream, length and bytes of each."""
        return self._hash.hexdigest()

    def hours(self) -> list[Hour]:
        """Every hour that has a frame or a gap, in order."""
        return [
            Hour(
                f"{datetime.fromtimestamp(hour * 3600, UTC):%Y-%m-%dT%H:%MZ}",
                dict(sorted(self._gaps.get(hour, {}).items())),
                dict(sorted(self._frames.get(hour, Counter()).items())),
            )
            for hour in sorted({*self._gaps, *self._frames})
        ]

    def union(self, arrivals: Iterable[Received]) -> Iterator[tuple[Received, Classified]]:
        """Yields the frames and snapshots of all hosts once each, with their heads.

        Args:
            arrivals: The records of all hosts, in the order of receipt.
        """
        for arrival in union(self._heard(arrivals), self._heads.update_id):
            record = arrival.record
            head = self._heads.of(record.payload)
            self._hash.update(b"%b %d " % (record.stream.encode(), len(record.payload)))
            self._hash.update(record.payload)
            self._frames[arrival.at_ns // HOUR_NS][file_name(arrival.file)] += 1
            self.first_ns = arrival.at_ns if self.first_ns is None else self.first_ns
            self.last_ns = max(self.last_ns or 0, arrival.at_ns)
            if record.kind == RecordKind.FRAME and head.kind in self._rules:
                self._take(arrival, head)
            yield arrival, head
        for stream in self._streams.values():
            self._resolve(stream, None)
            self._account(stream, self._span[1], Step.UNPROVEN)

    def _heard(self, arrivals: Iterable[Received]) -> Iterator[Received]:
        """The records of the span; what each host lacks is noted as they pass."""
        begin, end = self._span
        for arrival in arrivals:
            if not begin <= arrival.at_ns < end:
                continue
            self._uptime.hear(arrival)
            if arrival.record.kind == RecordKind.FRAME:
                self._follow_host(arrival)
            yield arrival
        self._uptime.end(end)
        for key, merge in self._merges.items():
            self._note_holes(key, merge, float("inf"))

    def _follow_host(self, arrival: Received) -> None:
        record = arrival.record
        head = self._heads.of(record.payload)
        if head.kind not in self._rules:
            return
        stream = self._stream(head)
        if stream.ids is None:
            return
        key = head.stream, arrival.host, None if self._several else record.connection
        merge = self._merges.get(key)
        if merge is None:
            merge = self._merges[key] = Merge(stream.ids.continuity, _FILL_S)
        now_s = arrival.at_ns / 1e9
        self._note_holes(key, merge, now_s)
        merge.push(Message(head, b"", arrival.at_ns, record.connection), now_s)

    def _note_holes(self, key: tuple[str, int, int | None], merge: Merge, now_s: float) -> None:
        name, host, connection = key
        while merge.is_waiting:
            holes, behind = merge.expire(now_s)
            if not holes:
                break
            for hole in holes:
                if hole.before_id > hole.after_id:
                    gap = FoundGap(name, behind[0].wall_ns, *hole, host, connection)
                    self._streams[name].pending.append(gap)

    def _stream(self, head: Classified) -> _Stream:
        stream = self._streams.get(head.stream)
        if stream is None:
            rule = self._rules.get(head.kind, NO_PROOF)
            stream = self._streams[head.stream] = _Stream(rule, self._span[0])
            self.streams[head.stream] = stream.proof
        return stream

    def _take(self, arrival: Received, head: Classified) -> None:
        stream, at_ns = self._stream(head), arrival.at_ns
        proof, seen = stream.proof, stream.ids.last_id if stream.ids else None
        proof.messages += 1
        if head.last_id is not None:
            proof.first_id = head.last_id if proof.first_id is None else proof.first_id
            proof.last_id = max(head.last_id, proof.last_id or 0)
        step = Step.UNPROVEN
        if stream.ids is not None:
            checked = stream.ids.check(head)
            step = checked.step
            start = checked.found
            if step is Step.GAP and seen is not None and start is not None:
                # One that begins within the message before was cut another way: nothing lacks.
                step = Step.GAP if start > seen else Step.FOLLOWS
                if step is Step.GAP:
                    self._leave(stream, head.stream, at_ns, Hole(seen, start))
        if step is Step.OLD:
            proof.repeated += head.last_id == seen
            proof.out_of_order += head.last_id != seen
            return
        self._resolve(stream, head.last_id)
        stream.file = arrival.file
        self._account(stream, at_ns, step)

    def _leave(self, stream: _Stream, name: str, wall_ns: int, hole: Hole) -> None:
        stream.proof.gaps += 1
        stream.proof.missing_ids = (stream.proof.missing_ids or 0) + hole.before_id - hole.after_id
        stream.left_after.append(hole.after_id)
        stream.left_before.append(hole.before_id)
        hour = self._hour(name, wall_ns)
        hour.found += 1
        hour.left += 1
        self._on_gap(FoundGap(name, wall_ns, *hole))

    def _resolve(self, stream: _Stream, last_id: int | None) -> None:
        """Decides of gaps of single hosts that the union has passed; None at the end."""
        if not stream.pending:
            return
        waiting = []
        for gap in stream.pending:
            if last_id is not None and last_id <= gap.before_id:
                waiting.append(gap)
            elif not stream.has_left(gap.after_id, gap.before_id):
                hour = self._hour(gap.stream, gap.wall_ns)
                hour.found += 1
                hour.filled += 1
                self._on_gap(gap._replace(filled_by=stream.file))
        stream.pending = waiting

    def _hour(self, stream: str, wall_ns: int) -> HourGaps:
        return self._gaps[wall_ns // HOUR_NS].setdefault(stream, HourGaps())

    def _account(self, stream: _Stream, until_ns: int, step: Step) -> None:
        """Adds the time up to an instant to what it was."""
        proof, begin_ns = stream.proof, stream.until_ns
        passed = until_ns - begin_ns
        if passed <= 0:
            return
        stream.until_ns = until_ns
        if step is Step.FOLLOWS:
            proof.verified_ns += passed
            return
        down = self._uptime.down_ns(begin_ns, until_ns)
        proof.downtime_ns += down
        if step is Step.GAP:
            proof.gap_ns += passed - down
        else:
            proof.unverifiable_ns += passed - down

"""The figures of a span: what `golden verify` compares with thresholds and with the manifest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from market_pipeline.errors import DomainError
from market_pipeline.sources.recording.format import RecordKind
from market_pipeline.sources.recording.heads import Heads
from market_pipeline.sources.recording.proof import FoundGap, Hour, HourGaps, SpanProof, StreamProof
from market_pipeline.sources.recording.reader import Damage
from market_pipeline.sources.recording.union import Received, received
from market_pipeline.sources.venues.records import Trade
from market_pipeline.sources.venues.venue import Classified, Kind, Venue

__all__ = ["Figures", "measure"]

_MINUTE_NS = 60_000_000_000
_PRINTS = (Kind.TRADES, Kind.AGG_TRADES)


class Figures(msgspec.Struct, frozen=True):
    """What a span of recordings is, all connections and hosts united.

    Attributes:
        hours: From the first to the last frame.
        messages: Of all streams, each once.
        out_of_order: Messages with an id below that of one before.
        missing_share: Missing ids over all ids from the first to the last, in the stream with ids
            that has most; null without one.
        verified_share: Of the span, in the stream with ids that has least; null without one.
        message_rate: Messages of the book a second of the time with a connection; null without one.
        volatility: Root mean square of the log returns between the last trades of minutes that have
            a trade, per minute; null with fewer than two.
        sha256: Of the frames and snapshots of the union, whatever files they lie in.
        streams: Each by its name.
        gaps_by_hour: With the file that each frame came from.
    """

    hours: float
    messages: int
    out_of_order: int
    missing_share: float | None
    verified_share: float | None
    message_rate: float | None
    volatility: float | None
    sha256: str
    streams: dict[str, StreamProof]
    gaps_by_hour: list[Hour]

    @property
    def gaps(self) -> HourGaps:
        """Gaps of all hours and streams."""
        gaps = [each for hour in self.gaps_by_hour for each in hour.gaps.values()]
        found, filled, left = (
            sum(getattr(each, name) for each in gaps) for name in HourGaps.__struct_fields__
        )
        return HourGaps(found, filled, left)


class _Closes:
    """The last print of each minute of event time, of the finest kind of print there is."""

    def __init__(self, heads: Heads) -> None:
        self._reader = heads.reader
        self._closes: dict[Kind, dict[int, float]] = {kind: {} for kind in _PRINTS}

    def take(self, kind: Kind, payload: bytes) -> None:
        if kind not in self._closes:
            return
        try:
            records = self._reader.records(payload, kind)
        except DomainError:
            return  # the frame is counted all the same, and its bytes are in the hash
        for trade in records:
            if isinstance(trade, Trade) and trade.is_market is not False and trade.price > 0:
                self._closes[kind][trade.ts_origin_ns // _MINUTE_NS] = trade.price

    def volatility(self) -> float | None:
        closes = next((each for each in self._closes.values() if each), {})
        prices = [closes[minute] for minute in sorted(closes)]
        squares = [math.log(later / price) ** 2 for price, later in pairwise(prices)]
        return math.sqrt(math.fsum(squares) / len(squares)) if squares else None


def measure(
    venue: Venue,
    hosts: Sequence[Sequence[Path]],
    span_ns: tuple[int, int],
    *,
    on_damage: Callable[[Damage], None] | None = None,
    on_frame: Callable[[Received, Classified], None] = lambda arrival, head: None,
    on_gap: Callable[[FoundGap], None] = lambda gap: None,
) -> Figures:
    """Reads a span of recordings once, whatever its length in bounded memory.

    Args:
        venue: Whose recordings.
        hosts: The files of each host, the earliest first.
        span_ns: From when to before when, ns UTC.
        on_damage: Takes what is damaged, which is passed over.
        on_frame: Takes each frame and snapshot of the union.
        on_gap: Takes each gap once it is known what became of it.

    Raises:
        LakeFileError: A recording cannot be read, or is damaged and `on_damage` is None.
    """
    heads = Heads(venue)
    proof, closes = SpanProof(heads, hosts, *span_ns, on_gap), _Closes(heads)
    for arrival, head in proof.union(received(hosts, on_damage)):
        on_frame(arrival, head)
        if arrival.record.kind == RecordKind.FRAME:
            closes.take(head.kind, arrival.record.payload)
    streams = dict(sorted(proof.streams.items()))
    with_ids = [each for each in streams.values() if each.missing_ids is not None]
    length_ns = max(span_ns[1] - span_ns[0], 1)
    return Figures(
        ((proof.last_ns or 0) - (proof.first_ns or 0)) / 3.6e12,
        sum(each.messages for each in streams.values()),
        sum(each.out_of_order for each in with_ids),
        max((_missing_share(each) for each in with_ids), default=None),
        min((each.verified_ns / length_ns for each in with_ids), default=None),
        _message_rate(streams, length_ns),
        closes.volatility(),
        proof.sha256,
        streams,
        proof.hours(),
    )


def _missing_share(proof: StreamProof) -> float:
    ids = (proof.last_id or 0) - (proof.first_id or 0) + 1
    return (proof.missing_ids or 0) / max(ids, 1)


def _message_rate(streams: dict[str, StreamProof], length_ns: int) -> float | None:
    for name, proof in streams.items():
        up_ns = length_ns - proof.downtime_ns
        if name.startswith(Kind.DEPTH) and up_ns > 0:
            return proof.messages / (up_ns / 1e9)
    return None

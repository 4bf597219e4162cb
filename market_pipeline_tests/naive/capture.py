"""The plain twin of the capture source: json and Decimal, the venue's procedure word for word."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

Levels = list[tuple[Decimal, Decimal]]


@dataclass(frozen=True)
class Event:
    """A depth event; `pu` is None on spot."""

    line: int
    first: int
    last: int
    before: int | None
    bids: Levels
    asks: Levels
    file: str = ""

    def continues(self, previous: Event) -> bool:
        if self.before is None:
            return self.first == previous.last + 1
        return self.before == previous.last

    def continues_snapshot(self, last_update_id: int) -> bool:
        if self.before is None:
            return self.first <= last_update_id + 1 <= self.last
        return self.before <= last_update_id <= self.last

    def is_in_snapshot(self, last_update_id: int) -> bool:
        if self.before is None:
            return self.last <= last_update_id
        return self.last < last_update_id


@dataclass(frozen=True)
class Rest:
    """A REST snapshot."""

    line: int
    last_update_id: int
    bids: Levels
    asks: Levels
    file: str = ""


@dataclass
class VenueBook:
    """Both sides by price, as the venue's documentation says to keep them."""

    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)

    def apply(self, event: Event | Rest) -> None:
        for side, levels in ((self.bids, event.bids), (self.asks, event.asks)):
            for price, size in levels:
                if size:
                    side[price] = size
                else:
                    side.pop(price, None)

    def sides(self, levels: int | None = None) -> tuple[Levels, Levels]:
        bids = sorted(self.bids.items(), reverse=True)[:levels]
        return bids, sorted(self.asks.items())[:levels]

    def sha256(self, levels: int | None = None) -> str:
        lines = [
            f"{mark} {price.normalize():f} {size.normalize():f}"
            for mark, side in zip("BA", self.sides(levels), strict=True)
            for price, size in side
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def naive_depth(files: list[Path], lines: int | None = None) -> tuple[list[Event], list[Rest]]:
    """The depth events and snapshots in the first lines of files without faults."""
    events, rests = [], []
    for file in files:
        texts = gzip.decompress(file.read_bytes()).splitlines()[:lines]
        for line, text in enumerate(texts, 1):
            if b"depthUpdate" not in text and b"lastUpdateId" not in text:
                continue
            frame = json.loads(text.split(b" ", 1)[1])
            frame = frame.get("data", frame)
            if frame.get("e") == "depthUpdate":
                ids = (frame["U"], frame["u"], frame.get("pu"))
                events.append(
                    Event(line, *ids, _levels(frame["b"]), _levels(frame["a"]), file.name)
                )
            elif "lastUpdateId" in frame:
                sides = (_levels(frame["bids"]), _levels(frame["asks"]))
                rests.append(Rest(line, frame["lastUpdateId"], *sides, file.name))
    return events, rests


def _levels(pairs: list[list[str]]) -> Levels:
    return [(Decimal(price), Decimal(size)) for price, size in pairs]


def venue_procedure(events: list[Event], rest: Rest) -> Iterator[tuple[Event, VenueBook]]:
    """The book after each event: drop what the snapshot holds, then every event must continue.

    Ends at the first event that does not. The book is the same object each time.
    """
    book = VenueBook()
    book.apply(rest)
    previous: Event | None = None
    for event in events:
        if event.is_in_snapshot(rest.last_update_id):
            continue
        linked = (
            event.continues_snapshot(rest.last_update_id)
            if previous is None
            else event.continues(previous)
        )
        if not linked:
            return
        book.apply(event)
        previous = event
        yield event, book


@dataclass(frozen=True)
class NaiveLinks:
    """Lines, as indices into the stream.

    Events left out, seen as gaps, applied, applied after a gap, after a gap that a snapshot closes,
    and to a book that is not known; and snapshots out of date.
    """

    left_out: list[int] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    applied: list[int] = field(default_factory=list)
    after_gap: list[int] = field(default_factory=list)
    recovered: list[int] = field(default_factory=list)
    not_known: list[int] = field(default_factory=list)
    snapshots_out_of_date: list[int] = field(default_factory=list)


def naive_links(stream: list[Event | Rest]) -> NaiveLinks:
    """What becomes of each event of a stream, said without state: by looking back each time.

    A book is known from the first snapshot it meets after whatever was lost last; in a gap only if
    that one leads to the event.
    """
    newest: list[int] = []
    left_out = []
    for at, event in enumerate(stream):
        if isinstance(event, Event):
            if newest and event.last <= stream[newest[-1]].last:
                left_out.append(at)
            else:
                newest.append(at)
    if not newest:
        return NaiveLinks(left_out)
    snapshots, out_of_date = _usable_snapshots(stream, stream[newest[0]])
    gaps = [at for before, at in pairwise(newest) if not stream[at].continues(stream[before])]
    links = NaiveLinks(left_out, gaps, snapshots_out_of_date=out_of_date)
    for k, at in enumerate(newest):
        event = stream[at]
        if not (event.bids or event.asks):
            continue
        # The events without levels just before it are as good as a part of it.
        first = k
        while (
            first > 0
            and newest[first] not in gaps
            and not (stream[newest[first - 1]].bids or stream[newest[first - 1]].asks)
        ):
            first -= 1
        begin = stream[newest[first]]
        whole = Event(0, begin.first, event.last, begin.before, [], [])
        previous = stream[links.applied[-1]] if links.applied else None
        between = [
            (index, rest)
            for index, rest, place in snapshots
            if place < event.last and (previous is None or place >= previous.last)
        ]
        lost = [gap for gap in gaps if gap <= at and (previous is None or gap > links.applied[-1])]
        if previous is None or lost:
            if not (between and whole.continues_snapshot(between[0][1].last_update_id)):
                links.after_gap.append(at)
            elif lost:
                links.recovered.append(at)
            out_of_date += [
                index
                for index, rest in between
                if not whole.continues_snapshot(rest.last_update_id)
                and (previous is None or rest.last_update_id > previous.last)
            ]
        links.applied.append(at)
        since = stream[links.after_gap[-1]].last if links.after_gap else 0
        if not any(since <= place < event.last for _, _, place in snapshots):
            links.not_known.append(at)
    return links


def _usable_snapshots(
    stream: list[Event | Rest], first: Event
) -> tuple[list[tuple[int, Rest, int]], list[int]]:
    """(index, snapshot, the id after which the book meets it), and those that are out of date."""
    usable: list[tuple[int, Rest, int]] = []
    out_of_date = []
    for at, rest in enumerate(stream):
        if isinstance(rest, Rest):
            too_old = rest.last_update_id < (
                first.first - 1 if first.before is None else first.before
            )
            if too_old or (usable and rest.last_update_id < usable[-1][1].last_update_id):
                out_of_date.append(at)
                continue
            # On futures the first one is met before the event with its own id.
            lower = first.before is not None and not usable
            usable.append((at, rest, rest.last_update_id - lower))
    return usable, out_of_date

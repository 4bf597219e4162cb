"""The plain twin of the rebuild: dicts and ints, one rule after the other, nothing clever.

It shares no code with the kernel but the meaning of the flags. The tests hold the two against each
other on random feeds, and the pipeline on sampled minutes of every real day (`stages.twin`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.quality.plain_feed import REFUSED, Levels, Message, Row, Snapshot

__all__ = ["PlainBook", "PlainRow", "PlainSide", "plain_rebuild"]


class PlainRow(NamedTuple):
    """What `books.bbo` should say after a message; price and size are 0 where a side is empty."""

    ts_origin_ns: int
    ts_receipt_ns: int
    sequence_number: int
    bid_price_ticks: int
    bid_size_lots: int
    ask_price_ticks: int
    ask_size_lots: int
    flags: int


class PlainSide:
    """One side of a book: the size at each price, and the prices in ascending order."""

    def __init__(self, sizes: Mapping[int, int] | None = None) -> None:
        self.sizes = dict(sizes or {})
        self.prices = sorted(self.sizes)

    def put(self, price: int, size: int) -> int:
        """Sets a level, or removes it with size 0; returns the size there was before, or 0."""
        before = self.sizes.pop(price, 0)
        if size:
            self.sizes[price] = size
        if size and not before:
            insort(self.prices, price)
        if before and not size:
            del self.prices[bisect_left(self.prices, price)]
        return before


@dataclass
class PlainBook:
    """The book and what happened to it, by the policies of an instrument.

    Attributes:
        resync: When a later snapshot replaces the book inside its window.
        crossed_resync_ns: A book crossed for longer than this is invalid.
        patience_ns: How much older than the feed a snapshot may be before its place is no longer
            waited for.
        uncross: Whether levels that a message crossed are removed from the side it did not move.
        horizon: Lowest bid and highest ask, in ticks, that a snapshot confirmed.
        refused: Rows refused since the last snapshot that replaced the book.
        crossed_since: Receipt time, 0 while the book is not crossed.
        book_sequence: Of the last message, or of the snapshot that replaced the book after it.
        last_touch: Best bid and ask after the last message.
        repairs: (kind, message, receipt time, sequence number, levels, lowest and highest price).
        counts: The counters of `books.state.REGISTERS` by name.
        hourly: Those of `books.state.HOURLY`, 24 entries each.
    """

    resync: Literal["never", "when_invalid", "always"] = "when_invalid"
    crossed_resync_ns: int = 2_000_000_000
    patience_ns: int = 10_000_000_000
    uncross: bool = False
    bids: PlainSide = field(default_factory=PlainSide)
    asks: PlainSide = field(default_factory=PlainSide)
    seeded: bool = False
    horizon: tuple[int, int] = (0, 0)
    gap: bool = False
    refused: int = 0
    failed_exam: bool = False
    crossed_since: int = 0
    last_sequence: int | None = None
    book_sequence: int | None = None
    last_touch: tuple[int | None, int | None] = (None, None)
    last: tuple[int, int] = (0, 0)
    messages: int = 0
    repairs: list[tuple[str, int, int, int, int, int, int]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    hourly: dict[str, list[int]] = field(default_factory=dict)

    def go_on_from(self, keyframe: Keyframe) -> None:
        """Takes over a valid book; since when another one is invalid is not known from it.

        Raises:
            ValueError: It was never seeded.
        """
        low, high = keyframe.bid_horizon_ticks, keyframe.ask_horizon_ticks
        if low is None or high is None:
            raise ValueError("a book that was never seeded cannot be gone on from")
        bids = zip(keyframe.bid_price_ticks.tolist(), keyframe.bid_size_lots.tolist(), strict=True)
        asks = zip(keyframe.ask_price_ticks.tolist(), keyframe.ask_size_lots.tolist(), strict=True)
        self.bids, self.asks = PlainSide(dict(bids)), PlainSide(dict(asks))
        self.seeded = True
        self.horizon = (low, high)
        self.last_sequence = self.book_sequence = keyframe.sequence_number
        bid, bid_size, ask, ask_size = self.best()
        self.last_touch = (bid if bid_size else None, ask if ask_size else None)

    def count(self, name: str, by: int = 1) -> None:
        """Adds to a counter."""
        self.counts[name] = self.counts.get(name, 0) + by

    # --- what can be read -----------------------------------------------------------------------

    def best(self) -> tuple[int, int, int, int]:
        """Best bid and its size, best ask and its size; 0 and 0 where a side is empty."""
        bid = self.bids.prices[-1] if self.bids.prices else 0
        ask = self.asks.prices[0] if self.asks.prices else 0
        return bid, self.bids.sizes.get(bid, 0), ask, self.asks.sizes.get(ask, 0)

    def top(self, levels: int) -> tuple[Levels, Levels]:
        """The best levels of both sides."""
        bids = [(price, self.bids.sizes[price]) for price in self.bids.prices[-levels:][::-1]]
        asks = [(price, self.asks.sizes[price]) for price in self.asks.prices[:levels]]
        return bids, asks

    def flags(self) -> int:
        """Why the book is not to be trusted, as bits of `BookFlag`."""
        bid, bid_size, ask, ask_size = self.best()
        flags = BookFlag(0)
        if not bid_size or not ask_size:
            flags |= BookFlag.EMPTY_SIDE
        elif bid > ask:
            flags |= BookFlag.CROSSED
        elif bid == ask:
            flags |= BookFlag.LOCKED
        if not self.seeded:
            flags |= BookFlag.NOT_SEEDED
        elif (bid_size and bid < self.horizon[0]) or (ask_size and ask > self.horizon[1]):
            flags |= BookFlag.UNCONFIRMED_DEPTH
        if self.gap:
            flags |= BookFlag.GAP
        if self.refused:
            flags |= BookFlag.PRECISION_LOSS
        if self.failed_exam:
            flags |= BookFlag.FAILED_EXAM
        return int(flags)

    # --- what a snapshot does -------------------------------------------------------------------

    def meet(self, snapshot: Snapshot) -> None:
        """A snapshot seeds the book, examines it, mends it, or widens what is known."""
        self.count("snapshots")
        if not snapshot.usable:
            self.count("snapshots_unusable")
            return
        if self.book_sequence is not None and snapshot.sequence_number < self.book_sequence:
            self.count("snapshots_unplaced")
            return
        about = (
            snapshot.ts_receipt_ns,
            snapshot.sequence_number,
            len(snapshot.bids) + len(snapshot.asks),
            snapshot.bids[-1][0],
            snapshot.asks[-1][0],
        )
        if not self.seeded:
            self.seeded = True
            self.bids, self.asks = PlainSide(), PlainSide()
            self.load(snapshot)
            self.repair("SEED", *about)
            return
        lost = self.gap + self.failed_exam
        in_step = self.last_sequence == snapshot.sequence_number
        if in_step:
            self.examine(snapshot)
        too_long = (
            self.crossed_since != 0
            and snapshot.ts_receipt_ns - self.crossed_since > self.crossed_resync_ns
        )
        invalid = self.gap or self.refused > 0 or self.failed_exam or too_long
        if self.resync == "always" or (invalid and self.resync != "never"):
            self.count("resyncs")
            self.load(snapshot)
            self.repair("RESYNC", *about)
            return
        if self.gap + self.failed_exam < lost:
            self.repair("CONFIRMED", *about)
        if in_step and not invalid and self.resync != "never":
            self.extend(snapshot)

    def load(self, snapshot: Snapshot) -> None:
        """Takes the snapshot over inside its window; levels beyond it stay."""
        low, high = snapshot.bids[-1][0], snapshot.asks[-1][0]
        beyond_bids = {p: s for p, s in self.bids.sizes.items() if p < low}
        beyond_asks = {p: s for p, s in self.asks.sizes.items() if p > high}
        self.bids = PlainSide(beyond_bids | dict(snapshot.bids))
        self.asks = PlainSide(beyond_asks | dict(snapshot.asks))
        self.horizon = (low, high)
        self.gap = self.failed_exam = False
        self.refused = 0
        self.crossed_since = 0
        self.last_touch = (snapshot.bids[0][0], snapshot.asks[0][0])
        self.book_sequence = snapshot.sequence_number

    def extend(self, snapshot: Snapshot) -> None:
        """Learns from a passed exam what lies beyond the horizon."""
        low, high = self.horizon
        far_low, far_high = snapshot.bids[-1][0], snapshot.asks[-1][0]
        if far_low < low:
            kept = {p: s for p, s in self.bids.sizes.items() if p >= low or p < far_low}
            learned = {p: s for p, s in snapshot.bids if p < low}
            self.bids = PlainSide(kept | learned)
            self.count("levels_learned", len(learned))
        if far_high > high:
            kept = {p: s for p, s in self.asks.sizes.items() if p <= high or p > far_high}
            learned = {p: s for p, s in snapshot.asks if p > high}
            self.asks = PlainSide(kept | learned)
            self.count("levels_learned", len(learned))
        self.horizon = (min(low, far_low), max(high, far_high))

    def examine(self, snapshot: Snapshot) -> None:
        """Compares level by level as far as both are known; passed means the touch agrees."""
        self.count("exams")
        low = max(snapshot.bids[-1][0], self.horizon[0])
        high = min(snapshot.asks[-1][0], self.horizon[1])
        differing = 0
        for ours, theirs in (
            (
                {p: s for p, s in self.bids.sizes.items() if p >= low},
                {p: s for p, s in snapshot.bids if p >= low},
            ),
            (
                {p: s for p, s in self.asks.sizes.items() if p <= high},
                {p: s for p, s in snapshot.asks if p <= high},
            ),
        ):
            self.count("exam_levels", len(theirs))
            self.count("exam_levels_ours", len(ours))
            self.count("exam_levels_ghost", len(ours.keys() - theirs.keys()))
            self.count("exam_levels_missing", len(theirs.keys() - ours.keys()))
            self.count("exam_levels_matching", len(ours.items() & theirs.items()))
            union = ours.keys() | theirs.keys()
            differing += sum(ours.get(price) != theirs.get(price) for price in union)
            self.count("exam_size_lots", sum(theirs.values()))
            errors = (abs(ours.get(price, 0) - theirs.get(price, 0)) for price in union)
            self.count("exam_size_error_lots", sum(errors))
        hour = snapshot.ts_receipt_ns // 3_600_000_000_000 % 24
        self.count_in_hour("exams_per_hour", hour)
        self.count_in_hour("exam_levels_differing_per_hour", hour, differing)
        bid, bid_size, ask, ask_size = self.best()
        deviation = 0
        if bid_size and ask_size:
            deviation = abs(bid + ask - snapshot.bids[0][0] - snapshot.asks[0][0])
        name = "exam_max_mid_deviation_half_ticks"
        worst = self.counts.get(name, 0), self.counts.get("exam_worst_levels_differing", 0)
        if (deviation, differing) > worst:
            self.counts[name] = deviation
            self.keep_exam("worst", snapshot, differing)
        if ((bid, bid_size), (ask, ask_size)) == (snapshot.bids[0], snapshot.asks[0]):
            self.failed_exam = False
            self.gap = self.gap and differing > 0
        else:
            if not self.counts.get("exams_failed"):
                self.keep_exam("first_failed", snapshot, differing)
            self.failed_exam = True
            self.count("exams_failed")
            self.count_in_hour("exams_failed_per_hour", hour)

    def count_in_hour(self, name: str, hour: int, by: int = 1) -> None:
        """Adds to a counter of a UTC hour."""
        self.hourly.setdefault(name, [0] * 24)[hour] += by

    def keep_exam(self, place: str, snapshot: Snapshot, differing: int) -> None:
        """Keeps the first failed or the worst exam with the touch on either side."""
        about = {
            "sequence_number": snapshot.sequence_number,
            "ts_receipt_ns": snapshot.ts_receipt_ns,
            "levels_differing": differing,
        }
        their_touch = (*snapshot.bids[0], *snapshot.asks[0])
        parts = ("bid_ticks", "bid_lots", "ask_ticks", "ask_lots")
        for whose, touch in (("our", self.best()), ("their", their_touch)):
            about |= {f"{whose}_{part}": n for part, n in zip(parts, touch, strict=True)}
        self.counts |= {f"exam_{place}_{name}": n for name, n in about.items()}

    def repair(
        self, kind: str, receipt_ns: int, sequence: int, levels: int, low: int, high: int
    ) -> None:
        """Notes a repair; it shows in the row of the next message to be closed."""
        self.repairs.append((kind, self.messages, receipt_ns, sequence, levels, low, high))

    # --- what a message does --------------------------------------------------------------------

    def apply(self, row: Row) -> None:
        """Sets or removes one level."""
        self.count("rows")
        if row.size_lots == REFUSED:
            self.refused += 1
            self.count("refused_rows")
            return
        side = self.bids if row.is_bid else self.asks
        before = side.put(row.price_ticks, row.size_lots)
        if not before and not row.size_lots:
            self.count("unknown_removals")

    def remove_stale(self, receipt_ns: int, sequence: int) -> None:
        """Where a message crossed the book from one side, the other side's levels there go."""
        bid, bid_size, ask, ask_size = self.best()
        if not (self.uncross and self.seeded and bid_size and ask_size and bid > ask):
            return
        last_bid, last_ask = self.last_touch
        bid_moved = last_bid is None or bid > last_bid
        ask_moved = last_ask is None or ask < last_ask
        if bid_moved == ask_moved:
            return
        if bid_moved:
            stale = [price for price in self.asks.prices if price <= bid]
            self.asks = PlainSide({p: s for p, s in self.asks.sizes.items() if p > bid})
        else:
            stale = [price for price in self.bids.prices if price >= ask]
            self.bids = PlainSide({p: s for p, s in self.bids.sizes.items() if p < ask})
        self.count("uncrossed_levels", len(stale))
        self.repair("UNCROSS", receipt_ns, sequence, len(stale), min(stale), max(stale))

    def close(self, receipt_ns: int, sequence: int, origin_ns: int) -> PlainRow:
        """Ends a message: only now may the book be read."""
        self.remove_stale(receipt_ns, sequence)
        flags = self.flags()
        self.count("messages")
        latency = receipt_ns - origin_ns
        self.count("negative_latency_messages", latency < 0)
        for name, better in (("min_latency_ns", min), ("max_latency_ns", max)):
            self.counts[name] = better(self.counts.get(name, latency), latency)
        last_receipt_ns, last_flags = self.last
        for flag, name in ((BookFlag.CROSSED, "crossed"), (BookFlag.LOCKED, "locked")):
            if last_flags & flag:
                self.count(f"{name}_ns", max(receipt_ns - last_receipt_ns, 0))
            self.count(f"{name}_messages", bool(flags & flag))
        self.last = (receipt_ns, flags)
        if flags & BookFlag.CROSSED:
            self.crossed_since = self.crossed_since or receipt_ns
        else:
            self.crossed_since = 0
        bid, bid_size, ask, ask_size = self.best()
        self.last_touch = (bid if bid_size else None, ask if ask_size else None)
        self.messages += 1
        self.last_sequence = self.book_sequence = sequence
        return PlainRow(origin_ns, receipt_ns, sequence, bid, bid_size, ask, ask_size, flags)


def plain_rebuild(
    book: PlainBook, messages: Iterable[Message], snapshots: Iterable[Snapshot]
) -> Iterator[PlainRow]:
    """Rebuilds a book and yields what it says after every message; meanwhile it can be read.

    Args:
        book: To begin with.
        messages: In feed order.
        snapshots: In feed order. Those that no message comes after are met in the end.
    """
    waiting = iter(snapshots)
    snapshot = next(waiting, None)
    for message in messages:
        first = message.rows[0]
        receipt_ns, sequence = first.ts_receipt_ns, first.sequence_number
        if message.mended:
            book.gap = True
            book.count("gaps")
        while snapshot is not None:
            if snapshot.sequence_number < sequence:
                book.meet(snapshot)
            elif receipt_ns - snapshot.ts_receipt_ns > book.patience_ns:
                book.count("snapshots")
                book.count("snapshots_unplaced")
            else:
                break
            snapshot = next(waiting, None)
        if book.last_sequence is not None and sequence < book.last_sequence:
            book.count("sequence_backwards")
        if message.after_gap:
            book.gap = True
            book.count("gaps")
        for row in message.rows:
            book.apply(row)
        yield book.close(receipt_ns, sequence, first.ts_origin_ns)
    while snapshot is not None:
        book.meet(snapshot)
        snapshot = next(waiting, None)

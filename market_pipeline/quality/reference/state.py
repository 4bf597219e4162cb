"""The state of the plain book: its levels, what is known against it, and what happened to it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.quality.reference.feed import Levels, Snapshot

__all__ = [
    "REMEMBERED_MESSAGES",
    "REMEMBERED_ROWS",
    "Change",
    "Past",
    "PlainBook",
    "PlainEvidence",
    "PlainSide",
    "Waiting",
]

REMEMBERED_ROWS = 1_024
REMEMBERED_MESSAGES = 1_023
_REMEMBERED_SNAPSHOTS = 256

Touched = Collection[tuple[bool, int]]
"""Levels by whether they are bids, and their price in ticks."""


class Change(NamedTuple):
    """What a row did to the book; `late_number` is that of a message that came late."""

    is_bid: bool
    price: int
    before: int
    late_number: int | None


class Past(NamedTuple):
    """A message of the past: its number among the rows of the rebuild, and its changes."""

    message: int
    changes: list[Change]


class PlainEvidence(NamedTuple):
    """A piece of evidence, as in `books.state.Evidence`; `kind` is the name of a `Proof`."""

    kind: str
    message: int
    ts_receipt_ns: int
    sequence_number: int
    levels: int
    differing: int


class Waiting(NamedTuple):
    """A snapshot that disagreed and waits for later messages.

    Attributes:
        snapshot: What it shows.
        since: The message to come when it did.
        back: How many messages before that it fits best.
        in_step: Whether it has the number of the message before that.
    """

    snapshot: Snapshot
    since: int
    back: int
    in_step: bool


_MESSAGE_WORK, _SNAPSHOT_WORK = 10, 50
LEAST_MESSAGE_WORK = _MESSAGE_WORK + 1
"""The `PlainBook.work` of a message of one row."""


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

    def lowest(self) -> tuple[int, int] | None:
        """Price and size of the level of the lowest price; None without one."""
        return (self.prices[0], self.sizes[self.prices[0]]) if self.prices else None

    def highest(self) -> tuple[int, int] | None:
        """Price and size of the level of the highest price; None without one."""
        return (self.prices[-1], self.sizes[self.prices[-1]]) if self.prices else None

    def within(self, low: float, high: float) -> dict[int, int]:
        """The sizes from one price to another, both included."""
        prices = self.prices[bisect_left(self.prices, low) : bisect_right(self.prices, high)]
        return {price: self.sizes[price] for price in prices}


@dataclass
class PlainBook:
    """The book and what happened to it, by the policies of an instrument.

    Attributes:
        resync: When a later snapshot replaces the book inside its window.
        crossed_resync_ns: A book crossed for longer than this is invalid.
        patience_ns: How much older than the feed a snapshot may be before its place is no longer
            waited for.
        uncross: Whether levels that a message crossed are removed from the side it did not move.
        day_ns: First time of the day, and the first after it; None: any time will do.
        ids_prove: Whether the ids link each message to the one before.
        horizon: Lowest bid and highest ask, in ticks, that a snapshot confirmed.
        refused: Rows refused since the last snapshot that replaced the book.
        crossed_since: Receipt time, 0 while the book is not crossed.
        last_sequence: Of the last message with a sound number; None at first and at a restart.
        book_sequence: The same, or of the snapshot that replaced the book after it.
        replaced_sequence: Of the last snapshot that replaced the book.
        epoch: How often the numbers began anew.
        last_touch: Best bid and ask after the last message.
        last: Sound receipt time and flags of the last message.
        past: The latest messages with what they changed, as far back as nothing else changed the
            book and at most `REMEMBERED_ROWS` rows.
        past_rows: How many changes these are.
        is_from_keyframe: It was begun with a keyframe, so that more happened than is remembered.
        is_lost: What it is to be depends on what happened before that keyframe.
        numbers: Their numbers and those of further ones before.
        contents: Levels of the latest snapshots compared.
        contents_before: Gives those of before the first one in order, until they are asked for.
        waiting: A snapshot that disagreed and waits for later messages.
        matched: How many messages there were when a snapshot agreed last, and its number.
        last_anchor: The message that evidence last spoke for.
        is_doubted: A snapshot since then disagreed that was not found to be misplaced or stale.
        tested: One that agreed, and the message to come then: does it agree as much later, too?
        misplaced_run, stale_run: How many snapshots in a row were so.
        misplaced_lag: How many messages those misplaced lag; below 0 they come before their own.
        stale_book, stale_lag: The touch of our book at the last stale one, and how many snapshots
            before it its content was met.
        last_compared_ns, uncompared_since_ns: Times of snapshots.
        repairs: (kind, message, receipt time, sequence number, levels, lowest and highest price).
        evidence: In the order it was met.
        counts: The counters of `books.registers.REGISTERS` by name.
        hourly: Those of `books.registers.HOURLY`, 24 entries each.
    """

    resync: Literal["never", "when_invalid", "always"] = "when_invalid"
    crossed_resync_ns: int = 2_000_000_000
    patience_ns: int = 10_000_000_000
    uncross: bool = False
    day_ns: tuple[int, int] | None = None
    ids_prove: bool = False
    bids: PlainSide = field(default_factory=PlainSide)
    asks: PlainSide = field(default_factory=PlainSide)
    seeded: bool = False
    horizon: tuple[int, int] = (0, 0)
    gap: bool = False
    refused: int = 0
    snapshot_mismatch: bool = False
    crossed_since: int = 0
    last_sequence: int | None = None
    book_sequence: int | None = None
    replaced_sequence: int | None = None
    epoch: int = 0
    last_touch: tuple[int | None, int | None] = (None, None)
    last: tuple[int, int] = (0, 0)
    messages: int = 0
    past: deque[Past] = field(default_factory=deque)
    past_rows: int = 0
    is_from_keyframe: bool = False
    is_lost: bool = False
    numbers: deque[int | None] = field(default_factory=lambda: deque(maxlen=REMEMBERED_MESSAGES))
    contents: deque[tuple[Levels, Levels]] = field(
        default_factory=lambda: deque(maxlen=_REMEMBERED_SNAPSHOTS)
    )
    contents_before: Callable[[], Sequence[tuple[Levels, Levels]]] | None = None
    waiting: Waiting | None = None
    tested: tuple[Snapshot, int] | None = None
    matched: tuple[int, int] | None = None
    last_anchor: int = 0
    is_doubted: bool = False
    misplaced_run: int = 0
    misplaced_lag: int = 0
    stale_run: int = 0
    stale_book: tuple[Levels, Levels] | None = None
    stale_lag: int = 0
    last_compared_ns: int = 0
    uncompared_since_ns: int | None = None
    repairs: list[tuple[str, int, int, int, int, int, int]] = field(default_factory=list)
    evidence: list[PlainEvidence] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    hourly: dict[str, list[int]] = field(default_factory=dict)

    def go_on_from(self, keyframe: Keyframe, *, of_the_day: bool = True) -> None:
        """Takes over a valid book; since when another one is invalid is not known from it.

        Args:
            keyframe: The book.
            of_the_day: Whether it is of the day that is rebuilt, and not the one before's: then
                more happened in the day than is remembered.

        Raises:
            ValueError: It was never seeded.
        """
        low, high = keyframe.bid_horizon_ticks, keyframe.ask_horizon_ticks
        if low is None or high is None:
            raise ValueError("a book that was never seeded cannot be resumed")
        bids = zip(keyframe.bid_price_ticks.tolist(), keyframe.bid_size_lots.tolist(), strict=True)
        asks = zip(keyframe.ask_price_ticks.tolist(), keyframe.ask_size_lots.tolist(), strict=True)
        self.bids, self.asks = PlainSide(dict(bids)), PlainSide(dict(asks))
        self.seeded = True
        self.horizon = (low, high)
        self.is_from_keyframe = of_the_day
        if of_the_day:
            self.last = (keyframe.ts_receipt_ns, keyframe.flags)
        self.last_sequence = self.book_sequence = keyframe.sequence_number
        self.note_touch()

    # --- what is counted ------------------------------------------------------------------------

    def count(self, name: str, by: int = 1) -> None:
        """Adds to a counter."""
        self.counts[name] = self.counts.get(name, 0) + by

    def count_in_hour(self, name: str, hour: int, by: int = 1) -> None:
        """Adds to a counter of a UTC hour."""
        self.hourly.setdefault(name, [0] * 24)[hour] += by

    def keep_first(self, **values: int) -> None:
        """Keeps values of the first of its kind; the first name tells whether there was one."""
        if not self.counts.get(next(iter(values))):
            self.counts |= values

    def repair(self, kind: str, snapshot: Snapshot) -> None:
        """Notes what a snapshot did; it shows in the row of the next message to be closed."""
        at_ns, number = snapshot.ts_receipt_ns, snapshot.sequence_number
        levels = len(snapshot.bids) + len(snapshot.asks)
        low, high = snapshot.bids[-1][0], snapshot.asks[-1][0]
        self.repairs.append((kind, self.messages, at_ns, number, levels, low, high))

    def prove(
        self, kind: str, snapshot: Snapshot, levels: int, differing: int, message: int | None = None
    ) -> None:
        """Notes what a snapshot shows about the rows before the next message, or another one."""
        message = self.messages if message is None else message
        number = snapshot.sequence_number
        self.evidence.append(
            PlainEvidence(kind, message, snapshot.ts_receipt_ns, number, levels, differing)
        )
        if kind in ("MATCH", "ADOPTED"):
            self.last_anchor, self.is_doubted = message, False

    # --- what can be read -----------------------------------------------------------------------

    @property
    def work(self) -> int:
        """What was done to it so far, as so many rows: a message or a snapshot takes longer."""
        rows, messages, snapshots = (
            self.counts.get(name, 0) for name in ("rows", "messages", "snapshots")
        )
        return rows + _MESSAGE_WORK * messages + _SNAPSHOT_WORK * snapshots

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

    def confirmed(self, levels: int) -> tuple[int, int]:
        """How many of the best levels of each side lie within what a snapshot shows."""
        if not self.seeded:
            return 0, 0
        (low, high), (bids, asks) = self.horizon, self.top(levels)
        return sum(price >= low for price, _ in bids), sum(price <= high for price, _ in asks)

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
        return int(flags)

    # --- what changes it ------------------------------------------------------------------------

    def note_touch(self) -> None:
        """Keeps the best bid and ask to see which side the next message moves."""
        bid, bid_size, ask, ask_size = self.best()
        self.last_touch = (bid if bid_size else None, ask if ask_size else None)

    def load(self, snapshot: Snapshot, touched: Touched = ()) -> None:
        """Takes a snapshot over inside its window; levels beyond it, and those touched, stay."""
        low, high = snapshot.bids[-1][0], snapshot.asks[-1][0]
        kept_bids = {p: s for p, s in self.bids.sizes.items() if p < low or (True, p) in touched}
        kept_asks = {p: s for p, s in self.asks.sizes.items() if p > high or (False, p) in touched}
        new_bids = {p: s for p, s in snapshot.bids if (True, p) not in touched}
        new_asks = {p: s for p, s in snapshot.asks if (False, p) not in touched}
        self.bids, self.asks = PlainSide(kept_bids | new_bids), PlainSide(kept_asks | new_asks)
        self.horizon = (low, high)
        self.gap = self.snapshot_mismatch = False
        self.refused = 0
        self.crossed_since = 0
        self.last_touch = (snapshot.bids[0][0], snapshot.asks[0][0])
        self.replaced_sequence = snapshot.sequence_number
        if self.book_sequence is None or self.book_sequence < snapshot.sequence_number:
            self.book_sequence = snapshot.sequence_number
        self.misplaced_run = self.stale_run = 0
        self.waiting = self.tested = None
        self.forget()

    def extend(self, snapshot: Snapshot) -> None:
        """Learns from a match what lies beyond the horizon."""
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

    def set_level(self, is_bid: bool, price: int, size: int, late_number: int | None = None) -> int:
        """Sets or removes a level, remembers it, and returns the size there was before."""
        before = (self.bids if is_bid else self.asks).put(price, size)
        if self.past:
            self.past_rows += 1
            self.past[-1].changes.append(Change(is_bid, price, before, late_number))
        return before

    # --- what is remembered ---------------------------------------------------------------------

    def begin(self) -> None:
        """A message begins; of the past, what is too many rows ago is forgotten."""
        while self.past_rows > REMEMBERED_ROWS or len(self.past) > REMEMBERED_MESSAGES:
            self.past_rows -= len(self.past.popleft().changes)
        self.past.append(Past(self.messages, []))

    def forget(self) -> None:
        """Something else than a message changed the book: no way leads back behind that."""
        self.past.clear()
        self.past_rows = 0

    def rows_since(self, message: int) -> int:
        """How many rows were applied since a message of the past began."""
        return sum(len(past.changes) for past in self.past if past.message >= message)

    def reaches(self, message: int) -> bool:
        """Whether all that changed since a message began, or is to begin, is remembered."""
        if message == self.messages:
            return True
        first = self.past[0].message if self.past else self.messages
        is_near = self.messages - message <= REMEMBERED_MESSAGES
        return first <= message and is_near and self.rows_since(message) <= REMEMBERED_ROWS

    def touched_since(self, message: int, number: int) -> Touched:
        """Levels set since a message began; of those that came late, if later than a number."""
        return {
            (change.is_bid, change.price)
            for past in self.past
            if past.message >= message
            for change in past.changes
            if change.late_number is None or change.late_number > number
        }

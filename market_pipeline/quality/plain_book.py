"""The plain twin of the rebuild: dicts and ints, one rule after the other, nothing clever."""

from __future__ import annotations

from dataclasses import dataclass, field

from market_pipeline.books.flags import BookFlag


@dataclass
class Row:
    """A delta row; size -1 is one that was refused."""

    receipt: int
    sequence: int
    is_bid: bool
    price: int
    size: int
    origin: int = 0


@dataclass
class Snapshot:
    """Best first, (price, size)."""

    receipt: int
    sequence: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    usable: bool = True


@dataclass
class NaiveBook:
    """The book and what happened to it."""

    resync: str = "when_invalid"
    crossed_resync_ns: int = 2_000_000_000
    patience_ns: int = 10_000_000_000
    gap_rows: list[int] = field(default_factory=list)
    mended_rows: list[int] = field(default_factory=list)
    uncross: bool = False
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
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

    def count(self, name: str, by: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    def best(self) -> tuple[int, int, int, int]:
        bid = max(self.bids, default=0)
        ask = min(self.asks, default=0)
        return bid, self.bids.get(bid, 0), ask, self.asks.get(ask, 0)

    def flags(self) -> int:
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

    def load(self, snapshot: Snapshot) -> None:
        low, high = snapshot.bids[-1][0], snapshot.asks[-1][0]
        self.bids = {p: s for p, s in self.bids.items() if p < low} | dict(snapshot.bids)
        self.asks = {p: s for p, s in self.asks.items() if p > high} | dict(snapshot.asks)
        self.horizon = (low, high)
        self.gap = self.failed_exam = False
        self.refused = 0
        self.crossed_since = 0
        self.last_touch = (snapshot.bids[0][0], snapshot.asks[0][0])
        self.book_sequence = snapshot.sequence

    def repair(
        self, kind: str, receipt: int, sequence: int, levels: int, low: int, high: int
    ) -> None:
        self.repairs.append((kind, self.messages, receipt, sequence, levels, low, high))

    def extend(self, snapshot: Snapshot) -> None:
        low, high = self.horizon
        far_low, far_high = snapshot.bids[-1][0], snapshot.asks[-1][0]
        if far_low < low:
            kept = {p: s for p, s in self.bids.items() if p >= low or p < far_low}
            learned = {p: s for p, s in snapshot.bids if p < low}
            self.bids = kept | learned
            self.count("levels_learned", len(learned))
        if far_high > high:
            kept = {p: s for p, s in self.asks.items() if p <= high or p > far_high}
            learned = {p: s for p, s in snapshot.asks if p > high}
            self.asks = kept | learned
            self.count("levels_learned", len(learned))
        self.horizon = (min(low, far_low), max(high, far_high))

    def examine(self, snapshot: Snapshot) -> None:
        self.count("exams")
        low = max(snapshot.bids[-1][0], self.horizon[0])
        high = min(snapshot.asks[-1][0], self.horizon[1])
        differing = 0
        for ours, theirs in (
            (
                {p: s for p, s in self.bids.items() if p >= low},
                {p: s for p, s in snapshot.bids if p >= low},
            ),
            (
                {p: s for p, s in self.asks.items() if p <= high},
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
        bid, bid_size, ask, ask_size = self.best()
        if bid_size and ask_size:
            deviation = abs(bid + ask - snapshot.bids[0][0] - snapshot.asks[0][0])
            name = "exam_max_mid_deviation_half_ticks"
            self.counts[name] = max(self.counts.get(name, 0), deviation)
        if ((bid, bid_size), (ask, ask_size)) == (snapshot.bids[0], snapshot.asks[0]):
            self.failed_exam = False
            self.gap = self.gap and differing > 0
        else:
            self.failed_exam = True
            self.count("exams_failed")

    def meet(self, snapshot: Snapshot) -> None:
        self.count("snapshots")
        if not snapshot.usable:
            self.count("snapshots_unusable")
            return
        if self.book_sequence is not None and snapshot.sequence < self.book_sequence:
            self.count("snapshots_unplaced")
            return
        about = (
            snapshot.receipt,
            snapshot.sequence,
            len(snapshot.bids) + len(snapshot.asks),
            snapshot.bids[-1][0],
            snapshot.asks[-1][0],
        )
        if not self.seeded:
            self.seeded = True
            self.bids, self.asks = {}, {}
            self.load(snapshot)
            self.repair("SEED", *about)
            return
        lost = self.gap + self.failed_exam
        in_step = self.last_sequence == snapshot.sequence
        if in_step:
            self.examine(snapshot)
        too_long = (
            self.crossed_since != 0
            and snapshot.receipt - self.crossed_since > self.crossed_resync_ns
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

    def apply(self, row: Row) -> None:
        self.count("rows")
        if row.size == -1:
            self.refused += 1
            self.count("refused_rows")
            return
        side = self.bids if row.is_bid else self.asks
        if row.size:
            side[row.price] = row.size
        elif side.pop(row.price, 0) == 0:
            self.count("unknown_removals")

    def remove_stale(self, receipt: int, sequence: int) -> None:
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
            stale = [price for price in self.asks if price <= bid]
            self.asks = {p: s for p, s in self.asks.items() if p > bid}
        else:
            stale = [price for price in self.bids if price >= ask]
            self.bids = {p: s for p, s in self.bids.items() if p < ask}
        self.count("uncrossed_levels", len(stale))
        self.repair("UNCROSS", receipt, sequence, len(stale), min(stale), max(stale))

    def close(self, receipt: int, sequence: int, origin: int) -> int:
        self.remove_stale(receipt, sequence)
        flags = self.flags()
        self.count("messages")
        latencies = (receipt - origin,)
        self.count("negative_latency_messages", latencies[0] < 0)
        for name, better in (("min_latency_ns", min), ("max_latency_ns", max)):
            self.counts[name] = better(self.counts.get(name, latencies[0]), latencies[0])
        last_receipt, last_flags = self.last
        for flag, name in ((BookFlag.CROSSED, "crossed"), (BookFlag.LOCKED, "locked")):
            if last_flags & flag:
                self.count(f"{name}_ns", max(receipt - last_receipt, 0))
            self.count(f"{name}_messages", bool(flags & flag))
        self.last = (receipt, flags)
        if flags & BookFlag.CROSSED:
            self.crossed_since = self.crossed_since or receipt
        else:
            self.crossed_since = 0
        bid, bid_size, ask, ask_size = self.best()
        self.last_touch = (bid if bid_size else None, ask if ask_size else None)
        self.messages += 1
        return flags

    def top(self, levels: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        bids = sorted(self.bids.items(), reverse=True)[:levels]
        return bids, sorted(self.asks.items())[:levels]


def naive_rebuild(
    book: NaiveBook, rows: list[Row], snapshots: list[Snapshot]
) -> list[tuple[int, int, int, int, int, int, int]]:
    """(receipt, sequence, bid, bid_size, ask, ask_size, flags) after every message."""
    messages: list[list[Row]] = []
    for row in rows:
        key = (row.sequence, row.receipt)
        if messages and (messages[-1][0].sequence, messages[-1][0].receipt) == key:
            messages[-1].append(row)
        else:
            messages.append([row])
    waiting = list(snapshots)
    gap_rows = list(book.gap_rows)
    out = []
    first_row = 0
    for message in messages:
        receipt, sequence = message[0].receipt, message[0].sequence
        if first_row in book.mended_rows:
            book.gap = True
            book.count("gaps")
        while waiting:
            if waiting[0].sequence >= sequence:
                if receipt - waiting[0].receipt <= book.patience_ns:
                    break
                waiting.pop(0)
                book.count("snapshots")
                book.count("snapshots_unplaced")
            else:
                book.meet(waiting.pop(0))
        if book.last_sequence is not None and sequence < book.last_sequence:
            book.count("sequence_backwards")
        while gap_rows and gap_rows[0] <= first_row:
            gap_rows.pop(0)
            book.gap = True
            book.count("gaps")
        first_row += len(message)
        for row in message:
            book.apply(row)
        flags = book.close(receipt, sequence, message[0].origin)
        out.append((receipt, sequence, *book.best(), flags))
        book.last_sequence = book.book_sequence = sequence
    for snapshot in waiting:
        book.meet(snapshot)
    return out

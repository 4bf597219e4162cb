"""The live book: one symbol's levels message by message, on the arrays of the rebuild.

It is right by proof or says why not. What a message continues is checked before it is applied, or
its checksum after; the venue's own best quotes and further snapshots are compared with it. Where
something is lost the book stops at its last right state, keeps the messages that follow, and goes
on when a snapshot leads to them or when what was missing comes after all, from another connection.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.levels import ASK, BID, ORIGIN, WINDOW, Levels, empty_levels
from market_pipeline.books.live_levels import best_levels, drop_beyond, set_levels
from market_pipeline.books.scale import NOT_REPRESENTABLE, Scale, to_steps
from market_pipeline.books.walk import (
    Sides,
    levels_around,
    sides_of,
    write_levels,
)
from market_pipeline.capture._kept import Kept, KeptMessages
from market_pipeline.capture._levels import levels_differing, numbers
from market_pipeline.capture.checksums import CHECKSUM_LEVELS, checksum, decimals_of
from market_pipeline.capture.stream_state import BookState, StreamSeconds, Touch
from market_pipeline.sources.venues.continuity import Checked, Step, step_between
from market_pipeline.sources.venues.reading import FrameReader
from market_pipeline.sources.venues.records import BookLevels, Quote
from market_pipeline.sources.venues.venue import Classified, Kind, Proof, Scope

__all__ = ["LiveBook"]

_WINDOW_TICKS = 1 << 18
"""These take 4 MB, the least that an array of levels has, as there may be many books. A rebuild has
four times as many; such large arrays are given huge pages, of which a few levels touch most.
"""
_QUOTES_KEPT = 1_000
_QUOTES_IN_DOUBT = 3


class LiveBook:
    """A book that is fed the frames of one symbol.

    Frames of several connections may be fed to it together where ids prove the order; where a
    checksum does, or nothing, one connection at a time.

    Args:
        reader: Of the symbol's venue.
        price_scale, size_scale: Its tick and lot.

    Attributes:
        state, reason: What the book is, and what made it so.
        touch: Best bid and ask of the last right state.
        last_id: Of the last message applied; None where the venue has no ids.
        seconds: How long it was in each state, up to the last frame.
        messages, old, gaps, healed, resyncs: Messages applied and left out as old; losses found,
            those that filled later, and snapshots that replaced the book.
        refused: Levels that are no whole number of ticks or lots.
        quotes_compared, quotes_differing: Best quotes of the venue at an id of the book.
        snapshots_compared, snapshots_differing: Later snapshots; so many levels differed in all.
    """

    def __init__(self, reader: FrameReader, price_scale: Scale, size_scale: Scale) -> None:
        self._reader, self._scales = reader, (price_scale, size_scale)
        self._rule = reader.venue.channel(Kind.DEPTH).continuity
        self._levels: Levels = empty_levels(_WINDOW_TICKS)
        self.touch = Touch(0, 0, 0, 0)
        self._decimals = (price_scale.decimals, size_scale.decimals)
        self._kept, self._recent = KeptMessages(), KeptMessages()
        self._quotes: dict[int, Quote] = {}
        self._quotes_in_doubt = 0
        self._after_snapshot = self._may_heal = False
        self._at_ns: int | None = None
        self._gap_ns = 0
        self.state, self.reason = BookState.SYNCING, "no snapshot yet"
        self.last_id: int | None = None
        self.seconds = StreamSeconds()
        self.messages = self.old = self.gaps = self.healed = self.resyncs = self.refused = 0
        self.quotes_compared = self.quotes_differing = 0
        self.snapshots_compared = self.snapshots_differing = 0

    @property
    def is_live(self) -> bool:
        """Whether it is right, as far as anything shows."""
        return self.state is BookState.LIVE

    @property
    def needs_snapshot(self) -> bool:
        """Whether it waits for a REST snapshot, or for the stream to be subscribed to again."""
        return self.state in (BookState.SYNCING, BookState.RESYNC)

    def sides(self) -> Sides:
        """All levels, bids and asks, each (price_ticks, size_lots), best first."""
        return sides_of(self._levels)

    def top(self, count: int) -> Sides:
        """The best levels of both sides, padded with size 0."""
        prices, sizes = np.zeros((2, 1, count), np.int64), np.zeros((2, 1, count), np.int64)
        for side in (BID, ASK):
            write_levels(self._levels, side, prices[side], sizes[side], 0)
        return (prices[BID, 0], sizes[BID, 0]), (prices[ASK, 0], sizes[ASK, 0])

    def take(
        self, frame: bytes, found: Classified, received_ns: int, checked: Checked | None = None
    ) -> bool:
        """Takes a `DEPTH` frame.

        Args:
            found: What the frame was classified as.
            received_ns: When it came, ns UTC.
            checked: What it is to the frames of its connection; needed where those are counted.

        Returns:
            Whether the book changed with it.

        Raises:
            DomainError: The frame cannot be read.
        """
        self.observe(received_ns)
        levels = self._reader.levels(frame)
        start = self._rule.start(found.first_id, found.last_id, found.previous_id)
        message = Kept(start, found.last_id, *self._steps(levels))
        if found.is_snapshot:
            self._replace(message, "a whole book among the messages")
            return self._confirm(found, levels)
        step = self._step_of(message, checked)
        if step is Step.OLD:
            self.old += 1
            return False
        if step is Step.GAP:
            self._lose(f"expected to follow {self.last_id}, found {start}", by_ids=True)
        if not self._can_apply(message):
            self._kept.append(message)
            return False
        self._apply(message)
        self._go_on()
        return self._confirm(found, levels)

    def _step_of(self, message: Kept, checked: Checked | None) -> Step:
        if self._rule.scope is Scope.CONNECTION:
            return Step.UNPROVEN if checked is None else checked.step
        if message.start is None or message.last is None:
            return Step.UNPROVEN
        return self._step(message.start, message.last)

    def _can_apply(self, message: Kept) -> bool:
        """Whether the book is live, or this message is what was missing."""
        if self.is_live:
            return True
        is_next = message.start is not None and message.start == self.last_id
        return self.state is BookState.RESYNC and self._may_heal and is_next

    def take_snapshot(self, frame: bytes, received_ns: int) -> bool:
        """Takes the answer to a REST request, to begin with it or to compare the book with it.

        Returns:
            Whether the book is live; if not, the snapshot was older than the frames that are kept.

        Raises:
            DomainError: The frame cannot be read.
        """
        self.observe(received_ns)
        last = self._reader.classify(frame).last_id
        levels = self._reader.levels(frame, Kind.SNAPSHOT)
        whole = Kept(None, last, *self._steps(levels))
        was_live = self.is_live
        if was_live:
            self._compare(whole)
            return was_live
        after = [each for each in self._kept if not self._is_in(each, last)]
        after.sort(key=lambda each: each.last or 0)
        if after and not _continues(after[0], last):
            self.reason = f"the snapshot ends at {last}, the kept messages begin after it"
            return False
        self._kept.clear()
        self._replace(whole, "a snapshot")
        self._after_snapshot = True
        for message in after:
            step = self._step_of(message, None)
            if step is Step.GAP:
                self._lose(f"expected what follows {self.last_id} among the kept", by_ids=True)
            if step is not Step.OLD:
                if self.is_live:
                    self._apply(message)
                else:
                    self._kept.append(message)
        return self.is_live

    def take_quote(self, quote: Quote) -> None:
        """Compares the venue's best bid and ask with the book once it has reached their id."""
        if quote.id is None or not self.is_live or self.last_id is None:
            return
        if quote.id == self.last_id:
            self._compare_quote(quote)
        elif quote.id > self.last_id:
            self._quotes[quote.id] = quote
            if len(self._quotes) > _QUOTES_KEPT:
                del self._quotes[next(iter(self._quotes))]

    def lost(self, reason: str, at_ns: int, *, is_down: bool = False) -> None:
        """Something is lost that its frames do not show: a connection ended, a stream is silent."""
        self.observe(at_ns)
        self._lose(reason, by_ids=True)
        if is_down and self.state is not BookState.SYNCING:
            self.state = BookState.DOWN

    def connected(self, at_ns: int) -> None:
        """There is a connection again."""
        self.observe(at_ns)
        if self.state is BookState.DOWN:
            self.state = BookState.RESYNC

    def observe(self, at_ns: int) -> None:
        """Adds the time up to an instant to what the book was; earlier ones add nothing."""
        if self._at_ns is None:
            self._at_ns = at_ns
        passed = max(at_ns - self._at_ns, 0)
        self._at_ns += passed
        self.seconds.add(self.state, passed, has_proof=self._rule.proof is not Proof.NONE)
        if self.needs_snapshot:
            self._gap_ns += passed

    def _steps(self, levels: BookLevels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bids and asks, each as int64 (2, n): ticks and lots; lots below 0 are refused."""
        both = [*levels.bids, *levels.asks]
        steps, losses = np.empty((2, len(both)), np.int64), 0
        for row, scale in enumerate(self._scales):
            losses += to_steps(numbers([each[row] for each in both]), scale, steps[row])
        if losses:
            is_off = (steps == NOT_REPRESENTABLE).any(axis=0)
            self.refused += int(is_off.sum())
            steps[1, is_off] = NOT_REPRESENTABLE
        bids = len(levels.bids)
        return steps[:, :bids], steps[:, bids:]

    def _step(self, start: int, last: int) -> Step:
        if self._after_snapshot and self.last_id is not None:
            if self._is_in(Kept(start, last, *_NOTHING), self.last_id):
                return Step.OLD
            return Step.FOLLOWS if start <= self.last_id <= last else Step.GAP
        return step_between(self.last_id, start, last, may_fall=self._rule.ids_may_fall)

    def _is_in(self, message: Kept, last: int | None) -> bool:
        """Whether a snapshot that ends at `last` has all that a message says."""
        if message.last is None or last is None:
            return False
        return message.last < last + self._rule.snapshot_covers_its_id

    def _go_on(self) -> None:
        """Where the book was not live: applies what follows, and is live again if that is all."""
        if self.is_live:
            return
        for message in sorted(self._kept, key=lambda each: each.last or 0):
            if message.start == self.last_id:
                self._apply(message)
        self._kept.keep_after(self.last_id or 0)
        if not self._kept:
            self.state, self.reason = BookState.LIVE, "what was missing came"
            self.healed += 1
            # Nothing was missing in the end, so this time is proven as all other.
            self.seconds.gap_ns -= self._gap_ns
            self.seconds.verified_ns += self._gap_ns
            self._gap_ns = 0

    def _lose(self, reason: str, *, by_ids: bool = False) -> None:
        if self.is_live:
            self.state, self.reason = BookState.RESYNC, reason
            # What is wrong in the book itself does not become right by what comes later.
            self._may_heal = by_ids and self._rule.scope is Scope.SYMBOL
            self.gaps += 1
            self._gap_ns = 0
        self._quotes.clear()

    def _replace(self, whole: Kept, reason: str) -> None:
        (bids, asks), best = (whole.bids, whole.asks), []
        for steps in (bids, asks):
            if steps.shape[1]:
                best.append(int(steps[0, 0]))
        none = np.empty(0, np.int64)
        centre = sum(best) // len(best) if best else 0
        self._levels = empty_levels(_WINDOW_TICKS)
        if best:
            self._levels = levels_around(centre, (none, none), (none, none), _WINDOW_TICKS)
        self._set(whole)
        self.resyncs += self.state is not BookState.SYNCING
        self.state, self.reason = BookState.LIVE, reason
        self.last_id, self._after_snapshot = whole.last, False
        self._kept.clear()
        self._recent.clear()
        self._quotes.clear()
        self._quotes_in_doubt = self._gap_ns = 0

    def _apply(self, message: Kept) -> None:
        self._set(message)
        self.messages += 1
        self.last_id, self._after_snapshot = message.last, False
        self._recent.append(message)
        if self._quotes and message.last is not None:
            quote = self._quotes.pop(message.last, None)
            for number in [each for each in self._quotes if each < message.last]:
                del self._quotes[number]
            if quote is not None:
                self._compare_quote(quote)

    def _set(self, message: Kept) -> None:
        for side, steps in ((BID, message.bids), (ASK, message.asks)):
            at, count = 0, steps.shape[1]
            while at < count:
                at = set_levels(self._levels, side, steps[0], steps[1], at)
                if at < count:
                    self._make_room(2 * count)
            if self._rule.depth is not None:
                drop_beyond(self._levels, side, self._rule.depth)
        bid, bid_size, ask, ask_size = best_levels(self._levels)
        self.touch = Touch(-bid if bid_size else 0, bid_size, ask, ask_size)
        # A level in the window is found at once, one outside by search.
        if bid_size:
            width = int(self._levels.meta[WINDOW])
            at = -bid - int(self._levels.meta[ORIGIN + ASK])
            if not width // 4 <= at < width - width // 4:
                self._make_room(1, centre=-bid)

    def _make_room(self, more: int, centre: int | None = None) -> None:
        bids, asks = sides_of(self._levels)
        if centre is None:
            centre = int(self._levels.meta[ORIGIN + ASK] + (self._levels.meta[WINDOW] >> 1))
        self._levels = levels_around(centre, bids, asks, _WINDOW_TICKS, more)

    def _confirm(self, found: Classified, levels: BookLevels) -> bool:
        """Checks the checksum that a frame names, if it does; the book has changed in any case."""
        if self._rule.is_checked_after and found.checksum is not None:
            self._decimals = decimals_of(levels, self._decimals)
            own = self.checksum()
            if own != found.checksum:
                self._lose(f"checksum {found.checksum} expected, the book has {own}")
        return True

    def checksum(self) -> int:
        """The CRC32 of the ten best levels a side, see `capture.checksums`."""
        bids, asks = self.top(CHECKSUM_LEVELS)
        return checksum(bids, asks, self._scales, self._decimals)

    def _compare_quote(self, quote: Quote) -> None:
        bid, ask = self._steps(
            BookLevels(
                [(str(quote.bid_price), str(quote.bid_size))],
                [(str(quote.ask_price), str(quote.ask_size))],
            )
        )
        differs = self.touch != (*bid[:, 0].tolist(), *ask[:, 0].tolist())
        self.quotes_compared += 1
        self.quotes_differing += differs
        self._quotes_in_doubt = self._quotes_in_doubt + 1 if differs else 0
        if self._quotes_in_doubt >= _QUOTES_IN_DOUBT:
            self._lose(f"{_QUOTES_IN_DOUBT} best quotes of the venue in a row differ from the book")

    def _compare(self, whole: Kept) -> None:
        """Compares with a snapshot that the recent messages are added to, as far as it reaches."""
        after = [each for each in self._recent if not self._is_in(each, whole.last)]
        if whole.last is None or self.last_id is None or whole.last > self.last_id:
            return
        if after and not _continues(after[0], whole.last):
            return
        self.snapshots_compared += 1
        differing = sum(
            levels_differing(
                side, own, (whole.bids, whole.asks)[side], [(m.bids, m.asks)[side] for m in after]
            )
            for side, own in enumerate(sides_of(self._levels))
        )
        self.snapshots_differing += differing
        if differing:
            self._lose(f"a snapshot at {whole.last} differs in {differing} levels")
            self._replace(whole, "a snapshot that differed")
            for message in after:
                self._apply(message)


_NOTHING = np.empty((2, 0), np.int64), np.empty((2, 0), np.int64)


def _continues(message: Kept, last: int | None) -> bool:
    return message.start is None or last is None or message.start <= last

"""Holds rows back until there is evidence about them, and says what it shows.

A snapshot that disagrees does not say since when the book was wrong: it was in doubt since the last
evidence that it was right. So no row leaves before the next piece of evidence:

* between two that agree (a snapshot that seeded, replaced or matched the book, and one that
  matched it, or a proof by ids) rows are **verified**;
* where a snapshot disagreed in between, and was not found to be misplaced or stale, all of them
  carry SNAPSHOT_MISMATCH;
* so do those between two such failures less than `MATCHES_TO_TRUST` matches apart, and those after
  the second if the day ends before so many match: where a book fails again and again, and no ids
  prove it, a match proves little;
* rows that a late message belongs before carry OUT_OF_ORDER;
* the others are neither: nothing contradicts them, and nothing confirms them.

Evidence reaches back over at most `MOST_MESSAGES` rows, and `MOST_DEPTH_ROWS` of depth: where more
come without any, the oldest leave unverified, with the flags known by then. The latest rows stay
even if there is evidence, as long as a late message may belong before them. No row with a flag that
speaks against its book is verified. None of this depends on how many rows come at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.state import HISTORY_MESSAGES, BboRows, DepthRows, Evidence, Proof
from market_pipeline.mapped import ColumnArray

__all__ = ["MATCHES_TO_TRUST", "MOST_DEPTH_ROWS", "MOST_MESSAGES", "Lookback", "LookbackState"]

MOST_MESSAGES = 1 << 18
MOST_DEPTH_ROWS = 1 << 14
MATCHES_TO_TRUST = 64
"""So many matches in a row end what a mismatch says of the rows after it."""

_Rows = TypeVar("_Rows", BboRows, DepthRows)
_FAILED = np.uint16(BookFlag.SNAPSHOT_MISMATCH)
_OUT_OF_ORDER = np.uint16(BookFlag.OUT_OF_ORDER)
_NOT_VERIFIABLE = np.uint16(INVALIDATING | BookFlag.UNCONFIRMED_DEPTH)
_LOOKBACK_FLAGS = _FAILED | _OUT_OF_ORDER


@dataclass(frozen=True, slots=True)
class LookbackState:
    """All that a `Lookback` knows between two blocks: one that starts from it goes on alike.

    Attributes:
        bbo, depth: The rows that are held.
        keyframes: The keyframes that are.
        first: The first message that is held.
        settled: The first that nothing is known of yet.
        has_anchor: Whether evidence came before it.
        is_in_doubt: Whether a snapshot has disagreed since.
        failed: The first message after the last failure of which another one would say something.
        matches: How many matches in a row there were since; `MATCHES_TO_TRUST` if that is long ago.
        is_failing: Whether that failure came soon after another one.
        end_flags: Once all rows have left, what the evidence says against the book at the end.
    """

    bbo: BboRows | None
    depth: DepthRows | None
    keyframes: list[Keyframe]
    first: int
    settled: int
    has_anchor: bool
    is_in_doubt: bool
    failed: int
    matches: int
    is_failing: bool
    end_flags: int


class Lookback:
    """Takes what a rebuild writes, and hands out what no later evidence will change.

    Args:
        ids_prove: Whether ids link each message to the one before, so that rows after the seed are
            proven up to the next lost message.
        start: The state to resume from.
    """

    def __init__(self, *, ids_prove: bool = False, start: LookbackState | None = None) -> None:
        start = start or LookbackState(
            None, None, [], 0, 0, False, False, 0, MATCHES_TO_TRUST, False, 0
        )
        self._ids_prove = ids_prove
        self._bbo, self._depth = start.bbo, start.depth
        self._keyframes = list(start.keyframes)
        self._first, self._settled = start.first, start.settled
        self._has_anchor, self._is_in_doubt = start.has_anchor, start.is_in_doubt
        self._failed, self._matches = start.failed, start.matches
        self._is_failing = start.is_failing
        self._end_flags = start.end_flags

    def state(self) -> LookbackState:
        """The state to resume from."""
        return LookbackState(
            self._bbo,
            self._depth,
            list(self._keyframes),
            self._first,
            self._settled,
            self._has_anchor,
            self._is_in_doubt,
            self._failed,
            self._matches,
            self._is_failing,
            self._end_flags,
        )

    def keep(self, keyframe: Keyframe) -> None:
        """Takes a keyframe, which leaves with the row that it follows."""
        self._keyframes.append(keyframe)

    def take(
        self, bbo: BboRows, depth: DepthRows, evidence: Evidence, *, last: bool = False
    ) -> Iterator[BboRows | DepthRows | Keyframe]:
        """Takes the next rows, and the evidence met with them; yields what can leave.

        Args:
            bbo, depth: Consecutive rows; they are not changed, and not kept.
            evidence: In the order it was met.
            last: Whether nothing comes after them, so that everything leaves.
        """
        bbo, depth = _joined(self._bbo, bbo), _joined(self._depth, depth)
        end = self._first + bbo.flags.size
        self._settle(bbo, depth, evidence, end)
        # Nothing more will be known of the rows too far behind the last ones.
        reach = end if last else self._reach(depth, end)
        is_renewed = self._settled == end and not self._is_failing
        self._leave_unsettled(bbo, reach)
        self._leave_failing(bbo, reach)
        bbo.verified[:] &= (bbo.flags & _NOT_VERIFIABLE) == 0
        # Depth rows and keyframes say of a message what its row does.
        at = depth.message - self._first
        depth.flags[:] |= bbo.flags[at] & _LOOKBACK_FLAGS
        depth.verified[:] = bbo.verified[at]
        leaves = min(self._settled, end - HISTORY_MESSAGES)
        if self._matches < MATCHES_TO_TRUST:
            leaves = min(leaves, self._failed)
        leaves = end if last else max(self._first, leaves)
        rows, depth_rows = leaves - self._first, int(np.searchsorted(depth.message, leaves))
        keyframes = [each for each in self._keyframes if each.messages <= leaves or last]
        self._keyframes = self._keyframes[len(keyframes) :]
        if rows:
            yield _part(bbo, slice(rows))
        if depth_rows:
            yield _part(depth, slice(depth_rows))
        if last and rows:
            # The book at the day's end may be newer than the last row.
            self._end_flags = 0 if is_renewed else int(bbo.flags[-1] & _LOOKBACK_FLAGS)
        for each in keyframes:
            is_last = each.kind == "closing" or each.messages <= self._first
            at_row = each.messages - 1 - self._first
            more = self._end_flags if is_last else int(bbo.flags[at_row] & _LOOKBACK_FLAGS)
            yield replace(each, flags=each.flags | more)
        self._bbo, self._depth = (
            _part(bbo, slice(rows, None)),
            _part(depth, slice(depth_rows, None)),
        )
        self._first = leaves

    def _settle(self, bbo: BboRows, depth: DepthRows, evidence: Evidence, end: int) -> None:
        """Says of the rows before the last anchor what the evidence shows."""
        kinds, messages = evidence.kind, evidence.message
        is_short = bbo.flags.size <= MOST_MESSAGES and depth.message.size < MOST_DEPTH_ROWS
        is_sound = self._matches == MATCHES_TO_TRUST and not self._is_in_doubt
        if is_short and is_sound and ((kinds == Proof.MATCH) | (kinds == Proof.ADOPTED)).all():
            # The usual case, without a look at each of the hundred thousand snapshots of a day.
            messages = messages[messages >= self._settled]
            kinds = kinds[kinds.size - messages.size :]
            if messages.size:
                is_match = kinds == Proof.MATCH
                is_match[0] &= self._has_anchor
                counts = np.diff(messages, prepend=self._settled)
                rows = slice(self._settled - self._first, int(messages[-1]) - self._first)
                bbo.verified[rows] = np.repeat(is_match, counts)
                self._settled, self._has_anchor = int(messages[-1]), True
            return
        now = self._settled
        pieces = zip(kinds.tolist(), messages.tolist(), evidence.levels.tolist(), strict=True)
        for kind, message, levels in pieces:
            now = max(now, levels if kind == Proof.LATE else message)
            reach = min(self._reach(depth, now), end)
            self._leave_unsettled(bbo, reach)
            self._leave_failing(bbo, reach)
            if kind == Proof.LATE:
                rows = slice(max(message - self._first, 0), levels - self._first)
                bbo.flags[rows] |= _OUT_OF_ORDER
            elif kind == Proof.MISMATCH:
                self._is_in_doubt = True
            elif kind == Proof.EXPLAINED:
                self._is_in_doubt = False
            else:
                settled = max(message, self._settled)
                rows = slice(self._settled - self._first, settled - self._first)
                if self._is_in_doubt:
                    bbo.flags[rows] |= _FAILED
                    self._fail(bbo, settled)
                else:
                    bbo.verified[rows] = self._has_anchor and kind == Proof.MATCH
                    # A proof by ids compares no level.
                    self._match(kind == Proof.MATCH and levels > 0)
                self._settled = settled
                self._has_anchor, self._is_in_doubt = True, False

    def _fail(self, bbo: BboRows, until: int) -> None:
        """A snapshot failed, and the rows up to a message with it."""
        self._is_failing = self._matches < MATCHES_TO_TRUST and not self._ids_prove
        if self._is_failing:
            bbo.flags[self._failed - self._first : until - self._first] |= _FAILED
        self._failed, self._matches = until, 0

    def _match(self, is_comparison: bool) -> None:
        self._matches = min(self._matches + is_comparison, MATCHES_TO_TRUST)
        self._is_failing &= self._matches < MATCHES_TO_TRUST

    def _leave_failing(self, bbo: BboRows, until: int) -> None:
        """Lets go of the rows up to a message, of which a further failure says nothing any more."""
        if self._is_failing and until > self._failed:
            bbo.flags[self._failed - self._first : until - self._first] |= _FAILED
        self._failed = max(self._failed, until)

    def _reach(self, depth: DepthRows, now: int) -> int:
        """The first message that evidence given before a message can say something about."""
        reach = now - MOST_MESSAGES
        depth_rows = int(np.searchsorted(depth.message, now))
        if depth_rows >= MOST_DEPTH_ROWS:
            reach = max(reach, int(depth.message[depth_rows - MOST_DEPTH_ROWS]))
        return reach

    def _leave_unsettled(self, bbo: BboRows, until: int) -> None:
        """Says of the rows up to a message what is known without further evidence."""
        if until <= self._settled:
            return
        rows = slice(self._settled - self._first, until - self._first)
        if self._is_in_doubt:
            bbo.flags[rows] |= _FAILED
        elif self._ids_prove and self._has_anchor:
            bbo.verified[rows] = (bbo.flags[rows] & np.uint16(BookFlag.GAP)) == 0
        self._settled = until


def _joined(held: _Rows | None, new: _Rows) -> _Rows:
    """The rows that are held, and new ones, as arrays of their own.

    Each level of depth lies in one piece, as it is published, so that nobody copies it again.
    """
    if held is None:
        return type(new)._make(column.copy(order="F") for column in new)
    columns: Iterable[tuple[ColumnArray, ColumnArray]] = zip(held, new, strict=True)
    return type(new)._make(_column_joined(*each) for each in columns)


def _column_joined(held: ColumnArray, new: ColumnArray) -> ColumnArray:
    shape = (held.shape[0] + new.shape[0], *new.shape[1:])
    return np.concatenate((held, new), out=np.empty(shape, new.dtype, order="F"))


def _part(rows: _Rows, which: slice) -> _Rows:
    return type(rows)._make(column[which] for column in rows)

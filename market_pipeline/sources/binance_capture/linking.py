"""Which messages follow each other without loss: the venue's rules for update ids.

Every depth event names the last update it holds (`u`). What it continues is named on spot by its
first update (`U`, one more than the `u` before) and on futures by the `u` before itself (`pu`), for
there ids have holes. Both become a `start` here: the update id up to which the event needs the book
to be right. An event continues a book at id L if start <= L <= u.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from market_pipeline.sources.binance_capture.lines import FindingKind, Findings
from market_pipeline.sources.venues.continuity import Step, step_between

__all__ = [
    "MARKET_OF_VENUE",
    "Link",
    "Linker",
    "Market",
    "PlacedSnapshot",
    "SnapshotPlacer",
    "capture_symbol",
]

Market = Literal["spot", "usdm", "coinm"]

MARKET_OF_VENUE: dict[str, Market] = {
    "BINANCE": "spot",
    "BINANCE_FUTURES": "usdm",
    "BINANCE_DELIVERY": "coinm",
}
"""The market whose rules hold, by the venue of an instrument."""


def capture_symbol(market: Market, symbol: str) -> str:
    """An instrument's symbol as the venue spells it: BTC-USDT-PERP is BTCUSDT, or BTCUSD_PERP."""
    if market == "coinm":
        base_and_quote, _, contract = symbol.rpartition("-")
        return f"{base_and_quote.replace('-', '')}_{contract}"
    return symbol.removesuffix("-PERP").replace("-", "")


@dataclass(frozen=True, slots=True)
class PlacedSnapshot:
    """A snapshot's line, its id, and the sequence number after which the book is to meet it."""

    file: Path
    line: int
    last_update_id: int
    sequence_number: int


class SnapshotPlacer:
    """Gives each snapshot its place among the messages, or none to one that is out of date.

    On futures the venue applies to a snapshot also the event whose `u` is the snapshot's own id.
    The first snapshot, which may seed the book, is therefore placed one lower. Later ones are not:
    after that very event they are compared.

    Args:
        market: Whose rules hold.
        first_start: The start of the stream's first event; None if there is no event.
        findings: Receives each snapshot that gets no place.
    """

    def __init__(self, market: Market, first_start: int | None, findings: Findings) -> None:
        self._first_place_lower = 0 if market == "spot" else 1
        self._lowest = first_start
        self._first = True
        self._findings = findings

    def place(self, file: Path, line: int, last_update_id: int) -> PlacedSnapshot | None:
        """The place of the next snapshot in file order."""
        if self._lowest is not None and last_update_id < self._lowest:
            self._findings.add(
                FindingKind.SNAPSHOT_OUT_OF_DATE,
                file,
                line,
                f"lastUpdateId of at least {self._lowest}",
                f"lastUpdateId={last_update_id}",
            )
            return None
        lower = self._first_place_lower if self._first else 0
        self._first = False
        self._lowest = last_update_id
        return PlacedSnapshot(file, line, last_update_id, last_update_id - lower)


class Link(Enum):
    """What is to be done with an event: applied or left out, and what was lost before it.

    `APPLY_RECOVERED` is an event after a gap in which the book meets a snapshot that leads to it.
    """

    APPLY = "apply"
    APPLY_AFTER_GAP = "apply_after_gap"
    APPLY_RECOVERED = "apply_recovered"
    LEAVE_OUT = "leave_out"


class Linker:
    """Follows the ids of a stream, event by event, and says which are applied and where loss is.

    An event without levels changes nothing, but its ids link: it is as if the next event began
    where it did.

    Args:
        market: Whose rules hold.
        snapshots: Gives all snapshots that the book will meet, in their order; called where an
            event does not continue the one before, and not before.
        findings: Receives duplicates, late events, gaps, and snapshots that nothing continues.
        begins_whole: Whether nothing counts as lost before the first event, whatever leads to it.
    """

    def __init__(
        self,
        market: Market,
        snapshots: Callable[[], Sequence[PlacedSnapshot]],
        findings: Findings,
        *,
        begins_whole: bool = False,
    ) -> None:
        self._is_spot = market == "spot"
        self._snapshots = cache(snapshots)
        self._findings = findings
        self._begins_whole = begins_whole
        self._last_seen: tuple[int, int] | None = None
        self._empty_start: int | None = None
        self._last_applied: int | None = None
        self._lost_since_applied = False

    def follow(self, starts: NDArray[np.int64], lasts: NDArray[np.int64]) -> bool:
        """Links consecutive events with levels if each continues the one before: all are applied.

        Args:
            starts, lasts: int64 (n,), n > 0, as for `link`.

        Returns:
            Whether it is so; if not, nothing is done.
        """
        if self._last_seen is None or self._last_seen[1] != self._last_applied:
            return False
        before = np.concatenate((self._last_seen[1:], lasts[:-1]))
        if not ((starts == before) & (lasts > before)).all():
            return False
        self._last_seen = (int(starts[-1]), int(lasts[-1]))
        self._last_applied = self._last_seen[1]
        return True

    def link(self, file: Path, line: int, start: int, u: int, *, has_levels: bool) -> Link:
        """Links the next event of the stream in file order."""
        step = step_between(self._last_seen and self._last_seen[1], start, u)
        if step is Step.OLD:
            self._report_old(file, line, start, u)
            return Link.LEAVE_OUT
        if step is Step.GAP:
            self._report_gap(file, line, start)
            self._lost_since_applied = True
        self._last_seen = (start, u)
        if step is Step.FOLLOWS and self._empty_start is not None:
            start = self._empty_start
        self._empty_start = None if has_levels else start
        if not has_levels:
            return Link.LEAVE_OUT
        link = self._link_to_book(start, u)
        self._last_applied = u
        self._lost_since_applied = False
        return link

    def _link_to_book(self, start: int, u: int) -> Link:
        """What is lost before an event with levels when the book has met the snapshots there."""
        lost, before = self._lost_since_applied, self._last_applied
        if not lost and (before is not None or self._begins_whole):
            return Link.APPLY
        # The book meets a snapshot before the first event above its place.
        snapshots, place = self._snapshots(), attrgetter("sequence_number")
        begin = 0 if before is None else bisect_left(snapshots, before, key=place)
        met = snapshots[begin : bisect_left(snapshots, u, key=place)]
        for snapshot in met:
            if snapshot.last_update_id < start and snapshot.last_update_id != before:
                self._findings.add(
                    FindingKind.SNAPSHOT_OUT_OF_DATE,
                    snapshot.file,
                    snapshot.line,
                    f"lastUpdateId of at least {start}",
                    f"lastUpdateId={snapshot.last_update_id}",
                )
        # A book with a gap takes over the first snapshot it meets and counts as right from there,
        # so one after that would recover nothing.
        if not met or met[0].last_update_id < start:
            is_begin = before is None and self._begins_whole
            return Link.APPLY if is_begin else Link.APPLY_AFTER_GAP
        return Link.APPLY_RECOVERED if lost else Link.APPLY

    def _report_old(self, file: Path, line: int, start: int, u: int) -> None:
        assert self._last_seen is not None
        again = (start, u) == self._last_seen
        kind = FindingKind.DUPLICATE if again else FindingKind.OUT_OF_ORDER
        self._findings.add(kind, file, line, f"u above {self._last_seen[1]}", f"u={u}")

    def _report_gap(self, file: Path, line: int, start: int) -> None:
        assert self._last_seen is not None
        name, more = ("U", 1) if self._is_spot else ("pu", 0)
        expected = f"{name}={self._last_seen[1] + more}"
        self._findings.add(FindingKind.GAP, file, line, expected, f"{name}={start + more}")

"""Intervals in which the book is not, or not fully, to be trusted, and what ended each.

Every book flag has intervals of its own: one begins with the first row that carries the flag and
ends before the first row that does not. GAP begins a message earlier, with the last message that is
known, because nobody knows the book during the silence. A repair that ends no interval is a row of
its own. Time whose rows are not verified is an interval of the cause UNVERIFIED.

Times are those of a receipt clock that never runs backwards: where the host's clock was set back,
it stands still until it has caught up, so that no second is counted twice.

Rows come in the order in which the intervals end, whatever blocks the book came in, and memory
does not grow with their number.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from market_pipeline.books.evidence import (
    CAUSES,
    POLICY,
    SPAN,
    UNVERIFIED,
    Action,
    SpanArray,
    evidence_of,
    position_of,
)
from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.scale import Scale
from market_pipeline.books.soundness import sound_times_ns
from market_pipeline.books.state import BboRows, Repair, Repairs, Resync
from market_pipeline.books.tables import INTERVALS
from market_pipeline.config.instruments import Instrument

__all__ = ["Intervals", "IntervalsState"]

_BATCH_ROWS = 1 << 14
_LAST_NS = int(np.iinfo(np.int64).max)

# The flags a repair is made for …
_REASONS = {
    Repair.SEED: BookFlag.NOT_SEEDED,
    Repair.RESYNC: (
        BookFlag.GAP | BookFlag.CROSSED | BookFlag.SNAPSHOT_MISMATCH | BookFlag.PRECISION_LOSS
    ),
    Repair.CONFIRMED: BookFlag.GAP | BookFlag.SNAPSHOT_MISMATCH,
    Repair.UNCROSS: BookFlag.CROSSED,
}
# … and those it may end besides, because it changes the touch or the horizon.
_ENDS = {
    Repair.SEED: ~BookFlag(0),
    Repair.RESYNC: ~BookFlag.NOT_SEEDED,
    Repair.CONFIRMED: _REASONS[Repair.CONFIRMED],
    Repair.UNCROSS: _REASONS[Repair.UNCROSS],
}

# Not a published flag: what `verified` says, as the highest bit.
_UNVERIFIED = 1 << 15


@dataclass(frozen=True, slots=True)
class IntervalsState:
    """All that `Intervals` knows between two blocks: one that starts from it goes on alike.

    Attributes:
        messages: Rows taken so far.
        time_ns, sequence_number, flags: Of the last of them, on the clock that never runs back.
        open: The intervals under way, those of lower flags first.
        found: Intervals that ended and were not handed out yet.
        repairs: Those that concern rows to come.
    """

    messages: int
    time_ns: int
    sequence_number: int
    flags: int
    open: SpanArray
    found: SpanArray
    repairs: Repairs


class Intervals:
    """Collects the intervals of one instrument's day from the blocks of its rebuild.

    Give it the blocks in their order; what it returns are rows of `books.intervals`, a batch at a
    time.

    Args:
        instrument, day: Whose book it is.
        price_scale: The tick of that day.
        resync: The policy of the rebuild: with `ALWAYS` a snapshot that replaced the book says
            nothing against it.
        silences: int64 (k, 3), ascending: start_ns, end_ns and trades of the silences because of
            which messages are suspected to be lost; their trades are evidence of a GAP.
        start: The state to resume from.
    """

    def __init__(
        self,
        instrument: Instrument,
        day: date,
        price_scale: Scale,
        resync: Resync = Resync.WHEN_INVALID,
        silences: NDArray[np.int64] | None = None,
        start: IntervalsState | None = None,
    ) -> None:
        self._identity = (instrument.venue, instrument.symbol, day)
        self._price_scale = price_scale
        self._always = resync == Resync.ALWAYS
        self._silences = np.empty((0, 3), np.int64) if silences is None else silences
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        self._day_start_ns = int(midnight.timestamp()) * 1_000_000_000
        self._day_end_ns = self._day_start_ns + 86_400_000_000_000
        if start is None:
            none = np.empty(0, SPAN)
            start = IntervalsState(0, self._day_start_ns, 0, 0, none, none, _concatenated([]))
        self._messages, self._time_ns = start.messages, start.time_ns
        self._sequence_number, self._flags = start.sequence_number, start.flags
        self._open = {
            int(cause): start.open[k : k + 1].copy() for k, cause in enumerate(start.open["cause"])
        }
        self._found = [start.found]
        self._repairs = start.repairs

    def know_silences(self, silences: NDArray[np.int64]) -> None:
        """Takes the silences of the day, before the rows that come after the first of them."""
        self._silences = silences

    def state(self) -> IntervalsState:
        """The state to resume from."""
        return IntervalsState(
            self._messages,
            self._time_ns,
            self._sequence_number,
            self._flags,
            np.concatenate([np.empty(0, SPAN), *self._open.values()]),
            np.concatenate(self._found),
            self._repairs,
        )

    def add_repairs(self, repairs: Repairs) -> None:
        """Takes the repairs that concern rows to come."""
        self._repairs = _concatenated([self._repairs, repairs])

    def add_rows(self, rows: BboRows) -> list[pa.RecordBatch]:
        """Takes the next rows of the book and returns the intervals that are complete, if many."""
        if rows.flags.size == 0:
            return []
        due = self._take_repairs(self._messages + rows.flags.size)
        flags = rows.flags | np.where(rows.verified, 0, _UNVERIFIED).astype(np.uint16)
        times_ns = _sound_times_ns(rows, self._time_ns)
        if self._flags or due.kind.size or flags.any():
            self._find(rows, flags, self._block(rows, flags, times_ns), due)
        last_ns = int(times_ns.max())
        self._time_ns = max(self._time_ns, last_ns) if self._messages else last_ns
        self._sequence_number = int(rows.sequence_number[-1])
        self._flags = int(flags[-1])
        self._messages += rows.flags.size
        return self._batches() if sum(map(len, self._found)) >= _BATCH_ROWS else []

    def finish(self) -> list[pa.RecordBatch]:
        """Returns the rest, intervals that the day's end cut short included.

        These reach to the end of the UTC day, or just beyond the last message if that was later:
        nothing better was heard of the book until then.
        """
        end_ns = max(self._day_end_ns, min(self._time_ns + 1, _LAST_NS))
        for spans in self._open.values():
            spans["end_ns"] = end_ns
            spans["messages"] = self._messages - spans["first_message"]
            spans["action"] = Action.OPEN
        rest = self._take_repairs(self._messages + 1)
        none_used = np.zeros(rest.kind.size, np.bool_)
        after = _Block(
            self._messages,
            np.array([self._time_ns, end_ns]),
            np.array([self._sequence_number] * 2),
            np.array([self._flags, 0], np.uint16),
        )
        self._found += [*self._open.values(), self._alone(rest, none_used, after, ended=False)]
        self._open = {}
        return self._batches()

    def _take_repairs(self, before_message: int) -> Repairs:
        repairs = self._repairs
        if repairs.message.size == 0:
            return repairs
        due = int(np.searchsorted(repairs.message, before_message))
        self._repairs = Repairs._make(column[due:] for column in repairs)
        return Repairs._make(column[:due] for column in repairs)

    def _block(
        self, rows: BboRows, flags: NDArray[np.uint16], times_ns: NDArray[np.int64]
    ) -> _Block:
        head_ns, head_number = self._time_ns, self._sequence_number
        if self._messages == 0:
            head_ns, head_number = int(times_ns[0]), rows.sequence_number[0]
        return _Block(
            self._messages,
            np.maximum.accumulate(np.append(head_ns, times_ns)),
            np.append(head_number, rows.sequence_number),
            np.append(np.uint16(self._flags), flags),
        )

    def _find(self, rows: BboRows, flags: NDArray[np.uint16], block: _Block, due: Repairs) -> None:
        """Adds the intervals that end in a block, and keeps those that go on."""
        changed = block.flags[1:] ^ block.flags[:-1]
        edges = np.flatnonzero(changed)
        used = np.zeros(due.kind.size, np.bool_)
        found = []
        for cause, bit in _BITS.items():
            at = edges[(changed[edges] & np.uint16(bit)) != 0]
            if at.size == 0 and cause not in self._open:
                continue
            begins = (flags[at] & np.uint16(bit)) != 0
            open_runs = self._open.pop(cause, np.empty(0, SPAN))
            runs = np.concatenate([open_runs, _begun(rows, block, cause, at[begins])])
            ends = at[~begins]
            if bit == BookFlag.CROSSED and runs.size:
                _deepen(runs, ends, rows, block)
            if runs.size > ends.size:
                self._open[cause] = runs[-1:].copy()
                runs = runs[:-1]
            _end(runs, ends, block)
            if cause != UNVERIFIED:
                _attribute(runs, BookFlag(bit), due, used)
            found.append(runs)
        found.append(self._alone(due, used, block, ended=True))
        spans = np.concatenate(found)
        order = np.argsort(spans["first_message"] + spans["messages"], kind="stable")
        self._found.append(spans[order])

    def _alone(
        self, due: Repairs, used: NDArray[np.bool_], block: _Block, *, ended: bool
    ) -> SpanArray:
        """The repairs that ended no interval they are made for, each as an interval of no row.

        One that no row before it asks for shows that a snapshot mismatched between two messages:
        it holds from the message that was compared to the next. The others take no time.
        """
        repairs = Repairs._make(column[~used] for column in due)
        row = repairs.message - block.first_message
        cause = self._cause_alone(repairs.kind, block.flags[row])
        failed = cause < 0
        point = row + ended
        spans = np.zeros(row.size, SPAN)
        spans["cause"] = np.where(failed, position_of(BookFlag.SNAPSHOT_MISMATCH), cause)
        spans["start_ns"] = np.where(failed, block.time_ns[row], block.time_ns[point])
        spans["end_ns"] = np.where(failed, block.time_ns[row + 1], block.time_ns[point])
        spans["invalidates"] = failed
        spans["start_sequence_number"] = block.sequence_number[np.where(failed, row, point)]
        spans["end_sequence_number"] = block.sequence_number[row + 1]
        spans["ended"] = ended
        spans["first_message"] = repairs.message
        _set_repair(spans, np.arange(row.size), repairs, np.arange(row.size))
        return spans

    def _cause_alone(self, kind: NDArray[np.int64], flags: NDArray[np.uint16]) -> NDArray[np.int64]:
        """What a repair was made for, by the flags of the row before it; -1 for a mismatch."""
        reasons = np.zeros(kind.size, np.uint16)
        for repair in (Repair.RESYNC, Repair.CONFIRMED):
            reasons[kind == repair] = _REASONS[repair]
        reasons &= flags
        lowest = np.log2(np.maximum(reasons & (~reasons + np.uint16(1)), 1)).astype(np.int64)
        by_policy = self._always & (kind == Repair.RESYNC)
        return np.select(
            [kind == Repair.SEED, kind == Repair.UNCROSS, reasons != 0, by_policy],
            [position_of(BookFlag.NOT_SEEDED), position_of(BookFlag.CROSSED), lowest, POLICY],
            default=-1,
        )

    def _batches(self) -> list[pa.RecordBatch]:
        """What was found since the last call, as rows of the table."""
        spans = np.concatenate(self._found)
        self._found = [spans[:0]]
        if spans.size == 0:
            return []
        columns = [
            *(pa.repeat(pa.scalar(value), spans.size) for value in self._identity),
            pa.array(spans["start_ns"]),
            pa.array(spans["end_ns"]),
            pa.array(CAUSES).take(pa.array(spans["cause"])),
            pa.array(spans["invalidates"] != 0),
            pa.array([action.name.lower() for action in Action]).take(pa.array(spans["action"])),
            pa.array(spans["start_sequence_number"]),
            pa.array(spans["end_sequence_number"], mask=spans["ended"] == 0),
            pa.array(spans["first_message"]),
            pa.array(spans["messages"]),
            evidence_of(spans, self._price_scale, self._silences),
        ]
        return [pa.RecordBatch.from_arrays(columns, schema=INTERVALS.arrow_schema)]


_BITS = {position_of(flag): int(flag) for flag in BookFlag} | {UNVERIFIED: _UNVERIFIED}
"""What has intervals: the bit of each cause in the flags of a block."""


def _sound_times_ns(rows: BboRows, last_ns: int) -> NDArray[np.int64]:
    """The receipt times, with those that are not to be believed as the ones before.

    Before the first message of a day that is the day's beginning.
    """
    is_bad = (rows.flags & np.uint16(BookFlag.BAD_TS_RECEIPT)) != 0
    if not is_bad.any():
        return rows.ts_receipt_ns
    times_ns = np.append(last_ns, rows.ts_receipt_ns)
    return sound_times_ns(times_ns, np.append(np.False_, is_bad))[1:]


class _Block(NamedTuple):
    """Times, numbers and flags of consecutive rows, behind those of the message before them.

    The row of message `first_message + k` is therefore at k + 1.
    """

    first_message: int
    time_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    flags: NDArray[np.uint16]


def _begun(rows: BboRows, block: _Block, cause: int, at: NDArray[np.int64]) -> SpanArray:
    """Intervals that begin with rows of a block."""
    start = at if cause == position_of(BookFlag.GAP) else at + 1
    spans = np.zeros(at.size, SPAN)
    spans["cause"] = cause
    spans["start_ns"] = block.time_ns[start]
    spans["invalidates"] = bool(_BITS[cause] & INVALIDATING)
    spans["start_sequence_number"] = block.sequence_number[start]
    spans["first_message"] = block.first_message + at
    spans["shown_ns"] = block.time_ns[at + 1]
    spans["shown_sequence_number"] = block.sequence_number[at + 1]
    for name in ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots"):
        spans[name] = getattr(rows, name)[at]
    return spans


def _deepen(runs: SpanArray, ends: NDArray[np.int64], rows: BboRows, block: _Block) -> None:
    """Takes the crossed rows of a block into account; together the runs cover all of them."""
    crossed = np.flatnonzero(rows.flags & np.uint16(BookFlag.CROSSED))
    after = np.append(ends, rows.flags.size)[: runs.size]
    lengths = after - np.maximum(runs["first_message"] - block.first_message, 0)
    # A run from the block before has no row here if the first row ends it.
    here = np.flatnonzero(lengths)
    if here.size == 0:
        return
    firsts = np.cumsum(lengths[here]) - lengths[here]
    depth = rows.bid_price_ticks[crossed] - rows.ask_price_ticks[crossed]
    deepest = np.maximum.reduceat(depth, firsts)
    run_of = np.repeat(np.arange(here.size), lengths[here])
    hits = np.flatnonzero(depth == deepest[run_of])
    first_hit = hits[np.searchsorted(run_of[hits], np.arange(here.size))]
    deeper = deepest > runs["deepest_ticks"][here]
    runs["deepest_ticks"][here[deeper]] = deepest[deeper]
    runs["deepest_ns"][here[deeper]] = block.time_ns[crossed[first_hit[deeper]] + 1]


def _end(runs: SpanArray, ends: NDArray[np.int64], block: _Block) -> None:
    """Ends intervals before rows of a block."""
    runs["end_ns"] = block.time_ns[ends + 1]
    runs["end_sequence_number"] = block.sequence_number[ends + 1]
    runs["ended"] = True
    runs["messages"] = block.first_message + ends - runs["first_message"]


def _attribute(runs: SpanArray, flag: BookFlag, due: Repairs, used: NDArray[np.bool_]) -> None:
    """Names the first repair that may have ended an interval of a flag, and marks it as used."""
    able = [repair for repair in Repair if flag & _ENDS[repair]]
    candidates = np.flatnonzero(np.isin(due.kind, able))
    if candidates.size == 0 or runs.size == 0:
        return
    message = due.message[candidates]
    ended = runs["first_message"] + runs["messages"]
    at = np.minimum(np.searchsorted(message, ended), candidates.size - 1)
    by_repair = np.flatnonzero(message[at] == ended)
    chosen = candidates[at[by_repair]]
    _set_repair(runs, by_repair, due, chosen)
    reasons = [repair for repair in able if flag & _REASONS[repair]]
    used[chosen] |= np.isin(due.kind[chosen], reasons)


def _set_repair(
    spans: SpanArray, at: NDArray[np.int64], repairs: Repairs, chosen: NDArray[np.int64]
) -> None:
    spans["action"][at] = repairs.kind[chosen]
    for name in ("sequence_number", "levels", "low_ticks", "high_ticks"):
        spans[f"repair_{name}"][at] = getattr(repairs, name)[chosen]


def _concatenated(blocks: list[Repairs]) -> Repairs:
    if not blocks:
        return Repairs._make(np.empty(0, np.int64) for _ in Repairs._fields)
    return Repairs._make(np.concatenate(columns) for columns in zip(*blocks, strict=True))

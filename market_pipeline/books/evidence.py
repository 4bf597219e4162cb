"""What a row of `books.intervals` says: its figures as an array, and its evidence in words.

Words are put together in Arrow, column by column, because a book that flickers crossed all day has
a million intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from market_pipeline.books.flags import MEANING, BookFlag
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import Repair

__all__ = [
    "CAUSES",
    "POLICY",
    "SPAN",
    "UNVERIFIED",
    "Action",
    "SpanArray",
    "evidence_of",
    "position_of",
]

_Int64s = NDArray[np.int64]

SpanArray = NDArray[np.void]
"""Intervals as a structured array of `SPAN`."""

SPAN = np.dtype(
    [
        (name, np.int64)
        for name in (
            # Columns of the table.
            "cause",
            "start_ns",
            "end_ns",
            "invalidates",
            "action",
            "start_sequence_number",
            "end_sequence_number",
            "ended",
            "first_message",
            "messages",
            # The first row that shows it.
            "shown_ns",
            "shown_sequence_number",
            "bid_price_ticks",
            "bid_size_lots",
            "ask_price_ticks",
            "ask_size_lots",
            # The deepest cross.
            "deepest_ticks",
            "deepest_ns",
            # The repair that ended it.
            "repair_sequence_number",
            "repair_levels",
            "repair_low_ticks",
            "repair_high_ticks",
        )
    ]
)
"""One interval in numbers; `cause` is a position in `CAUSES`, `action` an `Action`.

`ended` is 0 where the day ended first, and `end_sequence_number` then means nothing.
"""


class Action(IntEnum):
    """What ended an interval: a repair, nothing but messages, or the day."""

    NONE = 0
    SEED = Repair.SEED
    RESYNC = Repair.RESYNC
    CONFIRMED = Repair.CONFIRMED
    UNCROSS = Repair.UNCROSS
    OPEN = 5


CAUSES = (*(str(flag.name) for flag in BookFlag), "POLICY", "UNVERIFIED")
"""The book flags in the order of their bits, the policy that always takes a snapshot over, and time
in which no two pieces of evidence agree.
"""

POLICY = len(BookFlag)
UNVERIFIED = POLICY + 1

_BY_MESSAGES = "later messages resolved it"
_RESOLVED = {
    "GAP": "a later snapshot matched",
    "SNAPSHOT_MISMATCH": "a later snapshot agreed",
    "UNVERIFIED": "a later snapshot agreed",
    "UNCONFIRMED_DEPTH": "later messages or a wider snapshot resolved it",
    "STALE": "the next snapshot ended it",
}


def position_of(flag: BookFlag) -> int:
    """The position of a flag in `CAUSES`."""
    return flag.bit_length() - 1


def evidence_of(spans: SpanArray, price_scale: Scale, silences: _Int64s) -> pa.Array:
    """One sentence for each interval: what is known against the book, and what ended it.

    Args:
        spans: The intervals, shape (n,).
        price_scale: The tick of that day.
        silences: int64 (k, 3), ascending: start_ns, end_ns and trades inside.

    Returns:
        A string array of length n.
    """
    words = _Words(spans, price_scale, silences)
    causes = _by_code(spans["cause"], words.cause)
    return _joined(causes, "; ", _by_code(spans["action"], words.action), ".")


class _Words:
    """Gives the words of those intervals that share a cause or an action."""

    def __init__(self, spans: SpanArray, price_scale: Scale, silences: _Int64s) -> None:
        self._spans = spans
        self._step = price_scale.step
        self._silences = silences

    def cause(self, code: int, rows: _Int64s) -> pa.Array:
        """What is known against the book."""
        spans = self._spans[rows]
        if code == POLICY:
            return _same("Nothing was known against the book", rows.size)
        if code == UNVERIFIED:
            return _same("No two pieces of evidence that agree lie around these rows", rows.size)
        shown = {
            BookFlag.NOT_SEEDED: self._not_seeded,
            BookFlag.GAP: self._gap,
            BookFlag.CROSSED: self._crossed,
            BookFlag.LOCKED: self._locked,
            BookFlag.SNAPSHOT_MISMATCH: self._snapshot_mismatch,
            BookFlag.PRECISION_LOSS: self._precision_loss,
            BookFlag.UNCONFIRMED_DEPTH: self._unconfirmed,
            BookFlag.EMPTY_SIDE: self._empty_side,
            BookFlag.STALE: self._stale,
            BookFlag.SNAPSHOT_ONLY: self._snapshot_only,
        }
        flag = BookFlag(1 << code)
        if flag not in shown:
            return _same(MEANING[flag].removesuffix("."), rows.size)
        again = _same("No message came after the repair", rows.size)
        if (spans["ended"] != 0).any():
            again = pc.if_else(
                pa.array(spans["ended"] != 0),
                f"{CAUSES[code]} was set again by the next message",
                again,
            )
        # A repair that no row shows; those of a seed and of a mismatch have words of their own.
        alone = (spans["messages"] == 0) & (spans["invalidates"] == 0)
        alone &= ~np.isin(spans["action"], (Action.SEED, Action.UNCROSS))
        if alone.all():
            return again
        text = shown[flag](spans)
        return pc.if_else(pa.array(alone), again, text) if alone.any() else text

    def action(self, code: int, rows: _Int64s) -> pa.Array:
        """What ended it."""
        if code == Action.NONE:
            how = pa.array([_RESOLVED.get(cause, _BY_MESSAGES) for cause in CAUSES])
            return how.take(pa.array(self._spans["cause"][rows]))
        if code == Action.OPEN:
            return _same("nothing ended it before the day did", rows.size)
        spans = self._spans[rows]
        snapshot = _number(spans["repair_sequence_number"])
        levels = _count(spans["repair_levels"], "level")
        low, high = self._price(spans["repair_low_ticks"]), self._price(spans["repair_high_ticks"])
        between = _joined(levels, " between ", low, " and ", high)
        if code == Action.UNCROSS:
            return _joined("removed ", between)
        verb = {
            Action.SEED: "seeded from",
            Action.RESYNC: "replaced by",
            Action.CONFIRMED: "found right by",
        }[Action(code)]
        return _joined(verb, " the snapshot of sequence number ", snapshot, ", ", between)

    def _not_seeded(self, spans: SpanArray) -> pa.Array:
        whole = _joined(_count(spans["messages"], "message"), " came without a usable snapshot")
        earlier = np.where(spans["first_message"] == 0, "before", "after")
        alone = _joined("No message came ", pa.array(earlier), " the first usable snapshot")
        return pc.if_else(pa.array(spans["messages"] == 0), alone, whole)

    def _gap(self, spans: SpanArray) -> pa.Array:
        before = _number(spans["start_sequence_number"])
        seconds = _scaled((spans["shown_ns"] - spans["start_ns"]) // 1_000_000, Decimal("0.001"))
        missing = _joined(
            "Messages are missing between sequence numbers ",
            before,
            " and ",
            _number(spans["shown_sequence_number"]),
            ", received ",
            seconds,
            " s apart",
        )
        ends = self._silences[:, 1]
        at = np.searchsorted(ends, spans["shown_ns"])
        is_silence = at < ends.size
        is_silence[is_silence] = ends[at[is_silence]] == spans["shown_ns"][is_silence]
        if not is_silence.any():
            return missing
        trades = np.zeros(len(spans), np.int64)
        trades[is_silence] = self._silences[at[is_silence], 2]
        silent = _joined(
            "No message came for ",
            seconds,
            " s after sequence number ",
            before,
            ", and ",
            _count(trades, "trade"),
            " meanwhile",
        )
        return pc.if_else(pa.array(is_silence), silent, missing)

    def _crossed(self, spans: SpanArray) -> pa.Array:
        deepest = _joined(
            "The best bid was above the best ask by up to ",
            _count(spans["deepest_ticks"], "tick"),
            ", most at ",
            _time(spans["deepest_ns"]),
        )
        inside = _joined(
            "The message of sequence number ",
            _number(spans["repair_sequence_number"]),
            " crossed the book",
        )
        return pc.if_else(pa.array(spans["messages"] == 0), inside, deepest)

    def _locked(self, spans: SpanArray) -> pa.Array:
        price = self._price(spans["bid_price_ticks"])
        return _joined("The best bid equalled the best ask, at first at ", price)

    def _snapshot_mismatch(self, spans: SpanArray) -> pa.Array:
        return _joined(
            "A snapshot disagreed with the book, which is in doubt since the last evidence before "
            "sequence number ",
            _number(spans["start_sequence_number"]),
        )

    def _precision_loss(self, spans: SpanArray) -> pa.Array:
        message = _number(spans["start_sequence_number"])
        return _joined(
            "A value off the tick or lot was refused in the message of sequence number ", message
        )

    def _unconfirmed(self, spans: SpanArray) -> pa.Array:
        bid = self._side("bid", spans["bid_price_ticks"], spans["bid_size_lots"])
        ask = self._side("ask", spans["ask_price_ticks"], spans["ask_size_lots"])
        return _joined("The touch, at first ", bid, " and ", ask, ", lay beyond every snapshot")

    def _empty_side(self, spans: SpanArray) -> pa.Array:
        bid = self._side("bid", spans["bid_price_ticks"], spans["bid_size_lots"])
        ask = self._side("ask", spans["ask_price_ticks"], spans["ask_size_lots"])
        return _joined("A side was empty, at first with ", bid, " and ", ask)

    def _stale(self, spans: SpanArray) -> pa.Array:
        seconds = _scaled((spans["end_ns"] - spans["start_ns"]) // 1_000_000, Decimal("0.001"))
        before = _number(spans["start_sequence_number"])
        one = _joined("No snapshot came for ", seconds, " s after sequence number ", before)
        several = _joined(
            _count(spans["messages"], "snapshot"),
            " came too seldom for ",
            seconds,
            " s after sequence number ",
            before,
        )
        silent = pc.if_else(pa.array(spans["messages"] == 1), one, several)
        # A span holds whole silences, or none where the trades show nothing.
        first = np.searchsorted(self._silences[:, 0], spans["start_ns"])
        after = np.searchsorted(self._silences[:, 1], spans["end_ns"], side="right")
        trades_before = np.append(0, np.cumsum(self._silences[:, 2]))
        trades = np.where(after > first, trades_before[after] - trades_before[first], 0)
        with_trades = _joined(silent, ", and ", _count(trades, "trade"), " meanwhile")
        return pc.if_else(pa.array(trades > 0), with_trades, silent)

    def _snapshot_only(self, spans: SpanArray) -> pa.Array:
        return _joined(
            _count(spans["messages"], "row"),
            pc.if_else(pa.array(spans["messages"] == 1), " is a snapshot", " are snapshots"),
            ", because the deltas of the day cannot be used, and nobody knows the book between",
        )

    def _side(self, name: str, price_ticks: _Int64s, size_lots: _Int64s) -> pa.Array:
        price = _joined(f"{name} ", self._price(price_ticks))
        return pc.if_else(pa.array(size_lots == 0), f"no {name}", price)

    def _price(self, ticks: _Int64s) -> pa.Array:
        return _scaled(ticks, self._step)


def _by_code(codes: _Int64s, words: Callable[[int, _Int64s], pa.Array]) -> pa.Array:
    """Asks for the words of each code once, with the rows that have it."""
    order = np.argsort(codes, kind="stable")
    present, firsts = np.unique(codes[order], return_index=True)
    parts = [
        words(int(code), rows)
        for code, rows in zip(present, np.split(order, firsts[1:]), strict=True)
    ]
    if not parts:
        return pa.array([], pa.string())
    back = np.empty_like(order)
    back[order] = np.arange(order.size)
    return pa.concat_arrays(parts).take(pa.array(back))


def _joined(*parts: pa.Array | str) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _same(text: str, rows: int) -> pa.Array:
    return pa.repeat(text, rows)


def _number(values: _Int64s) -> pa.Array:
    return pa.array(values, pa.int64()).cast(pa.string())


def _count(values: _Int64s, what: str) -> pa.Array:
    return _joined(_number(values), pc.if_else(pa.array(values == 1), f" {what}", f" {what}s"))


def _scaled(values: _Int64s, step: Decimal) -> pa.Array:
    """Whole steps as exact decimals."""
    whole = pa.array(values, pa.int64()).cast(pa.decimal128(19, 0))
    return pc.multiply(whole, pa.scalar(Decimal(f"{step:f}"))).cast(pa.string())


def _time(ts_ns: _Int64s) -> pa.Array:
    return _joined(pa.array(ts_ns, pa.timestamp("ns")).cast(pa.string()), " UTC")

"""Whether the published book is the one that the plain rebuild makes, message by message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import polars as pl

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.quality.reference.book import PlainRow
from market_pipeline.quality.reference.feed import Levels
from market_pipeline.quality.reference.state import PlainBook
from market_pipeline.quality.words import time_text

__all__ = ["BBO_COLUMNS", "DEPTH_COLUMNS", "Comparison", "Difference", "compare"]

BBO_COLUMNS = PlainRow._fields
"""The columns of `books.bbo` that are compared."""

_LEVEL_COLUMNS = [
    f"{side}_{level}_{part}"
    for side in ("bid", "ask")
    for level in range(DEPTH_LEVELS)
    for part in ("price_ticks", "size_lots")
]
_CONFIRMED_COLUMNS = ("bid_levels_confirmed", "ask_levels_confirmed")
DEPTH_COLUMNS = (
    "ts_receipt_ns",
    "sequence_number",
    "ts_origin_ns",
    "flags",
    *_CONFIRMED_COLUMNS,
    *_LEVEL_COLUMNS,
)
"""The columns of `books.depth` that are compared."""

_IN_DOUBT = int(BookFlag.SNAPSHOT_MISMATCH | BookFlag.OUT_OF_ORDER)


@dataclass(frozen=True, slots=True)
class Difference:
    """A message after which the two books differ.

    Attributes:
        at: Its number among the messages compared, from 0.
        row: What is published of it.
        published, expected: The two books in words; of the depth, its first differing level.
    """

    at: int
    row: PlainRow
    published: str
    expected: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many messages were compared, how many differ, and the first of these."""

    messages: int
    differing: int
    first: Difference | None


def compare(
    book: PlainBook,
    rebuilt: Iterator[PlainRow],
    bbo: pl.DataFrame,
    depth: pl.DataFrame,
    price_scale: Scale,
    size_scale: Scale,
    most_work: int,
) -> Comparison:
    """Holds published rows against a plain rebuild that is about to make the same ones.

    They are compared up to the first one that later evidence put in doubt, which is not claimed to
    be right, up to where the plain book would have to know what happened before it began, or until
    the work is done. What evidence says (`verified`) is left out, because it follows from the whole
    day.

    Args:
        book: The plain book that `rebuilt` changes, read after each of its messages.
        rebuilt: The plain rebuild from the first of these messages on, which may end when the work
            is done; no more are taken from it than there are rows in `bbo`.
        bbo: Consecutive rows of `books.bbo`, at least `BBO_COLUMNS`.
        depth: The rows of `books.depth` received in the same time, at least `DEPTH_COLUMNS`, in
            their order. Those before the first and after the last that belong to one of these
            messages are left out: where a clock ran back they belong to others. So are those of
            which the receipt time and sequence number do not tell whose they are.
        price_scale, size_scale: The tick and the lot, to write a difference down.
        most_work: After so much `PlainBook.work` no further message is compared.
    """
    rows = (PlainRow._make(row) for row in _without_nulls(bbo, BBO_COLUMNS).iter_rows())
    published = list(takewhile(lambda row: not row.flags & _IN_DOUBT, rows))
    depth_rows, strays = _depth_by_message(published, depth)
    differing = 0
    first = None
    for at, row in enumerate(published):
        if book.work >= most_work:
            return Comparison(at, differing, first)
        ours = next(rebuilt, None)
        if book.is_lost or (ours is None and book.work >= most_work):
            return Comparison(at, differing, first)
        words = None
        if ours is None:
            words = _words(row, row, price_scale, size_scale), "the raw feed has no such message"
        elif ours != row:
            words = (
                _words(row, ours, price_scale, size_scale),
                _words(ours, row, price_scale, size_scale),
            )
        elif at in depth_rows:
            words = _depth_difference(depth_rows[at], ours, book, price_scale, size_scale)
        if words is None and at in strays:
            words = strays[at], "no such message"
        if words is not None:
            differing += 1
            first = first or Difference(at, row, *words)
    return Comparison(len(published), differing, first)


def _depth_by_message(
    published: Sequence[PlainRow], depth: pl.DataFrame
) -> tuple[dict[int, Mapping[str, int]], dict[int, str]]:
    """Depth rows by the message they belong to, and in words those of none by that before them."""
    keys = [(row.ts_receipt_ns, row.sequence_number) for row in published]
    count = Counter(keys)
    message = {key: at for at, key in enumerate(keys)}
    rows = [
        ((row["ts_receipt_ns"], row["sequence_number"]), row)
        for row in _without_nulls(depth, DEPTH_COLUMNS).iter_rows(named=True)
    ]
    known = [k for k, (key, _) in enumerate(rows) if key in message]
    found: dict[int, Mapping[str, int]] = {}
    strays: dict[int, str] = {}
    before = 0
    for key, row in rows[known[0] : known[-1] + 1] if known else ():
        if key not in message:
            strays[before] = f"a row of books.depth, sequence number {key[1]}, {_received(key[0])}"
        elif count[key] == 1:
            before = message[key]
            found[before] = row
    return found, strays


def _without_nulls(rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Price and size are 0, as in a `PlainRow`, where there is no level."""
    return rows.select(columns).fill_null(0)


def _depth_difference(
    row: Mapping[str, int], ours: PlainRow, book: PlainBook, price_scale: Scale, size_scale: Scale
) -> tuple[str, str] | None:
    for name in ("flags", "ts_origin_ns"):
        if row[name] != getattr(ours, name):
            return (
                f"{name} {row[name]} in books.depth",
                f"{name} {getattr(ours, name)}",
            )
    for name, confirmed in zip(_CONFIRMED_COLUMNS, book.confirmed(DEPTH_LEVELS), strict=True):
        if row[name] != confirmed:
            return f"{name} {row[name]} in books.depth", f"{name} {confirmed}"
    sides: tuple[Levels, Levels] = book.top(DEPTH_LEVELS)
    for side, levels in zip(("bid", "ask"), sides, strict=True):
        for level in range(DEPTH_LEVELS):
            ours_there = levels[level] if level < len(levels) else (0, 0)
            theirs = row[f"{side}_{level}_price_ticks"], row[f"{side}_{level}_size_lots"]
            if theirs != ours_there:
                name = f"level {level} of the {side}s"
                return (
                    f"{name} in books.depth {_level(*theirs, price_scale, size_scale)}",
                    f"{name} {_level(*ours_there, price_scale, size_scale)}",
                )
    return None


def _words(row: PlainRow, other: PlainRow, price_scale: Scale, size_scale: Scale) -> str:
    """A row in words: its book, and of its times and number what another row has otherwise."""
    words = [
        f"bid {_level(row.bid_price_ticks, row.bid_size_lots, price_scale, size_scale)}",
        f"ask {_level(row.ask_price_ticks, row.ask_size_lots, price_scale, size_scale)}",
        f"flags {BookFlag(row.flags).name or 'none'}",
    ]
    if row.sequence_number != other.sequence_number:
        words.append(f"sequence number {row.sequence_number}")
    if row.ts_receipt_ns != other.ts_receipt_ns:
        words.append(_received(row.ts_receipt_ns))
    if row.ts_origin_ns != other.ts_origin_ns:
        words.append(f"sent {time_text(row.ts_origin_ns)} ({row.ts_origin_ns} ns)")
    return ", ".join(words)


def _received(ts_ns: int) -> str:
    return f"received {time_text(ts_ns)} ({ts_ns} ns)"


def _level(price_ticks: int, size_lots: int, price_scale: Scale, size_scale: Scale) -> str:
    if not size_lots:
        return "none"
    return f"{size_lots * size_scale.step:f} at {price_ticks * price_scale.step:f}"

"""A book to compare: its messages in batches, in price and size units that both books share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import DEPTH_LEVELS, read_only
from market_pipeline.errors import DomainError
from market_pipeline.quality.intervals import BoolArray, IntArray

__all__ = ["BookRows", "ComparedBook", "Units", "no_rows", "shared_units"]

_LARGEST = 2**62


class BookRows(NamedTuple):
    """Messages of one book in feed order, shape (n,), and the depth known after k of them.

    Attributes:
        ts_origin_ns, ts_receipt_ns, sequence_number: int64.
        touch: int64 (n, 4): best bid, its size, best ask, its size; a size of 0 is no level.
        flags: uint16, bits of `BookFlag`.
        breaks: bool, nobody knows the book from this message to the next one (a gap begins).
        depth_row: int64, the row of `levels` of the same message; -1 where depth was not kept.
        levels: int64 (k, 20, 4), as `touch`, best first.
        confirmed: int64 (k, 2): how many of the best bids and asks are known to be all there are.
    """

    ts_origin_ns: IntArray
    ts_receipt_ns: IntArray
    sequence_number: IntArray
    touch: IntArray
    flags: NDArray[np.uint16]
    breaks: BoolArray
    depth_row: IntArray
    levels: IntArray
    confirmed: IntArray

    def as_input(self) -> BookRows:
        """The same rows as the kernels take them."""
        ts_origin_ns, ts_receipt_ns, sequence_number, touch, flags, breaks, *depth = self
        return BookRows(
            read_only(ts_origin_ns),
            read_only(ts_receipt_ns),
            read_only(sequence_number),
            read_only(touch),
            read_only(flags),
            read_only(breaks),
            *map(read_only, depth),
        )

    def have(self, flag: BookFlag) -> BoolArray:
        """Which messages have any of some flags."""
        has_any: BoolArray = (self.flags & np.uint16(int(flag))) != 0
        return has_any

    def are_valid(self) -> BoolArray:
        """Which messages leave a valid book."""
        return ~self.have(INVALIDATING)


@dataclass(frozen=True, slots=True)
class ComparedBook:
    """One of the two books.

    Attributes:
        name: For a person, such as BINANCE:BTC-USDT.
        tick, lot: The steps its rows are in.
        read: Yields its messages from the first one on, every time it is called.
    """

    name: str
    tick: Scale
    lot: Scale
    read: Callable[[], Iterator[BookRows]]


@dataclass(frozen=True, slots=True)
class Units:
    """By how much prices and sizes of one book are multiplied, so that both books share units."""

    price: int
    size: int

    def applied(self, rows: BookRows) -> BookRows:
        """The same rows in the shared units.

        Raises:
            DomainError: A price or size has no room in 64 bits.
        """
        if self.price == self.size == 1:
            return rows
        factors = np.array([self.price, self.size, self.price, self.size], np.int64)
        for values in (rows.touch, rows.levels):
            most = np.abs(values).max(axis=tuple(range(values.ndim - 1)), initial=0)
            # Python's integers: the product is what may not fit.
            if any(a * b > _LARGEST for a, b in zip(most.tolist(), factors.tolist(), strict=True)):
                raise DomainError(
                    "A price or size is too large for the unit that both books share",
                    next_step="Compare books whose ticks and lots are closer to each other.",
                    expected=f"less than 2^62 after a factor of {self.price} or {self.size}",
                    found=", ".join(map(str, most.tolist())),
                )
        return rows._replace(touch=rows.touch * factors, levels=rows.levels * factors)


def shared_units(golden: ComparedBook, other: ComparedBook) -> tuple[Units, Units]:
    """What brings the steps of both books to the largest unit in which both are whole."""
    ticks = _factors(golden.tick, other.tick)
    lots = _factors(golden.lot, other.lot)
    return Units(ticks[0], lots[0]), Units(ticks[1], lots[1])


def _factors(one: Scale, other: Scale) -> tuple[int, int]:
    decimals = max(one.decimals, other.decimals)
    first = one.coefficient * 10 ** (decimals - one.decimals)
    second = other.coefficient * 10 ** (decimals - other.decimals)
    shared = gcd(first, second)
    return first // shared, second // shared


def no_rows() -> BookRows:
    """No message."""
    none = np.empty(0, np.int64)
    return BookRows(
        ts_origin_ns=none,
        ts_receipt_ns=none,
        sequence_number=none,
        touch=np.empty((0, 4), np.int64),
        flags=np.empty(0, np.uint16),
        breaks=np.empty(0, np.bool_),
        depth_row=none,
        levels=np.empty((0, DEPTH_LEVELS, 4), np.int64),
        confirmed=np.empty((0, 2), np.int64),
    )

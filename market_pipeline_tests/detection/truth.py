"""The true book after every message of a clean day, as far as anybody can know it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["LEVELS", "BookTruth", "Truth", "full_book"]

LEVELS = 20

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BookTruth:
    """One account of a day's book.

    Attributes:
        touch: float64 (messages, 4): best bid and its size, best ask and its size; NaN if none.
        top: float64 (messages, 2, 20, 2): sides, levels, price and size; NaN where there is none.
        known: bool (messages,): whether the account tells of this message at all.
        has_depth: Whether it tells of more than the touch.
    """

    touch: FloatArray
    top: FloatArray
    known: BoolArray
    has_depth: bool = True


@dataclass(frozen=True)
class Truth:
    """Accounts of a day that are each right: what any of them says of a message is true.

    The full book of an independent rebuild knows all levels; the book published of the clean day
    knows only those that its files told, and has nothing else where one was not told yet.
    """

    accounts: tuple[BookTruth, ...]

    def right_touch(self, messages: IntArray, touch: FloatArray) -> tuple[BoolArray, BoolArray]:
        """Whether rows are right, and whether that is known, bool (rows,) each.

        Args:
            messages: int64 (rows,), the message each row is about; below 0 for none.
            touch: float64 (rows, 4).
        """
        right = np.zeros(messages.size, np.bool_)
        known = np.zeros(messages.size, np.bool_)
        for account in self.accounts:
            tells = (messages >= 0) & account.known[np.maximum(messages, 0)]
            true = account.touch[np.maximum(messages, 0)]
            right |= tells & _same(touch, true).all(axis=1)
            known |= tells
        return right, known

    def right_top(
        self, messages: IntArray, top: FloatArray, compared: BoolArray
    ) -> tuple[BoolArray, BoolArray]:
        """Whether the levels of rows are right, each as some account has it.

        Args:
            messages: int64 (rows,).
            top: float64 (rows, 2, 20, 2).
            compared: bool (rows, 2, 20), the levels that count.
        """
        right = np.zeros(compared.shape, np.bool_)
        known = np.zeros(messages.size, np.bool_)
        for account in self.accounts:
            if not account.has_depth:
                continue
            tells = (messages >= 0) & account.known[np.maximum(messages, 0)]
            true = account.top[np.maximum(messages, 0)]
            right |= tells[:, None, None] & _same(top, true).all(axis=3)
            known |= tells
        all_right: BoolArray = np.all(right | ~compared, axis=(1, 2))
        return all_right, known


def _same(ours: FloatArray, true: FloatArray) -> BoolArray:
    same: BoolArray = (ours == true) | (np.isnan(ours) & np.isnan(true))
    return same


class _Side:
    """The levels of one side in order; keys are prices, negative for bids."""

    def __init__(self, sign: float) -> None:
        self._sign = sign
        self._keys: list[float] = []
        self._sizes: dict[float, float] = {}

    def set(self, price: float, size: float) -> None:
        key = price * self._sign
        if size == 0:
            if self._sizes.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
            return
        if key not in self._sizes:
            insort(self._keys, key)
        self._sizes[key] = size

    def fill(self, top: FloatArray) -> None:
        for level, key in enumerate(self._keys[:LEVELS]):
            top[level] = key * self._sign, self._sizes[key]


def full_book(
    seed: pl.DataFrame, days: Sequence[pl.DataFrame], *, applies_own_number: bool
) -> list[BookTruth]:
    """The book of consecutive days from a full snapshot on, by a book so plain that it is right.

    Args:
        seed: The snapshot as delta rows of one sequence number.
        days: Clean delta rows of each day, with their `message`.
        applies_own_number: Whether a message of the snapshot's own number is applied to it.
    """
    bids, asks = _Side(-1.0), _Side(1.0)
    for is_bid, price, size in seed.select("side_is_bid", "price", "size").iter_rows():
        (bids if is_bid else asks).set(price, size)
    number = int(seed["sequence_number"][0])
    told = []
    for rows in days:
        count = int(rows["message"].max()) + 1  # type: ignore[arg-type]
        top = np.full((count, 2, LEVELS, 2), np.nan)
        known = np.zeros(count, np.bool_)
        applied = rows.filter(
            pl.col("sequence_number") >= number + (0 if applies_own_number else 1)
        )
        names = ("message", "side_is_bid", "price", "size")
        last = -1
        for message, is_bid, price, size in applied.select(names).iter_rows():
            if message != last and last >= 0:
                _put(bids, asks, top[last])
                known[last] = True
            (bids if is_bid else asks).set(price, size)
            last = message
        if last >= 0:
            _put(bids, asks, top[last])
            known[last] = True
        told.append(BookTruth(top[:, :, 0, :].reshape(count, 4), top, known))
    return told


def _put(bids: _Side, asks: _Side, top: FloatArray) -> None:
    bids.fill(top[0])
    asks.fill(top[1])

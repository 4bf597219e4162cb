"""The synthetic day in blocks or as one: seeded, of any length, in bounded memory.

The same seed gives the same rows however they are cut into blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.feed import MAX_MESSAGE_ROWS, SNAPSHOT_LEVELS, Rows, Tops, fill, new_feed
from market_pipeline.books.state import Deltas

__all__ = ["SEED", "Block", "blocks", "synthetic_deltas"]

SEED = 7


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive messages, and the market's own top 20 after the first of each 100 ms."""

    deltas: Deltas
    tops: Tops


def blocks(rows: int, seed: int = SEED, *, block_rows: int = 1 << 20) -> Iterator[Block]:
    """Yields a day of whole messages, `rows` delta rows or a few less.

    Args:
        rows: The message that would pass so many is not begun.
        seed: Another seed is another day.
        block_rows: Most rows of a block; what they are does not depend on it.
    """
    rng, feed = np.random.default_rng(seed), new_feed()
    room = max(block_rows, MAX_MESSAGE_ROWS)
    ended = False
    while not ended:
        out = Rows._make([*_int64(3, room), np.empty(room, np.bool_), *_int64(2, room)])
        top_rows = room // 32
        sides = [np.zeros((top_rows, SNAPSHOT_LEVELS), np.int64) for _ in range(4)]
        tops = Tops._make([*_int64(3, top_rows), *sides])
        count, top_count, ended = fill(rng, feed, out, tops, rows)
        rows -= count
        tops = Tops._make(column[:top_count] for column in tops)
        yield Block(
            Deltas(
                _vendor_ns(out.origin_ns[:count]),
                _vendor_ns(out.receipt_ns[:count]),
                out.sequence_number[:count],
                out.is_bid[:count],
                out.price_ticks[:count],
                out.size_lots[:count],
            ),
            tops._replace(
                origin_ns=_vendor_ns(tops.origin_ns), receipt_ns=_vendor_ns(tops.receipt_ns)
            ),
        )


def synthetic_deltas(rows: int, seed: int = SEED) -> Deltas:
    """The delta rows of a day as one set of arrays."""
    parts = [block.deltas for block in blocks(rows, seed)]
    return Deltas._make(np.concatenate(column) for column in zip(*parts, strict=True))


def _int64(count: int, rows: int) -> list[NDArray[np.int64]]:
    return [np.empty(rows, np.int64) for _ in range(count)]


def _vendor_ns(ts_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """As the vendor stores times: they went through float64 seconds."""
    return np.asarray(ts_ns / 1e9 * 1e9).astype(np.int64)

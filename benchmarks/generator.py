"""A seeded synthetic feed that is as hard on a book as a busy perpetual."""

from __future__ import annotations

import numpy as np

from market_pipeline.books.state import Deltas

ROWS_A_MESSAGE = 42
DELETES = 0.4


def synthetic_deltas(rows: int, seed: int = 7) -> Deltas:
    """Delta rows in whole ticks: a random-walk mid, 42 rows a message, 40 % deletes, a long tail.

    Distances from the mid are drawn so that a side holds about 5,000 to 7,000 levels, most changes
    are near the touch, and one in a hundred is far out.
    """
    rng = np.random.default_rng(seed)
    messages = -(-rows // ROWS_A_MESSAGE)
    message = np.repeat(np.arange(messages), ROWS_A_MESSAGE)[:rows]
    mid = 600_000 + np.cumsum(rng.integers(-2, 3, messages))[message]
    is_bid = rng.random(rows) < 0.5
    distance = 1 + np.minimum(rng.exponential(60, rows), 400).astype(np.int64)
    deep = rng.random(rows) < 0.25
    distance[deep] = 1 + rng.integers(0, 8_000, int(deep.sum()))
    tail = rng.random(rows) < 0.01
    distance[tail] = 1 + rng.integers(0, 400_000, int(tail.sum()))
    price = np.where(is_bid, mid - distance, mid + distance)
    size = rng.integers(1, 50_000, rows)
    size[rng.random(rows) < DELETES] = 0
    # The mid moves on, so levels that it passed must go: each message clears what it crossed.
    first = np.arange(rows) % ROWS_A_MESSAGE < 4
    is_bid[first] = np.arange(rows)[first] % 2 == 0
    step = (np.arange(rows)[first] % ROWS_A_MESSAGE) // 2
    price[first] = mid[first] + np.where(is_bid[first], step, -step)
    size[first] = 0
    receipt = message.astype(np.int64) * 20_000_000 + 1_722_470_400_000_000_000
    return Deltas(receipt - 3_000_000, receipt, message.astype(np.int64), is_bid, price, size)

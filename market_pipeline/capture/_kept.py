"""The last messages of a live book, with which a whole book is joined that is older than they."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

__all__ = ["Kept", "KeptMessages"]

_MOST_MESSAGES, _MOST_LEVELS = 2_000, 100_000
"""Of each book; both are more than come while a whole book is fetched: 40 s at 50 messages a
second, and 100 messages that change a thousand levels.
"""


class Kept(Struct, frozen=True, gc=False):
    """A message, in steps; levels are int64 (2, n), ticks and lots.

    There are many, and nothing they hold leads back to them: the collector need not look at them,
    as it would with the whole process waiting for it.
    """

    start: int | None
    last: int | None
    bids: NDArray[np.int64]
    asks: NDArray[np.int64]

    @property
    def levels(self) -> int:
        """Of both sides."""
        return int(self.bids.shape[1] + self.asks.shape[1])


class KeptMessages:
    """Messages in the order in which they came; the oldest give way, the newest never does."""

    def __init__(self) -> None:
        self._messages: deque[Kept] = deque()
        self._levels = 0

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Kept]:
        return iter(self._messages)

    def append(self, message: Kept) -> None:
        """Takes a message."""
        self._messages.append(message)
        self._levels += message.levels
        while len(self) > 1 and (len(self) > _MOST_MESSAGES or self._levels > _MOST_LEVELS):
            self._levels -= self._messages.popleft().levels

    def keep_after(self, last_id: int) -> None:
        """Leaves out those up to an id, and those without one."""
        kept = [each for each in self if (each.last or 0) > last_id]
        self.clear()
        for message in kept:
            self.append(message)

    def clear(self) -> None:
        """Leaves all out."""
        self._messages.clear()
        self._levels = 0

"""What lies between the parts of a capture: bounded queues with a policy, and pacing.

Every queue counts what passed, waited and was dropped. A queue that is 80 % full asks for less
until it is down to 50 %.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

__all__ = ["BoundedQueue", "Policy", "TokenBucket"]

Item = TypeVar("Item")

_PRESSED, _RELEASED = 0.8, 0.5


class Policy(StrEnum):
    """What a full queue does with one more item."""

    BLOCK = "block"
    """Lets the giver wait: the only one for what cannot be made again."""
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"


class BoundedQueue(Generic[Item]):
    """A queue between tasks of one event loop.

    Args:
        name: For those who read the counters.
        capacity: How many items it holds.
        policy: What it does when it is full.

    Attributes:
        given, taken, dropped: Items, since it began.
        deepest: The most it has held.
        blocked_s: How long givers have waited for room.
    """

    def __init__(self, name: str, capacity: int, policy: Policy = Policy.BLOCK) -> None:
        self.name, self.capacity, self.policy = name, capacity, policy
        self.given = self.taken = self.dropped = self.deepest = 0
        self.blocked_s = 0.0
        self._items: deque[Item] = deque()
        self._changed = asyncio.Condition()
        self._is_pressed = self._is_closed = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_pressed(self) -> bool:
        """Whether it was 80 % full, and has not been down to 50 % since."""
        return self._is_pressed

    async def put(self, item: Item) -> bool:
        """Gives an item; whether it is in the queue.

        Raises:
            RuntimeError: The queue was closed.
        """
        async with self._changed:
            if len(self._items) >= self.capacity:
                if self.policy is Policy.DROP_NEWEST:
                    self.given += 1
                    self.dropped += 1
                    return False
                if self.policy is Policy.DROP_OLDEST:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    began_s = time.monotonic()
                    await self._changed.wait_for(
                        lambda: len(self._items) < self.capacity or self._is_closed
                    )
                    self.blocked_s += time.monotonic() - began_s
            if self._is_closed:
                raise RuntimeError(f"the queue {self.name} is closed")
            self._items.append(item)
            self.given += 1
            self.deepest = max(self.deepest, len(self._items))
            self._is_pressed |= len(self._items) >= _PRESSED * self.capacity
            self._changed.notify_all()
        return True

    async def get(self) -> Item | None:
        """The oldest item; None once it is closed and empty."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._items) or self._is_closed)
            if not self._items:
                return None
            item = self._items.popleft()
            self.taken += 1
            self._is_pressed &= len(self._items) > _RELEASED * self.capacity
            self._changed.notify_all()
            return item

    async def close(self) -> None:
        """Takes no more; what is in it can still be taken."""
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()


@dataclass(slots=True)
class TokenBucket:
    """Lets so many items a second pass, and a burst at once.

    Attributes:
        rate: Items a second.
        burst: The most that pass at once after a pause.
        blocked_s: How long was waited.
    """

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    blocked_s: float = 0.0
    _tokens: float = field(init=False)
    _at_s: float = field(init=False)

    def __post_init__(self) -> None:
        """Begins with a full bucket."""
        self._tokens, self._at_s = self.burst, self.clock()

    async def take(self, items: float = 1) -> None:
        """Waits until so many items may pass; more than a burst are owed and paid off."""
        now_s = self.clock()
        self._tokens = min(self.burst, self._tokens + (now_s - self._at_s) * self.rate)
        self._at_s = now_s
        self._tokens -= items
        if self._tokens < 0:
            wait_s = -self._tokens / self.rate
            self.blocked_s += wait_s
            await self.sleep(wait_s)

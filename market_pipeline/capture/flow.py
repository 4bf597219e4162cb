"""What lies between the parts of a capture: bounded queues with a policy, and pacing.

Every queue counts what passed, waited and was dropped. A queue that is 80 % full asks for less
until it is down to 50 %.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

__all__ = ["BoundedQueue", "Handover", "Policy", "TokenBucket"]

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
    def share(self) -> float:
        """How full it is."""
        return len(self._items) / self.capacity

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


class Handover(Generic[Item]):
    """Items from one thread to the event loop of another, in batches; who gives never waits.

    A batch is whole with so many items or bytes, or after so long, whichever is first.

    Args:
        rows, size_bytes, every_s: What makes a batch whole.
        capacity: How many batches wait; what comes beyond is dropped.

    Attributes:
        dropped: Items, since it began.
    """

    def __init__(self, rows: int, size_bytes: int, every_s: float, capacity: int) -> None:
        self.dropped = 0
        self._rows, self._size_bytes, self._every_s = rows, size_bytes, every_s
        self._capacity = capacity
        self._batches: deque[list[Item]] = deque()
        self._last_bytes = 0
        self._is_closed = self._is_pressed = False
        self._lock = threading.Lock()
        self._wake: Callable[[], object] | None = None

    @property
    def waiting(self) -> int:
        """Items that were not taken yet."""
        with self._lock:
            return sum(map(len, self._batches))

    @property
    def share(self) -> float:
        """How full it is, by its batches."""
        return len(self._batches) / self._capacity

    @property
    def has_room(self) -> bool:
        """Whether the next item is taken."""
        with self._lock:
            return len(self._batches) < self._capacity or not self._last_is_whole()

    @property
    def is_pressed(self) -> bool:
        """Whether it was 80 % full, and has not been down to 50 % since."""
        return self._is_pressed

    def put(self, item: Item, size_bytes: int = 0, *, always: bool = False) -> bool:
        """Gives an item; whether it was taken. `always` is for what is rare and must not be lost.

        Called by one thread only.
        """
        with self._lock:
            is_whole = self._last_is_whole()
            if is_whole and len(self._batches) >= self._capacity and not always:
                self.dropped += 1
                return False
            if is_whole or not self._batches:
                self._batches.append([])
                self._last_bytes = 0
            self._batches[-1].append(item)
            self._last_bytes += size_bytes
            self._is_pressed |= len(self._batches) >= _PRESSED * self._capacity
            wake = self._wake if self._last_is_whole() else None
        if wake is not None:
            with contextlib.suppress(RuntimeError):  # whoever took them has ended
                wake()
        return True

    def close(self) -> None:
        """Gives no more; what waits is still taken."""
        self._is_closed = True

    async def batches(self) -> AsyncIterator[list[Item]]:
        """The batches, until it is closed and empty."""
        loop, whole = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(whole.set)
        while True:
            is_closed = self._is_closed
            while (batch := self._take()) is not None:
                yield batch
            if is_closed:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await whole.wait()
            whole.clear()

    def _take(self) -> list[Item] | None:
        with self._lock:
            batch = self._batches.popleft() if self._batches else None
            self._is_pressed &= len(self._batches) > _RELEASED * self._capacity
        return batch

    def _last_is_whole(self) -> bool:
        is_full = self._last_bytes >= self._size_bytes
        return bool(self._batches) and (is_full or len(self._batches[-1]) >= self._rows)


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

"""How fast the store may be asked: token buckets that count how long they delayed the callers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["TokenBucket"]


class TokenBucket:
    """So many units a second on average, with a second's worth at once; safe for many threads.

    Who takes more than is there goes into debt and waits until it is paid. The wait begins after
    the taking, so a unit larger than a second's worth passes too, and nobody overtakes.

    Args:
        per_second: Units a second; 0 for no limit.
        clock: Seconds that only ever grow.
        sleep: How to wait so many seconds.
    """

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._per_second = per_second
        self._most = max(1, per_second)
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._tokens = self._most
        self._counted_at = clock()
        self._taken: float = 0
        self._blocked_seconds: float = 0

    @property
    def taken(self) -> float:
        """How many units were taken so far."""
        return self._taken

    @property
    def blocked_seconds(self) -> float:
        """How long callers were delayed, summed over threads."""
        return self._blocked_seconds

    def take(self, units: float = 1) -> float:
        """Take units, and wait until they are due.

        Returns:
            The seconds it waited.
        """
        with self._lock:
            self._taken += units
            if not self._per_second:
                return 0.0
            now = self._clock()
            earned = (now - self._counted_at) * self._per_second
            self._tokens = min(self._most, self._tokens + earned) - units
            self._counted_at = now
            wait_seconds = max(0, -self._tokens / self._per_second)
            self._blocked_seconds += wait_seconds
        if wait_seconds:
            self._sleep(wait_seconds)
        return wait_seconds

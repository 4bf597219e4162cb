"""What keeps a capture within a venue's limits, and away from an endpoint that fails.

Times are seconds of `time.monotonic()`, given by the caller.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

__all__ = ["Backoff", "Endpoints", "WindowBudget"]


@dataclass
class WindowBudget:
    """So much weight in any window of so many seconds, and none while the venue says wait.

    Attributes:
        weight, window_s: What may be spent in a window; no weight is no limit.
    """

    weight: float | None
    window_s: float
    _spent: deque[tuple[float, float]] = field(default_factory=deque)
    _closed_until_s: float = 0.0

    def wait_s(self, weight: float, now_s: float) -> float:
        """How long to wait until so much may be spent; 0 if it may be now."""
        wait_s = max(self._closed_until_s - now_s, 0.0)
        if self.weight is None:
            return wait_s
        while self._spent and self._spent[0][0] <= now_s - self.window_s:
            self._spent.popleft()
        # What is heavier than the whole budget is let pass once nothing else was spent.
        excess = sum(spent for _, spent in self._spent) + min(weight, self.weight) - self.weight
        for at_s, spent in self._spent:
            if excess <= 0:
                break
            excess -= spent
            wait_s = max(wait_s, at_s + self.window_s - now_s)
        return wait_s

    def spend(self, weight: float, now_s: float) -> None:
        """Counts what is asked for now."""
        self._spent.append((now_s, weight))

    def used(self, weight: float, now_s: float) -> None:
        """Takes the venue's own count for ours if it is larger: others share our address."""
        ours = sum(spent for _, spent in self._spent)
        if weight > ours:
            self._spent.append((now_s, weight - ours))

    def close(self, seconds: float, now_s: float) -> None:
        """Spends nothing for so long, as an answer with `Retry-After` demands."""
        self._closed_until_s = max(self._closed_until_s, now_s + seconds)


@dataclass
class Backoff:
    """Waits before another attempt: at random up to a bound that is doubled by each failure."""

    first_s: float
    longest_s: float
    failures: int = 0
    chance: random.Random = field(default_factory=random.Random)

    def next_s(self) -> float:
        """The wait after one more failure."""
        bound_s = min(self.first_s * 2.0 ** min(self.failures, 60), self.longest_s)
        self.failures += 1
        # A half is certain, so that many clients come back spread out and none of them at once.
        return bound_s * (0.5 + self.chance.random() / 2)

    def reset(self) -> None:
        """The connection worked."""
        self.failures = 0


class Endpoints:
    """The primary address and its backups, with a circuit breaker for each.

    Args:
        addresses: The primary first.
        failures: How many in a row open the breaker of an endpoint.
        open_s: How long it stays open.
    """

    def __init__(self, addresses: tuple[str, ...], failures: int, open_s: float) -> None:
        self.addresses = addresses
        self._most = failures
        self._open_s = open_s
        self._failed = dict.fromkeys(addresses, 0)
        self._closed_at_s = dict.fromkeys(addresses, 0.0)

    def choose(self, now_s: float) -> str:
        """The first endpoint whose breaker is closed; if none is, the one that closes first."""
        usable = (each for each in self.addresses if self._closed_at_s[each] <= now_s)
        return next(usable, min(self.addresses, key=lambda each: self._closed_at_s[each]))

    def failed(self, address: str, now_s: float) -> None:
        """One more failure; once open, a breaker that is tried and fails is open again."""
        self._failed[address] += 1
        if self._failed[address] >= self._most:
            self._closed_at_s[address] = now_s + self._open_s

    def unreachable(self, address: str, now_s: float) -> None:
        """It does not even answer: its breaker opens at once."""
        self._failed[address] = self._most
        self._closed_at_s[address] = now_s + self._open_s

    def has_other(self, address: str, now_s: float) -> bool:
        """Whether another endpoint could be used now."""
        return any(at <= now_s for each, at in self._closed_at_s.items() if each != address)

    def worked(self, address: str) -> None:
        """It delivered for long enough."""
        self._failed[address] = 0

    def is_backup(self, address: str, now_s: float) -> bool:
        """Whether a better endpoint could be used now, so that it is time to go back."""
        better = self.addresses[: self.addresses.index(address)]
        return any(self._closed_at_s[each] <= now_s for each in better)

"""The plain twin of stray times: the longest series that never falls, by trying all pairs."""

from __future__ import annotations

from itertools import accumulate


def naive_strays(times, tolerance):
    """Which times are further than the tolerance on the wrong side of those of the series."""
    lengths = []
    for at, time in enumerate(times):
        lengths.append(1 + max([lengths[j] for j in range(at) if times[j] <= time], default=0))
    chosen, wanted = set(), max(lengths, default=0)
    for at in reversed(range(len(times))):
        if lengths[at] == wanted:
            chosen.add(at)
            wanted -= 1
    infinite, numbers = float("inf"), range(len(times))
    before = accumulate((times[at] if at in chosen else -infinite for at in numbers), max)
    after = accumulate((times[at] if at in chosen else infinite for at in reversed(numbers)), min)
    nearest = zip(times, before, reversed(list(after)), strict=True)
    return [
        at not in chosen and (highest - time > tolerance or time - lowest > tolerance)
        for at, (time, highest, lowest) in enumerate(nearest)
    ]

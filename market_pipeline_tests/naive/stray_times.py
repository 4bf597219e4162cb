"""The plain twin of stray times: the longest series that never falls, by trying all pairs."""

from __future__ import annotations


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
    found = []
    for at, time in enumerate(times):
        before = [times[j] for j in chosen if j < at]
        after = [times[j] for j in chosen if j > at]
        is_stray = max(before, default=time) - time > tolerance
        is_stray |= time - min(after, default=time) > tolerance
        found.append(is_stray and at not in chosen)
    return found

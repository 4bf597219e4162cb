"""The line below all points of a cloud that is closest to them, found on their lower convex hull.

Of delays over time, each a least delay plus a queue, it follows the least ones: the edge of the
hull above the mean time minimises the summed distance of a line below all points (Moon, Skelly,
Towsley, INFOCOM 1999, doi 10.1109/INFCOM.1999.749287).
"""

from __future__ import annotations

import numpy as np

from market_pipeline.books.state import read_only
from market_pipeline.jit import kernel
from market_pipeline.quality.intervals import FloatArray, IntArray

__all__ = ["LowerHull"]


class LowerHull:
    """The lower convex hull of points that come in parts, and the line that fits it best.

    Only the corners found so far are kept, and they are few: what a part leaves of itself.
    """

    def __init__(self) -> None:
        self._t: FloatArray = np.empty(0)
        self._y: FloatArray = np.empty(0)
        self._points = 0
        self._sum_t = 0.0

    def add(self, t: FloatArray, y: FloatArray) -> None:
        """Takes further points; t in any order, linear in the points if it is in order.

        Args:
            t, y: float64, shape (n,), of equal length.
        """
        self._points += len(t)
        self._sum_t += float(np.sum(t))
        t, y = np.concatenate((self._t, t)), np.concatenate((self._y, y))
        if np.any(t[1:] < t[:-1]):
            order = np.argsort(t, kind="stable")
            t, y = t[order], y[order]
        corners = np.empty(t.size, np.int64)
        corners = corners[: _find_corners(read_only(t), read_only(y), corners)]
        self._t, self._y = t[corners], y[corners]

    @property
    def width(self) -> float:
        """The largest t less the smallest; 0 without a point."""
        return float(np.ptp(self._t)) if self._points else 0.0

    def slope(self) -> float:
        """The slope of the line below all points that is closest to them in summed distance.

        That line is the edge of the hull above the points' mean t: it minimises
        `sum(y - a - b t)` subject to `y >= a + b t`.

        Returns:
            The slope b in units of y per unit of t. Where the mean t falls on a corner of the hull,
            every slope between those of the two edges is optimal; the left edge's is returned.

        Raises:
            ValueError: If t has fewer than two distinct values: a slope needs two.
        """
        if self.width == 0:
            raise ValueError("a slope needs points at two times at least")
        mean_t = self._sum_t / self._points
        right = min(max(int(np.searchsorted(self._t, mean_t)), 1), len(self._t) - 1)
        rise, run = (float(each[right] - each[right - 1]) for each in (self._y, self._t))
        return rise / run


@kernel
def _find_corners(t: FloatArray, y: FloatArray, hull: IntArray) -> int:
    """Writes the indices of the lower hull's corners among points in order of t; how many."""
    # The monotone chain: a point leaves the hull when the next one passes below it.
    size = 0
    for i in range(t.size):
        if size > 0 and t[hull[size - 1]] == t[i]:
            if y[hull[size - 1]] <= y[i]:
                continue
            size -= 1
        while size >= 2:
            a, b = hull[size - 2], hull[size - 1]
            if (t[b] - t[a]) * (y[i] - y[a]) - (y[b] - y[a]) * (t[i] - t[a]) > 0.0:
                break
            size -= 1
        hull[size] = i
        size += 1
    return size

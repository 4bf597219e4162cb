"""Which part of a day a plot shows, and how finely."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Self

from market_pipeline.quality.intervals import NS_PER_SECOND, SECONDS_PER_DAY, day_bounds_ns

__all__ = ["MINUTE_NS", "Window"]

MINUTE_NS = 60 * NS_PER_SECOND
_MAX_STEPS = 1_440
_PART_STEPS = 240
"""A part of a day has fewer steps: a quiet market has no message in each of many short ones."""
_WHOLE_DAY_FROM = 0.25
"""A day of whose length the messages cover less is shown only where they are."""


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time cut into equal steps.

    Attributes:
        start_ns, end_ns: Receipt times, ns UTC; the start is a whole number of steps.
        every_ns: The length of a step: a whole number of seconds.
    """

    start_ns: int
    end_ns: int
    every_ns: int = MINUTE_NS

    @classmethod
    def of_day(cls, day: date, first_ns: int, last_ns: int) -> Self:
        """The whole day by minutes, or where its messages cover little of it only that, finer.

        Args:
            day: The UTC day.
            first_ns, last_ns: Receipt times of its first and last message.
        """
        day_start_ns, day_end_ns = day_bounds_ns(day)
        covered_ns = last_ns - first_ns
        if covered_ns > _WHOLE_DAY_FROM * SECONDS_PER_DAY * NS_PER_SECOND:
            return cls(day_start_ns, day_end_ns)
        # One step less, because the first one may begin before the first message.
        seconds = -(-covered_ns // ((_MAX_STEPS - 1) * NS_PER_SECOND))
        every_ns = max(seconds, 1) * NS_PER_SECOND
        return cls(first_ns // every_ns * every_ns, last_ns + 1, every_ns)

    @classmethod
    def of_span(cls, start_ns: int, end_ns: int) -> Self:
        """A part of a day, in about 240 steps of at least a second.

        Args:
            start_ns, end_ns: Receipt times; the steps that they lie in are shown whole.
        """
        every_ns = max(-(-(end_ns - start_ns) // (_PART_STEPS * NS_PER_SECOND)), 1) * NS_PER_SECOND
        start_ns = start_ns // every_ns * every_ns
        return cls(start_ns, start_ns + -(-(end_ns - start_ns) // every_ns) * every_ns, every_ns)

    @property
    def steps(self) -> int:
        """How many steps there are; the last one may reach beyond the end."""
        return -(-(self.end_ns - self.start_ns) // self.every_ns)

"""A measured figure: its spread, its unit, and the bar it is held against."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.measure import Spread

__all__ = ["Figure", "rate"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the results.

    Attributes:
        group, name: What was measured.
        unit: Of the values and the bars.
        spread: Median and range of the runs.
        bar: What is asked for; None where nothing is.
        stretch: What would be better still.
        more_is_better: Whether the bar is a least value or a most value.
        details: Whatever else belongs to it.
    """

    group: str
    name: str
    unit: str
    spread: Spread
    bar: float | None = None
    stretch: float | None = None
    more_is_better: bool = True
    details: dict[str, Any] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the bar; None without one."""
        if self.bar is None:
            return None
        if self.more_is_better:
            return self.spread.median >= self.bar
        return self.spread.median <= self.bar

    def as_record(self) -> dict[str, Any]:
        """Everything of it, for JSON."""
        return asdict(self) | {"met": self.met}


def rate(
    group: str,
    name: str,
    spread: Spread,
    *,
    bar: float | None = None,
    stretch: float | None = None,
    details: dict[str, Any] | None = None,
) -> Figure:
    """A rate in million delta rows per CPU second."""
    return Figure(group, name, "M rows / CPU s", spread, bar=bar, stretch=stretch, details=details)

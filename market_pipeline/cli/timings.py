"""What the steps of days took: `market-pipeline run --timings`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

__all__ = ["DayClock", "StepTimes", "print_times"]

_BETWEEN = "between steps"


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds by step of the days that were run.

    Attributes:
        cpu_s, wall_s: By name, in the order in which the steps ended first. What a process does
            beside the steps of its days, such as keeping what they report, is `between steps`.
    """

    cpu_s: dict[str, float] = field(default_factory=dict)
    wall_s: dict[str, float] = field(default_factory=dict)

    def add(self, step: str, cpu_s: float, wall_s: float) -> None:
        """Adds to a step's seconds."""
        self.cpu_s[step] = self.cpu_s.get(step, 0.0) + cpu_s
        self.wall_s[step] = self.wall_s.get(step, 0.0) + wall_s

    def add_all(self, other: StepTimes) -> None:
        """Adds the seconds of other days."""
        for step, cpu_s in other.cpu_s.items():
            self.add(step, cpu_s, other.wall_s[step])

    @contextmanager
    def of_day(self) -> Iterator[DayClock]:
        """Measures a day: hand the clock each step's beginning and end."""
        clock = DayClock(self)
        try:
            yield clock
        finally:
            clock.stop(_BETWEEN)


class DayClock:
    """This process's clocks, read where one step ends and the next begins."""

    def __init__(self, times: StepTimes) -> None:
        self._times = times
        self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()

    def begin(self) -> None:
        """A step begins."""
        self.stop(_BETWEEN)

    def stop(self, step: str) -> None:
        """A step ends: it is given all since the last time that this was called."""
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        self._times.add(step, cpu_s - self._cpu_s, wall_s - self._wall_s)
        self._cpu_s, self._wall_s = cpu_s, wall_s


def print_times(out: Console, times: StepTimes, days: int) -> None:
    """Prints a line for each step: CPU seconds of all days and of one, its share, wall seconds."""
    total_s = sum(times.cpu_s.values()) or 1.0
    table = Table(title="Timings", title_justify="left")
    table.add_column("step", no_wrap=True)
    for column in ("CPU s", "a day", "share", "wall s"):
        table.add_column(column, justify="right", no_wrap=True)
    for step, cpu_s in times.cpu_s.items():
        wall_s = times.wall_s[step]
        table.add_row(
            step,
            f"{cpu_s:.2f}",
            f"{cpu_s / days:.2f}",
            f"{cpu_s / total_s:.0%}",
            f"{wall_s:.2f}",
        )
    table.add_section()
    wall_s = sum(times.wall_s.values())
    table.add_row("all", f"{total_s:.2f}", f"{total_s / days:.2f}", "100%", f"{wall_s:.2f}")
    out.print(table)

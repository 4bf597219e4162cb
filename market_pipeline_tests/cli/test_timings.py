"""What the steps of days took."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from market_pipeline.cli.timings import StepTimes, print_times


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch):
    """Sets the process's clocks: CPU seconds, and twice as many on the wall."""
    now = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])
    monkeypatch.setattr(time, "perf_counter", lambda: 2 * now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_each_second_belongs_to_one_step(clocks):
    """What passes between steps has a line of its own, and all add up to the whole."""
    times = StepTimes()
    for start in (0.0, 100.0):
        clocks(start)
        with times.of_day() as clock:
            clocks(start + 1)
            clock.begin()
            clocks(start + 4)
            clock.stop("rebuild")
            clocks(start + 5)

    assert {"between steps": 4.0, "rebuild": 6.0} == times.cpu_s
    assert {"between steps": 8.0, "rebuild": 12.0} == times.wall_s


def test_processes_add_up():
    """What several processes took is the sum, by step."""
    whole, one, other = StepTimes(), StepTimes(), StepTimes()
    one.add("rebuild", 1.0, 2.0)
    other.add("rebuild", 3.0, 4.0)
    other.add("report", 5.0, 6.0)
    whole.add_all(one)
    whole.add_all(other)

    assert ({"rebuild": 4.0, "report": 5.0}, {"rebuild": 6.0, "report": 6.0}) == (
        whole.cpu_s,
        whole.wall_s,
    )


def test_the_table():
    """It has a line a step, with seconds a day and its share, and the sum."""
    times = StepTimes()
    times.add("rebuild", 3.0, 4.0)
    times.add("report", 1.0, 1.0)
    out = Console(file=io.StringIO(), width=100)
    print_times(out, times, 2)
    lines = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in out.file.getvalue().splitlines()
        if line.startswith("│")
    ]

    assert [
        ["rebuild", "3.00", "1.50", "75%", "4.00"],
        ["report", "1.00", "0.50", "25%", "1.00"],
        ["all", "4.00", "2.00", "100%", "5.00"],
    ] == lines

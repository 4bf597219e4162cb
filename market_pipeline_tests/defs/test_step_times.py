"""What the parts of a step took."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from market_pipeline.defs import step_times
from market_pipeline.defs.step_times import loading, makes, publishing, step_metadata
from market_pipeline.tables import TABLES


class Clock:
    """A clock that stands still but for what is said to be done; CPU time goes half as fast."""

    def __init__(self) -> None:
        self.wall_s = 100.0

    def work(self, seconds: float) -> None:
        self.wall_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    clocks = SimpleNamespace(
        process_time=lambda: clock.wall_s / 2, perf_counter=lambda: clock.wall_s
    )
    monkeypatch.setattr(step_times, "time", clocks)
    # Another test of this process may have read inputs outside of a step.
    monkeypatch.setattr(step_times, "_step", step_times._Step())
    return clock


def seconds() -> tuple[object, ...]:
    told = step_metadata()
    return tuple(told[f"{part}_seconds"] for part in ("load_cpu", "make_cpu", "make_wall"))


def test_a_step_with_one_output(clock: Clock):
    """Its inputs and its function are told apart, and the next step begins at nothing."""

    @makes
    def step() -> tuple[object, ...]:
        clock.work(6)
        return seconds()

    with loading():
        clock.work(2)
    with loading():
        clock.work(2)
    clock.work(50)

    assert (2.0, 3.0, 6.0) == step()
    assert (0.0, 3.0, 6.0) == step()


def test_between_the_outputs_of_a_step(clock: Clock):
    """What is done with an output while the function waits is not its own."""

    @makes
    def step() -> Iterator[tuple[object, ...]]:
        for _ in range(2):
            clock.work(4)
            yield seconds()

    found = []
    for each in step():
        clock.work(70)
        found.append(each)

    assert [(0.0, 2.0, 4.0), (0.0, 4.0, 8.0)] == found


def test_a_step_that_fails(clock: Clock):
    """What it took is not counted to the next one."""

    @makes
    def failing() -> Iterator[None]:
        clock.work(9)
        raise ValueError
        yield

    @makes
    def step() -> tuple[object, ...]:
        return seconds()

    with loading():
        clock.work(3)
    with pytest.raises(ValueError):
        list(failing())

    assert (0.0, 0.0, 0.0) == step()


def test_an_input_that_cannot_be_read(clock: Clock):
    """What reading took is not counted to the next step, as this one has no function to end it."""

    @makes
    def step() -> tuple[object, ...]:
        return seconds()

    with loading():
        clock.work(2)
    with pytest.raises(ValueError), loading():
        clock.work(2)
        raise ValueError

    assert (0.0, 0.0, 0.0) == step()


def test_an_output_that_is_published(clock: Clock):
    """It is told what its own publishing took."""
    told: dict[str, object] = {}
    with publishing(told.update, TABLES["book_bbo"]):
        clock.work(5)

    assert {"publish_cpu_seconds": 2.5} == told


def test_memory_is_told():
    """The most memory of the process, in megabytes: more than an interpreter has."""
    assert step_metadata()["peak_rss_megabytes"] > 10

from __future__ import annotations

import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress

import duckdb
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError, raise_execution_interrupts
from dagster._utils.interrupts import capture_interrupts

from market_pipeline.defs import interrupts
from market_pipeline.defs.interrupts import run_step

SIGNALS = pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])


class Kept:
    """Of which a weak reference can be held."""


def dropped(sent: signal.Signals) -> None:
    """As a library drops whatever a callback raises, and the work goes on."""
    with suppress(BaseException):
        signal.raise_signal(sent)


def taken_for_an_error(sent: signal.Signals) -> None:
    """As DuckDB ends the query under way, with an error of its own.

    With two threads it may look for signals at the query's end only, 5 s of CPU later.
    """
    main = threading.main_thread().ident
    threading.Timer(0.1, lambda: signal.pthread_kill(main or 0, sent)).start()
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SELECT sum(hash(range)) FROM range(200_000_000)").fetchall()


def recorded(sent: signal.Signals) -> None:
    """As a stage records what a library raises as an error of the day's data."""
    with suppress(Exception):
        taken_for_an_error(sent)


def run_in_dagster(work: Callable[[], object]) -> None:
    """Runs work as a process of Dagster runs a step, and leaves the handlers as they were."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with capture_interrupts(), raise_execution_interrupts():
            work()
    finally:
        signal.signal(signal.SIGTERM, before)


@SIGNALS
@pytest.mark.parametrize("lose", [dropped, taken_for_an_error, recorded, signal.raise_signal])
def test_a_function(sent: signal.Signals, lose: Callable[[signal.Signals], None]):
    """An interrupt ends the step, whatever became of it."""
    with pytest.raises(DagsterExecutionInterruptedError):
        run_in_dagster(run_step(lambda: lose(sent)))


@SIGNALS
def test_the_step_of_a_generator(sent: signal.Signals):
    """It ends the generator before its next output, and what the generator holds is let go."""
    outputs, closed = [], []

    def steps() -> Iterator[int]:
        try:
            yield 1
            dropped(sent)
            yield 2
        finally:
            closed.append(True)

    with pytest.raises(DagsterExecutionInterruptedError):
        run_in_dagster(lambda: [outputs.append(each) for each in run_step(steps)()])
    assert ([1], [True]) == (outputs, closed)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@SIGNALS
def test_it_is_repeated(sent: signal.Signals, monkeypatch: pytest.MonkeyPatch):
    """One that was lost, because an object went away just then, ends work that would go on."""
    monkeypatch.setattr(interrupts, "_AGAIN_SECONDS", 0.05)
    kept = Kept()
    callback = weakref.ref(kept, lambda _: signal.raise_signal(sent))

    def work() -> None:
        nonlocal kept
        kept = Kept()
        time.sleep(60)

    with pytest.raises(DagsterExecutionInterruptedError):
        run_in_dagster(run_step(work))
    assert callback() is None


def test_handlers_stay():
    """Afterwards signals are handled as before; errors and results are those of the function."""

    @run_step
    def fail() -> None:
        raise KeyError("of the work")

    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert 3 == run_step(lambda: 3)()
    assert [1, 2] == list(run_step(lambda: (yield from (1, 2)))())
    with pytest.raises(KeyError):
        fail()
    assert before == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]


def test_of_another_thread():
    """Work of another thread than the main one, which no signal reaches, runs as it is."""
    done: list[int] = []
    thread = threading.Thread(target=run_step(lambda: done.append(1)))
    thread.start()
    thread.join()
    assert [1] == done

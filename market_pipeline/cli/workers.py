"""Days of the daily job run by several processes at once, each as `cli.days` runs them in one.

Such a process (`cli.worker`) has a process group of its own, so that Ctrl-C reaches it through the
verb alone, and it stops when the verb is gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from market_pipeline.cli.days import DayProgress, dagster_home
from market_pipeline.cli.signals import stoppable
from market_pipeline.cli.timings import StepTimes

if TYPE_CHECKING:
    from market_pipeline.config.settings import Settings

__all__ = ["Asked", "Ended", "Ready", "Step", "default_jobs", "run_days_at_once"]

_PROCESS_MB = 900
"""What a process takes beside the memory budget: libraries, and what allocators keep."""
_DAYS_WORTH_A_PROCESS = 2
"""A process takes as long to start as a day of little data."""
_PATIENCE_SECONDS = 90.0
"""A process that was asked to stop ends in seconds, and itself after a minute."""
_CANNOT_START = 2
_START = "from market_pipeline.cli.worker import start; start()"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a process is to run days of."""

    ids: list[str]
    force: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """A process has loaded everything; `steps` is how many a day has."""

    steps: int


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a day ended, or `text` says how far it is."""

    day: date
    text: str | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A day is over; `reason` is why it failed, `times` what its process's steps took so far."""

    day: date
    reason: str | None
    times: StepTimes


def default_jobs(days: int, settings: Settings) -> int:
    """How many processes so many days are worth, with these cores and the memory that is free."""
    free_mb = _free_mb()
    jobs = 1
    while jobs < min(settings.threads, days // _DAYS_WORTH_A_PROCESS) and (
        free_mb is None or (jobs + 1) * _PROCESS_MB + settings.memory_budget_mb <= free_mb
    ):
        jobs += 1
    return jobs


def _free_mb() -> int | None:
    """The memory that is free or could be, where the system says so."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) // 1_000
    return None


def run_days_at_once(
    jobs: int,
    days: Sequence[date],
    ids: Sequence[str],
    out: Console,
    settings: Settings,
    *,
    force: bool = False,
    times: StepTimes | None = None,
) -> dict[date, str]:
    """Runs the daily job for each day in one of several processes; the failed days with reasons.

    A day whose process dies has failed, and another process goes on with the rest. The processes
    share the threads and the memory budget of the settings. `times` is given what the steps took.

    Raises:
        typer.Exit: SIGINT or SIGTERM came, and all processes have ended; or one could not start,
            which has reported why.
    """
    dagster_home()
    asked = Asked(list(ids), force)
    shares = {
        "PIPELINE_THREADS": f"{max(1, settings.threads // jobs)}",
        "PIPELINE_MEMORY_BUDGET_MB": f"{max(1, settings.memory_budget_mb // jobs)}",
    }
    with stoppable(f"{days[0]} to {days[-1]}"), _pool() as pool:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        start = partial(_Worker, asked, shares)
        pool.extend(start() for _ in range(min(jobs, len(days))))
        failed = _Turns(days, out, pool, start).run()
        if times is not None:
            for worker in pool:
                times.add_all(worker.times)
        return failed


class _Worker:
    """A process that runs one day after the other, and the day that it is at."""

    def __init__(self, asked: Asked, shares: dict[str, str]) -> None:
        self.connection, theirs = Pipe()
        self.day: date | None = None
        self.is_ready = False
        self.times = StepTimes()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            env=os.environ | shares,
            pass_fds=[theirs.fileno()],
            process_group=0,
        )
        theirs.close()
        self.connection.send(asked)

    def give(self, day: date | None) -> None:
        """Hands over the next day; None if there is none."""
        self.day = day
        with suppress(BrokenPipeError):  # what became of it is met as the end of its messages
            self.connection.send(day)

    def ended(self) -> str:
        """How the process ended."""
        code = self._process.wait()
        if code >= 0:
            return f"with exit code {code}"
        return f"by {signal.Signals(-code).name}"

    def stop(self) -> None:
        """Asks the process to end."""
        self._process.terminate()

    def finish(self) -> None:
        """Waits for the end of a process that was asked to, and ends one that does not hear."""
        self.connection.close()
        try:
            self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def _pool() -> Iterator[list[_Worker]]:
    """Processes that are all ended when the `with` block is, however that ends."""
    workers: list[_Worker] = []
    try:
        yield workers
    except BaseException:
        for worker in workers:
            worker.stop()
        raise
    finally:
        for worker in workers:
            worker.finish()


class _Turns:
    """Hands days to processes in order, and shows what becomes of them."""

    def __init__(
        self,
        days: Sequence[date],
        out: Console,
        pool: list[_Worker],
        start: Callable[[], _Worker],
    ) -> None:
        self._days, self._out = days, out
        self._pool, self._start = pool, start
        self._waiting = deque(days)
        self._failed: dict[date, str] = {}

    def run(self) -> dict[date, str]:
        """Runs all of them; those that failed in the days' order."""
        at_work = {worker.connection: worker for worker in self._pool}
        steps = self._first_ready(at_work)
        with DayProgress(self._out, self._days, steps) as progress:
            for worker in at_work.values():
                if worker.is_ready:
                    self._give(worker, progress)
            while at_work:
                for connection in wait(list(at_work)):
                    worker = at_work[connection]  # type: ignore[index]  # they are connections
                    try:
                        self._take(worker, worker.connection.recv(), progress)
                    except (EOFError, ConnectionResetError):
                        del at_work[worker.connection]
                        if self._bury(worker, progress, is_last=not at_work):
                            further = self._start()
                            self._pool.append(further)
                            at_work[further.connection] = further
        return {day: self._failed[day] for day in self._days if day in self._failed}

    def _first_ready(self, at_work: dict[Connection, _Worker]) -> int:
        """The steps of a day, as soon as one process knows it; those that end before are left out.

        Raises:
            typer.Exit: All have ended; they have reported why.
        """
        while at_work:
            for connection in wait(list(at_work)):
                worker = at_work[connection]  # type: ignore[index]  # they are connections
                try:
                    steps: int = worker.connection.recv().steps
                except (EOFError, ConnectionResetError):
                    del at_work[worker.connection]
                else:
                    worker.is_ready = True
                    return steps
        raise typer.Exit(_CANNOT_START)

    def _take(self, worker: _Worker, message: object, progress: DayProgress) -> None:
        match message:
            case Step(day, text):
                progress.step(day, text)
                return
            case Ended(day, reason, times):
                worker.times = times
                if reason is not None:
                    self._failed[day] = reason
                progress.end(day, failed=reason is not None)
            case _:
                worker.is_ready = True
        self._give(worker, progress)

    def _give(self, worker: _Worker, progress: DayProgress) -> None:
        day = self._waiting.popleft() if self._waiting else None
        if day is not None:
            progress.begin(day)
        worker.give(day)

    def _bury(self, worker: _Worker, progress: DayProgress, *, is_last: bool) -> bool:
        """Notes what became of the day of a process that ended; whether another one is needed.

        Raises:
            typer.Exit: It could not start, which it has reported, and nobody is left for the days.
        """
        how = worker.ended()
        if worker.day is not None:
            self._failed[worker.day] = (
                f"the process that ran it was ended {how}; if memory ran out, use fewer --jobs"
            )
            progress.end(worker.day, failed=True)
            return bool(self._waiting)
        if is_last and self._waiting:
            raise typer.Exit(_CANNOT_START)
        return False

"""Days of the daily job run in this process, one after the other, with a progress bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from datetime import date
from functools import partial
from io import TextIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from uuid import uuid4

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from market_pipeline.cli.output import say_if_kernels_compile
from market_pipeline.cli.signals import shield_from_sigint, stoppable
from market_pipeline.cli.timings import DayClock, StepTimes
from market_pipeline.errors import SettingsError
from market_pipeline.machine import as_machine_error

if TYPE_CHECKING:
    import dagster as dg

__all__ = ["DailyRuns", "DayProgress", "dagster_home", "dagster_instance", "daily_runs", "run_days"]

_NO_STEP_FAILED = "the run stopped before a step failed; see its log in the UI"
_UNKEPT = "Exception while writing logger call to event log: "


def run_days(
    days: Sequence[date],
    ids: Sequence[str],
    out: Console,
    *,
    force: bool = False,
    times: StepTimes | None = None,
) -> dict[date, str]:
    """Runs the daily job for each day in this process; the days that failed, with their reasons.

    A bar on a terminal, a line per day without one; `times` is given what the steps took.

    Raises:
        typer.Exit: SIGINT or SIGTERM came; no further day is begun.
    """
    failed: dict[date, str] = {}
    with daily_runs(ids, force=force) as runs, DayProgress(out, days, runs.steps) as progress:
        for day in days:
            progress.begin(day)
            with stoppable(f"{day}"):
                reason = runs.run(day, partial(progress.step, day))
            if reason is not None:
                failed[day] = reason
            progress.end(day, failed=reason is not None)
        if times is not None:
            times.add_all(runs.times)
    return failed


@contextmanager
def daily_runs(ids: Sequence[str], *, force: bool = False) -> Iterator[DailyRuns]:
    """The daily job with the instance that keeps its runs.

    Args:
        ids: The instruments.
        force: Whether to make unchanged days too.
    """
    from market_pipeline.definitions import defs

    with dagster_instance() as instance:
        shield_from_sigint(instance.compute_log_manager)
        config = {
            "resources": {"pipeline": {"config": {"instruments": list(ids), "force": force}}},
            # What went wrong is printed once, below the table, and stands in the run's own log.
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        }
        job = defs.resolve_job_def("daily_books")
        yield DailyRuns(job, instance, config, ids, force=force)


class DailyRuns:
    """Runs the daily job of one day after the other; `times` is what their steps took."""

    def __init__(
        self,
        job: dg.JobDefinition,
        instance: dg.DagsterInstance,
        config: dict[str, Any],
        ids: Sequence[str],
        *,
        force: bool,
    ) -> None:
        self._job, self._instance, self._config = job, instance, config
        self._ids, self._force = ids, force
        self.times = StepTimes()

    @property
    def steps(self) -> int:
        """How many steps a day has."""
        return len(self._job.nodes)

    def run(self, day: date, step: Callable[[str | None], None]) -> str | None:
        """Runs a day that is not unchanged; why it failed, None if it did not.

        Args:
            day: The UTC day.
            step: Called with None after each step, and with a line on how far a fetch is.
        """
        from market_pipeline.defs.failures import first_failure

        run_id = str(uuid4())
        reason = None
        with self.times.of_day() as clock, redirect_stderr(_Errors(sys.stderr)) as errors:
            if not self._force and self._is_unchanged(day):
                step("unchanged, no run was needed")
                return None
            self._instance.add_event_listener(run_id, _listener(step, clock))
            try:
                result = self._job.execute_in_process(
                    run_id=run_id,
                    partition_key=day.isoformat(),
                    instance=self._instance,
                    run_config=self._config,
                    raise_on_error=False,
                )
                if not result.success:
                    reason = first_failure(result.all_events) or _NO_STEP_FAILED
            except Exception as error:  # Dagster's own: it could not keep what happened
                ours = as_machine_error(error)
                if ours is None:
                    raise
                reason = str(ours)
        return _why_unkept(errors.unkept[0]) if _is_unexplained(reason, errors) else reason

    def _is_unchanged(self, day: date) -> bool:
        """Whether the day was run whole and a run would only find what is published of it.

        The days of a store are for the run to fetch. What raises is for it to report.
        """
        from market_pipeline.config.instruments import (
            listed_on,
            load_instruments,
            select_instruments,
        )
        from market_pipeline.config.settings import load_settings
        from market_pipeline.defs.ran import last_run_was_whole
        from market_pipeline.stages.unchanged_day import is_unchanged_day
        from market_pipeline.warehouse.layout import Warehouse

        try:
            settings = load_settings()
            configured = load_instruments(settings.instruments_file)
            return (
                settings.store_address is None
                and last_run_was_whole(self._instance, day, self._ids)
                and is_unchanged_day(
                    day,
                    listed_on(day, select_instruments(configured, self._ids)),
                    settings,
                    Warehouse(settings.data_dir, settings.lock_timeout_seconds),
                )
            )
        except Exception:
            return False


def _is_unexplained(reason: str | None, errors: _Errors) -> bool:
    return reason == _NO_STEP_FAILED and bool(errors.unkept)


def _why_unkept(reason: str) -> str:
    return str(
        as_machine_error(RuntimeError(reason)) or f"Dagster could not keep an event: {reason}"
    )


def dagster_home() -> str:
    """DAGSTER_HOME, which as with Dagster's own commands `.env` may name; empty if it is not set.

    Raises:
        SettingsError: It is no absolute path of a folder.
    """
    from market_pipeline.config import env_copies

    home = env_copies.dagster_home()
    if home and not (Path(home).is_absolute() and Path(home).is_dir()):
        raise SettingsError(
            [f"environment: DAGSTER_HOME: expected the absolute path of a folder, found {home}"]
        )
    return home


def dagster_instance() -> dg.DagsterInstance:
    """The instance of DAGSTER_HOME, where the UI finds the runs; without one, a passing one."""
    from dagster import DagsterInstance

    from market_pipeline.warehouse.locks import locking

    home = dagster_home()
    if not home:
        return DagsterInstance.ephemeral()
    os.environ["DAGSTER_HOME"] = home
    # Two processes that open a new instance at once both set its databases up, and spoil them.
    with locking(Path(home) / ".market-pipeline.lock"):
        instance = DagsterInstance.get()
        instance.get_runs_count()
        instance.event_log_storage.get_maximum_record_id()
    return instance


class _Errors(TextIOBase):
    """Standard error without what Dagster prints of events that it cannot keep.

    That is why the run ends, and is reported as the reason of its failure.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.unkept: list[str] = []

    def write(self, text: str) -> int:
        if not text.startswith(_UNKEPT):
            return self._stream.write(text)
        self.unkept.append(text.removeprefix(_UNKEPT).partition("\n")[0])
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def _listener(
    step: Callable[[str | None], None], clock: DayClock
) -> Callable[[dg.EventLogEntry], None]:
    from market_pipeline.defs.raw.assets import FETCHING

    def listen(entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is not None and event.is_step_start:
            clock.begin()
        elif event is not None and (event.is_step_success or event.is_step_failure):
            clock.stop(f"{entry.step_key}")
            if event.is_step_success:
                step(None)
        elif entry.user_message.startswith(FETCHING):
            step(entry.user_message.removeprefix(FETCHING))

    return listen


class DayProgress:
    """Days under way: one bar on a terminal, plain lines without one; a context manager.

    Args:
        out: Where to.
        days: All that will be run.
        steps: Of each day.
    """

    def __init__(self, out: Console, days: Sequence[date], steps: int) -> None:
        self._out, self._days, self._steps = out, len(days), steps
        self._ended = 0
        self._done: dict[date, int] = {}
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            console=out,
            disable=not out.is_terminal,
        )
        self._task = self._bar.add_task("", total=len(days) * steps)

    def __enter__(self) -> DayProgress:
        say_if_kernels_compile(self._out)
        self._bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)

    def begin(self, day: date) -> None:
        """A day is under way."""
        self._done[day] = 0
        self._show()

    def step(self, day: date, text: str | None) -> None:
        """A step of a day ended, or a line says how far it is."""
        self._done[day] += text is None
        self._show(f" {text}" if text else "")
        if text and not self._out.is_terminal:
            self._out.print(f"{day} {text}", soft_wrap=True)

    def end(self, day: date, *, failed: bool) -> None:
        """A day is over."""
        self._done.pop(day)
        self._ended += 1
        self._show()
        if not self._out.is_terminal:
            outcome = "failed" if failed else "done"
            self._out.print(f"{day} {outcome} ({self._ended}/{self._days})")

    def _show(self, more: str = "") -> None:
        under_way = ", ".join(f"{day}" for day in self._done)
        completed = self._ended * self._steps + sum(self._done.values())
        self._bar.update(self._task, description=f"{under_way}{more}", completed=completed)

"""What the parts of a step take, as numbers in the metadata of the assets that it makes.

A step reads its inputs, makes its outputs and publishes them, one after the other in one process.
The same of all steps together is what `market-pipeline run --timings` prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from inspect import isgeneratorfunction
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

import dagster as dg

from market_pipeline.defs.telemetry import record_step
from market_pipeline.machine import peak_rss_mb
from market_pipeline.telemetry.metrics.recording import record
from market_pipeline.telemetry.metrics.table import PUBLISH_CPU, PUBLISH_DURATION, PUBLISH_FAILURES
from market_pipeline.telemetry.traces.work import current, working

if TYPE_CHECKING:
    from collections.abc import Generator

    from market_pipeline.defs.describe import Metadata
    from market_pipeline.warehouse.tables import Table

__all__ = ["loading", "makes", "publishing", "step_metadata"]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Taken:
    """Seconds of all threads' CPU time, and of the clock."""

    cpu_s: float = 0.0
    wall_s: float = 0.0

    @contextmanager
    def more(self) -> Iterator[None]:
        """Adds what the block takes."""
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        self.cpu_s, self.wall_s = self.cpu_s - cpu_s, self.wall_s - wall_s
        try:
            yield
        finally:
            cpu_s, wall_s = time.process_time(), time.perf_counter()
            self.cpu_s, self.wall_s = self.cpu_s + cpu_s, self.wall_s + wall_s


@dataclass(slots=True)
class _Step:
    """The step under way: what its inputs took to read, and what its function took so far."""

    loaded: _Taken = field(default_factory=_Taken)
    made: _Taken = field(default_factory=_Taken)


_step = _Step()


@contextmanager
def loading() -> Iterator[None]:
    """Counts the block as reading of the inputs of the step that comes; if it fails, none comes."""
    try:
        with _step.loaded.more():
            yield
    except Exception:
        _step.loaded = _Taken()
        raise


def makes(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Counts what the function of an asset takes, or between its outputs where it yields several.

    Where it ends, the next step begins.
    """

    @wraps(function)
    def call(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        step = _step_name(args, function.__name__)
        with working(step, step=step), _recorded(step), _step.made.more():
            return function(*args, **kwargs)

    @wraps(function)
    def steps(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Iterator[object]:
        step = _step_name(args, function.__name__)
        with (
            working(step, step=step),
            _recorded(step),
            closing(cast("Generator[object]", function(*args, **kwargs))) as outputs,
        ):
            while True:
                with _step.made.more():
                    each = next(outputs, _END)
                if each is _END:
                    return
                yield each

    return cast("Callable[_Parameters, _Result]", steps) if isgeneratorfunction(function) else call


_END = object()


def _step_name(args: Sequence[object], otherwise: str) -> str:
    """The name of the step whose function is called so, which begins with its context."""
    context = args[0] if args else None
    if isinstance(context, dg.AssetExecutionContext):
        return context.op_execution_context.op_def.name
    return otherwise


@contextmanager
def _recorded(step: str) -> Iterator[None]:
    """Records what the block took, which is the function of a step; then the next step begins."""
    failed = False
    try:
        yield
    except Exception:
        failed = True
        raise
    finally:
        loaded, made = _step.loaded, _step.made
        _step.loaded, _step.made = _Taken(), _Taken()
        record_step(
            step,
            wall_s=made.wall_s,
            cpu_s={"load": loaded.cpu_s, "make": made.cpu_s},
            peak_bytes=peak_rss_mb() * (1 << 20),
            failed=failed,
        )


def step_metadata() -> Metadata:
    """What the step took until this moment; to be asked for where it is being made."""
    made = _Taken(_step.made.cpu_s + time.process_time(), _step.made.wall_s + time.perf_counter())
    span = current().span
    return {
        **({} if span is None else {"trace_id": span.trace_id}),
        "load_cpu_seconds": round(_step.loaded.cpu_s, 3),
        "make_cpu_seconds": round(made.cpu_s, 3),
        "make_wall_seconds": round(made.wall_s, 3),
        "peak_rss_megabytes": round(peak_rss_mb(), 1),
    }


@contextmanager
def publishing(tell: Callable[[Metadata], None], table: Table) -> Iterator[None]:
    """Tells and records what the block took, which publishes a day of a table."""
    taken = _Taken()
    try:
        # A step that has only this output has ended, and has its name.
        step = current().step or table.name
        with working(f"publish {table.sql_name}", step=step), taken.more():
            yield
    except Exception:
        record(PUBLISH_FAILURES, 1, table=table.sql_name)
        raise
    record(PUBLISH_FAILURES, 0, table=table.sql_name)
    record(PUBLISH_DURATION, taken.wall_s, table=table.sql_name)
    record(PUBLISH_CPU, taken.cpu_s, table=table.sql_name)
    tell({"publish_cpu_seconds": round(taken.cpu_s, 3)})

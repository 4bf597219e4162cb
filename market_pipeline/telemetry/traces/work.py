"""What a thread works on (run, day, step, instrument): for its log lines, and as spans of a trace.

It is kept in a context variable, which `threads.Workers` hands to the threads of a pool. A run
begins and ends it (`defs.resources`); spans are made if the run has one, so in no other process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from market_pipeline.shown import shown

if TYPE_CHECKING:
    from market_pipeline.config.settings import Settings

__all__ = ["TRACES", "Work", "about", "begin_run", "current", "end_run", "failed", "working"]

TRACES = "traces"
"""The folder in the data folder."""


class Span(Protocol):
    """A span of a trace, as of OpenTelemetry, that is under way."""

    @property
    def trace_id(self) -> str:
        """The id of the run, without hyphens."""

    @property
    def span_id(self) -> str:
        """Its own id."""

    def child(self, name: str, attributes: Mapping[str, str]) -> Span:
        """A span of a part, which begins now."""

    def fail(self, reason: str) -> None:
        """Has it be one that failed."""

    def end(self) -> None:
        """Ends it, and writes it."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is worked on; an empty text where there is none.

    Attributes:
        run: The id of the Dagster run.
        day: Its partition, a UTC day.
        step: The name of the step.
        instrument: Its id.
        span: Of the trace; None where none is made.
    """

    run: str = ""
    day: str = ""
    step: str = ""
    instrument: str = ""
    span: Span | None = None


_NOTHING = Work()
_here: ContextVar[Work] = ContextVar("work", default=_NOTHING)


def current() -> Work:
    """What this thread works on."""
    return _here.get()


def begin_run(settings: Settings, run: str, day: str, job: str) -> None:
    """Has this thread work on a run from now on, until `end_run`.

    Args:
        settings: Whether there are traces, and where.
        run: The id of the run.
        day: Its partition; empty for none.
        job: The name of the job.
    """
    span: Span | None = None
    if settings.traces:
        from market_pipeline.telemetry.traces._tracer import root_span  # noqa: PLC0415

        attributes = {"dagster.run_id": run, "dagster.job": job, "market_pipeline.day": day}
        span = root_span(settings.data_dir / TRACES, run, job, attributes)
    _here.set(Work(run, day, span=span))


def end_run() -> None:
    """Ends the run, if there is one."""
    if (span := current().span) is not None:
        span.end()
    _here.set(_NOTHING)


@contextmanager
def about(**on: str) -> Iterator[None]:
    """Has log lines of the block be about what is named, too."""
    before = current()
    _here.set(_within(before, on))
    try:
        yield
    finally:
        # Not by a token: a generator that is left behind may be closed by another thread.
        _here.set(before)


@contextmanager
def working(name: str, **on: str) -> Iterator[None]:
    """As `about`, and has the block be a span of the run's trace, with what is named as attributes.

    An error that ends the block fails it, and the span that it is a part of.
    """
    before = current()
    if before.span is None:
        with about(**on):
            yield
        return
    span = before.span.child(name, {f"market_pipeline.{key}": value for key, value in on.items()})
    _here.set(replace(_within(before, on), span=span))
    try:
        yield
    except BaseException as error:
        failed(error)
        before.span.fail(_reason(error))
        raise
    finally:
        span.end()
        _here.set(before)


def failed(error: BaseException) -> None:
    """Has the span of the block be one that failed, where the error does not end the block."""
    if (span := current().span) is not None:
        span.fail(_reason(error))


def _within(before: Work, on: Mapping[str, str]) -> Work:
    fields: dict[str, Any] = {**on}  # the span is none of them
    return replace(before, **fields)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {shown(error)}"

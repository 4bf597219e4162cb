"""What a thread works on (run, day, step, instrument), so that its log lines say so.

It is kept in a context variable, which `threads.Workers` hands to the threads of a pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

__all__ = ["Work", "current", "enter", "working"]


@dataclass(frozen=True, slots=True)
class Work:
    """What is worked on; an empty text where there is none.

    Attributes:
        run: The id of the Dagster run.
        day: Its partition, a UTC day.
        step: The name of the step.
        instrument: Its id.
    """

    run: str = ""
    day: str = ""
    step: str = ""
    instrument: str = ""


_NOTHING = Work()
_here: ContextVar[Work] = ContextVar("work", default=_NOTHING)


def current() -> Work:
    """What this thread works on."""
    return _here.get()


def enter(work: Work) -> Work:
    """Has this thread work on something else from now on; gives what it worked on before."""
    before = _here.get()
    _here.set(work)
    return before


@contextmanager
def working(**on: str) -> Iterator[None]:
    """Has the block work on what is named, beside what it is a part of."""
    before = enter(replace(current(), **on))
    try:
        yield
    finally:
        # Not by a token: a generator that is left behind may be closed by another thread.
        _here.set(before)

"""How a step of a run ends: with errors in our words, and by an interrupt wherever it comes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from inspect import isgeneratorfunction
from threading import Event, Thread, current_thread, main_thread
from types import FrameType
from typing import ParamSpec, TypeVar, cast

from dagster._core.errors import DagsterExecutionInterruptedError

from market_pipeline.machine import reports_machine_errors

__all__ = ["run_step"]

_AGAIN_SECONDS = 10.0
"""An interrupt is repeated where it did not end the work in that time; threads have as long."""

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def run_step(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Makes errors of the machine ours, and has SIGINT and SIGTERM end a function of a run, or a
    step of a generator, with Dagster's error for them, wherever they come.

    Python raises an interrupt in whatever runs, and what runs may lose it: a callback of the
    garbage collector can raise nothing, and libraries take it for an error of their own or drop it.
    The run would go on to its end, or record the error as one of the day's data.
    """
    function = reports_machine_errors(function)

    @wraps(function)
    def call(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        with _interruptible():
            return function(*args, **kwargs)

    @wraps(function)
    def steps(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Iterator[object]:
        # Dagster sets its handlers anew for each step.
        started = cast("Generator[object]", function(*args, **kwargs))
        with closing(started) as iterator:
            while True:
                with _interruptible():
                    try:
                        each = next(iterator)
                    except StopIteration:
                        return
                yield each

    return cast("Callable[_Parameters, _Result]", steps) if isgeneratorfunction(function) else call


@contextmanager
def _interruptible() -> Iterator[None]:
    if current_thread() is not main_thread():
        yield
        return
    came, over = Event(), Event()

    def repeat() -> None:
        while not over.wait(_AGAIN_SECONDS):
            signal.pthread_kill(main_thread().ident or 0, signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        if not came.is_set():
            came.set()
            Thread(target=repeat, daemon=True, name="interrupt").start()
        handle = handlers[number]
        if callable(handle):
            handle(number, frame)

    handlers = {int(each): signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, note)
    try:
        yield
    except Exception as error:
        if came.is_set():
            raise DagsterExecutionInterruptedError from error
        raise
    finally:
        over.set()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came.is_set():
        raise DagsterExecutionInterruptedError

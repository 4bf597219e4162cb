"""Signals that end a run of days: Ctrl-C and SIGTERM, whoever else handles them or does not."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from select import select
from threading import Thread
from typing import TYPE_CHECKING, Any

import typer

from market_pipeline.cli.output import errors_console

if TYPE_CHECKING:
    from dagster._core.storage.compute_log_manager import ComputeLogManager

__all__ = ["shield_from_sigint", "stoppable"]

_STOPPING = {signal.SIGINT, signal.SIGTERM}
_NO_MORE = b"\0"
"""Of no signal: what is written to their pipe when none is waited for any more."""
_DEAF_SECONDS = 60.0
"""A run that is asked to stop ends in a few; jobs under way have ten."""


@contextmanager
def stoppable(days: str, *, announced: bool = True) -> Iterator[None]:
    """Ends the verb with 128 + the signal if SIGINT or SIGTERM came in the `with` block.

    Says so with the day or days that were under way, unless that is not to be `announced`.

    Dagster ends the run of the day with it, as a failure like others, or in the end of a run takes
    no notice, or has both raise `KeyboardInterrupt`. The interpreter tells every signal to the pipe
    before anybody handles it.
    """
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    came: list[int] = []
    watch = Thread(target=_end_if_deaf, args=(reading, days, came), daemon=True, name="signals")
    watch.start()
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    on_sigterm, unraisable = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    # Where a handler raises while something is finalized, nobody catches it, and Python prints it.
    sys.unraisablehook = lambda lost: (
        unraisable(lost) if isinstance(lost.exc_value, Exception) else None
    )
    raised = None
    try:
        yield
    except BaseException as error:
        raised = error
    finally:
        sys.unraisablehook = unraisable
        signal.signal(signal.SIGTERM, on_sigterm)
        signal.set_wakeup_fd(before)
        os.write(writing, _NO_MORE)
        watch.join()
        os.close(writing)
        os.close(reading)
    if came:
        stopped_by = signal.Signals(came[0])
        if announced:
            errors_console().print(
                f"stopped by {stopped_by.name} at {days}: what was published stays. "
                "Run the same again to go on.",
                soft_wrap=True,
            )
        raise typer.Exit(128 + stopped_by) from None
    if raised is not None:
        raise raised


def _end_if_deaf(reading: int, days: str, came: list[int]) -> None:
    """Notes the signals that come until `_NO_MORE` does, and ends a process that is deaf to one.

    Only the main thread hears them, and not while it waits inside a library.
    """
    while select([reading], [], [], _DEAF_SECONDS if came else None)[0]:
        numbers = os.read(reading, 1 << 10)
        came += [each for each in numbers if each in _STOPPING]
        if _NO_MORE in numbers:
            return
    name = signal.Signals(came[0]).name
    text = f"ended {_DEAF_SECONDS:g} s after {name} at {days}, because the run did not stop"
    os.write(2, f"{text}: what was published stays. Run the same again to go on.\n".encode())
    os._exit(128 + came[0])


def shield_from_sigint(manager: ComputeLogManager) -> None:
    """Has the processes that Dagster starts to keep a step's output not see Ctrl-C.

    A terminal sends it to all of them. They are ended with the step, or when they are left alone.
    """
    capture = manager.capture_logs

    @contextmanager
    def shielded(log_key: Sequence[str]) -> Iterator[Any]:
        with ExitStack() as stack:
            # Who is started takes the mask over; for this process the signal waits that long.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                context = stack.enter_context(capture(log_key))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield context

    manager.capture_logs = shielded  # type: ignore[method-assign]

"""Interrupts of a run that Python would lose."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from functools import partial
from threading import Timer, main_thread
from typing import Any

from dagster._core.errors import DagsterExecutionInterruptedError

__all__ = ["raise_lost_interrupts_again"]

_AGAIN_SECONDS = 0.05


def raise_lost_interrupts_again() -> None:
    """Has this process repeat an interrupt that came where no exception can leave, as in a callback
    of the garbage collector: the run would go on to its end.
    """
    sys.unraisablehook = partial(_raise_again, sys.unraisablehook)


def _raise_again(hook: Callable[[sys.UnraisableHookArgs], object], lost: Any) -> None:
    if isinstance(lost.exc_value, KeyboardInterrupt | DagsterExecutionInterruptedError):
        again = Timer(_AGAIN_SECONDS, signal.pthread_kill, (main_thread().ident, signal.SIGINT))
        again.daemon = True
        again.start()
    else:
        hook(lost)

"""The console script: what can be done of it before anything else is loaded."""

from __future__ import annotations

import os
import signal
from types import FrameType

__all__ = ["main"]


def main() -> None:
    """Run the console script.

    While it loads, Ctrl-C ends the process without a word: nothing is under way yet. Who ignores
    it, as a shell does for what it starts in the background, goes on doing so.
    """
    on_sigint = signal.getsignal(signal.SIGINT)
    if on_sigint is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    from market_pipeline.cli.script import run_script

    run_script(on_sigint)


def _end(number: int, _: FrameType | None) -> None:
    """Ends the process by the signal itself, as if nobody handled it.

    Nobody does not do: Polars, once loaded, takes SIGINT and drops it unless Python handles it.
    """
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)

"""The last backup, by our verb or by a tool of the user's: either leaves its time in a file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from market_pipeline.doctor.finding import Finding

__all__ = ["NEVER_S", "backup_end", "check_backup"]

NEVER_S = 0.0
"""The Unix time of a backup that never was."""

_MOST_HOURS = 26.0
"""A day, and two hours for a backup that is slower than the one before."""


def backup_end(stamp: Path) -> float:
    """When the last backup ended, Unix time: `stamp` is touched at its end; `NEVER_S` without it.

    Raises:
        OSError: It cannot be looked at, or is a folder, whose time changes with what is in it, also
            by a backup that fails.
    """
    try:
        found = stamp.stat()
    except FileNotFoundError:
        return NEVER_S
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(stamp))
    return found.st_mtime


def check_backup(ended_s: float, now_s: float) -> Iterator[Finding]:
    """Did a backup end within a day or so?"""
    hours = (now_s - ended_s) / 3_600
    text = "no backup has ended" if ended_s == NEVER_S else f"a backup ended {hours:,.1f} h ago"
    if abs(hours) <= _MOST_HOURS:
        yield "ok", text
    elif hours < 0:
        yield (
            "warn",
            f"the last backup is dated {-hours:,.1f} h ahead, so nobody knows how old it is",
            "The clock was ahead when it ended, or is behind now: look at `date`, and run it.",
        )
    else:
        yield (
            "warn",
            f"{text}, and one is due each day",
            "See what its last run logged, and run `market-pipeline backup create`, or your own.",
        )

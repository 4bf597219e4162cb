"""Snapshots that are stale: the content of an earlier one, sent again.

One alone may be the book as it is once more, and replaces nothing. A series of `STALE_SERIES` that
repeats one snapshot while the book changes, or all snapshots of a time before in their order, is
known to be stale; others are not believed a second time.
"""

from __future__ import annotations

import numpy as np

from market_pipeline.books import registers as reg
from market_pipeline.books.comparison import own_content
from market_pipeline.books.log import give_evidence
from market_pipeline.books.state import HISTORY_SNAPSHOTS, Proof
from market_pipeline.jit import kernel

__all__ = ["count_stale", "lag_of", "may_be_stale", "remember"]

STALE_SERIES = 3
_LEAST_LAG = 8
_EXPLAINED = int(Proof.EXPLAINED)


@kernel
def remember(registers, history, content):
    """Keeps what a snapshot shows, by its hash, to know it when it comes again."""
    count = registers[reg.HISTORY_CONTENTS]
    history.content[count & (HISTORY_SNAPSHOTS - 1)] = content
    registers[reg.HISTORY_CONTENTS] = count + 1


@kernel
def lag_of(registers, history, content):
    """How many snapshots ago the latest one of the same content was; 0 if none is remembered."""
    count = registers[reg.HISTORY_CONTENTS]
    for lag in range(1, min(count, HISTORY_SNAPSHOTS) + 1):
        if history.content[(count - lag) & (HISTORY_SNAPSHOTS - 1)] == content:
            return np.int64(lag)
    return np.int64(0)


@kernel
def may_be_stale(registers, lag):
    """Whether a snapshot that disagrees, and was seen `lag` snapshots ago, may be stale."""
    if lag == 0 or registers[reg.STALE_RUN] == 0:
        return lag > 0
    return lag == registers[reg.STALE_LAG] and (lag == 1 or lag >= _LEAST_LAG)


@kernel
def count_stale(registers, levels, evidence, cursor, message, receipt, sequence, lag):
    """Counts a snapshot that disagrees and has the content of an earlier one."""
    if registers[reg.STALE] == 0:
        registers[reg.FIRST_STALE] = receipt
        registers[reg.FIRST_STALE_SEQUENCE] = sequence
    registers[reg.STALE] += 1
    registers[reg.SOFT_DOUBTS] += 1
    registers[reg.MISPLACED_RUN] = 0
    book = own_content(registers, levels)
    if registers[reg.STALE_RUN] == 0 or lag > 1 or book != registers[reg.STALE_BOOK]:
        registers[reg.STALE_RUN] += 1
    registers[reg.STALE_BOOK], registers[reg.STALE_LAG] = book, lag
    if registers[reg.STALE_RUN] >= STALE_SERIES and registers[reg.HARD_DOUBTS] == 0:
        give_evidence(registers, evidence, cursor, _EXPLAINED, message, receipt, sequence, 0, 0)

"""What the book was a few messages ago, from the rings of `state.History`.

The hot loop writes down what each row changed. That is enough to look back at the book after one of
the latest messages, to see which levels changed since, and to apply a message that comes late as if
it had come in its place. What a snapshot or a policy changed is not written down: the rings count
only from there on.
"""

from __future__ import annotations

import numpy as np

from market_pipeline.books import registers as reg
from market_pipeline.books.levels import ASK, BID, key_of, set_level
from market_pipeline.books.state import HISTORY_MESSAGES, HISTORY_ROWS, LATE_ROW
from market_pipeline.jit import kernel

__all__ = [
    "BEFORE_ALL",
    "OUT_OF_REACH",
    "REPEATED",
    "forget_rows",
    "place_of",
    "rows_since",
    "step_back",
    "step_forward",
    "was_touched",
]

REPEATED = -1
BEFORE_ALL = -2
OUT_OF_REACH = -3
_MESSAGE_MASK = HISTORY_MESSAGES - 1
_ROW_MASK = HISTORY_ROWS - 1


@kernel
def forget_rows(registers):
    """Lets the ring of rows begin here: the book was changed by something else than a message."""
    # One row is passed over, or a message that set no level would seem to begin behind the change.
    registers[reg.HISTORY] += 1
    registers[reg.VALID_FROM] = registers[reg.HISTORY]


@kernel
def rows_since(registers, history, message):
    """How many rows were applied before a message of the rebuild; -1 where the rings do not reach.

    `message` may be the one to come.
    """
    messages = registers[reg.MESSAGES]
    if message == messages:
        return registers[reg.HISTORY]
    if message < registers[reg.FIRST_MESSAGE] or messages - message >= HISTORY_MESSAGES:
        return np.int64(-1)
    position = history.position[message & _MESSAGE_MASK]
    is_kept = registers[reg.HISTORY] - position <= HISTORY_ROWS
    return position if is_kept and position >= registers[reg.VALID_FROM] else np.int64(-1)


@kernel
def step_back(levels, history, start, end):
    """Takes back the rows from `end` down to `start`."""
    for row in range(end - 1, start - 1, -1):
        at = row & _ROW_MASK
        code = history.level[at] & ~LATE_ROW
        side = BID if code & 1 else ASK
        # A snapshot may have taught another size since.
        history.after[at] = set_level(levels, side, key_of(side, code >> 1), history.before[at])


@kernel
def step_forward(levels, history, start, end):
    """Applies the rows from `start` up to `end` again."""
    for row in range(start, end):
        at = row & _ROW_MASK
        code = history.level[at] & ~LATE_ROW
        side = BID if code & 1 else ASK
        set_level(levels, side, key_of(side, code >> 1), history.after[at])


@kernel
def was_touched(history, code, start, end, number):
    """Whether one of the rows from `start` up to `end` set the level of that code.

    Those of messages that came late count only if their sequence number is above `number`.
    """
    for row in range(start, end):
        found = history.level[row & _ROW_MASK]
        if found == code or (
            found == code | LATE_ROW and history.late_number[row & _ROW_MASK] > number
        ):
            return True
    return False


@kernel
def place_of(registers, history, number):
    """Where an old message belongs by its sequence number.

    Returns:
        The message of the rebuild that it belongs before; `REPEATED` if its number was applied;
        `BEFORE_ALL` if it lies before all that are remembered; `OUT_OF_REACH` if it was not applied
        and what changed since is not remembered any more.
    """
    messages = registers[reg.MESSAGES]
    first = max(registers[reg.FIRST_MESSAGE], messages - HISTORY_MESSAGES + 1)
    message = messages
    while message > first:
        earlier = history.number[(message - 1) & _MESSAGE_MASK]
        if earlier == number:
            return np.int64(REPEATED)
        if earlier < number:
            start = rows_since(registers, history, message)
            if start < 0:
                return np.int64(OUT_OF_REACH)
            for row in range(start, registers[reg.HISTORY]):
                at = row & _ROW_MASK
                if history.level[at] & LATE_ROW and history.late_number[at] == number:
                    return np.int64(REPEATED)
            return message
        message -= 1
    return np.int64(BEFORE_ALL)

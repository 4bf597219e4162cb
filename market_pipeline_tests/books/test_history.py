from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books import registers as reg
from market_pipeline.books.history import (
    forget_rows,
    rows_since,
    step_back,
    step_forward,
    was_touched,
)
from market_pipeline.books.levels import ASK, BID, empty_levels, key_of, set_level
from market_pipeline.books.registers import new_registers
from market_pipeline.books.state import HISTORY_ROWS, LATE_ROW, new_history
from market_pipeline.books.walk import sides_of

rows = st.lists(
    st.tuples(st.booleans(), st.integers(990, 1010), st.integers(0, 3), st.booleans()), max_size=60
)


def book_of(levels) -> list[list[list[int]]]:
    return [[column.tolist() for column in side] for side in sides_of(levels)]


def applied(levels, history, registers, told) -> list:
    """Applies rows and remembers them; the books before each."""
    books = []
    for number, (is_bid, price, size, is_late) in enumerate(told):
        books.append(book_of(levels))
        at = registers[reg.HISTORY] % HISTORY_ROWS
        side = BID if is_bid else ASK
        history.level[at] = price * 2 + is_bid + LATE_ROW * is_late
        history.before[at] = set_level(levels, side, key_of(side, price), size)
        history.after[at] = size
        history.late_number[at] = number
        registers[reg.HISTORY] += 1
    return books


@settings(max_examples=200)
@given(rows, st.integers(0, 2000), st.data())
def test_stepping_back_and_forward(told, begun, data):
    """Any number of rows back is the book of then, and forward again the book of now."""
    levels, history, registers = empty_levels(64, 64), new_history(), new_registers()
    registers[reg.HISTORY] = begun
    books = applied(levels, history, registers, told)
    now, end = book_of(levels), begun + len(told)
    back = data.draw(st.integers(0, len(told)))
    step_back(levels, history, end - back, end)
    assert (books[-back] if back else now) == book_of(levels)
    step_forward(levels, history, end - back, end)
    assert now == book_of(levels)


def test_what_a_snapshot_taught_since_stays():
    """A level set by something else behind the rows is as it was after stepping to and fro."""
    levels, history, registers = empty_levels(64, 64), new_history(), new_registers()
    applied(levels, history, registers, [(True, 1000, 2, False), (True, 1000, 3, False)])
    set_level(levels, BID, -1000, 9)
    step_back(levels, history, 0, 2)
    step_forward(levels, history, 0, 2)
    assert [[1000], [9]] == book_of(levels)[BID]


@given(rows, st.integers(0, 60), st.integers(990, 1010), st.booleans(), st.integers(-1, 60))
def test_touched(told, start, price, is_bid, number):
    """A level is touched by a row of it; by a late one only if that is of a later message."""
    levels, history, registers = empty_levels(64, 64), new_history(), new_registers()
    applied(levels, history, registers, told)
    start = min(start, len(told))
    expected = any(
        (row[0], row[1]) == (is_bid, price) and (not row[3] or at > number)
        for at, row in enumerate(told)
        if at >= start
    )
    assert expected == was_touched(history, price * 2 + is_bid, start, len(told), number)


def test_nothing_leads_back_behind_what_was_forgotten():
    """After another change than a message's, also a message without rows lies out of reach."""
    registers, history = new_registers(), new_history()
    registers[reg.HISTORY], registers[reg.MESSAGES] = 40, 3
    history.position[:3] = (10, 30, 40)
    assert [10, 30, 40, 40] == [rows_since(registers, history, message) for message in range(4)]
    forget_rows(registers)
    assert [-1, -1, -1, 41] == [rows_since(registers, history, message) for message in range(4)]


def test_rows_since_reaches_over_the_ring():
    """A message is remembered as long as all rows since it are."""
    registers, history = new_registers(), new_history()
    registers[reg.MESSAGES] = 1
    for more, expected in ((0, 0), (1, -1)):
        registers[reg.HISTORY] = HISTORY_ROWS + more
        assert expected == rows_since(registers, history, 0)
    assert np.count_nonzero(history.position) == 0

"""Messages that stand wrong: counted as a plain walk over the rows counts them, and located."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.boundaries import FirstRows, MessageStarts
from market_pipeline.quality.measures.ordering import (
    WINDOW_MESSAGES,
    WINDOW_ROWS,
    Disorder,
    MessageOrder,
)

FILE = Path("1.snappy.parquet")
HOUR_NS = 3_600_000_000_000


def counted(rows: list[tuple], cuts: tuple[int, ...] = (), *, is_row_a_message: bool = False):
    """The order of rows (origin, receipt, sequence, price, size, is_bid), added in batches."""
    order, starts = MessageOrder(0), MessageStarts()
    columns = [
        np.array([row[at] for row in rows], kind)
        for at, kind in enumerate((np.int64,) * 3 + (np.float64, np.float64, np.bool_))
    ]
    for begin, end in zip((0, *cuts), (*cuts, len(rows)), strict=True):
        *keys, price, size, is_bid = (column[begin:end] for column in columns)
        messages = FirstRows(np.arange(begin, end), *keys)
        if not is_row_a_message:
            messages = starts.add(*keys)
        messages = messages._replace(row=messages.row - begin)
        order.add(FILE, begin, messages, price, size, is_bid)
    order.finish()
    return order


def naive(rows: list[tuple]) -> dict[str, object]:
    """The same, of a short feed, with nothing but Python's lists and sets."""
    messages = [list(group) for _, group in groupby(rows, key=lambda row: (row[1], row[2]))]
    counts = dict.fromkeys(Disorder, 0)
    per_hour = [0] * 24
    seen = set()
    for before, message in zip([None, *messages], messages, strict=False):
        origin, receipt, sequence = message[0][:3]
        wrong = False
        if before is not None:
            counts[Disorder.UNORDERED_ORIGIN] += origin < before[0][0]
            counts[Disorder.UNORDERED] += receipt < before[0][1]
            counts[Disorder.BACKWARD] += sequence < before[0][2]
            wrong = receipt < before[0][1] or sequence < before[0][2]
        content = tuple(row[3:] for row in message)
        period = next(
            each
            for each in range(1, len(content) + 1)
            if each == len(content) or content[each] == content[0]
        )
        times, rest = divmod(len(content), period)
        if rest == 0 and content == content[:period] * times:
            counts[Disorder.DOUBLE] += times - 1
            wrong |= times > 1
            content = content[:period]
        if (sequence, content) in seen:
            counts[Disorder.DOUBLE] += 1
            wrong = True
        seen.add((sequence, content))
        per_hour[min(max(receipt // HOUR_NS, 0), 23)] += wrong
    return {"messages": len(messages), "counts": counts, "per_hour": per_hour}


def message(number: int, rows: int = 2, *, at: int | None = None, price: float = 100.0) -> list:
    """A message of some rows; its times are its number unless `at` says otherwise."""
    at = number if at is None else at
    return [(at, at, number, price + row, 1.0, row % 2 == 0) for row in range(rows)]


ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(-1, 25).map(lambda hour: hour * HOUR_NS),
        st.integers(0, 3),
        st.sampled_from([1.0, 2.0]),
        st.sampled_from([0.0, 1.0]),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(ROWS, st.lists(st.integers(0, 40), max_size=3))
def test_agrees_with_the_plain_walk(rows, cuts):
    """Random feeds, cut anywhere into batches, give the counts of a walk with lists and sets."""
    order = counted(rows, tuple(sorted(min(cut, len(rows)) for cut in cuts)))
    found = {
        "messages": order.messages,
        "counts": {kind: order.count(kind) for kind in Disorder},
        "per_hour": order.per_hour,
    }

    assert naive(rows) == found


def test_a_clean_feed():
    """Rising times and numbers are no fault, whatever the numbers skip."""
    order = counted([row for number in range(0, 90, 3) for row in message(number)])

    assert (30, 29, [], [0] * 24) == (
        order.messages,
        order.sequence_changes,
        order.places(),
        order.per_hour,
    )


def test_two_swapped_messages_are_one_fault():
    """The later one of two that swapped places is told, with what stands before it."""
    order = counted([*message(1), *message(3), *message(2), *message(4)])
    places = [(place.kind, place.row, place.value, place.before) for place in order.places()]

    assert [
        (Disorder.UNORDERED, 4, 2, 3),
        (Disorder.UNORDERED_ORIGIN, 4, 2, 3),
        (Disorder.BACKWARD, 4, 2, 3),
    ] == places
    assert 1 == sum(order.per_hour)


def test_a_clock_set_back_is_one_fault():
    """The receipt clock steps back once and runs on: one message, not all after it."""
    order = counted([row for n in range(9) for row in message(n, at=n if n < 4 else n - 3)])

    assert (1, 0) == (order.count(Disorder.UNORDERED), order.count(Disorder.BACKWARD))


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_message_that_follows_itself(rows):
    """Equal in everything, the two are one message of twice the rows, and still told as double."""
    order = counted([*message(1), *message(2, rows), *message(2, rows), *message(3)])
    (place,) = order.places()

    assert (Disorder.DOUBLE, 2 + rows, 2) == (place.kind, place.row, place.sequence_number)
    assert 3 == order.messages


def test_a_message_that_comes_again_later():
    """With another receipt time it is a message of its own, and told by its number and rows."""
    order = counted([*message(1), *message(2), *message(3), *message(2, at=9), *message(4, at=10)])
    doubles = [place.row for place in order.places() if place.kind is Disorder.DOUBLE]

    assert [6] == doubles


def test_the_same_number_with_other_rows_is_no_double():
    """A venue may use a number again; only the same rows make a message the same."""
    order = counted([*message(1), *message(2), *message(2, at=3, price=200.0)])

    assert 0 == order.count(Disorder.DOUBLE)


@pytest.mark.parametrize(("distance", "found"), [(WINDOW_MESSAGES, 1), (3 * WINDOW_MESSAGES, 0)])
def test_how_far_it_looks_back(distance, found):
    """As far back as promised a double is always found; far beyond it is not."""
    rows = [row for number in range(distance) for row in message(number, 1)]
    order = counted([*rows, *message(0, 1, at=distance)])

    assert found == order.count(Disorder.DOUBLE)


def test_a_day_that_is_one_message():
    """Rows that all share number and time are one long message, whose repeats are out of sight."""
    rows = message(1, 2 * WINDOW_ROWS + 2)
    order = counted([*rows, *rows])

    assert (1, 0, 0) == (order.messages, order.count(Disorder.DOUBLE), order.sequence_changes)


def test_rows_as_messages():
    """Where every row is a message, equal neighbours are two, of which one is double."""
    order = counted([*message(1, 1), *message(2, 1), *message(2, 1)], is_row_a_message=True)

    assert (3, 1) == (order.messages, order.count(Disorder.DOUBLE))


def test_places_are_bounded():
    """Ten places of each kind are kept; all are counted, in their hours."""
    rows = [row for n in range(50) for row in message(n, at=(50 - n) * HOUR_NS // 10)]
    order = counted(rows)
    kept = [place for place in order.places() if place.kind is Disorder.UNORDERED]

    assert (49, 10, 49) == (order.count(Disorder.UNORDERED), len(kept), sum(order.per_hour))

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.books.flags import BookFlag
from market_pipeline.config.fidelity import Fidelity
from market_pipeline.quality.fidelity import clock_shift
from market_pipeline.quality.fidelity.clock_shift import MIN_TOUCHES, touch_shifts
from market_pipeline.quality.fidelity.compare import compare_books
from market_pipeline.quality.fidelity.matching import Shift
from market_pipeline_tests.quality.fidelity.made_books import (
    MS,
    book_rows,
    compared_book,
    taken,
    walked_rows,
)

DAY = walked_rows(21_000)


def shifts(other, golden=DAY, cut=None):
    return touch_shifts(compared_book(golden, cut=cut).read(), compared_book(other, cut=cut).read())


def shifted(rows, receipt_ms=0, exchange_ms=0):
    """The same messages with other clocks and other numbers."""
    return rows._replace(
        ts_receipt_ns=rows.ts_receipt_ns + receipt_ms * MS,
        ts_origin_ns=rows.ts_origin_ns + exchange_ms * MS,
        sequence_number=np.arange(rows.flags.size) * 1_000 + 10**12,
    )


def compare(other):
    return compare_books(compared_book(DAY, cut=5_000), compared_book(other), Fidelity())


@pytest.mark.parametrize("cut", [None, 1_000, 7])
def test_both_clocks_by_hand(cut):
    """Each clock has its own shift, to the nanosecond, wherever batches are cut."""
    rows = taken(DAY, slice(0, 1_500))
    assert (Shift(-250 * MS, -250 * MS, -250 * MS), Shift(3 * MS, 3 * MS, 3 * MS)) == shifts(
        shifted(rows, -250, 3), rows, cut
    )


def test_a_shift_is_found_and_taken_away():
    """Without a number in common a planted shift of exchange times is named and beyond its bound,
    a warning and no more, and the books laid over each other by it are equal.
    """
    found = compare(shifted(DAY, 40, 40))
    assert ("warn", "time", 40 * MS, 40 * MS) == (
        found.pair.grade,
        found.pair.matched_by,
        found.pair.exchange_shift_ns,
        found.pair.receipt_shift_ns,
    )
    assert "exchange_shift_ms" == found.pair.worst_metric
    assert 0 == max(each.value for each in found.metrics if each.grid_ms)


def test_a_planted_fault_is_seen_beside_a_shift():
    """Prices rounded to 10 ticks fail as they do without a shift, which is found all the same."""
    rounded = DAY.touch.copy()
    rounded[::2, 0] -= rounded[::2, 0] % 10
    found = compare(shifted(DAY._replace(touch=rounded), 0, 40))
    assert ("fail", 40 * MS) == (found.pair.grade, found.pair.exchange_shift_ns)


def test_of_unlike_streams_it_is_the_median():
    """A stream that shows the book every fifth message has each touch when it comes to it."""
    sparse = taken(DAY, slice(0, None, 5))
    receipt, _ = shifts(shifted(sparse, 70))
    assert Shift(70 * MS, 70 * MS, 70 * MS) == receipt


def test_another_market_has_no_shift():
    """Books of unlike markets have hardly a touch in common, and the report says so."""
    found = compare(shifted(walked_rows(21_000, seed=2)))
    assert (None, None) == (found.pair.receipt_shift_ns, found.pair.exchange_shift_ns)
    assert "touches are in both books exactly once" in found.pair.notes[1]


@pytest.mark.parametrize(("touches", "is_known"), [(MIN_TOUCHES - 1, False), (MIN_TOUCHES, True)])
def test_the_fewest_touches(touches, is_known):
    """One touch fewer than the least says nothing."""
    rows = book_rows([[n, 1, n + 1, 1] for n in range(1, touches + 1)])
    assert is_known == (shifts(shifted(rows), rows) != (None, None))


def test_a_sample_gives_what_all_give(monkeypatch):
    """Where there are more touches than are kept, both books keep the same ones."""
    other = shifted(taken(DAY, np.flatnonzero(np.arange(21_000) % 3)), 12, 5)
    every = shifts(other)
    monkeypatch.setattr(clock_shift, "_MOST_KEPT", 1_500)
    assert (Shift(12 * MS, 12 * MS, 12 * MS), Shift(5 * MS, 5 * MS, 5 * MS)) == every
    assert every == shifts(other, cut=400)


def naive(golden, other):
    """By dictionaries: the differences of times of touches that each book came to once."""
    found = []
    for rows in (golden, other):
        times, count, last = {}, Counter(), (-1, -1, -1, -1)
        for n, touch in enumerate(map(tuple, rows.touch.tolist())):
            if touch != last and rows.are_valid()[n]:
                count[touch] += 1
                times[touch] = None if rows.flags[n] else int(rows.ts_receipt_ns[n])
            last = touch
        found.append({each: time for each, time in times.items() if count[each] == 1})
    own, its = found
    return sorted(
        its[each] - own[each]
        for each in own.keys() & its.keys()
        if own[each] is not None and its[each] is not None
    )


def drawn():
    """Messages of few prices, so that touches come again, some without a sound time."""
    message = st.tuples(st.integers(1, 12), st.booleans(), st.sampled_from([0, 0, 0, 1, 2]))
    return st.lists(message, min_size=0, max_size=60).map(
        lambda rows: book_rows(
            [[price, size + 1, price + 1, 1] for price, size, _ in rows],
            flags=np.array(
                [(0, BookFlag.BAD_TS_RECEIPT, BookFlag.CROSSED)[flag] for *_, flag in rows],
                np.uint16,
            ),
        )
    )


@given(drawn(), drawn(), st.sampled_from([None, 1, 7]))
def test_it_is_what_dictionaries_find(golden, other, cut):
    """Of random books the shift is the lower median of the naive differences."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clock_shift, "MIN_TOUCHES", 1)
        receipt, _ = shifts(other, golden, cut)
    expected = naive(golden, other)
    assert (Shift.of(np.array(expected)) if expected else None) == receipt

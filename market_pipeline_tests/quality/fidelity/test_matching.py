from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.books.flags import BookFlag
from market_pipeline.quality.fidelity.match_kernel import (
    SHIFT_SAMPLES,
    Count,
    First,
    Run,
)
from market_pipeline.quality.fidelity.matching import Shift, match_books, shift_of
from market_pipeline_tests.naive.fidelity import matched
from market_pipeline_tests.quality.fidelity.made_books import book_rows, compared_book


def match(golden, other, cut=None):
    return match_books(*(compared_book(each, cut=cut).read() for each in (golden, other)))


def test_every_level_of_equal_books_agrees():
    """A book against itself: every message is matched and compared, and nothing differs."""
    rows = book_rows([(99, 5, 101, 6), (99, 5, 101, 7)])
    tallies = match(rows, rows)
    assert [2, 2, 0, 0, 0, 0] == tallies.counts[: Count.SHIFTS].tolist()
    assert 2 == tallies.compared[0, 0] == tallies.compared[0, 1]
    assert 0 == tallies.differs.sum()


def test_the_first_divergence_is_located():
    """The number, time and both values of the first message at which a side differs."""
    golden = book_rows([(99, 5, 101, 6)] * 4)
    other = book_rows([(99, 5, 101, 6), (99, 4, 101, 6), (98, 5, 101, 6), (99, 5, 101, 6)])
    tallies = match(golden, other)
    first, run = tallies.first[0, 0], tallies.runs[0, 0]
    assert [1, 2, int(golden.ts_receipt_ns[1]), 99, 5, 99, 4] == first.tolist()
    assert (2, 1) == (tallies.differs[0, 0], tallies.price_differs[0, 0])
    assert (1, 2, 2) == (run[Run.COUNT], run[Run.LONGEST], run[Run.LONGEST_NUMBER])
    assert int(golden.ts_receipt_ns[3]) == run[Run.LONGEST_END_NS]
    assert 0 == tallies.first[0, 1, First.FOUND]


def test_a_missing_side_differs():
    """A side that only one book has differs in price and size, whatever price stands there."""
    golden, other = book_rows([(99, 5, 101, 6)]), book_rows([(99, 0, 101, 6)])
    tallies = match(golden, other)
    assert (1, 1) == (tallies.differs[0, 0], tallies.price_differs[0, 0])


def test_missing_messages_are_those_between_the_other_s():
    """Messages before the other's first and after its last are outside the common span."""
    golden = book_rows([(99, 5, 101, 6)] * 9)
    keep = [2, 3, 5, 6]
    other = book_rows([(99, 5, 101, 6)] * 4, sequence_number=golden.sequence_number[keep])
    tallies = match(golden, other)
    assert (4, 1, 0) == tuple(
        tallies.counts[[Count.MATCHED, Count.ONLY_GOLDEN, Count.ONLY_OTHER]].tolist()
    )
    assert [5, int(golden.ts_receipt_ns[4])] == tallies.only[0].tolist()


def test_a_stray_number_costs_one_message_and_a_restart_two():
    """A number that falls alone is paired with none; numbers that begin anew go on being paired."""
    numbers = np.array([10, 11, 5, 12, 13, 1, 2, 3, 4])
    rows = book_rows([(99, 5, 101, 6)] * 9, sequence_number=numbers)
    # 10, 11, 12, 13, then 2, 3, 4: the first message of the new beginning is not yet one.
    assert 7 == match(rows, rows).counts[Count.MATCHED]


def test_a_message_without_a_valid_book_is_not_compared():
    """Where a flag invalidates a book, the pair is counted for the side that is at fault."""
    golden = book_rows([(99, 5, 101, 6)] * 3)
    flags = np.array([int(BookFlag.CROSSED), int(BookFlag.EMPTY_SIDE), 0], np.uint16)
    tallies = match(golden, golden._replace(flags=flags))
    assert (3, 2, 0, 1) == tuple(tallies.counts[:4].tolist())


def test_the_clock_shift_is_the_median_of_matched_messages():
    """The other's clock minus the golden one's, by the median; one odd stamp does not move it."""
    golden = book_rows([(99, 5, 101, 6)] * 5)
    late = golden.ts_receipt_ns + np.array([7, 7, 7, 7, 10**9])
    tallies = match(golden, golden._replace(ts_receipt_ns=late))
    assert Shift(7, 7, 7) == shift_of(tallies, 0)
    assert Shift(0, 0, 0) == shift_of(tallies, 1)


def test_the_kept_shifts_stay_within_their_room():
    """Of a long day every second, fourth, … pair is kept, from the first to the last."""
    count = 3 * SHIFT_SAMPLES
    golden = book_rows(np.tile([99, 5, 101, 6], (count, 1)))
    other = golden._replace(ts_receipt_ns=golden.ts_receipt_ns + np.arange(count))
    tallies = match(golden, other, cut=10_000)
    kept = int(tallies.counts[Count.SHIFTS])
    assert SHIFT_SAMPLES // 2 < kept <= SHIFT_SAMPLES
    assert list(range(0, count, 4)) == tallies.shifts[0, :kept].tolist()


ROWS = st.lists(
    st.tuples(
        st.integers(1, 12),  # the step of the number
        st.integers(97, 99),
        st.integers(0, 2),
        st.integers(100, 102),
        st.integers(0, 2),
        st.sampled_from([0, 0, 0, int(BookFlag.GAP), int(BookFlag.BAD_SEQUENCE)]),
        st.integers(0, 21),  # confirmed bids; 21 is no depth
    ),
    max_size=30,
)


def drawn(rows):
    """Messages of what was drawn; the second level repeats the touch a tick farther out."""
    touch = np.array([row[1:5] for row in rows], np.int64).reshape(-1, 4)
    has_depth = np.array([row[6] <= 20 for row in rows], np.bool_)
    deep = np.flatnonzero(has_depth)
    levels = np.zeros((len(deep), 20, 4), np.int64)
    levels[:, 0], levels[:, 1] = touch[deep], touch[deep] + [-1, 0, 1, 0]
    depth_row = np.full(len(rows), -1, np.int64)
    depth_row[deep] = np.arange(len(deep))
    return book_rows(
        touch,
        sequence_number=np.cumsum([row[0] for row in rows], dtype=np.int64),
        flags=np.array([row[5] for row in rows], np.uint16),
        depth_row=depth_row,
        levels=levels,
        confirmed=np.array([[rows[k][6], 20] for k in deep], np.int64).reshape(-1, 2),
    )


@given(ROWS, ROWS, st.integers(1, 7))
def test_the_kernel_finds_what_dictionaries_find(golden, other, cut):
    """Counts, levels, first divergences and runs are the naive ones, wherever batches are cut."""
    own, its = drawn(golden), drawn(other)
    tallies = match(own, its, cut)
    counts, levels = matched([own], [its])
    assert counts == {
        name: int(tallies.counts[Count[name.upper()]])
        for name in ("matched", "compared", "only_golden", "only_other")
    }
    found = {
        (level, side): (
            int(tallies.compared[level, side]),
            int(tallies.differs[level, side]),
            int(tallies.first[level, side, First.NUMBER])
            if tallies.first[level, side, First.FOUND]
            else None,
            int(tallies.runs[level, side, Run.LONGEST]),
        )
        for level in range(20)
        for side in range(2)
        if tallies.compared[level, side]
    }
    assert levels == found

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.books.flags import BookFlag
from market_pipeline.quality.fidelity.distributions import bin_values
from market_pipeline.quality.fidelity.grid_kernel import (
    BINS,
    OFFSET_NS,
    ZERO_BIN,
    Error,
    Sampled,
    Span,
)
from market_pipeline.quality.fidelity.pairing import pair_books
from market_pipeline_tests.naive.fidelity import on_grid
from market_pipeline_tests.quality.fidelity.made_books import (
    MS,
    SECOND,
    START,
    book_rows,
    compared_book,
    walked_rows,
)


def pair(golden, other, clock="exchange", shift_ns=0, cut=None):
    own, its = (compared_book(each, cut=cut).read() for each in (golden, other))
    return pair_books(own, its, clock, shift_ns)


def test_a_book_against_itself_has_no_error():
    """Every instant of either grid is there, paired, and without an error."""
    rows = walked_rows(21, step_ms=100)
    sums = pair(rows, rows)
    assert [200, 20] == sums.errors[:, Error.INSTANTS].tolist()
    assert (
        sums.errors[:, [Error.INSTANTS, Error.PAIRED, Error.WITH_DEPTH]].sum() == sums.errors.sum()
    )
    assert 0 == sums.size_errors.sum()
    assert 2 * SECOND == sums.span[Span.BOTH_VALID] == sums.span[Span.NOW] - sums.span[Span.START]


def test_errors_by_hand():
    """A bid a tick too low for 20 of 40 ms is half a tick of mid at two of four instants."""
    golden = book_rows([(100, 5, 102, 5)] * 3)
    other = book_rows([(100, 5, 102, 5), (99, 7, 102, 5), (100, 5, 102, 5)])
    ten = pair(golden, other).errors[0].tolist()
    assert (4.0, 4.0) == (ten[Error.INSTANTS], ten[Error.PAIRED])
    assert (2.0, 1.0) == (ten[Error.MID_SQUARES], ten[Error.MID_MOST])
    assert (2.0, 1.0) == (ten[Error.SPREAD_SQUARES], ten[Error.SPREAD_MOST])
    sums = pair(golden, other)
    assert (4.0, 20.0) == (sums.size_errors[0, 0, 0], sums.sizes[0, 0, 0])
    assert START + 20 * MS == sums.most_ns[0]


def test_a_shifted_clock_is_taken_back():
    """Of clocks that are apart by a known shift the grids are those of one clock."""
    golden = walked_rows(50)
    other = golden._replace(ts_receipt_ns=golden.ts_receipt_ns + 1_500 * MS)
    assert 0 < pair(golden, other, "receipt").errors[0, Error.MID_SQUARES]
    taken_back = pair(golden, other, "receipt", 1_500 * MS).errors[0]
    assert 0 == taken_back[Error.MID_SQUARES]
    assert 490 == taken_back[Error.INSTANTS]


def test_time_of_one_valid_book_is_counted_for_that_book():
    """A crossed book is not compared, and its time is the golden book's alone."""
    golden = book_rows([(100, 5, 102, 5)] * 4)
    flags = np.array([0, int(BookFlag.CROSSED), 0, 0], np.uint16)
    span = pair(golden, golden._replace(flags=flags)).span
    assert (40 * MS, 20 * MS, 0) == tuple(span[Span.BOTH_VALID : Span.OTHER_ONLY + 1].tolist())
    assert START + 20 * MS == span[Span.FIRST_GOLDEN_ONLY]


def test_nobody_knows_the_book_in_a_gap():
    """The time from the last message before a gap is not valid, though that message is."""
    golden = book_rows([(100, 5, 102, 5)] * 4)
    breaks = np.array([False, True, False, False])
    span = pair(golden, golden._replace(breaks=breaks)).span
    assert (40 * MS, 20 * MS) == (span[Span.BOTH_VALID], span[Span.GOLDEN_ONLY])


def test_a_side_that_only_one_book_has_is_no_paired_instant():
    """Without two sides there is no mid: such instants are counted apart."""
    golden = book_rows([(100, 5, 102, 5)] * 2)
    ten = pair(golden, book_rows([(100, 5, 102, 0)] * 2)).errors[0]
    assert (2.0, 0.0, 2.0) == (ten[Error.INSTANTS], ten[Error.PAIRED], ten[Error.ONE_SIDED])


@pytest.mark.parametrize("value", [0, 1, 63, 64, 65, 127, 128, 1_000, 123_456_789, 10**12])
def test_a_bin_stands_for_its_values(value):
    """The value of a bin is within 1.6 % of what is counted in it, exactly so up to 63."""
    spread = book_rows([(10, 5, 10 + value, 5)] * 60)
    found = pair(spread, spread).histograms[0, Sampled.SPREAD].sum(0)
    (place,) = np.flatnonzero(found)
    assert abs(bin_values()[place] - value) <= (0.016 * value if value > 63 else 0)


def test_bins_are_in_the_order_of_their_values():
    """There is a value for each bin, ascending, and 0 has the one in the middle."""
    values = bin_values()
    assert BINS == len(values)
    assert 0 == values[ZERO_BIN]
    assert (np.diff(values)[1:] > 0).all()


def test_what_is_sampled_every_second():
    """Spread, imbalance, sizes, returns and updates of each second, by hand."""
    rows = book_rows([(100, 3, 102, 1)] * 50 + [(104, 1, 107, 3)] * 60)
    found = pair(rows, rows).histograms[1].sum(1)
    values = bin_values()

    def of(figure):
        counts = found[figure]
        return {float(values[k]): int(counts[k]) for k in np.flatnonzero(counts)}

    assert {2.0: 1, 3.0: 2} == of(Sampled.SPREAD)
    assert {25.0: 1, -25.0: 2} == of(Sampled.TOUCH_IMBALANCE)
    assert {4.0: 3} == of(Sampled.TOUCH_SIZE)
    assert {9.0: 1, 0.0: 1} == of(Sampled.MID_RETURN)
    assert {50.0: 2} == of(Sampled.UPDATES)
    assert {} == of(Sampled.DEPTH_20)
    (waited,) = of(Sampled.INTER_ARRIVAL)
    assert abs(waited - 20_000) < 320


MESSAGES = st.lists(
    st.tuples(
        st.integers(-2, 30),  # milliseconds since the message before
        st.integers(98, 100),
        st.integers(0, 2),
        st.integers(101, 103),
        st.integers(0, 2),
        st.sampled_from(
            [0, 0, 0, int(BookFlag.GAP), int(BookFlag.BAD_TS_ORIGIN), int(BookFlag.BAD_TS_RECEIPT)]
        ),
        st.booleans(),
    ),
    max_size=25,
)


def drawn(messages):
    origin = START + np.cumsum([row[0] for row in messages], dtype=np.int64) * MS
    return book_rows(
        [row[1:5] for row in messages],
        ts_origin_ns=origin,
        ts_receipt_ns=origin + 3 * MS,
        flags=np.array([row[5] for row in messages], np.uint16),
        breaks=np.array([row[6] and row[5] == 0 for row in messages], np.bool_),
    )


@given(MESSAGES, MESSAGES, st.sampled_from(["exchange", "receipt"]), st.integers(1, 6))
def test_the_kernel_finds_what_is_found_instant_by_instant(golden, other, clock, cut):
    """The sums of a grid are the naive ones, of clocks that run back and stamps that are bad."""
    own, its = drawn(golden), drawn(other)
    sums = pair(own, its, clock, cut=cut)
    for grid, step_ms in enumerate((10, 100)):
        errors = sums.errors[grid]
        expected = on_grid([own], [its], clock, step_ms * MS, OFFSET_NS)
        found = [errors[each] for each in (Error.INSTANTS, Error.PAIRED, Error.MID_SQUARES)]
        found += [errors[Error.MID_MOST], sums.size_errors[grid, 0, 0], sums.sizes[grid, 0, 0]]
        assert expected == found


@given(MESSAGES, st.sampled_from(["exchange", "receipt"]), st.integers(1, 6))
def test_a_book_against_itself_has_equal_histograms(messages, clock, cut):
    """Whatever is sampled of one of two equal books is sampled of the other, also where a message
    ends the book.
    """
    rows = drawn(messages)
    sums = pair(rows, rows, clock, cut=cut)
    assert (sums.histograms[0] == sums.histograms[1]).all()

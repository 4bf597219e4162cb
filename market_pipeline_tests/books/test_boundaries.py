from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.books import boundaries
from market_pipeline.books.boundaries import first_rows, message_starts

# Few values, so that each of the two often repeats, alone and with the other; and the extremes.
EDGE = 2**63 - 1
keys = st.lists(st.tuples(st.sampled_from([0, 1, -1, EDGE]), st.sampled_from([5, 6, -EDGE - 1])))


def starts_of(rows, before=None) -> list[int]:
    """The indices that `message_starts` writes for rows of (sequence, receipt)."""
    columns = np.array(rows, np.int64).reshape(-1, 2)
    starts = np.full(len(rows) + 1, -7, np.int64)
    count = message_starts(columns[:, 0], columns[:, 1], starts, before)
    assert starts[-1] == -7
    return starts[:count].tolist()


class TestMessageStarts:
    @given(keys, st.none() | st.tuples(st.sampled_from([0, 1]), st.sampled_from([5, 6])))
    def test_are_those_of_a_loop(self, rows, before):
        """A row begins a message if its sequence number or receipt time is not the one before."""
        expected, last = [], before
        for index, key in enumerate(rows):
            if key != last:
                expected.append(index)
            last = key
        assert expected == starts_of(rows, before)

    def test_nothing_before(self):
        """The first row of all begins a message whatever it holds."""
        assert [0] == starts_of([(0, 0), (0, 0)])

    def test_one_machine_code_for_all(self):
        """Writable, read-only and strided columns are one type to numba."""
        column = np.arange(6, dtype=np.int64)
        frozen, starts = column.copy(), np.empty(6, np.int64)
        frozen.flags.writeable = False
        message_starts(column, column, starts)
        compiled = len(boundaries._message_starts.signatures)
        assert 6 == message_starts(frozen, column, starts)
        assert 3 == message_starts(column[::2], frozen[::2], starts)
        assert compiled == len(boundaries._message_starts.signatures)


class TestFirstRows:
    @given(keys, st.lists(st.integers(0, 30)))
    def test_no_cut_matters(self, rows, cuts):
        """However the feed is cut, even into nothing, each message's first row comes once."""
        sequence, receipt = np.array(rows, np.int64).reshape(-1, 2).T
        origin = np.arange(len(rows), dtype=np.int64) * 3
        edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
        found = first_rows((origin[a:b], receipt[a:b], sequence[a:b]) for a, b in pairwise(edges))

        expected = starts_of(rows)
        assert expected == found.row.tolist()
        assert origin[expected].tolist() == found.ts_origin_ns.tolist()
        assert receipt[expected].tolist() == found.ts_receipt_ns.tolist()
        assert sequence[expected].tolist() == found.sequence_number.tolist()
        assert {np.dtype(np.int64)} == {column.dtype for column in found}

    def test_no_batch(self):
        """A feed without a batch has no message."""
        assert [0, 0, 0, 0] == [column.size for column in first_rows([])]

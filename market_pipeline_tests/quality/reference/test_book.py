"""The plain book by itself; `books/test_kernel.py` holds it against the kernel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.quality.reference.book import PlainBook, PlainSide, plain_rebuild
from market_pipeline.quality.reference.feed import Row, Snapshot, messages_of


def rebuilt(book: PlainBook, rows: list[Row], snapshots: list[Snapshot] | None = None):
    return list(plain_rebuild(book, messages_of(rows), snapshots or []))


SNAPSHOT = Snapshot(1, 1, [(100, 5), (99, 1)], [(102, 5), (104, 1)])


class TestSide:
    @given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), max_size=40))
    def test_prices_are_those_of_the_sizes_in_order(self, puts):
        """After any levels set and removed, the prices are the sorted keys of the sizes."""
        side, sizes = PlainSide(), {}
        for price, size in puts:
            before = side.put(price, size)
            assert before == sizes.get(price, 0)
            sizes[price] = size

        assert {p: s for p, s in sizes.items() if s} == side.sizes
        assert sorted(side.sizes) == side.prices


class TestRebuild:
    def test_a_cold_start_and_its_seed(self):
        """Before the first snapshot nothing is seeded; with it the book is the snapshot's."""
        rows = [Row(1, 1, True, 90, 7), Row(2, 2, True, 101, 1), Row(2, 2, False, 102, 0)]
        first, second = rebuilt(PlainBook(), rows, [SNAPSHOT])

        assert (90, 7, 0, 0) == first[3:7]
        assert BookFlag.NOT_SEEDED | BookFlag.EMPTY_SIDE == first.flags
        assert (101, 1, 104, 1, 0) == second[3:]

    def test_ends_between_two_snapshots(self):
        """However many snapshots come before a message, no more are met than the work allows."""
        met = []

        def snapshots():
            for number in range(1_000):
                met.append(number)
                yield Snapshot(1, number, SNAPSHOT.bids, SNAPSHOT.asks)

        messages = messages_of([Row(2_000, 2_000, True, 100, 6)])
        assert [] == list(plain_rebuild(PlainBook(), messages, snapshots(), 500))
        assert 0 < len(met) < 20

    def test_can_be_read_between_messages(self):
        """While the rows come, the book is that of the row that came last."""
        book = PlainBook()
        rows = [Row(k, k, True, 100 + k, k) for k in range(1, 4)]
        tops = [book.top(2)[0] for _ in plain_rebuild(book, messages_of(rows), [])]

        assert [[(101, 1)], [(102, 2), (101, 1)], [(103, 3), (102, 2)]] == tops

    def test_a_snapshot_at_its_number_is_compared(self):
        """A wrong touch fails it, and two messages later the book is replaced in its window."""
        rows = [
            Row(2, 2, True, 100, 6),
            Row(3, 3, True, 98, 1),
            Row(4, 4, True, 99, 3),
            Row(5, 5, False, 104, 9),
        ]
        wrong = Snapshot(2, 2, [(100, 7), (99, 1)], SNAPSHOT.asks)
        book = PlainBook()
        told = rebuilt(book, rows, [SNAPSHOT, wrong])

        assert ["SEED", "RESYNC"] == [repair[0] for repair in book.repairs]
        assert ["ADOPTED", "MISMATCH", "ADOPTED"] == [piece.kind for piece in book.evidence]
        assert (1, 1) == (book.counts["snapshots_compared"], book.counts["snapshots_mismatched"])
        assert [(100, 6)] * 3 + [(100, 7)] == [row[3:5] for row in told]
        # What messages set since the snapshot stays.
        assert [(100, 7), (99, 3), (98, 1)] == book.top(20)[0]

    def test_a_snapshot_of_the_message_before(self):
        """It is misplaced, and replaces nothing."""
        rows = [Row(k, k, True, 100, k) for k in range(2, 9)]
        late = [Snapshot(k, k, [(100, k - 1), (99, 1)], SNAPSHOT.asks) for k in range(3, 9)]
        book = PlainBook()
        rebuilt(book, rows, [SNAPSHOT, *late])

        assert (6, ["SEED"]) == (
            book.counts["snapshots_misplaced"],
            [repair[0] for repair in book.repairs],
        )

    def test_a_snapshot_whose_place_never_comes(self):
        """It is waited for as long as the patience lasts, and then left out."""
        late = Snapshot(1, 900, SNAPSHOT.bids, SNAPSHOT.asks)
        book = PlainBook(patience_ns=10)
        rebuilt(book, [Row(time, time, True, 100, 1) for time in (1, 11, 12)], [late])

        assert (1, False) == (book.counts["snapshots_unplaced"], book.seeded)

    def test_stale_levels_go_where_that_is_the_policy(self):
        """The side that did not move loses what the other reached."""
        rows = [Row(2, 2, True, 103, 4)]
        crossed, uncrossed = PlainBook(), PlainBook(uncross=True)
        (left,) = rebuilt(crossed, rows, [SNAPSHOT])
        (recovered,) = rebuilt(uncrossed, rows, [SNAPSHOT])

        assert (103, 4, 102, 5, BookFlag.CROSSED) == left[3:]
        assert (103, 4, 104, 1, 0) == recovered[3:]


class TestGoingOn:
    @staticmethod
    def keyframe(*, horizon: int | None) -> Keyframe:
        bids, asks = (np.array(part, np.int64) for part in ([100, 99], [102, 104]))
        sizes = np.array([5, 1], np.int64)
        return Keyframe("keyframe", 1, 1, 1, 1, 0, bids, sizes, asks, sizes, horizon, horizon)

    def test_from_a_keyframe(self):
        """The book, its number and its touch are the keyframe's."""
        book = PlainBook()
        book.go_on_from(self.keyframe(horizon=100))

        assert (SNAPSHOT.bids, SNAPSHOT.asks) == book.top(20)
        assert (1, (100, 102), True) == (book.last_sequence, book.last_touch, book.seeded)

    def test_not_from_one_that_was_never_seeded(self):
        """Without a horizon it is not known what is confirmed."""
        with pytest.raises(ValueError, match="never seeded"):
            PlainBook().go_on_from(self.keyframe(horizon=None))

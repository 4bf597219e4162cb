from __future__ import annotations

from collections.abc import Sequence

import pytest

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.registers import figures_of
from market_pipeline.books.state import HISTORY_MESSAGES, HISTORY_ROWS
from market_pipeline.quality.reference.book import PlainBook
from market_pipeline.quality.reference.feed import REFUSED, Row, Snapshot
from market_pipeline_tests.books.feeds import SECOND
from market_pipeline_tests.books.test_kernel import Fast, Plain, assert_alike

TENTH = SECOND // 10
SEED = Snapshot(SECOND, 1, [(100, 5), (99, 5), (98, 5)], [(101, 5), (102, 5), (103, 5)])


def message(number: int, *levels: tuple[int, int], received: int | None = None) -> list[Row]:
    """A message of its number's time that sets bids (below 101) or asks; received later if told."""
    time_ns = SECOND + number * TENTH
    receipt_ns = time_ns if received is None else SECOND + received * TENTH + 1
    return [Row(receipt_ns, number, price <= 100, price, size, time_ns) for price, size in levels]


def quiet(first: int, last: int) -> list[list[Row]]:
    """Messages that say nothing about the levels that matter."""
    return [message(number, (90, number)) for number in range(first, last + 1)]


def run(
    messages: Sequence[list[Row]], snapshots: Sequence[Snapshot] = (SEED,), **policies
) -> tuple[Fast, list[tuple]]:
    """The rebuild, which is that of the plain book."""
    rows = [row for each in messages for row in each]
    fast = Fast(PlainBook(**policies), far=4096)
    out = fast.run(rows, list(snapshots), [])
    assert_alike(fast, out, Plain(PlainBook(**policies), rows, list(snapshots)))
    return fast, out


def bids(fast: Fast) -> dict[int, int]:
    return dict(fast.tops[-1][0])


def counts(fast: Fast, *names: str) -> tuple[int, ...]:
    figures = figures_of(fast.registers)
    return tuple(figures[name] for name in names)


KINDS = ("repeated_messages", "late_messages", "stale_messages")


class TestRepeated:
    def test_a_message_that_comes_again_is_dropped(self):
        """It has no row, and what came after it stays."""
        messages = [*quiet(1, 4), message(5, (99, 7)), message(6, (99, 8)), *quiet(7, 9)]
        again = message(5, (99, 7), received=9)
        fast, out = run([*messages, again, *quiet(10, 30)])
        assert (8, 30) == (bids(fast)[99], len(out))
        assert (1, 0, 0) == counts(fast, *KINDS)
        assert {0} == {row[-1] for row in out[1:]}

    def test_a_feed_that_stands_twice(self):
        """The second time is dropped but for its last message, and no row is in doubt."""
        feed = [*quiet(1, 20), message(21, (99, 7)), *quiet(22, 40)]
        fast, out = run([*feed, *feed])
        assert (41, 39) == (len(out), counts(fast, "repeated_messages")[0])
        assert {0} == {row[-1] for row in out[1:]}
        assert [piece for piece in fast.evidence if piece[0] == "LATE"] == []

    def test_long_ago_is_dropped_in_silence(self):
        """What lies before all that is remembered is stale; many of it are a file that overlaps."""
        feed = quiet(1, HISTORY_MESSAGES + 60)
        fast, out = run([*feed, *feed[20:50]])
        assert (0, 0, 30) == counts(fast, *KINDS)
        assert {0} == {row[-1] for row in out[1:]}

    def test_one_alone_of_long_ago_may_be_lost(self):
        """A single one of before all that is remembered, among new ones, is a suspected loss."""
        feed = quiet(1, HISTORY_MESSAGES + 60)
        fast, out = run([*feed[:10], *feed[11:], feed[10], *quiet(len(feed) + 1, len(feed) + 30)])
        assert (0, 0, 1) == counts(fast, *KINDS)
        assert [int(BookFlag.GAP)] * 30 == [row[-1] for row in out[-30:]]


class TestLate:
    def test_it_is_applied_where_nothing_overtook_it(self):
        """Levels that later messages set stay; the others are what they would be in order."""
        late = message(5, (99, 7), (98, 7), received=9)
        messages = [*quiet(1, 4), *quiet(6, 7), message(8, (99, 9)), late, *quiet(10, 30)]
        fast, _ = run(messages)
        assert (9, 7) == (bids(fast)[99], bids(fast)[98])
        assert (0, 1, 0) == counts(fast, *KINDS)
        # The rows from message 6 on, up to the one before it came.
        assert [("LATE", 4, late[0].ts_receipt_ns, 5, 7, 0)] == [
            piece for piece in fast.evidence if piece[0] == "LATE"
        ]

    def test_two_in_order_of_one_level(self):
        """The second of two late ones is newer than the first, and sets its level again."""
        late = [message(5, (99, 7), received=9), message(6, (99, 8), received=9)]
        fast, _ = run([*quiet(1, 4), *quiet(7, 9), *late, *quiet(10, 30)])
        assert 8 == bids(fast)[99]

    def test_two_in_the_wrong_order_of_one_level(self):
        """The first of two late ones is newer than the second, and keeps its level."""
        late = [message(6, (99, 8), received=9), message(5, (99, 7), received=9)]
        fast, _ = run([*quiet(1, 4), *quiet(7, 9), *late, *quiet(10, 30)])
        assert 8 == bids(fast)[99]

    def test_one_level_twice_in_a_message(self):
        """Its last row of a level is what counts, as in any message."""
        late = message(5, (99, 7), (99, 8), received=9)
        fast, _ = run([*quiet(1, 4), *quiet(6, 9), late, *quiet(10, 30)])
        assert 8 == bids(fast)[99]

    def test_told_twice(self):
        """The second time a late message is a repeated one."""
        late = message(5, (99, 7), received=9)
        again = message(5, (99, 7), received=12)
        fast, _ = run([*quiet(1, 4), *quiet(6, 9), late, *quiet(10, 12), again, *quiet(13, 30)])
        assert (1, 1, 0) == counts(fast, *KINDS)

    @pytest.mark.parametrize("more", [-1, 0, 1, 2])
    def test_too_long_ago_to_be_known(self, more):
        """Where more rows were applied since than are remembered, the book is in doubt instead."""
        between = message(6, *((50, size) for size in range(1, HISTORY_ROWS + more)))
        late = message(5, (99, 7), received=9)
        fast, out = run([*quiet(1, 4), between, late, *quiet(7, 30)])
        is_known = more <= 0
        assert 5 + 2 * is_known == bids(fast)[99]
        assert (0 if is_known else int(BookFlag.GAP)) == out[-1][-1]

    def test_longer_than_what_is_remembered(self):
        """A late message of very many rows is not held against what it overwrote itself."""
        late = message(5, *((50, size) for size in range(1, HISTORY_ROWS)), (99, 7), received=9)
        fast, out = run([*quiet(1, 4), message(6, (99, 9)), *quiet(7, 9), late, *quiet(10, 30)])
        assert 9 == bids(fast)[99]
        assert int(BookFlag.GAP) == out[-1][-1]

    def test_what_a_snapshot_since_knew_of(self):
        """A message that is older than the snapshot that seeded the book is in it already."""
        seed = Snapshot(SECOND + 8 * TENTH, 8, SEED.bids, SEED.asks)
        late = message(5, (99, 7), received=9)
        fast, out = run([*quiet(1, 4), *quiet(9, 9), late, *quiet(10, 30)], [seed])
        assert (5, 0) == (bids(fast)[99], out[-1][-1])
        assert (0, 0, 1) == counts(fast, *KINDS)

    def test_behind_a_message_that_set_nothing_and_a_snapshot(self):
        """A message refused whole does not lead behind the snapshot that set the book right."""
        refused = message(6, (100, REFUSED))
        recovers = Snapshot(SECOND + 6 * TENTH, 6, SEED.bids, SEED.asks)
        late = message(5, (99, 7), received=7)
        fast, out = run([*quiet(1, 4), refused, late, *quiet(7, 30)], [SEED, recovers])
        assert (5, 0) == (bids(fast)[99], out[-1][-1])

    def test_off_the_grid(self):
        """A late level that cannot be represented is refused like any other."""
        late = message(5, (99, REFUSED), received=9)
        _, out = run([*quiet(1, 4), *quiet(6, 9), late, *quiet(10, 30)])
        assert int(BookFlag.PRECISION_LOSS) == out[-1][-1]


class TestOutput:
    @pytest.mark.parametrize("output", [1, 2, 5])
    def test_a_mark_is_not_lost_where_the_output_is_full(self, output):
        """The number of a bad message places no snapshot, however little room there is."""
        rows = [
            row for each in [*quiet(1, 4), message(900, (90, 1)), *quiet(5, 30)] for row in each
        ]
        rows[4].ts_receipt_ns = rows[4].ts_origin_ns = SECOND + 4 * TENTH + 5
        early = Snapshot(SECOND + 4 * TENTH, 20, SEED.bids, SEED.asks)
        fast = Fast(PlainBook(), output=output)
        out = fast.run(rows, [SEED, early], [])
        assert_alike(fast, out, Plain(PlainBook(), rows, [SEED, early]))
        assert BookFlag.BAD_SEQUENCE == out[4][-1]
        assert 20 == fast.evidence[-1][3]

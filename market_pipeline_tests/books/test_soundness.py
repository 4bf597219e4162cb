from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books import soundness
from market_pipeline.books.marking import LastSnapshot, marked_deltas, marked_snapshots
from market_pipeline.books.soundness import (
    LOOKAHEAD,
    Mark,
    Soundness,
    marks_of,
    sound_times_ns,
)
from market_pipeline.quality.reference.soundness import SOUND, Marks, Stamps, marked
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch

SECOND = 10**9
LOWEST, HIGHEST = -(2**63), 2**63 - 1
AHEAD = [2, 90, 3 * 3600, 86_400]


def bits_of(marks: Marks) -> int:
    """A plain marks as the marks of the kernel."""
    bits = Mark(0)
    for is_so, mark in (
        (marks.is_old, Mark.OLD),
        (marks.is_alone, Mark.SUSPECTED_LOSS),
        (marks.is_restart, Mark.RESTART),
        (marks.is_part, Mark.OUT_OF_ORDER),
        (marks.bad_sequence, Mark.BAD_SEQUENCE),
        (marks.bad_receipt, Mark.BAD_TS_RECEIPT),
        (marks.bad_origin, Mark.BAD_TS_ORIGIN),
    ):
        bits |= mark if is_so else Mark(0)
    return int(bits)


def marks(messages: list[Stamps]) -> list[int]:
    columns = np.array(messages, np.int64).reshape(-1, 3)
    numbers, receipts, origins = columns.T
    return marks_of(origins.copy(), receipts.copy(), numbers.copy()).tolist()


def a_feed(count: int, *, start: int = 1_000, step_ns: int = SECOND // 10) -> list[Stamps]:
    """A sound feed: a number and a tenth of a second from one message to the next."""
    return [Stamps(start + k, k * step_ns + 5_000_000, k * step_ns) for k in range(1, count + 1)]


# Made once: most of the time of an example goes into what it is drawn from.
AGES = st.sampled_from([0, 3_000_000])
STEPS = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 2, 40]),
        st.sampled_from([0, 1, SECOND // 10, SECOND, 5 * SECOND]),
        AGES,
    ),
    max_size=60,
)
FIRST_NUMBERS, FIRST_TIMES = st.sampled_from([1, 500]), st.sampled_from([0, 86_400 * SECOND])
DAMAGES = st.integers(0, 4)
LENGTHS = st.sampled_from([1, 1, 2, 3, 9, 20])
SHIFTS = st.sampled_from([*AHEAD, *(-n for n in AHEAD)])
KINDS = st.sampled_from(
    ["receipt", "origin", "both", "number", "restart", "clock set", "again", "late", "zero", "any"]
)
IS_EXTREME = st.booleans()
EXTREMES = st.sampled_from([LOWEST, LOWEST + 1, -1, 0, 2**62, HIGHEST])


@st.composite
def damaged(draw) -> list[Stamps]:
    """A feed with any of what is known to go wrong with numbers, stamps and order."""
    numbers, waits, ages = zip(*[(0, 0, draw(AGES)), *draw(STEPS)], strict=True)
    first_number, first_time = draw(FIRST_NUMBERS), draw(FIRST_TIMES)
    messages = [
        Stamps(first_number + number, first_time + time + age, first_time + time)
        for number, time, age in zip(accumulate(numbers), accumulate(waits), ages, strict=True)
    ]
    for _ in range(draw(DAMAGES)):
        at = draw(st.integers(0, len(messages) - 1))
        until = min(at + draw(LENGTHS), len(messages))
        part = messages[at:until]
        by = draw(SHIFTS) * SECOND
        match draw(KINDS):
            case "receipt":
                part = [m._replace(ts_receipt_ns=m.ts_receipt_ns + by) for m in part]
            case "origin":
                part = [m._replace(ts_origin_ns=m.ts_origin_ns + by) for m in part]
            case "both":
                part = [Stamps(m[0], m[1] + by, m[2] + by) for m in part]
            case "number":
                shift = draw(st.sampled_from([-400, -3, 3, 400, 9_000]))
                part = [m._replace(sequence_number=m.sequence_number + shift) for m in part]
            case "restart":
                until = len(messages)
                shift = draw(st.sampled_from([-450, 10_000]))
                part = [m._replace(sequence_number=m.sequence_number + shift)
                        for m in messages[at:]]  # fmt: skip
            case "clock set":
                until = len(messages)
                part = [m._replace(ts_receipt_ns=m.ts_receipt_ns + by) for m in messages[at:]]
            case "again":
                part = [*part, *part]
            case "late":
                later = messages[until : until + draw(st.integers(1, 20))]
                part, until = [*later, *part], until + len(later)
            case "zero":
                part = [m._replace(ts_origin_ns=0) for m in part]
            case "any":
                part = [
                    Stamps(*(draw(EXTREMES) if draw(IS_EXTREME) else value for value in m))
                    for m in part
                ]
        messages[at:until] = part
    return [Stamps(*(min(max(value, LOWEST), HIGHEST) for value in each)) for each in messages]


@pytest.mark.slow
class TestAgainstThePlainRules:
    @settings(max_examples=1_000)
    @given(damaged())
    def test_every_mark_is_theirs(self, messages):
        """Of any feed, with any outliers, repeats, restarts and extremes."""
        assert marks(messages) == [bits_of(marks) for marks, _ in marked(messages)]

    @settings(max_examples=500)
    @given(st.lists(st.tuples(*[st.one_of(
        st.integers(0, 40), st.integers(0, 40).map(lambda n: n * SECOND),
        st.sampled_from([LOWEST, HIGHEST, -(2**62), 2**62]), st.integers(LOWEST, HIGHEST))] * 3),
        max_size=40))  # fmt: skip
    def test_also_where_nothing_makes_sense(self, values):
        """Numbers and times that are anything an int64 can be."""
        messages = [Stamps(*each) for each in values]
        assert marks(messages) == [bits_of(marks) for marks, _ in marked(messages)]

    @settings(max_examples=300)
    @given(damaged(), st.integers(0, 60))
    def test_the_last_sound_values_are_theirs(self, messages, at):
        """After any message, with those after it known, the state is that of the plain rules."""
        at = min(at, len(messages))
        soundness = Soundness()
        numbers, receipts, origins = np.array(messages, np.int64).reshape(-1, 3).T.copy()
        soundness.mark(origins, receipts, numbers, at)
        told = list(marked(messages))[:at]
        last = told[-1][1] if told else None
        times = None if last is None else (last.ts_receipt_ns, last.ts_origin_ns)
        assert times == soundness.last.times_ns
        # The number is known before the clocks are.
        assert last is None or last.sequence_number == soundness.last.sequence_number


def batches(messages: list[Stamps], rows_each: list[int], edges: list[int]) -> list[DeltaBatch]:
    """The feed with so many rows a message, cut at the edges."""
    rows = np.repeat(np.array(messages, np.int64).reshape(-1, 3), rows_each, axis=0)
    cuts = sorted({0, len(rows), *(edge % (len(rows) + 1) for edge in edges)})
    ones = np.ones(len(rows))
    return [
        DeltaBatch(
            Path("deltas"),
            start,
            rows[start:end, 2].copy(),
            rows[start:end, 1].copy(),
            rows[start:end, 0].copy(),
            ones[start:end] > 0,
            ones[start:end],
            ones[start:end],
        )
        for start, end in pairwise(cuts)
    ]


@pytest.mark.slow
class TestCuts:
    @settings(max_examples=300)
    @given(damaged(), st.lists(st.integers(0, 500), max_size=12), st.data())
    def test_marked_in_one_go_and_in_any_batches(self, messages, edges, data):
        """Marks are the same rows of the feed however it is cut, also amid a message."""
        rows_each = data.draw(
            st.lists(st.integers(1, 4), min_size=len(messages), max_size=len(messages))
        )

        def found(cuts):
            marked, first = [], 0
            for batch, rows, bits in marked_deltas(batches(messages, rows_each, cuts), Soundness()):
                marked += zip((rows + first).tolist(), bits.tolist(), strict=True)
                first += batch.sequence_number.size
            return marked

        assert found([]) == found(edges)

    @settings(max_examples=300)
    @given(damaged(), st.integers(0, 80))
    def test_going_on_from_the_last_sound_values(self, messages, at):
        """The rest of a feed is marked alike by what is known of the part before it."""
        at = min(at, len(messages))
        whole = marks(messages)
        soundness = Soundness()
        numbers, receipts, origins = np.array(messages, np.int64).reshape(-1, 3).T.copy()
        first = soundness.mark(origins, receipts, numbers, at).tolist()
        rest = Soundness(soundness.last)
        later = rest.mark(origins[at:], receipts[at:], numbers[at:], len(messages) - at).tolist()
        assert whole == first + later

    @settings(max_examples=300)
    @given(damaged(), st.lists(st.integers(0, 100), max_size=6))
    def test_snapshots_in_any_batches(self, messages, edges):
        """Times, places and epochs of snapshots do not depend on the batches either."""

        def told(cuts):
            columns = np.array(messages, np.int64).reshape(-1, 3)
            edges = sorted({0, len(messages), *(cut % (len(messages) + 1) for cut in cuts)})
            none = np.zeros((len(messages), 1))
            parts = [
                SnapshotBatch(
                    Path("book"),
                    a,
                    columns[a:b, 1].copy(),
                    columns[a:b, 0].copy(),
                    *[none[a:b]] * 4,
                )
                for a, b in pairwise(edges)
            ]
            return [
                row
                for marked in marked_snapshots(parts, None)
                for row in zip(
                    marked.batch.ts_receipt_ns.tolist(),
                    marked.batch.sequence_number.tolist(),
                    marked.placeable.tolist(),
                    marked.epoch.tolist(),
                    [marked.last_before(k + 1) for k in range(marked.epoch.size)],
                    strict=True,
                )
            ]

        assert told([]) == told(edges)


class TestOneBadValue:
    """Each costs its own message, wherever in the feed it is."""

    @pytest.mark.parametrize("at", [0, 1, 17, 38, 39])
    @pytest.mark.parametrize("by_s", [-80_000, -7, 90, 80_000])
    @pytest.mark.parametrize(
        ("column", "mark"), [(1, Mark.BAD_TS_RECEIPT), (2, Mark.BAD_TS_ORIGIN)]
    )
    def test_of_a_clock(self, at, by_s, column, mark):
        """A stamp hours or seconds off is bad, and no other one is."""
        messages = a_feed(40)
        values = list(messages[at])
        values[column] += by_s * SECOND
        messages[at] = Stamps(*values)
        if (at, by_s) == (0, -7):
            # Of the first message of a feed nobody knows whether a quiet time came after it.
            assert [0] * 40 == marks(messages)
        else:
            assert [0] * at + [int(mark)] + [0] * (39 - at) == marks(messages)

    @pytest.mark.parametrize("at", [0, 1, 17, 37])
    def test_of_the_sequence(self, at):
        """A number ten times too high is bad, up to the third last message of the feed."""
        messages = a_feed(40)
        messages[at] = messages[at]._replace(sequence_number=messages[at].sequence_number * 10)
        assert [0] * at + [int(Mark.BAD_SEQUENCE)] + [0] * (39 - at) == marks(messages)

    def test_of_a_low_number(self):
        """A number of long before on a message that both clocks show to be new."""
        messages = a_feed(40)
        messages[20] = messages[20]._replace(sequence_number=3)
        assert int(Mark.BAD_SEQUENCE) == marks(messages)[20]
        assert 1 == np.count_nonzero(marks(messages))


class TestWhatIsBelieved:
    def test_a_sound_feed(self):
        """Nothing is marked, also with holes of an hour in the day and in the numbers."""
        messages = a_feed(30) + [
            Stamps(n + 10**6, r + 3_600 * SECOND, o + 3_600 * SECOND) for n, r, o in a_feed(30)
        ]
        assert [0] * 60 == marks(messages)

    @pytest.mark.parametrize("by_s", [-5_000, -2, 2, 5_000])
    def test_a_clock_that_is_set(self, by_s):
        """A receipt clock that was set, and stays so, is sound on either side of the step."""
        messages = a_feed(30)
        messages += [
            Stamps(n + 30, r + (by_s + 3) * SECOND, o + 3 * SECOND) for n, r, o in a_feed(30)
        ]
        assert [0] * 60 == marks(messages)

    def test_numbers_that_begin_anew(self):
        """The first of the new numbers is a restart, and the others are sound."""
        messages = a_feed(30, start=5_000)
        messages += [Stamps(n - 4_000, r + 3 * SECOND, o + 3 * SECOND) for n, r, o in messages]
        assert [0] * 30 + [int(Mark.RESTART)] + [0] * 29 == marks(messages)


class TestOld:
    def test_a_file_that_stands_twice(self):
        """All of the second but its last message, which is the book as it is, are old."""
        messages = a_feed(50)
        assert [0] * 50 + [int(Mark.OLD)] * 49 + [0] == marks(messages + messages)

    def test_shards_that_overlap(self):
        """What the first one told already is old in the second."""
        messages = a_feed(60)
        found = marks(messages[:40] + messages[25:])
        assert [0] * 40 + [int(Mark.OLD)] * 14 + [0] * 21 == [
            each & ~int(Mark.SUSPECTED_LOSS) for each in found
        ]

    def test_two_messages_swapped(self):
        """The later one is sound, and the earlier one old and alone."""
        messages = a_feed(40)
        messages[20], messages[21] = messages[21], messages[20]
        found = marks(messages)
        assert (0, int(Mark.OLD | Mark.SUSPECTED_LOSS)) == (found[20], found[21])
        assert 1 == np.count_nonzero(found)


class TestSnapshots:
    def test_one_bad_stamp_is_replaced_by_the_one_before(self):
        """The time of a snapshot in the kernel is the last sound one."""
        received = np.arange(1, 31) * SECOND
        received[10] += 4_000 * SECOND
        none = np.zeros((30, 1))
        number = np.arange(30, dtype=np.int64)
        batch = SnapshotBatch(Path("book"), 0, received, number, *[none] * 4)
        (marked,) = marked_snapshots([batch], None)
        assert received[9] == marked.batch.ts_receipt_ns[10]
        assert marked.placeable.all()
        assert LastSnapshot(10, int(received[9]), 0) == marked.last_before(11)

    @given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), max_size=20), st.integers(1, 22))
    def test_sound_times(self, times, size):
        """A bad time is that of the last sound one, the first that of the next, in any parts."""
        values = np.array([time for time, _ in times], np.int64)
        is_bad = np.array([bad for _, bad in times], np.bool_)
        sound = [time for time, bad in times if not bad]
        expected, last = [], None
        for time, bad in times:
            last = last if bad else time
            expected.append(time if not sound else sound[0] if last is None else last)
        with patch.object(soundness, "_PART_MESSAGES", size):
            assert expected == sound_times_ns(values, is_bad).tolist()


def test_a_feed_shorter_than_the_lookahead():
    """The end of a feed is marked by what there is."""
    for count in range(LOOKAHEAD):
        assert [SOUND] * count == [marks for marks, _ in marked(a_feed(count))]
        assert [0] * count == marks(a_feed(count))

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from market_pipeline.sources.venues.merge import Hole, Merge, Message
from market_pipeline.sources.venues.venue import (
    NO_PROOF,
    Classified,
    Continuity,
    Kind,
    Proof,
    Scope,
)

COUNTER = Continuity(Proof.COUNTER)


def message(last_id):
    return Message(Classified(Kind.TRADES, "trades:A", "A", last_id, last_id), b"%d" % last_id)


def ids(messages):
    return [each.head.last_id for each in messages]


class TestMerge:
    def test_what_one_lost_the_other_brings(self):
        """A message waits for those before it, and is handed on behind them."""
        merge = Merge(COUNTER, 0.5)
        assert [1] == ids(merge.push(message(1), 0.0))
        assert [] == ids(merge.push(message(3), 0.1))
        assert [2, 3] == ids(merge.push(message(2), 0.2))
        assert [] == ids(merge.push(message(3), 0.3))
        assert (1, 1, False) == (merge.duplicates, merge.filled, merge.is_waiting)

    def test_what_none_brings_is_a_gap(self):
        """After the time given the hole is found, and the messages behind it go on."""
        merge = Merge(COUNTER, 0.5)
        merge.push(message(1), 0.0)
        merge.push(message(4), 0.1)
        merge.push(message(5), 0.2)
        assert ([], []) == merge.expire(0.5)
        holes, messages = merge.expire(0.6)
        assert ([Hole(1, 3)], [4, 5]) == (holes, ids(messages))

    def test_ids_of_a_connection_are_not_united(self):
        """A counter of the connection: one is followed, a newer one from its whole book on."""
        merge = Merge(Continuity(Proof.COUNTER, Scope.CONNECTION), 0.5)
        whole = Classified(Kind.DEPTH, "depth:A", "A", 1, 1, is_snapshot=True)
        came = [(5, 1), (9, 1), (2, 2), (3, 2), (12, 1)]
        messages = [replace(message(last), connection=number) for last, number in came]
        messages.insert(3, Message(whole, b"", 0, 2))
        assert [5, 9, 1, 3] == [i for each in messages for i in ids(merge.push(each, 0.0))]
        assert (2, False, 2) == (merge.duplicates, merge.is_waiting, merge.leader)
        assert (False, True) == (merge.ended(1), merge.ended(2))
        assert [14] == ids(merge.push(replace(message(14), connection=3), 0.0))

    def test_without_proof_only_older_ids_are_left_out(self):
        """A stream that proves nothing has no gaps, and each id once."""
        merge = Merge(NO_PROOF, 0.5)
        assert [1, 4, 6] == [i for n in (1, 4, 4, 2, 6) for i in ids(merge.push(message(n), 0.0))]

    @given(
        lost=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60),
        order=st.randoms(use_true_random=False),
    )
    def test_any_losses_in_any_interleaving(self, lost, order):
        """What one of both had comes once, in order; what none had, and only that, is a hole."""
        lost = [(False, False), *lost, (False, False)]
        queues = [
            [number for number, each in enumerate(lost, 1) if not each[connection]]
            for connection in (0, 1)
        ]
        merge, got, holes = Merge(COUNTER, 1.0), ids([]), []
        got += ids(merge.push(message(1), 0.0))
        while any(queues):
            queue = order.choice([each for each in queues if each])
            got += ids(merge.push(message(queue.pop(0)), 0.0))
        now_s = 0.0
        while merge.is_waiting:
            now_s += 2.0
            found, messages = merge.expire(now_s)
            holes += found
            got += ids(messages)
        had = [number for number, each in enumerate(lost, 1) if not all(each)]
        assert had == got
        missing = {n for hole in holes for n in range(hole.after_id + 1, hole.before_id + 1)}
        assert {*range(1, len(lost) + 1)} - {*had} == missing

"""Continuity: losses, repetitions and disorder against a plain reading of what was sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.sources.venues.continuity import Checked, Sequence, Step
from market_pipeline.sources.venues.venue import Classified, Continuity, Kind, Proof

PROOFS = (Proof.ID_RANGE, Proof.CHAIN, Proof.COUNTER)


def sent_frames(proof: Proof, lengths: list[int]) -> list[Classified]:
    """Frames of so many ids as a venue of that proof sends them; chains have holes in their ids."""
    frames, last = [], 100
    for length in lengths:
        if proof is Proof.COUNTER:
            first, ends = last + 1, last + 1
        else:
            first = last + 1 + (7 if proof is Proof.CHAIN else 0)
            ends = first + length - 1
        frames.append(Classified(Kind.DEPTH, "depth:X", "X", first, ends, last))
        last = ends
    return frames


def naive_steps(sent: list[Classified], arrived: list[int]) -> list[Step]:
    """By the places of frames in what was sent: what is not above the highest so far is old."""
    steps, highest = [], None
    for place in arrived:
        if highest is None:
            steps.append(Step.BEGINS)
        elif place <= highest:
            steps.append(Step.OLD)
        else:
            steps.append(Step.FOLLOWS if place == highest + 1 else Step.GAP)
        highest = place if highest is None else max(highest, place)
    return steps


class TestSequence:
    @given(
        st.sampled_from(PROOFS),
        st.lists(st.integers(1, 9), min_size=1, max_size=30),
        st.data(),
    )
    def test_finds_each_gap_and_invents_none(self, proof, lengths, data):
        """Frames dropped, repeated and moved: each step is as their places in the sent ones say."""
        sent = sent_frames(proof, lengths)
        arrived = data.draw(st.lists(st.integers(0, len(sent) - 1), max_size=60))
        sequence = Sequence(Continuity(proof))
        assert naive_steps(sent, arrived) == [sequence.check(sent[at]).step for at in arrived]

    @given(st.sampled_from((Proof.ID_RANGE, Proof.COUNTER)), st.integers(1, 20))
    def test_counts_what_is_lost(self, proof, dropped):
        """Where ids have no holes, the size of a gap is the number of ids of the missing frames."""
        sent = sent_frames(proof, [3] * (dropped + 2))
        sequence = Sequence(Continuity(proof))
        sequence.check(sent[0])
        lost = sent[-2].last_id - sent[0].last_id
        found = sequence.check(sent[-1])
        assert (Step.GAP, lost) == found[:2]

    def test_a_chain_does_not_say_how_much_is_lost(self):
        """A broken chain proves a loss and not its size."""
        sent = sent_frames(Proof.CHAIN, [1, 1, 1])
        sequence = Sequence(Continuity(Proof.CHAIN))
        sequence.check(sent[0])
        expected = Checked(Step.GAP, None, sent[0].last_id, sent[1].last_id)
        assert expected == sequence.check(sent[2])

    def test_a_whole_book_begins_anew(self):
        """A snapshot among the messages is continued whatever came before it."""
        sequence = Sequence(Continuity(Proof.COUNTER))
        sequence.check(Classified(Kind.DEPTH, last_id=50))
        whole = Classified(Kind.DEPTH, last_id=1, is_snapshot=True)
        assert Step.BEGINS is sequence.check(whole).step
        assert Step.FOLLOWS is sequence.check(Classified(Kind.DEPTH, last_id=2)).step

    def test_ids_may_fall_where_the_venue_says_so(self):
        """A frame of lower id follows if it names the one before, and then links the next."""
        sequence = Sequence(Continuity(Proof.CHAIN, ids_may_fall=True))
        ids = ((9, 10), (10, 10), (10, 3), (3, 5))
        steps = [
            sequence.check(Classified(Kind.DEPTH, last_id=last, previous_id=previous)).step
            for previous, last in ids
        ]
        assert [Step.BEGINS, Step.FOLLOWS, Step.FOLLOWS, Step.FOLLOWS] == steps

    def test_without_ids_nothing_is_proven(self):
        """A stream that proves nothing is neither right nor wrong."""
        sequence = Sequence(Continuity(Proof.NONE))
        assert Checked(Step.UNPROVEN, None) == sequence.check(Classified(Kind.DEPTH, last_id=4))

"""What a span of recordings proves."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.sources.recording.check import find_recordings
from market_pipeline.sources.recording.heads import Heads
from market_pipeline.sources.recording.proof import HourGaps, SpanProof
from market_pipeline.sources.recording.union import by_host, file_name, received
from market_pipeline.sources.venues.binance import BINANCE_SPOT
from market_pipeline_tests.golden.recorded import (
    DEPTH,
    HOUR_NS,
    START_NS,
    STEP_NS,
    STEPS,
    TRADES,
    record_host,
)

END_NS = START_NS + STEPS * STEP_NS


def proven(root, end_ns=END_NS):
    """The proof of all that is recorded, and its gaps."""
    gaps = []
    hosts = by_host(find_recordings([root]))
    proof = SpanProof(Heads(BINANCE_SPOT), hosts, START_NS, end_ns, gaps.append)
    for _ in proof.union(received(hosts)):
        pass
    return proof, gaps


def hourly(proof):
    return [hour.gaps.get(DEPTH, HourGaps()) for hour in proof.hours()]


class TestGaps:
    def test_one_host_fills_what_the_other_lost(self, tmp_path):
        """A gap is filled where the other host has it and left where none has, by its hour, with
        the file that filled it.
        """
        record_host(tmp_path, "one", lost={100, 200, 500, 501})
        record_host(tmp_path, "two", lost={200, 900})
        proof, gaps = proven(tmp_path)
        assert [HourGaps(2, 1, 1), HourGaps(1, 1, 0), HourGaps(1, 1, 0)] == hourly(proof)
        left = [each for each in gaps if each.filled_by is None]
        assert [(400, 402, None)] == [(g.after_id, g.before_id, g.host) for g in left]
        assert {
            (200, 202): "2024-08-09/00_two_two1_0.recording",
            (1000, 1004): "2024-08-09/01_two_two1_0.recording",
            (1800, 1802): "2024-08-09/02_one_one1_0.recording",
        } == {(g.after_id, g.before_id): file_name(g.filled_by) for g in gaps if g.filled_by}
        assert (1, 2, STEPS - 1) == (
            proof.streams[DEPTH].gaps,
            proof.streams[DEPTH].missing_ids,
            proof.streams[DEPTH].messages,
        )
        assert (STEPS, 0) == (proof.streams[TRADES].messages, proof.streams[TRADES].gaps)
        assert 2 * STEPS - 1 == sum(sum(hour.frames.values()) for hour in proof.hours())

    def test_connections_of_one_host_fill_each_other(self, tmp_path):
        """With one host the connections stand for the hosts."""
        record_host(tmp_path, "one", lost={(100, 1), (200, 1), (200, 2), (300, 2)}, connections=2)
        proof, gaps = proven(tmp_path)
        assert [HourGaps(3, 2, 1), HourGaps(), HourGaps()] == hourly(proof)
        assert {1, 2} == {gap.connection for gap in gaps if gap.filled_by}

    def test_a_dead_host_costs_nothing(self, tmp_path):
        """Where one host dies and the other goes on, nothing is missing and all is verified."""
        record_host(tmp_path, "one", stop_at=400)
        record_host(tmp_path, "two")
        proof, gaps = proven(tmp_path)
        assert ([], STEPS) == (gaps, proof.streams[DEPTH].messages)
        assert (STEPS - 1) * STEP_NS == proof.streams[DEPTH].verified_ns

    @given(lost=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
    @settings(max_examples=15, deadline=None)
    def test_found_is_filled_and_left(self, tmp_path_factory, lost):
        """Whatever two hosts lose: the gaps left are the runs that both lost, and ids add up."""
        root = tmp_path_factory.mktemp("hosts")
        steps = len(lost) + 2
        for number, host in enumerate(("one", "two")):
            gone = {at for at, each in enumerate(lost, 1) if each[number]}
            record_host(root, host, lost=gone, stop_at=steps)
        proof, _ = proven(root)
        gone = [all(each) for each in lost]
        runs = sum(each and not before for before, each in zip([False, *gone], gone, strict=False))
        depth = proof.streams[DEPTH]
        assert (runs, 2 * sum(gone), steps - sum(gone)) == (
            depth.gaps,
            depth.missing_ids,
            depth.messages,
        )
        for gaps in hourly(proof):
            assert gaps.filled + gaps.left == gaps.found


class TestTime:
    def test_downtime_is_no_gap(self, tmp_path):
        """Without a connection it is downtime, what ids prove is verified, and all is the span."""
        record_host(tmp_path, "one", lost={50}, down=range(400, 460))
        proof, _ = proven(tmp_path)
        depth = proof.streams[DEPTH]
        span = depth.verified_ns + depth.unverifiable_ns + depth.gap_ns + depth.downtime_ns
        assert END_NS - START_NS == span
        # Frames come a millisecond after their step; nothing is recorded after the last one.
        assert (61 * STEP_NS, 3 * STEP_NS - 1_000_000) == (
            depth.downtime_ns,
            depth.gap_ns,
        )

    def test_a_recorder_that_died_is_down(self, tmp_path):
        """A session that ends without a word is down from its last record on."""
        record_host(tmp_path, "one", stop_at=360)
        proof, _ = proven(tmp_path)
        assert 2 * HOUR_NS + STEP_NS - 1_000_000 == proof.streams[DEPTH].downtime_ns

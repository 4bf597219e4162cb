from __future__ import annotations

from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books import lookback
from market_pipeline.books.flags import BookFlag
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.lookback import Lookback
from market_pipeline.books.state import HISTORY_MESSAGES, BboRows, DepthRows, Evidence, Proof
from market_pipeline.quality.reference.state import PlainEvidence
from market_pipeline_tests.naive.lookback import looked_back

FAILED, LATE, GAP = BookFlag.SNAPSHOT_MISMATCH, BookFlag.OUT_OF_ORDER, BookFlag.GAP
MARGIN = 8
"""So many rows are held for late messages in these tests …"""
FAILING = 3
"""… and so many matches end what a failure says."""


def bbo_rows(flags: list[int], first: int) -> BboRows:
    number = np.arange(first, first + len(flags), dtype=np.int64)
    return BboRows(*[number] * 7, np.array(flags, np.uint16), np.zeros(len(flags), np.bool_))


def depth_rows(messages: list[int], flags: list[int]) -> DepthRows:
    number = np.array(messages, np.int64)
    sides = [np.zeros((number.size, 20), np.int64)] * 4
    confirmed = np.zeros(number.size, np.int8)
    at = [flags[message] for message in messages]
    return DepthRows(
        *[number] * 3, *sides, np.array(at, np.uint16), np.zeros(number.size, np.bool_), number,
        confirmed, confirmed,
    )  # fmt: skip


def evidence_rows(pieces: list[PlainEvidence]) -> Evidence:
    told = [(int(Proof[piece.kind]), *piece[1:]) for piece in pieces]
    return Evidence(*np.array(told, np.int64).reshape(-1, 6).T.copy())


class Told:
    """What came out, joined."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.flags: list[int] = []
        self.verified: list[bool] = []
        self.depth: list[tuple[int, int, bool]] = []
        self.keyframes: list[tuple[int, int]] = []

    def add(self, block) -> None:
        if isinstance(block, BboRows):
            self.numbers += block.sequence_number.tolist()
            self.flags += block.flags.tolist()
            self.verified += block.verified.tolist()
        elif isinstance(block, DepthRows):
            self.depth += zip(
                block.message.tolist(), block.flags.tolist(), block.verified.tolist(), strict=True
            )
        else:
            # A keyframe comes after its row.
            assert not self.numbers or block.messages <= len(self.numbers)
            self.keyframes.append((block.messages, block.flags))


def a_keyframe(kind: str, messages: int, flags: int) -> Keyframe:
    none = np.empty(0, np.int64)
    return Keyframe(kind, 0, 0, 0, messages, flags, none, none, none, none, None, None)


FLAGS = st.sampled_from(
    [0, 0, 0, 0, int(GAP), int(BookFlag.LOCKED), int(BookFlag.UNCONFIRMED_DEPTH)]
)
PIECES = st.sampled_from([0, 0, 1, 1, 2])
KINDS = st.sampled_from(["MATCH", "ADOPTED", "MISMATCH", "EXPLAINED", "LATE"])
MISPLACED_BY = st.sampled_from([0, 0, 0, 2])
AGREEING = st.sampled_from([0, 40, 40])


@st.composite
def stories(draw):
    """Flags of rows, the messages with depth, and the evidence met as they came."""
    rows = draw(st.integers(0, 40))
    flags = [draw(FLAGS) for _ in range(rows)]
    depth = [row for row in range(rows) if draw(st.booleans())]
    evidence: list[PlainEvidence] = []
    anchor = 0
    for now in range(rows + 1):
        for _ in range(draw(PIECES)):
            kind = draw(KINDS)
            message, levels = now, 0
            if kind == "LATE":
                message, levels = max(now - draw(st.integers(1, MARGIN - 1)), 0), now
            elif kind == "MATCH":
                # A misplaced snapshot agrees with a message of before.
                message = max(anchor, now - draw(MISPLACED_BY))
                levels = draw(AGREEING)
            if kind in ("MATCH", "ADOPTED"):
                anchor = message
            evidence.append(PlainEvidence(kind, message, now, now, levels, 0))
    met_at = [piece.ts_receipt_ns for piece in evidence]
    return flags, depth, evidence, met_at


def run(story, cuts, *, ids_prove=False, resumed=False) -> Told:
    """The rows as they come in blocks that end at the cuts, with the evidence met up to there."""
    flags, depth, evidence, met_at = story
    edges = sorted({0, len(flags), *(cut % (len(flags) + 1) for cut in cuts)})
    look, told = Lookback(ids_prove=ids_prove), Told()
    blocks = list(pairwise(edges)) or [(0, 0)]
    for start, end in blocks:
        last = end == len(flags)
        keyframe = a_keyframe("keyframe", end, flags[end - 1]) if end else None
        if keyframe is not None and not last:
            look.keep(keyframe)
        if last:
            look.keep(a_keyframe("closing", end, flags[end - 1] if end else 0))
        # What is met before a message that begins a block may be told with either block.
        pieces = [
            piece
            for piece, now in zip(evidence, met_at, strict=True)
            if (start < now or start == 0) and (now <= end)
        ]
        part = [row for row in depth if start <= row < end]
        for block in look.take(
            bbo_rows(flags[start:end], start), depth_rows(part, flags), evidence_rows(pieces),
            last=last,
        ):  # fmt: skip
            told.add(block)
        if resumed:
            look = Lookback(ids_prove=ids_prove, start=look.state())
    return told


@pytest.fixture(autouse=True)
def small_margin():
    with (
        mock.patch.object(lookback, "HISTORY_MESSAGES", MARGIN),
        mock.patch.object(lookback, "MATCHES_TO_TRUST", FAILING),
    ):
        yield


cuts = st.lists(st.integers(0, 40), max_size=8)


def expected(story, **limits):
    flags, depth, evidence, _ = story
    found, verified = looked_back(
        flags, evidence, depth_messages=depth, matches_to_trust=FAILING, **limits
    )
    told = Told()
    told.numbers = list(range(len(flags)))
    told.flags, told.verified = found, verified
    told.depth = [(message, found[message], verified[message]) for message in depth]
    return told


def assert_alike(told: Told, other: Told) -> None:
    assert told.numbers == other.numbers
    assert told.flags == other.flags
    assert told.verified == other.verified
    assert told.depth == other.depth


class TestAgainstThePlainRules:
    @settings(max_examples=200)
    @given(stories(), cuts, st.booleans(), st.booleans())
    def test_rows_wherever_blocks_are_cut_and_resumed(self, story, cuts, ids_prove, resumed):
        """Every row of the touch and of the depth says what asking it alone would say."""
        told = run(story, cuts, ids_prove=ids_prove, resumed=resumed)
        assert_alike(told, expected(story, ids_prove=ids_prove))

    @settings(max_examples=200)
    @given(stories(), cuts, st.booleans(), st.integers(10, 20), st.integers(3, 12))
    def test_within_limits(self, story, cuts, ids_prove, most, most_depth):
        """Evidence reaches back over so many rows and no further, however the rows come."""
        with (
            mock.patch.object(lookback, "MOST_MESSAGES", most),
            mock.patch.object(lookback, "MOST_DEPTH_ROWS", most_depth),
        ):
            told = run(story, cuts, ids_prove=ids_prove)
        limits = {"most_messages": most, "most_depth_rows": most_depth}
        assert_alike(told, expected(story, ids_prove=ids_prove, **limits))

    @settings(max_examples=100)
    @given(stories(), cuts, st.integers(10, 20))
    def test_memory_is_bounded(self, story, cuts, most):
        """No more rows are held than evidence reaches back over, or a late message may need."""
        flags, *_ = story
        with mock.patch.object(lookback, "MOST_MESSAGES", most):
            edges = sorted({0, len(flags), *(cut % (len(flags) + 1) for cut in cuts)})
            look = Lookback()
            for start, end in pairwise(edges):
                list(look.take(bbo_rows(flags[start:end], start), depth_rows([], flags),
                               evidence_rows([])))  # fmt: skip
                state = look.state()
                assert state.bbo is not None and state.bbo.flags.size <= max(most, MARGIN)


class TestRules:
    @staticmethod
    def of(rows: int, *evidence: tuple, **limits) -> tuple[list[int], list[bool]]:
        pieces = [PlainEvidence(k, m, m, m, rest[0] if rest else 0, 0) for k, m, *rest in evidence]
        met = [rest[0] if kind == "LATE" else m for kind, m, *rest in evidence]
        told = run(([0] * rows, [], pieces, met), [], **limits)
        return told.flags, told.verified

    def test_between_two_that_agree(self):
        """Rows between a seed and a match are verified; before and behind them nothing is known."""
        flags, verified = self.of(5, ("ADOPTED", 1), ("MATCH", 3))
        assert ([0] * 5, [False, True, True, False, False]) == (flags, verified)

    def test_back_to_the_last_that_agreed(self):
        """A failed comparison puts all rows since the last evidence in doubt, not those before."""
        flags, verified = self.of(6, ("ADOPTED", 0), ("MATCH", 2), ("MISMATCH", 4), ("ADOPTED", 5))
        assert [0, 0, FAILED, FAILED, FAILED, 0] == flags
        assert [True, True, False, False, False, False] == verified

    def test_between_failures_that_follow_one_another(self):
        """A match between two failed comparisons proves nothing; one long after them does."""
        matches = [("MATCH", at, 40) for at in range(6, 6 + FAILING)]
        flags, verified = self.of(
            10, ("MISMATCH", 1), ("ADOPTED", 1), ("MATCH", 3, 40), ("MISMATCH", 4), ("ADOPTED", 5),
            *matches,
        )  # fmt: skip
        assert [FAILED] * 5 + [0] * 5 == flags
        assert [False] * 5 + [True] * 3 + [False] * 2 == verified

    def test_failures_far_from_one_another(self):
        """So many matches in a row are believed, and a failure after them is one of its own."""
        matches = [("MATCH", at, 40) for at in range(2, 2 + FAILING)]
        flags, _ = self.of(
            8, ("MISMATCH", 1), ("ADOPTED", 1), *matches, ("MISMATCH", 6), ("ADOPTED", 6)
        )
        assert [FAILED, 0, 0, 0, FAILED, FAILED, 0, 0] == flags

    def test_the_end_of_a_day_that_fails_again_and_again(self):
        """Rows after the last of several failures are not believed for want of another one."""
        failures = [("MISMATCH", 1), ("ADOPTED", 1), ("MISMATCH", 2), ("ADOPTED", 2)]
        assert [FAILED] * 4 == self.of(4, *failures)[0]

    def test_failures_beside_a_proof_by_ids(self):
        """Ids prove what lies between two failed comparisons all the same."""
        story = [("MISMATCH", 1), ("ADOPTED", 1), ("MATCH", 3), ("MISMATCH", 4), ("ADOPTED", 4)]
        assert [FAILED] * 5 == self.of(5, *story)[0]
        assert [FAILED, 0, 0, FAILED, 0] == self.of(5, *story, ids_prove=True)[0]

    def test_a_doubt_that_was_explained(self):
        """A snapshot found to be misplaced flags nothing, and the next match verifies."""
        flags, verified = self.of(
            4, ("ADOPTED", 0), ("MISMATCH", 2), ("EXPLAINED", 2), ("MATCH", 4)
        )
        assert ([0] * 4, [True] * 4) == (flags, verified)

    def test_the_end_of_a_day_in_doubt(self):
        """Without a later snapshot the doubt stays."""
        assert [0, FAILED, FAILED] == self.of(3, ("MATCH", 1), ("MISMATCH", 2))[0]

    def test_late_messages_flag_rows_behind_evidence_too(self):
        """Snapshots at both ends agree, and the rows between lacked a message all the same."""
        flags, verified = self.of(6, ("ADOPTED", 0), ("MATCH", 4), ("LATE", 2, 5))
        assert [0, 0, LATE, LATE, LATE, 0] == flags
        assert [True, True, False, False, False, False] == verified

    def test_ids_prove_up_to_the_next_loss(self):
        """Rows after the seed are verified without any snapshot."""
        _, verified = self.of(3, ("ADOPTED", 1), ids_prove=True)
        assert [False, True, True] == verified

    def test_keyframes_say_what_their_rows_do(self):
        """One inside a doubt carries it; the closing one of a book replaced since does not."""
        pieces = [PlainEvidence(*each, 0, 0, 0, 0) for each in
                  (("ADOPTED", 0), ("MISMATCH", 3), ("ADOPTED", 4))]  # fmt: skip
        told = run(([0] * 4, [], pieces, [0, 3, 4]), [2])
        assert [(2, FAILED), (4, 0)] == told.keyframes


def test_the_margin_is_what_late_messages_reach_back_over():
    """A message is late by no more than the rows that are held for it."""
    assert HISTORY_MESSAGES == 1_024

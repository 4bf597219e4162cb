from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.intervals import Intervals, IntervalsState
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import BboRows, Repair, Repairs, Resync
from market_pipeline.books.tables import INTERVALS
from market_pipeline.config.instruments import Instrument
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, day_shards, read_deltas
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline.sources.simulated import Fault, FaultKind, demo_plan, simulate
from market_pipeline_tests.naive.intervals import Repaired, Row, clock_of, naive_intervals

DAY = date(2024, 8, 8)
START = round(datetime(2024, 8, 8, tzinfo=UTC).timestamp()) * 10**9
DAY_END = START + 86_400 * 10**9
SECOND = 10**9
TICK = Decimal("0.05")
BTC = Instrument(venue="BINANCE", symbol="BTC-USDT", source="crypto_lake")
IDENTITY = {"exchange": "BINANCE", "symbol": "BTC-USDT", "dt": DAY}
NOT_SEEDED, GAP, CROSSED = (
    int(flag) for flag in (BookFlag.NOT_SEEDED, BookFlag.GAP, BookFlag.CROSSED)
)


def bbo_rows(rows: list[Row], *, verified: bool = True) -> BboRows:
    def column(values: list[int]) -> np.ndarray:
        return np.array(values, np.int64)

    return BboRows(
        ts_origin_ns=column([row.time for row in rows]),
        ts_receipt_ns=column([row.time for row in rows]),
        sequence_number=column([row.sequence for row in rows]),
        bid_price_ticks=column([row.bid[0] for row in rows]),
        bid_size_lots=column([row.bid[1] for row in rows]),
        ask_price_ticks=column([row.ask[0] for row in rows]),
        ask_size_lots=column([row.ask[1] for row in rows]),
        flags=np.array([int(row.flags) for row in rows], np.uint16),
        verified=np.array([verified] * len(rows), np.bool_),
    )


def repair_block(repairs: list[Repaired]) -> Repairs:
    columns = (
        [Repair[each.kind.upper()] for each in repairs],
        [each.message for each in repairs],
        [0 for _ in repairs],
        [each.sequence for each in repairs],
        [each.levels for each in repairs],
        [each.low for each in repairs],
        [each.high for each in repairs],
    )
    return Repairs(*(np.array(column, np.int64) for column in columns))


def found(
    rows: list[Row],
    repairs: Sequence[Repaired] = (),
    cuts: Sequence[int] = (),
    *,
    always: bool = False,
    silences: Sequence[tuple[int, int, int]] = (),
    resume: bool = False,
) -> list[dict]:
    """The intervals of rows that come in blocks, each repair in the block of its row or earlier.

    With `resume` a new builder goes on from the state of the last one after every block.
    """

    def builder(start: IntervalsState | None = None) -> Intervals:
        policy = Resync.ALWAYS if always else Resync.WHEN_INVALID
        known = np.array(silences, np.int64).reshape(-1, 3)
        return Intervals(BTC, DAY, Scale.of(TICK), policy, known, start)

    intervals = builder()
    waiting = list(repairs)
    batches = []
    for begin, end in pairwise([0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]):
        # A repair can be known before its row is: the message may end in a later block.
        due = [repair for repair in waiting if repair.message <= end]
        waiting = waiting[len(due) :]
        intervals.add_repairs(repair_block(due))
        batches += intervals.add_rows(bbo_rows(rows[begin:end]))
        intervals = builder(intervals.state()) if resume else intervals
    batches += intervals.finish()
    frame = pl.concat([pl.DataFrame(batch) for batch in batches]) if batches else pl.DataFrame()
    return frame.to_dicts()


def row(at: float, flags: int = 0, *, bid: int = 100, ask: int = 101, sizes: int = 1) -> Row:
    """A row some seconds after midnight; its sequence number is the time in tenths of a second."""
    return Row(
        START + round(at * SECOND), round(at * 10), (bid, sizes), (ask, sizes), BookFlag(flags)
    )


def resync(message: int, kind: str = "resync") -> Repaired:
    return Repaired(kind, message, 7, 40, 80, 120)


TIME_STEPS = st.sampled_from([0, 1, SECOND // 3, SECOND, 7 * SECOND, -3 * SECOND])
NUMBER_STEPS = st.sampled_from([0, 1, 5, -2])
FLAG_SETS = st.lists(st.sampled_from(list(BookFlag)), max_size=3)
EMPTY_SIZES = st.sampled_from([(0, 1), (1, 0), (0, 0)])
KINDS = st.sampled_from(["seed", "resync", "confirmed", "uncross"])


@st.composite
def days(draw):
    """Rows with any flags, a touch that fits them, a clock that may step back, and repairs."""
    count = draw(st.integers(1, 30))
    rows: list[Row] = []
    silences = []
    time, sequence, flags = START + draw(st.integers(-2, 2)) * SECOND, 100, BookFlag(0)
    for k in range(count):
        step = draw(TIME_STEPS)
        if k and draw(st.integers(0, 4)) == 0 and step > 0:
            latest = max(row.time for row in rows)
            silences.append((latest, time + step, draw(st.integers(0, 3))))
        time += step
        sequence += draw(NUMBER_STEPS)
        if draw(st.booleans()):
            flags = BookFlag(0)
            for flag in draw(FLAG_SETS):
                flags |= flag
        bid = draw(st.integers(90, 110))
        away = draw(st.integers(1, 3))
        ask = bid - away if flags & BookFlag.CROSSED else bid + away
        ask = bid if flags & BookFlag.LOCKED and not flags & BookFlag.CROSSED else ask
        empty = flags & BookFlag.EMPTY_SIDE
        bid_size, ask_size = draw(EMPTY_SIZES) if empty else (1, 1)
        rows.append(Row(time, sequence, (bid, bid_size), (ask, ask_size), flags))
    repairs = [
        Repaired(draw(KINDS), message,
                 draw(st.integers(90, 140)), draw(st.integers(1, 40)), 80 + k, 120 + k)
        for k, message in enumerate(sorted(draw(st.lists(st.integers(0, count), max_size=12))))
    ]  # fmt: skip
    return rows, repairs, silences


class TestAgainstTheNaiveTwin:
    @settings(max_examples=100, deadline=None)
    @given(days(), st.lists(st.integers(0, 100), max_size=5), st.booleans(), st.booleans())
    def test_equals_it_wherever_the_blocks_are_cut(self, day, cuts, always, resume):
        """Every column, the evidence and the order equal the twin's, in any blocks, resumed too."""
        rows, repairs, silences = day
        silences = [silence for silence in silences if silence[1] > silence[0]]
        expected = naive_intervals(
            rows, repairs, always=always, tick=TICK, silences=silences, day_end=DAY_END
        )
        got = found(rows, repairs, cuts, always=always, silences=silences, resume=resume)
        assert got == [IDENTITY | asdict(each) for each in expected]

    @settings(max_examples=100, deadline=None)
    @given(days())
    def test_the_rows_of_a_flag_are_those_of_its_intervals(self, day):
        """By message, a row lies in an interval of a flag if and only if it carries the flag."""
        rows, repairs, _ = day
        flags = [BookFlag(0)] * len(rows)
        for each in found(rows, repairs):
            for message in range(each["first_message"], each["first_message"] + each["messages"]):
                flags[message] |= BookFlag[each["cause"]]
        assert flags == [row.flags for row in rows]

    @settings(max_examples=100, deadline=None)
    @given(days())
    def test_invalid_time_is_that_of_invalid_rows_and_of_what_came_before_a_gap(self, day):
        """A row's time is inside if its book is invalid, or not known until the next one came."""
        rows, _, _ = day
        spans = [(each["start_ns"], each["end_ns"]) for each in found(rows) if each["invalidates"]]
        clock = [*clock_of(rows, DAY_END), DAY_END]
        flags = [*(row.flags for row in rows), BookFlag(0)]
        early = BookFlag.GAP
        for k in range(len(rows)):
            invalid = flags[k] & INVALIDATING or flags[k + 1] & ~flags[k] & early
            # A row that was followed at once stands for no time.
            if clock[k + 1] > clock[k]:
                inside = any(start <= clock[k] < end for start, end in spans)
                assert inside == bool(invalid)


class TestFacts:
    def test_a_gap_begins_with_the_last_message_before_it(self):
        """The silence is inside, with its trades, and the snapshot that recovered it is named."""
        rows = [row(1), row(2), row(62.5, GAP), row(63, GAP), row(64)]
        silence = (START + 2 * SECOND, START + 62_500_000_000, 17)
        assert found(rows, [resync(4)], silences=[silence]) == [
            IDENTITY
            | {
                "start_ns": START + 2 * SECOND,
                "end_ns": START + 64 * SECOND,
                "cause": "GAP",
                "invalidates": True,
                "action": "resync",
                "start_sequence_number": 20,
                "end_sequence_number": 640,
                "first_message": 2,
                "messages": 2,
                "evidence": "No message came for 60.500 s after sequence number 20, and 17 trades "
                "meanwhile; replaced by the snapshot of sequence number 7, 40 levels between 4.00 "
                "and 6.00.",
            }
        ]

    def test_a_gap_proven_by_ids_names_them(self):
        """Without a silence the evidence is the two numbers between which messages are missing."""
        (gap,) = found([row(1), row(2, GAP), row(3)], [resync(2, "confirmed")])
        assert (gap["action"], gap["evidence"]) == (
            "confirmed",
            "Messages are missing between sequence numbers 10 and 20, received 1.000 s apart; "
            "found right by the snapshot of sequence number 7, 40 levels between 4.00 and 6.00.",
        )

    def test_a_crossed_span_tells_its_deepest_cross(self):
        """The deepest cross, the first of equals, is found across blocks, with its time."""
        rows = [row(0)] + [row(k, CROSSED, bid=101 + depth) for k, depth in enumerate((1, 3, 3), 1)]
        (crossed,) = found([*rows, row(4)], cuts=[2, 3])
        assert (crossed["messages"], crossed["action"], crossed["evidence"]) == (
            3,
            "none",
            "The best bid was above the best ask by up to 3 ticks, most at 2024-08-08 "
            "00:00:02.000000000 UTC; later messages resolved it.",
        )

    def test_a_mismatch_repaired_at_once_is_still_reported(self):
        """No row carries the flag, so the span is that from the examined message to the next."""
        (failed,) = found([row(1), row(2), row(3)], [resync(2)])
        assert (failed["cause"], failed["invalidates"], failed["messages"]) == (
            "SNAPSHOT_MISMATCH",
            True,
            0,
        )
        assert (failed["start_ns"], failed["end_ns"]) == (START + 2 * SECOND, START + 3 * SECOND)
        assert failed["evidence"].startswith("A snapshot disagreed with the book")

    def test_time_without_evidence_is_a_span_of_its_own(self):
        """Rows that are not verified are told, and invalidate nothing."""
        intervals = Intervals(BTC, DAY, Scale.of(TICK))
        blocks = [
            bbo_rows([row(1)]),
            bbo_rows([row(2), row(3)], verified=False),
            bbo_rows([row(5)]),
        ]
        batches = [batch for rows in blocks for batch in intervals.add_rows(rows)]
        (span,) = pl.concat(map(pl.DataFrame, [*batches, *intervals.finish()])).to_dicts()
        assert (span["cause"], span["invalidates"], span["messages"]) == ("UNVERIFIED", False, 2)
        assert (span["start_ns"], span["end_ns"]) == (START + 2 * SECOND, START + 5 * SECOND)

    def test_a_repair_of_a_valid_book_takes_no_time(self):
        """What was uncrossed inside a message, or taken over by policy, is an instant."""
        (uncrossed,) = found([row(1), row(2)], [resync(1, "uncross")])
        (policy,) = found([row(1), row(2)], [resync(1)], always=True)
        for instant in (uncrossed, policy):
            assert instant["start_ns"] == instant["end_ns"] == START + 2 * SECOND
            assert (instant["invalidates"], instant["messages"]) == (False, 0)
        assert (uncrossed["cause"], policy["cause"]) == ("CROSSED", "POLICY")
        assert uncrossed["evidence"] == (
            "The message of sequence number 7 crossed the book; removed 40 levels between 4.00 and "
            "6.00."
        )

    def test_what_is_open_lasts_to_the_end_of_the_day(self):
        """The last row is inside its interval, also if it was received after midnight."""
        (open_,) = found([row(1, NOT_SEEDED), row(5, NOT_SEEDED)])
        assert (open_["end_ns"], open_["action"]) == (DAY_END, "open")
        assert open_["end_sequence_number"] is None
        assert open_["evidence"] == (
            "2 messages came without a usable snapshot; nothing ended it before the day did."
        )
        (late,) = found([row(1), row(86_400.5, CROSSED)])
        assert late["start_ns"] < late["end_ns"] == late["start_ns"] + 1

    def test_a_clock_set_back_stands_still(self):
        """Times never run backwards; the rows are still counted right."""
        rows = [row(10), row(5, CROSSED, bid=102), row(7), row(8, CROSSED, bid=102), row(12)]
        first, second = found(rows)
        assert [first["start_ns"], first["end_ns"]] == [START + 10 * SECOND] * 2
        assert [second["start_ns"], second["end_ns"]] == [START + 10 * SECOND, START + 12 * SECOND]
        assert [first["first_message"], second["first_message"]] == [1, 3]

    def test_a_clean_day_has_only_its_seed(self):
        """A book seeded before its first message leaves one row, which takes no time."""
        assert found([row(1), row(2)]) == []
        (seed,) = found([row(1), row(2)], [resync(0, "seed")])
        assert (seed["cause"], seed["action"], seed["invalidates"]) == ("NOT_SEEDED", "seed", False)

    def test_many_intervals_are_handed_out_on_the_way(self):
        """A book that flickers crossed is not collected: batches come before the day ends."""
        rows = [row(k, CROSSED * (k % 2), bid=100 + 2 * (k % 2)) for k in range(40_000)]
        intervals = Intervals(BTC, DAY, Scale.of(TICK))
        (batch,) = intervals.add_rows(bbo_rows(rows))
        (rest,) = intervals.finish()
        assert batch.schema == INTERVALS.arrow_schema
        assert (batch.num_rows, rest.num_rows) == (19_999, 1)


@pytest.fixture(scope="module")
def faulty_day(tmp_path_factory) -> tuple[np.ndarray, Repairs, pl.DataFrame]:
    """Receipt times, repairs and intervals of a simulated day with two planted faults."""
    day, ether = date(2025, 1, 6), demo_plan().instruments[1]
    faults = [
        Fault(kind=kind, symbol=ether.symbol, day=day, at_s=at_s, duration_s=seconds)
        for kind, at_s, seconds in (
            (FaultKind.SILENCE_GAP, 34_200, 300),
            (FaultKind.CROSSED_MINUTE, 40_500, 60),
        )
    ]
    lake = tmp_path_factory.mktemp("lake")
    simulate(lake, [ether], day, day, faults=faults)
    deltas = day_shards(lake, DELTAS, ether.venue, ether.symbol, day)
    snapshots = day_shards(lake, SNAPSHOTS, ether.venue, ether.symbol, day)
    received = np.concatenate([batch.ts_receipt_ns for batch in read_deltas(deltas)])
    tick, lot = Scale.of(ether.tick), Scale.of(ether.lot)
    gap_rows = np.flatnonzero(np.diff(received) > 200 * SECOND) + 1
    rebuild = Rebuild(tick, lot, RebuildOptions(), gap_rows=gap_rows)
    intervals = Intervals(ether.as_instrument(), day, tick)
    repairs, batches = [], []
    for block in rebuild.blocks(read_deltas(deltas), read_snapshots(snapshots)):
        if isinstance(block, Repairs):
            repairs.append(block)
            intervals.add_repairs(block)
        elif isinstance(block, BboRows):
            batches += intervals.add_rows(block)
    batches += intervals.finish()
    joined = Repairs._make(np.concatenate(columns) for columns in zip(*repairs, strict=True))
    return received, joined, pl.concat([pl.DataFrame(batch) for batch in batches])


class TestOnTheSimulatedVenue:
    def test_the_silence_is_one_interval(self, faulty_day):
        """The gap lasts from the last message before the planted silence to its recovery."""
        received, _, intervals = faulty_day
        (gap,) = intervals.filter(pl.col("cause") == "GAP").to_dicts()
        at_ns = 1_736_121_600 * SECOND + 34_200 * SECOND
        assert gap["start_ns"] == received[received < at_ns].max()
        assert gap["end_ns"] > received[received >= at_ns + 300 * SECOND].min()
        assert gap["action"] == "resync"

    def test_every_repair_is_told(self, faulty_day):
        """The snapshots that seeded or replaced the book are those that the evidence names."""
        _, repairs, intervals = faulty_day
        named = intervals["evidence"].str.extract(r"(?:from|by) the snapshot of .* number (\d+)")
        assert {Repair.SEED, Repair.RESYNC} == set(repairs.kind.tolist())
        assert set(repairs.sequence_number.tolist()) == set(named.drop_nulls().cast(pl.Int64))

    def test_the_planted_minute_is_crossed_and_recovered(self, faulty_day):
        """Between 11:15 and its end the book is crossed, and only there between gap and noon."""
        _, _, intervals = faulty_day
        minute_ns = 1_736_121_600 * SECOND + 40_500 * SECOND
        crossed = intervals.filter(
            pl.col("cause") == "CROSSED",
            pl.col("start_ns").is_between(minute_ns - 3600 * SECOND, minute_ns + 2700 * SECOND),
        )
        assert crossed.height > 0
        assert crossed["start_ns"].min() > minute_ns
        assert crossed["end_ns"].max() < minute_ns + 70 * SECOND
        assert set(crossed["action"]) == {"resync"}

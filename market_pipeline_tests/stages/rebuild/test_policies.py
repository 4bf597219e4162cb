from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_pipeline.books.flags import BookFlag
from market_pipeline.config.instruments import Policies
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.stages.days import (
    EVERY_NS,
    FIRST_SEQUENCE,
    MESSAGES,
    START_NS,
    delta_rows,
    instrument,
    raw_day,
    rebuild_instrument,
    settings,
    write_day,
)

CROSSING = 100
"""The message that sets a bid of 100.7 while asks from 100.5 on stand."""


def sequence_of(message: float) -> int:
    """Every second number, so that a snapshot can be of one that no message has."""
    return FIRST_SEQUENCE + int(2 * message)


def crossing_rows() -> pa.Table:
    """The small day, in which one message sets a bid through the book and nothing removes it."""
    rows = delta_rows().to_pydict()
    rows["sequence_number"] = [sequence_of(n - FIRST_SEQUENCE) for n in rows["sequence_number"]]
    rows["price"][2 * CROSSING : 2 * CROSSING + 2] = (100.7, 102.0)
    return pa.table(rows)


def add_snapshot(lake: Path, message: float) -> None:
    """Adds the day's first snapshot once more, as that of a later message or between two."""
    (file,) = (lake / "book").rglob("*.parquet")
    first = pq.read_table(file, partitioning=None)
    changes = {
        "sequence_number": sequence_of(message),
        "receipt_timestamp": START_NS + int(message * EVERY_NS) + 3_000_000,
    }
    later = first
    for name, value in changes.items():
        later = later.set_column(later.column_names.index(name), name, pa.array([value]))
    pq.write_table(pa.concat_tables([first, later]), file)


Rebuilt = tuple[pl.DataFrame, pl.DataFrame, dict]


@pytest.fixture
def rebuilt(lake: Path, folder: Path, warehouse: Warehouse) -> Callable[..., Rebuilt]:
    """Rebuilds the crossing day by a policy: best prices, what is told of crosses, the record."""

    def rebuild(snapshots=(), **policies) -> Rebuilt:
        of = instrument(policies=Policies(**policies))
        write_day(lake, of, deltas=crossing_rows())
        for message in snapshots:
            add_snapshot(lake, message)
        files, record = rebuild_instrument(raw_day(lake, of), of, settings(folder), warehouse)
        bbo, intervals = (
            pl.read_parquet([file.path for file in files[name]], hive_partitioning=False)
            for name in ("books.bbo", "books.intervals")
        )
        return bbo, intervals.filter(pl.col("cause") == "CROSSED"), record

    return rebuild


def touch(bbo: pl.DataFrame, message: int) -> tuple[float, float, int]:
    return bbo.select("bid_price", "ask_price", "flags").row(message)


class TestFlag:
    def test_nothing_is_done_but_the_flag(self, rebuilt):
        """The book stays crossed to the day's end, both sides as the messages left them."""
        bbo, crosses, record = rebuilt()

        assert touch(bbo, CROSSING) == (100.7, 100.5, BookFlag.CROSSED)
        assert record["crossed_messages"] == MESSAGES - CROSSING
        assert (record["uncrossed_levels"], record["resyncs"]) == (0, 0)
        assert crosses.select("action", "messages").rows() == [("open", MESSAGES - CROSSING)]

    def test_a_snapshot_between_messages_recovers_it_too(self, rebuilt):
        """A snapshot whose number no message has is compared all the same, and is told."""
        _, crosses, record = rebuilt(snapshots=[CROSSING + 60.5])

        assert (record["snapshots"], record["snapshots_compared"], record["resyncs"]) == (2, 1, 1)
        assert record["snapshots_off_number"] == 1
        assert crosses["action"].to_list() == ["resync"]

    def test_a_snapshot_repairs_it(self, rebuilt):
        """A crossed book fails the next comparison, which is for the policy `resync` to repair."""
        bbo, crosses, record = rebuilt(snapshots=[CROSSING + 3])

        assert (record["snapshots_mismatched"], record["resyncs"]) == (1, 1)
        assert crosses.select("action", "messages").rows() == [("resync", 4)]
        assert touch(bbo, CROSSING + 4) == (100.0, 100.5, 0)


class TestUncross:
    def test_stale_levels_go_from_the_side_that_did_not_move(self, rebuilt):
        """The bid moved, so the asks it reached go; the ask that comes back below removes the bid.

        An ask at the bid's own price only locks the book, which removes nothing.
        """
        bbo, _, record = rebuilt(crossed="uncross")

        assert touch(bbo, CROSSING - 1) == (100.0, 100.5, 0)
        assert touch(bbo, CROSSING) == (100.7, 100.8, 0)
        assert touch(bbo, CROSSING + 1) == (100.7, 100.7, BookFlag.LOCKED)
        assert touch(bbo, CROSSING + 2) == (100.0, 100.5, 0)
        assert (record["uncrossed_levels"], record["crossed_messages"]) == (4, 0)
        assert record["crossed_seconds"] == 0

    def test_each_removal_is_a_row(self, rebuilt):
        """Which levels went, between which prices, because of which message: nothing is silent."""
        _, crosses, _ = rebuilt(crossed="uncross")
        evidence = crosses["evidence"].to_list()

        assert crosses.select("action", "messages", "invalidates").rows() == [
            ("uncross", 0, False)
        ] * len(evidence)
        assert evidence == [
            f"The message of sequence number {sequence_of(CROSSING)} crossed the book; "
            "removed 3 levels between 100.5 and 100.7.",
            f"The message of sequence number {sequence_of(CROSSING + 2)} crossed the book; "
            "removed 1 level between 100.7 and 100.7.",
        ]
        assert crosses["start_ns"].to_list() == crosses["end_ns"].to_list()
        assert crosses["first_message"].to_list() == [CROSSING, CROSSING + 2]

    def test_depth_and_checkpoints_have_the_same_book(self, lake, folder, warehouse, rebuilt):
        """The removed levels are gone from every product, not hidden from one."""
        bbo, _, _ = rebuilt(crossed="uncross")
        of = instrument(policies=Policies(crossed="uncross"))
        every = settings(folder, depth_interval_ms=0, checkpoint_seconds=1)
        files, _ = rebuild_instrument(raw_day(lake, of), of, every, warehouse)
        depth, checkpoints = (
            pl.read_parquet([file.path for file in files[name]], hive_partitioning=False)
            for name in ("books.depth", "books.checkpoints")
        )
        best = np.array([bids[0] for bids in checkpoints["bid_price_ticks"].to_list()])

        assert depth["bid_0_price_ticks"].equals(bbo["bid_price_ticks"], check_names=False)
        assert depth["ask_0_price_ticks"].equals(bbo["ask_price_ticks"], check_names=False)
        assert best.tolist() == bbo["bid_price_ticks"].to_list()


class TestResync:
    def test_a_snapshot_replaces_a_book_crossed_for_too_long(self, rebuilt):
        """A book that was crossed beyond the bound is invalid: the next snapshot replaces it."""
        bbo, crosses, record = rebuilt(
            snapshots=[CROSSING + 3.5], crossed="resync", crossed_resync_seconds=100.0
        )

        assert (record["snapshots_compared"], record["resyncs"]) == (1, 1)
        assert crosses.select("action", "messages").rows() == [("resync", 4)]
        assert "replaced by the snapshot" in crosses["evidence"][0]
        assert touch(bbo, CROSSING + 4) == (100.0, 100.5, 0)

    def test_not_against_the_policy_never(self, rebuilt):
        """A snapshot that may never replace the book leaves it crossed, and in doubt."""
        bbo, _, record = rebuilt(
            snapshots=[CROSSING + 3.5], crossed="resync", resync="never", crossed_resync_seconds=1.0
        )

        assert (record["snapshots_mismatched"], record["resyncs"]) == (1, 0)
        assert touch(bbo, CROSSING + 4)[2] == BookFlag.CROSSED | BookFlag.SNAPSHOT_MISMATCH

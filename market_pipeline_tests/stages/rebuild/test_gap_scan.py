from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.boundaries import FirstRows, first_rows
from market_pipeline.config.instruments import GapRule
from market_pipeline.errors import LakeFileError
from market_pipeline.sources import crypto_lake
from market_pipeline.sources.batches import DeltaBatch
from market_pipeline.sources.crypto_lake import (
    SNAPSHOTS,
    TRADES,
    day_folder,
    day_shards,
    read_times,
)
from market_pipeline.sources.crypto_lake_trades import read_trade_times
from market_pipeline.stages.rebuild.gap_scan import (
    before_first_silence,
    snapshot_touches,
    suspect_gaps,
)
from market_pipeline_tests.sources.raw_files import shard, snapshots
from market_pipeline_tests.stages.days import (
    BTC,
    DAY,
    EVERY_NS,
    FIRST_SEQUENCE,
    START_NS,
    delta_rows,
    instrument,
    write_day,
)


def trades_of(lake: Path):
    return read_trade_times(day_shards(lake, TRADES, BTC.venue, BTC.symbol, DAY))


def messages_of(files: Sequence[Path]) -> FirstRows:
    return first_rows(read_times(files))


def without(rows: pa.Table, first: int, last: int) -> pa.Table:
    """The rows without the messages from number `first` to `last`."""
    number = pc.divide(pc.subtract(rows["receipt_timestamp"], START_NS), EVERY_NS)
    return rows.filter(pc.or_(pc.less(number, first), pc.greater(number, last)))


class TestGaps:
    def test_none(self, lake: Path):
        """A day without a silence has no gap."""
        gaps = suspect_gaps(messages_of(write_day(lake, BTC)), trades_of(lake), DAY, BTC.gap_rule)

        assert [] == gaps.rows.tolist()

    @pytest.mark.parametrize("shards", [1, 7])
    def test_ends_with_the_next_message(self, lake: Path, shards):
        """A silence while trades go on ends with the first message after it, shards or not."""
        rows = without(delta_rows(), 1_000, 1_100)
        files = write_day(lake, BTC, deltas=rows, shards=shards)
        gaps = suspect_gaps(messages_of(files), trades_of(lake), DAY, BTC.gap_rule)

        assert [2 * 1_000] == gaps.rows.tolist()

    def test_a_message_across_batches_is_one(self, lake: Path, monkeypatch: pytest.MonkeyPatch):
        """Where batches cut a message in two, its second part is no message of its own."""
        files = write_day(lake, BTC, deltas=without(delta_rows(), 500, 700))
        whole = suspect_gaps(messages_of(files), trades_of(lake), DAY, BTC.gap_rule)
        monkeypatch.setattr(crypto_lake, "_BATCH_ROWS", 3)
        cut = suspect_gaps(messages_of(files), trades_of(lake), DAY, BTC.gap_rule)

        assert [1] == [whole.rows.size]
        assert whole.rows.tolist() == cut.rows.tolist()

    def test_a_hole_without_trades_either(self, lake: Path):
        """After a long hole with neither messages nor trades the book is in doubt as well."""
        files = write_day(lake, BTC, deltas=without(delta_rows(), 1_000, 1_100), trades=False)
        gaps = suspect_gaps(messages_of(files), read_trade_times([]), DAY, BTC.gap_rule)

        assert [2 * 1_000] == gaps.rows.tolist()

    def test_a_stamp_that_others_contradict_hides_nothing(self, lake: Path):
        """One message stamped in the evening leaves the silence that comes after it a silence."""
        rows = without(delta_rows(), 1_000, 1_100)
        receipt = rows["receipt_timestamp"].to_numpy().copy()
        receipt[2 * 500 : 2 * 501] = START_NS + 86_399 * 10**9
        at = rows.schema.get_field_index("receipt_timestamp")
        files = write_day(
            lake, BTC, deltas=rows.set_column(at, "receipt_timestamp", pa.array(receipt))
        )
        gaps = suspect_gaps(messages_of(files), trades_of(lake), DAY, BTC.gap_rule)

        assert [2 * 1_000] == gaps.rows.tolist()

    def test_snapshots_inside_a_silence(self, lake: Path):
        """Their times, numbers and touches are read where no trade was; one book after another
        shows that messages are missing.
        """
        inside = 5
        rows = without(delta_rows(), 1_000, 1_000 + inside)
        files = write_day(lake, BTC, deltas=rows, trades=False)
        at = START_NS + (1_000 + np.arange(inside)) * EVERY_NS + 4_000_000
        book = snapshots(
            inside,
            timestamp=(at - 2_000_000).tolist(),
            receipt_timestamp=at.tolist(),
            sequence_number=(FIRST_SEQUENCE + 1_000 + np.arange(inside)).tolist(),
        )
        shots = [shard(day_folder(lake, SNAPSHOTS, BTC.venue, BTC.symbol, DAY), 9, book)]
        # By itself the silence is no outage of this feed, and no hole for this instrument.
        patient = GapRule(silence_floor_seconds=40.0, quiet_floor_seconds=1_000.0)
        given = messages_of(files), read_trade_times([]), DAY, patient

        quiet = suspect_gaps(*given)
        seen = suspect_gaps(*given, lambda: snapshot_touches(shots))
        assert ([], [2 * 1_000]) == (quiet.rows.tolist(), seen.rows.tolist())


class TestBeforeFirstSilence:
    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.integers(-2, 50), min_size=1, max_size=40),
        st.lists(st.integers(1, 39), max_size=5),
        st.none() | st.integers(-60, 5),
        st.booleans(),
    )
    def test_calls_before_the_batch_of_the_first_long_time(self, steps, cuts, before, has_others):
        """Every batch comes as it is, and the call just before the one that ends a silence."""
        seconds = np.cumsum(steps)
        edges = sorted({0, len(steps), *(cut for cut in cuts if cut < len(steps))})
        batches = [batch_at(seconds[a:b]) for a, b in pairwise(edges)]
        seen: list[object] = []
        last = None if before is None else before * 10**9
        least = 40 if has_others else 45
        rule = GapRule(
            silence_floor_seconds=40.0, quiet_floor_seconds=47.0, outage_floor_seconds=45.0
        )
        of = instrument(gap_rule=rule)
        for batch in before_first_silence(
            batches, of, last, lambda: seen.append("call"), has_others=has_others
        ):
            seen.append(batch)

        since = [seconds[0] if before is None else before, *seconds[:-1]]
        ends = np.flatnonzero(seconds - np.array(since) > least)
        expected: list[object] = list(batches)
        if ends.size:
            expected.insert(sum(edge <= ends[0] for edge in edges) - 1, "call")
        assert [each if isinstance(each, str) else id(each) for each in expected] == [
            each if isinstance(each, str) else id(each) for each in seen
        ]


def batch_at(seconds: np.ndarray) -> DeltaBatch:
    """Rows at these receipt times."""
    time_ns, nothing = seconds * 10**9, np.ones(seconds.size)
    return DeltaBatch(
        Path("deltas"), 0, time_ns, time_ns, time_ns, nothing.astype(bool), nothing, nothing
    )


class TestErrors:
    def test_a_bad_file(self, lake: Path):
        """A file that cannot be read is an error whatever the others hold."""
        files = write_day(lake, BTC, shards=2)
        files[1].write_bytes(b"PAR1")
        with pytest.raises(LakeFileError) as caught:
            suspect_gaps(messages_of(files), trades_of(lake), DAY, BTC.gap_rule)

        assert str(files[1]) == caught.value.file

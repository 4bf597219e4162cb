from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.feed import FIRST_NS, MAX_MESSAGE_ROWS
from benchmarks.generator import blocks, synthetic_deltas
from benchmarks.lake_files import DAY, EXCHANGE, symbol_of, synthetic_lake
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, day_shards, read_deltas
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots

ROWS = 1_000_000
_RESYNC_ROWS = 1_000


@pytest.fixture(scope="module")
def deltas():
    """A million rows of the default seed."""
    return synthetic_deltas(ROWS)


@pytest.fixture(scope="module")
def starts(deltas):
    """The first row of every message."""
    return np.flatnonzero(np.diff(deltas.sequence_number, prepend=0))


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A small day of one seed as files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_FOLDER", str(tmp_path_factory.mktemp("bench")))
        yield synthetic_lake(100_000, (3,))


def joined(parts):
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def assert_same(expected, actual):
    assert all(np.array_equal(one, other) for one, other in zip(expected, actual, strict=True))


def plain_book(deltas, seen):
    """Calls `seen(sequence_number, bids, asks)` after each message with dicts of ticks to lots."""
    bids, asks = {}, {}
    rows = list(zip(*(column.tolist() for column in deltas[2:]), strict=True))
    for row, (sequence, is_bid, price, lots) in enumerate(rows):
        side = bids if is_bid else asks
        if lots:
            side[price] = lots
        else:
            side.pop(price, None)
        if row + 1 == len(rows) or rows[row + 1][0] != sequence:
            seen(sequence, bids, asks)


class TestRows:
    @pytest.mark.slow
    @settings(max_examples=10)
    @given(seed=st.integers(0, 1_000), block_rows=st.integers(1, 30_000))
    def test_do_not_depend_on_the_blocks(self, seed, block_rows):
        """The same seed gives the same rows and snapshots however they are cut into blocks."""
        whole, cut = (list(blocks(20_000, seed, block_rows=size)) for size in (1 << 20, block_rows))
        assert_same(joined(b.deltas for b in whole), joined(b.deltas for b in cut))
        assert_same(joined(b.tops for b in whole), joined(b.tops for b in cut))

    def test_depend_on_the_seed(self):
        """Another seed is another day."""
        one, other = (synthetic_deltas(10_000, seed).price_ticks[:9_000] for seed in (1, 2))
        assert not np.array_equal(one, other)

    @settings(max_examples=20)
    @given(rows=st.integers(0, 20_000))
    def test_are_whole_messages_up_to_what_was_asked_for(self, rows):
        """A shorter day is the beginning of a longer one, and ends with a message."""
        long, short = synthetic_deltas(30_000), synthetic_deltas(rows)
        count = short.sequence_number.size
        assert rows - MAX_MESSAGE_ROWS <= count <= rows
        assert_same([column[:count] for column in long], short)
        assert count not in (0, long.sequence_number.size) or rows < MAX_MESSAGE_ROWS
        assert long.sequence_number[count] != long.sequence_number[count - 1] or count == 0

    def test_are_as_many_and_as_many_deletes_as_documented(self, deltas, starts):
        """42 rows a message, four in ten of them removals."""
        assert 42 == pytest.approx(ROWS / starts.size, abs=1.5)
        assert 0.40 == pytest.approx(np.mean(deltas.size_lots == 0), abs=0.01)

    def test_have_bursts(self, deltas, starts):
        """The busiest second has over four times as many messages as the mean one."""
        seconds = (deltas.ts_receipt_ns[starts] - FIRST_NS) // 10**9
        counts = np.bincount(seconds)
        assert counts.max() > 4 * counts.mean()

    def test_have_a_long_tail(self, deltas):
        """One row in a hundred is farther from the market than half a window of a million ticks."""
        far = np.abs(deltas.price_ticks - 618_000) > 1 << 19
        assert 0.01 < far.mean() < 0.03
        assert deltas.price_ticks.min() < 60_000
        assert deltas.price_ticks.max() > 6_000_000

    def test_have_resyncs(self, deltas, starts):
        """After a silence and a jump of the sequence number, the near book is told again."""
        sizes = np.diff(starts, append=deltas.sequence_number.size)
        jumps = np.diff(deltas.sequence_number[starts], prepend=0) > 1_000_000
        silences = np.diff(deltas.ts_receipt_ns[starts], prepend=FIRST_NS) > 2 * 10**9
        later = jumps[1:]
        assert later.any()
        assert np.array_equal(later, silences[1:])
        assert (sizes[1:][later] > _RESYNC_ROWS).all()

    def test_of_a_message_are_ordered_as_the_vendor_has_them(self, deltas):
        """Bids, then asks, each by ascending price and each level once; all of one receipt time."""
        same = np.diff(deltas.sequence_number) == 0
        key = np.where(deltas.is_bid, 0, 1 << 40) + deltas.price_ticks
        assert (np.diff(key)[same] > 0).all()
        assert (np.diff(deltas.ts_receipt_ns)[same] == 0).all()
        assert (np.diff(deltas.ts_receipt_ns)[~same] > 0).all()
        assert (np.diff(deltas.sequence_number)[~same] > 0).all()


class TestBook:
    def test_is_never_crossed_and_its_top_is_the_snapshot(self):
        """A plain book of the rows is two-sided, not crossed, and has the snapshots' levels."""
        (block,) = blocks(100_000)
        tops = {
            sequence: [dict(zip(p, s, strict=True)) for p, s in ((bp, bs), (ap, az))]
            for sequence, bp, bs, ap, az in zip(
                *(column.tolist() for column in block.tops[2:]), strict=True
            )
        }
        touches, differing = [], []

        def seen(sequence, bids, asks):
            touches.append((max(bids), min(asks)))
            if sequence in tops:
                best = sorted(bids, reverse=True)[:20], sorted(asks)[:20]
                ours = [
                    {p: side[p] for p in top} for top, side in zip(best, (bids, asks), strict=True)
                ]
                if ours != tops.pop(sequence):
                    differing.append(sequence)

        plain_book(block.deltas, seen)
        assert all(bid < ask for bid, ask in touches)
        assert len(block.tops.sequence_number) > 500
        assert ([], {}) == (differing, tops)

    def test_settles_at_five_to_seven_thousand_levels_a_side(self, deltas):
        """Half-way and at the end a side has 5,000 to 7,000 levels."""
        for rows in (ROWS // 2, ROWS):
            lots = np.zeros((2, 7_000_000), np.int32)
            # Of repeated indices numpy keeps the last value, which is the last row of a level.
            lots[deltas.is_bid[:rows].astype(np.int64), deltas.price_ticks[:rows]] = (
                deltas.size_lots[:rows]
            )
            bids, asks = np.count_nonzero(lots, axis=1)
            assert 5_000 < bids < 7_000
            assert 5_000 < asks < 7_000


class TestLake:
    def test_holds_the_rows(self, lake):
        """The pipeline's own reader finds the generator's rows, prices and sizes included."""
        files = day_shards(lake / "lake", DELTAS, EXCHANGE, symbol_of(3), DAY)
        batches = list(read_deltas(files))
        price, size = (np.concatenate([getattr(b, n) for b in batches]) for n in ("price", "size"))
        expected = synthetic_deltas(100_000, 3)
        assert_same([expected.price_ticks / 10, expected.size_lots / 1_000], [price, size])
        for name in ("ts_origin_ns", "ts_receipt_ns", "sequence_number", "is_bid"):
            found = np.concatenate([getattr(batch, name) for batch in batches])
            assert np.array_equal(getattr(expected, name), found)

    def test_takes_as_many_bytes_as_a_real_day(self, lake):
        """Snappy needs about as many bytes a row as on the sample: 4.2, and 5 on so few rows."""
        (file,) = day_shards(lake / "lake", DELTAS, EXCHANGE, symbol_of(3), DAY)
        assert 4.2 == pytest.approx(file.stat().st_size / 100_000, abs=1.5)

    @pytest.mark.parametrize(("folder", "every_ms"), [("lake", 100), ("seed", 60_000)])
    def test_has_snapshots_at_their_cadence(self, lake, folder, every_ms):
        """There is one snapshot of 20 levels in each interval that has a message."""
        files = day_shards(lake / folder, SNAPSHOTS, EXCHANGE, symbol_of(3), DAY)
        (batch,) = read_snapshots(files)
        rows = synthetic_deltas(100_000, 3)
        intervals = np.unique(rows.ts_receipt_ns // (every_ms * 1_000_000))
        assert np.array_equal(intervals, batch.ts_receipt_ns // (every_ms * 1_000_000))
        assert (batch.bid_size > 0).all()
        assert (batch.bid_price[:, 0] < batch.ask_price[:, 0]).all()

    def test_of_shorter_messages(self, lake, monkeypatch):
        """It has the same rows in messages of a few, and snapshots at the end of whole ones."""
        monkeypatch.setenv("BENCH_FOLDER", str(lake.parents[1]))
        short = synthetic_lake(100_000, (3,), message_rows=4)
        where = EXCHANGE, symbol_of(3), DAY
        whole, cut = (
            joined([b.sequence_number, b.is_bid, b.price, b.size] for b in read_deltas(files))
            for files in (day_shards(each / "lake", DELTAS, *where) for each in (lake, short))
        )
        assert_same(whole[1:], cut[1:])
        ends, cut_ends = (
            np.flatnonzero(np.diff(each[0], append=each[0][-1] + 1)) for each in (whole, cut)
        )
        assert 4 == np.diff(cut_ends).max()
        assert set(ends) <= set(cut_ends)
        seeds = read_snapshots(day_shards(short / "lake", SNAPSHOTS, *where))
        numbers = np.concatenate([batch.sequence_number for batch in seeds])
        assert set(numbers) <= set(cut[0][ends])

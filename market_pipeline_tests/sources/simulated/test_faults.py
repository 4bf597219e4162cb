import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from market_pipeline.sources.simulated import Fault, FaultKind, simulate
from market_pipeline_tests.sources.simulated.days import (
    DAY,
    NEXT_DAY,
    digests,
    folder,
    instrument,
    read,
    rebuilt_touches,
    seconds,
    true_touches,
)

SYMBOL = "BTC-USDT-PERP"
TABLES = ("book_delta_v2", "book", "trades")
MESSAGES = 20_000
RECEIPT = pl.col("receipt_timestamp")


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Two days without a fault, with their truth."""
    root = tmp_path_factory.mktemp("clean")
    simulate(root, [instrument()], DAY, NEXT_DAY, messages_per_day=MESSAGES, truth=root)
    return root


@pytest.fixture
def plant(tmp_path):
    """Simulates the same two days with faults and returns their folder."""

    def with_faults(*faults, **settings):
        simulate(
            tmp_path,
            [instrument()],
            DAY,
            NEXT_DAY,
            faults=faults,
            messages_per_day=MESSAGES,
            truth=tmp_path,
            **settings,
        )
        return tmp_path

    return with_faults


def fault(kind, at_s=0.0, duration_s=0.0, **figures):
    return Fault(kind=kind, symbol=SYMBOL, day=DAY, at_s=at_s, duration_s=duration_s, **figures)


def assert_only_these_differ(clean, faulty, *tables):
    """Everything but the named tables of the first day is the same, byte for byte."""
    changed = {f"{table}/exchange=SIMULATED/symbol={SYMBOL}/dt={DAY}" for table in tables}
    before, after = (
        {
            path: digest
            for path, digest in digests(root).items()
            if not any(path.startswith(part) for part in changed)
        }
        for root in (clean, faulty)
    )

    assert before == after


def within(start_s, end_s):
    time_s = seconds(RECEIPT)
    return (time_s >= start_s) & (time_s < end_s)


def around(span, clean, faulty):
    """The rebuilt and the true touch by sequence number, from an hour before a span to one after.

    The book is seeded from the first snapshot of that time.
    """
    wide = within(span[0] - 3_600, span[1] + 3_600)
    seed = read(clean, "book").filter(wide).row(0, named=True)
    rebuilt = rebuilt_touches(read(faulty, "book_delta_v2").filter(wide), seed)
    truth = true_touches(read(clean, "reference_bbo").filter(wide), seed["sequence_number"])
    return dict(rebuilt), dict(truth)


class TestSilenceGap:
    SPAN = (36_000.0, 36_600.0)

    @pytest.fixture
    def faulty(self, plant):
        return plant(fault(FaultKind.SILENCE_GAP, 36_000, 600))

    def test_no_delta_and_no_snapshot_within(self, clean, faulty):
        """The deltas and snapshots are those of the clean day less the span's."""
        for table in ("book_delta_v2", "book"):
            whole = read(clean, table)

            assert whole.filter(within(*self.SPAN)).height > 50
            assert_frame_equal(whole.filter(~within(*self.SPAN)), read(faulty, table))

    def test_trades_go_on(self, faulty):
        """Trades are printed throughout the span."""
        assert read(faulty, "trades").filter(within(*self.SPAN)).height > 30

    def test_levels_are_stale_afterwards(self, clean, faulty):
        """A book carried across the span differs from the market after it, not before."""
        rebuilt, truth = around(self.SPAN, clean, faulty)
        first_after = read(faulty, "book_delta_v2").filter(seconds(RECEIPT) >= self.SPAN[1])
        resumed = first_after["sequence_number"][0]
        right = {sequence: touch == truth[sequence] for sequence, touch in rebuilt.items()}

        assert all(same for sequence, same in right.items() if sequence < resumed)
        assert not all(same for sequence, same in right.items() if sequence >= resumed)

    def test_nothing_else_changes(self, clean, faulty):
        """Trades, truth and the next day are the same, byte for byte."""
        assert_only_these_differ(clean, faulty, "book_delta_v2", "book")


class TestCrossedMinute:
    SPAN = (50_000.0, 50_120.0)

    @pytest.fixture
    def faulty(self, plant):
        return plant(fault(FaultKind.CROSSED_MINUTE, 50_000, 120))

    def test_rebuilt_book_is_crossed_within_and_only_there(self, clean, faulty):
        """A rebuilt book is crossed for most of the span's messages and right outside it."""
        rebuilt, truth = around(self.SPAN, clean, faulty)
        messages = read(faulty, "book_delta_v2").filter(within(*self.SPAN))
        span = set(messages["sequence_number"])
        crossed = {sequence for sequence, (bid, _, ask, _) in rebuilt.items() if bid >= ask}
        wrong = {sequence for sequence, touch in rebuilt.items() if touch != truth[sequence]}

        assert crossed <= span
        assert len(crossed) > 0.7 * len(span)
        assert wrong <= span

    def test_removals_are_late_not_lost(self, clean, faulty):
        """The span has no removal; the first message after it has those of levels still empty."""
        deltas, whole = read(faulty, "book_delta_v2"), read(clean, "book_delta_v2")
        after = seconds(RECEIPT) >= self.SPAN[1]
        resumed = deltas.filter(after)["sequence_number"][0]
        own = whole.filter(pl.col("sequence_number") == resumed)
        late = deltas.filter(pl.col("sequence_number") == resumed).join(
            own, on=own.columns, how="anti"
        )
        last_told = whole.filter(within(*self.SPAN)).unique(("side_is_bid", "price"), keep="last")
        empty = last_told.filter(pl.col("size") == 0).join(
            own, on=("side_is_bid", "price"), how="anti"
        )
        levels = ("side_is_bid", "price", "size")

        assert (deltas.filter(within(*self.SPAN))["size"] > 0).all()
        assert late.height > 20
        assert_frame_equal(empty.select(levels).sort(levels), late.select(levels).sort(levels))

    def test_other_rows_are_untouched(self, clean, faulty):
        """Apart from removals of the span, each row of the clean day is there and in its place."""
        whole = read(clean, "book_delta_v2")
        kept = whole.filter(~(within(*self.SPAN) & (pl.col("size") == 0)))
        deltas = read(faulty, "book_delta_v2")

        assert_frame_equal(kept, deltas.join(kept, on=kept.columns, how="semi"))

    def test_nothing_else_changes(self, clean, faulty):
        """Snapshots, trades, truth and the next day are the same, byte for byte."""
        assert_only_these_differ(clean, faulty, "book_delta_v2")


class TestClockSkew:
    @pytest.fixture
    def faulty(self, plant):
        return plant(
            fault(
                FaultKind.CLOCK_SKEW,
                3_600,
                72_000,
                offset_ms=-30_000,
                drift_ppm=20,
                step_ms=250,
                step_at_s=43_200,
            )
        )

    @pytest.mark.parametrize("table", TABLES)
    def test_shifts_receipt_times_as_stated(self, clean, faulty, table):
        """Receipt times are off by offset, drift and step within the span, by nothing outside."""
        before, after = read(clean, table), read(faulty, table)
        time_s = before.select(seconds(RECEIPT))["receipt_timestamp"]
        shift_ms = (after["receipt_timestamp"] - before["receipt_timestamp"]) / 1e6
        skewed = (time_s >= 3_600) & (time_s < 75_600)
        stated_ms = (time_s - 3_600) * 20e-6 * 1e3 - 30_000
        stated_ms = stated_ms + 250 * (time_s >= 43_200).cast(pl.Float64)

        assert (shift_ms.filter(~skewed) == 0).all()
        # Both sides were rounded to 256 ns.
        assert (shift_ms - stated_ms).filter(skewed).abs().max() < 0.000_6

    @pytest.mark.parametrize("table", TABLES)
    def test_leaves_rows_in_order_of_arrival(self, clean, faulty, table):
        """But for receipt times the rows are those of the clean day, in the same order."""
        rest = pl.exclude("receipt_timestamp")

        assert_frame_equal(read(clean, table).select(rest), read(faulty, table).select(rest))

    def test_receipt_times_fall_only_where_the_clock_is_set_back(self, faulty):
        """Receipt times go back once, where the offset sets in."""
        receipts = read(faulty, "book_delta_v2")["receipt_timestamp"]
        falls = receipts.filter(receipts.diff() < 0)

        assert len(falls) == 1
        assert 3_570 < falls.to_frame().select(seconds(RECEIPT)).item() < 3_600

    def test_nothing_else_changes(self, clean, faulty):
        """The truth and the next day are the same, byte for byte."""
        assert_only_these_differ(clean, faulty, *TABLES)


class TestOffTickPrice:
    @pytest.fixture
    def faulty(self, plant):
        return plant(fault(FaultKind.OFF_TICK_PRICE, 7_200, 300))

    @pytest.fixture
    def planted(self, clean, faulty):
        whole = read(clean, "book_delta_v2")
        return read(faulty, "book_delta_v2").join(whole, on=whole.columns, how="anti")

    def test_five_rows_and_their_removals(self, planted):
        """Five prices stand three tenths of a tick off, each removed by the next message."""
        tenths = (planted["price"] / 0.01).round()
        off_grid = tenths % 10

        assert planted.height == 10
        assert (off_grid == 3).all()
        assert (planted["side_is_bid"]).all()
        assert [0.1, 0.0] * 5 == planted["size"].to_list()
        assert planted["price"][::2].to_list() == planted["price"][1::2].to_list()

    def test_stand_where_they_are_said_to(self, planted):
        """All but the last removal lie within the span."""
        times_s = planted.select(seconds(RECEIPT))["receipt_timestamp"]

        assert times_s.min() >= 7_200
        assert (times_s[:-1] < 7_500).all()

    def test_leave_the_touch_alone(self, clean, faulty):
        """A rebuilt book has the market's touch throughout.

        The rows lie 40 ticks below the touch.
        """
        rebuilt, truth = around((7_200, 7_500), clean, faulty)

        assert truth == rebuilt

    def test_nothing_else_changes(self, clean, faulty, planted):
        """Without the planted rows the deltas are the clean day's; all else is the same."""
        deltas = read(faulty, "book_delta_v2")

        assert_frame_equal(
            read(clean, "book_delta_v2"), deltas.join(planted, on=planted.columns, how="anti")
        )
        assert_only_these_differ(clean, faulty, "book_delta_v2")


class TestTruncatedFile:
    def test_delta_file_is_cut(self, clean, plant):
        """The delta file is the first 60 % of the clean one's bytes and cannot be read."""
        faulty = plant(fault(FaultKind.TRUNCATED_FILE))
        whole = (folder(clean, "book_delta_v2") / "1.snappy.parquet").read_bytes()
        cut = folder(faulty, "book_delta_v2") / "1.snappy.parquet"

        assert whole[: int(len(whole) * 0.6)] == cut.read_bytes()
        with pytest.raises(pa.ArrowInvalid):
            pq.ParquetFile(cut)
        assert_only_these_differ(clean, faulty, "book_delta_v2")

    def test_only_the_last_shard_is_cut(self, plant):
        """Of several shards all but the last can be read."""
        shards = folder(plant(fault(FaultKind.TRUNCATED_FILE), shards=3), "book_delta_v2")

        assert pq.ParquetFile(shards / "1.snappy.parquet").metadata.num_rows > 0
        assert pq.ParquetFile(shards / "2.snappy.parquet").metadata.num_rows > 0
        with pytest.raises(pa.ArrowInvalid):
            pq.ParquetFile(shards / "3.snappy.parquet")


class TestMissingDay:
    def test_no_file_of_that_day(self, clean, plant):
        """No raw table has the day; its truth and the next day are the same, byte for byte."""
        faulty = plant(fault(FaultKind.MISSING_DAY))

        assert not any(folder(faulty, table).exists() for table in TABLES)
        assert_only_these_differ(clean, faulty, *TABLES, "funding", "open_interest")

    def test_removes_a_day_that_was_there(self, plant):
        """Overwriting a day with a missing one leaves no file of it."""
        plant()
        faulty = plant(fault(FaultKind.MISSING_DAY), overwrite=True)

        assert not any(folder(faulty, table).exists() for table in TABLES)


class TestTogether:
    def test_faults_of_one_day_add_up(self, clean, plant):
        """A silence, a crossed span, off-tick prices and a skew fit into one day."""
        faulty = plant(
            fault(FaultKind.CLOCK_SKEW, 0, 86_400, offset_ms=50),
            fault(FaultKind.OFF_TICK_PRICE, 10_000, 100),
            fault(FaultKind.SILENCE_GAP, 20_000, 100),
            fault(FaultKind.CROSSED_MINUTE, 30_000, 100),
        )
        before, after = read(clean, "book_delta_v2"), read(faulty, "book_delta_v2")
        after_in_true_time = after.with_columns(RECEIPT - 50_000_000)

        assert after.filter(pl.col("price") * 100 % 10 != 0).height >= 10
        assert after_in_true_time.filter(within(20_000.001, 20_100)).height == 0
        crossed = after_in_true_time.filter(within(30_000.001, 30_100))
        assert (crossed["size"] > 0).all()
        assert before.filter(within(0, 9_999)).height == (
            after_in_true_time.filter(within(0, 9_999)).height
        )

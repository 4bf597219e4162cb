from datetime import timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from market_pipeline.errors import SimulationError
from market_pipeline.sources.simulated import simulate
from market_pipeline.sources.simulated.market import Market
from market_pipeline_tests.sources.simulated.days import (
    DAY,
    NEXT_DAY,
    PlainBook,
    instrument,
    read,
    rebuilt_touches,
    true_touches,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two days of about 2,000 messages with their truth."""
    root = tmp_path_factory.mktemp("small")
    simulate(root, [instrument()], DAY, NEXT_DAY, messages_per_day=2_000, truth=root)
    return root


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """A day of about 30,000 messages with its truth."""
    root = tmp_path_factory.mktemp("busy")
    simulate(root, [instrument()], DAY, DAY, messages_per_day=30_000, truth=root)
    return root


def messages_of(deltas):
    return deltas.group_by("sequence_number", maintain_order=True)


class TestRebuild:
    def test_touch_equals_the_market_after_every_message(self, small):
        """A plain book seeded from the first snapshot has the market's own touch ever after."""
        seed = read(small, "book").row(0, named=True)
        expected = true_touches(read(small, "reference_bbo"), seed["sequence_number"])

        assert len(expected) > 1_900
        assert expected == rebuilt_touches(read(small, "book_delta_v2"), seed)

    @pytest.mark.parametrize(
        ("tick", "start_price"),
        [("0.25", "5300.00"), ("0.0001", "0.5000"), ("0.00000001", "0.00912345")],
    )
    def test_touch_equals_the_market_on_other_grids(self, tmp_path, tick, start_price):
        """The same holds on a coarse grid, on 5,000 ticks and on a million of them."""
        other = instrument(tick=Decimal(tick), start_price=Decimal(start_price))
        simulate(tmp_path, [other], DAY, DAY, messages_per_day=1_000, truth=tmp_path)
        seed = read(tmp_path, "book").row(0, named=True)
        expected = true_touches(read(tmp_path, "reference_bbo"), seed["sequence_number"])

        assert expected == rebuilt_touches(read(tmp_path, "book_delta_v2"), seed)

    def test_continues_across_midnight(self, small):
        """A book carried on from the day before has the touch of the next day's every message."""
        days = [read(small, "book_delta_v2", day=day) for day in (DAY, NEXT_DAY)]
        truths = [read(small, "reference_bbo", day=day) for day in (DAY, NEXT_DAY)]
        seed = read(small, "book").row(0, named=True)
        expected = true_touches(pl.concat(truths), seed["sequence_number"])

        assert expected == rebuilt_touches(pl.concat(days), seed)

    def test_top_20_equals_every_later_snapshot(self, small):
        """The plain book agrees with each later `book` row in all 40 levels."""
        snapshots = read(small, "book")
        seed = snapshots.row(0, named=True)
        expected = {row[2]: list(row[3:]) for row in snapshots[1:].iter_rows()}
        book = PlainBook.seeded(seed)
        later = read(small, "book_delta_v2").filter(
            pl.col("sequence_number") > seed["sequence_number"]
        )
        actual = {}
        for (sequence,), rows in messages_of(later):
            for level in rows.select("side_is_bid", "price", "size").iter_rows():
                book.apply(*level)
            if sequence in expected:
                actual[sequence] = book.top

        assert expected == actual


class TestMessages:
    def test_rows_of_a_message_share_its_times(self, busy):
        """Within a message both times are one value, and messages do not interleave."""
        deltas = read(busy, "book_delta_v2")
        times = deltas.group_by("sequence_number").agg(
            pl.col("timestamp").n_unique(), pl.col("receipt_timestamp").n_unique()
        )

        assert (times["timestamp"] == 1).all()
        assert (times["receipt_timestamp"] == 1).all()
        assert deltas["sequence_number"].is_sorted()

    def test_messages_differ_in_receipt_time(self, busy):
        """Receipt times rise from message to message, also after the vendor's rounding."""
        receipts = read(busy, "reference_bbo")["receipt_timestamp"].to_numpy()

        assert (np.diff(receipts) > 0).all()

    def test_sequence_numbers_are_not_dense(self, busy):
        """Sequence numbers always rise, usually by hundreds."""
        steps = np.diff(read(busy, "reference_bbo")["sequence_number"].to_numpy())

        assert steps.min() > 0
        assert 300 < np.median(steps) < 3_000

    def test_levels_of_a_message_are_distinct(self, busy):
        """A message tells each level at most once: bids, then asks, each by ascending price."""
        keys = read(busy, "book_delta_v2").select(
            "sequence_number", side_is_ask=~pl.col("side_is_bid"), price=pl.col("price")
        )

        assert not keys.is_duplicated().any()
        assert keys.equals(keys.sort("sequence_number", "side_is_ask", "price"))

    def test_every_message_tells_a_standing_level(self, busy):
        """No message consists of removals only."""
        largest = read(busy, "book_delta_v2").group_by("sequence_number").agg(pl.max("size"))

        assert (largest["size"] > 0).all()

    def test_snapshots_belong_to_messages(self, busy):
        """A `book` row has the times and sequence number of a message, and none opens the day."""
        keys = ("timestamp", "receipt_timestamp", "sequence_number")
        snapshots = read(busy, "book").select(keys)
        messages = read(busy, "book_delta_v2").select(keys).unique()

        assert snapshots.height == snapshots.join(messages, on=keys, how="semi").height
        assert snapshots["receipt_timestamp"][0] >= messages["receipt_timestamp"].min()

    def test_snapshot_interval_is_kept(self, tmp_path):
        """Snapshots fall into distinct intervals of the setting."""
        simulate(
            tmp_path, [instrument()], DAY, DAY, messages_per_day=5_000, snapshot_interval_s=600
        )
        slots = read(tmp_path, "book")["receipt_timestamp"] // 600_000_000_000

        assert slots.n_unique() == len(slots) == 143


class TestMicrostructure:
    def test_is_never_crossed_or_locked(self, busy):
        """The market's own best bid is below its best ask after every message."""
        truth = read(busy, "reference_bbo")

        assert (truth["bid_0_price"] < truth["ask_0_price"]).all()

    def test_spread_is_mostly_one_to_three_ticks(self, busy):
        """At least four fifths of messages leave one to three ticks, but not all."""
        truth = read(busy, "reference_bbo")
        spread = ((truth["ask_0_price"] - truth["bid_0_price"]) / 0.1).round()

        assert 0.8 < (spread <= 3).mean() < 0.95
        assert 10 <= spread.max() <= 31

    def test_rows_and_removals(self, busy):
        """A message has 5 to 9 rows on average, and a fifth to two fifths of them remove."""
        deltas = read(busy, "book_delta_v2")

        assert 5 < deltas.height / deltas["sequence_number"].n_unique() < 9
        assert 0.2 < (deltas["size"] == 0).mean() < 0.4

    def test_some_removals_are_of_levels_that_never_were(self, busy):
        """Of all removals 3 to 25 % name a level that no earlier row told of."""
        book = PlainBook()
        levels = read(busy, "book_delta_v2").select("side_is_bid", "price", "size")
        known = [(size, book.apply(side, price, size)) for side, price, size in levels.iter_rows()]
        removed_known = [was_known for size, was_known in known if size == 0]

        assert 0.03 < 1 - np.mean(removed_known) < 0.25

    def test_book_is_deep(self, busy):
        """Hundreds of levels a side stand at any time, some of them far from the market."""
        truth = read(busy, "reference_bbo")
        prices = read(busy, "book_delta_v2")["price"]

        assert truth["bid_levels"].min() > 200
        assert truth["ask_levels"].min() > 200
        assert prices.min() < 45_000
        assert prices.max() > 75_000

    def test_sizes_are_larger_behind_the_touch(self, busy):
        """The median size at the tenth level is above the one at the touch."""
        book = read(busy, "book")

        assert book["bid_9_size"].median() > book["bid_0_size"].median()

    def test_arrivals_come_in_bursts(self, busy):
        """Gaps between messages vary far more than those of a Poisson process."""
        gaps = np.diff(read(busy, "reference_bbo")["receipt_timestamp"].to_numpy())

        assert np.std(gaps) / np.mean(gaps) > 1.2

    def test_traffic_has_hours(self, busy):
        """The busiest hour is in the early afternoon and has over twice the quietest one's."""
        hours = read(busy, "reference_bbo")["timestamp"].to_numpy() // 3_600_000_000_000 % 24
        counts = np.bincount(hours, minlength=24)

        assert counts.argmax() in (13, 14, 15, 16)
        assert counts.max() > 2 * counts.min()

    def test_latency_is_positive_and_small(self, busy):
        """Every message is received after it was sent, half of them within 5 ms."""
        deltas = read(busy, "book_delta_v2")
        latency_ms = (deltas["receipt_timestamp"] - deltas["timestamp"]) / 1e6

        assert latency_ms.min() > 1
        assert 2 < latency_ms.median() < 5

    def test_volatility_clusters(self, busy):
        """Large moves follow large moves: sums of absolute moves per 100 messages correlate."""
        mid = read(busy, "reference_bbo").select(
            mid=(pl.col("bid_0_price") + pl.col("ask_0_price")) / 2
        )["mid"]
        moves = np.abs(np.diff(mid.to_numpy()))
        blocks = moves[: len(moves) // 100 * 100].reshape(-1, 100).sum(axis=1)

        assert np.corrcoef(blocks[1:], blocks[:-1])[0, 1] > 0.2


class TestTrades:
    @pytest.mark.parametrize("clock", ["timestamp", "receipt_timestamp"])
    def test_print_at_the_touch_before_them(self, busy, clock):
        """On either clock a trade prints at the touch of the last message before it."""
        touch = ("bid_0_price", "ask_0_price", "bid_0_size", "ask_0_size")
        trades = read(busy, "trades").join_asof(
            read(busy, "reference_bbo").select(clock, *touch),
            on=clock,
            strategy="backward",
            allow_exact_matches=False,
        )
        trades = trades.drop_nulls("bid_0_price")
        bought = pl.col("side") == "buy"
        expected = pl.when(bought).then("ask_0_price").otherwise("bid_0_price")
        standing = pl.when(bought).then("ask_0_size").otherwise("bid_0_size")

        assert trades.height > 10_000
        assert trades.select((pl.col("price") == expected).all()).item()
        assert trades.select((pl.col("amount") <= standing).all()).item()

    def test_next_message_tells_of_the_level(self, busy):
        """The message after a trade has a row for the level that was traded."""
        messages = read(busy, "reference_bbo").select("timestamp", "sequence_number")
        trades = read(busy, "trades").join_asof(messages, on="timestamp", strategy="forward")
        trades = trades.with_columns(side_is_bid=pl.col("side") == "sell")
        told = trades.join(
            read(busy, "book_delta_v2"),
            on=("sequence_number", "side_is_bid", "price"),
            how="semi",
        )

        assert trades.height == told.height

    def test_ids_rise_by_one(self, small):
        """Trade ids are dense, also across midnight."""
        ids = [read(small, "trades", day=day)["id"] for day in (DAY, NEXT_DAY)]

        assert (pl.concat(ids).diff().drop_nulls() == 1).all()


class TestMarket:
    @pytest.mark.parametrize(("messages", "interval"), [(23, 1.0), (20_000_001, 1.0), (1_000, 0)])
    def test_refuses_impossible_numbers(self, messages, interval):
        """Numbers of messages and intervals that no day can have are refused."""
        with pytest.raises(SimulationError, match="cannot have so many messages"):
            Market(instrument(), messages, interval)

    def test_batches_are_bounded(self):
        """However long a day is, no batch has more than 150,000 rows."""
        market = Market(instrument(), 60_000, 1.0)
        rows = [len(batch.deltas.price) for batch in market.day(DAY)]

        assert len(rows) > 3
        assert max(rows) <= 150_000

    def test_day_has_the_messages_asked_for(self):
        """The number of messages is within a few per cent of the one asked for."""
        market = Market(instrument(), 40_000, 1.0)
        counts = [
            sum(len(batch.touch.sequence_number) for batch in market.day(DAY + timedelta(days=n)))
            for n in range(2)
        ]

        assert counts == pytest.approx([40_000, 40_000], rel=0.05)

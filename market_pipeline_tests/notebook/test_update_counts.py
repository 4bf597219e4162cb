from __future__ import annotations

from itertools import pairwise

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from market_pipeline import update_counts
from market_pipeline.errors import DomainError
from market_pipeline_tests.notebook.conftest import FAULTY, NEXT, QUIET, Market

pytestmark = pytest.mark.slow
TWO_DAYS = ("2025-03-05T00:00:00Z", "2025-03-07T00:00:00Z")
COUNTS = ["increase_count", "decrease_count"]


def counts(market: Market, *span, **asked) -> pl.DataFrame:
    return update_counts(market.instrument.id, *span, data_dir=market.data_dir, **asked)


class TestUpdateCounts:
    def test_of_days_of_messages(self, market: Market):
        """All valid messages but the first of a day count, in both directions, near and far."""
        found = counts(market, *TWO_DAYS, every_seconds=3_600)
        assert [QUIET, NEXT] == found["dt"].unique(maintain_order=True).to_list()
        assert 48 * 2 * 51 == found.height
        valid = sum(
            market.published("book_bbo", day).filter(flags=0).height - 1 for day in (QUIET, NEXT)
        )
        by_hour = found.unique(["dt", "ts_interval_ns"])
        assert valid == by_hour["message_count"].sum()
        assert (found.select(pl.col(COUNTS).sum()).transpose().to_series() > 1_000).all()
        assert found.filter(pl.col("level").is_between(21, 50))[COUNTS[0]].sum() > 0

    def test_by_distance_are_as_many(self, market: Market):
        """Each row is at one level and at one distance, so both have the same sums."""
        one, other = (counts(market, *TWO_DAYS, by=by, limit=5) for by in ("level", "ticks"))
        by_interval = ["dt", "ts_interval_ns", "message_count", "is_bid"]
        assert_frame_equal(
            *(
                each.group_by(by_interval, maintain_order=True).agg(pl.col(COUNTS).sum())
                for each in (one, other)
            )
        )
        assert [-1, 0, 1, 2, 3, 4, 5, None] == other["ticks"][:8].to_list()

    def test_of_parts_are_those_of_the_whole(self, market: Market):
        """Where a span is cut changes nothing, although a message is compared with one before."""
        edges = ("2025-03-03T06:00:00Z", "2025-03-03T07:30:00Z", "2025-03-03T12:00:00Z")
        parts = [counts(market, *span) for span in pairwise(edges)]
        assert_frame_equal(pl.concat(parts), counts(market, edges[0], edges[2]))
        assert {FAULTY} == set(parts[0]["dt"])

    def test_times_and_no_message(self, market: Market):
        """Intervals begin at datetimes if that is asked for; a span without a message has none."""
        asked = {"times": "datetime", "every_seconds": 60.0}
        some = counts(market, "2025-03-05T10:00:00Z", "2025-03-05T10:05:00Z", **asked)
        none = counts(market, TWO_DAYS[0], TWO_DAYS[0], **asked)
        assert (pl.Datetime("ns", "UTC"), True) == (some["ts_interval"].dtype, none.is_empty())
        assert some.schema == none.schema

    @pytest.mark.parametrize(
        "wrong",
        [
            {"by": "tick"},
            {"limit": 0},
            {"limit": 2.5},
            {"limit": True},
            {"limit": 10**6},
            {"every_seconds": 0},
            {"every_seconds": 1e-6},
        ],
        ids=str,
    )
    def test_wrong_arguments(self, market: Market, wrong):
        """What is no way to count, no limit and no interval is refused, and named."""
        with pytest.raises(DomainError) as refused:
            counts(market, *TWO_DAYS, **wrong)
        assert [refused.value.column] == list(wrong)

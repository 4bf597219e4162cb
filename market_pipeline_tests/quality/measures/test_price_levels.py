"""At which prices a table is: medians at both ends and by hour, whatever a few prices say."""

from __future__ import annotations

import math
from datetime import date
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.quality.intervals import NS_PER_HOUR, day_bounds_ns
from market_pipeline.quality.measures.price_levels import PriceLevels, apart, price_ratio

START_NS, END_NS = day_bounds_ns(date(2024, 8, 8))
NO_HOURS = [None] * 24


def levels(times: list[int], prices: list[float], cuts: list[int] | tuple[int, ...] = ()) -> dict:
    found = PriceLevels(START_NS)
    for part in np.split(np.arange(len(times)), sorted(cuts)):
        found.add(np.array(times, np.int64)[part], np.array(prices, np.float64)[part])
    return found.figures()


class TestPriceLevels:
    @given(
        st.lists(
            st.tuples(
                st.integers(START_NS - NS_PER_HOUR, END_NS + NS_PER_HOUR),
                st.one_of(
                    st.floats(0.1, 1e6),
                    st.sampled_from([0.0, -1.0, math.nan, math.inf]),
                ),
            ),
            max_size=60,
        ),
        st.lists(st.integers(0, 60), max_size=4),
    )
    def test_equals_medians_by_hand(self, rows, cuts):
        """Few rows are all looked at: those of the day with a price, in any cut."""
        times, prices = [time for time, _ in rows], [price for _, price in rows]
        found = levels(times, prices, [min(cut, len(rows)) for cut in cuts])
        usable = [
            ((time - START_NS) // NS_PER_HOUR, price)
            for time, price in rows
            if START_NS <= time < END_NS and math.isfinite(price) and price > 0
        ]
        of_hour = [[price for hour, price in usable if hour == each] for each in range(24)]

        of_day = pytest.approx(median(price for _, price in usable)) if usable else None
        assert of_day == found["first_price"]
        assert found["first_price"] == found["last_price"]
        assert [None if not each else pytest.approx(median(each)) for each in of_hour] == (
            found["prices_per_hour"]
        )

    def test_ends_of_a_long_table(self):
        """The first and the last 1,024 rows, and not the day between; a wrong price moves none."""
        count = 300_000
        times = np.linspace(START_NS, END_NS - 1, count).astype(np.int64).tolist()
        prices = np.linspace(100.0, 200.0, count)
        prices[[0, 1, -1]] = 1e9
        found = levels(times, prices.tolist(), [5, 70_000, 131_072])

        assert (pytest.approx(100.2, abs=0.05), pytest.approx(199.8, abs=0.05)) == (
            found["first_price"],
            found["last_price"],
        )
        hours = found["prices_per_hour"]
        assert [pytest.approx(102.1 + 100 / 24 * hour, abs=0.1) for hour in range(24)] == hours

    def test_a_long_table_is_sampled_the_same_however_cut(self):
        """Every so many rows one is taken, counted over all batches."""
        rng = np.random.default_rng(5)
        count = 200_000
        times = (START_NS + np.sort(rng.integers(0, 86_400 * 10**9, count))).tolist()
        prices = rng.uniform(10, 20, count).tolist()

        assert levels(times, prices) == levels(times, prices, range(0, count, 999))

    def test_a_table_of_another_day(self):
        """Of rows that are all outside the day there is no price."""
        assert {"first_price": None, "last_price": None, "prices_per_hour": NO_HOURS} == levels(
            [START_NS - 1, END_NS], [5.0, 6.0]
        )


class TestRatio:
    def test_the_median_over_common_hours(self):
        """Hours that only one table has do not count, and one odd hour decides nothing."""
        ours = [None, 10.0, 20.0, 5.0, 70.0, *[None] * 19]
        theirs = [3.0, 5.0, 10.0, 2.5, 1.0, *[None] * 19]

        assert 2.0 == price_ratio(ours, theirs)

    def test_without_a_common_hour(self):
        """Tables that share no hour cannot be compared, nor can those of earlier versions."""
        assert price_ratio([1.0, None], [None, 1.0]) is None
        assert price_ratio(None, [1.0]) is None

    @pytest.mark.parametrize(("ratio", "expected"), [(2.0, 2.0), (0.25, 4.0), (1.0, 1.0)])
    def test_apart(self, ratio, expected):
        """How far two prices are apart does not depend on which is named first."""
        assert expected == apart(ratio)

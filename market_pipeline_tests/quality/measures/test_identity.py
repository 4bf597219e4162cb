"""Prices of a day's tables against each other and the day before: which one is foreign."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from market_pipeline.quality.measures.identity import DAY_BEFORE, price_identity
from market_pipeline.quality.profile import Profile

BTC, ETH = 60_000.0, 3_000.0
D, S, T = "book_delta_v2", "book", "trades"


def profile(table: str, price: float | None, hours: range = range(24)) -> Profile:
    """A table that is at one price in some hours."""
    return Profile(
        exchange="X",
        symbol="Y",
        dt=date(2024, 8, 8),
        raw_table=table,
        status="usable",
        first_price=price,
        prices_per_hour=tuple(price if hour in hours else None for hour in range(24)),
    )


def identity(prices: dict[str, float | None], before: float | None = None, factor: float = 1.5):
    return price_identity([profile(*each) for each in prices.items()], before, factor)


class TestTables:
    def test_at_the_same_prices(self):
        """Tables at nearly the same prices agree, and none is foreign."""
        found = identity({D: BTC, S: BTC * 1.01, T: BTC * 0.99})

        assert (None, pytest.approx(1.01 / 0.99)) == (found.foreign, found.tables_apart)
        assert {S, T} == found.agreeing[D]

    @pytest.mark.parametrize("foreign", [D, S, T])
    def test_one_of_three(self, foreign):
        """The one that differs from the other two is foreign, and the day begins with another."""
        found = identity({D: BTC, S: BTC, T: BTC} | {foreign: ETH})

        assert (foreign, 20.0, BTC) == (found.foreign, found.tables_apart, found.first_price)

    def test_one_of_two_by_the_day_before(self):
        """Of two that differ the day before says which; without it nobody knows."""
        assert D == identity({D: ETH, S: BTC}, before=BTC).foreign
        assert S == identity({D: ETH, S: BTC}, before=ETH).foreign
        assert identity({D: ETH, S: BTC}).foreign is None

    def test_three_that_all_differ(self):
        """With three prices and no day before none is the right one."""
        assert identity({D: 1.0, S: 10.0, T: 100.0}).foreign is None

    def test_other_hours(self):
        """Tables without a common hour are not compared with each other."""
        found = price_identity([profile(D, BTC, range(3)), profile(S, ETH, range(5, 9))], None, 1.5)

        assert (None, None) == (found.tables_apart, found.foreign)

    def test_a_day_that_doubles(self):
        """A price that rises tenfold over the day is compared hour by hour."""
        hours = [100.0 * 1.1**hour for hour in range(24)]
        rising = replace(profile(D, 100.0), prices_per_hour=tuple(hours))
        morning = replace(profile(S, 100.0), prices_per_hour=(*hours[:3], *[None] * 21))
        found = price_identity([rising, morning], None, 1.5)

        assert (1.0, None) == (found.tables_apart, found.foreign)


class TestDayBefore:
    def test_unlike_it(self):
        """A day of which all tables are at other prices differs from the day before alone."""
        found = identity({D: ETH, S: ETH, T: ETH}, before=BTC)

        assert (20.0, None, ETH) == (found.day_before_apart, found.foreign, found.first_price)

    def test_like_it(self):
        """A third more overnight is no other instrument."""
        found = identity({S: BTC * 1.3}, before=BTC)

        assert 1.5 > found.day_before_apart
        assert {DAY_BEFORE} == found.agreeing[S]

    def test_unknown(self):
        """Without the day before, or a price of today, nothing is compared."""
        assert identity({S: BTC}).day_before_apart is None
        assert identity({S: None}, before=BTC).day_before_apart is None

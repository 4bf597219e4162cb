"""Whether the prices of a day's raw tables are those of one instrument, and of the right one.

The tables of a day are compared with each other hour by hour, and with where the day before ended.
Two prices are **apart** if one is more than a factor times the other: closer together an instrument
cannot be distinguished from another by its price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from market_pipeline.quality.measures.price_levels import apart, price_ratio
from market_pipeline.quality.profile import Profile
from market_pipeline.quality.words import measured
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES

__all__ = ["DAY_BEFORE", "PriceIdentity", "price_identity"]

DAY_BEFORE = "the day before"

_BY_TRUST = (SNAPSHOTS.name, TRADES.name, DELTAS.name)
"""Whose first price a day is taken to begin with: mids come first."""


@dataclass(frozen=True, slots=True)
class PriceIdentity:
    """How the prices of a day lie to each other and to the day before.

    Attributes:
        tables: The two raw tables whose prices are farthest apart; None if none could be compared.
        tables_apart: How many times the one's prices are the other's, at least 1.
        foreign: The raw table that stands alone with its prices; None if none does, or nobody can
            tell which.
        first_price: The day's first price, of a table that is not foreign.
        price_before: The last price of the day before; None if unknown.
        agreeing: Of each raw table the others at its prices, and "the day before" if that is.
    """

    tables: tuple[str, str] | None
    tables_apart: float | None
    foreign: str | None
    first_price: float | None
    price_before: float | None
    agreeing: Mapping[str, frozenset[str]]

    @property
    def day_before_apart(self) -> float | None:
        """How many times the day's first price is the last before, or that the first; at least 1.

        None if one of them is unknown.
        """
        if self.first_price is None or self.price_before is None:
            return None
        return apart(self.first_price / self.price_before)


def price_identity(
    profiles: Sequence[Profile], price_before: float | None, factor: float
) -> PriceIdentity:
    """Compares the prices of a day's raw tables.

    Args:
        profiles: The usable rows of `lake.profiles` of one instrument and day.
        price_before: Where the day before ended; None if unknown.
        factor: Prices are apart if one is more than so many times the other.
    """
    hours = {each.raw_table: measured(each.prices_per_hour) for each in profiles}
    first = {each.raw_table: each.first_price for each in profiles if each.first_price is not None}
    agreeing: dict[str, set[str]] = {each.raw_table: set() for each in profiles}
    differing: dict[str, set[str]] = {each.raw_table: set() for each in profiles}
    farthest: tuple[float, tuple[str, str]] | None = None
    for one, other in combinations(hours, 2):
        ratio = price_ratio(hours[one], hours[other])
        if ratio is None:
            continue
        distance = apart(ratio)
        of = agreeing if distance <= factor else differing
        of[one].add(other)
        of[other].add(one)
        if farthest is None or distance > farthest[0]:
            farthest = distance, (one, other)
    if price_before is not None:
        for table, price in first.items():
            of = agreeing if apart(price / price_before) <= factor else differing
            of[table].add(DAY_BEFORE)
    foreign = _foreign(agreeing, differing)
    own = [first[table] for table in _BY_TRUST if table in first and table != foreign]
    return PriceIdentity(
        tables=farthest[1] if farthest else None,
        tables_apart=farthest[0] if farthest else None,
        foreign=foreign,
        first_price=own[0] if own else None,
        price_before=price_before,
        agreeing={table: frozenset(others) for table, others in agreeing.items()},
    )


def _foreign(agreeing: Mapping[str, set[str]], differing: Mapping[str, set[str]]) -> str | None:
    """The table that differs from another table and agrees with nothing, while the others do."""
    alone = [
        table
        for table, others in differing.items()
        if others - {DAY_BEFORE} and not agreeing[table]
    ]
    backed = [table for table in agreeing if agreeing[table]]
    return alone[0] if len(alone) == 1 and backed else None

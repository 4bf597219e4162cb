from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.cli.output import day_ranges, range_text


@given(st.sets(st.dates(date(2023, 12, 20), date(2024, 1, 20))))
def test_day_ranges(days):
    """The ranges hold exactly the days, are in order, and no two of them could be one."""
    ranges = day_ranges(days)
    held = [
        first + timedelta(days=number)
        for first, last in ranges
        for number in range((last - first).days + 1)
    ]
    assert sorted(days) == held
    assert all(later - last > timedelta(days=1) for (_, last), (later, _) in pairwise(ranges))


def test_range_text():
    """A year is told once, and twice where there are two."""
    assert "2024-08-08" == range_text(date(2024, 8, 8), date(2024, 8, 8))
    assert "2024-08-08..08-11" == range_text(date(2024, 8, 8), date(2024, 8, 11))
    assert "2024-12-30..2025-01-02" == range_text(date(2024, 12, 30), date(2025, 1, 2))

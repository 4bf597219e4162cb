"""Precision losses: exact nearest steps, merging, and the places told."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.quality.located import precision_places
from market_pipeline.quality.measures.precision import (
    PrecisionLoss,
    PrecisionReport,
    nearest_step,
)

TICK = Decimal("0.1")


def a_report(*rows, extra=0, file="1.snappy.parquet"):
    """A price report with a loss in each of the rows, and more that were only counted."""
    first = tuple(PrecisionLoss(file, row, 61_800.25) for row in rows)
    return PrecisionReport("price", TICK, losses=len(rows) + extra, first=first)


class TestNearestStep:
    @given(
        value=st.floats(allow_nan=False, allow_infinity=False),
        step=st.decimals(Decimal("1e-8"), Decimal(1000), places=8).filter(lambda step: step > 0),
    )
    def test_no_other_multiple_is_nearer(self, value, step):
        """The answer is a multiple of the step at most half a step away, exactly."""
        nearest = Fraction(nearest_step(value, step))

        assert 1 == (nearest / Fraction(step)).denominator
        assert abs(nearest - Fraction(value)) * 2 <= Fraction(step)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_what_is_not_finite_has_no_neighbour(self, value):
        """There is no nearest multiple of infinity."""
        assert nearest_step(value, TICK) is None


class TestReport:
    def test_a_count_without_its_places_is_refused(self):
        """A report that counts a loss locates it, up to ten."""
        with pytest.raises(ValueError, match="without a place"):
            a_report(1, extra=1)
        assert 25 == a_report(*range(10), extra=15).losses


class TestText:
    def test_every_offender_is_told_with_its_place(self):
        """Step, value, nearest multiple, file and row are in each place."""
        first, further = precision_places([a_report(12, 40)])

        assert ("first", 12, "further", 40) == (first.place, first.row, further.place, further.row)
        assert ("61800.25", "61800.2", "1.snappy.parquet") == (
            first.value,
            first.expected,
            first.file,
        )
        assert "This price is no whole number of ticks of 0.1, and was refused." == first.note

    def test_a_clean_column_says_nothing(self):
        """Without a loss there is no place."""
        assert [] == list(precision_places([PrecisionReport("size", Decimal("1E-8"))]))

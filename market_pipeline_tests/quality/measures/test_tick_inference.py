"""Ticks and lots as a day shows them: found batch by batch, and compared with the day before."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from math import gcd

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import MissingDataError
from market_pipeline.quality.measures.tick_inference import (
    SeenStep,
    StepScan,
    choose_scales,
    seen_step,
    step_change,
)
from market_pipeline.quality.profile import Profile


def watched(values: list[float], cuts: tuple[int, ...] = ()) -> SeenStep | None:
    watch = StepScan()
    for begin, end in zip((0, *cuts), (*cuts, len(values)), strict=True):
        watch.add(np.array(values[begin:end], np.float64))
    return watch.seen


def naive(steps: list[int]) -> SeenStep | None:
    """The greatest common divisor of hundredths, and how many of them it takes to reach it."""
    whole = gcd(*steps)
    if not whole:
        return None
    settled = next(count for count in range(len(steps) + 1) if gcd(*steps[:count]) == whole)
    return SeenStep(Decimal(whole) / 100, settled, len(steps))


@given(
    st.lists(st.integers(0, 60).map(lambda step: step * 5), max_size=30),
    st.lists(st.integers(0, 30), max_size=3),
)
def test_agrees_with_the_greatest_common_divisor(steps, cuts):
    """Cut anywhere into batches, the step and the rows it took are those of plain integers."""
    found = watched([step / 100 for step in steps], tuple(sorted(min(c, len(steps)) for c in cuts)))

    assert naive(steps) == found


def test_what_settled_it_and_what_held_before():
    """Each batch says which value made the step finer; `before` is the step until then."""
    watch = StepScan()
    batches = [[0.0, 3.0, 1.5], [6.0, 4.5], [9.0, 9.2, 0.1]]
    told = [watch.add(np.array(batch)) for batch in batches]

    assert [2, None, 1] == told
    assert (SeenStep(Decimal("0.1"), 7, 8), Decimal("1.5")) == (watch.seen, watch.before)


def test_outliers_show_no_step():
    """Two prices off the tick among 20,000 settle nothing in the end, though the first did once."""
    prices = np.random.default_rng(1).integers(610_000, 620_000, 20_000) / 10
    prices[[4_000, 19_000]] = 61800.1015625
    watch = StepScan()
    told = [watch.add(batch) for batch in np.split(prices, [3, 5_000, 12_000])]

    settled = told[0] + 1
    assert ([settled - 1, 3_997, None, None], settled) == (told, watch.settled_rows)
    assert SeenStep(Decimal("0.1"), settled, 20_000) == watch.seen


def test_values_that_are_none():
    """NaN, infinite, negative and absurd values show no step, and raise nothing."""
    assert SeenStep(Decimal("0.5"), 6, 7) == watched(
        [np.nan, np.inf, -0.1, 1e300, 100.0, 100.5, 7.5]
    )
    assert watched([np.nan, -1.0]) is None


@pytest.mark.parametrize(
    ("name", "today", "before", "told"),
    [
        ("tick", ("0.1", 20, 9_000), ("0.1", 20, 9_000), False),
        ("tick", ("0.1", 20, 9_000), None, False),
        ("tick", None, ("0.1", 20, 9_000), False),
        # A venue's change shows at once on either day.
        ("tick", ("0.01", 20, 9_000), ("0.1", 20, 9_000), True),
        ("tick", ("0.1", 20, 9_000), ("0.01", 20, 9_000), True),
        ("lot", ("0.001", 20, 9_000), ("0.01", 20, 9_000), True),
        # A single fine price late in the day is told then, and the day after is not blamed.
        ("tick", ("0.0001", 8_000, 9_000), ("0.1", 20, 9_000), True),
        ("tick", ("0.1", 20, 9_000), ("0.0001", 8_000, 9_000), False),
        # Few fine sizes may be missing from a short day by chance.
        ("lot", ("0.000001", 4_849, 124_090), ("0.00001", 3, 20_000), False),
        ("lot", ("0.00001", 3, 20_000), ("0.000001", 4_849, 124_090), False),
        # Steps of which neither holds the other are no chance.
        ("lot", ("0.2", 8_000, 9_000), ("0.5", 20, 9_000), True),
    ],
)
def test_when_a_change_is_told(name, today, before, told):
    """Only if the day with the coarser step had rows enough to show the finer one."""
    seen = [each and SeenStep(Decimal(each[0]), *each[1:]) for each in (today, before)]

    assert told == (step_change(name, *seen) is not None)


def test_the_sentence_has_both_steps():
    """Both days' steps are in it, and how soon the finer one showed."""
    told = step_change(
        "tick", SeenStep(Decimal("0.01"), 20, 9_000), SeenStep(Decimal("0.1"), 3, 9_000)
    )

    assert (
        "the prices show a tick of 0.01, those of the day before 0.1 (as of row 20 of the day with "
        "the finer one)"
    ) == told


def test_from_a_profile():
    """The step comes back from a row of `lake.profiles`; without one there is none."""
    row = Profile(**IDENTITY, status="usable", rows=9, tick_seen="0.1", tick_settled_rows=4)

    assert SeenStep(Decimal("0.1"), 4, 9) == seen_step(row, "tick")
    assert (None, None) == (seen_step(row, "lot"), seen_step(None, "tick"))


IDENTITY = {"exchange": "X", "symbol": "Y", "dt": date(2024, 8, 8), "raw_table": "book"}
SEEN = Profile(
    **IDENTITY,
    status="usable",
    rows=9,
    tick_seen="0.5",
    tick_settled_rows=9,
    lot_seen="0.02",
    lot_settled_rows=9,
)


class TestScales:
    @pytest.mark.parametrize(
        ("tick", "lot", "expected"),
        [
            ("0.1", "0.001", ("0.1", "0.001")),
            ("infer", "0.001", ("0.5", "0.001")),
            ("0.1", "infer", ("0.1", "0.02")),
        ],
    )
    def test_configured_or_as_seen(self, tick, lot, expected):
        """What is configured is taken as it is, whatever the data shows; the other as it shows."""
        of = Instrument(
            venue="BINANCE", symbol="BTC-USDT", source="crypto_lake", tick=tick, lot=lot
        )

        assert expected == tuple(f"{scale.step:f}" for scale in choose_scales(of, SEEN))

    def test_a_day_of_removals(self):
        """A day that only removes levels shows no lot; its sizes are still representable."""
        of = Instrument(venue="BINANCE", symbol="BTC-USDT", source="crypto_lake")
        _, lot = choose_scales(of, replace(SEEN, lot_seen=None))

        assert Decimal(1) == lot.step

    def test_nothing_was_looked_at(self):
        """Without a profile nothing can be inferred, and the error says what to do."""
        of = Instrument(venue="BINANCE", symbol="BTC-USDT", source="crypto_lake", tick="0.1")
        with pytest.raises(MissingDataError, match="The lot is to be inferred") as caught:
            choose_scales(of, None)

        assert "Materialize raw_profiles of this day" in caught.value.next_step

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from market_pipeline.books.scale import Scale, to_steps
from market_pipeline.books.step_inference import (
    OUTLIERS_AT_MOST,
    VALUES_PER_OUTLIER,
    StepInference,
)
from market_pipeline_tests.books.test_scale import steps_near_the_bound, steps_of_a_venue


def inferred(values: np.ndarray, cuts: list[int] | tuple[int, ...] = ()) -> StepInference:
    inference = StepInference()
    for batch in np.split(values, sorted(cuts)):
        inference.add(batch)
    return inference


def powers(value: Fraction) -> tuple[int, int, int]:
    """How often 2 and 5 divide a value (below 0: its denominator), and what else does."""
    two = five = 0
    while value.denominator % 2 == 0:
        value, two = value * 2, two - 1
    while value.denominator % 5 == 0:
        value, five = value * 5, five - 1
    odd = value.numerator
    while odd % 2 == 0:
        odd, two = odd // 2, two + 1
    while odd % 5 == 0:
        odd, five = odd // 5, five + 1
    return two, five, odd


def naive_step(decimals: list[Decimal]) -> Fraction | None:
    """The documented rule, word by word, over whole decimals and all candidate steps."""
    times = Counter(each for each in decimals if each > 0)
    shown = {powers(Fraction(each)): count for each, count in times.items()}
    if not shown:
        return None
    tolerated = min(OUTLIERS_AT_MOST, times.total() // VALUES_PER_OUTLIER)
    steps = {
        (two, five): Fraction(2) ** two * Fraction(5) ** five
        for two in {each[0] for each in shown}
        for five in {each[1] for each in shown}
    }
    cells: Counter[tuple[int, int]] = Counter()
    for (two, five, _), count in shown.items():
        cells[two, five] += count

    def off(step: tuple[int, int]) -> int:
        return sum(n for cell, n in cells.items() if cell[0] < step[0] or cell[1] < step[1])

    two, five = max((each for each in steps if off(each) <= tolerated), key=steps.__getitem__)
    near = [cell for cell in cells if cell[0] >= two - 1 and cell[1] >= five - 1]
    least_two, least_five = (min(cell[part] for cell in near) for part in (0, 1))
    odd = math.gcd(*(each[2] for each in shown))
    return Fraction(2) ** least_two * Fraction(5) ** least_five * odd


def step_of(inference: StepInference) -> Fraction | None:
    return None if inference.scale is None else Fraction(inference.scale.step)


# A wrong price of each kind: widened from 32 bits, computed, another venue's decimals, an average.
WRONG_PRICES = (61800.1015625, 61800.100012, 61800.1234, 61800.10333333333)
PLACES = {"first": [0], "last": [-1], "together": [700, 701, 702, 703], "apart": [0, 9_999, -1]}


def a_day(rows: int, step: str = "0.1", seed: int = 1) -> np.ndarray:
    """Prices of a day on a grid of a step, in a walk about 61,800."""
    multiples = np.random.default_rng(seed).integers(610_000, 620_000, rows)
    return Scale.of(Decimal(step)).to_floats(multiples)


class TestStepInference:
    @given(
        steps_of_a_venue,
        st.lists(st.integers(0, 10**6), min_size=1, max_size=50),
        st.integers(1, 20),
    )
    def test_equals_the_greatest_common_divisor_however_batched(self, step, multiples, batch):
        """It is the step times the greatest common divisor of the multiples, batch by batch."""
        values = np.array([float(k * step) for k in multiples])
        inference = StepInference()
        for start in range(0, len(values), batch):
            inference.add(values[start : start + batch])
        divisor = math.gcd(*multiples)
        expected = Scale.of(divisor * step) if divisor else None
        assert inference.scale == expected

    @pytest.mark.slow
    @settings(max_examples=40, deadline=None)
    @given(
        step=steps_of_a_venue,
        repeated=st.sampled_from([1, 500, 5_000, 12_000]),
        multiples=st.lists(st.integers(0, 3_000), min_size=1, max_size=8),
        odd_ones=st.lists(
            st.tuples(
                st.integers(1, 10**6), st.integers(0, 9), st.integers(1, 120), st.integers(0, 2**31)
            ),
            max_size=4,
        ),
        cuts=st.lists(st.integers(0, 100_000), max_size=4),
    )
    def test_agrees_with_the_rule_over_decimals(self, step, repeated, multiples, odd_ones, cuts):
        """Any values and outliers, anywhere and as many as may be, cut anywhere: the rule holds."""
        values = [k * step for k in multiples] * repeated
        for digits, decimals, times, place in odd_ones:
            at = place % (len(values) + 1)
            values[at:at] = [Decimal(digits).scaleb(-decimals)] * times
        found = inferred(np.array(values, np.float64), [min(cut, len(values)) for cut in cuts])
        assert naive_step(values) == step_of(found)

    @pytest.mark.parametrize("wrong", WRONG_PRICES)
    @pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
    @pytest.mark.parametrize("step", ["0.1", "0.5", "2.5"])
    def test_outliers_anywhere_do_not_refine_the_step(self, step, places, wrong):
        """A few wrong prices, first, last, apart or together, and the tick is as without them."""
        prices = a_day(60_000, step)
        prices[places] = wrong
        inference = inferred(prices, [1, 702, 50_000])
        assert Decimal(step) == inference.scale.step

        losses = to_steps(prices, inference.scale, np.empty(len(prices), np.int64))
        assert len(places) == losses

    @pytest.mark.parametrize(("rows", "tolerated"), [(9_999, 0), (60_000, 6), (2_000_000, 100)])
    def test_more_than_tolerated_show_the_finer_step(self, rows, tolerated):
        """One in 10,000 values is tolerated, 100 at most; with one more they are the step."""
        prices = a_day(rows)
        prices[:tolerated] = 61800.1234
        assert Decimal("0.1") == inferred(prices).scale.step
        prices[tolerated] = 61800.1234
        assert Decimal("0.0002") == inferred(prices).scale.step

    @pytest.mark.parametrize(
        ("value", "step"), [(61800.15, "0.05"), (61800.12, "0.02"), (61800.11, "0.01")]
    )
    def test_a_tenth_of_the_step_is_believed_of_one_value(self, value, step):
        """Halves, fifths and tenths of the others' step are real, however few values need them."""
        prices = a_day(60_000)
        prices[30_000] = value
        assert Decimal(step) == inferred(prices).scale.step

    def test_outliers_beside_rare_fine_lots(self):
        """Rare sizes of a former, finer lot are kept; a size that went through float32 is not."""
        sizes = np.random.default_rng(2).integers(0, 10**6, 100_000) / 1e5
        sizes[[5, 70_000]] = 25.426189, 244.566304
        sizes[40_000] = float(np.float32(1.23457))
        inference = inferred(sizes)
        assert Decimal("0.000001") == inference.scale.step
        assert 1 == to_steps(sizes, inference.scale, np.empty(len(sizes), np.int64))

    def test_when_the_step_was_shown_and_what_until_then(self):
        """Outliers do not count: the values on the step say when it settled and what was before."""
        prices = a_day(60_000, "0.5")
        prices[3] = prices[50_000] = 61800.1015625
        prices[40_000] = 61800.1
        inference = inferred(prices, [100, 45_000])
        shown = (inference.scale.step, inference.settled_rows, inference.before.step)
        assert (Decimal("0.1"), 40_001, Decimal("0.5")) == shown

    @given(st.lists(st.integers(0, 60), max_size=30))
    def test_settles_when_the_greatest_common_divisor_does(self, multiples):
        """Without outliers: the first values that have the divisor of all, and that before them."""
        inference = inferred(np.array(multiples, np.float64))
        whole = math.gcd(*multiples)
        divisors = [math.gcd(*multiples[:count]) for count in range(len(multiples) + 1)]
        settled = divisors.index(whole)
        before = divisors[max(0, settled - 1)]
        assert settled == inference.settled_rows
        assert (before or None) == (inference.before and inference.before.step)

    @settings(max_examples=300)
    @given(
        steps_of_a_venue,
        st.sampled_from([1, 2, 4, 5, 8, 20, 25]),
        st.lists(st.integers(1, 10**6), max_size=30),
        st.lists(steps_near_the_bound, min_size=1, max_size=5),
    )
    @example(Decimal("0.05"), 5, [], [2**51 - 1, 2**51 + 1, 2**50 + 1])
    def test_multiples_of_any_size_leave_the_step(self, step, times, multiples, large):
        """However large, multiples of the step that fewer values need than it alone leave it."""
        step *= times
        counts = [1] * (len(large) + 1) + multiples + large
        values = [float(Fraction(k) * Fraction(step)) for k in counts]
        assert Scale.of(step) == inferred(np.array(values)).scale

    @pytest.mark.parametrize("step", ["0.00000001", "0.001", "1"])
    def test_a_day_of_large_values_only(self, step):
        """Up to 2^49 decimal steps a day of nothing but such values shows its step."""
        multiples = np.random.default_rng(3).integers(2**48, 2**49, 1_000)
        values = Scale.of(Decimal(step)).to_floats(multiples)
        assert Decimal(step) == inferred(values).scale.step

    @pytest.mark.parametrize("wrong", [61800.10333333333, 2.0**52 + 0.5, 2.0**51 + 0.5, 7e12 / 3])
    def test_more_digits_than_a_float_tells(self, wrong):
        """Such a value shows no step, and in a day of few values it is none that is tolerated."""
        assert inferred(np.array([wrong])).scale is None
        prices = a_day(1_000)
        prices[500] = wrong
        assert Decimal("0.1") == inferred(prices).scale.step

    @pytest.mark.parametrize("wrong", [1.23456789e-7, 0.123456789012345, 3.14159265358979])
    def test_a_step_that_would_refuse_the_others(self, wrong):
        """A wrong price of so many decimals that all others would be too large is off the tick."""
        prices = np.append(a_day(1_000), [wrong, wrong])
        scale = inferred(prices, [3, 700]).scale

        assert Decimal("0.1") == scale.step
        assert 2 == to_steps(prices, scale, np.empty(len(prices), np.int64))

    def test_many_sizes_that_are_too_large_for_the_finest(self):
        """The step is the coarsest of those that refuse the fewest values."""
        sizes = np.append(np.arange(100, 3_000) * 1e6, np.arange(1, 11) * 1.00000001)
        inference = inferred(sizes, [5, 2_000])

        assert Decimal(10**6) == inference.scale.step
        assert 10 == to_steps(sizes, inference.scale, np.empty(len(sizes), np.int64))

    def test_a_day_of_sizes_that_are_too_large(self):
        """Where no other step would refuse fewer, the one that is shown stands."""
        sizes = np.full(50, 3e7) + np.arange(50) * 1e-5
        assert Decimal("0.00001") == inferred(sizes).scale.step

    def test_values_that_show_nothing(self):
        """Zero, negative, infinite and absurd values have no step, and hide none."""
        nothing = [0.0, -1.0, math.nan, math.inf, -math.inf, 1e300, 1e-300]
        assert inferred(np.array(nothing)).scale is None
        assert inferred(np.array([*nothing, 0.25])).scale == Scale(25, 2)

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from market_pipeline.books.scale import (
    EXACT_STEPS,
    NOT_REPRESENTABLE,
    Scale,
    to_steps,
)

steps_of_a_venue = st.builds(
    lambda digits, decimals: Decimal(digits).scaleb(-decimals),
    st.sampled_from([1, 5, 25, 10]),
    st.integers(0, 9),
)


def converted(values: list[float], step: str) -> tuple[list[int], int]:
    out = np.empty(len(values), np.int64)
    losses = to_steps(np.array(values), Scale.of(Decimal(step)), out)
    return out.tolist(), losses


class TestToSteps:
    @given(steps_of_a_venue, st.lists(st.integers(0, 10**7), min_size=1))
    def test_every_multiple_survives_the_way_there_and_back(self, step, multiples):
        """The float of k steps becomes k, and k becomes the float nearest to the exact decimal."""
        scale = Scale.of(step)
        values = np.array([float(k * step) for k in multiples])
        out = np.empty(len(values), np.int64)
        assert to_steps(values, scale, out) == 0
        assert out.tolist() == multiples
        assert scale.to_floats(out).tolist() == values.tolist()

    def test_rounds_and_does_not_truncate(self):
        """0.57 at 1e-8 is 57,000,000 lots, though 0.57 x 1e8 is a little less as a float."""
        assert int(0.57 * 1e8) == 56_999_999
        assert converted([0.57], "0.00000001") == ([57_000_000], 0)

    def test_what_is_between_two_ticks_is_refused(self):
        """A price off the tick is counted and marked, never moved to its neighbour."""
        assert converted([100.0, 100.03, 100.1], "0.1") == ([1000, NOT_REPRESENTABLE, 1001], 1)

    def test_a_millionth_of_a_step_is_the_bound(self):
        """Half a millionth of a step passes as noise, two millionths do not."""
        assert converted([1.0000005, 1.000002], "1") == ([1, NOT_REPRESENTABLE], 1)

    def test_large_values_may_carry_the_error_of_their_float(self):
        """1e13 lots with eight decimals are whole within the precision that a float64 has."""
        assert converted([123456.12345678], "0.00000001") == ([12345612345678], 0)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e19, 1.7e308])
    def test_what_is_no_number_of_steps_is_refused(self, value):
        """NaN, infinity and more steps than an int64 holds are losses, whatever the step."""
        for step in ("1", "0.000000000000001", "2.5", "1000"):
            assert converted([value], step) == ([NOT_REPRESENTABLE], 1)


steps_near_the_bound = st.one_of(
    st.integers(0, EXACT_STEPS + 10),
    st.integers(EXACT_STEPS - 2_000, EXACT_STEPS + 2_000),
    st.integers(2**49 - 2_000, 2**49 + 2_000),
    st.integers(2**50 - 2_000, 2**50 + 2_000),
)
any_step = st.one_of(
    steps_of_a_venue,
    st.builds(
        lambda digits, decimals: Decimal(digits).scaleb(-decimals),
        st.integers(1, 100_000),
        st.integers(0, 15),
    ),
)


class TestBelowTheBound:
    @settings(max_examples=500)
    @given(any_step, st.lists(steps_near_the_bound, min_size=1, max_size=20))
    @example(Decimal("0.05"), [2**51 - 1, 2**51, 0])
    @example(Decimal("0.003"), [1501199875790165, 2251799813685247])
    def test_every_multiple_is_itself_or_refused(self, step, multiples):
        """The float of k steps is k below 2^51, and back again; from there on it is refused."""
        values = [float(Fraction(k) * Fraction(step)) for k in multiples]
        exact = [k if k < EXACT_STEPS else NOT_REPRESENTABLE for k in multiples]
        assert (exact, exact.count(NOT_REPRESENTABLE)) == converted(values, format(step, "f"))

        kept = np.array([k for k in multiples if k < EXACT_STEPS], np.int64)
        back = [value for value, k in zip(values, multiples, strict=True) if k < EXACT_STEPS]
        assert back == Scale.of(step).to_floats(kept).tolist()

    @settings(max_examples=500)
    @given(
        any_step,
        steps_near_the_bound,
        st.one_of(st.just(Fraction(1, 2)), st.fractions(Fraction(1, 10**5), Fraction(1, 2))),
    )
    @example(Decimal(1), 2**50, Fraction(1, 2))
    @example(Decimal("0.05"), EXACT_STEPS - 1, Fraction(1, 2))
    def test_what_is_further_away_than_floats_err_is_refused(self, step, whole, away):
        """Half a step and less is refused, down to what the float itself may be off by."""
        value = float((whole + away) * Fraction(step))
        off = abs(Fraction(value) / Fraction(step) - round(Fraction(value) / Fraction(step)))
        # Wholes of which a float is less than one rounding away are those of noise.
        bound = max(Fraction(2, 10**6), min(Fraction(whole * 9, 2**53), Fraction(1, 4)))
        if off > bound:
            assert ([NOT_REPRESENTABLE], 1) == converted([value], format(step, "f"))

    def test_halves_of_steps_just_below_it(self):
        """The largest floats that still tell halves from wholes are told apart, one by one."""
        halves = np.arange(2 * (EXACT_STEPS - 1_000), 2 * EXACT_STEPS) / 2
        out = np.empty(halves.size, np.int64)
        losses = to_steps(halves, Scale(1, 0), out)

        assert halves.size // 2 == losses
        assert np.array_equal(np.arange(EXACT_STEPS - 1_000, EXACT_STEPS), out[::2])
        assert {NOT_REPRESENTABLE} == set(out[1::2].tolist())

    def test_losses_of_either_kind_in_one_batch(self):
        """Values off the step, too large ones and good ones do not disturb each other."""
        values = [0.5, 1.0, 2.0**50, 2.0**50 + 0.5, 2.0**51, 2.0**60, math.nan, 2.0**51 - 1]
        refused = NOT_REPRESENTABLE
        expected = [refused, 1, 2**50, refused, refused, refused, refused, 2**51 - 1]
        assert (expected, 5) == converted(values, "1")


class TestScale:
    @pytest.mark.parametrize("step", ["0", "-1", "NaN", "1e-16"])
    def test_refuses_what_is_no_step(self, step):
        """A step is positive and has at most 15 decimals."""
        with pytest.raises(ValueError, match="step"):
            Scale.of(Decimal(step))

    def test_a_step_above_one_has_no_decimals(self):
        """1e2 is 100 x 10^0."""
        assert Scale.of(Decimal("1e2")) == Scale(100, 0)


class TestStepsFrom:
    scales = st.builds(Scale, st.integers(1, 1000), st.integers(0, 12))

    @given(scales, scales, st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
    @example(Scale(1, 11), Scale(326, 0), [282926])
    def test_is_the_quotient_if_that_is_whole(self, own, other, steps):
        """Every value must be a whole number of our steps, and few enough; else no answer."""
        fractions = [k * Fraction(other.step) / Fraction(own.step) for k in steps]
        fits = [each for each in fractions if each.denominator == 1 and each < EXACT_STEPS]
        expected = [int(each) for each in fits]
        found = own.steps_from(np.array(steps, np.int64), other)
        assert (found is None) == (len(expected) < len(steps))
        assert found is None or found.tolist() == expected

    @given(scales, st.integers(1, 50), st.lists(st.integers(0, 10**9), max_size=5))
    def test_a_coarser_scale_always_fits(self, own, times, steps):
        """Steps that are multiples of ours become that many of ours, and come back."""
        coarser = Scale(own.coefficient * times, own.decimals)
        fine = own.steps_from(np.array(steps, np.int64), coarser)
        assert fine is not None and fine.tolist() == [k * times for k in steps]
        back = coarser.steps_from(fine, own)
        assert back is not None and back.tolist() == steps

    def test_products_beyond_64_bits(self):
        """2e15 ones are 2e6 steps of 1e9, though they are multiplied by 1e18 on the way."""
        found = Scale(10**9, 0).steps_from(np.array([2 * 10**15], np.int64), Scale(10**18, 18))
        assert found is not None and found.tolist() == [2 * 10**6]

    def test_too_many(self):
        """2^50 steps are too many for a scale of half the step, as they are for a float."""
        assert Scale(5, 1).steps_from(np.array([2**50], np.int64), Scale(1, 0)) is None

    @pytest.mark.parametrize("other", [Scale(1, 1), Scale(10, 2)])
    @pytest.mark.parametrize("sign", [1, -1])
    def test_the_same_step(self, other, sign):
        """It is not computed, and the bound is the same; the answer is an array of its own."""
        steps = np.array([0, sign * (EXACT_STEPS - 1)], np.int64)
        found = Scale(1, 1).steps_from(steps, other)
        assert found is not None and found.tolist() == [0, sign * (EXACT_STEPS - 1)]
        assert not np.shares_memory(found, steps)
        assert Scale(1, 1).steps_from(steps + sign, other) is None

    def test_no_steps(self):
        """An empty side of a book fits every scale."""
        found = Scale(3, 0).steps_from(np.empty(0, np.int64), Scale(1, 5))
        assert found is not None and found.size == 0

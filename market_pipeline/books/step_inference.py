"""The step that a day's prices or sizes are whole multiples of, inferred from the values."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.scale import (
    EXACT_STEPS,
    LARGEST_VALUE,
    MAX_DECIMALS,
    RELATIVE_TOLERANCE,
    ROUNDED_STEPS,
    Scale,
)
from market_pipeline.books.state import read_only
from market_pipeline.jit import kernel

__all__ = ["OUTLIERS_AT_MOST", "VALUES_PER_OUTLIER", "StepInference"]

VALUES_PER_OUTLIER = 10_000
"""One value off the step is tolerated for so many when a step is inferred."""

OUTLIERS_AT_MOST = 100
"""However many values there are, more than these off a step show that it is another one."""

# A value is 2^a x 5^b x an odd number without fives, where a and b are below zero for decimals. The
# table of outliers has a row for each a and a column for each b.

_LEAST_POWER = -MAX_DECIMALS
_POWERS_OF_TWO = 53 - _LEAST_POWER + 2
_POWERS_OF_FIVE = 22 - _LEAST_POWER + 2
# Up to it the error that a float and its scaling carry hides no further digit.
_EXACT_LIMIT = 2.0**46
_BLOCK_VALUES = 1024

# Where the kernel keeps its figures.
_TWO, _FIVE, _BELOW_TWO, _BELOW_FIVE, _ODD, _ODD_BEFORE, _ODD_ROW, _USED, _ROWS = range(9)

# A float64's sign and exponent are its first 12 bits; these are 0 and 0.
_EXPONENTS, _EXPONENT_OF_ONE, _LARGEST_EXPONENT = 4_096, 1_023, 53

_LOG2_OF_STEP = np.add.outer(
    np.arange(_POWERS_OF_TWO) + _LEAST_POWER,
    (np.arange(_POWERS_OF_FIVE) + _LEAST_POWER) * math.log2(5),
)
_COARSENESS = np.add.outer(
    np.arange(_POWERS_OF_TWO) * math.log(2), np.arange(_POWERS_OF_FIVE) * math.log(5)
)


@kernel
def _off_step(values, start, stop, power, divisor):
    # Without a branch, so that the compiler computes several values at a time.
    used, off = 0, 0
    for i in range(start, stop):
        value = values[i]
        exact = value * power
        whole = np.rint(exact)
        # Only the float's own error is forgiven: a millionth may be the lot itself.
        fits = (abs(exact - whole) <= exact * RELATIVE_TOLERANCE) & (whole <= _EXACT_LIMIT)
        fits &= np.rint(whole / divisor) * divisor == whole
        is_used = (value > 0.0) & (value <= LARGEST_VALUE)
        used += is_used
        off += is_used & (not fits)
    return used, off


@kernel
def _grid(state):
    # The decimals and the whole number of them that a value must be a multiple of.
    two, five = state[_TWO] + _LEAST_POWER, state[_FIVE] + _LEAST_POWER
    decimals = max(-two, -five, 0)
    divisor = 2.0 ** (two + decimals) * 5.0 ** (five + decimals) * np.float64(state[_ODD])
    if not 0.0 < divisor <= _EXACT_LIMIT:
        # No value is taken for a multiple, so that each is looked at.
        divisor = 2.0 * _EXACT_LIMIT
    return 10.0**decimals, divisor


@kernel
def _take(value, row, outliers, first_rows, state):
    decimals, power = 0, 1.0
    while decimals < MAX_DECIMALS:
        exact = value * power
        whole = np.rint(exact)
        if exact > ROUNDED_STEPS:
            # It has more digits than a float64 can tell: a further one may hide in its error.
            state[_USED] -= 1
            return
        if exact > _EXACT_LIMIT:
            if whole / power == value:
                break
        elif abs(exact - whole) <= exact * RELATIVE_TOLERANCE:
            break
        decimals += 1
        power *= 10.0
    if value * power > ROUNDED_STEPS:
        state[_USED] -= 1
        return
    odd = np.int64(np.rint(value * power))
    if odd == 0:
        # Below the finest step there is: to every step it is a zero.
        return
    two = five = -_LEAST_POWER - decimals
    while odd % 2 == 0:
        odd //= 2
        two += 1
    while odd % 5 == 0:
        odd //= 5
        five += 1

    divisor, rest = odd, state[_ODD]
    while rest != 0:
        divisor, rest = rest, divisor % rest
    if divisor != state[_ODD]:
        state[_ODD_BEFORE], state[_ODD], state[_ODD_ROW] = state[_ODD], divisor, row

    if two >= state[_TWO] and five >= state[_FIVE]:
        return
    if outliers[two, five] == 0:
        first_rows[two, five] = row
    outliers[two, five] += 1
    state[_BELOW_TWO] += two < state[_TWO]
    while state[_BELOW_TWO] > OUTLIERS_AT_MOST:
        state[_TWO] -= 1
        for column in range(_POWERS_OF_FIVE):
            state[_BELOW_TWO] -= outliers[state[_TWO], column]
    state[_BELOW_FIVE] += five < state[_FIVE]
    while state[_BELOW_FIVE] > OUTLIERS_AT_MOST:
        state[_FIVE] -= 1
        for line in range(_POWERS_OF_TWO):
            state[_BELOW_FIVE] -= outliers[line, state[_FIVE]]


@kernel
def _infer(values, bits, exponents, outliers, first_rows, state):
    # By turns into one of four counts: neighbours are much alike, and to count one more where one
    # was just counted waits for that.
    for i in range(bits.size):
        exponents[i & 3, (bits[i] >> 52) & 0xFFF] += 1
    power, divisor = _grid(state)
    is_new = False
    for start in range(0, values.size, _BLOCK_VALUES):
        stop = min(start + _BLOCK_VALUES, values.size)
        used, off = _off_step(values, start, stop, power, divisor)
        state[_USED] += used
        if off == 0:
            continue
        for i in range(start, stop):
            _, is_off = _off_step(values, i, i + 1, power, divisor)
            if is_off:
                is_new = True
                used = state[_USED]
                _take(values[i], state[_ROWS] + i, outliers, first_rows, state)
                exponents[0, (bits[i] >> 52) & 0xFFF] -= used - state[_USED]
                power, divisor = _grid(state)
    state[_ROWS] += values.size
    return is_new


class StepInference:
    """Finds the coarsest step that a day's values are whole multiples of, but for a few outliers.

    Outliers are at most one in 10,000 values and at most 100, so a day of fewer than 10,000 values
    has none; and only values that are no multiple of a tenth of the step either. Few values on
    halves, fifths or tenths of what the others show are real: orders rest for years, with the lot
    that held when they came.

    In full: of all 2^a x 5^b that not more than the tolerated values are off, take the coarsest. If
    more than that are `EXACT_STEPS` of it or more, a few values would have the others refused: take
    the coarsest of those that refuse the fewest. Refine it until all values on a tenth of it fit;
    multiply it by the greatest factor without twos and fives that all values have, outliers too.
    The order of the values and how they are cut into batches make no difference.

    The answer is what the data shows: a day that only touched every second tick gives twice the
    venue's tick. A real step more than ten times finer that no more values need than are tolerated
    is not seen; they are off the step. A wrong value that stands in more rows is on it.

    Values that are not above zero or not finite show no step; nor do those with more digits than a
    float64 can tell: more than 2^49 units of their last one.
    """

    def __init__(self) -> None:
        shape = _POWERS_OF_TWO, _POWERS_OF_FIVE
        # Values that lacked a two or a five when they came, until too many did to be outliers, and
        # the rows of the first ones.
        self._outliers = np.zeros(shape, np.int64)
        self._first_rows = np.zeros(shape, np.int64)
        # How many values that show a step lie between one power of two and the next.
        self._exponents = np.zeros((4, _EXPONENTS), np.int64)
        self._state = np.zeros(9, np.int64)
        self._state[[_TWO, _FIVE]] = _POWERS_OF_TWO - 1, _POWERS_OF_FIVE - 1

    def add(self, values: NDArray[np.float64]) -> bool:
        """Takes a batch of float64 values, shape (n,), into account.

        Returns:
            False if all of them are multiples of a step that those before show, so that
            `settled_rows` is none of theirs.
        """
        column = read_only(values)
        bits = read_only(column.view(np.int64))
        known = self._exponents, self._outliers, self._first_rows, self._state
        return bool(_infer(column, bits, *known))

    @property
    def scale(self) -> Scale | None:
        """The step found, or None before the first value above zero."""
        if self._state[_ODD] == 0:
            return None
        return _scale(*self._powers(), int(self._state[_ODD]))

    @property
    def settled_rows(self) -> int:
        """So many values, of any kind, it took until those on the step showed it; 0 without one."""
        if self._state[_ODD] == 0:
            return 0
        return self._last_row() + 1

    @property
    def before(self) -> Scale | None:
        """The coarser step of those that are on the step and came before the last that it took.

        None if there are none.
        """
        if self._state[_ODD] == 0:
            return None
        last, (two, five) = self._last_row(), self._powers()
        earlier = np.argwhere(self._shown(two, five) < last)
        odd = self._state[_ODD_BEFORE if self._state[_ODD_ROW] == last else _ODD]
        if odd == 0 or earlier.size == 0:
            return None
        least_two, least_five = earlier.min(axis=0).tolist()
        return _scale(two + least_two, five + least_five, int(odd))

    def _powers(self) -> tuple[int, int]:
        """Row and column in the table of outliers of the step, but for the factor that all have."""
        shown = _sums_from(self._outliers)
        off = self._outliers.sum() - shown
        tolerated = min(OUTLIERS_AT_MOST, int(self._state[_USED]) // VALUES_PER_OUTLIER)
        # Only up to these powers the table has every value that lacks one.
        inside = np.s_[: self._state[_TWO] + 1, : self._state[_FIVE] + 1]
        coarseness = np.where(off[inside] <= tolerated, _COARSENESS[inside], -1.0)
        two, five = np.unravel_index(int(coarseness.argmax()), coarseness.shape)
        too_large = self._too_large()[inside]
        if too_large[two, five] > tolerated:
            refused = np.where(shown[inside] > 0, off[inside] + too_large, 2**62)
            if refused.min() < refused[two, five]:
                coarseness = np.where(refused == refused.min(), _COARSENESS[inside], -1.0)
                two, five = np.unravel_index(int(coarseness.argmax()), coarseness.shape)
        tenth = max(0, int(two) - 1), max(0, int(five) - 1)
        lines, columns = self._outliers[tenth[0] :, tenth[1] :].nonzero()
        return tenth[0] + int(lines.min()), tenth[1] + int(columns.min())

    def _too_large(self) -> NDArray[np.int64]:
        """For each step in the table, how many values are too many steps for their float to tell.

        Those within a power of two of the bound are not counted.
        """
        least = np.ceil(_LOG2_OF_STEP + math.log2(EXACT_STEPS * int(self._state[_ODD])))
        # Of a value that is 0 or not finite nobody asks.
        shown = slice(_EXPONENT_OF_ONE, _EXPONENT_OF_ONE + _LARGEST_EXPONENT + 1)
        bins = self._exponents[:, shown].sum(axis=0)
        at_least = np.append(bins[::-1].cumsum()[::-1], 0)
        return np.asarray(at_least[np.clip(least, 0, bins.size).astype(np.int64)])

    def _shown(self, two: int, five: int) -> NDArray[np.int64]:
        """For values on the step, by their further powers, the first row; 2^62 where is none."""
        on_step = np.s_[two:, five:]
        return np.where(self._outliers[on_step] > 0, self._first_rows[on_step], 2**62)

    def _last_row(self) -> int:
        shown = self._shown(*self._powers())
        return max(int(shown[0].min()), int(shown[:, 0].min()), int(self._state[_ODD_ROW]))


def _sums_from(table: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each place the sum of what is at and beyond it, both ways."""
    return table[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]


def _scale(two: int, five: int, odd: int) -> Scale:
    two, five = two + _LEAST_POWER, five + _LEAST_POWER
    decimals = max(-two, -five, 0)
    return Scale(int(2 ** (two + decimals) * 5 ** (five + decimals) * odd), decimals)

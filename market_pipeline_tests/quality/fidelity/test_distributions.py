from __future__ import annotations

from math import log

import numpy as np
import pytest

from market_pipeline.quality.fidelity.distributions import distances
from market_pipeline.quality.fidelity.grid_kernel import ZERO_BIN, Sampled, Sums, new_sums

SPREAD = Sampled.SPREAD


def counted(golden, other, blocks=range(6)) -> Sums:
    """Sums in which some blocks have so many spreads of each value, for either book."""
    sums = new_sums()
    for block in blocks:
        sums.instants[block] = 150
        for book, counts in enumerate((golden, other)):
            of_block = counts(block) if callable(counts) else counts
            for value, count in of_block.items():
                sums.histograms[book, SPREAD, block, ZERO_BIN + value] = count
    return sums


def test_distances_by_hand():
    """Half 0 and half 1 against a quarter and three: 0.25 by KS, Wasserstein and variation."""
    found = list(distances(counted({0: 50, 1: 50}, {0: 25, 1: 75})))
    psi = 0.25 * log(0.5 / 0.25) - 0.25 * log(0.5 / 0.75)
    assert {("spread", 300 * 2)} == {(each.figure, each.samples) for each in found}
    assert {"ks": 0.25, "wasserstein": 0.25, "total_variation": 0.25, "psi": psi} == pytest.approx(
        {each.kind: each.value for each in found}
    )


def test_a_golden_book_that_never_differs_from_itself_has_the_least_floor():
    """Blocks that are all alike have no noise; a thousandth is allowed all the same."""
    found = distances(counted({0: 50, 1: 50}, {0: 50, 1: 50}))
    assert {(0.0, 0.001)} == {(each.value, each.floor) for each in found}


def test_wasserstein_is_over_the_golden_interquartile_range():
    """Values from 10 to 50 with quartiles 20 and 40, moved by 5, are a quarter of 20 away."""
    golden = {10: 10, 20: 40, 40: 40, 50: 10}
    moved = {value + 5: count for value, count in golden.items()}
    (found,) = (each for each in distances(counted(golden, moved)) if each.kind == "wasserstein")
    assert 0.25 == pytest.approx(found.value)


def test_the_floor_is_the_noise_between_odd_and_even_blocks():
    """Where odd blocks are one value and even ones another, the golden book is 1 from itself."""
    golden = counted(lambda block: {block % 2: 100}, lambda block: {block % 2: 100})
    assert {1.0} == {each.floor for each in distances(golden) if each.kind == "ks"}


def test_an_empty_bin_holds_half_a_count():
    """A value that the other book never has makes PSI large and not infinite."""
    (found,) = (each for each in distances(counted({0: 50, 1: 50}, {0: 100})) if each.kind == "psi")
    least = 0.5 / 600
    assert found.value == pytest.approx((0.5 - 1) * log(0.5 / 1) + (0.5 - least) * log(0.5 / least))


@pytest.mark.parametrize("blocks", [range(5), range(0, 40, 2)], ids=["few", "even only"])
def test_without_enough_blocks_of_both_kinds_there_is_no_distance(blocks):
    """Fewer than six blocks, or none of the odd ones, tell nothing of the noise."""
    assert [] == list(distances(counted({0: 50}, {1: 50}, blocks)))


def test_blocks_of_mostly_invalid_time_do_not_count():
    """A block counts if both books are valid for half of its seconds."""
    sums = counted({0: 50}, {0: 50}, range(8))
    sums.instants[3:6] = 149
    assert [] == list(distances(sums))


def test_draws_are_the_same_every_time():
    """The same blocks have the same floor: the draws begin with a number of their own."""
    random = np.random.default_rng(3)
    counts = [{0: int(k), 1: 100 - int(k)} for k in random.integers(1, 100, 20)]
    sums = counted(lambda block: counts[block], lambda block: counts[block], range(20))
    assert list(distances(sums)) == list(distances(sums))

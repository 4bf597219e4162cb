"""How far the distributions of two books are apart, against how far the golden one is from itself.

Each figure of a book is counted in histograms of five-minute blocks. The noise floor is the
distance between the golden book's odd blocks and its even ones, the 95 % quantile over draws of
blocks with replacement from either half: neighbouring values depend on each other, so blocks are
drawn and not values, and there is no p-value, which would reject two samples of one process.

Sources: Kolmogorov-Smirnov D = sup|F - G|; Wasserstein-1 = integral of |F - G| dx, over the golden
interquartile range; total variation = 1/2 sum |p - q|; PSI = sum (p - q) ln(p / q). The last two
are taken over golden deciles, values of a tenth or more being bins of their own; PSI's empty bins
hold half a count (Yurdakul and Naranjo 2020). Blocks: Politis and Romano 1994.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market_pipeline.quality.fidelity.grid_kernel import (
    BINS,
    BLOCK_NS,
    EXACT_BINS,
    ZERO_BIN,
    Sampled,
    Sums,
)
from market_pipeline.quality.intervals import NS_PER_SECOND, BoolArray, FloatArray

__all__ = ["DISTANCES", "MIN_BLOCKS", "Distance", "bin_values", "distances", "usable_blocks"]

DISTANCES = ("ks", "wasserstein", "total_variation", "psi")
MIN_BLOCKS = 6
"""With fewer blocks, half an hour, the floor would be a guess."""
_LEAST_SHARE = 0.5
_DRAWS = 200
_QUANTILE = 0.95
_SEED = 20140
_LEAST_FLOOR = 1e-3
_ATOM = 0.1
_BLOCK_SECONDS = BLOCK_NS // NS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Distance:
    """One distance between the distributions of one figure.

    Attributes:
        figure: What is distributed, such as `spread`.
        kind: One of `DISTANCES`.
        value: Between the two books.
        floor: Between the golden book and itself; at least 0.001, so that a figure that never
            changes in the golden book may differ in a thousandth.
        samples: Values of the golden book.
    """

    figure: str
    kind: str
    value: float
    floor: float
    samples: int


def usable_blocks(sums: Sums) -> BoolArray:
    """The five-minute blocks of which both books are valid for half of the seconds or more."""
    return sums.instants >= _LEAST_SHARE * _BLOCK_SECONDS


def distances(sums: Sums) -> Iterator[Distance]:
    """The distances of every figure that has values; none with fewer than `MIN_BLOCKS` blocks."""
    blocks = np.flatnonzero(usable_blocks(sums))
    if len(blocks) < MIN_BLOCKS:
        return
    odd, even = blocks[blocks % 2 == 1], blocks[blocks % 2 == 0]
    if not (len(odd) and len(even)):
        return
    for figure in Sampled:
        golden, other = (sums.histograms[book, figure][blocks].sum(axis=0) for book in (0, 1))
        if not (golden.sum() and other.sum()):
            continue
        measure = _Measure(golden)
        drawn = _draws(sums.histograms[0, figure], odd, even, measure)
        if not len(drawn):
            continue
        floors = np.quantile(drawn, _QUANTILE, 0)
        found = measure.between(golden[None], other[None])[0]
        for kind, value, floor in zip(DISTANCES, found.tolist(), floors.tolist(), strict=True):
            yield Distance(
                figure.name.lower(), kind, value, max(floor, _LEAST_FLOOR), int(golden.sum())
            )


def _draws(
    histograms: NDArray[np.uint32], odd: NDArray[np.intp], even: NDArray[np.intp], measure: _Measure
) -> FloatArray:
    """The distances between draws of odd and of even blocks, shape (draws, distances)."""
    random = np.random.default_rng(_SEED)  # the same draws for the same day, whenever it is made
    halves = []
    for half in (odd, even):
        counts = random.multinomial(len(half), np.full(len(half), 1 / len(half)), _DRAWS)
        halves.append(counts @ histograms[half].astype(np.float64))
    has_values = (halves[0].sum(1) > 0) & (halves[1].sum(1) > 0)
    return measure.between(halves[0][has_values], halves[1][has_values])


class _Measure:
    """The distances of one figure, in the scale and the bins of the golden book's histogram."""

    def __init__(self, golden: NDArray[np.integer]) -> None:
        share = golden / golden.sum()
        below = np.cumsum(share)
        values = bin_values()
        first, third = np.searchsorted(below, (0.25, 0.75))
        scale = float(values[third] - values[first])
        if scale == 0:
            mean = float(share @ values)
            scale = float(np.sqrt(share @ (values - mean) ** 2)) or 1.0
        self._steps = np.diff(values) / scale
        cuts = np.searchsorted(below, np.arange(0.1, 0.95, 0.1)) + 1
        atoms = np.flatnonzero(share >= _ATOM)
        edges = np.unique(np.concatenate([[0], cuts, atoms, atoms + 1]))
        self._edges = edges[edges < BINS]

    def between(self, one: NDArray[np.generic], other: NDArray[np.generic]) -> FloatArray:
        """The distances between histograms, shape (pairs, bins); result (pairs, distances)."""
        counts = [np.asarray(each, np.float64) for each in (one, other)]
        totals = [each.sum(1, keepdims=True) for each in counts]
        below = [np.cumsum(each, 1) / total for each, total in zip(counts, totals, strict=True)]
        apart = np.abs(below[0] - below[1])
        binned = [np.add.reduceat(each, self._edges, axis=1) for each in counts]
        shares = [each / total for each, total in zip(binned, totals, strict=True)]
        floored = [
            np.maximum(each, 0.5 / total) for each, total in zip(shares, totals, strict=True)
        ]
        return np.stack(
            [
                apart.max(1),
                (apart[:, :-1] * self._steps).sum(1),
                0.5 * np.abs(shares[0] - shares[1]).sum(1),
                ((floored[0] - floored[1]) * np.log(floored[0] / floored[1])).sum(1),
            ],
            axis=1,
        )


def bin_values() -> FloatArray:
    """The value that stands for each bin: itself up to 63, and else the middle of the bin."""
    half = EXACT_BINS // 2
    places = np.arange(BINS - ZERO_BIN)
    shift = np.maximum(places - EXACT_BINS, 0) // half + 1
    low = (half + (places - EXACT_BINS) % half) * 2.0**shift
    values = np.where(places < EXACT_BINS, places, low + (2.0**shift - 1) / 2)
    negative = -values[1:][::-1]
    # The lowest bin takes what is beyond the others, as the highest does.
    return np.concatenate([[negative[0]], negative, values])

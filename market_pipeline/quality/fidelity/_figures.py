"""The graded figures of a comparison, made of what its kernels added up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Literal, NamedTuple

from market_pipeline.books.scale import Scale
from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.config.fidelity import Fidelity
from market_pipeline.quality.fidelity.books import Units
from market_pipeline.quality.fidelity.distributions import distances
from market_pipeline.quality.fidelity.grid_kernel import GRIDS_MS, Error, Span, Sums
from market_pipeline.quality.fidelity.match_kernel import Count, First, Run, Tallies
from market_pipeline.quality.fidelity.matching import Shift
from market_pipeline.quality.fidelity.report import FidelityMetric, Grade
from market_pipeline.quality.intervals import NS_PER_SECOND

__all__ = [
    "Measured",
    "distance_figures",
    "grid_figures",
    "match_figures",
    "shift_figures",
    "time_figures",
]

_SIDES: tuple[Literal["bid", "ask"], ...] = ("bid", "ask")
_NS_PER_MS = 1e6
_WARN_RATIO = 2.0


class Seconds(NamedTuple):
    """How much time is common, and which of it is valid."""

    start_ns: int | None
    common_seconds: float
    both_valid_seconds: float
    golden_only_seconds: float
    other_only_seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a pair before it is graded.

    Attributes:
        tallies, sums: What the kernels added up.
        tick, lot: Of the golden book.
        units: By how much its ticks and lots were multiplied.
        rule: The bounds.
    """

    tallies: Tallies
    sums: Sums
    tick: Scale
    lot: Scale
    units: Units
    rule: Fidelity

    @property
    def seconds(self) -> Seconds:
        """How much time is common, and which of it is valid."""
        span = self.sums.span
        has_common = bool(span[Span.BOTH_BEGUN])
        common = int(span[Span.NOW] - span[Span.START]) if has_common else 0
        return Seconds(
            int(span[Span.START]) if has_common else None,
            common / NS_PER_SECOND,
            *(
                int(span[each]) / NS_PER_SECOND
                for each in (Span.BOTH_VALID, Span.GOLDEN_ONLY, Span.OTHER_ONLY)
            ),
        )

    @property
    def has_depth(self) -> bool:
        """Whether any message has more than the best level in both books."""
        tallies = self.tallies
        deeper = tallies.compared[1:].sum() + tallies.unconfirmed[1:].sum()
        return bool(deeper or self.sums.errors[:, Error.WITH_DEPTH].any())

    def price(self, value: int) -> float:
        """A price in quote currency."""
        return float(self.tick.step * int(value) / self.units.price)

    def size(self, value: int) -> float:
        """A size in base units or contracts."""
        return float(self.lot.step * int(value) / self.units.size)


def match_figures(measured: Measured) -> Iterator[FidelityMetric]:
    """The figures of messages that were paired by number."""
    counts, rule = measured.tallies.counts, measured.rule
    golden = int(counts[Count.MATCHED] + counts[Count.ONLY_GOLDEN])
    for name, which, place in (
        ("missing_messages", Count.ONLY_GOLDEN, 0),
        ("added_messages", Count.ONLY_OTHER, 1),
    ):
        found = int(counts[which])
        first_number, first_ns = measured.tallies.only[place].tolist()
        yield _graded(
            FidelityMetric(
                metric=name,
                value=found / golden,
                samples=golden,
                differing=found,
                first_number=first_number if found else None,
                first_ns=first_ns if found else None,
            ),
            rule.missing_share,
        )
    for level in range(DEPTH_LEVELS):
        for side in range(2):
            yield from _level_figures(measured, level, side)


def shift_figures(
    rule: Fidelity,
    receipt: Shift | None,
    exchange: Shift | None,
    *,
    by_number: bool,
    with_exchange: bool,
) -> Iterator[FidelityMetric]:
    """How far the clocks are apart; exchange times count where both books have them."""
    if exchange is not None and with_exchange:
        shift_ms = abs(exchange.median_ns) / _NS_PER_MS
        # The same message has one exchange time. Of unlike streams one may show a touch later.
        worst: Grade = "fail" if by_number else "warn"
        yield _graded(_of_shift("exchange_shift_ms", shift_ms), rule.exchange_shift_ms, worst)
    if receipt is not None:
        # The book of a host whose clock is set differently is none the worse for it.
        shift_ms = abs(receipt.median_ns) / _NS_PER_MS
        yield _graded(_of_shift("receipt_shift_ms", shift_ms), rule.receipt_shift_ms, "warn")


def _of_shift(name: str, shift_ms: float) -> FidelityMetric:
    # Below a microsecond it is the grain of a vendor's stamps.
    return FidelityMetric(metric=name, value=shift_ms if shift_ms >= 1e-3 else 0.0)


def _level_figures(measured: Measured, level: int, side: int) -> Iterator[FidelityMetric]:
    """How often one level differs, where both books know that it is that level and where not."""
    tallies = measured.tallies
    compared, differs = int(tallies.compared[level, side]), int(tallies.differs[level, side])
    if compared:
        first, run = tallies.first[level, side], tallies.runs[level, side]
        metric = FidelityMetric(
            metric="level_mismatch",
            level=level + 1,
            side=_SIDES[side],
            value=differs / compared,
            samples=compared,
            differing=differs,
            price_differing=int(tallies.price_differs[level, side]),
            runs=int(run[Run.COUNT]),
            longest_run=int(run[Run.LONGEST]),
        )
        if differs:
            metric = _with_place(metric, measured, first.tolist(), run.tolist())
        yield _graded(metric, measured.rule.mismatch_share)
    unsure = int(tallies.unconfirmed[level, side])
    if unsure:
        differs = int(tallies.unconfirmed_differs[level, side])
        yield FidelityMetric(
            metric="unconfirmed_level_mismatch",
            level=level + 1,
            side=_SIDES[side],
            value=differs / unsure,
            samples=unsure,
            differing=differs,
        )


def _with_place(
    metric: FidelityMetric, measured: Measured, first: list[int], run: list[int]
) -> FidelityMetric:
    """The figure with its first divergence and its longest run."""
    golden, other = first[First.GOLDEN_SIZE], first[First.OTHER_SIZE]
    seconds = (run[Run.LONGEST_END_NS] - run[Run.LONGEST_START_NS]) / NS_PER_SECOND
    return replace(
        metric,
        longest_run_number=run[Run.LONGEST_NUMBER],
        longest_run_seconds=seconds,
        first_number=first[First.NUMBER],
        first_ns=first[First.RECEIPT_NS],
        golden_price=measured.price(first[First.GOLDEN_PRICE]) if golden else None,
        golden_size=measured.size(golden) if golden else None,
        other_price=measured.price(first[First.OTHER_PRICE]) if other else None,
        other_size=measured.size(other) if other else None,
    )


def time_figures(measured: Measured) -> Iterator[FidelityMetric]:
    """How much of the time in which the golden book is valid the other one is not."""
    seconds = measured.seconds
    golden = seconds.both_valid_seconds + seconds.golden_only_seconds
    if golden:
        lost = seconds.golden_only_seconds
        first_ns = int(measured.sums.span[Span.FIRST_GOLDEN_ONLY]) if lost else None
        metric = FidelityMetric(metric="unpaired_time", value=lost / golden, first_ns=first_ns)
        yield _graded(metric, measured.rule.unpaired_share)


def grid_figures(measured: Measured) -> Iterator[FidelityMetric]:
    """The errors on the time grids, in golden ticks, and of sizes as shares."""
    for grid, grid_ms in enumerate(GRIDS_MS):
        errors = measured.sums.errors[grid].tolist()
        instants, paired = int(errors[Error.INSTANTS]), int(errors[Error.PAIRED])
        if not instants:
            continue
        one_sided = FidelityMetric(
            metric="one_sided",
            grid_ms=grid_ms,
            value=errors[Error.ONE_SIDED] / instants,
            samples=instants,
            differing=int(errors[Error.ONE_SIDED]),
        )
        yield _graded(one_sided, measured.rule.unpaired_share)
        if paired:
            yield from _price_figures(measured, grid, paired)
        yield from _size_figures(measured, grid)


def _price_figures(measured: Measured, grid: int, paired: int) -> Iterator[FidelityMetric]:
    """The errors of mid and spread where both books have two sides."""
    rule, errors = measured.rule, measured.sums.errors[grid].tolist()
    worst_ns = int(measured.sums.most_ns[grid]) if errors[Error.MID_MOST] else None
    of_mid = 2 * measured.units.price  # mids were added up in half ticks
    for name, value, bound in (
        ("mid_rms_ticks", sqrt(errors[Error.MID_SQUARES] / paired) / of_mid, rule.mid_rms_ticks),
        ("mid_max_ticks", errors[Error.MID_MOST] / of_mid, rule.mid_max_ticks),
        (
            "spread_rms_ticks",
            sqrt(errors[Error.SPREAD_SQUARES] / paired) / measured.units.price,
            rule.spread_rms_ticks,
        ),
        ("spread_max_ticks", errors[Error.SPREAD_MOST] / measured.units.price, None),
    ):
        metric = FidelityMetric(
            metric=name,
            grid_ms=GRIDS_MS[grid],
            value=value,
            samples=paired,
            first_ns=worst_ns if name == "mid_max_ticks" else None,
        )
        yield metric if bound is None else _graded(metric, bound)


def _size_figures(measured: Measured, grid: int) -> Iterator[FidelityMetric]:
    """The summed size error of each level over the summed golden sizes."""
    sums = measured.sums
    for level in range(DEPTH_LEVELS):
        instants = int(sums.errors[grid, Error.INSTANTS if level == 0 else Error.WITH_DEPTH])
        for side in range(2):
            error, size = (
                float(sums.size_errors[grid, level, side]),
                float(sums.sizes[grid, level, side]),
            )
            if error or size:
                metric = FidelityMetric(
                    metric="size_error",
                    level=level + 1,
                    side=_SIDES[side],
                    grid_ms=GRIDS_MS[grid],
                    value=error / size if size else inf,
                    samples=instants,
                )
                yield _graded(metric, measured.rule.size_error_share)


def distance_figures(measured: Measured) -> Iterator[FidelityMetric]:
    """The distances of distributions, each against the golden book's distance from itself."""
    for found in distances(measured.sums):
        metric = FidelityMetric(
            metric=f"{found.figure}_{found.kind}", value=found.value, samples=found.samples
        )
        yield _graded(metric, found.floor)


def _graded(metric: FidelityMetric, bound: float, worst: Grade = "fail") -> FidelityMetric:
    ratio = metric.value / bound if bound else (inf if metric.value else 0.0)
    grade: Grade = "pass" if ratio <= 1 else "warn" if ratio <= _WARN_RATIO else worst
    return replace(metric, bound=bound, ratio=ratio, grade=grade)

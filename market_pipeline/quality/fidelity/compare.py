"""Compares two books and grades every figure; the worst grade is the pair's, never a mean.

A figure is graded by its ratio to its bound: up to 1 it passes, up to 2 it warns, above it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from market_pipeline.config.fidelity import Fidelity
from market_pipeline.quality.fidelity._figures import (
    Measured,
    distance_figures,
    grid_figures,
    match_figures,
    shift_figures,
    time_figures,
)
from market_pipeline.quality.fidelity.books import BookRows, ComparedBook, shared_units
from market_pipeline.quality.fidelity.clock_shift import MIN_TOUCHES, touch_shifts
from market_pipeline.quality.fidelity.distributions import MIN_BLOCKS, usable_blocks
from market_pipeline.quality.fidelity.match_kernel import Count, Tallies
from market_pipeline.quality.fidelity.matching import Shift, match_books, shift_of
from market_pipeline.quality.fidelity.pairing import Clock, pair_books
from market_pipeline.quality.fidelity.report import (
    Comparison,
    FidelityMetric,
    FidelityPair,
    Grade,
)

__all__ = ["compare_books"]

_COMPARABLE_SHARE = 0.1
_GRADES: tuple[Grade, ...] = ("pass", "warn", "fail")


def compare_books(
    golden: ComparedBook,
    other: ComparedBook,
    rule: Fidelity,
    progress: Callable[[str, int], None] = lambda _stage, _messages: None,
) -> Comparison:
    """Compares a book with a golden one of the same instrument and span.

    Both are read twice, in batches, and memory does not grow with them: the first time their
    messages are paired by number, which also shows how far their clocks are apart, the second time
    they are walked through side by side in time. Where their numbers are not comparable, they are
    read once more in between, for what both books came to.

    Args:
        golden: The book that is right.
        other: The book that is measured.
        rule: The bounds.
        progress: Called with what is done and how many messages of both books were read for it.

    Raises:
        DomainError: A price or size is too large for the unit that both books share.
    """
    units = shared_units(golden, other)
    clocks = _Clocks()

    def read(number: int, stage: str) -> Iterator[BookRows]:
        for rows in (golden, other)[number].read():
            progress(stage, rows.flags.size)
            yield units[number].applied(clocks.seen(number, rows))

    tallies = match_books(read(0, "messages"), read(1, "messages"))
    by_number = _comparable(tallies)
    shifts = (
        (shift_of(tallies, 0), shift_of(tallies, 1))
        if by_number
        else touch_shifts(read(0, "touch"), read(1, "touch"))
    )
    clock = clocks.shared
    shift = shifts[1 if clock == "exchange" else 0]
    sums = pair_books(read(0, "time"), read(1, "time"), clock, shift.median_ns if shift else 0)
    measured = Measured(tallies, sums, golden.tick, golden.lot, units[0], rule)
    metrics = [
        *(match_figures(measured) if by_number else ()),
        *shift_figures(rule, *shifts, by_number=by_number, with_exchange=clock == "exchange"),
        *time_figures(measured),
        *grid_figures(measured),
        *distance_figures(measured),
    ]
    pair = _pair(golden.name, measured, metrics, by_number, clock, shifts)
    return Comparison(other.name, pair, metrics)


@dataclass(slots=True)
class _Clocks:
    """Whether each book has exchange times that are not just those of receipt."""

    has_exchange: list[bool] = field(default_factory=lambda: [False, False])

    def seen(self, book: int, rows: BookRows) -> BookRows:
        """Looks at rows and gives them back."""
        if not self.has_exchange[book]:
            self.has_exchange[book] = bool((rows.ts_origin_ns != rows.ts_receipt_ns).any())
        return rows

    @property
    def shared(self) -> Clock:
        """Exchange time where both have it."""
        return "exchange" if all(self.has_exchange) else "receipt"


def _comparable(tallies: Tallies) -> bool:
    """Whether the numbers of both books are of one kind: a tenth of the fewer is in both."""
    counts = tallies.counts
    fewer = counts[Count.MATCHED] + min(counts[Count.ONLY_GOLDEN], counts[Count.ONLY_OTHER])
    return bool(counts[Count.MATCHED] > 0 and counts[Count.MATCHED] >= _COMPARABLE_SHARE * fewer)


def _pair(
    golden: str,
    measured: Measured,
    metrics: list[FidelityMetric],
    by_number: bool,
    clock: Clock,
    shifts: tuple[Shift | None, Shift | None],
) -> FidelityPair:
    """The row of the pair, graded by its worst figure."""
    seconds = measured.seconds
    # Messages that are all there say nothing of a book that is never right.
    is_known = seconds.both_valid_seconds + seconds.golden_only_seconds > 0
    graded = [each for each in metrics if each.grade is not None and is_known]
    worst = max(
        graded, key=lambda each: (_GRADES.index(each.grade or "pass"), each.ratio), default=None
    )
    blocks = int(usable_blocks(measured.sums).sum())
    counts = measured.tallies.counts if by_number else measured.tallies.counts * 0
    pair = FidelityPair(
        golden=golden,
        grade=None if worst is None else worst.grade,
        reason=_reason(worst),
        notes=tuple(_notes(measured, by_number, clock, shifts, blocks)),
        worst_metric=None if worst is None else worst.title,
        worst_ratio=None if worst is None else worst.ratio,
        matched_by="number" if by_number else "time",
        clock=clock,
        matched=int(counts[Count.MATCHED]),
        compared=int(counts[Count.COMPARED]),
        golden_invalid=int(counts[Count.GOLDEN_INVALID]),
        other_invalid=int(counts[Count.OTHER_INVALID]),
        only_golden=int(counts[Count.ONLY_GOLDEN]),
        only_other=int(counts[Count.ONLY_OTHER]),
        **seconds._asdict(),
        **{
            f"{clock_name}_shift{part}_ns": getattr(shift, attribute)
            for clock_name, shift in zip(("receipt", "exchange"), shifts, strict=True)
            if shift is not None
            for part, attribute in (("", "median_ns"), ("_p01", "low_ns"), ("_p99", "high_ns"))
        },
        blocks=blocks,
    )
    return _with_first_divergence(pair, metrics)


def _with_first_divergence(pair: FidelityPair, metrics: list[FidelityMetric]) -> FidelityPair:
    found = [each for each in metrics if each.metric == "level_mismatch" and each.differing]
    if not found:
        return pair
    first = min(found, key=lambda each: (each.first_ns or 0, each.level or 0))
    return replace(
        pair,
        first_divergence_number=first.first_number,
        first_divergence_ns=first.first_ns,
        first_divergence_level=first.level,
        first_divergence_side=first.side,
    )


def _reason(worst: FidelityMetric | None) -> str:
    if worst is None:
        return "Nothing could be compared: there is no instant at which the golden book is valid."
    if worst.ratio == 0:
        return "The books are equal in every figure that has a bound."
    where = "within" if worst.grade == "pass" else "beyond"
    return f"{worst.title} is {where} its bound: {worst.value:.6g} of {worst.bound:.6g}."


def _notes(
    measured: Measured,
    by_number: bool,
    clock: Clock,
    shifts: tuple[Shift | None, Shift | None],
    blocks: int,
) -> Iterator[str]:
    """What could not be compared, and why."""
    if not by_number:
        yield (
            "The numbers of the messages are not comparable, so the books are compared on time "
            "grids only."
        )
        if shifts == (None, None):
            yield (
                f"Fewer than {MIN_TOUCHES} touches are in both books exactly once, so a shift "
                "between their clocks is not known."
            )
    if clock == "receipt":
        yield "A book has no exchange times of its own, so the grids are of receipt times."
    if blocks < MIN_BLOCKS:
        yield (
            f"Five-minute blocks of valid time: {blocks}. At least {MIN_BLOCKS} are needed to know "
            "how far the golden book is from itself: distributions are not compared."
        )
    if not measured.has_depth:
        yield "No message has its depth in both books, so only the best level is compared."

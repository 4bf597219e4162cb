from __future__ import annotations

from math import inf

import numpy as np
import pytest

from market_pipeline.books.flags import BookFlag
from market_pipeline.config.fidelity import Fidelity
from market_pipeline.errors import DomainError
from market_pipeline.quality.fidelity.compare import compare_books
from market_pipeline.quality.fidelity.report import Comparison
from market_pipeline_tests.quality.fidelity.made_books import (
    MS,
    book_rows,
    compared_book,
    taken,
    walked_rows,
)

# Seven blocks of five minutes, of 100 ms a message.
DAY = walked_rows(21_000)
SPAN = slice(3_000, 3_300)


def compare(other, golden=DAY, rule=None, **steps) -> Comparison:
    return compare_books(
        compared_book(golden, cut=5_000),
        compared_book(other, cut=7_001, **steps),
        rule or Fidelity(),
    )


def worst(found: Comparison) -> dict[str, float]:
    """By name the highest ratio of the figures that do not pass."""
    ratios: dict[str, float] = {}
    for each in found.metrics:
        if each.grade not in (None, "pass"):
            ratios[each.metric] = max(ratios.get(each.metric, 0.0), each.ratio)
    return ratios


def with_touch(rows, which, change):
    """Rows of which some messages have other best levels, in the touch and in the depth."""
    touch, levels = rows.touch.copy(), rows.levels.copy()
    change(touch[which])
    levels[which, 0] = touch[which]
    return rows._replace(touch=touch, levels=levels)


def test_a_day_against_itself_passes_with_0_everywhere():
    """Every figure of a book against itself is 0, those of distributions among them."""
    found = compare(DAY)
    assert "pass" == found.pair.grade
    assert {0.0} == {each.value for each in found.metrics}
    assert (21_000, 21_000, 0, 0) == (
        found.pair.matched,
        found.pair.compared,
        found.pair.only_golden,
        found.pair.only_other,
    )
    assert (7, (), None) == (found.pair.blocks, found.pair.notes, found.pair.first_divergence_ns)
    assert 40 == sum(each.metric == "level_mismatch" for each in found.metrics)
    assert 28 == sum(
        each.metric.endswith(("_ks", "_wasserstein", "_variation", "_psi"))
        for each in found.metrics
    )


def test_a_stale_span():
    """A book that stands still for 30 s fails from its first stale message on, in one run."""
    stale = DAY._replace(touch=DAY.touch.copy(), levels=DAY.levels.copy())
    stale.touch[SPAN], stale.levels[SPAN] = stale.touch[SPAN.start], stale.levels[SPAN.start]
    found = compare(stale)
    assert "fail" == found.pair.grade
    assert {"level_mismatch", "mid_rms_ticks", "size_error"} <= worst(found).keys()
    assert SPAN.start + 1 < found.pair.first_divergence_number <= SPAN.start + 3
    longest = max(each.longest_run or 0 for each in found.metrics)
    assert 290 < longest < 300


def test_dropped_messages():
    """Messages that are gone are counted and located; half of a hundredth is beyond the bound."""
    kept = np.delete(np.arange(21_000), np.arange(5_000, 5_105))
    found = compare(taken(DAY, kept))
    (missing,) = (each for each in found.metrics if each.metric == "missing_messages")
    assert (105, 5_001, "fail") == (missing.differing, missing.first_number, missing.grade)
    assert 105 == found.pair.only_golden
    assert 0 == sum(each.differing for each in found.metrics if each.metric == "level_mismatch")


def test_a_receipt_clock_that_is_set_otherwise_is_a_warning_and_no_more():
    """The shift is estimated, the books are equal, and only beyond its bound it is remarked."""
    for shift_ms, grade in ((50, "pass"), (1_270, "warn")):
        shifted = DAY._replace(ts_receipt_ns=DAY.ts_receipt_ns + shift_ms * MS)
        found = compare(shifted)
        assert (grade, shift_ms * MS, 0) == (
            found.pair.grade,
            found.pair.receipt_shift_ns,
            found.pair.exchange_shift_ns,
        )
        assert 0 == max(each.value for each in found.metrics if each.grid_ms)


def test_exchange_times_that_are_shifted_fail():
    """The same message has one exchange time; the grids are laid as if it had."""
    found = compare(DAY._replace(ts_origin_ns=DAY.ts_origin_ns + 250 * MS))
    assert {"exchange_shift_ms": 250.0} == worst(found)
    assert ("fail", 250 * MS) == (found.pair.grade, found.pair.exchange_shift_ns)


def test_without_exchange_times_the_grids_are_of_receipt():
    """Where one book knows only receipt times, the clocks are brought together by their shift."""
    received = DAY.ts_receipt_ns + 40 * MS
    found = compare(DAY._replace(ts_origin_ns=received, ts_receipt_ns=received))
    assert ("pass", "receipt", 40 * MS) == (
        found.pair.grade,
        found.pair.clock,
        found.pair.receipt_shift_ns,
    )
    assert 1 == len(found.pair.notes)


def test_rounded_prices():
    """Prices rounded to a coarser tick fail, in units that both ticks are whole of."""
    rounded = DAY._replace(touch=DAY.touch.copy(), levels=DAY.levels.copy())
    for values in (rounded.touch, rounded.levels):
        values[..., 0] = values[..., 0] // 10
        values[..., 2] = -(-values[..., 2] // 10)
    found = compare(rounded, tick="1")
    assert "fail" == found.pair.grade
    assert {"level_mismatch", "mid_rms_ticks", "spread_rms_ticks"} <= worst(found).keys()
    first = next(each for each in found.metrics if each.metric == "level_mismatch")
    assert first.golden_price == pytest.approx(float(DAY.touch[first.first_number - 1, 0]) / 10)


def test_steps_that_only_differ_in_spelling_are_equal():
    """A book in a tick and lot ten times finer is the same book."""
    finer = DAY._replace(touch=DAY.touch * 10, levels=DAY.levels * 10)
    found = compare(finer, tick="0.01", lot="0.0001")
    assert ("pass", {0.0}) == (found.pair.grade, {each.value for each in found.metrics})


def test_scaled_sizes_of_one_level():
    """Sizes of the third ask that are half too large are found there, and nowhere else."""
    levels = DAY.levels.copy()
    levels[:, 2, 3] = levels[:, 2, 3] * 2
    found = compare(DAY._replace(levels=levels))
    failed = [each for each in found.metrics if each.grade == "fail"]
    assert {("level_mismatch", 3, "ask"), ("size_error", 3, "ask")} == {
        (each.metric, each.level, each.side)
        for each in failed
        if not each.metric.startswith("depth_20")
    }
    (size, _) = (each for each in failed if each.metric == "size_error")
    assert (1.0, 0) == (size.value, failed[0].price_differing)
    assert ("fail", 3, "ask") == (
        found.pair.grade,
        found.pair.first_divergence_level,
        found.pair.first_divergence_side,
    )


def test_a_crossed_span_is_time_without_a_book():
    """A book flagged as crossed is not compared; its time is missing where the golden is valid."""
    flags = DAY.flags.copy()
    flags[SPAN] = int(BookFlag.CROSSED)
    found = compare(DAY._replace(flags=flags))
    (lost,) = (each for each in found.metrics if each.metric == "unpaired_time")
    assert ("fail", int(DAY.ts_origin_ns[SPAN.start])) == (lost.grade, lost.first_ns)
    assert lost.value == pytest.approx(300 / 20_999)
    assert 300 == found.pair.other_invalid


def test_a_crossed_span_that_nobody_flagged():
    """One that is crossed and counts as valid differs from the golden book."""
    found = compare(with_touch(DAY, SPAN, lambda touch: touch.__setitem__((..., 0), 70_000)))
    assert "fail" == found.pair.grade
    assert {"level_mismatch", "mid_max_ticks"} <= worst(found).keys()


def test_one_side_missing():
    """A side that is empty in the other book differs, and has no mid to be compared."""
    found = compare(with_touch(DAY, SPAN, lambda touch: touch.__setitem__((..., slice(2, 4)), 0)))
    assert {"level_mismatch", "one_sided"} <= worst(found).keys()
    (first,) = (
        each
        for each in found.metrics
        if (each.metric, each.level, each.side) == ("level_mismatch", 1, "ask")
    )
    assert (None, None, 300) == (first.other_price, first.other_size, first.differing)
    assert first.golden_size is not None


def test_numbers_of_another_kind_leave_the_time_grids():
    """Where ids cannot be paired the report says so, and the grids still find what differs."""
    numbered = DAY._replace(sequence_number=DAY.ts_origin_ns)
    equal = compare(numbered)
    assert ("pass", "time", 0) == (equal.pair.grade, equal.pair.matched_by, equal.pair.matched)
    assert "not comparable" in equal.pair.notes[0]
    different = with_touch(numbered, SPAN, lambda touch: touch.__setitem__((..., 0), 50_000))
    assert "fail" == compare(different).pair.grade


@pytest.mark.parametrize("seed", range(3))
def test_two_honest_captures_pass(seed):
    """Two captures of one market, each with its own losses, snapshot after each, network and clock.

    What is left differs by time that only one knows: the levels agree wherever both are valid, and
    every distribution is within the golden one's own noise.
    """

    def captured(seed):
        random = np.random.default_rng(seed)
        rows = DAY._replace(
            ts_receipt_ns=DAY.ts_receipt_ns + random.integers(0, 20 * MS, 21_000) + seed * MS,
            flags=DAY.flags.copy(),
        )
        kept = np.ones(21_000, np.bool_)
        for lost in random.integers(100, 20_900, 2):
            kept[lost] = False
            rows.flags[lost : lost + 5] = int(BookFlag.GAP)
        return taken(rows, kept)

    found = compare(captured(2 * seed + 1), captured(2 * seed))
    graded = [each for each in found.metrics if each.grade is not None]
    distances = [each for each in graded if each.metric.startswith(("spread_ks", "mid_return"))]
    assert ("pass", 0) == (
        found.pair.grade,
        sum(each.differing for each in graded if each.metric == "level_mismatch"),
    )
    assert 0 < found.pair.worst_ratio < 1
    assert 5 == len(distances) and max(each.ratio for each in distances) < 0.2


def test_a_short_span_has_no_verdict_from_distributions():
    """With fewer than six blocks no distance is given, and a note says why."""
    short = taken(DAY, slice(0, 9_000))
    found = compare(short, short)
    assert ("pass", 3) == (found.pair.grade, found.pair.blocks)
    assert "distributions are not compared" in found.pair.notes[0]
    assert not any(each.metric.endswith("_ks") for each in found.metrics)


def test_another_market_of_the_same_law_is_within_the_floor_of_distributions():
    """Another draw of one process: messages differ, and its distributions are about as far apart
    as the golden book's own halves.
    """
    found = compare(walked_rows(21_000, seed=2))
    spread = {
        each.metric: each.ratio for each in found.metrics if each.metric.startswith("spread_")
    }
    assert max(spread[f"spread_{kind}"] for kind in ("ks", "wasserstein", "total_variation")) < 2
    assert "fail" == found.pair.grade


def test_a_changed_law_is_beyond_the_floor():
    """A spread that is a tick wider than the golden one is far beyond what its halves differ by."""
    wider = with_touch(DAY, slice(None), lambda touch: touch.__iadd__([0, 0, 1, 0]))
    assert worst(compare(wider))["spread_ks"] > 5


@pytest.mark.parametrize("empty", ["golden", "other", "both"])
def test_a_book_without_messages(empty):
    """Nothing is comparable, and that is said instead of a grade."""
    none = book_rows([])
    golden, other = (none if empty in (name, "both") else DAY for name in ("golden", "other"))
    found = compare(other, golden)
    assert (None, [], 0.0) == (found.pair.grade, found.metrics, found.pair.common_seconds)
    assert "Nothing could be compared" in found.pair.reason


def test_a_golden_book_that_is_never_valid():
    """Nothing is graded against a book that nobody trusts."""
    invalid = np.full(21_000, int(BookFlag.NOT_SEEDED), np.uint16)
    found = compare(DAY, DAY._replace(flags=invalid))
    assert not [each for each in found.metrics if each.grade == "fail"]
    assert (None, 0.0, 21_000) == (
        found.pair.grade,
        found.pair.both_valid_seconds,
        found.pair.matched,
    )


def test_a_bound_of_0_allows_nothing():
    """A figure above a bound of 0 has an infinite ratio and fails; 0 passes."""
    touched = with_touch(DAY, slice(5, 6), lambda touch: touch.__iadd__([0, 1, 0, 0]))
    found = compare(touched, rule=Fidelity(mismatch_share=0.0, size_error_share=1.0))
    assert ("fail", inf) == (found.pair.grade, found.pair.worst_ratio)
    assert "pass" == compare(DAY, rule=Fidelity(mismatch_share=0.0)).pair.grade


def test_values_without_room_in_the_shared_unit_are_refused():
    """Steps so different that a size has no room in 64 bits are an error and no overflow."""
    large = book_rows([(99, 2**45, 101, 5)] * 3)
    with pytest.raises(DomainError, match="too large for the unit"):
        compare(large, large, lot="0.000000000000007")


def test_a_book_whose_clock_runs_back():
    """Times that fall stand still on the grids, and the numbers still pair the messages."""
    origin = DAY.ts_origin_ns.copy()
    origin[10_000:10_010] -= 3_000 * MS
    found = compare(DAY._replace(ts_origin_ns=origin))
    assert 21_000 == found.pair.compared
    assert 0 == sum(each.differing for each in found.metrics if each.metric == "level_mismatch")

"""Which places are kept where there are too many, against a plain sort."""

from __future__ import annotations

from datetime import date

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.quality.figures.book import RebuildFigures
from market_pipeline.quality.findings import (
    FINDINGS,
    MAX_PLACES,
    Finding,
    Measured,
    chosen_places,
    first_and_worst,
    first_marked,
    merged,
)


def finding(check="gap", place="further", **changes):
    """A finding of a check."""
    return Finding(check=check, place=place, note="A note.", **changes)


@given(st.lists(st.integers(0, 50), max_size=3 * MAX_PLACES))
def test_the_first_and_the_largest_are_chosen(sizes):
    """In order of time; the first is named so even if it is the worst, and none is shown twice."""
    chosen = chosen_places(np.array(sizes, dtype=np.int64))
    indices = [index for index, _ in chosen]
    places = dict(chosen)

    assert min(len(sizes), MAX_PLACES) == len(chosen) == len(places)
    assert sorted(indices) == indices
    if sizes:
        worst = sizes.index(max(sizes))
        assert ("first", "first" if worst == 0 else "worst") == (places[0], places[worst])
        assert {"further"} >= {places[index] for index in indices if index not in {0, worst}}
        left_out = [size for index, size in enumerate(sizes) if index not in places]
        assert all(size <= min(sizes[index] for index in indices[1:]) for size in left_out)


@given(st.integers(0, 2 * MAX_PLACES), st.data())
def test_the_first_the_worst_and_then_in_order(count, data):
    """The first, then the worst unless it is the first, then the others in order of time."""
    worst = data.draw(st.integers(0, max(count - 1, 0)))
    named = [(0, "first"), (worst, "worst")][: 1 if worst == 0 else 2]
    others = [(index, "further") for index in range(1, count) if index != worst]

    assert ([*named, *others] if count else [])[:MAX_PLACES] == first_and_worst(count, worst)


def test_the_first_of_each_kind_is_marked():
    """In the order they are given; without kinds it is the first of all."""
    assert ["first", "further"] == [place for place, _ in first_marked("ab")]
    assert [("first", 1), ("first", 2), ("further", 3)] == list(
        first_marked([1, 2, 3], lambda number: number % 2)
    )


@given(st.lists(st.integers(0, 2 * MAX_PLACES), min_size=1, max_size=4))
def test_the_first_and_the_worst_survive_the_cut(further):
    """However many further places several measurements have of a check."""
    parts = [
        Measured((RebuildFigures(rows=number),), [*(finding() for _ in range(count))])
        for number, count in enumerate(further)
    ]
    parts[-1].findings.extend([finding(place="first"), finding(place="worst")])
    parts[0].findings.append(finding("skew", "first"))
    kept = merged(parts)
    gaps = [each for each in kept.findings if each.check == "gap"]

    assert min(sum(further) + 2, MAX_PLACES) == len(gaps)
    assert {"first", "worst"} <= {each.place for each in gaps}
    assert [finding("skew", "first")] == [each for each in kept.findings if each.check == "skew"]
    assert tuple(RebuildFigures(rows=number) for number in range(len(further))) == kept.figures
    assert len(further) - 1 == kept.columns["rows"]


def test_a_finding_is_a_row_of_the_table():
    """Its fields are the columns after those that say whose day it is."""
    record = {"exchange": "BINANCE", "symbol": "BTC-USDT", "dt": date(2024, 8, 8)}
    frame = FINDINGS.frame([record | finding(ts_receipt_ns=5, row=7).as_record()])

    assert [column.name for column in FINDINGS.columns] == frame.columns
    assert {"check": "gap", "ts_receipt_ns": 5, "row": 7, "file": None} == (
        frame.select("check", "ts_receipt_ns", "row", "file").row(0, named=True)
    )

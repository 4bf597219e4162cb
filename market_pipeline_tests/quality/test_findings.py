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

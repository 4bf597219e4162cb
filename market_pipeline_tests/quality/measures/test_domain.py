"""Impossible raw values: each kind counted by rows and located, nothing raised, odd ones let be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.quality.measures.domain import VIOLATIONS, DomainCount, DomainFault
from market_pipeline.sources import parquet
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawBatch, read_raw
from market_pipeline_tests.sources.raw_files import deltas, shard, snapshots, trades

START_NS, END_NS = 1_723_075_200_000_000_000, 1_723_161_600_000_000_000
TOLERANCE_NS = 60_000_000_000
MADE = {
    DELTAS.name: (DELTAS, deltas),
    SNAPSHOTS.name: (SNAPSHOTS, snapshots),
    TRADES.name: (TRADES, trades),
}
DAY_COLUMNS = {
    SNAPSHOTS.name: {"timestamp": START_NS + 1, "receipt_timestamp": START_NS + 2},
    TRADES.name: {"timestamp": START_NS + 1, "receipt_timestamp": START_NS + 2},
}


def looked(tmp_path: Path, name: str, **columns: object) -> DomainCount:
    """What is counted over a file of a raw table with some columns replaced."""
    table, make = MADE[name]
    rows = make().num_rows
    times = {key: np.full(rows, at) for key, at in DAY_COLUMNS.get(name, {}).items()}
    file = shard(tmp_path, 1, make(**{**times, **columns}))
    count = DomainCount(table, START_NS, END_NS, TOLERANCE_NS)
    for batch in read_raw([file], table, list(table.columns), 2):
        count.add(batch)
    return count


def found_in(count: DomainCount) -> dict[str, int]:
    return {kind.value: rows for kind, rows in count.counts.items() if rows}


@pytest.mark.parametrize("name", MADE)
def test_a_clean_table(tmp_path: Path, name):
    """The plain tables of the tests hold nothing impossible."""
    count = looked(tmp_path, name)

    assert {} == found_in(count)
    assert (1 if name == DELTAS.name else 0) == count.removals


FAULTS = [
    ("book_delta_v2", "price", [9, 0.0, -1.0, np.nan, np.inf, 5], "zero_prices", 1, "0.0"),
    ("book_delta_v2", "price", [9, 0.0, -1.0, np.nan, np.inf, 5], "negative_prices", 2, "-1.0"),
    ("book_delta_v2", "price", [9, 0.0, -1.0, np.nan, np.inf, 5], "not_finite", 3, "nan"),
    ("book_delta_v2", "size", [1.0, 2, -0.5, 0, 0, -np.inf], "negative_sizes", 2, "-0.5"),
    ("book_delta_v2", "size", [1.0, 2, -0.5, 0, 0, -np.inf], "not_finite", 5, "-inf"),
    ("trades", "amount", [1.0, 0.0, 1.0, 1.0], "zero_sizes", 1, "0.0"),
    ("trades", "side", pa.array(["buy", "sell", "bid", None]), "unknown_sides", 2, "'bid'"),
    ("trades", "side", pa.array(["buy", "sell", "bid", None]), "null_rows", 3, "null"),
    ("book", "bid_3_size", [1.0, -2.0, 1.0], "negative_sizes", 1, "-2.0"),
    ("book", "ask_0_price", [1.0, np.inf, 1.0], "not_finite", 1, "inf"),
    ("book", "sequence_number", pa.array([1, None, 3], pa.int64()), "null_rows", 1, "null"),
]


@pytest.mark.parametrize(("name", "column", "values", "kind", "row", "value"), FAULTS)
def test_each_fault_is_located(tmp_path: Path, name, column, values, kind, row, value):
    """The first row of each kind of fault is told with its column and value."""
    count = looked(tmp_path, name, **{column: values})
    first = count.places[DomainFault(kind)][0]

    assert (row, column, value) == (first.row, first.column, first.value)


def test_kinds_are_apart(tmp_path: Path):
    """A price that is NaN is not finite, and neither 0 nor negative."""
    count = looked(tmp_path, "book_delta_v2", price=[9, 0.0, -1.0, np.nan, np.inf, -np.inf])

    assert {"zero_prices": 1, "negative_prices": 1, "not_finite": 3} == found_in(count)


def test_absent_levels_of_a_snapshot(tmp_path: Path):
    """A thin book has no level there: null, NaN and 0 are no fault."""
    count = looked(
        tmp_path,
        "book",
        bid_19_price=pa.array([None, 0.0, np.nan], pa.float64()),
        bid_19_size=pa.array([None, 0.0, np.nan], pa.float64()),
    )

    assert {} == found_in(count)


@pytest.mark.parametrize("streamed", [False, True])
def test_nulls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streamed):
    """A row counts once however many nulls it has, a null time is not taken for 0, and a whole
    number beside a null stays exact, whichever reader decodes it.
    """
    if streamed:
        monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 0)
    late = END_NS + TOLERANCE_NS + 1
    count = looked(
        tmp_path,
        "book_delta_v2",
        timestamp=pa.array([START_NS] * 4 + [None, late], pa.int64()),
        price=pa.array([1.0, 2.0, None, 4.0, None, 6.0]),
        side_is_bid=pa.array([True, None, True, False, False, False]),
    )
    places = [(place.row, place.column) for place in count.places[DomainFault.NULL]]
    (future,) = count.places[DomainFault.FUTURE_TIME]

    assert (3, 0) == (count.counts[DomainFault.NULL], count.counts[DomainFault.ZERO_TIME])
    assert [(1, "side_is_bid"), (2, "price"), (4, "timestamp")] == places
    assert (5, "timestamp", str(late)) == (future.row, future.column, future.value)


@pytest.mark.parametrize("column", ["timestamp", "receipt_timestamp"])
def test_times(tmp_path: Path, column):
    """Zero, negative and future times are violations; those just outside the day are only told."""
    times = [0, -5, START_NS - 1, END_NS, END_NS + TOLERANCE_NS, START_NS + 7]
    other = {"timestamp", "receipt_timestamp"} - {column}
    count = looked(
        tmp_path, "book_delta_v2", **{column: times}, **dict.fromkeys(other, [START_NS] * 6)
    )
    found = found_in(count)
    late = found.pop("negative_latencies")

    assert {
        "zero_times": 1,
        "negative_times": 1,
        "future_times": 1,
        "times_outside_day": 5,
    } == found
    assert 3 == late
    assert {DomainFault.OUTSIDE_DAY, DomainFault.NEGATIVE_LATENCY}.isdisjoint(VIOLATIONS)


TIMES = st.sampled_from([START_NS - 1, START_NS, START_NS + 1, END_NS - 1, END_NS])
VALUES = st.sampled_from([-1.0, -0.0, 0.0, 1.0, np.nan, np.inf, -np.inf])


def naive(rows: list[tuple[int, int, float, float]]) -> dict[str, int]:
    """What rows (origin, receipt, price, size) of deltas have wrong, one after the other."""
    found: Counter[str] = Counter()
    for origin, receipt, price, size in rows:
        times = origin, receipt
        found["times_outside_day"] += not all(START_NS <= each < END_NS for each in times)
        found["negative_latencies"] += receipt < origin
        found["zero_prices"] += price == 0
        found["negative_prices"] += -np.inf < price < 0
        found["negative_sizes"] += -np.inf < size < 0
        found["not_finite"] += not (np.isfinite(price) and np.isfinite(size))
    return {kind: count for kind, count in found.items() if count}


@given(st.lists(st.tuples(TIMES, TIMES, VALUES, VALUES), max_size=4))
def test_agrees_with_the_plain_rules(rows):
    """Rows of any values are counted as rules say that look at one row after the other."""
    kinds = (np.int64, np.int64, np.float64, np.float64)
    names = ("timestamp", "receipt_timestamp", "price", "size")
    columns = [np.array([row[at] for row in rows], kind) for at, kind in enumerate(kinds)]
    count = DomainCount(DELTAS, START_NS, END_NS, TOLERANCE_NS)
    numbers = np.arange(len(rows))
    arrays = dict(zip(names, columns, strict=True)) | {"sequence_number": numbers}
    count.add(RawBatch(Path("1"), 0, arrays, {}, {name: name for name in arrays}))

    assert naive(rows) == found_in(count)
    assert sum(row[3] == 0 for row in rows) == count.removals


def test_places_are_bounded(tmp_path: Path):
    """Ten rows of a kind are kept, all are counted, over all batches."""
    file = shard(tmp_path, 1, deltas(50, price=np.zeros(50)), row_group_size=7)
    count = DomainCount(DELTAS, START_NS, END_NS, TOLERANCE_NS)
    for batch in read_raw([file], DELTAS, list(DELTAS.columns), 7):
        count.add(batch)

    assert 50 == count.counts[DomainFault.ZERO_PRICE]
    assert list(range(10)) == [each.row for each in count.places[DomainFault.ZERO_PRICE]]

"""Values of snapshots that are off the grid or too large for a float: counted and located."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_pipeline.quality.checks.precision import check_precision
from market_pipeline.quality.figures.comparisons import SnapshotPrecisionFigures
from market_pipeline.quality.findings import Measured
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, day_folder
from market_pipeline.stages.validation.precision import (
    measure_precision,
    measure_snapshot_precision,
)
from market_pipeline_tests.quality.factory import a_record
from market_pipeline_tests.sources.raw_files import shard, snapshots
from market_pipeline_tests.stages.days import (
    BTC,
    DAY,
    ETH,
    EVERY_NS,
    FIRST_SEQUENCE,
    START_NS,
    Later,
    snapshot_rows,
    write_day,
)

LOCATED = ("files", "rows", "values")
TOO_LARGE = float(2**51) / 1_000


def days_with(lake: Path, snapshot: dict[str, float], size: float | None = None) -> None:
    """BTC's day with a second snapshot of some other values, and a delta of another size."""
    write_day(lake, BTC)
    write_day(lake, ETH)
    first = snapshot_rows()
    columns = {name: first.column(name).to_pylist() * 2 for name in first.column_names}
    columns["timestamp"][1] = START_NS + 30 * EVERY_NS + 1_000_000
    columns["receipt_timestamp"][1] = START_NS + 30 * EVERY_NS + 3_000_000
    columns["sequence_number"][1] = FIRST_SEQUENCE + 30
    for name, value in snapshot.items():
        columns[name][1] = value
    shard(day_folder(lake, SNAPSHOTS, BTC.venue, BTC.symbol, DAY), 1, snapshots(2, **columns))
    if size is not None:
        file = day_folder(lake, DELTAS, BTC.venue, BTC.symbol, DAY) / "1.snappy.parquet"
        rows = pq.read_table(file, partitioning=None)
        sizes = rows.column("size").to_pylist()
        sizes[100] = size
        pq.write_table(rows.set_column(5, "size", pa.array(sizes)), file, compression="snappy")


class TestSnapshots:
    def test_a_clean_day(self, lake: Path, rebuilt: Callable[[], Later]):
        """Snapshots that are all used hold no such value, and are not read for it."""
        write_day(lake, BTC)
        write_day(lake, ETH)

        found = measure_snapshot_precision(rebuilt().day_of(BTC))

        assert (SnapshotPrecisionFigures(snapshot_precision_losses=0),) == found.figures

    @pytest.mark.parametrize(
        ("column", "value", "expected", "why"),
        [
            ("bid_3_size", TOO_LARGE, "below 2251799813685.248", "too large for a 64-bit float"),
            ("ask_2_price", 1e17, "below 225179981368524.8", "too large for a 64-bit float"),
            ("ask_7_size", 1.0005, "1.000", "no whole number of lots of 0.001"),
            ("bid_5_price", 99.43, "99.4", "no whole number of ticks of 0.1"),
        ],
    )
    def test_a_value_of_a_snapshot(
        self, lake: Path, rebuilt: Callable[[], Later], column, value, expected, why
    ):
        """It is located by file, row and column, and it is said what is wrong with it."""
        days_with(lake, {column: value})
        later = rebuilt()
        (validated,) = later.validated(BTC)
        (found,) = [each for each in validated.findings if each.check == "precision"]

        assert 1 == later.day_of(BTC).record.snapshots_unusable
        assert (column, 1, repr(value), expected) == (
            found.column,
            found.row,
            found.value,
            found.expected,
        )
        assert why in found.note and "The whole snapshot is not used." in found.note
        assert 1 == validated.row.snapshot_precision_losses
        said = check_precision(validated.row, BTC.thresholds)
        assert said is not None and ("WARN", False) == (said.severity, said.passed)
        assert f"first {column} {value!r} in book/" in said.summary

    def test_more_than_are_located(self, lake: Path, rebuilt: Callable[[], Later]):
        """All are counted, and the first ten in the order of rows are places."""
        days_with(lake, {f"{side}_{n}_size": 1e15 for side in ("bid", "ask") for n in range(20)})
        measured = measure_snapshot_precision(rebuilt().day_of(BTC))

        assert 40 == measured.columns["snapshot_precision_losses"]
        assert ["first", *["further"] * 9] == [each.place for each in measured.findings]


class TestDeltas:
    def test_a_size_too_large(self, lake: Path, rebuilt: Callable[[], Later]):
        """It is refused, counted and located, and said to be too large and not off the lot."""
        days_with(lake, {}, TOO_LARGE)
        (validated,) = rebuilt().validated(BTC)
        found = [each for each in validated.findings if each.check == "precision"]

        assert 1 == validated.row.size_precision_losses
        assert {(100, repr(TOO_LARGE), "below 2251799813685.248")} == {
            (each.row, each.value, each.expected) for each in found
        }
        assert all("too large for a 64-bit float to be exact" in each.note for each in found)
        said = check_precision(validated.row, BTC.thresholds)
        assert said is not None
        assert "1 size off the lot 0.001 or too large for it, first 2251799813685.248 in" in (
            said.summary
        )

    def test_a_size_just_below(self, lake: Path, rebuilt: Callable[[], Later]):
        """One lot less is exact, and nothing is found."""
        days_with(lake, {}, float(2**51 - 1) / 1_000)
        (validated,) = rebuilt().validated(BTC)

        assert 0 == validated.row.size_precision_losses


class TestRefusedValues:
    RECORD = MappingProxyType(
        {
            "tick": "0.1",
            "lot": "0.001",
            "price_losses": 2,
            "price_loss_files": ["1.snappy.parquet"] * 2,
            "price_loss_rows": [3, 8],
            "price_loss_values": [61_800.25] * 2,
            "size_losses": 1,
            "size_loss_files": ["2.snappy.parquet"],
            "size_loss_rows": [5],
            "size_loss_values": [0.0005],
        }
    )

    def measured(self, **changed: object) -> Measured:
        """What a record of `books.rebuilds` says of the values that were refused."""
        return measure_precision(SimpleNamespace(record=a_record(**self.RECORD | changed)))

    def test_every_located_loss_is_a_place(self):
        """File, row, column, the value and the nearest step; the first is of the prices."""
        found = self.measured()

        assert [("first", 3), ("further", 8), ("first", 5)] == [
            (each.place, each.row) for each in found.findings
        ]
        assert ("1.snappy.parquet", "price", "61800.25", "61800.2") == (
            found.findings[0].file,
            found.findings[0].column,
            found.findings[0].value,
            found.findings[0].expected,
        )
        assert {
            "price_precision_losses": 2,
            "size_precision_losses": 1,
            "first_precision_file": "1.snappy.parquet",
            "first_precision_row": 3,
            "first_precision_column": "price",
            "first_precision_value": 61_800.25,
        } == found.columns

    def test_a_size_loss_is_located_when_no_price_is_lost(self):
        """The located offender is of the prices if there is one, else of the sizes."""
        none = {"price_losses": 0} | {f"price_loss_{each}": [] for each in LOCATED}
        figures = self.measured(**none).columns

        assert (0, "size", 5) == (
            figures["price_precision_losses"],
            figures["first_precision_column"],
            figures["first_precision_row"],
        )

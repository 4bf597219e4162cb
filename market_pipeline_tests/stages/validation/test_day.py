from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from market_pipeline_tests.stages.days import (
    BTC,
    END_NS,
    ETH,
    EVERY_NS,
    FIRST_SEQUENCE,
    HOUR_NS,
    MESSAGES,
    START_NS,
    delta_rows,
    instrument,
    write_day,
)


def test_a_good_day(lake: Path, rebuilt):
    """A day that was rebuilt has its figures, and is available."""
    write_day(lake, BTC)
    (row,) = rebuilt().report(BTC)

    assert ("available", (), (), "rebuilt", None) == (
        row.condition,
        row.reasons,
        row.warnings,
        row.outcome,
        row.failure,
    )
    assert (2 * MESSAGES, MESSAGES, 1, MESSAGES) == (
        row.rows,
        row.messages,
        row.snapshots,
        row.trades,
    )
    assert ("first snapshot, sequence number 1000", 2.0, 3) == (
        row.seed,
        row.skew_p50_ms,
        len(row.input_sha256),
    )
    assert (0, None, None) == (
        row.snapshots_compared,
        row.snapshot_matching_share,
        row.ghost_share,
    )
    assert (MESSAGES - 1) * 30.0 == row.observed_seconds
    assert (30.0, row.observed_seconds - 30.0) == (row.not_seeded_seconds, row.valid_seconds)


def test_in_the_order_asked_for(lake: Path, rebuilt):
    """Each instrument has one row, in the order given, whether it was rebuilt or not."""
    write_day(lake, BTC)
    rows = rebuilt().report(ETH, BTC)

    assert [(ETH.id, "no_data"), (BTC.id, "rebuilt")] == [
        (row.instrument_id, row.outcome) for row in rows
    ]


@pytest.mark.parametrize(
    ("hours", "lag_hours", "condition"),
    [(-1, 4, "pending"), (3, 4, "pending"), (4, 4, "missing"), (3, 2, "missing")],
)
def test_pending_until_due(lake: Path, rebuilt, hours, lag_hours, condition):
    """A day without data is pending until the vendor's lag is over, then missing."""
    write_day(lake, BTC)
    (row,) = rebuilt().report(ETH, as_of_ns=END_NS + hours * HOUR_NS, lag_hours=lag_hours)

    assert (condition, "MissingDataError", (row.failure,)) == (
        row.condition,
        row.failure_kind,
        row.reasons,
    )


def test_not_rebuilt_yet(lake: Path, rebuilt):
    """An instrument without a record of a rebuild says that its books are to be made."""
    write_day(lake, BTC)
    (row,) = rebuilt().report(instrument("XRP-USDT"))

    assert ("no_data", "missing", None) == (row.outcome, row.condition, row.code_version)
    assert "Materialize the books of this day." in row.failure


def test_without_trades(lake: Path, rebuilt):
    """No trades file is null trades, which is not the same as none, and degrades the day."""
    write_day(lake, BTC, trades=False)
    (row,) = rebuilt().report(BTC)

    assert (None, "degraded") == (row.trades, row.condition)
    assert "there is no trades file" in row.reasons[0].lower()


def test_quarantined(lake: Path, rebuilt):
    """A refused day has no figure, and the error as its only reason."""
    rows = delta_rows()
    write_day(lake, BTC, deltas=rows.drop_columns(["size"]))
    (row,) = rebuilt().report(BTC)

    assert ("quarantined", "SchemaError", None, None) == (
        row.outcome,
        row.failure_kind,
        row.messages,
        row.valid_seconds,
    )
    assert (row.failure,) == row.reasons


def test_trades_that_changed_since(lake: Path, rebuilt):
    """A file that the vendor replaces meanwhile takes no other instrument's verdict away."""
    for each in (BTC, ETH):
        write_day(lake, each)
    day = rebuilt()
    changed = next((lake / "trades").rglob("symbol=ETH-USDT/**/*.parquet"))
    changed.write_bytes(changed.read_bytes() + b"more")
    rows = {row.instrument_id: row for row in day.report(ETH, BTC)}

    assert {BTC.id, ETH.id} == set(rows)
    assert "available" == rows[BTC.id].condition
    assert "changed since it was registered" in (rows[ETH.id].failure or "")


def test_delta_files_that_changed_since(lake: Path, rebuilt):
    """Without the files that the book was made of, no place can be told: the day is set aside."""
    write_day(lake, BTC)
    day = rebuilt()
    changed = next((lake / "book_delta_v2").rglob("*.parquet"))
    changed.write_bytes(changed.read_bytes() + b"more")
    (row,) = day.report(BTC)

    assert ("quarantined", "LakeFileError") == (row.outcome, row.failure_kind)


def test_a_gap_is_located(lake: Path, rebuilt):
    """A silence while trades go on is told with the raw file and row of the message after it."""
    rows = delta_rows()
    number = rows["sequence_number"].to_numpy() - FIRST_SEQUENCE
    files = write_day(
        lake, BTC, deltas=rows.filter((number <= 1_000) | (number >= 1_040)), shards=2
    )
    (validated,) = rebuilt().validated(BTC)
    (gap,) = (each for each in validated.findings if each.check == "gap")

    assert (1, 0, 1_200.0) == (
        validated.row.gap_count,
        validated.row.proven_gap_count,
        validated.row.gap_seconds,
    )
    assert ("first", FIRST_SEQUENCE + 1_040, files[0].relative_to(lake).as_posix(), 2 * 1_001) == (
        gap.place,
        gap.sequence_number,
        gap.file,
        gap.row,
    )
    assert (START_NS + 1_000 * EVERY_NS + 3_000_000, START_NS + 1_040 * EVERY_NS + 3_000_000) == (
        gap.ts_receipt_ns,
        gap.end_ns,
    )
    assert validated.row.after_gap_seconds > 0
    assert "BINANCE:BTC-USDT" == next(
        each.instrument_id for each in validated.finding_rows if each.check == "gap"
    )


def test_a_crossed_book_is_located_and_explained(lake: Path, rebuilt):
    """Its place is that of the message that crossed it, its note what the interval shows."""
    rows = delta_rows().to_pydict()
    crossing = 2 * 500
    rows["price"][crossing] = 101.0
    crossed = pa.table(rows)
    files = write_day(lake, BTC, deltas=crossed.cast(delta_rows().schema))
    (validated,) = rebuilt().validated(BTC)
    first = next(each for each in validated.findings if each.check == "crossed")

    assert ("first", FIRST_SEQUENCE + 500, files[0].relative_to(lake).as_posix(), crossing) == (
        first.place,
        first.sequence_number,
        first.file,
        first.row,
    )
    assert "The best bid was above the best ask by up to" in first.note
    assert validated.row.crossed_seconds == sum(validated.row.crossed_seconds_per_hour)
    assert validated.row.crossed_seconds_per_hour[:4] == (0.0,) * 4
    assert validated.row.crossed_seconds_per_hour[4] > 0
    assert validated.row.valid_seconds == pytest.approx(
        validated.row.observed_seconds
        - validated.row.invalid_seconds
        - validated.row.crossed_seconds
    )


def test_a_value_off_its_step_is_one_finding(lake: Path, rebuilt):
    """Each price and size that was refused is told once, with its file and row."""
    rows = delta_rows().to_pydict()
    rows["price"][2 * 500] = 99.87
    rows["size"][2 * 700] = 1.0005
    rows["size"][2 * 800] = 1.0007
    write_day(lake, BTC, deltas=pa.table(rows).cast(delta_rows().schema))
    (validated,) = rebuilt().validated(BTC)
    found = [each for each in validated.findings if each.check == "precision"]

    assert (1, 2) == (validated.row.price_precision_losses, validated.row.size_precision_losses)
    assert [
        ("first", 2 * 500, "99.87"),
        ("first", 2 * 700, "1.0005"),
        ("further", 2 * 800, "1.0007"),
    ] == [(each.place, each.row, each.value) for each in found]

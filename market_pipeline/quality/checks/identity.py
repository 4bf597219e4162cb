"""Whether the raw files are of this day and of this instrument."""

from __future__ import annotations

from datetime import UTC, datetime

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, in_force, outcome
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import measured, number_of, share_text

__all__ = ["IDENTITY", "check_identity"]

IDENTITY = Check(
    name="identity",
    sentence="The raw files are of this day and this instrument, and none stands twice.",
    asset="raw_book_deltas",
    severity="ERROR",
    degrades="on_error",
)

_MOST = 0.5
_TABLES = ("deltas", "snapshots", "trades")


def check_identity(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Looks at receipt times, at files of the same bytes, and at prices; also without a book.

    It is an error if a table is another day's for the most part, if a file is registered elsewhere
    and nothing shows that it belongs here, if trades stand twice, or if prices are another
    instrument's. Single rows outside the day are a warning, and so are trades that come again.
    """
    if row.outside_day_share is None and not row.files_elsewhere and not row.files_twice:
        return None
    faults = [*_errors(row, thresholds.identity_price_factor), *_warnings(row)]
    return outcome(
        IDENTITY,
        faults,
        figure=row.outside_day_share or 0.0,
        threshold=_MOST,
        fine=_fine(row),
        thresholds=in_force(thresholds, "identity_price_factor"),
    )


def _errors(row: ReportRow, factor: float) -> list[Fault]:
    faults = []
    share = row.outside_day_share or 0.0
    if share > _MOST:
        text = (
            f"the {row.outside_day_table} are of another day: {share_text(share)} of their rows "
            f"were received outside it, most on {row.outside_day}{_outside_text(row)}"
        )
        faults.append(Fault("ERROR", share, _MOST, text))
    if row.files_elsewhere_doubtful:
        count = row.files_elsewhere_doubtful
        text = (
            f"{number_of(count, 'raw file')} registered elsewhere too, and nothing shows "
            f"{'that it belongs' if count == 1 else 'that they belong'} here: "
            f"{row.first_file_elsewhere}"
        )
        faults.append(Fault("ERROR", float(count), 0.0, text))
    if row.trade_files_twice:
        text = (
            f"{number_of(row.trade_files_twice, 'file')} of trades stand twice, and all volumes of "
            f"them count double: {row.first_file_twice}"
        )
        faults.append(Fault("ERROR", float(row.trade_files_twice), 0.0, text))
    apart = row.price_tables_apart or 0.0
    if apart > factor:
        foreign = row.foreign_price_table
        which = f", and the {foreign} stand alone" if foreign else ""
        text = (
            f"the prices of {row.price_tables} are {apart:,.4g} times apart{which}: a file of "
            "another instrument"
        )
        faults.append(Fault("ERROR", apart, factor, text))
    before = row.price_day_before_apart or 0.0
    if before > factor:
        text = (
            f"the prices are unlike the day before, which ended at {row.price_day_before:g}; this "
            f"one begins at {row.first_price:g}: another instrument's files, or the venue changed "
            "its unit"
        )
        faults.append(Fault("ERROR", before, factor, text))
    return faults


def _warnings(row: ReportRow) -> list[Fault]:
    faults = []
    share = row.outside_day_share or 0.0
    if 0.0 < share <= _MOST:
        count = sum(getattr(row, f"{table}_outside_day") or 0 for table in _TABLES)
        whole = len(row.files_outside_day or ())
        files = f", {number_of(whole, 'file')} for the most part" if whole else ""
        text = f"{number_of(count, 'row')} received outside the UTC day{files}{_outside_text(row)}"
        faults.append(Fault("WARN", float(count), 0.0, text))
    certain = (row.files_elsewhere or 0) - (row.files_elsewhere_doubtful or 0)
    if certain and not row.files_elsewhere_doubtful:
        text = (
            f"{number_of(certain, 'raw file')} of this day registered elsewhere too, and here by "
            f"right: {row.first_file_elsewhere}"
        )
        faults.append(Fault("WARN", float(certain), 0.0, text))
    if row.repeated_trades and not row.trade_files_twice:
        text = (
            f"{number_of(row.repeated_trades, 'trade')} came before already, by their ids, and "
            "their volumes count twice"
        )
        faults.append(Fault("WARN", float(row.repeated_trades), 0.0, text))
    twice = (row.files_twice or 0) - (row.trade_files_twice or 0)
    if twice:
        text = f"{number_of(twice, 'raw file')} stand twice in the day: {row.first_file_twice}"
        faults.append(Fault("WARN", float(twice), 0.0, text))
    return faults


def _outside_text(row: ReportRow) -> str:
    counts = [
        f"{count:,} of {table}"
        for table in _TABLES
        if (count := getattr(row, f"{table}_outside_day"))
    ]
    earliest, latest = (
        f"{datetime.fromtimestamp(measured(ts_ns) // 1_000_000_000, UTC):%Y-%m-%d %H:%M:%S}"
        for ts_ns in (row.earliest_outside_ns, row.latest_outside_ns)
    )
    return f" ({', '.join(counts)}; from {earliest} to {latest} UTC)"


def _fine(row: ReportRow) -> str:
    text = "Every row was received within the UTC day, and no raw file is registered twice"
    if row.price_day_before_apart is not None:
        away = row.price_day_before_apart - 1.0
        text += f"; the day begins {away:.2%} away from where the day before ended"
    return f"{text}."

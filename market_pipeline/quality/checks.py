"""The closed list of checks, and the one function that holds a day's figures against thresholds.

A check's name, sentence and docs page are used wherever it appears: in the asset check, the table,
the documentation and the alert. Whether its failure changes the verdict is part of the check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

from market_pipeline.instruments import Thresholds
from market_pipeline.quality.intervals import SECONDS_PER_DAY
from market_pipeline.quality.row import ReportRow

__all__ = [
    "CHECKS",
    "COMPLETENESS",
    "CROSSED",
    "GAP",
    "PRECISION",
    "SCHEMA",
    "SKEW",
    "Check",
    "CheckOutcome",
    "Severity",
    "evaluate",
]

Severity = Literal["WARN", "ERROR"]
Degrades = Literal["always", "on_error", "never"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Check:
    """One question asked of every rebuilt day.

    Attributes:
        name: Unique, lower case.
        sentence: What must hold.
        severity: Of a failure, unless its figure is past the bound of an error.
        degrades: Whether a failure makes the day degraded: always, only as an ERROR, or never.
        docs_page: What it means and what to do, below `docs/`.
    """

    name: str
    sentence: str
    severity: Severity
    degrades: Degrades
    docs_page: str


SCHEMA = Check(
    name="schema",
    sentence="Every raw file can be read and has exactly the columns and types of its table.",
    severity="ERROR",
    degrades="always",
    docs_page="checks/schema.md",
)
COMPLETENESS = Check(
    name="completeness",
    sentence="The day has messages and a trades file, and they cover it from midnight to midnight.",
    severity="WARN",
    degrades="always",
    docs_page="checks/completeness.md",
)
GAP = Check(
    name="gap",
    sentence="The feed is never silent while trades go on, and its sequence never goes backwards.",
    severity="WARN",
    degrades="always",
    docs_page="checks/gap.md",
)
SKEW = Check(
    name="skew",
    sentence="Receipt times agree with the exchange's: no offset, drift or step beyond bounds.",
    severity="WARN",
    degrades="never",
    docs_page="checks/skew.md",
)
PRECISION = Check(
    name="precision",
    sentence="Every price is a whole number of ticks and every size a whole number of lots.",
    severity="WARN",
    degrades="on_error",
    docs_page="checks/precision.md",
)
CROSSED = Check(
    name="crossed",
    sentence="The best bid is never above the best ask after a whole message.",
    severity="WARN",
    degrades="always",
    docs_page="checks/crossed.md",
)

CHECKS: tuple[Check, ...] = (SCHEMA, COMPLETENESS, GAP, SKEW, PRECISION, CROSSED)
"""Every check there is, in the order in which they are reported."""

_UNUSABLE_FILE_KINDS = frozenset({"LakeFileError", "SchemaError"})


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """What one check said about one instrument's day.

    Attributes:
        severity: Of the failure; the default severity if it passed.
        figure, threshold: The figure that decided, and the bound in force, in the same unit.
        summary: One sentence that locates the fault, or says what was found to be well.
    """

    check: Check
    passed: bool
    severity: Severity
    figure: float
    threshold: float
    summary: str

    @property
    def degrades(self) -> bool:
        """Whether this outcome makes the day degraded."""
        if self.passed:
            return False
        when = self.check.degrades
        return when == "always" or (when == "on_error" and self.severity == "ERROR")


def evaluate(row: ReportRow, thresholds: Thresholds) -> list[CheckOutcome]:
    """Holds a day's figures against its thresholds.

    Args:
        row: The figures; its condition is not looked at.
        thresholds: Those of the row's instrument.

    Returns:
        The outcomes in the order of `CHECKS`. A check that could not be asked has none: a day that
        was not rebuilt has no clocks, and its files' schema is unknown if there was none.
    """
    if row.outcome == "rebuilt":
        return [
            _schema(row),
            _completeness(row, thresholds),
            _gap(row, thresholds),
            _skew(row, thresholds),
            _precision(row, thresholds),
            _crossed(row, thresholds),
        ]
    outcomes = [_no_book(row)]
    if row.failure_kind in _UNUSABLE_FILE_KINDS:
        outcomes.insert(0, _schema(row))
    return outcomes


# --- one function per check -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fault:
    severity: Severity
    figure: float
    threshold: float
    text: str


def _outcome(
    check: Check,
    faults: list[_Fault],
    *,
    figure: float,
    threshold: float,
    fine: str,
    worst: str | None = None,
) -> CheckOutcome:
    """The first fault, which is the gravest, decides and all are told, with the worst place if they
    do not name it; without a fault, `fine` is told.
    """
    if not faults:
        return CheckOutcome(check, True, check.severity, figure, threshold, fine)
    told = "; ".join([fault.text for fault in faults] + ([worst] if worst else []))
    return CheckOutcome(
        check=check,
        passed=False,
        severity=faults[0].severity,
        figure=faults[0].figure,
        threshold=faults[0].threshold,
        summary=f"{told[0].upper()}{told[1:].rstrip('.')}.",
    )


def _schema(row: ReportRow) -> CheckOutcome:
    faults = []
    if row.failure_kind in _UNUSABLE_FILE_KINDS:
        faults.append(_Fault("ERROR", 1.0, 0.0, _measured(row.failure)))
    fine = "Every raw file was read with the columns and types of its table."
    return _outcome(SCHEMA, faults, figure=0.0, threshold=0.0, fine=fine)


def _no_book(row: ReportRow) -> CheckOutcome:
    fault = _Fault("ERROR", 0.0, 1.0, f"no message could be used: {_measured(row.failure)}")
    return _outcome(COMPLETENESS, [fault], figure=0.0, threshold=1.0, fine="")


def _completeness(row: ReportRow, thresholds: Thresholds) -> CheckOutcome:
    head, tail = _measured(row.head_gap_seconds), _measured(row.tail_gap_seconds)
    hole, holes = _measured(row.longest_quiet_seconds), _measured(row.quiet_seconds)
    tolerance = thresholds.edge_tolerance_seconds
    missing = sum(edge for edge in (head, tail) if edge > tolerance) + holes
    severity: Severity = (
        "ERROR" if missing > thresholds.gap_error_share * SECONDS_PER_DAY else "WARN"
    )
    faults = []
    if head > tolerance:
        text = f"the first {_seconds(head)} are missing, up to {_time(row.first_message_ns)}"
        faults.append(_Fault(severity, head, tolerance, text))
    if tail > tolerance:
        text = f"the last {_seconds(tail)} are missing, from {_time(row.last_message_ns)}"
        faults.append(_Fault(severity, tail, tolerance, text))
    if hole > tolerance:
        text = (
            f"neither messages nor trades came for {_seconds(holes)} in "
            f"{_number(row.quiet_count, 'hole')}, the longest {_seconds(hole)} from "
            f"{_time(row.longest_quiet_ns)}"
        )
        faults.append(_Fault(severity, hole, tolerance, text))
    if row.trades is None:
        text = "there is no trades file, so a silence cannot be told from a quiet market"
        faults.append(_Fault("WARN", 0.0, 1.0, text))
    fine = (
        f"{_number(row.messages, 'message')} cover the day but for {_seconds(head)} at its start "
        f"and {_seconds(tail)} at its end."
    )
    longest = max(head, tail, hole)
    return _outcome(COMPLETENESS, faults, figure=longest, threshold=tolerance, fine=fine)


def _gap(row: ReportRow, thresholds: Thresholds) -> CheckOutcome:
    seconds, backwards = _measured(row.gap_seconds), _measured(row.sequence_backwards)
    error_seconds = thresholds.gap_error_share * SECONDS_PER_DAY
    faults = []
    if seconds > thresholds.gap_warn_seconds:
        text = (
            f"{_number(row.gap_count, 'suspected gap')} of {_seconds(seconds)} in all; the first "
            f"from {_time(_measured(row.gap_starts_ns)[0])} to "
            f"{_time(_measured(row.gap_ends_ns)[0])} with "
            f"{_number(_measured(row.gap_trades)[0], 'trade')} inside, the longest "
            f"{_seconds(row.longest_gap_seconds)} from {_time(row.longest_gap_ns)}"
        )
        if seconds > error_seconds:
            faults.append(_Fault("ERROR", seconds, error_seconds, text))
        else:
            faults.append(_Fault("WARN", seconds, thresholds.gap_warn_seconds, text))
    if backwards:
        text = (
            f"the sequence number goes backwards at {_number(backwards, 'message')}, first at "
            f"{_time(row.first_sequence_backwards_ns)}"
        )
        faults.append(_Fault("WARN", float(backwards), 0.0, text))
    fine = (
        f"{_number(row.gap_count, 'silence')} longer than {_seconds(row.gap_threshold_seconds)} "
        f"while trades went on, {_seconds(seconds)} in all; the sequence never goes backwards."
    )
    return _outcome(GAP, faults, figure=seconds, threshold=thresholds.gap_warn_seconds, fine=fine)


def _skew(row: ReportRow, thresholds: Thresholds) -> CheckOutcome:
    median, share = _measured(row.skew_p50_ms), _measured(row.negative_latency_share)
    drift = row.clock_drift_ppm
    faults = []
    if abs(median) > thresholds.skew_warn_ms:
        text = (
            f"the median message is received {abs(median):,.3f} ms "
            f"{'before' if median < 0 else 'after'} the exchange's time"
        )
        faults.append(_Fault("WARN", abs(median), thresholds.skew_warn_ms, text))
    if share > thresholds.negative_latency_warn_share:
        text = f"{share:.4%} of the messages are received before the exchange's time"
        faults.append(_Fault("WARN", share, thresholds.negative_latency_warn_share, text))
    if drift is not None and abs(drift) > thresholds.drift_warn_ppm:
        text = f"the receipt clock {'loses' if drift < 0 else 'gains'} {abs(drift):,.1f} ppm"
        faults.append(_Fault("WARN", abs(drift), thresholds.drift_warn_ppm, text))
    if row.clock_steps:
        largest = _measured(row.largest_clock_step_ms)
        text = (
            f"{_number(row.clock_steps, 'clock step')}, the first at "
            f"{_time(row.first_clock_step_ns)}, the largest of {largest:+,.3f} ms at "
            f"{_time(row.largest_clock_step_ns)}"
        )
        faults.append(_Fault("WARN", abs(largest), thresholds.step_warn_ms, text))
    worst = (
        f"worst message {_measured(row.worst_skew_ms):,.3f} ms at {_time(row.worst_skew_ns)}, "
        f"median {median:,.3f} ms"
    )
    return _outcome(
        SKEW,
        faults,
        figure=abs(median),
        threshold=thresholds.skew_warn_ms,
        fine=f"Receipt minus exchange time is within its bounds; {worst}.",
        worst=worst,
    )


def _precision(row: ReportRow, thresholds: Thresholds) -> CheckOutcome:
    prices, sizes = _measured(row.price_precision_losses), _measured(row.size_precision_losses)
    tolerated = thresholds.precision_error_count
    faults = []
    if prices > tolerated:
        text = f"{_number(prices, 'price')} off the tick {row.tick}{_first_precision(row, 'price')}"
        faults.append(_Fault("ERROR", float(prices), float(tolerated), text))
    if sizes:
        text = f"{_number(sizes, 'size')} off the lot {row.lot}{_first_precision(row, 'size')}"
        faults.append(_Fault("WARN", float(sizes), 0.0, text))
    fine = f"{_number(prices, 'price')} off the tick {row.tick} and no size off the lot {row.lot}."
    return _outcome(PRECISION, faults, figure=float(prices), threshold=float(tolerated), fine=fine)


def _first_precision(row: ReportRow, column: str) -> str:
    # The row keeps the place of one offender; the report's metadata has ten per column.
    if row.first_precision_column != column:
        return ""
    value, file = row.first_precision_value, row.first_precision_file
    return f", first {value!r} in {file}, row {row.first_precision_row}"


def _crossed(row: ReportRow, thresholds: Thresholds) -> CheckOutcome:
    seconds = _measured(row.crossed_seconds)
    faults = []
    if seconds > thresholds.crossed_warn_seconds:
        text = (
            f"the book is crossed for {_seconds(seconds)} in {_number(row.crossed_count, 'run')}, "
            f"the first from {_time(row.first_crossed_ns)}, the longest "
            f"{_seconds(row.longest_crossed_seconds)} from {_time(row.longest_crossed_ns)}"
        )
        if seconds > thresholds.crossed_error_seconds:
            faults.append(_Fault("ERROR", seconds, thresholds.crossed_error_seconds, text))
        else:
            faults.append(_Fault("WARN", seconds, thresholds.crossed_warn_seconds, text))
    fine = (
        f"The book is crossed for {_seconds(seconds)} and locked for "
        f"{_seconds(row.locked_seconds)}."
    )
    return _outcome(
        CROSSED, faults, figure=seconds, threshold=thresholds.crossed_warn_seconds, fine=fine
    )


# --- words ------------------------------------------------------------------------------------


def _measured(figure: _T | None) -> _T:
    if figure is None:
        raise ValueError("a rebuilt day has every figure; build its row with build_report")
    return figure


def _seconds(figure: float | None) -> str:
    text = f"{_measured(figure):,.3f}".rstrip("0").rstrip(".")
    return f"{text} s"


def _time(ts_ns: int | None) -> str:
    """The time of day of an instant, to the microsecond."""
    micros = _measured(ts_ns) // 1_000 % (SECONDS_PER_DAY * 1_000_000)
    seconds, fraction = divmod(micros, 1_000_000)
    minutes, second = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{second:02}.{fraction:06} UTC"


def _number(count: int | None, noun: str) -> str:
    known = _measured(count)
    return f"{known:,} {noun}{'' if known == 1 else 's'}"

"""One fault in one clean day: run, and every published row held against the truth."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from market_pipeline_tests.detection.bases import Base, copy_warehouse, planted_of
from market_pipeline_tests.detection.faults.capture_day import CaptureDay
from market_pipeline_tests.detection.faults.day import DAY_NS, FOREIGN, RawDay, midnight_ns
from market_pipeline_tests.detection.planted import UNPLACED, Planted, matched
from market_pipeline_tests.detection.run import BboTable, DepthTable, Outcome, run_day
from market_pipeline_tests.detection.truth import Truth
from market_pipeline_tests.detection.validating import Validated

__all__ = ["OVERCLAIMED_SECONDS", "Trial", "new_failures", "try_fault", "try_spoilt"]

OVERCLAIMED_SECONDS = 60.0
"""So many seconds more than messages cover may be called valid on an available day."""

_SEVERITY = {"WARN": 1, "ERROR": 2}

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Count:
    """Rows of one table that were published as valid.

    Attributes:
        rows: All rows of the instrument's day.
        valid: Of these, without an invalidating flag.
        inside, outside: Valid and wrong, in a published invalidating interval and in none.
        verified: Wrong although they are called verified.
        other_day: Valid with a receipt time outside the UTC day.
        unknown: Valid and about no message whose truth is known.
    """

    rows: int = 0
    valid: int = 0
    inside: int = 0
    outside: int = 0
    verified: int = 0
    other_day: int = 0
    unknown: int = 0

    @property
    def wrong(self) -> int:
        """Valid rows that are wrong."""
        return self.inside + self.outside


@dataclass(frozen=True)
class Trial:
    """What became of a day with a fault.

    Attributes:
        fault, base: The fault and the day it was put into.
        condition: The verdict; `crashed` if a run ended with an error.
        crashed: The error; None without one.
        found: Failed checks that do not fail on the clean day, with their severity.
        bbo, depth: Counts of the rows of both tables.
        valid_seconds: As the report has them.
        covered_seconds: What the messages that are there cover, by their true times.
        kept: Valid and right rows of `books.bbo`, as a share of those of the clean day.
        neighbour: `as before`, or what became of the other instrument's verdict.
    """

    fault: str
    base: str
    condition: str
    crashed: str | None
    found: dict[str, str]
    bbo: Count
    depth: Count
    valid_seconds: float
    covered_seconds: float
    kept: float
    neighbour: str
    reasons: tuple[str, ...] = field(default=(), repr=False)

    @property
    def wrong(self) -> int:
        """Wrong valid rows of both tables."""
        return self.bbo.wrong + self.depth.wrong

    @property
    def valid(self) -> int:
        """Valid rows of both tables."""
        return self.bbo.valid + self.depth.valid

    @property
    def silent(self) -> int:
        """Wrong valid rows of a day of which nothing new was said."""
        return 0 if self.found else self.wrong

    @property
    def overclaimed_seconds(self) -> float:
        """Valid seconds beyond what messages cover."""
        return max(0.0, self.valid_seconds - self.covered_seconds)

    @property
    def wrongly_available(self) -> bool:
        """It is available although rows are wrong, or time is claimed that nothing covers."""
        other_day = self.bbo.other_day + self.depth.other_day
        spoilt = self.wrong or other_day or self.overclaimed_seconds > OVERCLAIMED_SECONDS
        return self.condition == "available" and bool(spoilt)


def try_fault(base: Base, name: str, fault: Callable[[Any], Any]) -> Trial:
    """Puts a fault into a copy of a day, runs it, and counts what is wrong."""
    return try_spoilt(base, name, fault(base.day))


def try_spoilt(base: Base, name: str, spoilt: RawDay | CaptureDay) -> Trial:
    """Runs a day that a fault has spoilt, and counts what is wrong."""
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        lake, data_dir = Path(folder) / "lake", Path(folder) / "data"
        shutil.copytree(base.lake, lake)
        if isinstance(spoilt, RawDay):
            assert isinstance(base.day, RawDay)
            spoilt.write(lake, spoilt.changed_tables(base.day))
        else:
            spoilt.write(lake)
        copy_warehouse(base.data_dir, data_dir)
        outcome = run_day(lake, data_dir, [base.instrument, base.neighbour], base.day.day)
    return validated_trial(base, name, spoilt, outcome)


def validated_trial(base: Base, name: str, spoilt: RawDay | CaptureDay, outcome: Outcome) -> Trial:
    """Holds what a run left against the truth."""
    validated = outcome.validated.get(base.instrument.symbol)
    is_of_snapshots = validated is not None and validated.row.strategy == "snapshots_only"
    planted = planted_of(spoilt, snapshots=is_of_snapshots)
    begin_ns = midnight_ns(base.day.day)
    bbo = _count_bbo(outcome, planted, base.truth, begin_ns)
    depth = _count_depth(outcome, planted, base.truth, begin_ns)
    clean_valid = int(base.clean.bbo.valid.sum())
    return Trial(
        fault=name,
        base=base.name,
        condition=str(validated.row.condition) if validated else "crashed",
        crashed=outcome.crashed,
        found=new_failures(base.clean.validated[base.instrument.symbol], validated)
        if validated
        else {},
        bbo=bbo,
        depth=depth,
        valid_seconds=float(validated.row.valid_seconds or 0.0) if validated else 0.0,
        covered_seconds=_covered_seconds(
            base.receipt_ns, planted_of(base.day, snapshots=is_of_snapshots), planted
        ),
        kept=(bbo.valid - bbo.wrong) / clean_valid if clean_valid else 0.0,
        neighbour=_neighbour(base, outcome),
        reasons=(*validated.row.reasons, *validated.row.warnings) if validated else (),
    )


def new_failures(clean: Validated, spoilt: Validated) -> dict[str, str]:
    """The checks that fail because of a fault, with their severity.

    A check that fails on the clean day too counts if it is worse, or says something else than other
    figures.
    """
    found = {}
    for name, severity in spoilt.failed.items():
        before = clean.failed.get(name)
        if (
            before is None
            or _SEVERITY.get(severity, 0) > _SEVERITY.get(before, 0)
            or _remarks(spoilt, name) - _remarks(clean, name)
        ):
            found[name] = severity
    if spoilt.row.outcome != clean.row.outcome:
        found[spoilt.row.outcome] = "ERROR"
    return found


def _remarks(validated: Validated, check: str) -> set[str]:
    """What a check says, without figures."""
    parts = validated.outcomes[check].summary.rstrip(".").split(";")
    return {re.sub(r"[-+]?\d[\d,.:]*", "#", part).strip().lower() for part in parts}


def _right(
    planted: Planted, at: IntArray, truth_of: Callable[[IntArray], tuple[BoolArray, BoolArray]]
) -> tuple[BoolArray, BoolArray]:
    """Whether rows are right, and whether anybody knows.

    A row is right if it shows the true book after its own message, or that after the last message
    that came so far: a message that comes again, or too late, must not change the book.
    """
    placed = at != UNPLACED
    index = np.maximum(at, 0)
    none = np.full(at.size, -1, np.int64)
    own = np.where(placed, planted.message[index], none) if planted.message.size else none
    latest = np.where(placed, planted.last_so_far[index], none) if planted.message.size else none
    right_own, known_own = truth_of(own)
    right_latest, known_latest = truth_of(latest)
    foreign = own == FOREIGN
    # After invented rows alone nothing can be true.
    nothing_yet = (own < 0) & (latest < 0)
    known = placed & (known_own | known_latest | foreign | nothing_yet)
    return (right_own | right_latest) & ~foreign, known


def _count_bbo(outcome: Outcome, planted: Planted, truth: Truth, begin_ns: int) -> Count:
    table = outcome.bbo
    at = matched(planted, table.sequence_number, table.ts_receipt_ns)
    right, known = _right(planted, at, lambda messages: truth.right_touch(messages, table.touch))
    inside = outcome.spans.cover(table.ts_receipt_ns, np.arange(at.size))
    return _counted(table, right, known, inside, begin_ns)


def _count_depth(outcome: Outcome, planted: Planted, truth: Truth, begin_ns: int) -> Count:
    table = outcome.depth
    at = matched(planted, table.sequence_number, table.ts_receipt_ns)
    right, known = _right(
        planted, at, lambda messages: truth.right_top(messages, table.top, table.compared)
    )
    return _counted(table, right, known, outcome.spans.cover(table.ts_receipt_ns), begin_ns)


def _counted(
    table: BboTable | DepthTable,
    right: BoolArray,
    known: BoolArray,
    inside: BoolArray,
    begin_ns: int,
) -> Count:
    wrong = table.valid & known & ~right
    times = table.ts_receipt_ns
    other_day = table.valid & ((times < begin_ns) | (times >= begin_ns + DAY_NS))
    verified = np.zeros(wrong.size, np.bool_) if table.verified is None else table.verified
    return Count(
        rows=wrong.size,
        valid=int(table.valid.sum()),
        inside=int((wrong & inside).sum()),
        outside=int((wrong & ~inside).sum()),
        verified=int((wrong & verified).sum()),
        other_day=int(other_day.sum()),
        unknown=int((table.valid & ~known).sum()),
    )


def _covered_seconds(receipt_ns: IntArray, clean: Planted, planted: Planted) -> float:
    """What the messages that are there cover by their true times.

    Between two of them as much counts as the longest interval of the clean day.
    """
    usual = int(np.diff(_true_times(receipt_ns, clean)).max(initial=0))
    times = _true_times(receipt_ns, planted)
    return float(np.minimum(np.diff(times), usual).sum()) / 1e9


def _true_times(receipt_ns: IntArray, planted: Planted) -> IntArray:
    """When the messages that are there were really received, in order."""
    times: IntArray = receipt_ns[np.unique(planted.message[planted.message >= 0])]
    return times


def _neighbour(base: Base, outcome: Outcome) -> str:
    symbol = base.neighbour.symbol
    then, now = base.clean.validated[symbol], outcome.validated.get(symbol)
    if now is None:
        return "lost"
    same = (then.row.condition, then.failed, then.row.messages, then.row.valid_seconds) == (
        now.row.condition,
        now.failed,
        now.row.messages,
        now.row.valid_seconds,
    )
    return "as before" if same else f"{now.row.condition}: {', '.join(now.failed)}"

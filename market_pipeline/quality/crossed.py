"""Crossed and locked time, and the day's valid time, from the flags of the rebuilt book.

All of it is time-weighted on the receipt clock: the book after a message is in force until the next
message, the last message holds for no time at all, and nothing counts inside a gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.quality.intervals import (
    NS_PER_SECOND,
    BoolArray,
    IntArray,
    held_ns,
    overlap_ns,
    running_time_ns,
    runs,
)

__all__ = ["FlagArray", "TouchReport", "ValidTime", "flag_mask", "touch_report", "valid_time"]

FlagArray = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class TouchReport:
    """How often and how long the touch was crossed or locked.

    A count is of maximal runs of messages that leave the book crossed (locked). A run begins with
    its first message and ends with the first message after it, or with the day's last message.

    Attributes:
        crossed_first_ns: Receipt time of the first crossed message; None without one.
        crossed_longest_ns: Receipt time at which the longest crossed run began; None without one.
    """

    crossed_count: int
    crossed_seconds: float
    crossed_longest_seconds: float
    crossed_longest_ns: int | None
    crossed_first_ns: int | None
    locked_count: int
    locked_seconds: float


@dataclass(frozen=True, slots=True)
class ValidTime:
    """How much of a day's observed time the book was valid, and why not.

    Attributes:
        observed_seconds: From the first to the last message, without gaps and quiet holes.
        valid_seconds: Observed time whose message carries no invalidating flag.
        invalid_seconds: Observed time whose message carries an invalidating flag other than
            CROSSED. Crossed time has a check of its own.
        seconds_by_flag: Observed time under each invalidating flag; a row may carry several.
    """

    observed_seconds: float
    valid_seconds: float
    invalid_seconds: float
    seconds_by_flag: dict[BookFlag, float]


def flag_mask(flags: FlagArray, wanted: BookFlag) -> BoolArray:
    """True where a row carries any of the wanted bits; shape (n,)."""
    mask: BoolArray = (flags & np.uint16(wanted)) != 0
    return mask


def touch_report(
    *, ts_receipt_ns: IntArray, flags: FlagArray, not_observed: IntArray
) -> TouchReport:
    """Counts and times the crossed and the locked book.

    Args:
        ts_receipt_ns: int64, shape (n,), one per message; at least one.
        flags: uint16, shape (n,), `BookFlag` bits.
        not_observed: Spans to leave out, see `GapReport.not_observed`.
    """
    time_ns, flags = _stretches(ts_receipt_ns, flags)
    observed = _observed_ns(time_ns, not_observed)
    first, lengths = _timed_runs(flag_mask(flags, BookFlag.CROSSED), observed)
    _, locked_lengths = _timed_runs(flag_mask(flags, BookFlag.LOCKED), observed)
    longest = int(np.argmax(lengths)) if len(lengths) else None
    return TouchReport(
        crossed_count=len(first),
        crossed_seconds=int(lengths.sum()) / NS_PER_SECOND,
        crossed_longest_seconds=int(lengths[longest]) / NS_PER_SECOND if longest is not None else 0,
        crossed_longest_ns=int(time_ns[first[longest]]) if longest is not None else None,
        crossed_first_ns=int(time_ns[first[0]]) if len(first) else None,
        locked_count=len(locked_lengths),
        locked_seconds=int(locked_lengths.sum()) / NS_PER_SECOND,
    )


def valid_time(*, ts_receipt_ns: IntArray, flags: FlagArray, not_observed: IntArray) -> ValidTime:
    """Splits a day's observed time into valid and invalid.

    Takes the same arrays as `touch_report`.
    """
    time_ns, flags = _stretches(ts_receipt_ns, flags)
    observed = _observed_ns(time_ns, not_observed)

    def seconds(mask: BoolArray) -> float:
        return int(np.sum(observed, where=mask)) / NS_PER_SECOND

    return ValidTime(
        observed_seconds=int(observed.sum()) / NS_PER_SECOND,
        valid_seconds=seconds(~flag_mask(flags, INVALIDATING)),
        invalid_seconds=seconds(flag_mask(flags, INVALIDATING & ~BookFlag.CROSSED)),
        seconds_by_flag={flag: seconds(flag_mask(flags, flag)) for flag in INVALIDATING},
    )


def _stretches(ts_receipt_ns: IntArray, flags: FlagArray) -> tuple[IntArray, FlagArray]:
    """The running clock and the flags where the flags change, and at the last message.

    Between two changes time passes under the same flags, however many messages it has. Flags change
    seldom, so hardly anything is left to be timed.
    """
    timed = flags & np.uint16(INVALIDATING | BookFlag.LOCKED)
    first = np.flatnonzero(np.append(True, timed[1:] != timed[:-1]))
    latest_ns = running_time_ns(np.maximum.reduceat(ts_receipt_ns, first))
    begins_ns = np.maximum(ts_receipt_ns[first], np.append(ts_receipt_ns[0], latest_ns[:-1]))
    return np.append(begins_ns, latest_ns[-1]), np.append(timed[first], timed[-1])


def _observed_ns(time_ns: IntArray, not_observed: IntArray) -> IntArray:
    """How long the flags at each time of the running clock were in force outside the gaps."""
    held = held_ns(time_ns)
    return held - overlap_ns(time_ns, time_ns + held, not_observed)


def _timed_runs(mask: BoolArray, observed: IntArray) -> tuple[IntArray, IntArray]:
    """Where each run of true begins, and how long the run was observed."""
    first, after = runs(mask)
    elapsed = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(observed)))
    return first, elapsed[after] - elapsed[first]

"""Whether two days join: the one rule, for what a day begins with and for the check `day_boundary`.

They join if the closing book can be replayed, and the day's first message comes after it by
sequence number and by time, without a silence in between. A silence in which nothing was lost is
none: the book that was replayed over it agrees with the day's first snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.keyframe import Keyframe

__all__ = ["Break", "breaks_between", "why_not_replayed"]


@dataclass(frozen=True, slots=True)
class Break:
    """One reason why two days do not join, with what was found and what was expected."""

    text: str
    found: str | None = None
    expected: str | None = None


def why_not_replayed(close: Keyframe) -> str | None:
    """Why a closing book cannot be replayed into the next day, after its name; None if it can."""
    if close.flags & BookFlag.SNAPSHOT_ONLY:
        return "is a snapshot, and nobody knows what came after it"
    if close.flags & INVALIDATING:
        flags = BookFlag(close.flags) & INVALIDATING
        return f"is not valid ({', '.join(str(flag.name) for flag in flags)})"
    if close.bid_horizon_ticks is None or close.ask_horizon_ticks is None:
        return "was never seeded"
    return None


def breaks_between(
    close: Keyframe,
    first_ts_receipt_ns: int,
    first_sequence_number: int,
    *,
    silence_ns: Callable[[], int],
    is_right: Callable[[], bool],
) -> Iterator[Break]:
    """Why a closing book that can be replayed and the day after it do not join.

    Args:
        close: The closing book of the day before.
        first_ts_receipt_ns, first_sequence_number: Of the day's first message.
        silence_ns: A time between messages up to this is no silence. Asked if there is a pause.
        is_right: Whether a snapshot of the day agrees with the closing book replayed to it,
            level by level; False if none could tell. Asked if the pause is a silence.
    """
    if first_sequence_number <= close.sequence_number:
        yield Break(
            f"the day begins at sequence number {first_sequence_number}, which is not after "
            f"{close.sequence_number} of the closing book: messages are in both days, or the ids "
            "began anew",
            str(first_sequence_number),
            f"above {close.sequence_number}",
        )
    pause_ns = first_ts_receipt_ns - close.ts_receipt_ns
    if pause_ns < 0:
        yield Break(
            f"the day begins {-pause_ns / 1e9:.3f} s before the time of the closing book",
            f"{pause_ns / 1e9:.3f} s",
            "not before it",
        )
    if pause_ns > 0 and pause_ns > silence_ns() and not is_right():
        yield Break(
            f"{pause_ns / 1e9:.3f} s pass between the closing book and the first message, "
            f"and more than {silence_ns() / 1e9:.3f} s is a silence: messages may be lost",
            f"{pause_ns / 1e9:.3f} s",
            f"at most {silence_ns() / 1e9:.3f} s",
        )

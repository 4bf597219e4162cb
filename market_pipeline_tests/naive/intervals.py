"""The plain twin of the intervals: one row after the other, one flag after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from market_pipeline.books.flags import MEANING, BookFlag

NONE = BookFlag(0)
WANTED = {
    "seed": BookFlag.NOT_SEEDED,
    "resync": BookFlag.GAP
    | BookFlag.CROSSED
    | BookFlag.SNAPSHOT_MISMATCH
    | BookFlag.PRECISION_LOSS,
    "confirmed": BookFlag.GAP | BookFlag.SNAPSHOT_MISMATCH,
    "uncross": BookFlag.CROSSED,
}
MAY_END = {
    "seed": ~NONE,
    "resync": ~BookFlag.NOT_SEEDED,
    "confirmed": BookFlag.GAP | BookFlag.SNAPSHOT_MISMATCH,
    "uncross": BookFlag.CROSSED,
}
VALID_DESPITE = (
    BookFlag.LOCKED
    | BookFlag.UNCONFIRMED_DEPTH
    | BookFlag.EMPTY_SIDE
    | BookFlag.SNAPSHOT_ONLY
    | BookFlag.BAD_TS_ORIGIN
)
VERB = {"seed": "seeded from", "resync": "replaced by", "confirmed": "found right by"}


@dataclass
class Row:
    """A row of the book: receipt time, sequence number, touch (size 0: none) and flags."""

    time: int
    sequence: int
    bid: tuple[int, int]
    ask: tuple[int, int]
    flags: BookFlag


@dataclass
class Repaired:
    """A repair and the message it shows in."""

    kind: str
    message: int
    sequence: int
    levels: int
    low: int
    high: int


@dataclass
class Interval:
    """A row of the table without its identity."""

    start_ns: int
    end_ns: int
    cause: str
    invalidates: bool
    action: str
    start_sequence_number: int
    end_sequence_number: int | None
    first_message: int
    messages: int
    evidence: str


def utc(ns: int) -> str:
    """The way Arrow writes a time."""
    seconds = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // 10**9)
    return f"{seconds:%Y-%m-%d %H:%M:%S}.{ns % 10**9:09d} UTC"


def count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def clock_of(rows: list[Row], day_end: int) -> list[int]:
    """The time of each row: it never runs back, and a bad stamp leaves it where it is."""
    clock: list[int] = []
    for row in rows:
        if row.flags & BookFlag.BAD_TS_RECEIPT:
            clock.append(clock[-1] if clock else day_end - 86_400 * 10**9)
        else:
            clock.append(max(row.time, clock[-1]) if clock else row.time)
    return clock


def naive_intervals(
    rows: list[Row],
    repairs: list[Repaired],
    *,
    always: bool,
    tick: Decimal,
    silences: list[tuple[int, int, int]],
    day_end: int,
) -> list[Interval]:
    """All intervals of a day, those that end first in front."""
    clock = clock_of(rows, day_end)
    last = len(rows) - 1
    end_of_day = max(day_end, clock[-1] + 1)

    def side(name: str, touch: tuple[int, int]) -> str:
        return f"{name} {touch[0] * tick}" if touch[1] else f"no {name}"

    def shown(flag: BookFlag, first: int, after: int) -> str:
        row, before = rows[first], max(first - 1, 0)
        if flag == BookFlag.NOT_SEEDED:
            return f"{count(after - first, 'message')} came without a usable snapshot"
        if flag == BookFlag.GAP:
            waited = (clock[first] - clock[before]) // 10**6 * Decimal("0.001")
            for _, end, trades in silences:
                if end == clock[first]:
                    return (
                        f"No message came for {waited:.3f} s after sequence number "
                        f"{rows[before].sequence}, and {count(trades, 'trade')} meanwhile"
                    )
            return (
                f"Messages are missing between sequence numbers {rows[before].sequence} and "
                f"{row.sequence}, received {waited:.3f} s apart"
            )
        if flag == BookFlag.CROSSED:
            deepest = max(range(first, after), key=lambda k: rows[k].bid[0] - rows[k].ask[0])
            ticks = rows[deepest].bid[0] - rows[deepest].ask[0]
            return (
                f"The best bid was above the best ask by up to {count(ticks, 'tick')}, "
                f"most at {utc(clock[deepest])}"
            )
        if flag == BookFlag.LOCKED:
            return f"The best bid equalled the best ask, at first at {row.bid[0] * tick}"
        if flag == BookFlag.SNAPSHOT_MISMATCH:
            return failed(row.sequence)
        if flag == BookFlag.PRECISION_LOSS:
            return (
                "A value off the tick or lot was refused in the message of sequence number "
                f"{row.sequence}"
            )
        bid, ask = side("bid", row.bid), side("ask", row.ask)
        if flag == BookFlag.UNCONFIRMED_DEPTH:
            return f"The touch, at first {bid} and {ask}, lay beyond every snapshot"
        if flag == BookFlag.EMPTY_SIDE:
            return f"A side was empty, at first with {bid} and {ask}"
        if flag == BookFlag.SNAPSHOT_ONLY:
            are = "is a snapshot" if after - first == 1 else "are snapshots"
            return (
                f"{count(after - first, 'row')} {are}, because the deltas of the day cannot be "
                "used, and nobody knows the book between"
            )
        if flag != BookFlag.STALE:
            return MEANING[flag].removesuffix(".")
        end = end_of_day if after > last else clock[after]
        waited = (end - clock[first]) // 10**6 * Decimal("0.001")
        seldom = f"{count(after - first, 'snapshot')} came too seldom for {waited:.3f} s"
        one = f"No snapshot came for {waited:.3f} s"
        text = f"{one if after - first == 1 else seldom} after sequence number {row.sequence}"
        trades = sum(k for start, stop, k in silences if clock[first] <= start and stop <= end)
        return f"{text}, and {count(trades, 'trade')} meanwhile" if trades else text

    def failed(sequence: int) -> str:
        return (
            "A snapshot disagreed with the book, which is in doubt since the last evidence before "
            f"sequence number {sequence}"
        )

    def resolved(flag: BookFlag) -> str:
        if flag == BookFlag.GAP:
            return "a later snapshot matched"
        if flag == BookFlag.SNAPSHOT_MISMATCH:
            return "a later snapshot agreed"
        if flag == BookFlag.STALE:
            return "the next snapshot ended it"
        wider = " or a wider snapshot" if flag == BookFlag.UNCONFIRMED_DEPTH else ""
        return f"later messages{wider} resolved it"

    def ended_by(repair: Repaired) -> str:
        between = (
            f"{count(repair.levels, 'level')} between {repair.low * tick} and {repair.high * tick}"
        )
        if repair.kind == "uncross":
            return f"removed {between}"
        return f"{VERB[repair.kind]} the snapshot of sequence number {repair.sequence}, {between}"

    found: list[Interval] = []
    opened: dict[BookFlag, int] = {}
    waiting = list(repairs)
    for m in range(len(rows) + 1):
        over = m > last
        flags = NONE if over else rows[m].flags
        before = rows[m - 1].flags if m else NONE
        here = [repair for repair in waiting if repair.message == m]
        spent: list[Repaired] = []
        for flag in BookFlag:
            if flag in opened and not flags & flag:
                first = opened.pop(flag)
                early = bool(flag & BookFlag.GAP) and first > 0
                able = [] if over else [r for r in here if MAY_END[r.kind] & flag]
                if over:
                    action, how = "open", "nothing ended it before the day did"
                elif able:
                    action, how = able[0].kind, ended_by(able[0])
                    spent += [able[0]] if WANTED[able[0].kind] & flag else []
                else:
                    action, how = "none", resolved(flag)
                found.append(
                    Interval(
                        clock[first - early],
                        end_of_day if over else clock[m],
                        str(flag.name),
                        not flag & VALID_DESPITE,
                        action,
                        rows[first - early].sequence,
                        None if over else rows[m].sequence,
                        first,
                        m - first,
                        f"{shown(flag, first, m)}; {how}.",
                    )
                )
            elif flag not in opened and flags & flag:
                opened[flag] = m
        for repair in here:
            if repair in spent:
                continue
            at = last if over else m
            point = Interval(
                clock[at],
                clock[at],
                "POLICY",
                False,
                repair.kind,
                rows[at].sequence,
                None if over else rows[m].sequence,
                m,
                0,
                f"Nothing was known against the book; {ended_by(repair)}.",
            )
            wanted = WANTED[repair.kind] & before
            if repair.kind == "seed":
                when = "after" if m else "before"
                text = f"No message came {when} the first usable snapshot; {ended_by(repair)}."
                found.append(replace(point, cause="NOT_SEEDED", evidence=text))
            elif repair.kind == "uncross":
                text = f"The message of sequence number {repair.sequence} crossed the book"
                text = f"{text}; {ended_by(repair)}."
                found.append(replace(point, cause="CROSSED", evidence=text))
            elif wanted:
                cause = next(flag.name for flag in BookFlag if flag & wanted)
                text = f"{cause} was set again by the next message"
                text = "No message came after the repair" if over else text
                text = f"{text}; {ended_by(repair)}."
                found.append(replace(point, cause=str(cause), evidence=text))
            elif repair.kind == "resync" and always:
                found.append(point)
            else:
                examined = max(m - 1, 0)
                found.append(
                    replace(
                        point,
                        start_ns=clock[examined],
                        end_ns=end_of_day if over else clock[m],
                        cause="SNAPSHOT_MISMATCH",
                        invalidates=True,
                        start_sequence_number=rows[examined].sequence,
                        evidence=f"{failed(rows[examined].sequence)}; {ended_by(repair)}.",
                    )
                )
    return found

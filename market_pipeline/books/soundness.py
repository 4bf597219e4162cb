"""What the numbers and stamps of messages are worth: sound, or contradicted by those around them.

One bad number or stamp must cost one message, so none is believed by itself and none is compared
with a running maximum. Each is compared with the last sound values before it, the next `LOOKAHEAD`
messages, and the other clock:

* **A time far ahead** (by more than `TOLERANCE_NS`) is bad if two of the next messages lie before
  it again. A clock that stays ahead, after a gap or a step, is sound.
* **A time far back** is bad if the next messages return to where the clock was before. A clock that
  was set back and stays there is sound: the distance to the other clock stays as it is then.
* **A time at the beginning**, far before all others or with two others before it, is bad if the
  other clock's is not; the median distance of the clocks in the next messages tells. What comes
  before the first message with two sound times is marked as the first.
* **A number far ahead** is bad if two of the next messages, which are not older by the exchange's
  clock, have lower ones.
* **A number below the last sound one** belongs to an old message if the
  exchange's clock is back too: one that stands twice, or comes late. Otherwise the message is new
  and its number is bad, or, if the next numbers stay low while both clocks go on, the numbers began
  anew.
* **A message of the number and exchange's time of the next one** is a part of it, and its row lacks
  the rest.

All decisions follow from the feed alone, not from where it is cut into batches. What a run of more
than about `LOOKAHEAD` / 2 bad values says is believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntFlag
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.state import read_only
from market_pipeline.jit import kernel

__all__ = [
    "LOOKAHEAD",
    "TOLERANCE_NS",
    "LastSound",
    "Mark",
    "Soundness",
    "marked_parts",
    "marks_of",
    "sound_times_ns",
]

LOOKAHEAD = 16
"""So many messages after one are looked at to mark it."""
TOLERANCE_NS = 1_000_000_000
"""A time that is off by no more than this harms nothing and is believed."""
_END_TOLERANCE_NS = 60_000_000_000
_PART_MESSAGES = 1 << 16


class Mark(IntFlag):
    """What is to be done about a message; the lowest 16 bits are those of `BookFlag`."""

    BAD_SEQUENCE = int(BookFlag.BAD_SEQUENCE)
    BAD_TS_RECEIPT = int(BookFlag.BAD_TS_RECEIPT)
    BAD_TS_ORIGIN = int(BookFlag.BAD_TS_ORIGIN)
    OUT_OF_ORDER = int(BookFlag.OUT_OF_ORDER)
    SUSPECTED_LOSS = 1 << 16
    OLD = 1 << 17
    RESTART = 1 << 18


_BAD_SEQUENCE = int(Mark.BAD_SEQUENCE)
_BAD_RECEIPT = int(Mark.BAD_TS_RECEIPT)
_BAD_ORIGIN = int(Mark.BAD_TS_ORIGIN)
_OUT_OF_ORDER = int(Mark.OUT_OF_ORDER)
_OLD = int(Mark.OLD)
_SUSPECTED_LOSS = int(Mark.SUSPECTED_LOSS)
_RESTART = int(Mark.RESTART)

# The state: whether there is one, and the last sound values.
_KNOWN, _NUMBER, _RECEIPT, _ORIGIN = range(4)


def marks_of(
    ts_origin_ns: NDArray[np.int64],
    ts_receipt_ns: NDArray[np.int64],
    sequence_number: NDArray[np.int64],
) -> NDArray[np.int32]:
    """The `Mark` bits of all messages of a feed, int32 (n,); int64 (n,) each, in feed order."""
    marks = np.empty(ts_origin_ns.size, np.int32)
    for first, part in marked_parts(ts_origin_ns, ts_receipt_ns, sequence_number):
        marks[first : first + part.size] = part
    return marks


def marked_parts(
    ts_origin_ns: NDArray[np.int64],
    ts_receipt_ns: NDArray[np.int64],
    sequence_number: NDArray[np.int64],
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The index of a message of a feed, and the `Mark` bits of it and those after, part by part."""
    soundness = Soundness()
    for first in range(0, ts_origin_ns.size, _PART_MESSAGES):
        count = min(_PART_MESSAGES, ts_origin_ns.size - first)
        near = slice(first, first + count + LOOKAHEAD)
        columns = ts_origin_ns[near], ts_receipt_ns[near], sequence_number[near]
        yield first, soundness.mark(*columns, count)


def sound_times_ns(ts_ns: NDArray[np.int64], is_bad: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The times with each bad one replaced by the sound one before it; the first ones by the next.

    Without a sound one they are as they were.
    """
    first_sound = int(np.argmin(is_bad)) if is_bad.size else 0
    if not is_bad.any() or is_bad[first_sound]:
        return ts_ns
    sound = ts_ns.copy()
    last_ns = ts_ns[first_sound]
    for first in range(0, ts_ns.size, _PART_MESSAGES):
        times_ns, bad = (each[first : first + _PART_MESSAGES] for each in (ts_ns, is_bad))
        latest = np.maximum.accumulate(np.where(bad, -1, np.arange(bad.size)))
        part = np.where(latest < 0, last_ns, times_ns[latest])
        sound[first : first + part.size] = part
        last_ns = part[-1]
    return sound


class LastSound(NamedTuple):
    """The last sound values of a feed up to somewhere.

    Attributes:
        sequence_number: The lowest number there is before the first.
        times_ns: Receipt and exchange time; None before a message of which both are sound.
    """

    sequence_number: int = -(2**63)
    times_ns: tuple[int, int] | None = None


class Soundness:
    """Marks the messages of a feed some at a time, with those that come after them at hand.

    Args:
        last: The last sound values before; None at the beginning of a feed.
    """

    def __init__(self, last: LastSound | None = None) -> None:
        number, times_ns = last or LastSound()
        self._state = np.array([times_ns is not None, number, *(times_ns or (0, 0))], np.int64)

    @property
    def last(self) -> LastSound:
        """The last sound values so far."""
        known, number, receipt_ns, origin_ns = self._state.tolist()
        return LastSound(number, (receipt_ns, origin_ns) if known else None)

    def mark(
        self,
        ts_origin_ns: NDArray[np.int64],
        ts_receipt_ns: NDArray[np.int64],
        sequence_number: NDArray[np.int64],
        count: int,
    ) -> NDArray[np.int64]:
        """The `Mark` bits of the next `count` messages, int64 (count,).

        Args:
            ts_origin_ns, ts_receipt_ns, sequence_number: int64 (n,) of these messages and at least
                `LOOKAHEAD` further ones, fewer only where the feed ends.
            count: How many of them to mark.
        """
        marks = np.zeros(count, np.int64)
        origins, receipts, numbers = map(read_only, (ts_origin_ns, ts_receipt_ns, sequence_number))
        _mark(origins, receipts, numbers, self._state, marks)
        return marks


@kernel
def _distance(a, b):
    """The difference a - b, limited to what may be added to without overflow."""
    # Halved, because the compiler takes it for granted that no difference overflows.
    half = (a >> 1) - (b >> 1)
    if half > 2**61:
        return np.int64(2**62)
    if half < -(2**61):
        return np.int64(-(2**62))
    return min(max(a - b, np.int64(-(2**62))), np.int64(2**62))


@kernel
def _is_bad_time(x, y, numbers, at, end, last_x, last_y, last_number, known):
    """Whether a clock's time is contradicted; `y` is the other clock."""
    here = x[at]
    available = end - at - 1
    below = returned = stayed = np.int64(0)
    apart = _distance(here, y[at])
    before = _distance(last_x, last_y)
    moved = _distance(here, last_x)
    if known and moved < -TOLERANCE_NS:
        if available == 0:
            return True
        other_moved = _distance(y[at], last_y)
        for j in range(at + 1, end):
            if other_moved < -TOLERANCE_NS:
                has_returned = _distance(x[j], last_x) >= -TOLERANCE_NS
                returned += has_returned
                stayed += not has_returned
            else:
                now = _distance(x[j], y[j])
                returned += abs(_distance(now, before)) <= TOLERANCE_NS // 2
                stayed += abs(_distance(now, apart)) <= TOLERANCE_NS // 2
        return returned >= stayed
    other_below = np.int64(0)
    for j in range(at + 1, end):
        if numbers[j] > last_number:
            below += _distance(x[j], here) < -TOLERANCE_NS
            other_below += _distance(y[j], y[at]) < -TOLERANCE_NS
    if below >= 2:
        return True
    if not known:
        if available == 0 or other_below >= 2:
            return False
        # Far before all others, by this clock alone.
        return _distance(_median_distance(x, y, at + 1, end), apart) > _END_TOLERANCE_NS
    strays = abs(_distance(moved, _distance(y[at], last_y)))
    if below == 1:
        return available == 1 and strays > TOLERANCE_NS
    return available == 0 and strays > _END_TOLERANCE_NS


@kernel
def _median_distance(x, y, start, end):
    """The lower median of the distances from one clock to the other."""
    for j in range(start, end):
        distance = _distance(x[j], y[j])
        lower = equal = 0
        for k in range(start, end):
            other = _distance(x[k], y[k])
            lower += other < distance
            equal += other == distance
        if lower <= (end - start - 1) // 2 < lower + equal:
            return distance
    return np.int64(0)


@kernel
def _mark(origins, receipts, numbers, state, marks):
    size = numbers.size
    known = state[_KNOWN] != 0
    number, receipt, origin = state[_NUMBER], state[_RECEIPT], state[_ORIGIN]
    descent = np.int64(0)
    for at in range(marks.size):
        n, r, o = numbers[at], receipts[at], origins[at]
        # The next place where the number falls; without one near by no number can be far ahead.
        descent = max(descent, at)
        while (
            descent < size - 1
            and descent < at + LOOKAHEAD
            and numbers[descent + 1] >= numbers[descent]
        ):
            descent += 1
        falls = descent < min(size - 1, at + LOOKAHEAD)
        goes_on = at + 1 < size and numbers[at + 1] == n and origins[at + 1] == o
        if (
            known
            and n >= number
            and not falls
            and not goes_on
            and abs(_distance(r, receipt)) <= TOLERANCE_NS
            and abs(_distance(o, origin)) <= TOLERANCE_NS
        ):
            number, receipt, origin = n, r, o
            continue
        end = min(size, at + 1 + LOOKAHEAD)
        bad_receipt = bad_origin = False
        if not known or abs(_distance(r, receipt)) > TOLERANCE_NS:
            bad_receipt = _is_bad_time(
                receipts, origins, numbers, at, end, receipt, origin, number, known
            )
        if not known or abs(_distance(o, origin)) > TOLERANCE_NS:
            bad_origin = _is_bad_time(
                origins, receipts, numbers, at, end, origin, receipt, number, known
            )
        mark = np.int64(0)
        if n < number:
            high = low = np.int64(0)
            for j in range(at + 1, end):
                high += numbers[j] > number
                low += numbers[j] < number and (not known or origins[j] >= origin)
            is_back = o < origin or (o == origin and r < receipt)
            if is_back if known else low <= high:
                mark = _OLD
                # Alone among new ones it may be the only one of its number.
                if high >= LOOKAHEAD // 2:
                    mark |= _SUSPECTED_LOSS
            elif low > high:
                mark = _RESTART
            else:
                mark = _BAD_SEQUENCE
        elif falls:
            lower = np.int64(0)
            for j in range(at + 1, end):
                is_new = number < numbers[j] < n
                lower += is_new and (origins[j] >= o or (bad_origin and receipts[j] >= r))
            if lower >= 2:
                mark = _BAD_SEQUENCE
        if mark & _OLD:
            marks[at] = mark
            continue
        if bad_receipt:
            mark |= _BAD_RECEIPT
        if bad_origin:
            mark |= _BAD_ORIGIN
        if goes_on:
            mark |= _OUT_OF_ORDER
        marks[at] = mark
        if mark & _BAD_SEQUENCE == 0:
            number = n
        if not known and (bad_receipt or bad_origin):
            # The clocks are known from the first message on that has both of them sound.
            continue
        if not bad_receipt:
            receipt = r
        if not bad_origin:
            origin = o
        known = True
    state[_KNOWN], state[_NUMBER] = known, number
    state[_RECEIPT], state[_ORIGIN] = receipt, origin

"""Which numbers and stamps of a feed are sound: the rules of `books.soundness`, written plainly.

Every message is looked at together with the last sound values before it and the messages that come
after it. The tests hold the two against each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

__all__ = ["LOOKAHEAD", "SOUND", "Marks", "Stamps", "marked"]

LOOKAHEAD = 16
"""So many messages after one are looked at to mark it."""

_SECOND_NS = 1_000_000_000
_HALF_A_SECOND_NS = _SECOND_NS // 2
_MINUTE_NS = 60 * _SECOND_NS
_FARTHEST_NS = 2**62
_BEFORE_ALL = -(2**63)


class Stamps(NamedTuple):
    """Number and times of a message; of several, the last sound ones."""

    sequence_number: int
    ts_receipt_ns: int
    ts_origin_ns: int


@dataclass(frozen=True, slots=True)
class Marks:
    """What a message's number and stamps are worth.

    Attributes:
        is_old: It is a message of before, reported again or late.
        is_alone: It is an old one among new ones.
        is_restart: The numbers began anew with it.
        is_part: The next message is the rest of it.
        bad_sequence, bad_receipt, bad_origin: Contradicted by the messages around it.
    """

    is_old: bool = False
    is_alone: bool = False
    is_restart: bool = False
    is_part: bool = False
    bad_sequence: bool = False
    bad_receipt: bool = False
    bad_origin: bool = False


SOUND = Marks()


def marked(
    messages: Iterable[Stamps], last: Stamps | None = None
) -> Iterator[tuple[Marks, Stamps | None]]:
    """Marks the messages of a feed, each by those around it.

    Args:
        messages: In feed order; as many are taken ahead of the one that is marked as are looked at.
        last: The last sound values before the first; None at the beginning of a feed.

    Yields:
        What each is worth, and the last sound values after it.
    """
    number = _BEFORE_ALL if last is None else last.sequence_number
    feed = iter(messages)
    later = deque(islice(feed, LOOKAHEAD + 1))
    while later:
        message = later.popleft()
        marks = _mark(message, later, last, number)
        if not marks.is_old:
            is_part = bool(later) and _is_one(message, later[0])
            marks = replace(marks, is_part=True) if is_part else marks
            number = number if marks.bad_sequence else message.sequence_number
            # The clocks are known from the first message on that has both of them sound.
            if last is not None or not (marks.bad_receipt or marks.bad_origin):
                known = last or message
                last = Stamps(
                    number,
                    known.ts_receipt_ns if marks.bad_receipt else message.ts_receipt_ns,
                    known.ts_origin_ns if marks.bad_origin else message.ts_origin_ns,
                )
        yield marks, last
        later.extend(islice(feed, 1))


def _mark(message: Stamps, later: Collection[Stamps], last: Stamps | None, number: int) -> Marks:
    """Marks a message by the last sound number, and by the clocks as far as they are known."""
    bad_receipt = _is_bad_time("ts_receipt_ns", "ts_origin_ns", message, later, last, number)
    bad_origin = _is_bad_time("ts_origin_ns", "ts_receipt_ns", message, later, last, number)
    if message.sequence_number < number:
        higher = sum(each.sequence_number > number for each in later)
        lower = sum(
            each.sequence_number < number
            and (last is None or each.ts_origin_ns >= last.ts_origin_ns)
            for each in later
        )
        if last is None:
            is_back = lower <= higher
        else:
            is_back = (message.ts_origin_ns, message.ts_receipt_ns) < (
                last.ts_origin_ns,
                last.ts_receipt_ns,
            )
        if is_back:
            return Marks(is_old=True, is_alone=higher >= LOOKAHEAD // 2)
        is_restart = lower > higher
        return Marks(
            is_restart=is_restart,
            bad_sequence=not is_restart,
            bad_receipt=bad_receipt,
            bad_origin=bad_origin,
        )
    lower_and_not_older = sum(
        number < each.sequence_number < message.sequence_number
        and (
            each.ts_origin_ns >= message.ts_origin_ns
            or (bad_origin and each.ts_receipt_ns >= message.ts_receipt_ns)
        )
        for each in later
    )
    if lower_and_not_older < 2 and not bad_receipt and not bad_origin:
        return SOUND
    return Marks(
        bad_sequence=lower_and_not_older >= 2, bad_receipt=bad_receipt, bad_origin=bad_origin
    )


def _is_bad_time(
    name: str,
    other: str,
    message: Stamps,
    later: Collection[Stamps],
    last: Stamps | None,
    number: int,
) -> bool:
    """Whether the time of one clock is contradicted, with the `other` clock at hand."""
    if last is not None and abs(getattr(message, name) - getattr(last, name)) <= _SECOND_NS:
        return False
    new = [each for each in later if each.sequence_number > number]
    before_it = sum(_is_earlier(each, message, name) for each in new)
    if last is None:
        other_before_it = sum(_is_earlier(each, message, other) for each in new)
        if before_it >= 2 or not later or other_before_it >= 2:
            return before_it >= 2
        # The next ones tell which of the clocks stands apart.
        distances = sorted(_distance(getattr(each, name), getattr(each, other)) for each in later)
        usual = distances[(len(distances) - 1) // 2]
        here = _distance(getattr(message, name), getattr(message, other))
        return _distance(usual, here) > _MINUTE_NS
    moved = _distance(getattr(message, name), getattr(last, name))
    other_moved = _distance(getattr(message, other), getattr(last, other))
    if moved < 0 and other_moved < -_SECOND_NS:
        # Both clocks are back: they return, or they stay.
        returned = [
            _distance(getattr(each, name), getattr(last, name)) >= -_SECOND_NS for each in later
        ]
        return returned.count(True) >= returned.count(False)
    if moved < 0:
        # The distance of the clocks tells: that of before, or that of now.
        before = _distance(getattr(last, name), getattr(last, other))
        now = _distance(getattr(message, name), getattr(message, other))
        distances = [_distance(getattr(each, name), getattr(each, other)) for each in later]
        as_before = sum(abs(each - before) <= _HALF_A_SECOND_NS for each in distances)
        as_now = sum(abs(each - now) <= _HALF_A_SECOND_NS for each in distances)
        return as_before >= as_now
    if before_it >= 2:
        return True
    # At the very end there is nothing to contradict it but the other clock.
    apart = abs(moved - other_moved)
    if before_it == 1:
        return len(later) == 1 and apart > _SECOND_NS
    return not later and apart > _MINUTE_NS


def _is_one(message: Stamps, other: Stamps) -> bool:
    """Whether two messages have one number and one exchange's time."""
    return (message.sequence_number, message.ts_origin_ns) == (
        other.sequence_number,
        other.ts_origin_ns,
    )


def _is_earlier(each: Stamps, message: Stamps, name: str) -> bool:
    """Whether a message is more than a second before another by one clock."""
    return _distance(getattr(each, name), getattr(message, name)) < -_SECOND_NS


def _distance(a_ns: int, b_ns: int) -> int:
    """The time from b to a; more than 146 years are not distinguished."""
    return max(-_FARTHEST_NS, min(a_ns - b_ns, _FARTHEST_NS))

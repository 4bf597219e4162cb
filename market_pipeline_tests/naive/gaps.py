"""The plain twin of the silence rule: one message after the other, no array."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from market_pipeline.quality.measures.silences import GapRule
from market_pipeline.quality.measures.stray_times import TOLERANCE_NS
from market_pipeline_tests.naive.stray_times import naive_strays

NS = 1_000_000_000
NEIGHBOURS = 100
LEAST = 64
PACE_PARTS = 32
RECENT = 10_000


class Message(NamedTuple):
    receipt: int
    origin: int
    number: int


class Shot(NamedTuple):
    """A snapshot with its touch."""

    receipt: int
    origin: int
    number: int
    touch: tuple[float | None, ...]


@dataclass
class Found:
    """Gaps as [start, end, trades, changes], quiet holes as [start, end], in receipt time."""

    gaps: list[list[int]] = field(default_factory=list)
    holes: list[list[int]] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    head: int = 0
    tail: int = 0


def naive_gaps(
    messages: list[Message],
    trades: list[tuple[int, int]],
    shots: list[Shot],
    rule: GapRule,
    day: tuple[int, int],
) -> Found:
    """What is missing of a day; trades are (receipt, origin)."""
    start, end = day
    inside = [index for index, each in enumerate(messages) if start <= each.receipt < end]
    if not inside:
        return Found(head=end - start)
    strays = naive_strays([messages[index].receipt for index in inside], TOLERANCE_NS)
    inside = [index for index, is_stray in zip(inside, strays, strict=True) if not is_stray]
    kept = [messages[index] for index in inside]
    if not same_pace(kept):
        kept = [each._replace(origin=each.receipt) for each in kept]
        trades = [(receipt, receipt) for receipt, _ in trades]
        shots = [each._replace(origin=each.receipt) for each in shots]
    clock: list[int] = []
    for each in kept:
        clock.append(max(each.receipt, clock[-1]) if clock else each.receipt)
    steps = [b - a for a, b in pairwise(clock)]
    usual, silence = rhythm(steps, rule)
    factor = outage_factor(kept, rule) if len(steps) >= LEAST else None
    found = Found(head=kept[0].receipt - start, tail=end - clock[-1])
    for before, after in pairwise(range(len(kept))):
        length, by_origin = clock[after] - clock[before], kept[after].origin - kept[before].origin
        certain, tolerance = min(length, by_origin), rule.quiet_floor_seconds * NS
        if certain <= min(silence, round(rule.outage_floor_seconds * NS)) and length <= tolerance:
            continue

        def lies_inside(
            receipt: int, origin: int, before: int = before, after: int = after
        ) -> bool:
            return (
                clock[before] < receipt < clock[after] - usual
                and kept[before].origin < origin < kept[after].origin - usual
            )

        traded = sum(lies_inside(receipt, origin) for receipt, origin in trades)
        is_silence = certain > silence
        by_trades = is_silence and traded > 0
        seen = [lies_inside(each.receipt, each.origin) for each in shots]
        changes = 0 if by_trades else changes_in(kept, before, shots, seen)
        near = usual_around(kept, before)
        is_outage = factor is not None and certain > max(
            round(rule.outage_floor_seconds * NS),
            10 * near,
            min(factor * near, rule.outage_factor * usual),
        )
        if is_outage or by_trades or (is_silence and changes):
            found.gaps.append([clock[before], clock[after], traded, changes])
            found.after.append(inside[after])
        elif length > max(tolerance, silence, rule.silence_factor * near):
            found.holes.append([clock[before], clock[after]])
    return found


def rhythm(steps: list[int], rule: GapRule) -> tuple[int, int]:
    """The usual time, and that from which on one is a silence."""
    floor = round(rule.silence_floor_seconds * NS)
    if not steps:
        return 0, floor
    usual = sorted(steps)[math.floor(rule.silence_quantile * (len(steps) - 1))]
    return usual, max(round(rule.silence_factor * usual), floor)


def outage_factor(messages: list[Message], rule: GapRule) -> float:
    """How many times longer than usual around it an outage is."""
    blocks = (len(messages) - 1) // NEIGHBOURS
    looked_at = min(blocks, 4_096)
    tail = max(min(64, looked_at // 4), looked_at // 16)
    if tail < 4:
        return math.inf
    ratios = []
    for k in range(looked_at):
        first = k * blocks // looked_at * NEIGHBOURS
        block = messages[first : first + NEIGHBOURS + 1]
        steps = sorted(max(b.receipt - a.receipt, 0) for a, b in pairwise(block))
        ratios.append(steps[-1] / max(steps[94], 1))
    ratios.sort(reverse=True)
    low, high = ratios[tail - 1], ratios[tail // 4 - 1]
    if low <= 0:
        return math.inf
    slope = math.log(high / low) / math.log(tail / (tail // 4))
    exponent = math.log(low) + slope * math.log(
        max(tail / rule.outage_chance * (blocks / looked_at), 1)
    )
    return math.exp(exponent) if exponent < 60 else math.inf


def usual_around(messages: list[Message], before: int) -> int:
    """What is usual on the slower side of the silence after a message."""
    sides = (
        messages[max(before - NEIGHBOURS, 0) : before + 1],
        messages[before + 1 : before + 2 + NEIGHBOURS],
    )
    usual = 0
    for side in sides:
        steps = sorted(max(b.receipt - a.receipt, 0) for a, b in pairwise(side))
        if steps:
            usual = max(usual, steps[int((len(steps) - 1) * 0.95)])
    return usual


def changes_in(messages: list[Message], before: int, shots: list[Shot], inside: list[bool]) -> int:
    """How many snapshots inside a silence show another book than the one before them."""
    low, high = messages[before].number, messages[before + 1].number
    recent = {each.number for each in messages[max(before + 1 - RECENT, 0) : before + 1]}
    changes, numbered = 0, 0
    for k in range(1, len(shots)):
        if not inside[k]:
            continue
        last, shot = shots[k - 1], shots[k]
        is_new = low < shot.number < high and shot.number != last.number
        moved = shot.number == last.number and shot.touch != last.touch
        if inside[k - 1] and (moved or (is_new and last.number > low)):
            changes += 1
        elif is_new and last.number in recent:
            numbered = 1
    return max(changes, numbered)


def same_pace(messages: list[Message]) -> bool:
    """Whether both clocks go at the same pace."""
    every = len(messages) // PACE_PARTS
    if every < 2:
        return True
    sampled = messages[::every]
    pace = middle([b.receipt - a.receipt for a, b in pairwise(sampled)])
    other = middle([b.origin - a.origin for a, b in pairwise(sampled)])
    return pace <= 2 * other and other <= 2 * pace


def middle(values: list[int]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return float(ordered[half]) if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2

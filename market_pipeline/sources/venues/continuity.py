"""Whether a frame follows the one before: one rule for every venue, from its declaration.

What a frame continues is a *start*: the last id of the frame that must have come before
(`Continuity.start`). A frame follows another if it starts where that one ended.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from market_pipeline.sources.venues.venue import Classified, Continuity, Kind, Scope, Venue

__all__ = ["Checked", "ContinuityChecker", "Sequence", "Step", "step_between"]


class Step(StrEnum):
    """What a frame is to the frames before it."""

    BEGINS = "begins"
    """The first one, or a whole book among the messages."""
    FOLLOWS = "follows"
    OLD = "old"
    """It came before, or is late; what it says is known or overwritten."""
    GAP = "gap"
    """Something between is lost."""
    UNPROVEN = "unproven"
    """Its ids do not say."""


class Checked(NamedTuple):
    """What was found of a frame.

    Attributes:
        lost: How many ids are missing before it; 0 if none, None if their number is not known.
        expected, found: The id that it should have continued, and the one it continues.
    """

    step: Step
    lost: int | None = 0
    expected: int | None = None
    found: int | None = None


def step_between(seen: int | None, start: int, last: int, *, may_fall: bool = False) -> Step:
    """What a frame that starts and ends at these ids is after one that ended at `seen`."""
    if seen is None:
        return Step.BEGINS
    if may_fall and start == seen:
        return Step.FOLLOWS
    if last <= seen:
        return Step.OLD
    return Step.FOLLOWS if start == seen else Step.GAP


class Sequence:
    """Follows the frames of one row of ids.

    Attributes:
        last_id: Of the frame that came last and was not old.
    """

    def __init__(self, continuity: Continuity) -> None:
        self.continuity = continuity
        self.last_id: int | None = None

    def check(self, frame: Classified) -> Checked:
        """What the next frame is; after a gap it is the one to continue."""
        rule, last = self.continuity, frame.last_id
        start = rule.start(frame.first_id, last, frame.previous_id)
        if frame.is_snapshot and rule.scope is Scope.SYMBOL:
            self.last_id = last
            return Checked(Step.BEGINS)
        if start is None or last is None:
            return Checked(Step.UNPROVEN, None)
        seen = self.last_id
        step = step_between(seen, start, last, may_fall=rule.ids_may_fall)
        if step is Step.OLD:
            return Checked(step, 0, seen, start)
        self.last_id = last
        if step is not Step.GAP or seen is None:
            return Checked(step, 0, seen, start)
        # A frame that begins before the last one ended, and ends after it, was cut another way.
        lost = max(start - seen, 0) if rule.counts_losses else None
        return Checked(step, lost, seen, start)


class ContinuityChecker:
    """Follows all frames of a venue, each connection by itself."""

    def __init__(self, venue: Venue) -> None:
        self._rules = {channel.kind: channel.continuity for channel in venue.channels}
        counted = [rule for rule in self._rules.values() if rule.scope is Scope.CONNECTION]
        self._of_connection = counted[0] if counted else None
        self._sequences: dict[tuple[str, str], Sequence] = {}

    def check(self, connection: str, frame: Classified) -> Checked:
        """What a frame is to those before it on its connection."""
        if self._of_connection is not None:
            return self._sequence(connection, "", self._of_connection).check(frame)
        rule = self._rules.get(frame.kind)
        if rule is None or frame.kind is Kind.SNAPSHOT:
            return Checked(Step.UNPROVEN, None)
        return self._sequence(connection, frame.stream, rule).check(frame)

    def end(self, connection: str) -> None:
        """Forgets a connection that was closed: the next one of its name begins anew."""
        for key in [key for key in self._sequences if key[0] == connection]:
            del self._sequences[key]

    def _sequence(self, connection: str, stream: str, rule: Continuity) -> Sequence:
        key = connection, stream
        if key not in self._sequences:
            self._sequences[key] = Sequence(rule)
        return self._sequences[key]

"""One stream out of redundant connections: each message once, in order, and what all have lost.

A message that continues nothing known waits a little, because another connection may have what is
between. Only what none of them had is a gap.

Where ids do not tell which messages of two connections are the same (a counter of the connection, a
checksum, nothing), the messages of one connection are handed on and those of the others left out.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from market_pipeline.sources.venues.continuity import Step, step_between
from market_pipeline.sources.venues.venue import Classified, Continuity, Proof, Scope

__all__ = ["Hole", "Merge", "Message"]


class Message(Struct, frozen=True, gc=False):
    """A frame as the venue classifies it, its bytes, when it came and on which connection."""

    head: Classified
    payload: bytes
    wall_ns: int = 0
    connection: int = 0


class Hole(NamedTuple):
    """Messages between two ids that no connection had."""

    after_id: int
    before_id: int


class Merge:
    """The messages of one stream.

    Args:
        continuity: What the stream proves. Without a proof messages are distinguished by their last
            id alone.
        fill_s: How long a message waits for those before it.

    Attributes:
        last_id: Up to which messages were handed on.
        leader: The connection whose messages are handed on, where those of several cannot be
            united: the first one, then each newer one once it has brought a whole book.
        duplicates: Messages that another connection had brought before.
        filled: Messages that came late, from another connection, and closed what would be a gap.
    """

    def __init__(self, continuity: Continuity, fill_s: float) -> None:
        self.last_id: int | None = None
        self.leader: int | None = None
        self.duplicates = 0
        self.filled = 0
        self._continuity = continuity
        self._fill_s = fill_s
        self._waiting: dict[int, tuple[int, Message]] = {}
        self._due_s: float | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether messages wait for those before them."""
        return bool(self._waiting)

    def push(self, message: Message, now_s: float) -> list[Message]:
        """The messages that are in order now that this one is there."""
        head, rule = message.head, self._continuity
        last = head.last_id
        if rule.scope is Scope.CONNECTION or rule.is_checked_after or last is None:
            return self._of_leader(message)
        if head.is_snapshot:
            self._waiting.clear()
            self._due_s = None
            self.last_id = last
            return [message]
        start = rule.start(head.first_id, last, head.previous_id)
        if start is None:
            return self._unproven(message, last)
        step = step_between(self.last_id, start, last, may_fall=rule.ids_may_fall)
        if step is Step.OLD or last in self._waiting:
            self.duplicates += 1
            return []
        if step is Step.GAP:
            if not self._waiting:
                self._due_s = now_s + self._fill_s
            self._waiting[last] = (start, message)
            return []
        self.last_id = last
        if not self._waiting:
            return [message]
        self.filled += 1
        return [message, *self._follow(now_s)]

    def ended(self, connection: int) -> bool:
        """A connection has ended; whether it was the leader, so that another one is to follow."""
        if connection != self.leader:
            return False
        self.leader = None
        return True

    def expire(self, now_s: float) -> tuple[list[Hole], list[Message]]:
        """The gaps that nobody has closed in time, and the messages behind them."""
        if self._due_s is None or now_s < self._due_s or self.last_id is None:
            return [], []
        last, (start, message) = min(self._waiting.items(), key=lambda each: each[1][0])
        del self._waiting[last]
        hole = Hole(self.last_id, start)
        self.last_id = last
        return [hole], [message, *self._follow(now_s)]

    def _of_leader(self, message: Message) -> list[Message]:
        # The book of a newer connection is one to go on with after this one is closed.
        is_newer = self.leader is not None and message.connection > self.leader
        if self.leader is None or (message.head.is_snapshot and is_newer):
            self.leader = message.connection
        if message.connection == self.leader:
            return [message]
        self.duplicates += 1
        return []

    def _follow(self, now_s: float) -> list[Message]:
        found = []
        by_start = {start: last for last, (start, _) in self._waiting.items()}
        while self.last_id in by_start:
            last = by_start[self.last_id]
            found.append(self._waiting.pop(last)[1])
            self.last_id = last
        for old in [last for last in self._waiting if self.last_id and last <= self.last_id]:
            del self._waiting[old]
        # What still waits has waited for the message that has come just now: it is given the time.
        self._due_s = now_s + self._fill_s if self._waiting else None
        return found

    def _unproven(self, message: Message, last: int) -> list[Message]:
        # Several states of one id are possible without a proof: only an older one is certain.
        seen = self.last_id
        if self._continuity.proof is Proof.NONE and seen is not None and last <= seen:
            self.duplicates += 1
            return []
        self.last_id = last
        return [message]

"""The streams of a capture: each message once, what all connections lost, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from market_pipeline.capture.derived import Derived
from market_pipeline.capture.pipeline import Change, Event, Notice
from market_pipeline.capture.status import Status, StreamStatus
from market_pipeline.capture.stream_state import StreamClock
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.sources.recording.format import Gap
from market_pipeline.sources.venues.continuity import Checked, ContinuityChecker, Step
from market_pipeline.sources.venues.merge import Merge, Message
from market_pipeline.sources.venues.venue import Classified, Kind, Proof, Scope, Venue
from market_pipeline.telemetry.metrics.capture_table import CAPTURE_FAILOVER
from market_pipeline.telemetry.metrics.recording import record

__all__ = ["Streams"]


class Streams:
    """Follows each stream over all of its connections.

    Args:
        venue, settings: Whose streams, and which.
        status: Gets a line for each.
        derived: Is given each message once, in order; none if nothing is made of them.
        on_gap: Takes a stream and what is missing of it.
    """

    def __init__(
        self,
        venue: Venue,
        settings: CaptureSettings,
        status: Status,
        derived: Derived | None,
        on_gap: Callable[[str, Gap], None],
    ) -> None:
        self._status, self._derived, self._on_gap = status.streams, derived, on_gap
        self._merges: dict[str, Merge] = {}
        self._clocks: dict[str, StreamClock] = {}
        self._covered: dict[str, bool] = {}
        self._venue, self._down_since_ns = venue.exchange, dict[str, int]()
        self._checker = ContinuityChecker(venue)
        self._is_counted = any(
            channel.continuity.scope is Scope.CONNECTION for channel in venue.channels
        )
        for symbol in settings.symbols:
            for kind in map(Kind, settings.streams):
                name = f"{kind.value}:{symbol}"
                rule = venue.channel(kind).continuity
                self._merges[name] = Merge(rule, settings.fill_ms / 1000)
                # A checksum proves nothing where no book has it.
                has_proof = rule.proof not in (Proof.NONE, Proof.CHECKSUM)
                self._clocks[name] = StreamClock(has_proof=has_proof)
                self._status[name] = StreamStatus()

    def __contains__(self, name: str) -> bool:
        return name in self._merges

    def check(self, connection: int, head: Classified, wall_ns: int) -> Checked | None:
        """Follows the counter of a connection, where the venue has one; for each of its frames."""
        if not self._is_counted:
            return None
        checked = self._checker.check(str(connection), head)
        if checked.step is Step.GAP:
            reason = f"frames of the connection are missing after {checked.expected}"
            for name, merge in self._merges.items():
                if merge.leader == connection:
                    self._lost(name, reason, wall_ns)
                    self._on_gap(name, Gap(reason, checked.expected, checked.found))
        return checked

    def take(self, message: Message, now_s: float, checked: Checked | None) -> None:
        """Takes a frame of a stream, and hands on what is in order with it."""
        name = message.head.stream
        merge, stream = self._merges[name], self._status[name]
        stream.frames += 1
        stream.last_wall_ns = message.wall_ns
        for each in merge.push(message, now_s):
            self._hand_on(name, each, checked)
        stream.duplicates, stream.filled = merge.duplicates, merge.filled

    def take_snapshot(self, message: Message) -> None:
        """Takes the answer to a REST request."""
        if self._derived is not None:
            self._derived.put(Event(message.payload, message.head, message.wall_ns))

    def expire(self, now_s: float) -> None:
        """Finds the gaps that no connection closed in time, and hands on what is behind them."""
        for name, merge in self._merges.items():
            while merge.is_waiting:
                holes, messages = merge.expire(now_s)
                if not holes:
                    break
                for hole in holes:
                    self._clocks[name].lost(messages[0].wall_ns)
                    reason = "no connection had these ids"
                    self._on_gap(name, Gap(reason, hole.after_id, hole.before_id))
                for message in messages:
                    self._hand_on(name, message, None)

    def cover(self, name: str, is_covered: bool, reason: str, at_ns: int) -> None:
        """Takes whether a connection has a stream at all."""
        if self._covered.get(name) is is_covered:
            return
        if is_covered and name in self._down_since_ns:
            down_ns = max(at_ns - self._down_since_ns.pop(name), 0)  # clocks are set back, too
            record(CAPTURE_FAILOVER, down_ns / NS_PER_SECOND, venue=self._venue)
        elif self._covered.get(name):
            self._down_since_ns[name] = at_ns
        self._covered[name] = is_covered
        clock = self._clocks[name]
        clock.up(at_ns) if is_covered else clock.down(at_ns)
        self._note(Change.UP if is_covered else Change.DOWN, at_ns, name, reason)

    def end(self, connection: int, names: Iterable[str], at_ns: int) -> None:
        """A connection with these streams has ended."""
        self._checker.end(str(connection))
        for name in names:
            if self._merges[name].ended(connection) and self._covered.get(name):
                self._lost(name, f"connection {connection}, which it followed, has ended", at_ns)

    def observe(self, at_ns: int) -> None:
        """Adds the time up to an instant to what each stream was."""
        for clock in self._clocks.values():
            clock.observe(at_ns)
        self._note(Change.NONE, at_ns)

    def refresh(self, status: Status) -> None:
        """Brings the time in each state up to date."""
        for name, clock in self._clocks.items():
            status.streams[name].count(clock.seconds)
        if self._derived is not None:
            self._derived.refresh(status)
        status.count_verified()

    def _hand_on(self, name: str, message: Message, checked: Checked | None) -> None:
        self._status[name].messages += 1
        self._clocks[name].heard(message.wall_ns)
        if self._derived is not None:
            self._derived.put(Event(message.payload, message.head, message.wall_ns, checked))

    def _lost(self, name: str, reason: str, at_ns: int) -> None:
        self._clocks[name].lost(at_ns)
        self._note(Change.LOST, at_ns, name, reason)

    def _note(self, change: Change, at_ns: int, name: str = "", reason: str = "") -> None:
        if self._derived is not None:
            self._derived.note(Notice(change, at_ns, name, reason))

"""When no host had a connection, by what recordings say of connections and by where they end."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from market_pipeline.sources.recording.check import read_facts
from market_pipeline.sources.recording.format import RecordKind
from market_pipeline.sources.recording.union import Received

__all__ = ["Uptime"]


class Uptime:
    """Follows the connections of all hosts.

    A connection is open from its first frame, or the record of its beginning, to the record of its
    end. One that a killed recorder left ends with the last record of its session.

    Args:
        hosts: The files of each host.
        start_ns: From when it counts; until the first connection it is down.
    """

    def __init__(self, hosts: Sequence[Sequence[Path]], start_ns: int) -> None:
        self._session_of: dict[Path, tuple[int, str]] = {}
        self._end_of: dict[tuple[int, str], int] = {}
        for host, files in enumerate(hosts):
            for file in files:
                facts = read_facts(file)
                session = host, facts.header.session if facts.header else file.name
                last_ns = facts.span_ns[1] if facts.span_ns else 2**63 - 1
                self._session_of[file] = session
                self._end_of[session] = max(self._end_of.get(session, 0), last_ns)
        self._open: dict[tuple[int, str], set[int]] = {}
        self._begins: list[int] = [start_ns]
        self._ends: list[int] = []

    def hear(self, arrival: Received) -> None:
        """Takes the next record, in the order of receipt."""
        record, session = arrival.record, self._session_of[arrival.file]
        self.end(arrival.at_ns)
        if record.kind == RecordKind.DISCONNECT:
            connections = self._open.get(session, set())
            connections.discard(record.connection)
            if not connections:
                self._open.pop(session, None)
            self._close(arrival.at_ns)
        elif record.kind in (RecordKind.FRAME, RecordKind.CONNECT):
            self._open.setdefault(session, set()).add(record.connection)
            if len(self._ends) < len(self._begins):
                self._ends.append(arrival.at_ns)

    def end(self, before_ns: int) -> None:
        """Closes what sessions left open whose last record came before a time."""
        for session in [each for each in self._open if self._end_of[each] < before_ns]:
            del self._open[session]
            self._close(self._end_of[session])

    def down_ns(self, begin_ns: int, end_ns: int) -> int:
        """How long no host had a connection between two times."""
        total = 0
        for at in range(bisect_left(self._ends, begin_ns), len(self._begins)):
            first = self._begins[at]
            last = self._ends[at] if at < len(self._ends) else end_ns
            if first >= end_ns:
                break
            total += max(min(last, end_ns) - max(first, begin_ns), 0)
        return total

    def _close(self, at_ns: int) -> None:
        if not self._open and len(self._ends) == len(self._begins):
            self._begins.append(at_ns)

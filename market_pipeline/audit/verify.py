"""Reads an audit log from its first entry to its last, and locates what was tampered with.

Found are entries that were changed, deleted, moved, repeated or put in, and by anchors, which are
kept elsewhere, that the end was cut off or the log made anew. Not found is what somebody with the
key does behind the last anchor.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from market_pipeline.audit.chain import ChainKey, Entry, parsed
from market_pipeline.audit.log import log_files

__all__ = ["Anchor", "Fault", "Verified", "read_entries", "verify"]

Kind = Literal["changed", "deleted", "moved", "no_entry", "cut_off", "settings", "unchecked"]


@dataclass(frozen=True, slots=True)
class Anchor:
    """An entry's sequence and code, as they were noted elsewhere; `source` says where."""

    sequence: int
    code: str
    source: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and where: file and line (from 1); of an anchor neither."""

    kind: Kind
    found: str
    file: str | None = None
    line: int | None = None


@dataclass(slots=True)
class Verified:
    """What a log holds, and what is wrong with it.

    Attributes:
        files, entries: How many.
        keyed, plain: Entries whose codes need the key, and those that prove their order alone.
        last: The highest sequence.
        anchored: The highest sequence that an anchor confirms; 0 without one.
        anchors: How many anchors were compared.
        unproven: First and last of each range of entries without a key that stands behind one with
            a key: of a process without the master key, or of whoever may write the file.
        settings: By component and setting, the hash that its newest entry has; None where the
            setting was taken away.
        torn_bytes: Of a line at the end that a killed process left; the next entry accounts for it.
        faults: In the order of the log, those of anchors at the end.
    """

    files: int = 0
    entries: int = 0
    keyed: int = 0
    plain: int = 0
    last: int = 0
    anchored: int = 0
    anchors: int = 0
    unproven: list[tuple[int, int]] = field(default_factory=list)
    settings: dict[str, dict[str, str | None]] = field(default_factory=dict)
    torn_bytes: int = 0
    faults: list[Fault] = field(default_factory=list)


def verify(folder: Path, key: ChainKey, anchors: Sequence[Anchor] = ()) -> Verified:
    """Checks every entry of a log, and that the anchors are in it.

    Args:
        folder: Of the log.
        key: Of the master key; without one, entries with a key are not checked but by their order.
        anchors: What was noted elsewhere.

    Raises:
        OSError: A file cannot be read.
    """
    reading = _Reading(key, {each.sequence for each in anchors})
    for path in log_files(folder):
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                reading.take(path.name, number, line)
        reading.end_file()
    return reading.end(anchors)


def read_entries(folder: Path) -> Iterator[Entry]:
    """The entries of a log in the order of its files, unchecked; what is none is passed over."""
    for path in log_files(folder):
        with path.open("rb") as file:
            for line in file:
                if found := parsed(line.removesuffix(b"\n")):
                    yield found[0]


class _Reading:
    """A log as far as it was read."""

    def __init__(self, key: ChainKey, anchored: set[int]) -> None:
        self._keys = {each.prefix: each for each in (ChainKey(), key)}
        self._anchored, self._at_anchors = anchored, dict[int, str]()
        self._codes = {0: ""}
        self._last_code = (0, "")
        self._gaps: list[tuple[int, int, str, int]] = []
        self._late: set[int] = set()
        self._not_set: set[str] = set()
        self._junk: list[bytes] = []
        self._junk_at = ("", 0)
        self.result = Verified()

    def take(self, file: str, number: int, line: bytes) -> None:
        """Takes a line with its end."""
        found = parsed(line[:-1]) if line.endswith(b"\n") else None
        if found is None:
            self._junk_at = self._junk_at if self._junk else (file, number)
            self._junk.append(line)
            return
        entry, body = found
        self._check_junk(entry, file, number)
        self._check_order(entry.sequence, file, number)
        self._check_code(entry, body, file, number)
        self._codes.setdefault(entry.sequence, entry.mac)
        if entry.sequence in self._anchored:
            self._at_anchors[entry.sequence] = entry.mac
        if entry.sequence >= self.result.last:
            self.result.last, self._last_code = entry.sequence, (entry.sequence, entry.mac)
            if entry.action == "settings":
                self._take_settings(entry)
        self.result.entries += 1

    def _take_settings(self, entry: Entry) -> None:
        changed = entry.what.get("changed")
        for name, pair in changed.items() if isinstance(changed, dict) else ():
            if isinstance(pair, list) and len(pair) == 2:  # before and after
                self.result.settings.setdefault(entry.component, {})[name] = pair[1]

    def end_file(self) -> None:
        """Forgets the codes of a file but the last: entries are moved within a file, if at all."""
        self.result.files += 1
        self._codes = dict([self._last_code])

    def end(self, anchors: Sequence[Anchor]) -> Verified:
        """What was found, once everything is read."""
        self.result.torn_bytes = sum(map(len, self._junk))
        late = sorted(self._late)
        for first, last, file, line in self._gaps:
            for begin, end in _without(late, first, last):
                self._add("deleted", f"{_named(begin, end)} not there", file, line)
        for anchor in anchors:
            code = self._at_anchors.get(anchor.sequence)
            self.result.anchors += 1
            if code == anchor.code:
                self.result.anchored = max(self.result.anchored, anchor.sequence)
            elif code is not None:
                self._add("changed", f"entry {anchor.sequence} is not that of {anchor.source}")
            elif anchor.sequence > self.result.last:
                lost = _named(self.result.last + 1, anchor.sequence)
                self._add("cut_off", f"{lost} not there, and {anchor.source} has the last of them")
            else:
                self._add("deleted", f"entry {anchor.sequence} of {anchor.source} is not there")
        return self.result

    def _check_junk(self, entry: Entry, file: str, number: int) -> None:
        """Lines that are no entry are accounted for by the entry behind them, or were put in."""
        junk = b"".join(self._junk).rstrip(b"\n")
        accounted = entry.action == "torn" and entry.what.get("sha256")
        if self._junk and accounted != hashlib.sha256(junk).hexdigest():
            self._add("no_entry", f"{len(junk)} bytes are no entry", *self._junk_at)
        elif accounted and not self._junk:
            self._add(
                "deleted", f"the torn line of entry {entry.sequence} is not there", file, number
            )
        self._junk = []

    def _check_order(self, sequence: int, file: str, number: int) -> None:
        expected = self.result.last + 1
        if sequence > expected:
            self._gaps.append((expected, sequence - 1, file, number))
        elif sequence < expected:
            self._late.add(sequence)
            self._add("moved", f"entry {sequence} stands behind {expected - 1}", file, number)

    def _check_code(self, entry: Entry, body: bytes, file: str, number: int) -> None:
        prefix = entry.mac.rpartition(":")[0] + ":"
        is_plain = prefix == ChainKey().prefix
        self.result.plain += is_plain
        self.result.keyed += not is_plain
        if is_plain and self.result.keyed:
            self._add_unproven(entry.sequence)
        key = self._keys.get(prefix)
        before = self._codes.get(entry.sequence - 1)
        if key is None:
            if prefix not in self._not_set:
                self._not_set.add(prefix)
                of = prefix.removeprefix("hmac:").rstrip(":")
                text = f"entry {entry.sequence} and maybe more have the key {of}, which is not set"
                self._add("unchecked", text, file, number)
        # Behind a gap there is no code to go by; the gap itself is found.
        elif before is not None and key.code(before, body) != entry.mac:
            self._add("changed", f"entry {entry.sequence} is not as it was written", file, number)

    def _add_unproven(self, sequence: int) -> None:
        ranges = self.result.unproven
        if ranges and ranges[-1][1] == sequence - 1:
            ranges[-1] = (ranges[-1][0], sequence)
        else:
            ranges.append((sequence, sequence))

    def _add(
        self, kind: Kind, found: str, file: str | None = None, line: int | None = None
    ) -> None:
        self.result.faults.append(Fault(kind, found, file, line))


def _without(late: Sequence[int], first: int, last: int) -> Iterator[tuple[int, int]]:
    """The ranges, both ends included, of a range of any size without some ascending numbers."""
    begin = first
    for number in late[bisect_left(late, first) : bisect_right(late, last)]:
        if begin < number:
            yield begin, number - 1
        begin = number + 1
    if begin <= last:
        yield begin, last


def _named(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"

"""Several recordings of the same streams as one: what one lacks is taken from the others."""

from __future__ import annotations

import gzip
import heapq
import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from market_pipeline.security.ring import KeyRing, Purpose
from market_pipeline.security.sealing import stored_whole
from market_pipeline.security.stored import is_stored
from market_pipeline.sources.recording.check import read_facts
from market_pipeline.sources.recording.format import Record, RecordKind
from market_pipeline.sources.recording.reader import Damage, read_header, read_recording

__all__ = ["HOLD_NS", "Received", "by_host", "export_collector_form", "file_name"]
__all__ += ["received", "union"]

HOLD_NS = 2_000_000_000
"""A frame that another connection or host received so much later still finds its place."""

_RECEIVED = frozenset({RecordKind.FRAME, RecordKind.SNAPSHOT})
_BELIEVED = 100
"""A clock that jumps is believed once so many records in a row were stamped by it."""

UpdateId = Callable[[Record], int | None]


class Received(NamedTuple):
    """A record, and where it is.

    Attributes:
        at_ns: When it was received, by which records are ordered: its wall clock, but for a stamp
            that is far from those before and after it.
        host: The number of the host that has it.
        lane: The number of a sequence of files that do not overlap in time. A copy of a file, or
            what two recorders on one host wrote, is in another lane.
    """

    at_ns: int
    host: int
    lane: int
    file: Path
    record: Record


class _Seen(NamedTuple):
    """How often a frame came, by the lane and the connection it came on."""

    at_ns: int
    counts: Counter[tuple[int, int]]


def file_name(file: Path) -> str:
    """A recording's day and name; the name alone comes again the next day."""
    return f"{file.parent.name}/{file.name}"


def by_host(files: Iterable[Path]) -> list[list[Path]]:
    """The files of each host in the order in which they were begun, hosts by their names.

    Raises:
        LakeFileError: A file is no recording.
    """
    headers = sorted(
        ((read_header(file), file) for file in files), key=lambda each: each[0].start_wall_ns
    )
    hosts: dict[str, list[Path]] = defaultdict(list)
    for header, file in headers:
        hosts[header.host].append(file)
    return [hosts[host] for host in sorted(hosts)]


def received(
    hosts: Sequence[Sequence[Path]], on_damage: Callable[[Damage], None] | None = None
) -> Iterator[Received]:
    """Yields the records of all hosts in the order of receipt, one block of each lane at once.

    Args:
        hosts: The files of each host, the earliest first.
        on_damage: See `read_recording`.

    Raises:
        LakeFileError: A recording cannot be read.
    """
    lanes = [(host, lane) for host, files in enumerate(hosts) for lane in _lanes(files)]
    sources = [
        _records(host, number, files, on_damage) for number, (host, files) in enumerate(lanes)
    ]
    return heapq.merge(*sources, key=lambda each: each.at_ns)


def union(arrivals: Iterable[Received], update_id: UpdateId) -> Iterator[Received]:
    """Yields frames and snapshots of all hosts and connections once each.

    Order is that of receipt, but a frame whose id is below that of one received before it, less
    than `HOLD_NS` ago, comes before that one. A frame is the same as another if stream and bytes
    are, within `HOLD_NS`; one that a connection sent twice comes twice.

    Args:
        arrivals: The records of all hosts, in the order of receipt.
        update_id: The id of a record by which its stream is ordered; None if it has none.
    """
    held: deque[tuple[Received, int | None]] = deque()
    seen: dict[tuple[str, bytes], _Seen] = {}
    newest_of: dict[str, int] = {}
    newest_ns = 0
    for arrival in arrivals:
        record = arrival.record
        if record.kind not in _RECEIVED:
            continue
        if arrival.at_ns <= newest_ns - HOLD_NS:  # a clock was set back: nothing will be so late
            yield from (each for each, _ in held)
            held.clear()
            seen.clear()
            newest_ns = 0
        newest_ns = max(newest_ns, arrival.at_ns)
        while held and held[0][0].at_ns <= newest_ns - HOLD_NS:
            yield held.popleft()[0]
        if _is_again(seen, arrival, newest_ns):
            continue
        number = update_id(record) if record.kind == RecordKind.FRAME else None
        if number is not None and number < newest_of.get(record.stream, number):
            held.insert(_place(held, record.stream, number), (arrival, number))
            continue
        held.append((arrival, number))
        if number is not None:
            newest_of[record.stream] = number
    yield from (arrival for arrival, _ in held)


def export_collector_form(
    frames: Iterable[Received],
    path: Path,
    ring: KeyRing | None = None,
    purpose: Purpose = "exports",
) -> int:
    """Writes frames as hftbacktest's collector does: `<ns> <JSON>`, gzip.

    That is also the form of the source `binance_capture`. The same records give the same bytes.

    Args:
        frames: Those of a union.
        path: The file to write; it is there, mode 0600, once all was written.
        ring, purpose: If given, what seals it, at `NAME.sealed`.

    Returns:
        How many frames and snapshots it has; those in binary are left out.

    Raises:
        FileExistsError: The file is there.
        LakeFileError, SealError: A recording cannot be read, or nothing can be sealed.
    """
    if os.path.lexists(path) or is_stored(path):
        raise FileExistsError(f"A file of that name exists: {path}")
    count = 0
    with (
        stored_whole(path, ring, purpose) as raw,
        gzip.GzipFile(
            filename="", fileobj=cast("BinaryIO", raw), mode="wb", compresslevel=6, mtime=0
        ) as out,
    ):
        for record in (each.record for each in frames):
            if record.opcode == 1:
                text = record.payload.replace(b"\r", b" ").replace(b"\n", b" ")
                out.write(b"%d %b\n" % (record.wall_ns, text))
                count += 1
    return count


def _lanes(files: Iterable[Path]) -> list[list[Path]]:
    """The files of a host in as few sequences as need be, in each one after the other."""
    lanes: list[list[Path]] = []
    ends_ns: list[int] = []
    for file in files:
        begin_ns, end_ns = read_facts(file).span_ns or (read_header(file).start_wall_ns, 2**63 - 1)
        at = next((at for at, end in enumerate(ends_ns) if end <= begin_ns), len(lanes))
        if at == len(lanes):
            lanes.append([])
            ends_ns.append(0)
        lanes[at].append(file)
        ends_ns[at] = end_ns
    return lanes


def _records(
    host: int, lane: int, files: Sequence[Path], on_damage: Callable[[Damage], None] | None
) -> Iterator[Received]:
    def of_session(files: Iterable[Path]) -> Iterator[tuple[Path, Record]]:
        for file in files:
            for chunk in read_recording(file, on_damage):
                for record in chunk.records():
                    yield file, record

    for _, session in groupby(files, lambda file: read_header(file).session):
        for at_ns, file, record in _timed(of_session(session)):
            yield Received(at_ns, host, lane, file, record)


def _timed(records: Iterable[tuple[Path, Record]]) -> Iterator[tuple[int, Path, Record]]:
    """When each record of a session was received; one stamp that is far off does not count.

    The monotonic clock shows it: a wall clock that leaves it for some records and comes back was
    wrong, and one that does not come back was set.
    """
    offset_ns: int | None = None
    jumped: list[tuple[Path, Record]] = []
    for file, record in records:
        own_ns = record.wall_ns - record.monotonic_ns
        offset_ns = own_ns if offset_ns is None else offset_ns
        if abs(own_ns - offset_ns) < HOLD_NS:
            yield from ((each.monotonic_ns + offset_ns, of, each) for of, each in jumped)
            jumped.clear()
            offset_ns = own_ns
            yield record.wall_ns, file, record
            continue
        jumped.append((file, record))
        if len(jumped) == _BELIEVED:
            yield from ((each.wall_ns, of, each) for of, each in jumped)
            jumped.clear()
            offset_ns = own_ns
    yield from ((each.wall_ns, of, each) for of, each in jumped)


def _is_again(seen: dict[tuple[str, bytes], _Seen], arrival: Received, newest_ns: int) -> bool:
    """Whether another connection or host had this frame as often as this one now has it."""
    record, source = arrival.record, (arrival.lane, arrival.record.connection)
    while seen and next(iter(seen.values())).at_ns <= newest_ns - HOLD_NS:
        del seen[next(iter(seen))]
    key = record.stream, record.payload
    counts = seen.setdefault(key, _Seen(arrival.at_ns, Counter())).counts
    most = max(counts.values(), default=0)
    counts[source] += 1
    return counts[source] <= most


def _place(held: deque[tuple[Received, int | None]], stream: str, number: int) -> int:
    """Before the first held record of that stream with a higher id."""
    for at, (arrival, other) in enumerate(held):
        if arrival.record.stream == stream and other is not None and other > number:
            return at
    return len(held)

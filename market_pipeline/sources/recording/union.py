"""Several recordings of the same streams as one: what one lacks is taken from the others."""

from __future__ import annotations

import gzip
import heapq
import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from market_pipeline.sources.recording.format import Record, RecordKind
from market_pipeline.sources.recording.reader import Damage, read_header, read_recording
from market_pipeline.warehouse.layout import written_whole

__all__ = ["HOLD_NS", "Received", "by_host", "export_collector_form", "file_name"]
__all__ += ["received", "union"]

HOLD_NS = 2_000_000_000
"""A frame that another connection or host received so much later still finds its place."""

_RECEIVED = frozenset({RecordKind.FRAME, RecordKind.SNAPSHOT})

UpdateId = Callable[[Record], int | None]


class Received(NamedTuple):
    """A record, the number of the host that has it, and the file it is in."""

    host: int
    file: Path
    record: Record


class _Seen(NamedTuple):
    """How often a frame came, by where it came from."""

    wall_ns: int
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
    """Yields the records of all hosts in the order of their wall clocks, one block of each at once.

    Args:
        hosts: The files of each host, the earliest first.
        on_damage: See `read_recording`.

    Raises:
        LakeFileError: A recording cannot be read.
    """
    sources = [_records(host, files, on_damage) for host, files in enumerate(hosts)]
    return heapq.merge(*sources, key=lambda each: each.record.wall_ns)


def union(arrivals: Iterable[Received], update_id: UpdateId) -> Iterator[Received]:
    """Yields frames and snapshots of all hosts and connections once each.

    Order is that of receipt, but a frame whose id is below that of one received before it, less
    than `HOLD_NS` ago, comes before that one. A frame is the same as another if stream and bytes
    are, within `HOLD_NS`; one that a connection sent twice comes twice.

    Args:
        arrivals: The records of all hosts, in the order of their wall clocks.
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
        newest_ns = max(newest_ns, record.wall_ns)
        while held and held[0][0].record.wall_ns <= newest_ns - HOLD_NS:
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


def export_collector_form(frames: Iterable[Received], path: Path) -> int:
    """Writes frames as hftbacktest's collector does: `<ns> <JSON>`, gzip.

    That is also the form of the source `binance_capture`. The same records give the same bytes.

    Args:
        frames: Those of a union.
        path: The file to write; it is there, mode 0600, once all was written.

    Returns:
        How many frames and snapshots it has; those in binary are left out.

    Raises:
        FileExistsError: The file is there.
        LakeFileError: A recording cannot be read.
    """
    if os.path.lexists(path):
        raise FileExistsError(f"A file of that name exists: {path}")
    count = 0
    with (
        written_whole(path) as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as out,
    ):
        for _, _, record in frames:
            if record.opcode == 1:
                text = record.payload.replace(b"\r", b" ").replace(b"\n", b" ")
                out.write(b"%d %b\n" % (record.wall_ns, text))
                count += 1
    return count


def _records(
    host: int, files: Sequence[Path], on_damage: Callable[[Damage], None] | None
) -> Iterator[Received]:
    for file in files:
        for chunk in read_recording(file, on_damage):
            for record in chunk.records():
                yield Received(host, file, record)


def _is_again(seen: dict[tuple[str, bytes], _Seen], arrival: Received, newest_ns: int) -> bool:
    """Whether another connection or host had this frame as often as this one now has it."""
    record, source = arrival.record, (arrival.host, arrival.record.connection)
    while seen and next(iter(seen.values())).wall_ns <= newest_ns - HOLD_NS:
        del seen[next(iter(seen))]
    key = record.stream, record.payload
    counts = seen.setdefault(key, _Seen(record.wall_ns, Counter())).counts
    most = max(counts.values(), default=0)
    counts[source] += 1
    return counts[source] <= most


def _place(held: deque[tuple[Received, int | None]], stream: str, number: int) -> int:
    """Before the first held record of that stream with a higher id."""
    for at, (arrival, other) in enumerate(held):
        if arrival.record.stream == stream and other is not None and other > number:
            return at
    return len(held)

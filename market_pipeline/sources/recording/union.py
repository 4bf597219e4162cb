"""Several recordings of the same streams as one: what one lacks is taken from the others."""

from __future__ import annotations

import gzip
import heapq
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from market_pipeline.sources.recording.format import Record, RecordKind
from market_pipeline.sources.recording.reader import Damage, read_recording
from market_pipeline.warehouse.layout import written_whole

__all__ = ["HOLD_NS", "export_collector_form", "union"]

HOLD_NS = 2_000_000_000
"""A frame that another connection or host received so much later still finds its place."""

_RECEIVED = frozenset({RecordKind.FRAME, RecordKind.SNAPSHOT})

UpdateId = Callable[[Record], int | None]


class _Seen(NamedTuple):
    """How often a frame came, by where it came from."""

    wall_ns: int
    counts: Counter[tuple[int, int]]


def union(sources: Sequence[Iterable[Record]], update_id: UpdateId) -> Iterator[Record]:
    """Yields frames and snapshots of all sources and connections once each.

    Order is that of receipt, but a frame whose id is below that of one received before it, less
    than `HOLD_NS` ago, comes before that one. A frame is the same as another if stream and bytes
    are, within `HOLD_NS`; one that a connection sent twice comes twice.

    Args:
        sources: The records of each host, in the order they were written.
        update_id: The id of a record by which its stream is ordered; None if it has none.
    """
    held: deque[tuple[Record, int | None]] = deque()
    seen: dict[tuple[str, bytes], _Seen] = {}
    newest_of: dict[str, int] = {}
    newest_ns = 0
    merged = heapq.merge(
        *(_from(at, each) for at, each in enumerate(sources)), key=lambda each: each[1].wall_ns
    )
    for source, record in merged:
        newest_ns = max(newest_ns, record.wall_ns)
        while held and held[0][0].wall_ns <= newest_ns - HOLD_NS:
            yield held.popleft()[0]
        if _is_again(seen, source, record, newest_ns):
            continue
        number = update_id(record) if record.kind == RecordKind.FRAME else None
        if number is not None and number < newest_of.get(record.stream, number):
            held.insert(_place(held, record.stream, number), (record, number))
            continue
        held.append((record, number))
        if number is not None:
            newest_of[record.stream] = number
    yield from (record for record, _ in held)


def export_collector_form(
    hosts: Sequence[Sequence[Path]],
    path: Path,
    update_id: UpdateId,
    on_damage: Callable[[Damage], None] | None = None,
) -> int:
    """Writes the union of recordings as hftbacktest's collector does: `<ns> <JSON>`, gzip.

    That is also the form of the source `binance_capture`. The same records give the same bytes.

    Args:
        hosts: The files of each host, the earliest first.
        path: The file to write; it is there, mode 0600, once all was written.
        update_id: See `union`.
        on_damage: See `read_recording`.

    Returns:
        How many frames and snapshots it has; those in binary are left out.

    Raises:
        FileExistsError: The file is there.
        LakeFileError: A recording cannot be read.
    """
    if os.path.lexists(path):
        raise FileExistsError(f"A file of that name exists: {path}")
    count = 0
    sources = [_records(files, on_damage) for files in hosts]
    with (
        written_whole(path) as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as out,
    ):
        for record in union(sources, update_id):
            if record.opcode == 1:
                text = record.payload.replace(b"\r", b" ").replace(b"\n", b" ")
                out.write(b"%d %b\n" % (record.wall_ns, text))
                count += 1
    return count


def _records(files: Sequence[Path], on_damage: Callable[[Damage], None] | None) -> Iterator[Record]:
    for file in files:
        for chunk in read_recording(file, on_damage):
            yield from chunk.records()


def _from(source: int, records: Iterable[Record]) -> Iterator[tuple[int, Record]]:
    for record in records:
        if record.kind in _RECEIVED:
            yield source, record


def _is_again(
    seen: dict[tuple[str, bytes], _Seen], source: int, record: Record, newest_ns: int
) -> bool:
    """Whether another connection or host had this frame as often as this one now has it."""
    while seen and next(iter(seen.values())).wall_ns <= newest_ns - HOLD_NS:
        del seen[next(iter(seen))]
    key = record.stream, record.payload
    counts = seen.setdefault(key, _Seen(record.wall_ns, Counter())).counts
    most = max(counts.values(), default=0)
    counts[source, record.connection] += 1
    return counts[source, record.connection] <= most


def _place(held: deque[tuple[Record, int | None]], stream: str, number: int) -> int:
    """Before the first held record of that stream with a higher id."""
    for at, (record, other) in enumerate(held):
        if record.stream == stream and other is not None and other > number:
            return at
    return len(held)

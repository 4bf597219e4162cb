"""Replays recorded frames as a source of the pipeline: as fast as they came, faster, or at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from market_pipeline.capture.pipeline import Event
from market_pipeline.sources.venues.reading import FrameReader

__all__ = ["replay"]


async def replay(
    frames: Iterable[tuple[int, bytes]],
    reader: FrameReader,
    *,
    speed: float | None = None,
    batch: int = 1_000,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[list[Event]]:
    """Yields events in batches, those that are due together.

    Args:
        frames: (received_ns, frame) in the order they were received.
        speed: 1 is as they came, 10 ten times as fast, None as fast as they are taken.
        batch: The most events that are given at a time.
    """
    began_s, first_ns = clock(), None
    due: list[Event] = []
    for received_ns, frame in frames:
        first_ns = received_ns if first_ns is None else first_ns
        if speed is not None:
            wait_s = began_s + (received_ns - first_ns) / 1e9 / speed - clock()
            if wait_s > 0:
                if due:
                    yield due
                    due = []
                await sleep(wait_s)
        due.append(Event(frame, reader.classify(frame), received_ns))
        if len(due) >= batch:
            yield due
            due = []
    if due:
        yield due

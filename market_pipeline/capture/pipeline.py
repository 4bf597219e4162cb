"""Source, operators and sinks of a live stream, with bounded queues between them.

Frames wait for the operators (`BLOCK`: none is lost), derived rows for each sink by the policy that
is asked for. The raw record is written before any of this and never waits for it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct

from market_pipeline.capture.flow import BoundedQueue, Policy, TokenBucket
from market_pipeline.capture.sinks import Sink
from market_pipeline.sources.venues.venue import Classified

__all__ = ["Event", "Operator", "Pipeline"]

_Rows = tuple[str, list[Struct]]


class Event(Struct, frozen=True, gc=False):
    """A frame as it came.

    Attributes:
        received_ns: When, ns UTC.
        connection: On which connection.
    """

    frame: bytes
    found: Classified
    received_ns: int
    connection: str = ""


class Operator(Protocol):
    """Makes rows of events; each row is of the kind `name`."""

    name: str

    def take(self, events: Sequence[Event]) -> Iterable[Struct]:
        """The rows that further events give."""
        ...

    def finish(self) -> Iterable[Struct]:
        """The rows that were waiting for more: nothing more comes."""
        ...


@dataclass(slots=True)
class Pipeline:
    """Runs operators over a source, and writes their rows to every sink.

    Attributes:
        operators, sinks: By name; every sink gets the rows of every operator.
        batch: So many events are taken at a time, if they are there.
        batches: Capacity of the queue before the operators.
        sink_batches, sink_policy: Of the queue before each sink.
        pace: Limits events a second; None is no limit.
        failed: What a sink raised, by its name; its rows are dropped from then on.
    """

    operators: Sequence[Operator]
    sinks: dict[str, Sink]
    batch: int = 1_000
    batches: int = 16
    sink_batches: int = 200
    sink_policy: Policy = Policy.BLOCK
    pace: TokenBucket | None = None
    failed: dict[str, Exception] = field(default_factory=dict)
    events: BoundedQueue[list[Event]] = field(init=False)
    queues: dict[str, BoundedQueue[_Rows]] = field(init=False)

    def __post_init__(self) -> None:
        """Makes the queues."""
        self.events = BoundedQueue("events", self.batches)
        self.queues = {
            name: BoundedQueue(name, self.sink_batches, self.sink_policy) for name in self.sinks
        }

    @property
    def is_pressed(self) -> bool:
        """Whether a queue asks for less: REST work and derived outputs should wait."""
        pressed = [queue.is_pressed for queue in self.queues.values()]
        return self.events.is_pressed or any(pressed)

    async def run(self, source: AsyncIterator[list[Event]]) -> None:
        """Runs until the source ends and every row is written."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._feed(source))
            tasks.create_task(self._operate())
            for name, sink in self.sinks.items():
                tasks.create_task(self._write(name, sink))

    async def _feed(self, source: AsyncIterator[list[Event]]) -> None:
        async for events in source:
            for at in range(0, len(events), self.batch):
                part = events[at : at + self.batch]
                if self.pace is not None:
                    await self.pace.take(len(part))
                await self.events.put(part)
        await self.events.close()

    async def _operate(self) -> None:
        while (events := await self.events.get()) is not None:
            for operator in self.operators:
                await self._give(operator.name, operator.take(events))
            # Queues that have room do not let the others run by themselves.
            await asyncio.sleep(0)
        for operator in self.operators:
            await self._give(operator.name, operator.finish())
        for queue in self.queues.values():
            await queue.close()

    async def _give(self, kind: str, rows: Iterable[Struct]) -> None:
        found = list(rows)
        if found:
            for queue in self.queues.values():
                await queue.put((kind, found))

    async def _write(self, name: str, sink: Sink) -> None:
        queue = self.queues[name]
        while (first := await queue.get()) is not None:
            gathered: dict[str, list[Struct]] = defaultdict(list)
            rows: _Rows | None = first
            while rows is not None:
                gathered[rows[0]] += rows[1]
                rows = await queue.get() if len(queue) else None
            if name not in self.failed:
                try:
                    for kind, each in gathered.items():
                        # In a thread: the disk's waits are not those of the event loop.
                        await asyncio.to_thread(sink.write, kind, each)
                except Exception as error:  # a sink is anybody's code
                    self.failed[name] = error
        await asyncio.to_thread(sink.close)

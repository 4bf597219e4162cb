"""Operators and sinks of a live stream, with bounded queues between them.

The source is asked for events once the operators have room, derived rows wait for each sink by the
policy that is asked for. The raw record is written before any of this and never waits for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from msgspec import Struct

from market_pipeline.capture.flow import BoundedQueue, Policy, TokenBucket
from market_pipeline.capture.limits import Backoff
from market_pipeline.capture.sinks import Sink
from market_pipeline.sources.venues.continuity import Checked
from market_pipeline.sources.venues.venue import Classified

__all__ = ["Change", "Event", "Notice", "Operator", "Pipeline", "Taken", "label_of"]

_LONGEST_OFF_S = 60.0
_Rows = tuple[str, list[Struct]]


class Event(Struct, frozen=True, gc=False):
    """A frame as it came.

    Attributes:
        received_ns: When, ns UTC.
        checked: What it is to the frames of its connection, where those are counted.
    """

    frame: bytes
    found: Classified
    received_ns: int
    checked: Checked | None = None

    @property
    def symbol(self) -> str:
        """Whose; empty where it does not say."""
        return self.found.symbol


class Change(StrEnum):
    """What became of a stream beside its frames."""

    NONE = "none"
    """Time has passed."""
    LOST = "lost"
    DOWN = "down"
    """No connection has it."""
    UP = "up"
    """A connection has it again."""


class Notice(Struct, frozen=True, gc=False):
    """What frames do not show of a stream, in its place among them; `stream` is empty for all."""

    change: Change
    at_ns: int
    stream: str = ""
    reason: str = ""

    @property
    def symbol(self) -> str:
        """Whose; empty for all."""
        return self.stream.partition(":")[2]


Taken: TypeAlias = Event | Notice
"""What operators take."""


class Operator(Protocol):
    """Makes rows of the events of one symbol; each row is of the kind `name`."""

    name: str
    symbol: str

    def take(self, events: Sequence[Taken]) -> Iterable[Struct]:
        """The rows that further events give: those of its symbol, and of none."""
        ...

    def finish(self) -> Iterable[Struct]:
        """The rows that were waiting for more: nothing more comes."""
        ...


def label_of(operator: Operator) -> str:
    """What an operator is called where several make rows of its kind."""
    return f"{operator.name}:{operator.symbol}"


@dataclass(slots=True)
class Pipeline:
    """Runs operators over a source, and writes their rows to every sink.

    An operator that raises is switched off, a sink for a while and for the kind of rows that it
    raised at; all others go on.

    Attributes:
        operators, sinks: Every sink, by its name, gets the rows of every operator.
        sink_batches, sink_policy: Of the queue before each sink.
        sink_workers: How many sinks write at the same time, each in a thread.
        sink_retry_s: A sink that raised is given nothing of that kind for at most so long, then the
            next rows; each time that it raises at them again for twice as long, up to a minute.
        pace: Makes what limits the rows a second of a sink; None is no limit.
        conflate: Kinds of which a row takes the place of the one before: while a sink asks for less
            only the last of each batch is given.
        on_failed: Called with what was switched off, and why.
        on_back: Called with the name of a sink, and the kind of rows that it takes again.
        on_commit: Called with a sink's name and the seconds of a write or its end with which it has
            put rows where they are safe, as its `commits` say.
        failed: What an operator (`<name>:<symbol>`) or a sink (`<name>:<kind>`, and its name alone
            at its end) raised, of those that are off.
        written: How many rows each sink took.
        left_out: How many rows each sink raised at, or was not given since.
        paces: What limits each sink.
        conflated: Rows that were not given, as the last of their batch was.
    """

    operators: Sequence[Operator]
    sinks: dict[str, Sink]
    sink_batches: int = 200
    sink_policy: Policy = Policy.BLOCK
    sink_workers: int = 2
    sink_retry_s: float = 1.0
    pace: Callable[[], TokenBucket] | None = None
    conflate: Collection[str] = ()
    on_failed: Callable[[str, Exception], None] = lambda name, error: None
    on_back: Callable[[str, str], None] = lambda name, kind: None
    on_commit: Callable[[str, float], None] = lambda name, seconds: None
    failed: dict[str, Exception] = field(default_factory=dict)
    queues: dict[str, BoundedQueue[_Rows]] = field(init=False)
    written: dict[str, int] = field(init=False)
    left_out: dict[str, int] = field(init=False)
    paces: dict[str, TokenBucket] = field(init=False)
    conflated: int = 0
    _backoffs: dict[str, Backoff] = field(default_factory=dict)
    _off_until_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Makes the queues."""
        self.queues = {
            name: BoundedQueue(name, self.sink_batches, self.sink_policy) for name in self.sinks
        }
        self.written = dict.fromkeys(self.sinks, 0)
        self.left_out = dict.fromkeys(self.sinks, 0)
        self.paces = {} if self.pace is None else {name: self.pace() for name in self.sinks}

    @property
    def is_pressed(self) -> bool:
        """Whether a sink's queue asks for less."""
        return any(queue.is_pressed for queue in self.queues.values())

    async def run(self, source: AsyncIterator[Sequence[Taken]]) -> None:
        """Runs until the source ends and every row is written."""
        workers = asyncio.Semaphore(self.sink_workers)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._operate(source))
            for name, sink in self.sinks.items():
                tasks.create_task(self._write(name, sink, workers))

    async def _operate(self, source: AsyncIterator[Sequence[Taken]]) -> None:
        async for events in source:
            own = self._by_symbol(events)
            for operator in self.operators:
                if own[operator.symbol]:
                    await self._give(operator, own[operator.symbol])
            # Queues that have room do not let the others run by themselves.
            await asyncio.sleep(0)
        for operator in self.operators:
            await self._give(operator, None)
        for queue in self.queues.values():
            await queue.close()

    def _by_symbol(self, events: Sequence[Taken]) -> dict[str, list[Taken]]:
        """Events of each operator's symbol, those of none among them, in their order."""
        own: dict[str, list[Taken]] = {operator.symbol: [] for operator in self.operators}
        for event in events:
            symbol = event.symbol
            if not symbol:
                for each in own.values():
                    each.append(event)
            elif symbol in own:
                own[symbol].append(event)
        return own

    async def _give(self, operator: Operator, events: Sequence[Taken] | None) -> None:
        """Has an operator take events, or finish, and gives its rows to the sinks."""
        label = label_of(operator)
        if label in self.failed:
            return
        found: list[Struct] = []
        try:
            # Row by row, so that those made before it failed are there.
            for row in operator.finish() if events is None else operator.take(events):
                found.append(row)
        except Exception as error:  # whatever it is, the other operators go on
            self._switch_off(label, error)
        if found and operator.name in self.conflate and self.is_pressed:
            self.conflated += len(found) - 1
            found = found[-1:]
        if found:
            for queue in self.queues.values():
                await queue.put((operator.name, found))

    async def _write(self, name: str, sink: Sink, workers: asyncio.Semaphore) -> None:
        queue = self.queues[name]
        while (first := await queue.get()) is not None:
            gathered: dict[str, list[Struct]] = defaultdict(list)
            rows: _Rows | None = first
            while rows is not None:
                gathered[rows[0]] += rows[1]
                rows = await queue.get() if len(queue) else None
            for kind, own in gathered.items():
                is_due = time.monotonic() >= self._off_until_s.get(_of(name, kind), float("-inf"))
                if is_due and await self._put(name, sink, kind, own, workers):
                    self.written[name] += len(own)
                else:
                    self.left_out[name] += len(own)
        try:
            await self._timed(name, sink, sink.close)
        except Exception as error:
            self._switch_off(name, error)

    async def _put(
        self, name: str, sink: Sink, kind: str, rows: list[Struct], workers: asyncio.Semaphore
    ) -> bool:
        """Gives rows of a kind to a sink; whether it took them."""
        label = _of(name, kind)
        try:
            if name in self.paces:
                await self.paces[name].take(len(rows))
            async with workers:
                await self._timed(name, sink, sink.write, kind, rows)
        except Exception as error:  # a sink is anybody's code
            waits = self._backoffs.setdefault(label, Backoff(self.sink_retry_s, _LONGEST_OFF_S))
            self._off_until_s[label] = time.monotonic() + waits.next_s()
            self._switch_off(label, error)
            return False
        if self.failed.pop(label, None) is not None:
            self._backoffs[label].reset()
            self.on_back(name, kind)
        return True

    async def _timed(
        self, name: str, sink: Sink, call: Callable[..., None], *arguments: object
    ) -> None:
        before, began_s = getattr(sink, "commits", 0), time.perf_counter()
        await _in_thread(call, *arguments)
        if getattr(sink, "commits", 0) > before:
            self.on_commit(name, time.perf_counter() - began_s)

    def _switch_off(self, name: str, error: Exception) -> None:
        is_off = name in self.failed
        self.failed[name] = error
        if not is_off:
            self.on_failed(name, error)


def _of(sink: str, kind: str) -> str:
    return f"{sink}:{kind}"


async def _in_thread(call: Callable[..., None], *arguments: object) -> None:
    """Calls a function in a thread: its waits are not those of the event loop.

    The thread does not keep the process from ending, as one of a pool would.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[BaseException | None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result(error)  # a future takes no StopIteration as its exception

    def run() -> None:
        error = None
        try:
            call(*arguments)
        except BaseException as raised:  # also one that ends its thread must not be waited for
            error = raised
        with suppress(RuntimeError):  # the loop did not wait for it
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, name="sink", daemon=True).start()
    error = await ended
    if isinstance(error, Exception):
        raise error
    if error is not None:
        raise RuntimeError(f"it was ended by {error!r}") from error

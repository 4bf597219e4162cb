"""Replaying a published day: messages a second through a compiled callback, and as events.

The raw rows and the published ones are in memory, so no file is timed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure
from benchmarks.generator import synthetic_deltas
from benchmarks.measure import Spread, cpu_seconds
from market_pipeline.books.logged_replay import LoggedReplay
from market_pipeline.books.player import Message, Player, Start
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.replay import PublishedRows, Replay, Replayed
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import BboRows, Deltas
from market_pipeline.sources.batches import DeltaBatch, Trades
from market_pipeline.stages.events.stream import DayEvents

__all__ = ["replay_figures"]

_ONE = Scale(1, 0)
_OPTIONS = RebuildOptions(depth_interval_ms=None, keyframe_seconds=0)
_BATCH_ROWS = 1 << 20
_SHORT_ROWS = 4
_DAY = date(2024, 8, 1)
_EVER = (-(2**63), 2**63 - 1)


def replay_figures(rows: int, runs: int) -> list[Figure]:
    """Million messages per CPU second, of long messages and of short ones."""
    long = synthetic_deltas(rows)
    figures = []
    for name, deltas in (("long", long), ("short", _shortened(long))):
        published = _published(deltas)
        messages = sum(part.flags.size for part in published)
        each = rows / messages
        for what, run in (
            ("replayed alone", _only_replayed),
            ("through a compiled callback", _called_back),
            ("through one that is shown changes", _shown_changes),
            ("as events", _as_events),
        ):
            run(deltas, published)
            rates = [messages / cpu_seconds(lambda: run(deltas, published)) / 1e6  # noqa: B023
                     for _ in range(runs)]  # fmt: skip
            group = f"replay of {name} messages, {each:.0f} rows each"
            figures.append(Figure(group, what, "M messages / CPU s", Spread.of(rates)))
    return figures


def _shortened(deltas: Deltas) -> Deltas:
    """The same rows in messages of a few."""
    message = np.arange(deltas.sequence_number.size) // _SHORT_ROWS
    times_ns = deltas.ts_receipt_ns[0] + message * 1_000_000
    return deltas._replace(
        sequence_number=message + 1, ts_receipt_ns=times_ns, ts_origin_ns=times_ns
    )


def _batches(deltas: Deltas) -> Iterator[DeltaBatch]:
    for first in range(0, deltas.sequence_number.size, _BATCH_ROWS):
        part = Deltas._make(column[first : first + _BATCH_ROWS] for column in deltas)
        values = part.price_ticks.astype(np.float64), part.size_lots.astype(np.float64)
        yield DeltaBatch(Path("deltas"), first, *part[:4], *values)


def _published(deltas: Deltas) -> list[PublishedRows]:
    blocks = Rebuild(_ONE, _ONE, _OPTIONS).blocks(_batches(deltas))
    return [
        PublishedRows._make(getattr(block, name) for name in PublishedRows._fields)
        for block in blocks
        if isinstance(block, BboRows)
    ]


def _replay(deltas: Deltas, published: list[PublishedRows], *, changes: bool = False) -> Replay:
    replay = (LoggedReplay if changes else Replay)(_ONE, _ONE, _OPTIONS, published)
    replay.open(_batches(deltas))
    return replay


def _only_replayed(deltas: Deltas, published: list[PublishedRows]) -> None:
    for _ in _replay(deltas, published).until():
        pass


def _count(state: np.ndarray, message: Message, _levels: object) -> bool:
    state[0] += message.bid_size_lots
    return False


def _called_back(deltas: Deltas, published: list[PublishedRows], *, changes: bool = False) -> None:
    replay = _replay(deltas, published, changes=changes)

    def source() -> Iterator[Start | Replayed]:
        yield Start(replay.book())
        yield from replay.until()

    state = np.zeros(1, np.int64)
    Player([source()], _count, state, *_EVER, shows_changes=changes).play()


def _shown_changes(deltas: Deltas, published: list[PublishedRows]) -> None:
    _called_back(deltas, published, changes=True)


def _as_events(deltas: Deltas, published: list[PublishedRows]) -> None:
    replay, none = _replay(deltas, published, changes=True), np.empty(0, np.int64)
    values = np.empty(0, np.float64), np.empty(0, np.float64)
    trades = Trades(none, none, *values, np.empty(0, np.bool_), none)
    stream = DayEvents("V", "S", _DAY, _ONE, _ONE, trades)
    for _ in stream.batches(replay.book(), replay.until()):
        pass

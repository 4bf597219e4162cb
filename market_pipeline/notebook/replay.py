"""`replay`: the messages of several instruments in order of time, with the book after each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.levels import ASK, BID
from market_pipeline.books.player import OnMessage, Player, Start, without_levels
from market_pipeline.books.replay import Replayed
from market_pipeline.books.walk import sides_of, write_levels
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.errors import DomainError
from market_pipeline.notebook.from_checkpoint import days_between
from market_pipeline.notebook.published import instrument_ids, refuse_no_depth
from market_pipeline.notebook.times import span_of
from market_pipeline.stages.rebuild.replay import DayReplay, published_messages

__all__ = ["ReplayedMessage", "replay"]

_State = TypeVar("_State")

_BATCH_MESSAGES = 1 << 13
_DEPTH_AT_ONCE = 1 << 17
_SCALARS = 12
_TOUCH = 8  # the first of four scalars: price and size of the bid, then of the ask


class _Seen(NamedTuple):
    """What the recording callback writes of each message; `filled` int64 (1,) says of how many."""

    filled: NDArray[np.int64]
    scalars: NDArray[np.int64]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]

    @classmethod
    def room(cls, messages: int, depth: int) -> _Seen:
        sides = [np.zeros((messages, depth), np.int64) for _ in range(4)]
        return cls(np.zeros(1, np.int64), np.zeros((messages, _SCALARS), np.int64), *sides)


@dataclass(frozen=True, slots=True)
class ReplayedMessage:
    """One message and the book after it.

    Attributes:
        instrument: Its id.
        number: Its row in its day's `books.bbo`, from 0.
        clock_ns: The receipt clock that never runs back, by which messages are ordered, ns UTC.
        ts_origin_ns, ts_receipt_ns, sequence_number: As published.
        flags: As published; 0 is valid.
        verified: As published.
        bids, asks: int64 (levels, 2): price in ticks and size in lots, best first.
    """

    instrument: str
    number: int
    clock_ns: int
    ts_origin_ns: int
    ts_receipt_ns: int
    sequence_number: int
    flags: int
    verified: bool
    bids: NDArray[np.int64]
    asks: NDArray[np.int64]

    @property
    def is_valid(self) -> bool:
        """Whether the book counts as valid: none of the invalidating flags is set."""
        return not self.flags & INVALIDATING

    @property
    def reasons(self) -> BookFlag:
        """The flags by name."""
        return BookFlag(self.flags)


@overload
def replay(
    instruments: str | Sequence[str],
    start: datetime | str | int,
    end: datetime | str | int,
    *,
    depth: int | None = ...,
    data_dir: Path | str | None = ...,
) -> Iterator[ReplayedMessage]: ...


@overload
def replay(
    instruments: str | Sequence[str],
    start: datetime | str | int,
    end: datetime | str | int,
    *,
    depth: int | None = ...,
    on_message: OnMessage,
    state: _State,
    changes: bool = ...,
    data_dir: Path | str | None = ...,
) -> _State: ...


def replay(
    instruments: str | Sequence[str],
    start: datetime | str | int,
    end: datetime | str | int,
    *,
    depth: int | None = 20,
    on_message: OnMessage | None = None,
    state: object = None,
    changes: bool = False,
    data_dir: Path | str | None = None,
) -> object:
    """The messages of published days with the book after each, over day borders, in bounded memory.

    It begins with the last checkpoint before the start, and makes the books again from the raw rows
    as the pipeline did; every message must lead to its row of `books.bbo`. With a depth of 1 or 0
    these rows are all that is read. Messages of several instruments come in order of the receipt
    clock, which never runs back; of equal times the instrument that was given first comes first.

    Args:
        instruments: An id, such as BINANCE_FUTURES:BTC-USDT-PERP, or several.
        start, end: Instants in the forms that `book_at` takes; a message at the end is none of it.
        depth: So many levels a side of each message; None for all, which is far slower. With 1 or 0
            no raw file is read, which is far faster.
        on_message: Instead of an iterator: a function of numbers and arrays only, compiled by numba
            and called as `on_message(state, message, levels)` after each message; it returns True
            to stop there, else False. `message` is a `books.player.Message`, which has the touch;
            `levels` is the whole book (`books.levels.Levels`), which it must not change, or None
            with a depth of 1 or 0.
        state: What `on_message` is given and may write to: an array, or a tuple of arrays.
        changes: Whether `on_message` reads the `changes` of its message; without it they are None,
            which numba refuses to compile the reading of, and the replay is faster.
        data_dir: The data folder; by default the one of the settings in force.

    Returns:
        An iterator of `ReplayedMessage`; with `on_message` the state, once all is played.

    Raises:
        MissingDataError: A day of the range is not published, was published from snapshots only, or
            its raw files are not in the lake any more.
        DomainError: A time cannot be read, has no zone, the end is before the start, the depth is
            no whole number of 0 or more, or changes are asked for with one of 1 or 0.
        CheckpointError: A checkpoint is damaged, or a message is not the published one.
        LakeFileError: A raw file cannot be read, or changed since it was registered.
        SettingsError: The settings are not usable.
    """
    settings = load_settings() if data_dir is None else load_settings(data_dir=data_dir)
    ids = instrument_ids(instruments)
    from_ns, until_ns = span_of(start, end)
    of_touch = _is_of_touch(depth, changes=changes)
    sources = [
        _touches(each, from_ns, until_ns, settings)
        if of_touch
        else _days(each, from_ns, until_ns, settings, changes=changes)
        for each in ids
    ]
    if on_message is not None:
        shown = without_levels(on_message) if of_touch else on_message
        Player(sources, shown, state, from_ns, until_ns, shows_changes=changes).play()
        return state
    return _messages(ids, sources, from_ns, until_ns, depth, of_touch=of_touch)


def _is_of_touch(depth: int | None, *, changes: bool) -> bool:
    """Whether nothing but the touch is shown."""
    refuse_no_depth(depth)
    if depth is None or depth > 1:
        return False
    if changes:
        raise DomainError(
            "Changes are those of the whole book",
            next_step="Leave `depth` out where `changes` are asked for.",
            column="depth",
            expected="more than 1, or None",
            found=repr(depth),
        )
    return True


def _touches(
    instrument: str, from_ns: int, until_ns: int, settings: Settings
) -> Iterator[Start | Replayed]:
    """The messages of an instrument's days with the touch alone."""
    for day, message in days_between(instrument, from_ns, until_ns, settings):
        yield from published_messages(day, message)


def _days(
    instrument: str, from_ns: int, until_ns: int, settings: Settings, *, changes: bool
) -> Iterator[Start | Replayed]:
    """The messages of an instrument's days, each day after the book it begins with."""
    for day, message in days_between(instrument, from_ns, until_ns, settings):
        day_replay = DayReplay(day, message, changes=changes)
        yield Start(day_replay.book())
        yield from day_replay.until()


def _messages(
    ids: Sequence[str],
    sources: Sequence[Iterator[Start | Replayed]],
    from_ns: int,
    until_ns: int,
    depth: int | None,
    *,
    of_touch: bool,
) -> Iterator[ReplayedMessage]:
    """What the recording callback has seen, some messages at a time."""
    most = 1 if depth is None else max(1, min(_BATCH_MESSAGES, _DEPTH_AT_ONCE // max(depth, 1)))
    more = True
    seen = _Seen.room(most, 0 if of_touch else depth or 0)
    player = Player(sources, _see, seen, from_ns, until_ns)
    while more:
        seen.filled[0] = 0
        more = player.play()
        count = int(seen.filled[0])
        sides = [column[:count].copy() for column in seen[2:]]
        if depth == 1:
            sides = [seen.scalars[:count, at : at + 1].copy() for at in range(_TOUCH, _SCALARS)]
        bids, asks = np.stack(sides[:2], axis=2), np.stack(sides[2:], axis=2)
        # How many levels there are: those behind them have size 0.
        depths = [np.count_nonzero(side[:, :, 1], axis=1).tolist() for side in (bids, asks)]
        for n, (k, *known) in enumerate(seen.scalars[:count, :_TOUCH].tolist()):
            if depth is None:
                levels = player.levels(k)
                bid, ask = (np.stack(side, axis=1) for side in sides_of(levels))
            else:
                bid, ask = bids[n, : depths[0][n]], asks[n, : depths[1][n]]
            number, clock_ns, origin_ns, receipt_ns, sequence, flags, verified = known
            yield ReplayedMessage(
                ids[k],
                number,
                clock_ns,
                origin_ns,
                receipt_ns,
                sequence,
                flags,
                bool(verified),
                bid,
                ask,
            )


def _see(state, message, levels):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Writes a message and its best levels down; stops where there is no more room."""
    n = state.filled[0]
    state.filled[0] = n + 1
    scalars = state.scalars[n]
    scalars[0] = message.instrument
    scalars[1] = message.number
    scalars[2] = message.clock_ns
    scalars[3] = message.ts_origin_ns
    scalars[4] = message.ts_receipt_ns
    scalars[5] = message.sequence_number
    scalars[6] = message.flags
    scalars[7] = message.verified
    scalars[8] = message.bid_price_ticks
    scalars[9] = message.bid_size_lots
    scalars[10] = message.ask_price_ticks
    scalars[11] = message.ask_size_lots
    if state.bid_price_ticks.shape[1] > 0:
        write_levels(levels, BID, state.bid_price_ticks, state.bid_size_lots, n)
        write_levels(levels, ASK, state.ask_price_ticks, state.ask_size_lots, n)
    return n + 1 == state.scalars.shape[0]

"""Messages lost, repeated, moved and frozen: which messages stand in the delta files, and where."""

from __future__ import annotations

import numpy as np
import polars as pl

from market_pipeline_tests.detection.faults.day import (
    INVENTED,
    MS,
    NUMBER,
    ORIGIN,
    RECEIPT,
    IntArray,
    RawDay,
)
from market_pipeline_tests.detection.faults.registry import fault

__all__: list[str] = []

SEED = 7
BURST = 50


def _order(day: RawDay) -> IntArray:
    return np.arange(len(day.messages), dtype=np.int64)


def _take(day: RawDay, order: IntArray) -> RawDay:
    return day.put("deltas", day.messages.take(order))


def _lost(day: RawDay, lost: IntArray) -> RawDay:
    return _take(day, np.setdiff1d(_order(day), lost))


def _chosen(day: RawDay, share: float) -> IntArray:
    """Some messages, spread over the day."""
    drawn = np.random.default_rng(SEED).random(len(day.messages)) < share
    return np.flatnonzero(drawn)


@fault("deltas", cases=(0.3, 0.5, 0.7))
def message_lost(day: RawDay, place: float) -> RawDay:
    """One message is not there."""
    return _lost(day, np.array([day.messages.at(place)]))


@fault("deltas")
def one_percent_of_messages_lost(day: RawDay) -> RawDay:
    """One message in a hundred is not there."""
    return _lost(day, _chosen(day, 0.01))


@fault("deltas")
def one_in_a_thousand_messages_lost(day: RawDay) -> RawDay:
    """One message in a thousand is not there."""
    return _lost(day, _chosen(day, 0.001))


@fault("deltas")
def tenth_of_messages_lost(day: RawDay) -> RawDay:
    """One message in ten is not there."""
    return _lost(day, _chosen(day, 0.1))


@fault("deltas")
def burst_of_messages_lost(day: RawDay) -> RawDay:
    """Fifty messages in a row are not there."""
    begin = day.messages.at(day.place)
    return _lost(day, np.arange(begin, begin + BURST))


@fault("deltas")
def every_second_message_lost(day: RawDay) -> RawDay:
    """Every second of two hundred messages is not there, so that no silence shows it."""
    begin = day.messages.at(day.place)
    return _lost(day, np.arange(begin, begin + 200, 2))


@fault("deltas")
def message_after_the_seed_lost(day: RawDay) -> RawDay:
    """The first message after the first snapshot is not there."""
    seed = int(day.snapshots[NUMBER][0])
    after = np.flatnonzero(day.messages.first(NUMBER) > seed)
    return _lost(day, after[:1])


@fault("deltas")
def messages_of_one_level_lost(day: RawDay) -> RawDay:
    """Every message of a single row is not there, for the second half of the day."""
    messages = day.messages
    short = (messages.ends - messages.starts) <= np.quantile(messages.ends - messages.starts, 0.05)
    short[: messages.at(day.place)] = False
    return _lost(day, np.flatnonzero(short))


@fault("deltas", harmless=True)
def message_twice_in_a_row(day: RawDay) -> RawDay:
    """A message stands twice, one time right behind the other."""
    order = _order(day)
    at = day.messages.at(day.place)
    return _take(day, np.insert(order, at + 1, at))


@fault("deltas", cases=(1, 10, 200))
def message_repeated_near(day: RawDay, by: int) -> RawDay:
    """A message comes again some messages later."""
    order = _order(day)
    at = day.messages.at(day.place)
    return _take(day, np.insert(order, min(at + by + 1, order.size), at))


@fault("deltas")
def message_repeated_far(day: RawDay) -> RawDay:
    """A message of the first tenth of the day comes again in its last tenth."""
    order = _order(day)
    return _take(day, np.insert(order, day.messages.at(0.9), day.messages.at(0.1)))


@fault("deltas")
def burst_repeated_at_once(day: RawDay) -> RawDay:
    """Fifty messages come again as a block right after themselves."""
    order = _order(day)
    at = day.messages.at(day.place)
    return _take(day, np.insert(order, at + BURST, order[at : at + BURST]))


@fault("deltas")
def burst_repeated_later(day: RawDay) -> RawDay:
    """Fifty messages come again as a block a quarter of the day later."""
    order = _order(day)
    at = day.messages.at(day.place)
    return _take(day, np.insert(order, day.messages.at(0.75), order[at : at + BURST]))


@fault("deltas")
def every_message_twice(day: RawDay) -> RawDay:
    """Two hundred messages each come again behind the one after them."""
    order = _order(day)
    at = day.messages.at(day.place)
    doubled = [each for k in range(at, at + 200) for each in (k, k - 1)]
    return _take(day, np.concatenate([order[:at], doubled, order[at + 200 :]]))


@fault("deltas")
def message_repeated_as_new(day: RawDay) -> RawDay:
    """The rows of a message come again 100 messages later, with a new number and new stamps."""
    return _resent(day, day.messages.at(day.place), 100)


@fault("deltas")
def burst_repeated_as_new(day: RawDay) -> RawDay:
    """Fifty messages come again a while later, each with a number and stamps that are new."""
    at = day.messages.at(day.place)
    # From the last, so that the places of the others stay.
    for each in range(at + BURST - 1, at - 1, -1):
        day = _resent(day, each, BURST)
    return day


def _resent(day: RawDay, at: int, by: int) -> RawDay:
    """A message's rows behind the message `by` later, in a message of their own."""
    messages = day.messages
    behind = min(at + by, len(messages) - 1)
    rows = messages.take([at])
    shard = messages.rows["shard"][int(messages.starts[behind])]
    again = rows.with_columns(
        (pl.lit(int(messages.first(RECEIPT)[behind]) + MS)).alias(RECEIPT),
        (pl.lit(int(messages.first(ORIGIN)[behind]) + MS)).alias(ORIGIN),
        (pl.lit(int(messages.first(NUMBER)[behind]) + 1)).alias(NUMBER),
        pl.lit(INVENTED, pl.Int64).alias("message"),
        pl.lit(shard, pl.Int64).alias("shard"),
    )
    end = int(messages.ends[behind])
    return day.put("deltas", pl.concat([day.deltas[:end], again, day.deltas[end:]]))


@fault("deltas")
def messages_swapped(day: RawDay) -> RawDay:
    """Two neighbouring messages stand in each other's place."""
    order = _order(day)
    at = day.messages.at(day.place)
    order[[at, at + 1]] = order[[at + 1, at]]
    return _take(day, order)


@fault("deltas")
def many_messages_swapped(day: RawDay) -> RawDay:
    """Every tenth message stands behind the one after it."""
    order = _order(day)
    for at in range(10, order.size - 1, 10):
        order[[at, at + 1]] = order[[at + 1, at]]
    return _take(day, order)


@fault("deltas", cases=(3, 50, 1_500))
def message_late(day: RawDay, by: int) -> RawDay:
    """A message comes some messages late, with its own number and stamps."""
    order = _order(day)
    at = day.messages.at(day.place)
    return _take(day, np.insert(np.delete(order, at), min(at + by, order.size - 1), at))


@fault("deltas")
def message_late_with_a_new_stamp(day: RawDay) -> RawDay:
    """A message comes 50 messages late, received when it came."""
    messages = day.messages
    at = messages.at(day.place)
    stamp = int(messages.first(RECEIPT)[at + 50]) + MS
    day = day.where("deltas", messages.mask([at]), **{RECEIPT: pl.lit(stamp)})
    return message_late(day, 50)  # type: ignore[no-any-return]


@fault("deltas", cases=(3, 50))
def message_early(day: RawDay, by: int) -> RawDay:
    """A message comes some messages early, with its own number and stamps."""
    order = _order(day)
    at = day.messages.at(day.place)
    return _take(day, np.insert(np.delete(order, at), at - by, at))


@fault("deltas")
def burst_in_reverse(day: RawDay) -> RawDay:
    """Fifty messages stand in reverse order."""
    order = _order(day)
    at = day.messages.at(day.place)
    order[at : at + BURST] = order[at : at + BURST][::-1]
    return _take(day, order)


@fault("deltas")
def burst_shuffled(day: RawDay) -> RawDay:
    """Two hundred messages stand in any order."""
    order = _order(day)
    at = day.messages.at(day.place)
    np.random.default_rng(SEED).shuffle(order[at : at + 200])
    return _take(day, order)


@fault("deltas")
def blocks_exchanged(day: RawDay) -> RawDay:
    """Two neighbouring blocks of 300 messages stand in each other's place."""
    order = _order(day)
    at = min(day.messages.at(day.place), order.size - 600)
    order[at : at + 600] = np.roll(order[at : at + 600], 300)
    return _take(day, order)


@fault("deltas")
def stale_sender(day: RawDay) -> RawDay:
    """For 200 messages a second sender repeats each message 20 messages late, as the vendor's own
    row with its old number and a receipt stamp of now.
    """
    messages = day.messages
    at = messages.at(day.place)
    order, stamps = [], []
    receipt = messages.first(RECEIPT)
    for each in range(len(messages)):
        order.append(each)
        stamps.append(int(receipt[each]))
        if at <= each < at + 200:
            order.append(each - 20)
            stamps.append(int(receipt[each]) + MS)
    chosen = np.asarray(order)
    lengths = (messages.ends - messages.starts)[chosen]
    rows = messages.take(chosen)
    return day.put("deltas", rows.with_columns(pl.Series(RECEIPT, np.repeat(stamps, lengths))))


@fault("deltas")
def feed_frozen(day: RawDay) -> RawDay:
    """Every message of a pause has the rows of the first of it, while numbers and times go on."""
    begin, end = _pause(day)
    return _other_content(day, np.arange(begin, end), np.full(end - begin, begin))


@fault("deltas")
def feed_replayed(day: RawDay) -> RawDay:
    """Every message of a pause has the rows of one before the pause; numbers and times go on."""
    begin, end = _pause(day)
    chosen = np.arange(begin, end)
    return _other_content(day, chosen, np.maximum(chosen - (end - begin), 0))


@fault("deltas")
def feed_lags(day: RawDay) -> RawDay:
    """From the middle on every message has the rows of the one 100 before; numbers are right."""
    chosen = np.arange(day.messages.at(day.place), len(day.messages))
    return _other_content(day, chosen, chosen - 100)


@fault("deltas")
def content_of_two_messages_exchanged(day: RawDay) -> RawDay:
    """Two neighbouring messages have each other's rows; numbers and times are in order."""
    at = day.messages.at(day.place)
    return _other_content(day, np.array([at, at + 1]), np.array([at + 1, at]))


@fault("deltas")
def content_one_message_late(day: RawDay) -> RawDay:
    """Every message has the rows of the one before it; numbers and times are right."""
    chosen = np.arange(1, len(day.messages))
    return _other_content(day, chosen, chosen - 1)


def _pause(day: RawDay) -> tuple[int, int]:
    """The first message of a pause at the day's place, and the first after it."""
    times = day.messages.first(RECEIPT)
    begin = day.messages.at(day.place)
    end = begin + int(np.searchsorted(times[begin:], times[begin] + day.pause_ns))
    return begin, min(end, len(times))


def _other_content(day: RawDay, chosen: IntArray, content: IntArray) -> RawDay:
    """The day in which some messages have the rows of others under their own number and times."""
    messages = day.messages
    order = _order(day)
    order[chosen] = content
    rows = messages.take(order)
    lengths = (messages.ends - messages.starts)[order]
    own = {
        name: np.repeat(messages.first(name), lengths)
        for name in (ORIGIN, RECEIPT, NUMBER, "message", "shard")
    }
    return day.put("deltas", rows.with_columns(pl.Series(name, own[name]) for name in own))

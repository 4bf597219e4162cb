"""Replay over midnight of two real instruments at once, each by policies of its own.

One takes every snapshot and begins its second day with the close of the first; the other takes none
after its first, so that nothing but its raw rows changes its book.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from market_pipeline import ReplayedMessage, books_at, events, load_bbo, replay
from market_pipeline.config.instruments import Instrument, Policies
from market_pipeline.config.settings import Settings
from market_pipeline.tables import refresh_catalogue
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.catalogues import drawn_catalogue
from market_pipeline_tests.naive.events import COLUMNS, LAST, MAYBE_BAD_BOOK, Reader
from market_pipeline_tests.published_day import publish_verdicts
from market_pipeline_tests.quality.sample import read_table, sample_root

pytestmark = pytest.mark.slow
DAYS = date(2024, 8, 8), date(2024, 8, 9)
MIDNIGHT_NS = 1_723_161_600 * 10**9
SPAN = MIDNIGHT_NS - 5 * 10**9, MIDNIGHT_NS + 5 * 10**9
SPOT = Instrument(
    venue="BINANCE",
    symbol="BTC-USDT",
    source="crypto_lake",
    policies=Policies(resync="always", seed="previous_close"),
)
COIN = Instrument(
    venue="BINANCE_DELIVERY",
    symbol="BTC-USD-PERP",
    source="crypto_lake",
    policies=Policies(resync="never"),
)
IDS = [SPOT.id, COIN.id]


@dataclass(frozen=True)
class Played:
    """What was published, and all messages of the span with their full books."""

    data_dir: Path
    messages: list[ReplayedMessage]

    def of(self, instrument: str) -> list[ReplayedMessage]:
        """Those of one instrument."""
        return [each for each in self.messages if each.instrument == instrument]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    root = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as changed:
        changed.chdir(root)
        lake = str(sample_root() / "lake")
        # So many checkpoints that a start from the middle has one before it.
        settings = Settings(data_dir=root / "data", lake_uri=lake, checkpoint_seconds=60)
        drawn_catalogue(settings.data_dir)
        for day in DAYS:
            publish_verdicts(settings, (SPOT, COIN), day)
        refresh_catalogue(Warehouse(settings.data_dir))
        changed.setenv("PIPELINE_LAKE_URI", lake)
        yield Played(root / "data", [*replay(IDS, *SPAN, depth=None, data_dir=root / "data")])


@pytest.fixture(autouse=True)
def lake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The raw rows are the sample's."""
    monkeypatch.setenv("PIPELINE_LAKE_URI", str(sample_root() / "lake"))


def levels(message: ReplayedMessage) -> tuple[list[list[int]], list[list[int]]]:
    return message.bids.tolist(), message.asks.tolist()


def best(side: np.ndarray) -> list[int | None]:
    return side[0].tolist() if len(side) else [None, None]


def sides(bids: dict[int, int], asks: dict[int, int]) -> tuple[list[list[int]], list[list[int]]]:
    """Both sides of a plain book, best first."""
    best_first = sorted(bids.items(), reverse=True), sorted(asks.items())
    return tuple([list(level) for level in side] for side in best_first)


def test_all_messages_of_both_come_in_order(played: Played):
    """None is missing or there twice, the clock never runs back, and each has its published row."""
    clock_ns = [each.clock_ns for each in played.messages]
    assert clock_ns == sorted(clock_ns)
    for instrument in IDS:
        rows = load_bbo(instrument, *DAYS, valid_only=False, data_dir=played.data_dir).collect()
        within = rows.filter(pl.col("ts_receipt_ns").is_between(*SPAN, closed="left"))
        touch = [
            f"{side}_{part}" for side in ("bid", "ask") for part in ("price_ticks", "size_lots")
        ]
        expected = within.select("ts_receipt_ns", "sequence_number", "flags", *touch).rows()
        assert len(expected) > 50
        assert expected == [
            (
                each.ts_receipt_ns,
                each.sequence_number,
                each.flags,
                *best(each.bids),
                *best(each.asks),
            )
            for each in played.of(instrument)
        ]


def test_a_dict_of_raw_rows_has_the_same_books(played: Played):
    """Where no snapshot is taken, each full book is the one before with the message's own rows."""
    messages = played.of(COIN.id)
    numbers = [each.sequence_number for each in messages]
    raw = pl.concat(
        read_table("lake/book_delta_v2", COIN.venue, COIN.symbol, day) for day in DAYS
    ).filter(pl.col("sequence_number").is_in(numbers))
    rows = {
        key[0]: part.select("side_is_bid", "price", "size").rows()
        for key, part in raw.partition_by("sequence_number", as_dict=True).items()
    }
    first_of_later = next(n for n, each in enumerate(messages) if each.clock_ns >= MIDNIGHT_NS)
    days = messages[:first_of_later], messages[first_of_later:]
    assert all(len(of_day) > 50 for of_day in days)
    for of_day in days:
        # Each day begins with a snapshot of its own, so the first book is taken as it is.
        seeded = next(n for n, each in enumerate(of_day) if each.is_valid)
        bids, asks = (dict(side) for side in levels(of_day[seeded]))
        for message in of_day[seeded + 1 :]:
            for is_bid, price, size in rows[message.sequence_number]:
                side, ticks = (bids if is_bid else asks), round(price * 10)
                side.pop(ticks, None)
                if size:
                    side[ticks] = round(size)
            assert sides(bids, asks) == levels(message)


@pytest.mark.parametrize("instrument", IDS)
def test_books_at_and_events_have_the_same_books(played: Played, instrument: str):
    """Every book is that of `books_at`, and valid ones those of two dicts that read the events."""
    messages = played.of(instrument)
    books = books_at(instrument, [each.clock_ns for each in messages], data_dir=played.data_dir)
    in_force = {each.clock_ns: each for each in messages}
    for message, book in zip(messages, books, strict=True):
        expected = in_force[message.clock_ns]
        assert (expected.sequence_number, expected.flags) == (book.sequence_number, book.flags)
        found = [side.select("price_ticks", "size_lots") for side in (book.bids, book.asks)]
        assert [side.tolist() for side in (expected.bids, expected.asks)] == [
            np.array(side.rows()).tolist() for side in found
        ]
    by_number = {(each.clock_ns >= MIDNIGHT_NS, each.number): each for each in messages}
    reader, compared = Reader(), 0
    for batch in events(instrument, *SPAN, data_dir=played.data_dir):
        frame = pl.DataFrame(batch)
        for later, row in zip(frame["dt"] == DAYS[1], frame.select(COLUMNS).rows(), strict=True):
            kind, action, side, price, size, flags, message, _ = row
            reader.read(action, side, price, size)
            if kind == "trade" or not flags & LAST or message is None or flags & MAYBE_BAD_BOOK:
                continue
            assert sides(reader.bids, reader.asks) == levels(by_number[later, message])
            compared += 1
    assert sum(each.is_valid for each in messages) == compared

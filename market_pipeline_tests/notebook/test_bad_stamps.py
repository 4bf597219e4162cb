"""A day of which some receipt times are wrong: no later book is known any earlier for it."""

from __future__ import annotations

import random
from bisect import bisect_right
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from market_pipeline import asof_quotes, book_at, books_at, replay
from market_pipeline.config.settings import Settings
from market_pipeline.sources.crypto_lake import DELTAS, TRADES, day_folder
from market_pipeline_tests.published_day import MINUTES, publish_day
from market_pipeline_tests.sources.raw_files import shard
from market_pipeline_tests.stages.days import (
    BTC,
    DAY,
    END_NS,
    HOUR_NS,
    START_NS,
    delta_rows,
    trade_rows,
    write_day,
)

pytestmark = pytest.mark.slow
NOON, SIX = 1_440, 720


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noon's message has the time of 03:00, and one at six is a second before the one before it.

    The next day has twenty messages, the first four of them at a time of the day after.
    """
    folder = tmp_path_factory.mktemp("stamps") / "data"
    rows = delta_rows()
    times = rows["receipt_timestamp"].to_numpy().copy()
    times[2 * NOON : 2 * NOON + 2] = START_NS + 3 * HOUR_NS
    times[2 * SIX : 2 * SIX + 2] = times[2 * SIX - 1] - 10**9
    at = rows.schema.get_field_index("receipt_timestamp")
    deltas = rows.set_column(at, "receipt_timestamp", pa.array(times))
    write_day(folder / "lake", BTC, deltas=deltas)
    with pytest.MonkeyPatch.context() as changed:
        changed.chdir(folder.parent)
        settings = Settings(data_dir=folder, lake_uri=str(folder / "lake"), **MINUTES)
        publish_day(settings, (BTC,), DAY)
        next_day = DAY + timedelta(days=1)
        for table, of_day in ((DELTAS, delta_rows(20)), (TRADES, trade_rows(20))):
            rows = of_day
            for name in ("timestamp", "receipt_timestamp"):
                times = rows[name].to_numpy() + 24 * HOUR_NS
                if table is DELTAS and name == "receipt_timestamp":
                    times[:8] = END_NS + 30 * HOUR_NS
                rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(times))
            shard(day_folder(folder / "lake", table, BTC.venue, BTC.symbol, next_day), 1, rows)
        publish_day(settings, (BTC,), next_day)
    return folder


@pytest.mark.parametrize("depth", [0, 2])
def test_books_quotes_and_replay_are_on_one_clock(data_dir: Path, depth: int):
    """At any instant they have the book after the same message, with the same flags."""
    choose = random.Random(3)
    edges = [START_NS + hour * HOUR_NS for hour in (3, 6, 12)]
    anywhere = [choose.randrange(START_NS + HOUR_NS, END_NS - HOUR_NS) for _ in range(200)]
    instants = sorted([*edges, *(edge + 5 * 10**9 for edge in edges), *anywhere])
    played = [*replay(BTC.id, START_NS, END_NS, depth=depth, data_dir=data_dir)]
    clock_ns = [message.clock_ns for message in played]
    expected = [played[bisect_right(clock_ns, at) - 1].sequence_number for at in instants]
    quotes = asof_quotes(BTC.id, instants, valid_only=False, data_dir=data_dir).collect()
    books = [*books_at(BTC.id, instants, data_dir=data_dir)]
    assert expected == quotes["sequence_number"].to_list()
    assert expected == [book.sequence_number for book in books]
    assert quotes["flags"].to_list() == [book.flags for book in books]


@pytest.mark.parametrize("depth", [0, 2])
def test_the_first_messages_of_a_day_have_no_time(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, depth: int
):
    """They came with none of the day before: until the next one the last book of that day holds.
    Where they are all of a block, they keep no later one out of a replay.
    """
    monkeypatch.setattr("market_pipeline.books.replay._MESSAGE_ROOM", 4)
    shown = replay(BTC.id, END_NS, END_NS + HOUR_NS, depth=depth, data_dir=data_dir)
    assert [*range(20)] == [message.number for message in shown]
    instants = [END_NS - 10**9, END_NS, END_NS + 119 * 10**9, END_NS + 121 * 10**9]
    quotes = asof_quotes(BTC.id, instants, valid_only=False, data_dir=data_dir).collect()
    books = [book.sequence_number for book in books_at(BTC.id, instants, data_dir=data_dir)]
    assert [3_879, 3_879, 3_879, 1_004] == books == quotes["sequence_number"].to_list()


def test_a_bad_stamp_is_no_age(data_dir: Path):
    """The book of a message with a bad time is as old as the message before it, not nine hours."""
    book = book_at(BTC.id, START_NS + 12 * HOUR_NS + 5 * 10**9, data_dir=data_dir)
    assert [False, True] == [book.is_valid, "contradicts" in " ".join(book.reasons)]
    assert not any("silent" in reason for reason in book.reasons)
    assert START_NS + 3 * HOUR_NS == book.ts_receipt_ns
    # Before it every half minute has a book.
    instants = START_NS + HOUR_NS + np.arange(100) * 5 * 60 * 10**9
    assert all(book.is_valid for book in books_at(BTC.id, instants.tolist(), data_dir=data_dir))

"""Queues, pacing, sinks, and the pipeline from replayed frames to files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from msgspec import Struct

from market_pipeline.books.scale import Scale
from market_pipeline.capture.bars import BarOperator
from market_pipeline.capture.book import LiveBook
from market_pipeline.capture.flow import BoundedQueue, Policy, TokenBucket
from market_pipeline.capture.operators import Bars, BestQuotes
from market_pipeline.capture.pipeline import Event, Pipeline
from market_pipeline.capture.replay import replay
from market_pipeline.capture.sinks import JsonLines, ParquetParts, sink_of
from market_pipeline.errors import SettingsError
from market_pipeline.sources.venues import VENUES
from market_pipeline.sources.venues.reading import FrameReader

READER = FrameReader(VENUES["binance_spot"])
TICK, LOT = Scale.of(Decimal("0.1")), Scale.of(Decimal("0.01"))
START_MS = 1_723_075_200_000


def frames(minutes: int) -> list[tuple[int, bytes]]:
    """A snapshot, then a depth event and a print every second."""
    made = [b'{"lastUpdateId":100,"bids":[["9.0","1"]],"asks":[["10.0","1"]]}']
    for second in range(60 * minutes):
        at = START_MS + 1_000 * second
        bid = f"{9.1 + second % 5 / 10:.1f}"
        depth = {
            "s": "X",
            "E": at,
            "U": 101 + second,
            "u": 101 + second,
            "b": [[bid, "1"]],
            "a": [],
        }
        trade = {"s": "X", "E": at, "T": at, "t": second, "p": bid, "q": "0.5", "m": True}
        for stream, data in (("x@depth@100ms", depth), ("x@trade", trade)):
            made.append(json.dumps({"stream": stream, "data": data}).encode())
    return [((START_MS + 500 * at) * 1_000_000, each) for at, each in enumerate(made)]


class TestQueue:
    @pytest.mark.parametrize(
        ("policy", "left", "dropped"),
        [(Policy.DROP_OLDEST, [2, 3, 4], 2), (Policy.DROP_NEWEST, [0, 1, 2], 2)],
    )
    def test_a_full_queue_drops_by_its_policy(self, policy, left, dropped):
        """What is dropped is counted, and the rest comes out in its order."""

        async def scenario() -> tuple[list[int], int]:
            queue: BoundedQueue[int] = BoundedQueue("q", 3, policy)
            for item in range(5):
                await queue.put(item)
            await queue.close()
            out = []
            while (item := await queue.get()) is not None:
                out.append(item)
            return out, queue.dropped

        assert (left, dropped) == asyncio.run(scenario())

    def test_a_blocking_queue_loses_nothing(self):
        """A giver waits for room, every item arrives, and the wait is counted."""

        async def scenario() -> tuple[list[int], int, bool]:
            queue: BoundedQueue[int] = BoundedQueue("q", 2)

            async def give() -> None:
                for item in range(50):
                    await queue.put(item)
                await queue.close()

            task, out = asyncio.create_task(give()), []
            while (item := await queue.get()) is not None:
                out.append(item)
                await asyncio.sleep(0)
            await task
            return out, queue.deepest, queue.blocked_s > 0

        assert (list(range(50)), 2, True) == asyncio.run(scenario())

    def test_pressure_begins_at_80_and_ends_at_50_percent(self):
        """Between the two it stays as it was."""

        async def scenario() -> list[bool]:
            queue: BoundedQueue[int] = BoundedQueue("q", 10)
            seen = []
            for item in range(8):
                await queue.put(item)
                seen.append(queue.is_pressed)
            for _ in range(3):
                await queue.get()
                seen.append(queue.is_pressed)
            return seen

        assert [False] * 7 + [True] + [True, True, False] == asyncio.run(scenario())


def test_a_bucket_paces_after_its_burst():
    """A burst passes at once; then items wait for the rate, and the wait is reported."""
    now, slept = [0.0], []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    async def scenario() -> float:
        bucket = TokenBucket(100, 50, lambda: now[0], sleep)
        for _ in range(3):
            await bucket.take(50)
        return bucket.blocked_s

    assert (1.0, [0.5, 0.5]) == (asyncio.run(scenario()), slept)


class Refusing:
    def write(self, kind: str, rows: Sequence[Struct]) -> None:
        raise OSError("no room")

    def close(self) -> None:
        self.is_closed = True


class TestPipeline:
    def run(self, sinks: dict, **more: object) -> tuple[Pipeline, LiveBook]:
        book = LiveBook(READER, TICK, LOT)
        operators = [Bars(READER, BarOperator("X", TICK, LOT)), BestQuotes("X", book)]
        pipeline = Pipeline(operators, sinks, **more)
        asyncio.run(pipeline.run(replay(frames(3), READER, batch=7)))
        return pipeline, book

    def test_frames_become_rows_in_every_sink(self, tmp_path):
        """Three minutes of frames are three bars, and each change of the touch, in both files."""
        self.run({"a": JsonLines(tmp_path / "j"), "b": ParquetParts(tmp_path / "p")}, batch=5)
        lines = (tmp_path / "j" / "bars.jsonl").read_text().splitlines()
        parquet = pl.read_parquet(tmp_path / "p" / "bars").sort("start_ns")
        assert [30.0] * 3 == [json.loads(line)["volume"] for line in lines]
        assert [json.loads(line) for line in lines] == parquet.to_dicts()
        quotes = pl.read_parquet(tmp_path / "p" / "best_quotes")
        # The best bid rises over the first five seconds, and then every level is there.
        assert [90, 91, 92, 93, 94, 95] == quotes["bid_price_ticks"].sort().to_list()

    def test_a_sink_that_fails_stops_nobody_else(self, tmp_path):
        """Its error is kept, it is closed, and the other sink has every row."""
        refusing = Refusing()
        pipeline, book = self.run({"bad": refusing, "good": JsonLines(tmp_path)})
        assert (["bad"], True, True) == (list(pipeline.failed), refusing.is_closed, book.is_live)
        assert 3 == len((tmp_path / "bars.jsonl").read_text().splitlines())

    def test_frames_that_cannot_be_read(self, tmp_path):
        """A broken print is counted and left out; a broken depth event is a gap of the book."""
        book = LiveBook(READER, TICK, LOT)
        bars = Bars(READER, BarOperator("X", TICK, LOT))
        made = frames(1)
        for at in (9, 10):
            made[at] = (
                made[at][0],
                made[at][1].replace(b'"b": [[', b'"b": [[[').replace(b'"q": "0.5"', b'"q": "no"'),
            )
            made[at] = made[at][0], made[at][1].replace(b'"1"]]', b'"1"]]]')
        quotes = BestQuotes("X", book)
        pipeline = Pipeline([bars, quotes], {"a": JsonLines(tmp_path)})
        asyncio.run(pipeline.run(replay(made, READER)))
        (bar,) = (tmp_path / "bars.jsonl").read_text().splitlines()
        assert (59, 1, 1) == (json.loads(bar)["trade_count"], bars.refused, quotes.refused)
        assert (1, False) == (book.gaps, book.is_live)

    def test_an_unknown_sink(self, tmp_path):
        """The error names what there is."""
        with pytest.raises(SettingsError, match="jsonl, parquet"):
            sink_of("kafka", tmp_path)


def test_replay_keeps_the_distances():
    """Ten times as fast, frames come at a tenth of their distances; at once, in whole batches."""
    now, slept = [0.0], []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        now[0] += seconds

    async def sizes(**more: object) -> list[int]:
        given: list[list[Event]] = []
        async for events in replay(
            frames(1)[:5], READER, clock=lambda: now[0], sleep=sleep, **more
        ):
            given.append(events)
        return [len(each) for each in given]

    assert [1] * 5 == asyncio.run(sizes(speed=10))
    assert [0.05] * 4 == slept
    assert [2, 2, 1] == asyncio.run(sizes(batch=2))


def test_json_lines_are_continued(tmp_path: Path):
    """A second run appends; files are for their owner only."""
    row = Event(b"", READER.classify(b"{}"), 1)
    for _ in range(2):
        sink = sink_of("jsonl", tmp_path / "new")
        sink.write("rows", [row])
        sink.close()
    file = tmp_path / "new" / "rows.jsonl"
    assert (2, 0o600) == (len(file.read_text().splitlines()), file.stat().st_mode & 0o777)

"""Queues, pacing, sinks, and the pipeline from frames to files."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal

import polars as pl
import pytest
from msgspec import Struct

from market_pipeline.books.scale import Scale
from market_pipeline.capture.bars import BarOperator
from market_pipeline.capture.flow import BoundedQueue, Handover, Policy, TokenBucket
from market_pipeline.capture.operators import Bars, BestQuotes
from market_pipeline.capture.pipeline import Change, Event, Notice, Pipeline
from market_pipeline.capture.sinks import JsonLines, ParquetParts
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
            assert 0.8 == queue.share
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
    def __init__(self, error: type[BaseException] = OSError) -> None:
        self._error = error

    def write(self, kind: str, rows: Sequence[Struct]) -> None:
        raise self._error("no room")

    def close(self) -> None:
        self.is_closed = True


def operators(**options: object) -> list[Bars | BestQuotes]:
    """Book and bars of the symbol, with its tick and lot."""
    quotes = BestQuotes("X", READER, (TICK, LOT), **options)
    bars = Bars("X", READER, lambda scales: BarOperator("X", *scales), lambda: quotes.scales)
    return [quotes, bars]


def run(
    made: list[tuple[int, bytes]], chosen: list[Bars | BestQuotes], sinks: dict, **more: object
) -> Pipeline:
    async def source() -> AsyncIterator[list[Event]]:
        events = [Event(each, READER.classify(each), at_ns) for at_ns, each in made]
        for at in range(0, len(events), 7):
            yield events[at : at + 7]

    pipeline = Pipeline(chosen, sinks, **more)
    asyncio.run(pipeline.run(source()))
    return pipeline


class Raising:
    name, symbol = "raising", "X"

    def take(self, events: Sequence[Event]) -> Sequence[Struct]:
        raise ZeroDivisionError("a fault of ours")


class Counting:
    """A row for each event."""

    name, symbol = "counting", "X"

    def take(self, events: Sequence[Event]) -> Sequence[Struct]:
        return events

    def finish(self) -> Sequence[Struct]:
        return ()


class Held:
    """A sink that takes its first rows once it is released."""

    def __init__(self) -> None:
        self.released, self.rows = threading.Event(), 0

    def write(self, kind: str, rows: Sequence[Struct]) -> None:
        self.released.wait(60)
        self.rows += len(rows)

    def close(self) -> None:
        pass


class TestPressure:
    def given(self, conflate: Sequence[str]) -> tuple[Pipeline, Held]:
        """Ten batches of seven rows for a sink that is held until half of them were given."""
        held = Held()
        pipeline = Pipeline([Counting()], {"held": held}, sink_batches=10, conflate=conflate)
        events = [Event(each, READER.classify(each), at_ns) for at_ns, each in frames(1)[:70]]

        async def source() -> AsyncIterator[list[Event]]:
            for number in range(10):
                yield events[7 * number : 7 * number + 7]
            held.released.set()
            while pipeline.is_pressed:
                await asyncio.sleep(0.001)
            yield events[:7]

        asyncio.run(pipeline.run(source()))
        return pipeline, held

    def test_state_is_conflated_from_80_to_50_percent(self):
        """While a sink is behind only the last row of a batch is given; then all are again."""
        pipeline, held = self.given(["counting"])
        # The sink holds the first batch or none, and eight wait: after them only last rows come.
        assert pipeline.conflated in (6, 12)
        assert 77 == held.rows + pipeline.conflated

    def test_other_rows_are_not(self):
        """Rows of a kind that is not named are all given."""
        pipeline, held = self.given([])
        assert (0, 77, 0) == (pipeline.conflated, held.rows, pipeline.queues["held"].dropped)


class TestPipeline:
    def test_frames_become_rows_in_every_sink(self, tmp_path):
        """Of three minutes of frames two bars are whole; each change of the touch is in both."""
        sinks = {"a": JsonLines(tmp_path / "j"), "b": ParquetParts(tmp_path / "p", 60.0)}
        pipeline = run(frames(3), operators(), sinks)
        lines = (tmp_path / "j" / "bars.jsonl").read_text().splitlines()
        parquet = pl.read_parquet(tmp_path / "p" / "bars").sort("start_ns")
        assert [30.0] * 2 == [json.loads(line)["volume"] for line in lines]
        assert [json.loads(line) for line in lines] == parquet.to_dicts()
        quotes = pl.read_parquet(tmp_path / "p" / "best_quotes")
        # The best bid rises over the first five seconds, and then every level is there.
        assert [90, 91, 92, 93, 94, 95] == quotes["bid_price_ticks"].sort().to_list()
        assert {"a": 8, "b": 8} == pipeline.written

    def test_each_commit_has_its_seconds(self, tmp_path):
        """Writes that only gather rows have none; the last one of gathered rows is at the end."""
        sinks = {"jsonl": JsonLines(tmp_path / "j"), "parquet": ParquetParts(tmp_path / "p", 1e9)}
        told: list[tuple[str, float]] = []
        run(frames(3), operators(), sinks, on_commit=lambda *each: told.append(each))
        assert 1 == len([name for name, _ in told if name == "parquet"])
        assert 1 < len([name for name, _ in told if name == "jsonl"]) <= sinks["jsonl"].commits
        assert all(seconds > 0 for _, seconds in told)

    @pytest.mark.parametrize("error", [OSError, StopIteration, SystemExit])
    def test_a_sink_that_fails_stops_nobody_else(self, tmp_path, error):
        """Its error is kept, it is closed, and the other sink has every row."""
        refusing = Refusing(error)
        quotes, bars = operators()
        pipeline = run(frames(3), [quotes, bars], {"bad": refusing, "good": JsonLines(tmp_path)})
        assert ["bad:best_quotes", "bad:bars"] == list(pipeline.failed)
        assert (True, True) == (refusing.is_closed, quotes.book.is_live)
        assert 2 == len((tmp_path / "bars.jsonl").read_text().splitlines())

    def test_a_sink_that_works_again_comes_back(self, tmp_path):
        """It is reported off and back once, has later rows, and the others are counted."""
        folder, told = tmp_path / "lines", []
        folder.write_text("a file is in the way")

        class Freed:
            name, symbol = "freed", "X"

            def take(self, events: Sequence[Event]) -> Sequence[Struct]:
                if lines.failures >= 2 and folder.is_file():
                    folder.unlink()
                return events[:1]

            def finish(self) -> Sequence[Struct]:
                return ()

        lines = JsonLines(folder)
        pipeline = run(
            frames(3),
            [Freed()],
            {"lines": lines},
            sink_batches=1,  # so that the operator does not run ahead of the sink
            sink_retry_s=0.0,
            on_failed=lambda name, error: told.append(f"{name} off"),
            on_back=lambda name, kind: told.append(f"{name}:{kind} back"),
        )
        assert (["lines:freed off", "lines:freed back"], {}) == (told, pipeline.failed)
        written = len((folder / "freed.jsonl").read_text().splitlines())
        assert written == pipeline.written["lines"] > 0
        assert -(-len(frames(3)) // 7) == written + pipeline.left_out["lines"]
        assert lines.failures >= 2

    def test_a_sink_that_failed_is_left_alone_for_a_while(self):
        """Rows that come before it is due again are not given to it, and are counted."""
        calls = []

        class Refused(Refusing):
            def write(self, kind: str, rows: Sequence[Struct]) -> None:
                calls.append(len(rows))
                super().write(kind, rows)

        pipeline = run(frames(3), [Counting()], {"bad": Refused()}, sink_retry_s=600.0)
        assert 1 == len(calls)
        assert (len(frames(3)), 0) == (pipeline.left_out["bad"], pipeline.written["bad"])

    def test_other_kinds_of_a_sink_go_on(self, tmp_path):
        """A kind that a sink cannot write is off alone: every row of the others is there."""
        (tmp_path / "best_quotes.jsonl").mkdir()
        lines = {"lines": JsonLines(tmp_path)}
        pipeline = run(frames(3), [*operators(), Counting()], lines, sink_retry_s=600.0)
        assert ["lines:best_quotes"] == list(pipeline.failed)
        written = [
            len((tmp_path / f"{kind}.jsonl").read_text().splitlines())
            for kind in ("bars", "counting")
        ]
        assert [2, len(frames(3))] == written
        assert (sum(written), True) == (pipeline.written["lines"], pipeline.left_out["lines"] > 0)

    def test_an_operator_that_fails_is_switched_off(self, tmp_path):
        """It is called once, its error is reported, and the others make their rows."""
        reported = []
        pipeline = run(
            frames(3),
            [Raising(), *operators()],
            {"a": JsonLines(tmp_path)},
            on_failed=lambda name, error: reported.append((name, str(error))),
        )
        assert [("raising:X", "a fault of ours")] == reported
        assert ["raising:X"] == list(pipeline.failed)
        assert 2 == len((tmp_path / "bars.jsonl").read_text().splitlines())

    def test_frames_that_cannot_be_read(self, tmp_path):
        """A broken print is counted and left out; a broken depth event is a gap of the book."""
        asked = []
        quotes, bars = operators(ask=asked.append)
        made = frames(2)
        for at in (9, 10):
            made[at] = (
                made[at][0],
                made[at][1].replace(b'"b": [[', b'"b": [[[').replace(b'"q": "0.5"', b'"q": "no"'),
            )
            made[at] = made[at][0], made[at][1].replace(b'"1"]]', b'"1"]]]')
        run(made, [quotes, bars], {"a": JsonLines(tmp_path)})
        (bar,) = (tmp_path / "bars.jsonl").read_text().splitlines()
        assert (59, 1, 1) == (json.loads(bar)["trade_count"], bars.refused, quotes.refused)
        assert (1, False) == (quotes.book.gaps, quotes.book.is_live)
        assert {"X"} == {*asked}

    def test_a_bar_that_had_begun_is_left_out(self, tmp_path):
        """Prints from the middle of a minute on make no bar of it."""
        run(frames(3)[40:], operators(), {"a": JsonLines(tmp_path)})
        (bar,) = (tmp_path / "bars.jsonl").read_text().splitlines()
        assert START_MS * 1_000_000 + 60_000_000_000 == json.loads(bar)["start_ns"]


def test_an_operator_takes_what_is_of_its_symbol_and_of_none():
    """Each is given its symbol's events and those of none, in their order, and no empty batch."""

    class Keeping(Counting):
        def __init__(self, symbol: str) -> None:
            self.symbol, self.batches = symbol, []

        def take(self, events: Sequence[Event]) -> Sequence[Struct]:
            self.batches.append([each.at_ns for each in events])
            return ()

    async def source() -> AsyncIterator[list[Notice]]:
        streams = ("depth:A", "", "trades:B:C", "depth:D")
        yield [Notice(Change.LOST, number, stream) for number, stream in enumerate(streams)]
        yield [Notice(Change.LOST, 4, "depth:A")]

    chosen = [Keeping("A"), Keeping("B:C"), Keeping("A")]
    asyncio.run(Pipeline(chosen, {}).run(source()))

    assert [[[0, 1], [4]], [[1, 2]], [[0, 1], [4]]] == [each.batches for each in chosen]


def test_a_bar_that_prints_were_left_out_of_is_none():
    """Where prints were not given to it, the bars before the next print are left out."""
    _, bars = operators()
    made = [Event(each, READER.classify(each), at_ns) for at_ns, each in frames(4)]
    made.insert(100, Notice(Change.LOST, made[100].received_ns, "trades:X", "the queue was full"))
    starts = [bar.start_ns for bar in [*bars.take(made), *bars.finish()]]
    assert [START_MS * 1_000_000 + 60_000_000_000 * minute for minute in (1, 2)] == starts


class TestInferredSteps:
    def quotes(self, made: list[tuple[int, bytes]]) -> tuple[BestQuotes, list[str]]:
        reports: list[str] = []
        quotes = BestQuotes("X", READER, report=lambda level, text: reports.append(text))
        events = [Event(each, READER.classify(each), at_ns) for at_ns, each in made]
        list(quotes.take(events))
        return quotes, reports

    def test_from_the_first_whole_book(self):
        """Events wait for it, and tick and lot are as fine as its levels and theirs."""
        made = frames(1)
        quotes, reports = self.quotes([*made[1:6], made[0], *made[6:]])
        assert (Scale(1, 1), Scale(1, 0)) == quotes.scales
        assert (True, 0) == (quotes.book.is_live, quotes.book.refused)
        assert "tick 0.1 and lot 1, inferred" in reports[0]

    def test_a_finer_level_begins_again(self):
        """A level that is no whole number of steps is not left out: the book takes finer ones."""
        made = [(at_ns, each.replace(b'"9.0"', b'"9.1"')) for at_ns, each in frames(1)]
        made[21] = made[21][0], made[21][1].replace(b'"1"', b'"0.25"')
        quotes, reports = self.quotes(made[:31])
        assert (Scale(1, 2), 1) == (quotes.scales[1], quotes.book.gaps)
        assert (False, True) == (quotes.book.is_live, any("finer" in each for each in reports))
        whole = made[0][1].replace(b"100", b"110")
        list(quotes.take([Event(whole, READER.classify(whole), made[30][0])]))
        assert (True, 25) == (quotes.book.is_live, min(quotes.book.sides()[0][1].tolist()))

    def test_listed_steps_stay(self):
        """A level off the steps of the instruments file is left out, counted, and reported once."""
        reports: list[str] = []
        quotes = BestQuotes(
            "X", READER, (TICK, LOT), report=lambda level, text: reports.append(text)
        )
        made = frames(1)
        for at in (21, 23):
            made[at] = made[at][0], made[at][1].replace(b'"1"', b'"0.255"')
        list(quotes.take([Event(each, READER.classify(each), at_ns) for at_ns, each in made]))
        assert (True, 2, (TICK, LOT)) == (quotes.book.is_live, quotes.book.refused, quotes.scales)
        assert 1 == len([text for text in reports if "left out" in text])


def test_a_handover_drops_what_is_beyond_its_batches():
    """What is given comes out in whole batches; beyond its capacity it is dropped and counted."""
    handover: Handover[int] = Handover(2, 100, 0.001, 2)
    assert [True, True, True, True, False] == [handover.put(item, 60) for item in range(5)]
    assert (True, False) == (handover.is_pressed, handover.has_room)
    assert handover.put(9, always=True)
    handover.close()

    async def taken() -> list[list[int]]:
        return [batch async for batch in handover.batches()]

    assert [[0, 1], [2, 3], [9]] == asyncio.run(taken())
    assert (1, False) == (handover.dropped, handover.is_pressed)

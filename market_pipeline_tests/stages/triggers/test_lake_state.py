from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from market_pipeline.errors import StoreError
from market_pipeline.stages.triggers.lake_state import (
    FOLDER_PACE,
    STORE_PACE,
    ArrivedDay,
    LakeState,
    Pace,
    Span,
    fingerprint_of,
)
from market_pipeline.stages.triggers.listing import RawLake, Stream, streams_of
from market_pipeline_tests.stages.triggers.landing import (
    STREAMS,
    MemoryLake,
    YearInStore,
    at,
    in_store,
    instruments_named,
)

DAY, NEXT_DAY = date(2024, 8, 8), date(2024, 8, 9)
LAG_HOURS = 4.0
SPAN = Span(date(2024, 8, 1), date(2024, 8, 10), LAG_HOURS)
NOW = at(date(2024, 8, 10), 12)
LONG_AGO = at(NEXT_DAY, 3)


class Ticks:
    """The ticks of a sensor: each knows only what the text of the one before says."""

    def __init__(
        self,
        lake: RawLake,
        streams: list[Stream] = STREAMS,
        pace: Pace = STORE_PACE,
        span: Span = SPAN,
    ) -> None:
        self.lake, self.streams, self.pace, self.span = lake, streams, pace, span
        self.text: str | None = None
        self.now_s = NOW
        self.listings: list[int] = []

    def tick(self, seconds: float = 60.0, **changed: object) -> list[ArrivedDay]:
        """The days that are new, so many seconds after the tick before."""
        for name, value in changed.items():
            setattr(self, name, value)
        self.now_s += seconds
        state = LakeState.from_text(self.text)
        try:
            tick = state.scan(self.lake, self.streams, self.span, self.pace, self.now_s)
            self.listings.append(tick.listings)
            arrived = state.arrived(self.streams, self.span, self.pace, self.now_s)
            for each in arrived:
                state.note(each)
        finally:
            self.text = state.to_text(self.span)
        return arrived

    def days(self, seconds: float = 60.0, **changed: object) -> list[date]:
        """As `tick`, only the days."""
        return [each.day for each in self.tick(seconds, **changed)]


@pytest.fixture
def lake() -> MemoryLake:
    """An empty lake."""
    return MemoryLake()


def land_whole(lake: MemoryLake, day: date, changed_s: float = LONG_AGO, mark: str = "a") -> None:
    """Every stream's file of a day lands."""
    for stream in STREAMS:
        lake.land(stream, day, changed_s, mark=mark)


class TestDays:
    def test_an_empty_lake(self, lake):
        """Of a lake without a day nothing can be run."""
        assert [] == Ticks(lake).tick()

    def test_each_day_once(self, lake):
        """Days come in order, each once, with their figures; the next full scan has none."""
        for day in (NEXT_DAY, DAY):
            land_whole(lake, day)
        ticks = Ticks(lake)
        first = ticks.tick()

        assert [DAY, NEXT_DAY] == [each.day for each in first]
        assert {(int(LONG_AGO), 6, 24)} == {
            (each.newest_s, each.files, each.bytes) for each in first
        }
        assert first[0].fingerprint != first[1].fingerprint
        assert [] == [day for _ in range(70) for day in ticks.days()]

    @pytest.mark.parametrize(
        "changed",
        [
            {"name": "2.snappy.parquet"},
            {"size": 5},
            {"mark": "b"},
            {"stream": STREAMS[5]},
        ],
        ids=["a shard more", "another size", "another mark", "a stream more"],
    )
    def test_a_change_is_told_once(self, lake, changed):
        """A shard more, one of another size or mark, another stream: the day is told again."""
        for stream in STREAMS[:5]:
            lake.land(stream, DAY, LONG_AGO)
        ticks = Ticks(lake)
        before = ticks.tick()
        lake.land(changed.pop("stream", STREAMS[0]), DAY, LONG_AGO, **changed)
        after = ticks.tick(3_600)

        assert [DAY] == [each.day for each in before] == [each.day for each in after]
        assert before[0].fingerprint != after[0].fingerprint
        assert [] == ticks.tick(3_600)

    def test_a_file_that_was_taken_back(self, lake):
        """A file less is a change as well."""
        land_whole(lake, DAY)
        ticks = Ticks(lake)
        ticks.tick()
        lake.remove(STREAMS[2], DAY)

        assert [DAY] == ticks.days(3_600)

    def test_a_time_alone_is_no_change(self, lake):
        """An object that was stored again with the same bytes is the same."""
        land_whole(lake, DAY)
        ticks = Ticks(lake)
        ticks.tick()
        land_whole(lake, DAY, changed_s=NOW - 600)

        assert [] == ticks.days(3_600)

    def test_only_days_of_the_span(self, lake):
        """Days before the first, and the day under way, are not told."""
        for day in (SPAN.first - timedelta(days=1), SPAN.first, SPAN.newest, SPAN.before):
            land_whole(lake, day)

        assert [SPAN.first, SPAN.newest] == Ticks(lake).days()

    def test_order_of_listings_changes_nothing(self, lake):
        """The fingerprint does not depend on how many streams a tick lists."""
        land_whole(lake, DAY)
        (at_once,) = Ticks(lake).tick()
        ticks = Ticks(lake, pace=replace(STORE_PACE, listings=1))
        one_by_one = [each for _ in STREAMS for each in ticks.tick()]

        assert [at_once] == one_by_one


class TestReadiness:
    BEFORE_DUE = at(SPAN.before, 2)

    def test_a_whole_day_does_not_wait_until_it_is_due(self, lake):
        """A day of which every stream is there is told a minute after its last file."""
        land_whole(lake, NEXT_DAY, self.BEFORE_DUE)
        ticks = Ticks(lake, pace=FOLDER_PACE)

        assert [] == ticks.days(now_s=self.BEFORE_DUE - 1)
        assert [NEXT_DAY] == ticks.days(1)

    def test_a_part_of_a_day_waits_until_it_is_due(self, lake):
        """A stream that lacks keeps the day until its files are due, and no longer."""
        lake.land(STREAMS[0], NEXT_DAY, self.BEFORE_DUE)
        ticks = Ticks(lake)
        due_s = SPAN.due_s(NEXT_DAY)

        assert at(SPAN.before, LAG_HOURS) == due_s
        assert [] == ticks.days(now_s=due_s - 3_660)
        assert [] == ticks.days(now_s=due_s - 61)
        assert [NEXT_DAY] == ticks.days()

    def test_a_part_of_a_day_that_grows(self, lake):
        """Of a day that is due but not whole, a quarter of an hour nothing must have come."""
        lake.land(STREAMS[0], NEXT_DAY, NOW - 100)
        ticks = Ticks(lake)
        told = [(seconds, ticks.days(100)) for seconds in range(200, 1_300, 100)]

        assert [(900, [NEXT_DAY])] == [each for each in told if each[1]]

    def test_a_file_that_may_still_grow(self, lake):
        """One file that changed within the last minute keeps the whole day."""
        land_whole(lake, DAY)
        lake.land(STREAMS[3], DAY, NOW + 30, name="2.snappy.parquet")
        ticks = Ticks(lake, pace=FOLDER_PACE)

        assert [] == ticks.days()
        assert [DAY] == ticks.days()

    def test_a_day_without_who_is_not_listed_is_whole(self, lake):
        """It waits for no stream of an instrument that is not listed on it, and has none of it."""
        new, *others = instruments_named(3)
        new = new.model_copy(update={"listed": datetime(2024, 8, 9, 12, tzinfo=UTC)})
        streams = streams_of([new, *others])
        for stream in streams:
            if stream.instrument != new:
                lake.land(stream, DAY, LONG_AGO)
                lake.land(stream, NEXT_DAY, self.BEFORE_DUE)
        ticks = Ticks(lake, streams, pace=FOLDER_PACE)

        (told,) = ticks.tick(now_s=self.BEFORE_DUE + 60)
        assert (DAY, 6) == (told.day, told.files)
        lake.land(streams_of([new])[0], DAY, self.BEFORE_DUE)
        assert [] == ticks.days(now_s=self.BEFORE_DUE + 1_000)

    def test_a_listing_that_changed(self, lake):
        """The lake is looked through again, and a day told again without what is not listed."""
        first, *others = instruments_named(3)
        streams = streams_of([first, *others])
        for stream in streams:
            lake.land(stream, DAY, LONG_AGO)
        ticks = Ticks(lake, streams, pace=FOLDER_PACE)
        (told,) = ticks.tick()
        gone = first.model_copy(update={"delisted": datetime(2024, 8, 8, tzinfo=UTC)})
        (without,) = ticks.tick(streams=streams_of([gone, *others]))

        assert (DAY, DAY, 9, 6) == (told.day, without.day, told.files, without.files)

    def test_one_day_does_not_keep_another(self, lake):
        """A day that is still landing keeps no other one from being told."""
        land_whole(lake, DAY)
        lake.land(STREAMS[0], NEXT_DAY, NOW + 30)

        assert [DAY] == Ticks(lake, pace=FOLDER_PACE).days()


class TestPace:
    def test_a_tick_makes_no_more_listings_than_it_may(self, lake):
        """The listings of a scan are spread over ticks, and its days are known at its end."""
        land_whole(lake, DAY)
        ticks = Ticks(lake, pace=replace(STORE_PACE, listings=4))

        assert [[], [DAY]] == [ticks.days(), ticks.days()]
        assert [4, 2] == ticks.listings

    def test_a_tick_ends_in_time(self, lake):
        """After its seconds a tick begins no further listing."""
        seconds = iter(range(100))
        state = LakeState()
        tick = state.scan(lake, STREAMS, SPAN, STORE_PACE, NOW, lambda: next(seconds) * 7.0)

        assert (2, 4) == (tick.listings, state.left)

    def test_yesterday_is_listed_more_often(self, lake):
        """Between full scans only the streams that lack yesterday are listed."""
        land_whole(lake, DAY)
        for stream in STREAMS[:4]:
            lake.land(stream, NEXT_DAY, LONG_AGO)
        ticks = Ticks(lake)
        for _ in range(61):
            ticks.tick()

        assert [6, *[0, 0, 0, 0, 2] * 11, 0, 0, 0, 0, 6] == ticks.listings

    def test_an_old_day_that_begins_to_land(self, lake):
        """A day of which something arrived in the last hour is listed more often too."""
        land_whole(lake, NEXT_DAY)
        lake.land(STREAMS[0], DAY, NOW)
        ticks = Ticks(lake)
        before = ticks.tick(120)
        land_whole(lake, DAY, changed_s=NOW)

        assert [NEXT_DAY] == [each.day for each in before]
        assert [DAY] == ticks.days(300)
        assert [6, 5] == ticks.listings

    def test_all_is_there(self, lake):
        """When every stream has yesterday, nothing is listed until the next full scan."""
        land_whole(lake, NEXT_DAY)
        ticks = Ticks(lake)
        for _ in range(60):
            ticks.tick()

        assert [6, *[0] * 59] == ticks.listings

    def test_a_scan_that_takes_long_is_repeated_seldom(self, lake):
        """In a large folder a full scan takes a twentieth of the time at most."""
        land_whole(lake, NEXT_DAY)
        seconds = iter(range(10_000))
        text, full = None, []
        for minute in range(60):
            state = LakeState.from_text(text)
            now_s = NOW + 60 * minute
            tick = state.scan(lake, STREAMS, SPAN, FOLDER_PACE, now_s, lambda: float(next(seconds)))
            text = state.to_text(SPAN)
            full += [minute] if tick.listings else []

        # Seven seconds each, and so at least 140 from the begin of one to that of the next.
        assert [*range(0, 60, 3)] == full


class TestErrors:
    def test_a_store_that_fails_at_once(self, lake):
        """When nothing could be listed the error is raised, and the scan is resumed."""
        land_whole(lake, DAY)
        lake.broken_after = 0
        ticks = Ticks(lake)
        with pytest.raises(StoreError):
            ticks.tick()
        lake.broken_after = None

        assert [DAY] == ticks.days()

    def test_a_store_that_fails_midway(self, lake):
        """What was listed before an error is not listed again."""
        land_whole(lake, DAY)
        lake.broken_after = 4
        ticks = Ticks(lake)
        early = ticks.days()
        lake.broken_after = None

        assert ([], [DAY]) == (early, ticks.days())
        assert [4, 2] == ticks.listings


class TestText:
    @pytest.mark.parametrize("text", [None, "", "{}", '{"2024-08-08": "f"}', "AAAA", "é"])
    def test_no_text_or_another(self, text):
        """Without a text, or with that of an earlier version, the state is new."""
        assert LakeState() == LakeState.from_text(text)

    def test_another_format(self):
        """A text of another format is not believed."""
        state = LakeState()
        state.requested[DAY] = "12345678"
        text = zlib.decompress(base64.b64decode(state.to_text(SPAN)))
        packed = {
            number: base64.b64encode(zlib.compress(text.replace(b'"format":2', number))).decode()
            for number in (b'"format":2', b'"format":1', b'"format":3')
        }

        assert [state, LakeState(), LakeState()] == [
            LakeState.from_text(each) for each in packed.values()
        ]

    def test_of_the_release_before(self):
        """The text of the format before this one is another, whatever it says."""
        known = {"format": 1, "of": "", "requested": {"2024-08-08": "12345678"}, "days": {}}
        known |= {"todo": "0", "open": None, "full_s": 1.0, "round_s": 1.0, "full_took_s": 0.0}
        text = base64.b64encode(zlib.compress(json.dumps(known).encode())).decode()

        assert LakeState() == LakeState.from_text(text)

    def test_any_number_of_streams(self):
        """A text has room for the bits of more streams than a decimal number may have digits."""
        state = LakeState(todo=f"{(1 << 30_000) - 1:x}")

        assert 30_000 == LakeState.from_text(state.to_text(SPAN)).left

    def test_there_and_back(self, lake):
        """A text says all that the next tick needs, in the midst of a scan too."""
        land_whole(lake, DAY)
        for listings in (3, 6):
            state = LakeState()
            state.scan(
                lake, STREAMS, SPAN, replace(STORE_PACE, listings=listings), NOW, lambda: 0.0
            )
            assert state == LakeState.from_text(state.to_text(SPAN))

    def test_days_that_are_forgotten(self, lake):
        """A day that left the span, and one whose run is to be waited for, are not remembered."""
        land_whole(lake, DAY)
        state = LakeState()
        state.scan(lake, STREAMS, SPAN, STORE_PACE, NOW)
        (arrived,) = state.arrived(STREAMS, SPAN, STORE_PACE, NOW)
        state.note(arrived)
        assert [] == state.arrived(STREAMS, SPAN, STORE_PACE, NOW)
        state.forget(DAY)
        assert [arrived] == state.arrived(STREAMS, SPAN, STORE_PACE, NOW)
        state.note(arrived)
        state.scan(lake, STREAMS, replace(SPAN, first=NEXT_DAY), STORE_PACE, NOW + 3_600)
        assert {} == state.requested

    def test_other_instruments(self, lake):
        """With an instrument more or less, nothing that was known is relied on."""
        land_whole(lake, DAY)
        ticks = Ticks(lake)
        ticks.tick()

        assert [DAY] == ticks.days(streams=STREAMS[:3])


class TestScale:
    FIRST, INSTRUMENTS = date(2025, 1, 1), 200

    def test_200_instruments_and_365_days(self):
        """Ticks of 100 requests tell the days of the horizon; next day they tell the new one."""
        streams = streams_of(instruments_named(self.INSTRUMENTS))
        store = YearInStore(self.FIRST, 365)
        today = self.FIRST + timedelta(days=365)
        span = Span(today - timedelta(days=15), today, LAG_HOURS)
        ticks = Ticks(in_store(store), streams, span=span)
        ticks.now_s = at(today, 12)
        told, requests = [], []
        for _ in range(60):
            earlier = store.requests
            told += ticks.days()
            requests.append(store.requests - earlier)

        assert [100] * 6 + [0] * 54 == requests
        assert [span.first + timedelta(days=count) for count in range(15)] == told

        store.add(today)
        tomorrow = Span(span.first + timedelta(days=1), today + timedelta(days=1), LAG_HOURS)
        ticks.now_s += 86_400
        told = [day for _ in range(6) for day in ticks.days(span=tomorrow)]
        assert ([today], 1_200) == (told, store.requests)

    @pytest.mark.parametrize("horizon_days", [14, 364])
    def test_memory_of_a_tick(self, horizon_days):
        """A tick holds a listing at a time, a few bytes for each day, and tells them in little."""
        streams = streams_of(instruments_named(self.INSTRUMENTS))
        today = self.FIRST + timedelta(days=365)
        span = Span(today - timedelta(days=1 + horizon_days), today, LAG_HOURS)
        ticks = Ticks(in_store(YearInStore(self.FIRST, 365)), streams, span=span)
        ticks.now_s, ticks.pace = at(today, 12), replace(STORE_PACE, listings=20)
        tracemalloc.start()
        ticks.tick()
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert peak_bytes < 4e6
        assert len(ticks.text or "") < 20_000


class TestFingerprint:
    def test_of_a_sum(self):
        """It is 16 hexadecimal digits of a sum, whose carry is dropped."""
        assert "000000000000000a" == fingerprint_of(10) == fingerprint_of(2**64 + 10)

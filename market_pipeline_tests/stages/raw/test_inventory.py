from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import StoreError
from market_pipeline.sources.crypto_lake import DELTAS, RAW_TABLES, SNAPSHOTS, TRADES
from market_pipeline.sources.crypto_lake_contracts import FUNDING
from market_pipeline.stages.raw.download import fetch_table
from market_pipeline.stages.raw.download_days import to_fetch
from market_pipeline.stages.raw.inventory import DayObjects, take_inventory
from market_pipeline_tests.stages.raw.fake_store import FakeStore, store_error
from market_pipeline_tests.stages.triggers.landing import YearInStore

BTC = Instrument(venue="BINANCE", symbol="BTC-USDT", source="crypto_lake")
ETH = Instrument(venue="BINANCE", symbol="ETH-USDT", source="crypto_lake")
DAY = date(2024, 8, 8)
DAYS = [DAY + timedelta(days=number) for number in range(4)]


def key(raw=DELTAS, day: date = DAY, number: int = 1, of: Instrument = BTC) -> str:
    """The key of a shard."""
    folder = f"{raw.name}/exchange={of.venue}/symbol={of.symbol}/dt={day}"
    return f"{folder}/{number}.snappy.parquet"


class TestStore:
    def test_local_missing_and_only_local(self, tmp_path):
        """Of each day it says what the store has, what of that is local, and what only is."""
        store = FakeStore({key(day=day): b"abcd" for day in DAYS[:3]})
        store.objects_by_key[key(day=DAYS[0], number=2)] = b"ef"
        fetch_table(store, tmp_path, DELTAS, BTC, DAYS[0])
        fetch_table(store, tmp_path, DELTAS, BTC, DAYS[1])
        del store.objects_by_key[key(day=DAYS[1])]
        deltas, snapshots, _ = take_inventory(tmp_path, store, [BTC])

        assert {
            DAYS[0]: DayObjects(2, 6, 2, 6, 0, 0),
            DAYS[1]: DayObjects(0, 0, 0, 0, 1, 4),
            DAYS[2]: DayObjects(1, 4, 0, 0, 0, 0),
        } == deltas.days
        assert ([DAYS[0], DAYS[2]], [DAYS[0]], [DAYS[1]]) == (
            deltas.listed_days,
            deltas.local_days,
            deltas.only_local_days,
        )
        assert ([], DAYS[:3]) == (deltas.missing, snapshots.missing)
        assert (3, 10, 6) == (deltas.objects, deltas.bytes, deltas.local_bytes)

    def test_changed_object_is_not_local(self, tmp_path):
        """An object of the same size with another ETag is not the one that is local."""
        store = FakeStore({key(): b"abcd"})
        fetch_table(store, tmp_path, DELTAS, BTC, DAY)
        store.objects_by_key[key()] = b"wxyz"

        assert {DAY: DayObjects(1, 4, 0, 0, 1, 4)} == take_inventory(tmp_path, store, [BTC])[0].days

    def test_copied_by_hand(self, tmp_path):
        """A file that no fetch put there is local if it has the object's bytes, not only its size;
        the fetch downloads the other one.
        """
        store = FakeStore({key(day=day): b"abcd" for day in DAYS[:2]})
        for day, body in zip(DAYS, (b"abcd", b"wxyz"), strict=False):
            file = tmp_path / key(day=day)
            file.parent.mkdir(parents=True)
            file.write_bytes(body)

        assert {DAYS[0]: DayObjects(1, 4, 1, 4), DAYS[1]: DayObjects(1, 4, 0, 0, 1, 4)} == (
            take_inventory(tmp_path, store, [BTC])[0].days
        )
        for day in DAYS[:2]:
            fetch_table(store, tmp_path, DELTAS, BTC, day)
        assert [key(day=DAYS[1])] == store.downloads

    def test_order_and_range(self, tmp_path):
        """Tables come by instrument; days outside the range are neither had nor missing."""
        store = FakeStore({key(raw, day): b"a" for raw in RAW_TABLES for day in DAYS})
        found = take_inventory(tmp_path, store, [ETH, BTC], DAYS[1], DAYS[2], parallel=4)

        assert [
            (each.id, raw.name) for each in (ETH, BTC) for raw in (DELTAS, SNAPSHOTS, TRADES)
        ] == [(each.instrument, each.raw_table) for each in found]
        assert [[], DAYS[1:3]] == [list(found[0].days), list(found[0].missing)]
        assert [DAYS[1:3], []] == [list(found[3].days), list(found[3].missing)]

    def test_listing(self, tmp_path):
        """No day is missing on which it is not listed; one that is there all the same is named."""
        there = [(DELTAS, DAYS[0]), (DELTAS, DAYS[2]), (FUNDING, DAYS[0])]
        store = FakeStore({key(raw, day): b"a" for raw, day in there})
        late = BTC.model_copy(update={"listed": datetime.combine(DAYS[1], time(9), UTC)})
        deltas, snapshots, _, funding = take_inventory(tmp_path, store, [late], DAYS[0], DAYS[3])

        assert ([DAYS[1], DAYS[3]], [DAYS[0]]) == (deltas.missing, deltas.not_listed)
        assert ([*DAYS[1:]], []) == (snapshots.missing, snapshots.not_listed)
        assert ([], [DAYS[0]]) == (funding.missing, funding.not_listed)
        assert [DAYS[2]] == [each.day for each in to_fetch([deltas, snapshots], [late])]

    def test_optional_tables(self, tmp_path):
        """One that has days comes behind the others, and of none is anything missing."""
        store = FakeStore({key(DELTAS, day): b"a" for day in DAYS[:2]} | {key(FUNDING): b"b"})
        found = take_inventory(tmp_path, store, [ETH, BTC])

        assert [3, 4] == [sum(each.instrument == of.id for each in found) for of in (ETH, BTC)]
        assert ("funding", [DAY], []) == (
            found[-1].raw_table,
            list(found[-1].days),
            found[-1].missing,
        )

    def test_requests_at_scale(self, tmp_path):
        """A year of a table is a listing of its own, one request for each thousand objects."""
        store = YearInStore(date(2024, 1, 1), 365)
        instruments = [
            Instrument(venue="BINANCE", symbol=f"S{n}-USDT", source="crypto_lake")
            for n in range(20)
        ]
        found = take_inventory(tmp_path, store, instruments, parallel=2)

        assert 20 * 5 == store.requests
        assert {365} == {len(each.days) for each in found}

    def test_refused(self, tmp_path):
        """A store that cannot be listed is an error, not a lake without days."""
        store = FakeStore(failures={"": store_error("forbidden")})
        with pytest.raises(StoreError) as caught:
            take_inventory(tmp_path, store, [BTC])
        assert "forbidden" == caught.value.kind


class TestFolder:
    def test_all_of_it_is_local(self, tmp_path: Path):
        """In a lake that is a folder the newest version of each shard counts, and is local."""
        folder = tmp_path / Path(key()).parent
        folder.mkdir(parents=True)
        for name in ("1.snappy.parquet", "1.v2.snappy.parquet", "2.snappy.parquet", "2.v2.gone"):
            (folder / name).write_bytes(name.encode())
        (folder.parent / "dt=2024-08-10").mkdir()
        deltas, *others = take_inventory(tmp_path, None, [BTC])

        assert {DAY: DayObjects(1, 19, 1, 19)} == deltas.days
        assert [[DAY], [DAY]] == [list(each.missing) for each in others]

    def test_converter(self, tmp_path: Path):
        """Of another vendor's instrument it is what the converter made."""
        other = BTC.model_copy(update={"source": "tardis_csv"})
        file = tmp_path / "converted" / "tardis_csv" / key()
        file.parent.mkdir(parents=True)
        file.write_bytes(b"abc")
        found = take_inventory(
            tmp_path / "lake", FakeStore(), [other], converted=tmp_path / "converted"
        )

        assert {DAY: DayObjects(1, 3, 1, 3)} == found[0].days

    def test_nothing(self, tmp_path):
        """An empty lake has no day and misses none, unless days are asked for."""
        empty = take_inventory(tmp_path, None, [BTC])[0]

        assert ({}, []) == (empty.days, empty.missing)
        assert DAYS[:2] == take_inventory(tmp_path, None, [BTC], DAYS[0], DAYS[1])[0].missing

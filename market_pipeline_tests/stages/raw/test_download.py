from __future__ import annotations

import errno
import hashlib
import threading
from pathlib import Path

import pytest

from market_pipeline.errors import StoreError
from market_pipeline.sources.crypto_lake import DELTAS, day_folder, day_shards
from market_pipeline.stages.raw.download import fetch_table, table_prefix
from market_pipeline.stages.raw.fetched import FetchedObject, FetchProgress, FetchStopped
from market_pipeline.warehouse.ledger import Ledger
from market_pipeline_tests.stages.days import BTC, DAY
from market_pipeline_tests.stages.raw.fake_store import FakeStore, store_error

PREFIX = table_prefix(DELTAS, BTC, DAY)
URI = f"s3://bucket/lake/{PREFIX}"


@pytest.fixture
def store() -> FakeStore:
    """A day of two shards."""
    return store_of(b"one", b"two")


def store_of(*bodies: bytes) -> FakeStore:
    return FakeStore({key(number): body for number, body in enumerate(bodies, start=1)})


def key(number: int) -> str:
    return f"{PREFIX}{number}.snappy.parquet"


def fetch(store: FakeStore, lake: Path, **more: object) -> list[FetchedObject]:
    return fetch_table(store, lake, DELTAS, BTC, DAY, **more)


def actions(fetched: list[FetchedObject]) -> list[str]:
    return [each.action for each in fetched]


def folder_of(lake: Path) -> Path:
    return day_folder(lake, DELTAS, BTC.venue, BTC.symbol, DAY)


def shards(lake: Path) -> dict[str, bytes]:
    """The shards that are part of the day: name and bytes."""
    found = day_shards(lake, DELTAS, BTC.venue, BTC.symbol, DAY)
    return {path.name: path.read_bytes() for path in found}


def visible(lake: Path) -> list[str]:
    return sorted(path.name for path in folder_of(lake).glob("[!.]*"))


class TestFirst:
    def test_everything_is_told(self, store: FakeStore, lake: Path):
        """An object that is fetched is told with all that is known of it."""
        first, second = fetch(store, lake)

        assert (
            FetchedObject(
                name="1.snappy.parquet",
                uri=f"{URI}1.snappy.parquet",
                etag=hashlib.md5(b"one", usedforsecurity=False).hexdigest(),
                bytes=3,
                sha256=hashlib.sha256(b"one").hexdigest(),
                version=1,
                path=folder_of(lake) / "1.snappy.parquet",
                action="fetched",
                downloaded_bytes=3,
            )
            == first
        )
        assert ("2.snappy.parquet", "fetched") == (second.name, second.action)
        assert (None, first.sha256) == (first.remark, first.verified_sha256)
        assert {"1.snappy.parquet": b"one", "2.snappy.parquet": b"two"} == shards(lake)

    def test_numeric_order(self, lake: Path):
        """Twelve objects come in the order of their numbers, not of their names."""
        found = fetch(store_of(*(bytes([n]) for n in range(12))), lake)

        assert list(range(1, 13)) == [int(each.name.partition(".")[0]) for each in found]

    def test_nothing_there(self, lake: Path):
        """A day that the store does not have leaves no trace."""
        assert [] == fetch(FakeStore(), lake)
        assert not lake.exists()

    @pytest.mark.parametrize(
        "name", ["../1.snappy.parquet", "x.parquet", "1.parquet", "a/1.snappy.parquet", "1.v2.gone"]
    )
    def test_other_names(self, lake: Path, name: str):
        """Objects with other names are no part of the day, whatever they are called."""
        assert [] == fetch(FakeStore({PREFIX + name: b"x"}), lake)
        assert not lake.exists()

    def test_copied_by_hand(self, store: FakeStore, lake: Path):
        """A file that lies there is not fetched if its MD5 is the ETag."""
        folder_of(lake).mkdir(parents=True)
        (folder_of(lake) / "1.snappy.parquet").write_bytes(b"one")
        found = fetch(store, lake)

        assert (["unchanged", "fetched"], [key(2)]) == (actions(found), store.downloads)

    def test_by_hand_and_of_several_uploads(self, store: FakeStore, lake: Path):
        """A file that an ETag says nothing about is fetched once, and stays if it is the same."""
        folder_of(lake).mkdir(parents=True)
        (folder_of(lake) / "1.snappy.parquet").write_bytes(b"one")
        store.etags[key(1)] = "0123456789abcdef0123456789abcdef-2"
        first, again = fetch(store, lake), fetch(store, lake)

        assert (["unchanged", "fetched"], 3) == (actions(first), first[0].downloaded_bytes)
        assert (["unchanged"] * 2, 0) == (actions(again), again[0].downloaded_bytes)
        assert ["1.snappy.parquet", "2.snappy.parquet"] == visible(lake)


class TestAgain:
    def test_unchanged(self, store: FakeStore, lake: Path):
        """A second time nothing is downloaded."""
        first, again = fetch(store, lake), fetch(store, lake)

        assert [key(1), key(2)] == store.downloads
        assert ["unchanged"] * 2 == actions(again)
        assert [each.sha256 for each in first] == [each.verified_sha256 for each in again]
        assert [None, None] == [each.remark for each in again]

    def test_changed(self, store: FakeStore, lake: Path):
        """Other bytes are a further version beside the first, and the remark says so from then."""
        fetch(store, lake)
        store.objects_by_key[key(1)] = b"ONE"
        changed, again = fetch(store, lake), fetch(store, lake)

        assert (["changed", "unchanged"], ["unchanged"] * 2) == (actions(changed), actions(again))
        assert {"1.v2.snappy.parquet": b"ONE", "2.snappy.parquet": b"two"} == shards(lake)
        assert b"one" == (folder_of(lake) / "1.snappy.parquet").read_bytes()
        assert [(2, 1)] * 2 == [tuple(each.version for each in n) for n in (changed, again)]
        assert (
            f"The object {URI}1.snappy.parquet: its bytes changed since it was first fetched, "
            "this is version 2" == again[0].remark
        )

    def test_changed_back(self, store: FakeStore, lake: Path):
        """Each change is a version, also one back to earlier bytes."""
        for body in (b"one", b"ONE", b"one"):
            store.objects_by_key[key(1)] = body
            found = fetch(store, lake)

        assert (3, "changed") == (found[0].version, found[0].action)
        assert b"one" == shards(lake)["1.v3.snappy.parquet"]

    def test_another_etag_for_the_same_bytes(self, store: FakeStore, lake: Path):
        """What was only stored again is the same version, and fetched once more to know that."""
        fetch(store, lake)
        store.etags[key(1)] = "f" * 32 + "-2"
        found, again = fetch(store, lake), fetch(store, lake)

        assert (["unchanged"] * 2, ["unchanged"] * 2) == (actions(found), actions(again))
        assert 3 == len(store.downloads)
        assert (1, "f" * 32 + "-2") == (again[0].version, again[0].etag)

    def test_the_local_file_was_removed(self, store: FakeStore, lake: Path):
        """It is fetched again under its name."""
        fetch(store, lake)
        (folder_of(lake) / "1.snappy.parquet").unlink()
        found = fetch(store, lake)

        assert (["fetched", "unchanged"], 1) == (actions(found), found[0].version)
        assert ["1.snappy.parquet", "2.snappy.parquet"] == visible(lake)

    @pytest.mark.parametrize("body", [b"onE", b"longer"])
    def test_the_local_file_is_damaged(self, store: FakeStore, lake: Path, body: bytes):
        """It is made whole again, and is no new version."""
        fetch(store, lake)
        (folder_of(lake) / "1.snappy.parquet").write_bytes(body)
        found = fetch(store, lake)

        assert (["fetched", "unchanged"], 1) == (actions(found), found[0].version)
        assert b"one" == shards(lake)["1.snappy.parquet"]

    def test_the_ledger_is_lost(self, store: FakeStore, lake: Path):
        """Nothing is fetched again for that."""
        fetch(store, lake)
        (folder_of(lake) / ".objects.json").write_text("{")

        assert ["unchanged"] * 2 == actions(fetch(store, lake))
        assert 2 == len(store.downloads)

    def test_a_further_shard(self, store: FakeStore, lake: Path):
        """A shard that came later joins the others."""
        fetch(store, lake)
        store.objects_by_key[key(3)] = b"three"

        assert ["unchanged", "unchanged", "fetched"] == actions(fetch(store, lake))


class TestGone:
    def test_the_local_copy_stays(self, store: FakeStore, lake: Path):
        """An object that the store has no more is part of the day as long as nothing else came."""
        fetch(store, lake)
        del store.objects_by_key[key(2)]
        found = fetch(store, lake)

        assert ["unchanged", "gone"] == actions(found)
        assert "it is gone from the store, and the local copy is used" in str(found[1].remark)
        assert 2 == len(shards(lake))

    def test_the_whole_day(self, store: FakeStore, lake: Path):
        """So it is if the whole day is gone."""
        fetch(store, lake)
        store.objects_by_key.clear()

        assert ["gone", "gone"] == actions(fetch(store, lake))

    def test_cut_anew(self, store: FakeStore, lake: Path):
        """If others changed, the vendor cut the day anew: the old shard is no part of it."""
        fetch(store, lake)
        del store.objects_by_key[key(2)]
        store.objects_by_key[key(1)] = b"one and two"
        found, again = fetch(store, lake), fetch(store, lake)

        assert ["changed", "replaced"] == actions(found)
        assert ["unchanged", "replaced"] == actions(again)
        assert {"1.v2.snappy.parquet": b"one and two"} == shards(lake)
        assert (None, hashlib.sha256(b"two").hexdigest()) == (again[1].path, again[1].sha256)
        assert "others took its place, and is not used" in str(again[1].remark)

    def test_back_again(self, store: FakeStore, lake: Path):
        """If it comes back after that, it is a further version and part of the day again."""
        fetch(store, lake)
        two = store.objects_by_key.pop(key(2))
        store.objects_by_key[key(1)] = b"one and two"
        fetch(store, lake)
        store.objects_by_key[key(2)] = two
        found = fetch(store, lake)

        assert (["unchanged", "changed"], 3) == (actions(found), found[1].version)
        assert {"1.v2.snappy.parquet", "2.v3.snappy.parquet"} == set(shards(lake))

    def test_a_damaged_file_is_no_new_day(self, store: FakeStore, lake: Path):
        """Making a local file whole again does not put the others out."""
        fetch(store, lake)
        del store.objects_by_key[key(2)]
        (folder_of(lake) / "1.snappy.parquet").write_bytes(b"onE")

        assert ["fetched", "gone"] == actions(fetch(store, lake))


class TestFailures:
    @pytest.mark.parametrize("kind", ["forbidden", "missing", "unavailable", "cut", "mismatch"])
    def test_the_others_come(self, store: FakeStore, lake: Path, kind: str):
        """One that cannot be fetched is told; the others wait, and are not fetched again."""
        store.failures[key(1)] = store_error(kind)
        found = fetch(store, lake)
        before = visible(lake)
        store.failures.clear()
        again = fetch(store, lake)

        assert (["failed", "waiting"], []) == (actions(found), before)
        assert [(None, 3), (None, 3)] == [(each.path, each.bytes) for each in found]
        assert kind == found[0].failure.kind
        assert f"{URI}1.snappy.parquet: it could not be fetched: it did not" in found[0].remark
        assert found[1].remark.endswith("2.snappy.parquet: it has come, but not all of its day")
        assert (["fetched", "fetched"], [key(2), key(1)]) == (actions(again), store.downloads)

    def test_two_deliveries_are_not_mixed(self, store: FakeStore, lake: Path):
        """If one of two changed objects cannot be fetched, the day stays the earlier one."""
        fetch(store, lake)
        store.objects_by_key |= {key(1): b"ONE", key(2): b"TWO"}
        store.failures[key(2)] = store_error("unavailable")
        found = fetch(store, lake)
        stayed = shards(lake)
        store.failures.clear()
        again = fetch(store, lake)

        assert ["waiting", "failed"] == actions(found)
        assert {"1.snappy.parquet": b"one", "2.snappy.parquet": b"two"} == stayed
        assert [each.endswith(", and the local copy is used") for each in (found[0].remark,)]
        assert ["changed", "changed"] == actions(again)
        assert {"1.v2.snappy.parquet": b"ONE", "2.v2.snappy.parquet": b"TWO"} == shards(lake)

    def test_what_waits_is_out_of_date(self, store: FakeStore, lake: Path):
        """What came and changed before the rest came is fetched anew."""
        store.failures[key(2)] = store_error("cut")
        fetch(store, lake)
        store.objects_by_key[key(1)] = b"ONE"
        store.failures.clear()

        assert ["fetched", "fetched"] == actions(fetch(store, lake))
        assert {"1.snappy.parquet": b"ONE", "2.snappy.parquet": b"two"} == shards(lake)

    def test_a_full_disk(self, store: FakeStore, lake: Path):
        """A full disk is an error of the step, for no other object would fit either."""
        store.failures[key(1)] = OSError(errno.ENOSPC, "full")
        with pytest.raises(OSError, match="full"):
            fetch(store, lake)

        assert [] == visible(lake)

    def test_not_listed(self, store: FakeStore, lake: Path):
        """If the store cannot be asked, what is local stands."""
        fetch(store, lake)
        store.failures[""] = store_error("unavailable")
        found = fetch(store, lake)

        assert ["unasked"] * 2 == actions(found)
        assert "it could not be asked for, and the local copy is used: it di" in found[0].remark
        assert hashlib.sha256(b"one").hexdigest() == found[0].verified_sha256

    def test_not_listed_and_damaged(self, store: FakeStore, lake: Path):
        """That the local file is damaged is reported where it cannot be replaced."""
        fetch(store, lake)
        (folder_of(lake) / "1.snappy.parquet").write_bytes(b"onE")
        store.failures[""] = store_error("unavailable")
        found = fetch(store, lake)

        assert [True, False] == [each.is_damaged for each in found]
        assert str(found[0].remark).endswith("no longer the bytes that were fetched")
        assert found[0].verified_sha256 is None

    def test_not_listed_and_nothing_local(self, store: FakeStore, lake: Path):
        """If nothing is local either, that is an error, and leaves no trace."""
        store.failures[""] = store_error("forbidden")
        with pytest.raises(StoreError):
            fetch(store, lake)

        assert not lake.exists()

    def test_not_listed_after_a_part_of_a_day(self, store: FakeStore, lake: Path):
        """A part of a day that was fetched before does not pass for the day."""
        store.failures[key(2)] = store_error("cut")
        fetch(store, lake)
        store.failures[""] = store_error("unavailable")

        with pytest.raises(StoreError):
            fetch(store, lake)
        assert {} == shards(lake)

    def test_a_lake_that_cannot_be_written(self, store: FakeStore, lake: Path):
        """A folder where a file is in the way is an error that names the folder."""
        folder_of(lake).parent.mkdir(parents=True)
        folder_of(lake).touch()
        with pytest.raises(OSError, match=str(folder_of(lake))):
            fetch(store, lake)


class TestKilled:
    @pytest.mark.parametrize("after", [1, 2])
    def test_nothing_twice(self, store: FakeStore, lake: Path, monkeypatch, after: int):
        """A fetch that is killed after an object has come begins with the next one."""
        real, left = Ledger.has_come, after

        def dying(ledger: Ledger, *arguments: object) -> None:
            nonlocal left
            real(ledger, *arguments)
            left -= 1
            if not left:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Ledger, "has_come", dying)
            fetch(store, lake)
        assert {} == shards(lake)
        found = fetch(store, lake)

        assert ["fetched", "fetched"] == actions(found)
        assert [key(1), key(2)] == store.downloads
        assert {"1.snappy.parquet": b"one", "2.snappy.parquet": b"two"} == shards(lake)

    def test_two_at_once(self, store: FakeStore, lake: Path):
        """Of two fetches of the same day one waits for the other, and finds all there."""
        found: list[list[FetchedObject]] = []
        threads = [
            threading.Thread(target=lambda: found.append(fetch(store, lake))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [["fetched"] * 2, ["unchanged"] * 2] == sorted(map(actions, found))
        assert [key(1), key(2)] == store.downloads


class TestProgress:
    def test_told(self, store: FakeStore, lake: Path):
        """Objects and bytes are counted as they are expected and come."""
        fetch(store, lake)
        store.objects_by_key |= {key(1): b"ONE more", key(3): b"three"}
        progress = FetchProgress()
        fetch(store, lake, progress=progress)

        assert "2 of 2 objects, 0.0 of 0.0 MB" == str(progress)
        assert (13, 13) == (progress.expected_bytes, progress.arrived_bytes)
        assert {"changed": 1, "unchanged": 1, "fetched": 1} == progress.actions

    def test_one_that_fails(self, store: FakeStore, lake: Path):
        """What will not come any more is not expected any more."""
        store.failures[key(1)] = store_error("cut")
        progress = FetchProgress()
        fetch(store, lake, progress=progress)

        assert (2, 2, 3, 3) == (
            *(progress.expected, progress.done),
            *(progress.expected_bytes, progress.arrived_bytes),
        )

    def test_stopped(self, store: FakeStore, lake: Path):
        """A fetch that is told to stop ends at its next bytes, and nothing is put in place."""
        progress = FetchProgress()
        progress.stop()
        with pytest.raises(FetchStopped):
            fetch(store, lake, progress=progress)

        assert {} == shards(lake)

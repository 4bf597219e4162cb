from __future__ import annotations

import hashlib
import json
import os
import time
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.config.settings import Settings
from market_pipeline.sources.crypto_lake import DELTAS, day_folder
from market_pipeline.stages.raw.download import fetch_table
from market_pipeline.stages.raw.register import register_day
from market_pipeline.stages.retention.candidates import Candidates, find_candidates
from market_pipeline.stages.retention.prune import Candidate, Planned, Retention, carry_out, plan
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.read import current_files
from market_pipeline.warehouse.staging import StagedWriter, staging_in_use
from market_pipeline.warehouse.working import read_rows, replace_rows, replace_rows_within
from market_pipeline.warehouse.working_file import writing
from market_pipeline_tests.stages.raw.fake_store import FakeStore, store_error
from market_pipeline_tests.stages.raw.test_inventory import BTC, ETH, key

TODAY = date(2024, 9, 1)
OLD, YOUNG = date(2024, 8, 8), date(2024, 8, 30)
BBO, REPORT, MANIFEST = (
    TABLES[name] for name in ("book_bbo", "validation_report", "raw_book_deltas")
)
KEEP_10 = Retention(TODAY, keep_raw_days=10, keep_derived_days=10)


# --- the plan ---------------------------------------------------------------------------------

AGED = ("raw", "derived", "quarantine")
DAYS_KEPT = st.none() | st.integers(1, 40)
HELD = st.builds(
    Candidate,
    kind=st.sampled_from([*AGED, "staging", "replaced"]),
    name=st.just("x"),
    instrument=st.just("BINANCE:BTC-USDT"),
    day=st.dates(TODAY - timedelta(days=50), TODAY),
    files=st.just(1),
    bytes=st.integers(0, 10),
    last_copy=st.none() | st.just("nothing has it"),
    stays=st.none() | st.just("unknown"),
)


class TestPlan:
    @given(st.lists(HELD), DAYS_KEPT, DAYS_KEPT, st.booleans())
    def test_rules(self, held, keep_raw, keep_derived, also_last_copies):
        """Only what is older goes, no last copy unasked, and never what nothing is known of."""
        planned = plan(held, Retention(TODAY, keep_raw, keep_derived, also_last_copies))
        for each in planned:
            if each.candidate.kind in AGED:
                keep = keep_derived if each.candidate.kind == "derived" else keep_raw
                ended = each.candidate.day + timedelta(days=1)
                assert keep is not None
                assert TODAY - ended >= timedelta(days=keep)
        going = [each.candidate for each in planned if each.goes]
        assert all(each.stays is None for each in going)
        assert also_last_copies or all(each.last_copy is None for each in going)
        assert all(each.why for each in planned)

    @given(st.lists(HELD), DAYS_KEPT, DAYS_KEPT)
    def test_nothing_due_is_forgotten(self, held, keep_raw, keep_derived):
        """What is older, can be had again and is known of does go."""
        going = [
            each.candidate
            for each in plan(held, Retention(TODAY, keep_raw, keep_derived))
            if each.goes
        ]
        limits = {"raw": keep_raw, "quarantine": keep_raw, "derived": keep_derived}
        wanted = [
            each
            for each in held
            if each.stays is None
            and each.last_copy is None
            and (
                each.kind not in AGED
                or (limits[each.kind] is not None and (TODAY - each.day).days > limits[each.kind])
            )
        ]
        assert wanted == going

    @given(st.lists(HELD), DAYS_KEPT, DAYS_KEPT, DAYS_KEPT)
    def test_raw_and_derived_are_independent(self, held, keep_raw, keep_derived, other):
        """What one setting is changes nothing for the other kind."""
        by_both = plan(held, Retention(TODAY, keep_raw, keep_derived))
        for kind, retention in (
            ("raw", Retention(TODAY, keep_raw, other)),
            ("derived", Retention(TODAY, other, keep_derived)),
        ):
            alone = plan(held, retention)
            assert [each for each in by_both if each.candidate.kind == kind] == [
                each for each in alone if each.candidate.kind == kind
            ]

    @given(st.lists(HELD), DAYS_KEPT, DAYS_KEPT)
    def test_asking_for_last_copies_only_adds(self, held, keep_raw, keep_derived):
        """With last copies, all goes that goes without, and last copies besides."""
        fewer = plan(held, Retention(TODAY, keep_raw, keep_derived))
        more = plan(held, Retention(TODAY, keep_raw, keep_derived, also_last_copies=True))
        added = [
            one.candidate for one, other in zip(more, fewer, strict=True) if one.goes > other.goes
        ]

        assert [each.candidate for each in fewer] == [each.candidate for each in more]
        assert all(one.goes >= other.goes for one, other in zip(more, fewer, strict=True))
        assert all(each.last_copy for each in added)


# --- what there is, and doing it ---------------------------------------------------------------


class Fetched:
    """A store, what was fetched of it, and what is published of that."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder / "data", lake_uri="s3://bucket/lake")
        self.warehouse = Warehouse(self.settings.data_dir)
        self.warehouse.prepare()
        self.lake = self.settings.lake_path
        self.store = FakeStore()

    def day(self, day: date, of=BTC, body: bytes = b"abcd") -> Path:
        """A day at the store that was fetched and published; its raw file."""
        file = self.raw_day(day, of, body)
        self.publish(day, of)
        return file

    def raw_day(self, day: date, of=BTC, body: bytes = b"abcd") -> Path:
        """A day at the store that was fetched and not run; its raw file."""
        self.store.objects_by_key[key(day=day, of=of)] = body
        self.fetch(day, of)
        return self.lake / key(day=day, of=of)

    def fetch(self, day: date, of=BTC):
        return fetch_table(self.store, self.lake, DELTAS, of, day)

    def publish(self, day: date, of=BTC) -> None:
        rows = register_day(
            self.lake,
            DELTAS,
            of,
            day,
            fetch_table(self.store, self.lake, DELTAS, of, day),
        )
        identity = {"exchange": of.venue, "symbol": of.symbol, "dt": day}
        with writing(self.warehouse) as connection:
            for table, records in ((MANIFEST, rows), (REPORT, [identity])):
                replace_rows_within(connection, table, day, [of.id], table.frame(records))
        with StagedWriter(self.warehouse, BBO, of.id) as writer:
            writer.write(BBO.frame([identity]).to_arrow())
        publish(self.warehouse, BBO, day, [writer.staged])

    def plan(self, retention: Retention = KEEP_10) -> list[Planned]:
        return plan(self.found(retention).candidates, retention)

    def found(self, retention: Retention = KEEP_10) -> Candidates:
        return find_candidates(self.settings, retention, self.store)

    def prune(self, retention: Retention = KEEP_10):
        return carry_out(self.plan(retention), self.warehouse)

    def published(self) -> list[tuple[str, date, str]]:
        """What readers see, by table, day and instrument."""
        found = [
            (table.sql_name, row["dt"], f"{row['exchange']}:{row['symbol']}")
            for table in (MANIFEST, REPORT)
            for row in read_rows(self.warehouse, table).iter_rows(named=True)
        ]
        for day in (OLD, YOUNG):
            for of in (BTC, ETH):
                if current_files(self.warehouse, BBO, day, [of.id]):
                    found.append((BBO.sql_name, day, of.id))
        return sorted(found)


@pytest.fixture(autouse=True)
def catalogue(monkeypatch) -> list[Warehouse]:
    """Whose catalogue was refreshed; building one takes long, and none of these tests reads it."""
    refreshed: list[Warehouse] = []
    monkeypatch.setattr(
        "market_pipeline.stages.retention.prune.refresh_catalogue", refreshed.append
    )
    return refreshed


@pytest.fixture
def fetched(folder) -> Fetched:
    return Fetched(folder)


def decided(planned: list[Planned]) -> list[tuple[str, date, bool]]:
    return [(each.candidate.kind, each.candidate.day, each.goes) for each in planned]


class TestStore:
    def test_old_days_go(self, fetched, catalogue):
        """Raw files and published rows of old days go, and the catalogue is told; young stay."""
        old, young = fetched.day(OLD), fetched.day(YOUNG)
        planned = fetched.plan()
        failed = fetched.prune()

        assert [("derived", OLD, True), ("raw", OLD, True)] == decided(planned)
        assert ([], False, True) == (failed, old.exists(), young.exists())
        assert [fetched.warehouse] == catalogue
        assert {YOUNG} == {day for _, day, _ in fetched.published()}
        assert [] == fetched.plan()

    def test_plan_touches_nothing(self, fetched):
        """Looking removes nothing."""
        old = fetched.day(OLD)
        before = fetched.published()
        fetched.plan()
        assert (True, before) == (old.exists(), fetched.published())

    def test_fetched_again(self, fetched):
        """A pruned day is fetched again as what it was; a correction since is a new version."""
        fetched.raw_day(OLD)
        fetched.raw_day(OLD, ETH)
        fetched.prune()
        (same,) = fetched.fetch(OLD)
        fetched.store.objects_by_key[key(day=OLD, of=ETH)] = b"corrected"
        (corrected,) = fetched.fetch(OLD, ETH)

        assert ("fetched", 1) == (same.action, same.version)
        assert ("changed", 2) == (corrected.action, corrected.version)

    @pytest.mark.parametrize(
        "change",
        [
            lambda store: store.objects_by_key.clear(),
            lambda store: store.objects_by_key.update({key(day=OLD): b"wxyz"}),
        ],
        ids=["gone from the store", "changed at the store"],
    )
    def test_last_copies_stay(self, fetched, change):
        """What the store has not, or has with other bytes, stays; and the day made from it goes."""
        old = fetched.day(OLD)
        change(fetched.store)
        planned = fetched.plan()
        fetched.prune()

        # The published day can be made again from the local file.
        assert [("derived", OLD, True), ("raw", OLD, False)] == decided(planned)
        assert b"abcd" == old.read_bytes()
        old.unlink()

    def test_published_day_is_the_last_copy(self, fetched):
        """With its raw file gone from lake and store, a published day stays unless asked for."""
        fetched.day(OLD).unlink()
        fetched.store.objects_by_key.clear()
        (stays,) = fetched.plan()
        (goes,) = fetched.plan(Retention(TODAY, 10, 10, also_last_copies=True))

        assert (False, True) == (stays.goes, goes.goes)
        assert "neither in the lake nor at the store" in stays.why

    def test_published_day_without_a_record(self, fetched):
        """A published day of which nothing says what it was made from is a last copy."""
        fetched.day(OLD)
        replace_rows(fetched.warehouse, MANIFEST, OLD, None, MANIFEST.empty())
        assert ("derived", OLD, False) in decided(fetched.plan())

    def test_earlier_version_is_a_last_copy(self, fetched):
        """The bytes that a correction replaced are nowhere else, so their day stays whole."""
        old = fetched.raw_day(OLD)
        fetched.store.objects_by_key[key(day=OLD)] = b"corrected"
        fetched.fetch(OLD)
        (raw,) = [each for each in fetched.plan() if each.candidate.kind == "raw"]
        asked = Retention(TODAY, 10, None, also_last_copies=True)
        fetched.prune(asked)

        assert (False, 2) == (raw.goes, raw.candidate.files)
        assert "earlier version" in raw.why
        assert [".objects.json"] == [path.name for path in old.parent.iterdir()]

    def test_store_out_of_reach(self, fetched):
        """While the store cannot be asked nothing goes, not even last copies asked for."""
        fetched.day(OLD).unlink()
        fetched.day(OLD, ETH)
        fetched.store.failures[""] = store_error("unavailable")
        retention = Retention(TODAY, 10, 10, also_last_copies=True)
        found = fetched.found(retention)
        # That of ETH can be made again from the local file.
        assert {("raw", False), ("derived", False), ("derived", True)} == {
            (each.candidate.kind, each.goes) for each in plan(found.candidates, retention)
        }
        assert 1 == len(found.failures)

    def test_no_credentials(self, fetched):
        """A store that cannot even be opened is one that cannot be asked."""
        fetched.raw_day(OLD)
        fetched.store = store_error("forbidden")
        found = fetched.found()
        assert [("raw", OLD, False)] == decided(plan(found.candidates, KEEP_10))
        assert 1 == len(found.failures)

    @pytest.mark.parametrize("name", ["notes.txt", "1.gone", "1.v0.snappy.parquet", "2.v1.gone"])
    def test_something_of_the_users_own(self, fetched, name):
        """A folder that holds what no fetch put there stays, whatever is asked."""
        old = fetched.raw_day(OLD)
        (old.parent / name).write_text("mine")
        retention = Retention(TODAY, 10, None, also_last_copies=True)
        (planned,) = fetched.plan(retention)
        fetched.prune(retention)

        assert (False, True) == (planned.goes, old.exists())

    def test_link_to_a_folder_of_the_users_own(self, fetched, folder):
        """A link below the lake is not followed."""
        mine = folder / "mine"
        old = fetched.raw_day(OLD)
        old.parent.parent.rename(mine)
        (fetched.lake / DELTAS.name / "exchange=BINANCE" / "symbol=BTC-USDT").symlink_to(mine)
        assert [] == [each for each in fetched.plan() if each.candidate.kind == "raw"]

    def test_file_put_there_by_hand(self, fetched):
        """A file that no ledger knows goes only if its MD5 is the store's ETag."""
        for of, body in ((BTC, b"abcd"), (ETH, b"wxyz")):
            fetched.store.objects_by_key[key(day=OLD, of=of)] = b"abcd"
            file = fetched.lake / key(day=OLD, of=of)
            file.parent.mkdir(parents=True)
            file.write_bytes(body)
        assert {BTC.id: True, ETH.id: False} == {
            each.candidate.instrument: each.goes for each in fetched.plan()
        }

    def test_changed_after_the_look(self, fetched):
        """A file that changed since it was looked at stays, and that is told."""
        old = fetched.raw_day(OLD)
        planned = fetched.plan(Retention(TODAY, 10, None))
        old.write_bytes(b"something longer")
        ((_, reason),) = carry_out(planned, fetched.warehouse)
        assert (True, True) == (old.exists(), "changed meanwhile" in reason)

    @pytest.mark.slow
    @pytest.mark.parametrize("step", ["withdraw", "_remove_files"])
    def test_killed(self, fetched, monkeypatch, step):
        """Wherever it is killed, the next call ends it."""
        old = fetched.day(OLD)
        with monkeypatch.context() as patch:
            patch.setattr(f"market_pipeline.stages.retention.prune.{step}", _killed)
            with pytest.raises(KeyboardInterrupt):
                fetched.prune()
        fetched.prune()

        assert ([], False, []) == (fetched.published(), old.exists(), fetched.plan())


def _killed(*_, **__):
    raise KeyboardInterrupt


class TestFolderLake:
    def test_never_touched(self, folder):
        """A lake that is a folder stays as it is; what was published of it may go."""
        fetched = Fetched(folder)
        old = fetched.day(OLD)
        fetched.settings = Settings(data_dir=folder / "data", lake_uri=str(fetched.lake))
        fetched.store = None
        retention = Retention(TODAY, 1, 1, also_last_copies=True)
        planned = fetched.plan(retention)
        carry_out(planned, fetched.warehouse)

        assert [("derived", OLD, True)] == decided(planned)
        assert (b"abcd", []) == (old.read_bytes(), fetched.published())

    def test_published_day_without_raw_file(self, folder):
        """A published day whose raw file the user took away is a last copy."""
        fetched = Fetched(folder)
        fetched.day(OLD).unlink()
        fetched.settings = Settings(data_dir=folder / "data", lake_uri=str(fetched.lake))
        fetched.store = None
        assert [("derived", OLD, False)] == decided(fetched.plan())


class TestConverters:
    def converter_day(self, fetched: Fetched) -> tuple[Path, Path]:
        """A day that a converter made, published: the vendor's file and the shard made of it."""
        converters = fetched.settings.data_dir / "converted" / "tardis_csv"
        vendor, shard = fetched.lake / "tardis_csv" / "a.csv.gz", converters / key(day=OLD)
        for file in (vendor, shard):
            file.parent.mkdir(parents=True)
            file.write_bytes(b"abcd")
        record = converters / "made" / "exchange=BINANCE" / "symbol=BTC-USDT" / f"dt={OLD}.json"
        record.parent.mkdir(parents=True)
        files = [{"path": "tardis_csv/a.csv.gz", "bytes": 4, "sha256": "5" * 64}]
        record.write_text(json.dumps({"format": 1, "files": files, "made": [[key(day=OLD), 4]]}))
        row = {
            **{"exchange": BTC.venue, "symbol": BTC.symbol, "dt": OLD, "status": "usable"},
            **{"path": f"../converted/tardis_csv/{key(day=OLD)}", "bytes": 4},
            "made_from": [f"{'5' * 64}  tardis_csv/a.csv.gz"],
        }
        replace_rows(fetched.warehouse, MANIFEST, OLD, None, MANIFEST.frame([row]))
        return vendor, shard

    def test_made_again_from_the_vendors_file(self, fetched):
        """What a converter made goes while its vendor's files are there, which are not touched."""
        vendor, shard = self.converter_day(fetched)
        only_raw = Retention(TODAY, keep_raw_days=10)
        fetched.prune(only_raw)

        assert (True, False, []) == (vendor.exists(), shard.exists(), fetched.plan(only_raw))
        # What is published of it can still be made.
        assert [("derived", OLD, True)] == decided(fetched.plan())

    def test_vendors_file_is_gone(self, fetched):
        """Without them, what the converter made is a last copy; without both, what is published."""
        vendor, shard = self.converter_day(fetched)
        vendor.unlink()
        assert [("derived", OLD, True), ("raw", OLD, False)] == decided(fetched.plan())
        shard.unlink()
        assert [("derived", OLD, False)] == decided(fetched.plan())


class TestLeftBehind:
    def test_staging(self, fetched):
        """What killed runs left goes after a day while a run is alive, whatever the settings."""
        for name, age_hours in (("a.partial", 30), ("b.partial", 1), ("c.txt", 30)):
            path = fetched.warehouse.staging_dir / name
            path.write_bytes(b"abc")
            then = time.time() - age_hours * 3600
            os.utime(path, (then, then))
        forever = Retention(TODAY)
        with staging_in_use(fetched.warehouse):
            assert [("staging", "a.partial", 3)] == [
                (each.candidate.kind, each.candidate.name, each.candidate.bytes)
                for each in fetched.plan(forever)
            ]
            fetched.prune(forever)
        assert {"b.partial", "c.txt"} == {
            path.name for path in fetched.warehouse.staging_dir.iterdir()
        }

    def test_staging_while_no_run_is_alive(self, fetched):
        """Then it goes at once, however young, and is counted; what is not ours stays."""
        for name in ("a.partial", "b.resume", f"{'0' * 64}-1.parquet", "c.txt"):
            (fetched.warehouse.staging_dir / name).write_bytes(b"abc")
        forever = Retention(TODAY)
        assert (3, 9) == (
            len(fetched.plan(forever)),
            sum(each.candidate.bytes for each in fetched.plan(forever)),
        )
        fetched.prune(forever)
        assert ["c.txt"] == [path.name for path in fetched.warehouse.staging_dir.iterdir()]

    def test_replaced_files(self, fetched):
        """A file that nothing published within a week names goes; those of a pruned day wait."""
        fetched.day(YOUNG)
        (published,) = current_files(fetched.warehouse, BBO)
        orphan = published.with_name(f"00000-{'0' * 64}.parquet")
        orphan.write_bytes(b"abc")
        then = time.time() - 8 * 86_400
        os.utime(orphan, (then, then))
        fetched.day(OLD)
        (pruned,) = current_files(fetched.warehouse, BBO, OLD)
        (replaced,) = [each for each in fetched.plan() if each.candidate.kind == "replaced"]
        fetched.prune()

        assert (BBO.sql_name, 3) == (replaced.candidate.name, replaced.candidate.bytes)
        assert (False, True, True) == (orphan.exists(), published.exists(), pruned.exists())

    def test_quarantine(self, fetched):
        """A copy goes if the same bytes are in the lake or at the store, with its reason."""
        copies = []
        for of, body in ((BTC, b"abcd"), (ETH, b"wxyz")):
            fetched.raw_day(OLD, of)
            copies.append(_quarantined(fetched, of, body))
        (fetched.lake / key(day=OLD)).unlink()
        assert {BTC.id: True, ETH.id: False} == {
            each.candidate.instrument: each.goes
            for each in fetched.plan()
            if each.candidate.kind == "quarantine"
        }
        fetched.prune()
        assert [False, True] == [copy.exists() for copy in copies]
        assert not copies[0].parent.exists()


def _quarantined(fetched: Fetched, of, body: bytes) -> Path:
    """A copy in quarantine with its reason, as `stages.quarantine` leaves it."""
    sha256 = hashlib.sha256(body).hexdigest()
    below = day_folder(Path(), DELTAS, of.venue, of.symbol, OLD) / "1.snappy.parquet"
    copy = fetched.warehouse.quarantine_dir / below.parent / f"{sha256[:16]}-{below.name}"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(body)
    told = {"file": below.as_posix(), "sha256": sha256, "bytes": len(body)}
    copy.with_name(f"{copy.name}.reason.json").write_text(json.dumps(told))
    return copy

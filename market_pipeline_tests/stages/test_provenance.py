from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from market_pipeline.books.tables import REBUILDS
from market_pipeline.config.information_bars import InformationBars
from market_pipeline.config.instruments import GapRule, Instrument, Policies
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.config.thresholds import Thresholds
from market_pipeline.metrics.contract_states import CONTRACT_STATES
from market_pipeline.quality.profile import PROFILES
from market_pipeline.quality.row import VALIDATION_REPORT, ReportRow
from market_pipeline.stages.fidelity.day import COMPARED
from market_pipeline.stages.provenance import (
    BARRED,
    BOOKS,
    EVENTED,
    INFORMED,
    METRICS,
    PROFILED,
    TRADED,
    VALIDATED,
    bars_made_of,
    books_made_of,
    information_bars_made_of,
    made_of_each,
    metrics_made_of,
    profiles_made_of,
)
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.stages.recorded_day import RecordedDay, with_unchanged
from market_pipeline.stages.validation import lookups
from market_pipeline.stages.validation.lookups import Lookups, report_made_of
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import (
    LINEAGE,
    NOT_FETCHED,
    MadeOf,
    files_sha256,
    lineage_row,
    rows_sha256,
)
from market_pipeline.warehouse.manifest import RAW_BOOK_DELTAS, RAW_TRADES
from market_pipeline.warehouse.staging import StagedFile
from market_pipeline.warehouse.working import replace_rows

DAY = date(2024, 8, 8)
BTC = Instrument(venue="BINANCE", symbol="BTC-USDT", source="crypto_lake", tick="0.1", lot="0.001")
ETH = BTC.model_copy(update={"symbol": "ETH-USDT"})
IDENTITY = {"exchange": BTC.venue, "symbol": BTC.symbol, "dt": DAY}
BIG = [table for table in BOOKS if table.storage == "delta"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose data folder is empty."""
    return load_settings(data_dir=tmp_path / "data", lake_uri=str(tmp_path / "lake"))


def manifest(*sha256: str, **changes: Any) -> pl.DataFrame:
    """Rows of a raw table, one for each object."""
    return RAW_BOOK_DELTAS.frame(
        IDENTITY
        | {"status": "usable", "shard": number, "path": f"deltas/{number}.parquet", "sha256": each}
        | changes
        for number, each in enumerate(sha256, start=1)
    )


def raw(deltas: pl.DataFrame, profiles: pl.DataFrame | None = None) -> RegisteredDay:
    """A day with these deltas, and neither snapshots nor trades."""
    none = RawObjects(Path(), RAW_TRADES.empty())
    return RegisteredDay(
        DAY,
        Path(),
        RawObjects(Path(), deltas),
        none,
        none,
        PROFILES.empty() if profiles is None else profiles,
    )


def keys(
    settings: Settings, instrument: Instrument = BTC, deltas: pl.DataFrame | None = None
) -> dict[str, str]:
    """The keys of what each stage would make of the day."""
    day = raw(manifest("aa", "bb") if deltas is None else deltas)
    warehouse = Warehouse(settings.data_dir)
    nothing = REBUILDS.empty()
    reports = VALIDATION_REPORT.empty()
    return {
        "profiles": profiles_made_of(day, instrument).key(PROFILED[0]),
        "books": books_made_of(day, instrument, settings, warehouse).key(BOOKS[0]),
        "report": report_made_of(Lookups(day, warehouse), [instrument], nothing, settings)[
            instrument.id
        ].key(VALIDATED[0]),
        "metrics": metrics_made_of(DAY, [instrument], reports, day.deltas, warehouse, (1, 60))[
            instrument.id
        ].key(METRICS[0]),
    }


def differing(one: dict[str, str], other: dict[str, str]) -> set[str]:
    return {name for name in one if one[name] != other[name]}


class TestKeys:
    @pytest.mark.parametrize("sha256", [("aa", "cc"), ("aa",), ("bb", "aa"), ("aa", "bb", "cc")])
    def test_raw_bytes(self, settings: Settings, sha256: tuple[str, ...]):
        """Another object, one less, one more or another order changes what is made of them."""
        assert {"profiles", "books", "report", "metrics"} == differing(
            keys(settings), keys(settings, deltas=manifest(*sha256))
        )

    def test_the_same_bytes_elsewhere(self, settings: Settings):
        """A copy that is registered for another day changes the verdict's key, and no other."""
        warehouse = Warehouse(settings.data_dir)
        warehouse.prepare()
        own = manifest("aa", "bb", rows=5)
        before = keys(settings, deltas=own)
        day_after = DAY + timedelta(days=1)
        copy = manifest("bb", rows=5, dt=day_after)
        replace_rows(warehouse, RAW_BOOK_DELTAS, day_after, None, copy)

        assert {"report"} == differing(before, keys(settings, deltas=own))

    def test_widths_of_bars(self, settings: Settings):
        """Other widths make other bars, of the same trades and books."""
        warehouse, reports = Warehouse(settings.data_dir), VALIDATION_REPORT.empty()
        trades = raw(manifest("aa")).deltas
        each, same, other = (
            bars_made_of(DAY, [BTC], reports, trades, warehouse, widths)[BTC.id].key(BARRED[0])
            for widths in ((1, 60), (1, 60), (60,))
        )

        assert each == same != other

    def test_steps_of_bars(self, settings: Settings):
        """Other steps make other bars of equal activity."""
        warehouse, rebuilds = Warehouse(settings.data_dir), REBUILDS.empty()
        other = BTC.model_copy(update={"bars": InformationBars(tick=(7,))})
        first, same, changed = (
            information_bars_made_of(DAY, [each], rebuilds, warehouse)[BTC.id].key(INFORMED[0])
            for each in (BTC, BTC, other)
        )

        assert first == same != changed

    def test_widths_of_metrics(self, settings: Settings):
        """Other widths make other metrics."""
        warehouse, reports = Warehouse(settings.data_dir), VALIDATION_REPORT.empty()
        trades = raw(manifest("aa")).deltas
        each, same, other = (
            metrics_made_of(DAY, [BTC], reports, trades, warehouse, widths)[BTC.id].key(METRICS[0])
            for widths in ((1, 60), (1, 60), (60,))
        )

        assert each == same != other

    def test_a_foreign_day_before(self, settings: Settings):
        """Whether the day before was of foreign files is part of the verdict's key."""
        warehouse = Warehouse(settings.data_dir)
        warehouse.prepare()
        before = keys(settings)
        foreign = ReportRow(
            exchange=BTC.venue,
            symbol=BTC.symbol,
            dt=DAY - timedelta(days=1),
            outcome="quarantined",
            files_elsewhere=1,
            files_elsewhere_doubtful=1,
        )
        rows = VALIDATION_REPORT.frame([foreign.as_record()])
        replace_rows(warehouse, VALIDATION_REPORT, foreign.dt, None, rows)

        assert {"report"} == differing(before, keys(settings))

    def test_not_fetched(self, settings: Settings):
        """An object that could not be fetched is an input, so that the day is tried again."""
        failed = manifest(
            "bb", path=None, status="missing", failure_kind="StoreError", uri="s3://lake/2.parquet"
        )
        both = pl.concat([manifest("aa"), failed])
        made_of = profiles_made_of(raw(both), BTC)

        assert ["aa", NOT_FETCHED] == [each.sha256 for each in made_of.inputs]
        assert 4 == len(
            differing(keys(settings, deltas=manifest("aa")), keys(settings, deltas=both))
        )

    def test_of_no_object(self):
        """A row that says there is no object is no input."""
        none = manifest("aa", path=None, status="missing", failure_kind="MissingDataError")

        assert () == profiles_made_of(raw(none), BTC).inputs

    @pytest.mark.parametrize(
        "change",
        [
            {"tick": "0.05"},
            {"lot": "infer"},
            {"policies": Policies(seed="previous_close")},
            {"policies": Policies(resync="never")},
        ],
        ids=str,
    )
    def test_instrument(self, settings: Settings, change: dict[str, Any]):
        """Tick, lot and policies decide the book and what is said of it, not the profile."""
        changed = Instrument.model_validate(BTC.model_dump() | change)

        assert {"books", "report", "metrics"} == differing(keys(settings), keys(settings, changed))

    @pytest.mark.parametrize("name", ["listed", "delisted"])
    def test_listing(self, settings: Settings, name: str):
        """When it is listed decides what is said of a day, and not its book."""
        changed = Instrument.model_validate(BTC.model_dump() | {name: "2024-08-08"})

        assert {"report", "metrics"} == differing(keys(settings), keys(settings, changed))

    @pytest.mark.parametrize(
        ("part", "name"),
        [
            *(("thresholds", name) for name in Thresholds.model_fields),
            *(("gap_rule", name) for name in GapRule.model_fields),
        ],
    )
    def test_thresholds(self, settings: Settings, part: str, name: str):
        """Each threshold validates the day anew; the gap rule alone rebuilds it too."""
        of_part = getattr(BTC, part)
        changed = of_part.model_copy(update={name: getattr(of_part, name) * 2 + 1})
        found = differing(keys(settings), keys(settings, BTC.model_copy(update={part: changed})))

        assert {"report", "metrics"} == found - {"books", "profiles"}
        assert (part == "gap_rule") == ("books" in found)
        assert (name == "edge_tolerance_seconds") == ("profiles" in found)

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"depth_interval_ms": 77}, {"books"}),
            ({"checkpoint_seconds": 77}, {"books"}),
            ({"reference_minutes": 5}, {"report"}),
            ({"vendor_lag_hours": 7.0}, {"report"}),
            ({"threads": 1, "lock_timeout_seconds": 7.0}, set()),
        ],
        ids=str,
    )
    def test_settings(self, settings: Settings, change: dict[str, Any], expected: set[str]):
        """A setting that decides rows changes the key of whoever uses it, another changes none."""
        assert expected == differing(keys(settings), keys(settings.model_copy(update=change)))

    def test_remark_of_the_store(self, settings: Settings):
        """What the store says against an object is validated, and makes no other book."""
        told = {"uri": "s3://lake/1.parquet"}
        plain, remark = manifest("aa", **told), manifest("aa", **told, remark="It is gone")

        assert {"report"} == differing(keys(settings, deltas=plain), keys(settings, deltas=remark))


class TestWhereItIsNotKnown:
    @pytest.fixture
    def of_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Looking for files of the same bytes raises for one of two instruments."""

        def raises(day: RegisteredDay, instrument: Instrument, elsewhere: object) -> list[object]:
            if instrument == BTC:
                raise ZeroDivisionError("by nothing")
            return []

        monkeypatch.setattr(lookups, "same_bytes", raises)

    def test_the_others_are_known(self, settings: Settings, of_one: None, caplog):
        """What one instrument's day follows from is unknown, that of the others as ever."""
        day, warehouse = raw(manifest("aa")), Warehouse(settings.data_dir)
        both = report_made_of(Lookups(day, warehouse), [BTC, ETH], REBUILDS.empty(), settings)
        eth = report_made_of(Lookups(day, warehouse), [ETH], REBUILDS.empty(), settings)

        assert "ZeroDivisionError: by nothing" == both[BTC.id].parameters["not_known"]
        assert eth[ETH.id] == both[ETH.id]
        assert "Traceback" in caplog.text

    def test_what_is_the_machines_ends_the_run(self):
        """A full disk is met by the next instrument as well."""

        def full(instrument: Instrument) -> MadeOf:
            raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space left"):
            made_of_each(DAY, [BTC], full)

    def test_is_made_again(self, published: RecordedDay):
        """A day that follows from nothing known is not unchanged, were it recorded so itself."""

        def fails(instrument: Instrument) -> MadeOf:
            raise KeyError("price")

        before, now = (made_of_each(DAY, [BTC], fails)[BTC.id] for _ in range(2))
        recorded = published.lineage.with_columns(
            made_key=pl.Series([before.key(table) for table in BOOKS])
        )

        assert before.parameters["not_known"] == now.parameters["not_known"]
        assert replace(published, lineage=recorded).unchanged(BTC, now) is None
        assert before.decisive(BOOKS[0]) != now.decisive(BOOKS[0])


# --- what is unchanged ------------------------------------------------------------------------

MADE_OF = MadeOf((), {"tick": "0.1"})


@pytest.fixture
def published(tmp_path: Path) -> RecordedDay:
    """A day of books as if published: four files of one instrument, its record and its lineage."""
    files = {}
    for number, table in enumerate(BIG):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(f"the bytes of {table.sql_name}".encode())
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        file = StagedFile(BTC.id, path, 1, path.stat().st_size, sha256)
        files[table.sql_name] = {BTC.id: [file]}
    rows = REBUILDS.frame([IDENTITY | {"outcome": "rebuilt", "rows": 7}])
    lineage = LINEAGE.frame(
        lineage_row(
            table,
            DAY,
            BTC.id,
            MADE_OF,
            rows_sha256(table, rows)
            if table is REBUILDS
            else files_sha256(part.sha256 for part in files[table.sql_name][BTC.id]),
        )
        for table in BOOKS
    )
    return RecordedDay(BOOKS, lineage, {REBUILDS.sql_name: rows}, files)


class TestKept:
    def test_unchanged(self, published: RecordedDay):
        """What is there as recorded, made of the same, is unchanged: its files and its record."""
        unchanged = published.unchanged(BTC, MADE_OF)

        assert unchanged is not None
        assert {table.sql_name for table in BIG} == set(unchanged.files)
        assert [7] == unchanged.rows[REBUILDS.sql_name]["rows"].to_list()
        assert unchanged.text.startswith("unchanged since 20")
        assert unchanged.text.endswith(" UTC")

    def test_another_instrument(self, published: RecordedDay):
        """Of an instrument that was not published nothing is unchanged."""
        assert published.unchanged(ETH, MADE_OF) is None

    def test_made_of_something_else(self, published: RecordedDay):
        """Other inputs or parameters: it is made again."""
        assert published.unchanged(BTC, MadeOf((), {"tick": "0.2"})) is None

    @pytest.mark.parametrize("table", BOOKS, ids=lambda table: table.sql_name)
    def test_one_table_was_made_of_something_else(self, published: RecordedDay, table):
        """As after a run that published only one of the tables, or was killed in between."""
        older = pl.when(pl.col("output_table") == table.sql_name).then(pl.lit("older"))
        stale = published.lineage.with_columns(made_key=older.otherwise("made_key"))

        assert replace(published, lineage=stale).unchanged(BTC, MADE_OF) is None

    @pytest.mark.parametrize("table", BIG, ids=lambda table: table.sql_name)
    @pytest.mark.parametrize("harm", ["gone", "cut", "damaged"])
    def test_a_file_is_not_whole(self, published: RecordedDay, table, harm: str):
        """A published file that is gone, shorter or of other bytes: it is made again."""
        (file,) = published.files[table.sql_name][BTC.id]
        whole = file.path.read_bytes()
        if harm == "gone":
            file.path.unlink()
        else:
            file.path.write_bytes(whole[:-1] if harm == "cut" else whole[:-1] + b"!")

        assert published.unchanged(BTC, MADE_OF) is None

    def test_not_published_any_more(self, published: RecordedDay):
        """A table without the file that is recorded, as after it was moved away: made again."""
        files = {**published.files, BIG[0].sql_name: {}}

        assert replace(published, files=files).unchanged(BTC, MADE_OF) is None

    @pytest.mark.parametrize("change", [{"rows": 8}, {"outcome": "quarantined"}], ids=str)
    def test_the_record_is_another(self, published: RecordedDay, change: dict[str, Any]):
        """A record that is not the recorded one: made again."""
        rows = REBUILDS.frame([IDENTITY | {"outcome": "rebuilt", "rows": 7} | change])

        assert replace(published, rows={REBUILDS.sql_name: rows}).unchanged(BTC, MADE_OF) is None

    @pytest.mark.parametrize(
        ("table", "good", "bad"),
        [
            (REBUILDS, {"outcome": "rebuilt"}, {"outcome": "quarantined"}),
            (PROFILES, {"status": "usable"}, {"status": "unusable"}),
            (VALIDATION_REPORT, {"outcome": "rebuilt"}, {"outcome": "no_data"}),
        ],
        ids=lambda value: getattr(value, "sql_name", str(value)),
    )
    def test_what_failed_is_tried_again(self, table, good: dict[str, str], bad: dict[str, str]):
        """A success is unchanged, a failure made of the same is not, and neither is nothing."""

        def unchanged(*records: dict[str, str]) -> bool:
            rows = table.frame(IDENTITY | record for record in records)
            row = lineage_row(table, DAY, BTC.id, MADE_OF, rows_sha256(table, rows))
            day = RecordedDay([table], LINEAGE.frame([row]), {table.sql_name: rows}, {})
            return day.unchanged(BTC, MADE_OF) is not None

        assert [True, False, False] == [unchanged(good), unchanged(good, bad), unchanged()]


def test_every_derived_table_is_kept_with_its_stage():
    """Each table but those of raw objects is in exactly one group that is made together."""
    groups = [*PROFILED, *BOOKS, *TRADED, *EVENTED, *VALIDATED, *METRICS, *BARRED, *INFORMED]
    groups += COMPARED
    groups += [state.table for state in CONTRACT_STATES.values()]
    raw_tables = {name for name in TABLES if name.startswith("raw_")} - {"raw_profiles"}

    assert sorted(table.sql_name for table in groups) == sorted(
        table.sql_name for name, table in TABLES.items() if name not in raw_tables
    )


def test_rows_in_the_order_of_the_instruments(published: RecordedDay):
    """Unchanged rows and rows made now are one frame, in the order of the instruments."""
    unchanged = published.unchanged(BTC, MADE_OF)
    assert unchanged is not None
    made = REBUILDS.frame([IDENTITY | {"symbol": ETH.symbol, "rows": 9}])

    for order, expected in (((BTC, ETH), [7, 9]), ((ETH, BTC), [9, 7]), ((), [])):
        assert (
            expected == with_unchanged(REBUILDS, made, {BTC.id: unchanged}, order)["rows"].to_list()
        )

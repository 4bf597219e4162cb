"""The look through a raw day, from files to the rows of `lake.profiles` and into the report."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.quality import raw_scan
from market_pipeline.quality.profile import PROFILES, Profile
from market_pipeline.quality.strategy import choose_strategy
from market_pipeline.sources.crypto_lake import (
    DELTAS,
    RAW_TABLES,
    SNAPSHOTS,
    TRADES,
    RawTable,
    day_folder,
)
from market_pipeline.stages.published_rows import records_of
from market_pipeline.stages.raw import profile as stage
from market_pipeline.stages.raw.profile import profile_day, profile_shards
from market_pipeline.stages.validation.context import InstrumentDay, PublishedBooks
from market_pipeline.stages.validation.lookups import Lookups
from market_pipeline.stages.validation.raw_profile import measure_profile
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.working import replace_rows
from market_pipeline_tests.quality.factory import a_record
from market_pipeline_tests.quality.sample import SAMPLE_DAYS
from market_pipeline_tests.sources.raw_files import shard
from market_pipeline_tests.stages.day_rows import FrameRows
from market_pipeline_tests.stages.days import (
    BTC,
    DAY,
    ETH,
    EVERY_NS,
    FIRST_SEQUENCE,
    MESSAGES,
    START_NS,
    delta_rows,
    instrument,
    raw_day,
    settings,
    trade_rows,
    write_day,
)

NO_FIGURES = {"exchange", "symbol", "dt", "raw_table", "status", "failure_kind", "failure"}
NO_ROWS = FrameRows(pl.DataFrame())
NO_BOOKS = PublishedBooks(pl.DataFrame(), NO_ROWS, NO_ROWS, NO_ROWS)


def changed(rows: pa.Table, **values: object) -> pa.Table:
    """Rows with some columns replaced."""
    for name, column in values.items():
        at = rows.column_names.index(name)
        rows = rows.set_column(at, name, pa.array(column))
    return rows


def with_value(rows: pa.Table, name: str, row: int, value: object) -> pa.Table:
    """Rows with one value replaced."""
    values = rows.column(name).to_pylist()
    values[row] = value
    return changed(rows, **{name: pa.array(values, rows.schema.field(name).type)})


def profiles(lake: Path, *instruments: Instrument) -> dict[str, Profile]:
    """The profiles of the day by raw table; of the last instrument."""
    rows = profile_day(raw_day(lake, *instruments), instruments)
    return {row["raw_table"]: Profile.from_record(row) for row in rows}


def measured(lake: Path, folder: Path, warehouse: Warehouse, record: dict | None = None):
    """What is added to the report of BTC."""
    raw = raw_day(lake, BTC)
    raw = replace(raw, profiles=PROFILES.frame(profile_day(raw, [BTC])))
    lookups = Lookups(raw, warehouse)
    return measure_profile(
        InstrumentDay(BTC, lookups, record or a_record(), NO_BOOKS, settings(folder))
    )


class TestProfileDay:
    def test_whatever_one_table_fails_at_the_others_are_looked_through(
        self, lake: Path, monkeypatch, caplog
    ):
        """An error nobody thought of is the failure of its table; the log has the traceback."""
        for each in (BTC, ETH):
            write_day(lake, each)
        expected = profile_day(raw_day(lake, BTC, ETH), [BTC, ETH])
        original = stage.RawTableScan.add

        def raises(look, batch):
            if "BTC" in str(batch.file) and "trades" in str(batch.file):
                raise ZeroDivisionError("by nothing")
            original(look, batch)

        monkeypatch.setattr(stage.RawTableScan, "add", raises)
        found = profile_day(raw_day(lake, BTC, ETH), [BTC, ETH])
        failed = found[2]

        assert ("trades", "unusable", "ZeroDivisionError") == tuple(
            failed[name] for name in ("raw_table", "status", "failure_kind")
        )
        assert "could not be looked through: ZeroDivisionError: by nothing" in failed["failure"]
        assert [*expected[:2], *expected[3:]] == [*found[:2], *found[3:]]
        assert "Traceback" in caplog.text

    def test_a_clean_day(self, lake: Path):
        """Three rows an instrument, with rows, messages, ends and steps, and no fault."""
        write_day(lake, BTC, shards=3)
        found = profiles(lake, BTC)
        deltas = found["book_delta_v2"]
        last = MESSAGES - 1

        assert [table.name for table in RAW_TABLES] == list(found)
        assert {
            "status": "usable",
            "rows": 2 * MESSAGES,
            "messages": MESSAGES,
            "first_ts_receipt_ns": START_NS + 3_000_000,
            "last_ts_receipt_ns": START_NS + last * EVERY_NS + 3_000_000,
            "first_sequence_number": FIRST_SEQUENCE,
            "last_sequence_number": FIRST_SEQUENCE + last,
            "sequence_changes": last,
            "tick_seen": "0.1",
            "lot_seen": "1",
            "removals": 0,
            "null_rows": 0,
            "unordered_messages": 0,
            "duplicate_messages": 0,
            "disordered_per_hour": [0] * 24,
            "place_kinds": [],
        }.items() <= deltas.as_record().items()
        assert (1, MESSAGES) == (found["book"].messages, found["trades"].messages)
        assert "full_deltas" == choose_strategy(list(found.values())).name

    def test_the_rows_fit_their_table(self, lake: Path):
        """Every column is given, and nothing else, whatever the status."""
        write_day(lake, BTC, snapshots=False)
        rows = profile_day(raw_day(lake, BTC, ETH), [BTC, ETH])

        assert (6, 6) == (len(rows), PROFILES.frame(rows).height)
        assert [PROFILES.arrow_schema.names] * 6 == [list(row) for row in rows]
        assert ["usable", "missing", "usable", *["missing"] * 3] == [row["status"] for row in rows]

    def test_a_file_that_cannot_be_read(self, lake: Path):
        """The table is unusable with the reader's error, and has no figure that could mislead."""
        first, second = write_day(lake, BTC, shards=2)
        second.write_bytes(first.read_bytes()[:-9])
        found = profiles(lake, BTC)
        deltas = found["book_delta_v2"]
        figures = {
            name
            for name, value in deltas.as_record().items()
            if name not in NO_FIGURES and value is not None
        }

        assert ("unusable", "LakeFileError", set()) == (
            deltas.status,
            deltas.failure_kind,
            figures,
        )
        assert second.name in deltas.failure
        assert "snapshots_only" == choose_strategy(list(found.values())).name

    def test_bad_values_raise_nothing(self, lake: Path):
        """What the rebuild would refuse is counted and located in its shard."""
        write_day(lake, BTC, deltas=with_value(delta_rows(), "price", 3_000, -1.0), shards=2)
        deltas = profiles(lake, BTC)["book_delta_v2"]
        (place,) = deltas.places
        receipt_ns = START_NS + 1_500 * EVERY_NS + 3_000_000

        assert ("negative_prices", 3_000 - MESSAGES, "price", "-1.0", "a price above 0") == (
            place.kind,
            place.row,
            place.column,
            place.value,
            place.expected,
        )
        assert (
            day_folder(Path(), DELTAS, "BINANCE", "BTC-USDT", DAY) / "2.snappy.parquet"
        ).as_posix() == place.file
        assert (receipt_ns, FIRST_SEQUENCE + 1_500) == (place.ts_receipt_ns, place.sequence_number)

    def test_overlapping_shards(self, lake: Path):
        """A second shard that begins with the last messages of the first is told as double."""
        rows = delta_rows()
        files = write_day(lake, BTC, deltas=rows.slice(0, 4_000))
        shard(files[0].parent, 2, rows.slice(3_980))
        deltas = profiles(lake, BTC)["book_delta_v2"]
        kinds = {place.kind: place.row for place in reversed(deltas.places)}

        assert (10, 1, 1, 10) == (
            deltas.duplicate_messages,
            deltas.sequence_backwards,
            deltas.unordered_messages,
            sum(deltas.disordered_per_hour),
        )
        assert {"duplicate_messages": 0, "sequence_backwards": 0}.items() <= kinds.items()

    def test_trades(self, lake: Path):
        """An id that comes twice and a side that is none are told of trades."""
        write_day(lake, BTC, trades=False)
        rows = with_value(with_value(trade_rows(), "id", 7, 6), "side", 9, "none")
        shard(day_folder(lake, TRADES, BTC.venue, BTC.symbol, DAY), 1, rows)
        trades = profiles(lake, BTC)["trades"]
        places = {(place.kind, place.row, place.column) for place in trades.places}

        assert (1, 1) == (trades.duplicate_messages, trades.unknown_sides)
        assert {("duplicate_messages", 7, "id"), ("unknown_sides", 9, "side")} == places

    def test_null_times_stand_nowhere(self, lake: Path):
        """A row without a number is told as a null, and no message is made of it."""
        rows = with_value(delta_rows(), "sequence_number", 4, None)
        write_day(lake, BTC, deltas=with_value(rows, "sequence_number", 5, None))
        deltas = profiles(lake, BTC)["book_delta_v2"]

        assert (2, MESSAGES - 1, 0) == (
            deltas.null_rows,
            deltas.messages,
            deltas.sequence_backwards,
        )

    def test_the_files_in_the_lake_are_the_same(self, lake: Path):
        """Without registration the rows are those of registered files."""
        write_day(lake, BTC)
        found = [profile_shards(lake, table, BTC, DAY) for table in RAW_TABLES]
        missing = profile_shards(lake, SNAPSHOTS, ETH, DAY)

        assert profile_day(raw_day(lake, BTC), [BTC]) == found
        assert ("missing", "MissingDataError") == (missing["status"], missing["failure_kind"])


class TestMeasureProfile:
    def test_a_clean_day(self, lake: Path, folder: Path, warehouse: Warehouse):
        """Zeros and the steps seen, no place, and nothing known of the day before."""
        write_day(lake, BTC)
        found = measured(lake, folder, warehouse)

        assert {
            "unreadable_tables": 0,
            "first_unreadable_table": None,
            "domain_violations": 0,
            "first_domain_violation": None,
            "unordered_messages": 0,
            "duplicate_messages": 0,
            "unordered_per_hour": (0,) * 24,
            "tick_seen": "0.1",
            "lot_seen": "1",
            "tick_day_before": None,
            "lot_day_before": None,
            "step_change": None,
        } == found.columns
        assert [] == found.findings

    def test_nothing_was_looked_at(self, lake: Path, folder: Path, warehouse: Warehouse):
        """Without profiles nothing is known of any table; a missing one is not unreadable."""
        lookups = Lookups(raw_day(lake), warehouse)
        day = InstrumentDay(BTC, lookups, a_record(), NO_BOOKS, settings(folder))

        unknown = {"unreadable_tables": None, "first_unreadable_table": None}

        assert (unknown, unknown | {"unreadable_tables": 0}) == (
            measure_profile(day).columns,
            measured(lake, folder, warehouse).columns,
        )

    def test_a_table_that_cannot_be_read(self, lake: Path, folder: Path, warehouse: Warehouse):
        """It is counted, with its error."""
        write_day(lake, BTC)[0].write_bytes(b"no parquet")
        found = measured(lake, folder, warehouse).columns

        assert 1 == found["unreadable_tables"]
        assert "cannot be read as Parquet" in found["first_unreadable_table"]

    def test_faults_become_findings(self, lake: Path, folder: Path, warehouse: Warehouse):
        """Each kind's first place is marked; the violations of all tables are added up."""
        rows = with_value(with_value(delta_rows(), "price", 8, 0.0), "price", 9, 0.0)
        write_day(lake, BTC, deltas=rows, trades=False)
        trades = with_value(trade_rows(), "amount", 3, -2.0)
        shard(day_folder(lake, TRADES, BTC.venue, BTC.symbol, DAY), 1, trades)
        found = measured(lake, folder, warehouse)
        places = [(each.check, each.place, each.row, each.value) for each in found.findings]

        assert [
            ("domain", "first", 8, "0.0"),
            ("domain", "further", 9, "0.0"),
            ("domain", "first", 3, "-2.0"),
        ] == places
        assert 3 == found.columns["domain_violations"]
        assert found.columns["first_domain_violation"].startswith("price 0.0 in book_delta_v2/")
        assert found.columns["first_domain_violation"].endswith("1.snappy.parquet, row 8")

    def test_order_is_of_the_table_the_book_comes_from(
        self, lake: Path, folder: Path, warehouse: Warehouse
    ):
        """Deltas out of order are placed; a day published from snapshots has their order."""
        rows = delta_rows()
        number = rows["sequence_number"].to_numpy().copy()
        number[[20, 21, 22, 23]] = number[[22, 23, 20, 21]]
        write_day(lake, BTC, deltas=changed(rows, sequence_number=number))
        by_deltas = measured(lake, folder, warehouse)
        write_day(lake, BTC, deltas=changed(rows, sequence_number=number[::-1]))
        by_snapshots = measured(lake, folder, warehouse)
        (place,) = by_deltas.findings

        assert ("ordering", 22, "sequence_number", "at least 1011") == (
            place.check,
            place.row,
            place.column,
            place.expected,
        )
        assert 1 == sum(by_deltas.columns["unordered_per_hour"])
        assert (0, []) == (
            sum(by_snapshots.columns["unordered_per_hour"]),
            by_snapshots.findings,
        )

    @pytest.mark.parametrize(("factor", "told"), [(1, False), (10, True)])
    def test_the_day_before(self, lake: Path, folder: Path, warehouse: Warehouse, factor, told):
        """Yesterday's steps come from its published profile; another tick is told."""
        write_day(lake, BTC)
        yesterday = DAY - timedelta(days=1)
        row = profile_shards(lake, DELTAS, BTC, DAY)
        row |= {"dt": yesterday, "tick_seen": f"{0.1 * factor:g}"}
        replace_rows(warehouse, PROFILES, yesterday, [BTC.id], PROFILES.frame([row]))
        columns = measured(lake, folder, warehouse).columns

        assert (f"{0.1 * factor:g}", "1") == (
            columns["tick_day_before"],
            columns["lot_day_before"],
        )
        assert told == (columns["step_change"] is not None)

    @pytest.mark.parametrize(
        ("row", "tick", "late"), [(3_000, "infer", 1), (3_000, "0.1", 0), (900, "infer", 0)]
    )
    def test_a_price_that_an_inferred_tick_rests_on(
        self, lake: Path, folder: Path, warehouse: Warehouse, row, tick, late
    ):
        """A finer price after thousands of rows is placed where the tick was inferred from it."""
        write_day(lake, BTC, deltas=with_value(delta_rows(), "price", row, 100.05), shards=2)
        one = instrument(tick=tick)
        raw = raw_day(lake, one)
        raw = replace(raw, profiles=PROFILES.frame(profile_day(raw, [one])))
        day = InstrumentDay(one, Lookups(raw, warehouse), a_record(), NO_BOOKS, settings(folder))
        found = measure_profile(day)

        assert ("0.05", late) == (found.columns["tick_seen"], len(found.findings))
        assert bool(late) == (found.columns["step_change"] is not None)
        assert [("precision", 120, "100.05", "a multiple of 0.1")] * late == [
            (each.check, each.row, each.value, each.expected) for each in found.findings
        ]

    def test_values_off_the_step(self, lake: Path, folder: Path, warehouse: Warehouse):
        """The rebuild located them: the report tells each once, and not from here."""
        write_day(lake, BTC)
        record = {
            "tick": "0.1",
            "lot": "1",
            "price_losses": 1,
            "price_loss_files": ["a.parquet"],
            "price_loss_rows": [3],
            "price_loss_values": [100.25],
        }

        assert [] == measured(lake, folder, warehouse, record).findings


class TestRealDays:
    @pytest.mark.parametrize(("venue", "symbol", "day"), SAMPLE_DAYS)
    def test_no_false_alarm(
        self, sample_data: Path, folder: Path, warehouse: Warehouse, venue, symbol, day
    ):
        """A real day is in order, within its domain, and of the same tick and lot as the next."""
        one = Instrument(venue=venue, symbol=symbol, source="crypto_lake")
        lake = sample_data / "lake"

        def rows_of(of: date) -> pl.DataFrame:
            return PROFILES.frame(profile_shards(lake, table, one, of) for table in RAW_TABLES)

        before = day - timedelta(days=1)
        replace_rows(warehouse, PROFILES, before, [one.id], rows_of(before))
        raw = replace(raw_day(lake), day=day, profiles=rows_of(day))
        lookups = Lookups(raw, warehouse)
        found = measure_profile(InstrumentDay(one, lookups, a_record(), NO_BOOKS, settings(folder)))
        faults = ("domain_violations", "unordered_messages", "duplicate_messages", "step_change")
        deltas = raw.profiles.filter(raw_table="book_delta_v2").row(0, named=True)

        assert ([0, 0, 0, None], []) == ([found.columns[name] for name in faults], found.findings)
        assert deltas["rows"] == deltas["negative_latencies"]
        assert "full_deltas" == choose_strategy(records_of(raw.profiles, one, Profile)).name


class TestTooLarge:
    """What later stages could not hold makes the table unusable, with the reason."""

    @pytest.mark.parametrize("batch_rows", [7, 1 << 18])
    @pytest.mark.parametrize(("most", "status"), [(12, "usable"), (11, "unusable")])
    def test_rows_in_a_message(
        self, lake: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int, most: int, status: str
    ):
        """A message may be as long as the limit, however the rows are cut into batches."""
        monkeypatch.setattr(raw_scan, "MAX_MESSAGE_ROWS", most)
        monkeypatch.setattr(raw_scan, "_BATCH_ROWS", batch_rows)
        rows = delta_rows(40)
        for name in ("sequence_number", "receipt_timestamp"):
            values = rows.column(name).to_numpy().copy()
            values[30:42] = values[30]
            rows = changed(rows, **{name: values})
        write_day(lake, BTC, deltas=rows)
        row = profile_shards(lake, DELTAS, BTC, DAY)
        assert status == row["status"]
        if status == "unusable":
            assert "at most 11 rows in a message" in row["failure"]

    @pytest.mark.parametrize(("table", "limit"), [(DELTAS, "MAX_MESSAGES"), (TRADES, "MAX_TRADES")])
    def test_messages_in_a_day(
        self, lake: Path, monkeypatch: pytest.MonkeyPatch, table: RawTable, limit: str
    ):
        """The same of all messages together, and of all trades; another table is none the worse."""
        monkeypatch.setattr(raw_scan, limit, 1_000)
        write_day(lake, BTC)
        status = {each.name: profile_shards(lake, each, BTC, DAY)["status"] for each in RAW_TABLES}
        assert {table.name} == {name for name, each in status.items() if each == "unusable"}

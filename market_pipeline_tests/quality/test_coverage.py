from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.quality.coverage import read_coverage, with_rows
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.quality.row import VALIDATION_REPORT, ReportRow
from market_pipeline.tables import refresh_catalogue
from market_pipeline.warehouse.catalogue import connect
from market_pipeline.warehouse.working import replace_rows
from market_pipeline_tests.catalogues import drawn_catalogue
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.quality.factory import DAY, DAY_START_NS, a_failed_row, a_row

LATER = DAY + timedelta(days=3)
ROWS = (
    a_row(
        condition="available",
        valid_seconds=43_200.0,
        verified_seconds=21_600.0,
        observed_seconds=86_400.0,
    ),
    a_row(
        dt=LATER,
        condition="degraded",
        reasons=("one", "two"),
        gap_seconds=5.0,
        verified_seconds=86_400.0,
    ),
    a_failed_row(dt=LATER, symbol="ETH-USDT-PERP", condition="missing", reasons=("no file",)),
)

days = st.integers(0, 6).map(lambda number: DAY + timedelta(days=number))
validated = st.dictionaries(
    st.tuples(st.sampled_from(["A", "B", "C"]), days),
    st.sampled_from(["available", "degraded", "pending", "missing"]),
    max_size=12,
)


def coverage_of(
    rows: tuple[ReportRow, ...] | list[ReportRow], *arguments: object, without: str = "''"
) -> pl.DataFrame:
    """The coverage where these rows are published, in a report without some columns."""
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA quality")
        report = VALIDATION_REPORT.frame(row.as_record() for row in rows)
        connection.register("published", report)
        kept = f"SELECT COLUMNS(name -> name NOT IN ({without})) FROM published"
        connection.execute(f"CREATE TABLE quality.validation_report AS {kept}")
        return read_coverage(connection, *arguments)


class TestView:
    def test_published(self, tmp_path: Path):
        """The catalogue's view has a row for every instrument and day, from first to last day."""
        warehouse = drawn_catalogue(tmp_path)
        for day in {row.dt for row in ROWS}:
            rows = [row for row in ROWS if row.dt == day]
            frame = VALIDATION_REPORT.frame(row.as_record() for row in rows)
            ids = [row.instrument_id for row in rows]
            replace_rows(warehouse, VALIDATION_REPORT, day, ids, frame)
        refresh_catalogue(warehouse)
        with connect(tmp_path) as connection:
            found = connection.execute(
                "SELECT * FROM quality.coverage ORDER BY symbol, dt"
            ).fetchall()
            read = read_coverage(connection).rows()

        btc, eth = ("BINANCE_FUTURES", "BTC-USDT-PERP"), ("BINANCE_FUTURES", "ETH-USDT-PERP")
        nothing = (None, 86_400.0, *(None,) * 7)
        between = [DAY + timedelta(days=number) for number in (1, 2)]
        expected = [
            (*btc, DAY, "available", 86_400.0, 0.5, 0.25, 1.0, 0.0, 0.0, 0, None),
            *((*btc, day, *nothing) for day in between),
            (*btc, LATER, "degraded", 86_400.0, 1.0, 1.0, 1.0, 5.0, 0.0, 2, "one"),
            *((*eth, day, *nothing) for day in (DAY, *between)),
            (*eth, LATER, "missing", 86_400.0, None, None, None, None, None, 1, "no file"),
        ]
        assert (expected, expected) == (found, read)

    def test_before_anything_was_validated(self, tmp_path: Path):
        """The view of an empty catalogue is there and empty."""
        drawn_catalogue(tmp_path)
        with connect(tmp_path) as connection:
            assert [] == connection.execute("SELECT * FROM quality.coverage").fetchall()

    def test_listing(self):
        """Nothing is expected of days before and after it, and of the first and last only a part.

        A share is that of the part; the newest row says what holds of days without one.
        """
        first_ns = DAY_START_NS + (86_400 + 21_600) * NS_PER_SECOND
        last_ns = DAY_START_NS + (3 * 86_400 + 43_200) * NS_PER_SECOND
        rows = [
            a_row(symbol="ALL", dt=DAY),
            a_row(symbol="ALL", dt=DAY + timedelta(days=5)),
            a_row(symbol="PART", dt=DAY + timedelta(days=1), listed_ns=first_ns),
            a_row(
                symbol="PART",
                dt=DAY + timedelta(days=3),
                listed_ns=first_ns,
                delisted_ns=last_ns,
                expected_seconds=43_200.0,
                valid_seconds=21_600.0,
            ),
        ]
        found = coverage_of(rows).filter(symbol="PART").select("expected_seconds", "valid_share")

        assert [
            (0.0, None),
            (86_400.0, 1.0),
            (86_400.0, None),
            (43_200.0, 0.5),
            (0.0, None),
            (0.0, None),
        ] == found.rows()

    def test_of_a_report_that_knows_no_listing(self):
        """It is read from a catalogue that cannot be built anew, as of a folder only to be read."""
        names = "'expected_seconds', 'listed_ns', 'delisted_ns'"
        assert coverage_of(ROWS).equals(coverage_of(ROWS, without=names))

    def test_listed_and_delisted_on_one_day(self):
        """Of a day without a verdict only the time between the two is expected."""
        first_ns = DAY_START_NS + (86_400 + 8 * 3_600) * NS_PER_SECOND
        listing = {"listed_ns": first_ns, "delisted_ns": first_ns + 3_600 * NS_PER_SECOND}
        rows = [a_row(symbol="ALL"), a_row(symbol="ALL", dt=LATER), a_row(dt=LATER, **listing)]
        found = coverage_of(rows).filter(pl.col("symbol") != "ALL")

        assert [0.0, 3_600.0, 0.0, 86_400.0] == found["expected_seconds"].to_list()

    def test_missing_before_its_listing_was_known(self):
        """A day found missing is not expected any more once a newer book says it is not listed.

        A delisted instrument's newest rows have no book, and those of before do not know of it.
        """
        hour_ns = 3_600 * NS_PER_SECOND
        missing = {"condition": "missing", "reasons": ("no file",)}
        listing = {
            "listed_ns": DAY_START_NS + 32 * hour_ns,
            "delisted_ns": DAY_START_NS + 54 * hour_ns,
        }
        rows = [
            a_failed_row(dt=DAY, **missing),
            a_failed_row(dt=DAY + timedelta(days=1), **missing),
            a_row(dt=DAY + timedelta(days=2), expected_seconds=21_600.0, **listing),
            a_failed_row(dt=LATER, **missing),
        ]
        found = coverage_of(rows).select("condition", "expected_seconds", "first_reason")

        assert [
            (None, 0.0, None),
            ("missing", 57_600.0, "no file"),
            ("available", 21_600.0, None),
            (None, 0.0, None),
        ] == found.rows()

    def test_columns_are_documented(self, tmp_path: Path):
        """docs/sql.md lists the view's columns with their types, in order."""
        drawn_catalogue(tmp_path)
        with connect(tmp_path) as connection:
            described = connection.execute("DESCRIBE quality.coverage").fetchall()
        page = (REPOSITORY / "docs" / "sql.md").read_text(encoding="utf-8")
        section = page.split("### quality.coverage\n")[1].split("\n### ", maxsplit=1)[0]

        assert [(name, kind) for name, kind, *_ in described] == re.findall(
            r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE
        )

    @settings(max_examples=40)
    @given(validated)
    def test_is_a_full_rectangle(self, verdicts):
        """Instruments times days from first to last, each once, with its verdict or null."""
        rows = [
            a_row(symbol=symbol, dt=day, condition=condition)
            for (symbol, day), condition in verdicts.items()
        ]
        found = coverage_of(rows)
        seen = sorted({day for _, day in verdicts})
        length = (seen[-1] - seen[0]).days + 1 if seen else 0

        assert {
            (symbol, seen[0] + timedelta(days=number)): verdicts.get(
                (symbol, seen[0] + timedelta(days=number))
            )
            for symbol in {symbol for symbol, _ in verdicts}
            for number in range(length)
        } == {
            (symbol, day): condition
            for symbol, day, condition in found.select("symbol", "dt", "condition").rows()
        }
        assert found.height == length * len({symbol for symbol, _ in verdicts})


class TestRead:
    def test_selection(self):
        """Days and instruments can be chosen."""
        found = coverage_of(ROWS, date(2024, 8, 9), LATER, ["BINANCE_FUTURES:ETH-USDT-PERP"])

        assert {"ETH-USDT-PERP"} == set(found["symbol"])
        assert (date(2024, 8, 9), LATER, 3) == (found["dt"].min(), found["dt"].max(), found.height)


class TestWithRows:
    @settings(max_examples=30)
    @given(validated, validated)
    def test_equals_publishing_them(self, before, after):
        """New rows take the place of those that are there, as if they had been published."""
        old, new = (
            {
                key: a_row(symbol=key[0], dt=key[1], condition=condition)
                for key, condition in verdicts.items()
            }
            for verdicts in (before, after)
        )
        published = coverage_of(list((old | new).values())).drop_nulls("condition")
        shown = with_rows(coverage_of(list(old.values())), list(new.values()))

        assert published.rows() == shown.drop_nulls("condition").rows()

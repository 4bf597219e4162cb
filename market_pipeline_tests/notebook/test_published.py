from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from market_pipeline import (
    asof_quotes,
    connect,
    depth_matrix,
    events,
    load_bars,
    load_bbo,
    load_checkpoint_depth,
    load_daily,
    load_depth,
    load_funding,
    load_information_bars,
    load_intervals,
    load_metrics,
    load_open_interest,
    load_trades,
    replay,
)
from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.errors import DomainError, MissingDataError, SchemaError
from market_pipeline_tests.notebook.conftest import FAULTY, MISSING, NEXT, QUIET, Market

pytestmark = pytest.mark.slow


class TestLoad:
    @pytest.mark.parametrize(
        ("load", "asset"),
        [
            (load_bbo, "book_bbo"),
            (load_depth, "book_depth"),
            (load_trades, "trades"),
            (load_bars, "bars"),
            (load_metrics, "book_metrics"),
            (load_information_bars, "information_bars"),
            (load_funding, "funding"),
            (load_open_interest, "open_interest"),
            (load_intervals, "book_intervals"),
        ],
    )
    def test_one_day(self, market: Market, load, asset):
        """A day named as text or as a date is what was published of it, lazily."""
        for day in (FAULTY, FAULTY.isoformat()):
            every = {"valid_only": False} if load in (load_bbo, load_depth, load_trades) else {}
            rows = load(market.instrument.id, day, data_dir=market.data_dir, **every)
            assert isinstance(rows, pl.LazyFrame)
            published = market.published(asset)
            assert not published.is_empty()
            assert published.equals(rows.collect())

    @pytest.mark.parametrize(
        ("load", "table"),
        [(load_daily, "metrics.daily"), (load_checkpoint_depth, "metrics.checkpoint_depth")],
    )
    def test_what_the_catalogue_has(self, market: Market, load, table):
        """Of a small table and of a view the rows are those of the catalogue, day after day."""
        id_, asked = market.instrument.id, {"data_dir": market.data_dir}
        with connect(market.data_dir) as connection:
            published = connection.sql(f"FROM {table} ORDER BY dt").pl()
        rows = load([id_, id_], FAULTY, NEXT, missing="skip", **asked).collect()
        assert [FAULTY, QUIET, NEXT] == rows["dt"].unique(maintain_order=True).to_list()
        assert_frame_equal(published, rows, check_row_order=load is load_daily)
        of_day = load(id_, QUIET, columns="dt", **asked).collect()
        assert [(QUIET,)] * published.filter(dt=QUIET).height == of_day.rows()
        with pytest.raises(MissingDataError, match="no 2025-03-04"):
            load(id_, FAULTY, QUIET, **asked)
        with pytest.raises(SchemaError, match="did you mean dt"):
            load(id_, FAULTY, columns=["dtt"], **asked)

    def test_a_range(self, market: Market):
        """Both ends are included; days come in order; absent days only on request."""
        days = {"data_dir": market.data_dir, "missing": "skip", "valid_only": False}
        rows = load_bbo(market.instrument.id, FAULTY, QUIET, **days).collect()
        assert pl.concat(market.published("book_bbo", day) for day in (FAULTY, QUIET)).equals(rows)

    def test_absent_days_are_named(self, market: Market):
        """A range with a day that is not published is refused unless it may be skipped."""
        with pytest.raises(MissingDataError, match="missing='skip'") as caught:
            load_bbo(market.instrument.id, FAULTY, date(2025, 3, 15), data_dir=market.data_dir)
        assert caught.value.found == (
            "no 2025-03-04 (no data), 2025-03-07 (quarantined), 2025-03-08, 2025-03-09, 2025-03-10 "
            "and 5 more"
        )

    def test_nothing_of_the_range(self, market: Market):
        """Skipping every day would leave nothing, so that is refused too."""
        with pytest.raises(MissingDataError) as caught:
            load_bbo(market.instrument.id, MISSING, data_dir=market.data_dir, missing="skip")
        assert ("no 2025-03-04 (no data)", "days between 2025-03-03 and 2025-03-06") == (
            caught.value.found,
            caught.value.expected,
        )

    def test_columns_and_valid_rows(self, market: Market):
        """Columns are chosen by name; by default rows whose flags invalidate them are left out."""
        rows = load_bbo(
            market.instrument.id,
            FAULTY,
            data_dir=market.data_dir,
            columns=["ask_price", "ts_receipt_ns", "ask_price"],
        ).collect()
        published = market.published("book_bbo")
        flags = published["flags"].to_numpy()
        valid = published.filter(pl.Series(flags & int(INVALIDATING) == 0))
        assert 0 < valid.height < published.height
        assert valid.select("ask_price", "ts_receipt_ns").equals(rows)

    def test_times_as_datetimes(self, market: Market):
        """On request a column of times is a datetime in UTC under the name without a unit."""
        rows = load_bbo(
            market.instrument.id,
            QUIET,
            data_dir=market.data_dir,
            columns=["ts_receipt_ns", "flags"],
            times="datetime",
            valid_only=False,
        ).collect()
        assert (
            pl.Schema({"ts_receipt": pl.Datetime("ns", "UTC"), "flags": pl.UInt16}) == rows.schema
        )
        in_ns = market.published("book_bbo", QUIET)["ts_receipt_ns"]
        assert in_ns.to_list() == rows["ts_receipt"].dt.epoch("ns").to_list()

    @pytest.mark.parametrize(
        ("load", "column", "name"),
        [
            (load_bars, "bar_start", "bar_start"),
            (load_metrics, "interval_start", "interval_start"),
            (load_intervals, "start_ns", "start"),
            (load_checkpoint_depth, "ts_receipt_ns", "ts_receipt"),
        ],
    )
    def test_times_of_one_type(self, market: Market, load, column: str, name: str):
        """Datetimes of all tables join with one another, also where the table has some itself."""
        asked = {"data_dir": market.data_dir, "columns": [column]}
        times = load(market.instrument.id, FAULTY, times="datetime", **asked).collect()[name]
        given = load(market.instrument.id, FAULTY, **asked).collect()[column]
        assert pl.Datetime("ns", "UTC") == times.dtype
        in_ns = given if given.dtype == pl.Int64 else given.dt.epoch("ns")
        assert in_ns.to_list() == times.dt.epoch("ns").to_list()

    @pytest.mark.parametrize("none", [[], None, [["SIMULATED:BTC-USDT-PERP"], None]], ids=str)
    def test_no_instrument(self, market: Market, none):
        """An empty list of instruments is refused and is no empty frame, and so is no id."""
        span = (f"{QUIET}T00:00:00Z", f"{NEXT}T00:00:00Z")
        for ask, when in (
            (load_bbo, [QUIET]),
            (load_daily, [QUIET]),
            (events, span),
            (replay, span),
        ):
            with pytest.raises(DomainError, match="No instrument is asked for"):
                ask(none, *when, data_dir=market.data_dir)

    @pytest.mark.parametrize(
        ("argument", "value"), [("missing", "skp"), ("times", "date"), ("kind", "volum")]
    )
    def test_a_misspelt_choice(self, market: Market, argument: str, value: str):
        """An argument that is none of its values is refused, and does not pass for another."""
        with pytest.raises(DomainError, match="none of its values") as caught:
            load_information_bars(
                market.instrument.id, FAULTY, data_dir=market.data_dir, **{argument: value}
            )
        assert argument == caught.value.column

    def test_an_unknown_column(self, market: Market):
        """A column that the table does not have is named with the nearest that it has."""
        with pytest.raises(SchemaError, match="did you mean bid_price") as caught:
            load_bbo(market.instrument.id, FAULTY, data_dir=market.data_dir, columns=["bidprice"])
        assert "bidprice" == caught.value.column

    def test_the_folder_of_the_settings(self, market: Market, monkeypatch: pytest.MonkeyPatch):
        """Without a folder it is the one of the settings in force."""
        monkeypatch.setenv("PIPELINE_DATA_DIR", str(market.data_dir))
        rows = load_depth(
            market.instrument.id, QUIET, columns=["flags"], valid_only=False
        ).collect()
        assert market.published("book_depth", QUIET).select("flags").equals(rows)

    def test_bars_of_one_width(self, market: Market):
        """A width is taken also where its column is not asked for."""
        rows = load_bars(
            market.instrument.id,
            FAULTY,
            data_dir=market.data_dir,
            width_seconds=3_600,
            columns=["bar_start", "trade_count"],
        ).collect()
        expected = market.published("bars").filter(pl.col("width_seconds") == 3_600)
        assert expected.select("bar_start", "trade_count").equals(rows)
        assert (24, True) == (rows.height, rows["trade_count"].sum() > 0)

    def test_bars_of_one_kind_and_step(self, market: Market):
        """A kind and a step are taken also where their columns are not asked for."""
        rows = load_information_bars(
            *(market.instrument.id, FAULTY),
            kind="tick",
            step=50,
            times="datetime",
            data_dir=market.data_dir,
            columns=["bar_number", "first_ns"],
        ).collect()
        expected = market.published("information_bars").filter(kind="tick", step=50.0)
        assert expected["bar_number"].to_list() == rows["bar_number"].to_list()
        assert expected["first_ns"].to_list() == rows["first"].dt.epoch("ns").to_list()
        assert 0 < rows.height < market.published("information_bars").height

    def test_an_unknown_instrument(self, market: Market):
        """An instrument that is not published is answered with those that are."""
        with pytest.raises(MissingDataError) as caught:
            load_bbo("BTC-USDT-PERP", FAULTY, data_dir=market.data_dir)
        assert f"one of {market.instrument.id}" == caught.value.expected

    def test_an_empty_folder(self, tmp_path: Path):
        """Where nothing is published the folder is named, and nothing is made there."""
        for load in (load_bbo, load_daily):
            with pytest.raises(MissingDataError) as caught:
                load("BINANCE:BTC-USDT", FAULTY, data_dir=tmp_path / "none")
            assert str(tmp_path / "none") == caught.value.file
        assert [] == list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "day", ["yesterday", "2025-03-03T10:00", datetime(2025, 3, 3, tzinfo=UTC), None]
    )
    def test_no_day(self, day):
        """What is no calendar day is refused, a point in time too."""
        with pytest.raises(DomainError, match="is no day") as caught:
            load_bbo("BINANCE:BTC-USDT", day)
        assert "start" == caught.value.column

    @pytest.mark.parametrize(
        ("load", "width"), [(load_bars, "width_seconds"), (load_metrics, "interval_seconds")]
    )
    def test_a_width_that_no_day_has(self, market: Market, load, width: str):
        """The error names the widths that there are; no row at all would pass for an empty day."""
        asked = {"data_dir": market.data_dir, width: 7}
        with pytest.raises(DomainError, match=r"expected=60 or 300.*found=7") as refused:
            load(market.instrument.id, QUIET, NEXT, **asked)

        assert width == refused.value.column

    @pytest.mark.parametrize("asked", [{"kind": "volume"}, {"step": 7}], ids=str)
    def test_bars_that_no_day_has(self, market: Market, asked):
        """A kind or a step that no bar of those days is of is refused with those that there are."""
        with pytest.raises(DomainError, match="expected=tick 50 or tick 1000"):
            load_information_bars(market.instrument.id, QUIET, **asked, data_dir=market.data_dir)

    def test_the_end_before_the_start(self):
        """A range that ends before it starts is refused."""
        with pytest.raises(DomainError, match="before the start"):
            load_bbo("BINANCE:BTC-USDT", QUIET, FAULTY)


class TestMacros:
    @pytest.mark.parametrize(
        "load",
        [
            *(load_bbo, load_depth, load_trades, load_bars, load_metrics, load_information_bars),
            *(load_daily, load_checkpoint_depth, load_intervals, load_funding, load_open_interest),
        ],
    )
    @pytest.mark.parametrize("days", [(FAULTY,), (QUIET, NEXT)])
    def test_are_the_loaders(self, market: Market, load, days):
        """In SQL a macro of the loader's name has its rows, for an id as for a list of ids."""
        id_ = market.instrument.id
        expected = load(id_, *days, data_dir=market.data_dir).collect()
        assert not expected.is_empty()
        last = f", last_day := '{days[-1]}'" if days[1:] else ""
        with connect(market.data_dir) as connection:
            for ids in (f"'{id_}'", f"['{id_}', 'SIMULATED:NONE']"):
                rows = connection.sql(f"FROM {load.__name__}({ids}, DATE '{days[0]}'{last})").pl()
                assert_frame_equal(expected, rows, check_row_order=False)

    def test_take_their_choice(self, market: Market):
        """Rows that are not valid come on request, and bars of one width."""
        id_, asked = market.instrument.id, {"data_dir": market.data_dir}
        every = load_bbo(id_, FAULTY, valid_only=False, **asked).collect().height
        wide = load_bars(id_, FAULTY, width_seconds=3_600, **asked).collect().height
        minutes = load_metrics(id_, FAULTY, interval_seconds=60, **asked).collect().height
        assert (24, 1_440) == (wide, minutes)
        with connect(market.data_dir) as connection:
            for macro, expected in (
                (f"load_bbo('{id_}', '{FAULTY}', valid_only := false)", every),
                (f"load_bars('{id_}', '{FAULTY}', width_seconds := 3600)", wide),
                (f"load_metrics('{id_}', '{FAULTY}', interval_seconds := 60)", minutes),
            ):
                assert [(expected,)] == connection.sql(f"SELECT count(*) FROM {macro}").fetchall()

    @pytest.mark.parametrize(("seconds", "ticks"), [(60, 1), (600, 7)])
    @pytest.mark.parametrize("confirmed_only", [False, True])
    def test_depth_by_time_and_price(self, market: Market, seconds, ticks, confirmed_only):
        """The macro of depth has the cells of the function, in its order, also by a step of 7.0."""
        id_, only = market.instrument.id, {"confirmed_only": confirmed_only}
        steps = {"every_seconds": seconds, "step_ticks": ticks}
        expected = depth_matrix(id_, FAULTY, **steps, **only, data_dir=market.data_dir).collect()
        with connect(market.data_dir) as connection:
            found = connection.sql(
                f"FROM depth_matrix('{id_}', '{FAULTY}', every_seconds := {seconds}, "
                f"step_ticks := {float(ticks)}, confirmed_only := {confirmed_only})"
            ).pl()
        assert found.height > 1_000
        assert_frame_equal(expected, found)

    @pytest.mark.parametrize("valid_only", [False, True])
    def test_quotes_at_given_times(self, market: Market, valid_only: bool):
        """The macro has what the function has: over a silence, between days, before any book."""
        id_, ns = market.instrument.id, 10**9
        begin_ns = int(datetime(2025, 3, 2, 23, tzinfo=UTC).timestamp()) * ns
        at_ns = [*range(begin_ns, begin_ns + 26 * 3_600 * ns, 97 * ns + 1), begin_ns, begin_ns]
        asked = {"valid_only": valid_only, "max_age_seconds": 30.0}
        where = {"data_dir": market.data_dir, "missing": "skip"}
        expected = asof_quotes(id_, at_ns, **asked, **where).collect()
        with connect(market.data_dir) as connection:
            found = connection.sql(
                f"FROM asof_quotes(['{id_}', '{id_}'], {at_ns}, valid_only := {valid_only}, "
                "max_age_seconds := 30)"
            ).pl()
        assert 0 < expected["bid_price"].null_count() < expected.height
        assert {int(BookFlag.GAP), int(BookFlag.STALE)} <= {
            each & bit
            for each in expected["flags"].drop_nulls()
            for bit in (int(BookFlag.GAP), int(BookFlag.STALE))
        }
        assert_frame_equal(expected, found)

    @pytest.mark.parametrize(
        "step",
        ["every_seconds := 0", "every_seconds := NULL", "step_ticks := 2.5", "step_ticks := NULL"],
    )
    def test_depth_of_no_step(self, market: Market, step):
        """A step of nothing is refused, and one of part of a tick, whose prices would be wrong."""
        with (
            connect(market.data_dir) as connection,
            pytest.raises(duckdb.InvalidInputException, match="above 0"),
        ):
            connection.sql(f"FROM depth_matrix('{market.instrument.id}', '{FAULTY}', {step})").pl()

    def test_events(self, market: Market):
        """The published events of a day are those that the function makes of its raw rows."""
        id_, span = market.instrument.id, (f"{QUIET}T00:00:00Z", f"{NEXT}T00:00:00Z")
        expected = pl.DataFrame(events(id_, *span, data_dir=market.data_dir).read_all())
        with connect(market.data_dir) as connection:
            found = connection.sql(f"FROM events('{id_}', '{QUIET}')").pl()
        assert found.height > 4_000
        assert_frame_equal(expected, found, check_dtypes=False, categorical_as_str=True)


class TestTrades:
    def test_of_an_instrument_named_twice(self, market: Market):
        """An instrument that is named twice is there once, with its days in order."""
        id_ = market.instrument.id
        rows = load_trades([id_, id_], QUIET, NEXT, data_dir=market.data_dir, valid_only=False)
        days = [market.published("trades", day) for day in (QUIET, NEXT)]

        assert pl.concat(days).equals(rows.collect())

    def test_valid_rows(self, market: Market):
        """Only trades with a valid book are left: none within the silence, none before the book."""
        rows = load_trades(market.instrument.id, FAULTY, data_dir=market.data_dir)
        every = market.published("trades")
        flags = every["flags"].fill_null(int(INVALIDATING)).to_numpy()
        valid = every.filter(pl.Series(flags & int(INVALIDATING) == 0))

        assert 0 < valid.height < every.height
        assert valid.equals(rows.collect())

    def test_the_silence_of_a_gap(self, market: Market):
        """Every trade within two hours without a message is flagged, whatever the last row says."""
        nine_ns = int(datetime(2025, 3, 3, 9, tzinfo=UTC).timestamp()) * 10**9
        within = pl.col("ts_receipt_ns").is_between(nine_ns + 10**11, nine_ns + 7 * 10**12)
        rows = market.published("trades").filter(within)

        assert rows.height > 100
        assert (rows["flags"].to_numpy() & int(BookFlag.GAP)).all()
        assert not rows["verified"].any()
        assert rows["book_age_ns"].max() > 6 * 10**12

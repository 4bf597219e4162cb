from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from market_pipeline import asof_quotes, depth_matrix
from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.errors import DomainError, MissingDataError
from market_pipeline_tests.notebook.conftest import FAULTY, MISSING, NEXT, QUIET, Market

pytestmark = pytest.mark.slow

_NO_TIME = BookFlag.BAD_TS_RECEIPT | BookFlag.OUTSIDE_DAY


def instant_ns(day, hour: int, minute: int = 0) -> int:
    return int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC).timestamp()) * 10**9


def naive_quotes(market: Market, at_ns: list[int], days) -> list[dict]:
    """The last sound message received at or before each time, by reading all rows for each."""
    rows = [row for day in days for row in market.published("book_bbo", day).to_dicts()]
    spans = [row for day in days for row in market.published("book_intervals", day).to_dicts()]
    found = []
    for time_ns in at_ns:
        clock_ns, last = 0, None
        for row in rows:
            if not row["flags"] & int(_NO_TIME):
                clock_ns = max(clock_ns, row["ts_receipt_ns"])
            if clock_ns and clock_ns <= time_ns:
                last = dict(row, age_ns=time_ns - clock_ns)
        if last is None:
            found.append({"ts_asof_ns": time_ns})
            continue
        for span in spans:
            speaks = span["invalidates"] and (span["cause"] == "GAP" or span["messages"] == 0)
            if speaks and span["start_ns"] <= time_ns < span["end_ns"]:
                last["flags"] |= int(BookFlag[span["cause"]])
                last["verified"] = False
        last["flags"] |= int(BookFlag.STALE) if last["age_ns"] > 60 * 10**9 else 0
        found.append(last | {"ts_asof_ns": time_ns})
    return found


class TestAsofQuotes:
    def test_every_kind_of_time(self, market: Market):
        """On, before, after and between messages, within a gap too, it is the naive row."""
        stamps = market.published("book_bbo")["ts_receipt_ns"].to_list()
        drawn = np.random.default_rng(3).integers(stamps[0], stamps[-1], 60).tolist()
        at_ns = [*stamps[::400], *(stamp - 1 for stamp in stamps[::700]), *drawn]
        at_ns += [stamps[0] - 1, stamps[-1] + 5 * 10**9, stamps[-1] + 10**11]
        at_ns += [instant_ns(FAULTY, 9, 1), instant_ns(FAULTY, 10), instant_ns(FAULTY, 10, 59)]
        quotes = asof_quotes(
            market.instrument.id,
            at_ns,
            valid_only=False,
            data_dir=market.data_dir,
            missing="skip",
        ).collect()
        for expected, row in zip(
            naive_quotes(market, at_ns, [FAULTY]), quotes.to_dicts(), strict=True
        ):
            del row["exchange"], row["symbol"]
            assert {name: expected.get(name) for name in row} == row

    def test_no_quote_where_the_book_is_not_valid(self, market: Market):
        """Without a word prices are null within a gap and where flagged, and what it was stays."""
        at_ns = [instant_ns(FAULTY, hour, 30) for hour in range(24)]
        asked = {"data_dir": market.data_dir, "at": at_ns}
        every = asof_quotes(market.instrument.id, valid_only=False, **asked).collect()
        valid = asof_quotes(market.instrument.id, **asked).collect()
        is_valid = every["flags"].to_numpy() & int(INVALIDATING) == 0
        assert 0 < is_valid.sum() < 24
        assert not is_valid[9]  # within the silence
        assert every.filter(is_valid).equals(valid.filter(is_valid))
        assert (
            valid.filter(~is_valid)["bid_price", "ask_size_lots"].null_count().row(0)
            == (int((~is_valid).sum()),) * 2
        )
        assert every["flags"].equals(valid["flags"])

    def test_each_way_to_say_a_time(self, market: Market):
        """Text, datetimes, integers, arrays and series of either mean the same instants."""
        times = [datetime(2025, 3, 5, 12, tzinfo=UTC) + timedelta(minutes=n) for n in (3, 0, 7)]
        at_ns = [int(time.timestamp()) * 10**9 for time in times]
        ways = [times, [time.isoformat() for time in times], at_ns, np.array(at_ns)]
        ways += [pl.Series(at_ns), pl.Series(times, dtype=pl.Datetime("us", "UTC"))]
        frames = [asof_quotes(market.instrument.id, way, data_dir=market.data_dir) for way in ways]
        first, *others = (frame.collect() for frame in frames)
        assert at_ns == first["ts_asof_ns"].to_list()
        assert all(first.equals(each) for each in others)

    def test_before_the_first_message_of_a_day(self, market: Market):
        """The last message of the day before goes on, where that day is published."""
        quiet = market.published("book_bbo", QUIET)["ts_receipt_ns"]
        next_ns = int(market.published("book_bbo", NEXT)["ts_receipt_ns"][0]) - 1
        asked = {"data_dir": market.data_dir, "valid_only": False}
        (row,) = asof_quotes(market.instrument.id, [next_ns], **asked).collect().to_dicts()
        assert quiet[-1] == row["ts_receipt_ns"]
        (none,) = (
            asof_quotes(market.instrument.id, [int(quiet[0]) - 1], **asked).collect().to_dicts()
        )
        assert (None, None, None) == (none["ts_receipt_ns"], none["flags"], none["age_ns"])

    def test_of_an_instrument_named_twice(self, market: Market):
        """An instrument has each time once, as asked for, and times as datetimes."""
        at = ["2025-03-05T12:00:00Z", "2025-03-05T11:00:00Z"]
        ids = [market.instrument.id] * 2
        rows = asof_quotes(ids, at, times="datetime", data_dir=market.data_dir).collect()
        expected = [datetime(2025, 3, 5, hour, tzinfo=UTC) for hour in (12, 11)]
        assert expected == rows["ts_asof"].to_list()

    @pytest.mark.parametrize(
        ("at", "error"),
        [
            ([], DomainError),
            (["2025-03-05T12:00:00"], DomainError),
            ([datetime(2025, 3, 5)], DomainError),  # noqa: DTZ001
            (pl.Series([datetime(2025, 3, 5)]), DomainError),  # noqa: DTZ001
            ([2**62 * 5], DomainError),
            (np.array([2**63], np.uint64), DomainError),
            (pl.Series([2**60, None]), DomainError),
            ("2025-03-05T12:00:00Z", DomainError),
            (np.int64(2**60), DomainError),
            ([f"{MISSING}T12:00:00Z"], MissingDataError),
        ],
    )
    def test_what_is_no_time(self, market: Market, at, error):
        """What is no instant, and a day that is not published, is refused at once."""
        with pytest.raises(error):
            asof_quotes(market.instrument.id, at, data_dir=market.data_dir)


def naive_matrix(rows: pl.DataFrame, every_ns: int, step_ticks: int) -> dict:
    """Cells by interval, side and price, each level added by hand."""
    last = {}
    for row in rows.to_dicts():
        if not row["flags"] & int(INVALIDATING):
            last[row["ts_receipt_ns"] // every_ns * every_ns] = row
    cells: dict = {}
    for start_ns, row in last.items():
        for side in ("bid", "ask"):
            for level in range(20):
                ticks = row[f"{side}_{level}_price_ticks"]
                if ticks is not None:
                    key = (start_ns, ticks // step_ticks * step_ticks, side == "bid")
                    cells[key] = cells.get(key, 0.0) + row[f"{side}_{level}_size"]
    return cells


class TestDepthMatrix:
    @pytest.mark.parametrize(("every_seconds", "step_ticks"), [(60.0, 1), (600.0, 7)])
    def test_the_cells(self, market: Market, every_seconds, step_ticks):
        """Each cell is the sum of its levels in the interval's last valid depth, and no other."""
        matrix = depth_matrix(
            market.instrument.id,
            FAULTY,
            every_seconds=every_seconds,
            step_ticks=step_ticks,
            data_dir=market.data_dir,
        ).collect()
        rows = market.published("book_depth")
        expected = naive_matrix(rows, int(every_seconds * 1e9), step_ticks)
        found = {
            (row["ts_interval_ns"], row["price_ticks"], row["is_bid"]): row["size"]
            for row in matrix.to_dicts()
        }
        assert expected == pytest.approx(found)
        assert sorted(expected) == list(found)
        assert matrix["price"].to_list() == [ticks / 10 for ticks in matrix["price_ticks"]]

    @pytest.mark.parametrize(
        "wrong",
        [{"every_seconds": 0}, {"every_seconds": math.nan}, {"step_ticks": 0}, {"step_ticks": 2.5}],
        ids=str,
    )
    def test_no_length(self, market: Market, wrong):
        """A step without a length, or of part of a tick, is refused by its name."""
        with pytest.raises(DomainError, match=next(iter(wrong))):
            depth_matrix(market.instrument.id, FAULTY, data_dir=market.data_dir, **wrong)

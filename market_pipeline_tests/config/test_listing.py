from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from market_pipeline.config.instruments import Instrument, listed_on, load_instruments
from market_pipeline.errors import InstrumentsError

DAY = date(2024, 3, 5)
MIDNIGHT = datetime(2024, 3, 5, tzinfo=UTC)
HOURS = st.integers(-72, 96).map(lambda hours: MIDNIGHT + timedelta(hours=hours))


def listed(begin: object = None, end: object = None, symbol: str = "BTC-USDT") -> Instrument:
    """An instrument that is listed from and up to a time."""
    return Instrument(
        venue="BINANCE", symbol=symbol, source="simulated", listed=begin, delisted=end
    )


def loaded(file: Path, more: str) -> Instrument:
    """An instrument as a file with one more key states it."""
    entry = f"{{venue: BINANCE, symbol: BTC-USDT, source: crypto_lake, {more}}}"
    file.write_text(f"instruments:\n  - {entry}\n")
    (read,) = load_instruments(file)
    return read


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-03-05", MIDNIGHT),
        ("2024-03-05T08:00:00Z", MIDNIGHT + timedelta(hours=8)),
        ("2024-03-05 08:00:00+00:00", MIDNIGHT + timedelta(hours=8)),
        ("2024-03-05T01:30:00.25+08:00", MIDNIGHT - timedelta(hours=6, minutes=30, seconds=-0.25)),
    ],
)
def test_times(tmp_path, text, time):
    """A day is its beginning; a time in any zone is the same instant of UTC."""
    read = loaded(tmp_path / "instruments.yaml", f"listed: {text}")

    assert (time, UTC) == (read.listed, read.listed.tzinfo)


@pytest.mark.parametrize("text", ["2024-03-05T08:00:00", "05.03.2024", "yes", "1709625600", "[]"])
def test_no_time(tmp_path, text):
    """A time without its zone, another order, and what is no time are refused with the rule."""
    with pytest.raises(InstrumentsError) as caught:
        loaded(tmp_path / "instruments.yaml", f"delisted: {text}")

    assert "(BINANCE:BTC-USDT).delisted: expected a day written YYYY-MM-DD" in caught.value.found


@pytest.mark.parametrize(
    "text",
    ["9999-12-31", "9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00", "2262-01-01"],
)
def test_no_time_in_ns(tmp_path, text):
    """A time that is no number of ns in 64 bits, as reports have it, is refused."""
    with pytest.raises(InstrumentsError) as caught:
        loaded(tmp_path / "instruments.yaml", f"delisted: {text}")

    assert "delisted: expected a year from 1679 to 2261" in caught.value.found


@pytest.mark.parametrize("end", [MIDNIGHT, MIDNIGHT - timedelta(days=1)])
def test_delisted_first(end):
    """An instrument that is delisted no later than it is listed is refused."""
    with pytest.raises(ValidationError, match="delisted is not after listed"):
        listed(MIDNIGHT, end)


@given(st.none() | HOURS, st.none() | HOURS, HOURS)
def test_the_part_of_a_day(begin, end, instant):
    """An instant of the day lies in it exactly if it is not before `listed` and before `delisted`.

    It never reaches beyond the day, and where nothing is stated it is the day.
    """
    if begin and end and end <= begin:
        begin, end = end, None
    instrument = listed(begin, end)
    first, after = instrument.listed_within(DAY)
    in_day = MIDNIGHT <= instant < MIDNIGHT + timedelta(days=1)
    is_listed = (begin is None or instant >= begin) and (end is None or instant < end)

    assert (in_day and is_listed) == (first <= instant < after)
    assert MIDNIGHT <= first <= after <= MIDNIGHT + timedelta(days=1)
    assert instrument.is_listed_on(DAY) == (first < after)
    if begin is end is None:
        assert timedelta(days=1) == after - first


def test_the_last_day_there_is():
    """The calendar's end is no error."""
    assert not listed(end="2024-01-01").is_listed_on(date(9999, 12, 30))


def test_of_several():
    """Those that a day is expected of, in their order."""
    old, new = listed(end="2024-03-05", symbol="OLD"), listed("2024-03-05T23:00:00Z", symbol="NEW")
    always = listed(symbol="ALWAYS")

    assert (always, new) == listed_on(DAY, [old, always, new])
    assert (old, always) == listed_on(DAY - timedelta(days=1), [old, always, new])

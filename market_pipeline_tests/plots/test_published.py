from __future__ import annotations

import pytest

from market_pipeline import plot_day
from market_pipeline.errors import DomainError, MissingDataError
from market_pipeline_tests.pages.conftest import BROKEN, DAY, FAULTY, GOOD, days, published
from market_pipeline_tests.plots.pictures import texts

__all__ = ["days", "published"]


@pytest.fixture
def data_dir(published):
    return published.settings.data_dir


def test_a_day_is_the_plot_of_the_report_page(days, data_dir):
    """Notebook and page show the same picture, whether the day is given as a date or as text."""
    on_page = {day.row.instrument_id: day.day_svg for day in days}

    for day in (DAY, str(DAY)):
        assert on_page[FAULTY.id] == plot_day(FAULTY.id, day, data_dir=data_dir).as_inline()
    assert on_page[GOOD.id] == plot_day(GOOD.id, DAY, data_dir=data_dir).as_inline()


def test_a_part_of_a_day(data_dir):
    """Only what lies in it is drawn: its times, and the causes of its spans."""
    within = plot_day(
        FAULTY.id, DAY, start=f"{DAY}T09:50:00Z", end=f"{DAY}T10:10:00Z", data_dir=data_dir
    )
    before = plot_day(FAULTY.id, DAY, end=f"{DAY}T09:00:00Z", data_dir=data_dir)
    seen = set(texts(within.as_inline()))

    assert {"GAP", "09:50", "10:10"} <= seen
    assert set() == {"09:00", "00:00"} & seen
    assert "GAP" not in texts(before.as_inline())


def test_a_part_without_a_message_says_so(data_dir):
    """Inside a gap there is nothing to draw, and the picture says it."""
    inside = plot_day(
        FAULTY.id, DAY, start=f"{DAY}T10:10:00Z", end=f"{DAY}T10:20:00Z", data_dir=data_dir
    )

    assert {"GAP", "no valid quote of two sides"} <= set(texts(inside.as_inline()))


@pytest.mark.parametrize(
    ("instrument", "day", "found"),
    [
        (BROKEN.id, DAY, rf"no {DAY} \(quarantined\)"),
        ("SIMULATED:NONE", DAY, "books.bbo has nothing of SIMULATED:NONE"),
        (GOOD.id, "2001-01-01", "no 2001-01-01"),
        ("'; DROP", DAY, "books.bbo has nothing of '; DROP"),
    ],
)
def test_what_is_not_published(data_dir, instrument, day, found):
    """A day that was not rebuilt and one that nobody has are refused as the loaders refuse them."""
    with pytest.raises(MissingDataError, match=found):
        plot_day(instrument, day, data_dir=data_dir)


def test_no_day(data_dir):
    """What is no day is refused with what would be one."""
    with pytest.raises(DomainError, match=r"`day` is no day.*text as 2024-08-08"):
        plot_day(GOOD.id, "someday", data_dir=data_dir)


def test_wrong_times(data_dir):
    """An end before the start, and a time that is none, are refused."""
    times = [("12:00:00Z", "11:00:00Z"), ("12:00:00Z", "12:00:00Z"), ("noon", "13:00:00Z")]
    for start, end in times:
        with pytest.raises(DomainError):
            plot_day(GOOD.id, DAY, start=f"{DAY}T{start}", end=f"{DAY}T{end}", data_dir=data_dir)

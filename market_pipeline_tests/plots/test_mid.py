from __future__ import annotations

from pathlib import Path

import pytest

from market_pipeline.books.tables import BBO
from market_pipeline.plots.drawing import ACCENT
from market_pipeline.plots.mid import mid_plot
from market_pipeline_tests.plots.day_files import DAY, quote, write_parts
from market_pipeline_tests.plots.pictures import paths, stretches, texts


@pytest.fixture
def half_an_hour(tmp_path: Path) -> list[Path]:
    """Quotes of thirty minutes from one o'clock, of which ten are missing."""
    minutes = [60 + minute for minute in range(30) if not 10 <= minute < 20]
    return write_parts(tmp_path, BBO, [quote(60 * m, 100.0 + m, 101.0 + m) for m in minutes])


@pytest.fixture
def nothing(tmp_path: Path) -> list[Path]:
    """A day without a valid quote."""
    folder = tmp_path / "nothing"
    folder.mkdir()
    return write_parts(folder, BBO, [quote(1, None, None, 1)])


def test_two_panels_for_each_instrument(half_an_hour):
    """Mid and spread of each instrument are beside each other, instruments by name."""
    seen = texts(mid_plot(DAY, {"SIMULATED:A$1<$-USD": half_an_hour, "BINANCE:B": half_an_hour}))
    first, second = seen["BINANCE:B: mid"], seen["SIMULATED:A$1<$-USD: mid"]

    assert (first[0], True) == (second[0], first[1] < second[1])
    assert (True, second[1]) == (second[0] < seen["spread"][0], seen["spread"][1])


def test_part_of_a_day(half_an_hour):
    """Of a day that is covered in little only that part is shown, with the hole in it."""
    svg = mid_plot(DAY, {"BINANCE:B": half_an_hour})
    mid, spread = (stretches(path) for path in paths(svg, stroke=ACCENT, stroke_width="1"))

    assert {"01:00", "01:05", "01:30"} <= set(texts(svg))
    assert (2, 2) == (len(mid), len(spread))


def test_first_six_instruments(half_an_hour):
    """Of more than six instruments the first six by name are shown."""
    names = [f"BINANCE:{letter}" for letter in "GFEDCBA"]
    seen = texts(mid_plot(DAY, dict.fromkeys(names, half_an_hour)))

    assert [f"BINANCE:{letter}: mid" for letter in "ABCDEF"] == [
        text for text in seen if text.endswith(": mid")
    ]


def test_nothing_valid(nothing, half_an_hour):
    """A day without a valid quote is shown as such, alone or among others."""
    alone = texts(mid_plot(DAY, {"BINANCE:A": nothing}))
    among = texts(mid_plot(DAY, {"BINANCE:A": nothing, "BINANCE:B": half_an_hour}))

    assert {"no valid quote of two sides", "24:00"} <= set(alone)
    assert {"no valid quote of two sides", "01:30"} <= set(among)


def test_same_bytes_again(half_an_hour):
    """The same day is drawn to the same bytes."""
    files = {"BINANCE:B": half_an_hour}

    assert mid_plot(DAY, files) == mid_plot(DAY, files)

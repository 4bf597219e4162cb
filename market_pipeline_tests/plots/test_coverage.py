from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from matplotlib.colors import to_rgb

from market_pipeline.plots.colours import CONDITIONS, LETTERS
from market_pipeline.plots.coverage import coverage_plot

START, END = date(2024, 8, 1), date(2024, 8, 5)
NAMES = ["BINANCE:BTC-USDT", "SIMULATED:A$1$-USD"]
VERDICTS = {
    (NAMES[0], START): ("available", 1.0),
    (NAMES[0], START + timedelta(days=1)): ("degraded", 0.5),
    (NAMES[0], START + timedelta(days=3)): ("missing", None),
    (NAMES[1], START + timedelta(days=2)): ("pending", None),
    (NAMES[1], START + timedelta(days=4)): ("degraded", 0.0),
    (NAMES[1], END + timedelta(days=1)): ("available", 1.0),
}


@pytest.fixture
def coverage() -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "exchange": name.split(":")[0],
                "symbol": name.split(":")[1],
                "dt": day,
                "condition": condition,
                "valid_share": share,
            }
            for (name, day), (condition, share) in VERDICTS.items()
        ]
    )


def test_cells_are_the_verdicts(coverage):
    """Each verdict in the range has its cell: the condition's colour, paler with less valid time.

    Cells without a verdict are grey.
    """
    (axis,) = coverage_plot(coverage, START, END).axes
    cells = np.asarray(axis.images[0].get_array())
    grey = cells[0, 2]

    assert (2, 5) == cells.shape[:2]
    assert NAMES == [label.get_text() for label in axis.get_yticklabels()]
    for row, name in enumerate(NAMES):
        for column in range(5):
            condition, share = VERDICTS.get((name, START + timedelta(days=column)), (None, None))
            if condition is None:
                assert tuple(grey) == tuple(cells[row, column])
                continue
            strength = 1.0 if share is None else 0.35 + 0.65 * share
            shade = 1 - strength * (1 - np.array(to_rgb(CONDITIONS[condition])))
            np.testing.assert_allclose(shade, cells[row, column])


def test_letters_say_it_without_colour(coverage):
    """Every cell that is not available has its letter."""
    (axis,) = coverage_plot(coverage, START, END).axes
    written = {
        (round(text.get_position()[1]), round(text.get_position()[0])): text.get_text()
        for text in axis.texts
    }

    assert {
        (0, 1): LETTERS["degraded"],
        (0, 3): LETTERS["missing"],
        (1, 2): LETTERS["pending"],
        (1, 4): LETTERS["degraded"],
    } == written


def test_legend_names_every_condition(coverage):
    """The legend has every condition, what is not validated, and what a pale cell means."""
    (legend,) = coverage_plot(coverage, START, END).legends
    told = [text.get_text() for text in legend.get_texts()]

    assert [
        *("available", "d degraded", "p pending", "M missing"),
        *("not validated", "paler: less of the day is valid"),
    ] == told


def test_nothing_validated(coverage, tmp_path):
    """Without a single row there is a picture too."""
    coverage_plot(coverage.clear(), START, END).savefig(tmp_path / "empty.png")

    assert (tmp_path / "empty.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (date(2024, 7, 30), date(2024, 8, 2), ["30", "31", "Aug 2024\n1", "2"]),
        (date(2024, 7, 20), date(2024, 7, 22), ["Jul 2024\n20", "21", "22"]),
        (date(2024, 1, 1), date(2024, 3, 31), ["Jan 2024\n1", "Feb 2024\n1", "Mar 2024\n1"]),
    ],
)
def test_days_are_named(coverage, start, end, expected):
    """Every day has its number, of many days only the first of a month; each month has its name."""
    (axis,) = coverage_plot(coverage, start, end).axes

    assert expected == [label.get_text() for label in axis.get_xticklabels()]

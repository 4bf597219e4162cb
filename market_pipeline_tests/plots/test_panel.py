from __future__ import annotations

import numpy as np
import pytest

from market_pipeline.plots.drawing import Drawing
from market_pipeline.plots.panel import Panel, round_ticks, time_ticks
from market_pipeline.plots.window import Window
from market_pipeline_tests.plots.day_files import SECOND_NS, START_NS
from market_pipeline_tests.plots.pictures import stretches, texts

PANEL = Panel(50, 10, 200, 100, (0, 24), (100, 200))


def test_positions():
    """The ends of both ranges are at the sides; higher values are higher up."""
    assert [50, 150, 250] == PANEL.x(np.array([0, 12, 24])).tolist()
    assert [110, 60, 10] == PANEL.y(np.array([100, 150, 200])).tolist()


def test_axes():
    """Each tick has its line across the panel, and its label beside that."""
    drawing = Drawing()
    PANEL.draw_axes(drawing, [(12.0, "noon")], [(150.0, "150")])
    svg = drawing.as_image(300, 130)
    grid = svg.partition('<path d="')[2].partition('"')[0]

    assert [[(150, 10), (150, 110)], [(50, 60), (250, 60)]] == stretches(grid)
    assert (150.0, 44.0) == (texts(svg)["noon"][0], texts(svg)["150"][0])


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (97_650, 98_390, 5, ["97800", "98000", "98200"]),
        (3_609, 3_656, 5, ["3610", "3620", "3630", "3640", "3650"]),
        (0, 2.7, 5, ["0", "1", "2"]),
        (-0.05, 0.12, 4, ["-0.05", "0.00", "0.05", "0.10"]),
        (0.0000123, 0.0000125, 4, ["0.0000123", "0.0000124", "0.0000125"]),
        (0, 1.1e-8, 4, ["0", "5E-9", "1E-8"]),
        (5e8, 2.1e9, 4, ["500000000", "1000000000", "1500000000", "2000000000"]),
    ],
)
def test_round_ticks(low: float, high: float, most: int, expected: list[str]):
    """Ticks are at multiples of 1, 2 or 5 times a power of ten, in full if there is room."""
    ticks = round_ticks(low, high, most)

    assert expected == [label for _, label in ticks]
    assert [float(label) for label in expected] == [value for value, _ in ticks]


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [
        (0, 86_400, ["00:00", "06:00", "12:00", "18:00", "24:00"]),
        (3_500, 7_300, ["01:00", "01:15", "01:30", "01:45", "02:00"]),
        (86_390, 86_400, ["23:59:50", "23:59:52", "23:59:54", "23:59:56", "23:59:58", "24:00:00"]),
        (59, 61, ["00:00:59", "00:01:00", "00:01:01"]),
    ],
)
def test_time_ticks(start_s: int, end_s: int, expected: list[str]):
    """Times are whole hours, minutes or seconds of the UTC day; its end is 24 o'clock."""
    window = Window(START_NS + start_s * SECOND_NS, START_NS + end_s * SECOND_NS)

    assert expected == [label for _, label in time_ticks(window, 6 * 42)]

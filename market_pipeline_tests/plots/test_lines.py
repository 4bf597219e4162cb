from __future__ import annotations

import polars as pl
import pytest

from market_pipeline.plots.drawing import ACCENT, Drawing
from market_pipeline.plots.lines import draw_quotes
from market_pipeline.plots.window import MINUTE_NS, Window
from market_pipeline_tests.plots.day_files import SECOND_NS, START_NS
from market_pipeline_tests.plots.pictures import paths, stretches, texts

WINDOW = Window(START_NS, START_NS + 86_400 * SECOND_NS)
BOX = (100.0, 10.0, 288.0, 100.0)
"""Ten minutes are two pixels, which are one point."""


def quotes(rows: list[tuple[int, float, float, float]]) -> pl.DataFrame:
    """Mid (last, lowest, highest) of some minutes; the spread is a hundredth."""
    return pl.DataFrame(
        [
            {
                "start_ns": START_NS + minute * MINUTE_NS,
                **dict(zip(("mid", "mid_low", "mid_high"), values, strict=True)),
                **dict(
                    zip(
                        ("spread", "spread_low", "spread_high"),
                        (value / 100 for value in values),
                        strict=True,
                    )
                ),
            }
            for minute, *values in rows
        ],
        schema={
            "start_ns": pl.Int64,
            **dict.fromkeys(
                ("mid", "mid_low", "mid_high", "spread", "spread_low", "spread_high"), pl.Float64
            ),
        },
    )


def drawn(rows: list[tuple[int, float, float, float]], name: str = "mid") -> str:
    drawing = Drawing()
    draw_quotes(drawing, BOX, quotes(rows), name, WINDOW)
    return drawing.as_image(400, 130)


def lines(svg: str) -> list[list[tuple[float, float]]]:
    (path,) = paths(svg, stroke=ACCENT, stroke_width="1")
    return stretches(path)


def bands(svg: str) -> list[list[tuple[float, float]]]:
    (path,) = paths(svg, fill=ACCENT)
    return stretches(path)


def test_places():
    """A value is at its time and height: the day from left to right, higher values higher up."""
    svg = drawn(
        [(minute, 100.0 + minute, 100.0 + minute, 100.0 + minute) for minute in range(1440)]
    )
    (line,) = lines(svg)
    noon = texts(svg)["12:00"]

    assert (101.0, 387.0) == (line[0][0], line[-1][0])
    assert 144 == len(line)
    assert sorted((y for _, y in line), reverse=True) == [y for _, y in line]
    assert 244.0 == noon[0]
    assert 10 < line[-1][1] < line[0][1] < 110


@pytest.mark.parametrize(("missing", "parts"), [(4, 1), (5, 2), (300, 2)])
def test_holes(missing: int, parts: int):
    """The line and the band break where five minutes or more are missing, and only there."""
    minutes = [minute for minute in range(1440) if not 600 <= minute < 600 + missing]
    svg = drawn([(minute, 1.0, 1.0, 2.0) for minute in minutes])

    assert (parts, parts) == (len(lines(svg)), len(bands(svg)))
    assert [] == [
        x
        for stretch in (*lines(svg), *bands(svg))
        for x, _ in stretch
        if parts == 2 and 100 + 600 / 5 + 2 < x < 100 + (600 + missing) / 5 - 2
    ]


def test_extremes_stay():
    """A single minute's lowest and highest are on the picture, however many minutes there are."""
    rows = [(minute, 100.0, 99.0, 101.0) for minute in range(1440)]
    rows[777] = (777, 100.0, 50.0, 150.0)
    (band,) = bands(drawn(rows))
    (lowest, highest) = (max(y for _, y in band), min(y for _, y in band))

    assert {(256.0 - 1, lowest), (256.0 - 1, highest)} <= set(band)
    assert (100 / 1.08, 3.7) == (
        pytest.approx(lowest - highest, abs=0.1),
        pytest.approx(highest - 10, abs=0.1),
    )


def test_single_minute_is_a_dot():
    """A minute without neighbours is drawn as a dot, because its line would have no length."""
    svg = drawn([(60, 5.0, 5.0, 5.0)])
    (dots,) = paths(svg, stroke=ACCENT, stroke_width="3")

    assert [(113.0, 60.0)] == [stretch[0] for stretch in stretches(dots)]


def test_spread_begins_at_zero():
    """A spread is shown from zero, or from below if it is negative."""
    from_zero = drawn([(minute, 7.0, 5.0, 9.0) for minute in range(9)], "spread")
    negative = drawn([(minute, 7.0, -5.0, 9.0) for minute in range(9)], "spread")

    assert 110 + 0.36 * 11 == pytest.approx(texts(from_zero)["0.00"][1], abs=0.1)
    assert "-0.05" in texts(negative)


@pytest.mark.parametrize(("value", "name"), [(5.0, "mid"), (0.0, "mid"), (0.0, "spread")])
def test_constant(value: float, name: str):
    """A value that never changes is a level line inside the panel."""
    ((begin, end),) = lines(drawn([(minute, *(value,) * 3) for minute in range(1440)], name))

    assert begin[1] == end[1]
    assert 10 <= begin[1] <= 110


@pytest.mark.parametrize("name", ["mid", "spread"])
def test_nothing_seen(name: str):
    """Without a quote the panel has its axis of time, and says that there is none."""
    svg = drawn([], name)

    assert {"no valid quote of two sides", "00:00", "24:00"} <= set(texts(svg))
    assert [] == [text for text in texts(svg) if text.replace(".", "").isdigit()]
    assert [] == paths(svg, stroke=ACCENT)

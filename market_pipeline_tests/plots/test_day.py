from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from decimal import Decimal
from pathlib import Path

import pytest

from market_pipeline.books.tables import BBO, DEPTH, INTERVALS
from market_pipeline.plots.colours import CAUSES, OTHER_CAUSE
from market_pipeline.plots.day import day_plot
from market_pipeline.plots.drawing import ACCENT
from market_pipeline.plots.samples import sampled_depth, sampled_quotes, shown_intervals
from market_pipeline.plots.window import Window
from market_pipeline_tests.plots.day_files import (
    SECOND_NS,
    START_NS,
    book,
    interval,
    quote,
    write_parts,
)
from market_pipeline_tests.plots.pictures import paths, stretches, texts

WINDOW = Window(START_NS, START_NS + 86_400 * SECOND_NS)
STEPS = {"tick": Decimal("0.1"), "lot": Decimal("0.001")}
LEFT, WIDTH = 142, 800
"""Of the panels, in pixels."""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, list[Path]]:
    """Five hours of quotes with a hole of an hour, a gap and crossed moments."""
    minutes = [minute for minute in range(300) if not 100 <= minute < 160]
    return {
        "bbo": write_parts(tmp_path, BBO, [quote(60 * m, 100.0 + m, 101.0 + m) for m in minutes]),
        "depth": write_parts(
            tmp_path, DEPTH, [book(60 * m, [(1000, 5)], [(1010, 7)]) for m in minutes]
        ),
        "intervals": write_parts(
            tmp_path,
            INTERVALS,
            [
                interval("LOCKED", 5, 6),
                interval("GAP", 6_000, 9_600),
                interval("CROSSED", 86_399, 86_400),
            ],
        ),
    }


def drawn(files: dict[str, list[Path]], window: Window = WINDOW, title: str = "a day") -> str:
    return day_plot(
        window,
        sampled_quotes(files["bbo"]),
        shown_intervals(files["intervals"]),
        sampled_depth(files["depth"]),
        **STEPS,
        title=title,
    ).as_inline()


def test_lines_break_where_nothing_was_seen(files):
    """Mid and spread have a hole where minutes without a quote are: nothing is drawn across it."""
    lines = [stretches(path) for path in paths(drawn(files), stroke=ACCENT, stroke_width="1")]
    ends = LEFT + 100 / 1440 * WIDTH, LEFT + 160 / 1440 * WIDTH

    assert [2, 2] == [len(line) for line in lines]
    for (*_, (before, _)), ((after, _), *_) in lines:
        assert (pytest.approx(ends[0], abs=2), pytest.approx(ends[1], abs=2)) == (before, after)


def test_a_lane_for_every_cause(files):
    """Each cause has a lane with its spans at their time, those that invalidate first.

    A second is seen too, also the last one of the day.
    """
    svg = drawn(files)
    seen = texts(svg)
    lanes = {
        cause: [
            (left, right)
            for (left, _), (right, _), *_ in stretches(
                paths(svg, fill=CAUSES.get(cause, OTHER_CAUSE))[0].replace("z", "")
            )
        ]
        for cause in ("CROSSED", "GAP", "LOCKED")
    }

    assert sorted(lanes, key=lambda cause: seen[cause][1]) == ["CROSSED", "GAP", "LOCKED"]
    assert {
        "CROSSED": [(LEFT + WIDTH - 1.2, LEFT + WIDTH)],
        "GAP": [(LEFT + 55.6, LEFT + 88.9)],
        "LOCKED": [(LEFT + 0.05, LEFT + 1.25)],
    } == {cause: [pytest.approx(each, abs=0.1) for each in lane] for cause, lane in lanes.items()}


def test_depth_is_at_its_time(files):
    """The picture of the depth is as wide as the window, and has a row for each distance."""
    svg = drawn(files)
    images = [
        {name: float(each.get(name, "")) for name in ("x", "width", "height")}
        for each in ET.fromstring(svg).iter("image")
    ]

    assert {"x": LEFT, "width": WIDTH, "height": 200} == images[0]
    assert {"size", "0.005", "UTC, receipt clock"} <= set(texts(svg))


def test_empty_day(tmp_path):
    """A day without valid quotes and without intervals says so instead of failing."""
    bbo = write_parts(tmp_path, BBO, [quote(1, None, None, 1)])
    depth = write_parts(tmp_path, DEPTH, [book(1, [(1, 1)], [], 1)])
    intervals = write_parts(tmp_path, INTERVALS, [])
    seen = texts(drawn({"bbo": bbo, "depth": depth, "intervals": intervals}))

    assert {
        *("none", "no valid quote of two sides"),
        "no valid book with two sides in books.depth",
    } <= set(seen)


def test_stands_alone_inside_a_page(files):
    """It is one well-formed element without ids that names no address outside it."""
    svg = drawn(files, title='A "day" & <more>')
    element = ET.fromstring(svg)
    outside = re.findall(r'(?:href|src)="(?!data:image/png;base64,)[^"]*', svg)

    assert ("svg", 'A "day" & <more>') == (element.tag, element.get("aria-label"))
    assert ([], []) == (outside, re.findall(r"https?://|\bid=", svg))


def test_same_bytes_again(files):
    """The same day is drawn to the same bytes."""
    assert drawn(files) == drawn(files)

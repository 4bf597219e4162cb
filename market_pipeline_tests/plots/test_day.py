from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from market_pipeline.books.tables import BBO, DEPTH, INTERVALS
from market_pipeline.plots.day import day_plot
from market_pipeline.plots.hours import hours_plot
from market_pipeline.plots.samples import sampled_depth, sampled_quotes, shown_intervals
from market_pipeline.plots.svg import ACCENT, INK, as_svg
from market_pipeline.plots.window import Window
from market_pipeline_tests.plots.day_files import (
    SECOND_NS,
    START_NS,
    book,
    interval,
    quote,
    write_parts,
)
from market_pipeline_tests.quality.factory import a_row

WINDOW = Window(START_NS, START_NS + 86_400 * SECOND_NS)
STEPS = {"tick": Decimal("0.1"), "lot": Decimal("0.001")}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, list[Path]]:
    """Half an hour of quotes with a hole of ten minutes, a gap and crossed moments."""
    minutes = [minute for minute in range(30) if not 10 <= minute < 20]
    return {
        "bbo": write_parts(tmp_path, BBO, [quote(60 * m, 100.0 + m, 101.0 + m) for m in minutes]),
        "depth": write_parts(
            tmp_path, DEPTH, [book(60 * m, [(1000, 5)], [(1010, 7)]) for m in minutes]
        ),
        "intervals": write_parts(
            tmp_path,
            INTERVALS,
            [interval("LOCKED", 5, 6), interval("GAP", 600, 1200), interval("CROSSED", 1300, 1301)],
        ),
    }


def drawn(files: dict[str, list[Path]]):
    return day_plot(
        WINDOW,
        sampled_quotes(files["bbo"]),
        shown_intervals(files["intervals"]),
        sampled_depth(files["depth"]),
        **STEPS,
    )


class TestDay:
    def test_line_breaks_where_nothing_was_seen(self, files):
        """The mid has a hole where minutes without a quote are: nothing is drawn across it."""
        mid, *_ = drawn(files).axes
        values = mid.lines[0].get_ydata()

        assert [10] == np.flatnonzero(np.isnan(values)).tolist()
        assert 21 == len(values)

    def test_a_lane_for_every_cause(self, files):
        """Each cause has a lane with its spans, those that invalidate first."""
        _, lanes, *_ = drawn(files).axes

        assert ["CROSSED", "GAP", "LOCKED"] == [text.get_text() for text in lanes.get_yticklabels()]
        assert 3 == len(lanes.collections)

    def test_empty_day(self, tmp_path):
        """A day without valid quotes and without intervals says so instead of failing."""
        bbo = write_parts(tmp_path, BBO, [quote(1, None, None, 1)])
        depth = write_parts(tmp_path, DEPTH, [book(1, [(1, 1)], [], 1)])
        intervals = write_parts(tmp_path, INTERVALS, [])
        svg = as_svg(drawn({"bbo": bbo, "depth": depth, "intervals": intervals}), "x", "x")

        assert [True, True] == [text in svg for text in (">none<", "no valid book with two sides")]


class TestHours:
    def test_draws_what_was_measured(self):
        """Hourly medians and counts are drawn; an hour without messages has no point."""
        hours = (3.5, None, *(2.0,) * 22)
        row = a_row(
            skew_p50_ms_per_hour=hours,
            snapshots_mismatched_per_hour=(0, 4, *(0,) * 22),
            snapshot_levels_differing_per_hour=None,
        )
        skew, failed, differing = hours_plot(row).axes

        assert np.isnan(skew.lines[0].get_ydata()[1])
        assert [0, 4] == [bar.get_height() for bar in failed.patches[:2]]
        assert ["not measured"] == [text.get_text() for text in differing.texts]


@pytest.mark.slow
class TestSvg:
    def test_stands_alone_inside_a_page(self, files):
        """It is one well-formed element that names no address, and takes on the page's colours."""
        svg = as_svg(drawn(files), "i1-day", 'A "day" & <more>')
        element = ET.fromstring(svg.replace("<svg ", '<svg xmlns:xlink="x" ', 1))
        outside = re.findall(r'(?:href|src)="(?!#|data:image/png;base64,)[^"]*', svg)

        assert ("svg", 'A "day" & <more>') == (element.tag, element.get("aria-label"))
        assert ([], []) == (outside, re.findall(r"https?://", svg))
        assert [] == [colour for colour in (INK, ACCENT) if colour in svg.lower()]
        assert "var(--ink)" in svg

    def test_ids_are_its_own(self, files):
        """Two plots on a page share no id, and each reference is to an id of its own plot."""
        one, two = (as_svg(drawn(files), name, name) for name in ("i1-day", "i2-day"))
        ids = [re.findall(r'\bid="([^"]*)"', svg) for svg in (one, two)]
        named = re.findall(r'(?:href="|url\()#([^")]*)', one)

        assert [len(set(each)) for each in ids] == [len(each) for each in ids]
        assert set() == set(ids[0]) & set(ids[1])
        assert set(named) <= set(ids[0])
        assert len(named) > 0

    def test_same_bytes_again(self, files):
        """The same day is drawn to the same bytes."""
        assert as_svg(drawn(files), "a", "t") == as_svg(drawn(files), "a", "t")

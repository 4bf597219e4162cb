from __future__ import annotations

from market_pipeline.plots.colours import CAUSES
from market_pipeline.plots.drawing import ACCENT
from market_pipeline.plots.hours import hours_plot
from market_pipeline_tests.plots.pictures import paths, stretches, texts
from market_pipeline_tests.quality.factory import a_row

NOTHING = {
    "skew_p50_ms_per_hour": None,
    "snapshots_mismatched_per_hour": None,
    "snapshot_levels_differing_per_hour": None,
}


def test_skew():
    """Hourly medians are drawn as points and a line; an hour without messages has neither."""
    hours = (3.5, 4.5, None, *(2.0,) * 21)
    svg = hours_plot(a_row(**NOTHING | {"skew_p50_ms_per_hour": hours}), "hours")
    lines = [stretches(path)[0] for path in paths(svg, stroke=ACCENT, stroke_width="1")]
    dots = [stretches(path)[0][0] for path in paths(svg, stroke=ACCENT, stroke_width="4")]

    assert 23 == len(dots)
    assert [dots[0], dots[1]] == lines[0]
    assert [dots[2], dots[-1]] == lines[1]
    assert dots[1][1] < dots[0][1] < dots[2][1]


def test_counts():
    """A count is a bar at its hour, twice as high for twice as many; no bar is none."""
    counts = (0, 4, 0, 8, *(0,) * 20)
    svg = hours_plot(a_row(**NOTHING | {"snapshots_mismatched_per_hour": counts}), "hours")
    bars = [
        stretches(path.removesuffix("z"))[0]
        for path in paths(svg, fill=CAUSES["SNAPSHOT_MISMATCH"])
    ]
    heights = [round(below[1] - above[1], 1) for above, _, below, _ in bars]

    assert (2, 2.0) == (len(bars), round(heights[1] / heights[0], 2))
    assert [each for each in texts(svg) if each in {"0", "2", "4", "6", "8"}]


def test_few_are_counted_in_whole_numbers():
    """The axis of a single mismatch has no fractions."""
    counts = (1, *(0,) * 23)
    seen = texts(hours_plot(a_row(**NOTHING | {"snapshots_mismatched_per_hour": counts}), "hours"))

    assert "1" in seen
    assert [] == [text for text in seen if "." in text and text[0].isdigit()]


def test_not_measured():
    """What was not measured says so; so do medians that are all null."""
    for medians in (None, (None,) * 24):
        svg = hours_plot(a_row(**NOTHING | {"skew_p50_ms_per_hour": medians}), "hours")

        assert 3 == svg.count("not measured")

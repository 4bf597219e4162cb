from __future__ import annotations

import pytest

from market_pipeline.plots.colours import CONDITIONS
from market_pipeline.plots.valid_time import valid_time_plot
from market_pipeline_tests.plots.pictures import paths, stretches, texts
from market_pipeline_tests.quality.factory import a_failed_row, a_row


def test_a_bar_for_each_row():
    """A bar is as long as the valid hours of its row, in the colour of its condition."""
    rows = [
        a_row(condition="available"),
        a_row(condition="degraded", valid_seconds=6 * 3600.0),
        a_failed_row(condition="missing"),
    ]
    svg = valid_time_plot(rows)
    bars = {
        condition: stretches(path.removesuffix("z"))[0]
        for condition, colour in CONDITIONS.items()
        for path in paths(svg, fill=colour)
    }
    seen = texts(svg)

    assert {"available": 480, "degraded": 120, "missing": 0} == {
        condition: pytest.approx(corners[1][0] - corners[0][0], abs=0.1)
        for condition, corners in bars.items()
    }
    assert ["24.000 h", "6.000 h", "0.000 h"] == [text for text in seen if text.endswith(" h")]
    assert (seen["0"][0], seen["24"][0]) == (
        pytest.approx(bars["available"][0][0], abs=0.1),
        pytest.approx(bars["available"][1][0], abs=0.1),
    )


def test_names_beside_their_bars():
    """Each bar has the instrument and its condition at its height, whatever the name is."""
    rows = [a_row(symbol="A"), a_row(symbol="<B&$1$>")]
    seen = texts(valid_time_plot(rows))
    names = [f"{row.instrument_id} ({row.condition})" for row in rows]

    assert [True, True] == [name in seen for name in names]
    assert 24 == seen[names[1]][1] - seen[names[0]][1]


def test_no_rows():
    """Without a row there are the axis and its hours."""
    assert {"0", "24", "valid hours of the UTC day"} <= set(texts(valid_time_plot([])))

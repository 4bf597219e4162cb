from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from market_pipeline.errors import SchemaError
from market_pipeline.plots.colours import CAUSES, LINES
from market_pipeline.plots.plot import Plot
from market_pipeline.plots.series import plot_series
from market_pipeline_tests.plots.pictures import paths, stretches, texts

LEFT, WIDTH, TOP, HEIGHT = 74, 880, 24, 120
"""Of the first panel, in pixels."""
SECOND_NS = 1_000_000_000
START_NS = round(datetime(2024, 8, 8, tzinfo=UTC).timestamp()) * SECOND_NS


def frame(values: list[float | None], every_s: int = 60) -> pl.DataFrame:
    """A row each minute."""
    at_ns = [START_NS + number * every_s * SECOND_NS for number in range(len(values))]
    return pl.DataFrame(
        {"ts_receipt_ns": at_ns, "value": values},
        schema={"ts_receipt_ns": pl.Int64, "value": pl.Float64},
    )


def span(cause: str, start_s: float, end_s: float, *, invalidates: bool = True) -> dict:
    return {
        "cause": cause,
        "invalidates": invalidates,
        "start_ns": START_NS + round(start_s * SECOND_NS),
        "end_ns": START_NS + round(end_s * SECOND_NS),
    }


def lines(plot: Plot, colour: str = LINES[0]) -> list[list[tuple[float, float]]]:
    (path,) = paths(plot.as_svg(), stroke=colour, stroke_width="1")
    return stretches(path)


def test_a_line_breaks_at_a_null():
    """Nothing is drawn from the value before a null or NaN to the one after it."""
    drawn = lines(
        plot_series(frame([1.0, 2.0, None, 3.0, 4.0, float("nan"), 5.0, 6.0]), {"v": "value"})
    )

    assert [2, 2, 2] == [len(each) for each in drawn]


def test_a_line_breaks_at_a_span_and_the_span_is_shaded():
    """A span that invalidates is shaded in its colour at its time, and the line breaks there."""
    spans = pl.DataFrame([span("GAP", 120, 180), span("LOCKED", 300, 360, invalidates=False)])
    plot = plot_series(frame([1.0] * 10), {"v": "value"}, spans=spans)
    (shade,) = paths(plot.as_svg(), fill=CAUSES["GAP"], fill_opacity="0.25")
    ((left, top), (right, _), (_, bottom), _) = stretches(shade.replace("z", ""))[0]

    assert 2 == len(lines(plot))
    assert [LEFT + 0.2 * WIDTH, LEFT + 0.3 * WIDTH] == pytest.approx([left, right], abs=0.1)
    assert (TOP, TOP + HEIGHT) == (top, bottom)
    assert {"GAP, 60.0 s"} == {text for text in texts(plot.as_svg()) if " s" in text}


def test_a_span_too_short_to_see_does_not_cut_the_line():
    """A day of thousands of crossed moments stays a line; each is shaded all the same."""
    spans = pl.DataFrame([span("CROSSED", 60 * number, 60 * number + 0.001) for number in range(9)])
    plot = plot_series(frame([1.0] * 10), {"v": "value"}, spans=spans)

    assert 1 == len(lines(plot))
    assert 9 == len(paths(plot.as_svg(), fill=CAUSES["CROSSED"], fill_opacity="0.25"))


def test_spans_outside_are_cut_off():
    """What lies before the first and after the last row is neither shaded nor counted."""
    spans = pl.DataFrame(
        [span("GAP", -900, -300), span("STALE", -60, 30), span("GAP", 9_000, 9_060)]
    )
    seen = texts(plot_series(frame([1.0] * 10), {"v": "value"}, spans=spans).as_svg())

    assert ["STALE, 30.0 s"] == [text for text in seen if " s" in text]


def test_bars_reach_from_zero_to_the_next_row():
    """A bar begins at its row's time and at zero; a negative one hangs below."""
    plot = plot_series(frame([10.0, -10.0, 0.0, 5.0]), {"flow": "value"}, bars=["value"])
    (path,) = [each for each in paths(plot.as_svg(), fill=LINES[0]) if each]
    bars = [[*dict.fromkeys(bar)] for bar in stretches(path.replace("z", ""))]
    zero = TOP + HEIGHT / 2

    assert [LEFT, LEFT + 0.25 * WIDTH, LEFT + 0.75 * WIDTH] == pytest.approx(
        [b[0][0] for b in bars]
    )
    assert [zero, zero] == pytest.approx([bars[0][2][1], bars[1][0][1]], abs=6)
    assert bars[0][0][1] < bars[2][0][1] < zero < bars[1][2][1]


def test_each_column_of_a_panel_is_named_beside_its_colour():
    """Two columns have two colours, both named; one column is named by the title."""
    data = frame([1.0, 2.0, 3.0]).with_columns(other=pl.col("value") * 2)
    svg = plot_series(data, {"both, USDT": ["value", "other"], "alone": "other"}).as_svg()

    assert {"both, USDT", "value", "other", "alone", "UTC, ts_receipt"} <= set(texts(svg))
    swatches = [
        [each for each in paths(svg, stroke=c, stroke_width="3") if each] for c in LINES[:2]
    ]
    assert [1, 1] == [len(each) for each in swatches]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_may_be_datetimes(unit):
    """Datetimes of any unit, with or without a zone, are drawn as the integers are."""
    whole = frame([1.0, 5.0, 2.0])
    time = pl.from_epoch("ts_receipt_ns", "ns").cast(pl.Datetime(unit))
    plain = whole.select("value", ts_receipt=time)
    zoned = plain.with_columns(pl.col("ts_receipt").dt.replace_time_zone("UTC"))
    drawn = {plot_series(each, {"v": "value"}).as_svg() for each in (whole, plain, zoned)}

    assert 1 == len(drawn)


@pytest.mark.parametrize("values", [[], [None, None], [7.0], [1e300, -1e300], [3.0, 3.0]])
def test_any_values(values):
    """No row, no value, one, huge and equal ones are drawn; where there is none it says so."""
    seen = texts(plot_series(frame(values), {"中文 <&>": "value"}).as_svg())

    assert ("中文 <&>" in seen, "no value" in seen) == (True, not any(values))


def test_a_wrong_column_is_named():
    """A column that is not there, or no time, is a SchemaError that says which."""
    with pytest.raises(SchemaError, match=r"valeu.*did you mean value"):
        plot_series(frame([1.0]), {"v": "valeu"})
    with pytest.raises(SchemaError, match="ts_origin"):
        plot_series(frame([1.0]), {"v": "value"}, time="ts_origin_ns")
    with pytest.raises(SchemaError, match="integers or datetimes"):
        plot_series(frame([1.0]), {"v": "value"}, time="value")

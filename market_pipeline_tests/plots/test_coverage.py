from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import date, timedelta

import polars as pl
import pytest

from market_pipeline.plots.colours import CONDITIONS, LETTERS
from market_pipeline.plots.coverage import coverage_plot
from market_pipeline_tests.plots.pictures import paths, stretches, texts

CELL = (11, 18)
"""Width and height in pixels."""
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
                "expected_seconds": 86_400.0,
            }
            for (name, day), (condition, share) in VERDICTS.items()
        ]
    )


def cells(svg: str) -> dict[str, set[tuple[float, float]]]:
    """By colour the upper left corners of its cells, neighbours in one piece included."""
    return {
        each.get("fill", ""): {
            (left + column * CELL[0], top)
            for (left, top), (right, _), *_ in stretches(each.get("d", "").replace("z", ""))
            for column in range(round((right - left) / CELL[0]))
        }
        for each in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}path")
        if f"v{CELL[1]}h" in each.get("d", "")
    }


def shade(condition: str, share: float | None) -> str:
    """The condition's colour mixed with white."""
    strength = 1.0 if share is None else 0.35 + 0.65 * share
    parts = bytes.fromhex(CONDITIONS[condition][1:])
    return "#" + bytes(round(255 - strength * (255 - part)) for part in parts).hex()


def test_cells_are_the_verdicts(coverage):
    """Each verdict in the range has its cell: the condition's colour, paler with less valid time.

    Cells without a verdict show the ground.
    """
    svg = coverage_plot(coverage, START, END)
    ground = stretches(paths(svg, fill="#ececec")[0].removesuffix("z"))[0]
    left, top = ground[0]
    expected: dict[str, set[tuple[float, float]]] = {}
    for (name, day), (condition, share) in VERDICTS.items():
        if START <= day <= END:
            place = left + (day - START).days * CELL[0], top + NAMES.index(name) * CELL[1]
            expected.setdefault(shade(condition, share), set()).add(place)

    assert expected == cells(svg)
    assert (left + 5 * CELL[0], top + 2 * CELL[1]) == ground[2]
    assert [0.5 * CELL[1], 1.5 * CELL[1]] == [
        pytest.approx(texts(svg)[name][1] - 0.36 * 11 - top, abs=0.1) for name in NAMES
    ]


def test_one_missing_day_among_many(coverage):
    """Among a hundred instruments of full days the one cell that is missing has its own colour.

    The others are one piece for each instrument.
    """
    many = [
        {
            "exchange": "BINANCE",
            "symbol": f"S{number:03}",
            "dt": START + timedelta(days=day),
            "condition": "missing" if (number, day) == (47, 31) else "available",
            "valid_share": None if (number, day) == (47, 31) else 0.9999,
            "expected_seconds": 86_400.0,
        }
        for number in range(100)
        for day in range(60)
    ]
    svg = coverage_plot(pl.DataFrame(many), START, START + timedelta(days=59))
    left, top = stretches(paths(svg, fill="#ececec")[0].removesuffix("z"))[0][0]

    assert {(left + 31 * CELL[0], top + 47 * CELL[1])} == cells(svg)[CONDITIONS["missing"]]
    assert 60 * 100 - 1 == len(cells(svg)[CONDITIONS["available"]])
    assert 101 == len(stretches(paths(svg, fill=CONDITIONS["available"])[0].replace("z", "")))
    assert len(svg) < 20_000


def test_letters_say_it_without_colour(coverage):
    """Every cell that is not available has its letter in its middle."""
    svg = coverage_plot(coverage, START, END)
    left, top = stretches(paths(svg, fill="#ececec")[0].removesuffix("z"))[0][0]
    written = {
        (
            round((float(each.get("y")) - 0.36 * 11 - top) / CELL[1] - 0.5, 1),
            round((float(x) - left) / CELL[0] - 0.5, 1),
        ): letter
        for each in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
        if set(each.text) <= set(LETTERS.values())
        for x, letter in zip(each.get("x").split(), each.text, strict=True)
    }

    assert {
        (0, 1): LETTERS["degraded"],
        (0, 3): LETTERS["missing"],
        (1, 2): LETTERS["pending"],
        (1, 4): LETTERS["degraded"],
    } == written


def test_legend_names_every_condition(coverage):
    """The legend has every condition, what is not validated, and what a pale cell means."""
    legend = [
        *("available", "d degraded", "p pending", "M missing"),
        *("not validated", "paler: less of the day is valid"),
    ]
    seen = texts(coverage_plot(coverage, START, END))

    assert legend == list(seen)[-len(legend) :]


def test_nothing_validated(coverage):
    """Without a single row there is a picture of the days too."""
    assert {"Aug 2024", "not validated"} <= set(texts(coverage_plot(coverage.clear(), START, END)))


def test_same_bytes_in_any_order(coverage):
    """The same verdicts in another order are the same bytes."""
    assert coverage_plot(coverage, START, END) == coverage_plot(coverage.reverse(), START, END)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (date(2024, 7, 30), date(2024, 8, 2), ["30", "Aug 2024", "1"]),
        (date(2024, 7, 18), date(2024, 7, 22), ["Jul 2024", "18", "20"]),
        (date(2024, 1, 24), date(2024, 2, 6), ["Jan 2024", "24", "25", "Feb 2024", "1", "5"]),
    ],
)
def test_days_are_named(coverage, start, end, expected):
    """The first day and round ones have their number, and each month its name if there is room."""
    seen = set(texts(coverage_plot(coverage, start, end)))
    numbers = {str(day) for day in range(1, 32)}

    assert set(expected) == {text for text in seen if text in numbers or text[-4:].isdigit()}


def test_not_listed(coverage):
    """A day of which nothing is expected is white, and the legend says so where there is one."""
    day = {"exchange": "SIMULATED", "symbol": "A$1$-USD", "dt": START, "expected_seconds": 0.0}
    with_one = pl.concat([coverage, pl.DataFrame([day])], how="diagonal")
    svg = coverage_plot(with_one, START, END)
    left, top = stretches(paths(svg, fill="#ececec")[0].removesuffix("z"))[0][0]

    assert {(left, top + CELL[1])} == cells(svg)["#fff"]
    assert "white: not listed" in texts(svg)
    assert "white: not listed" not in texts(coverage_plot(coverage, START, END))

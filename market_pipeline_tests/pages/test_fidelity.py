from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from market_pipeline.config.fidelity import Fidelity
from market_pipeline.pages.fidelity import write_fidelity_page
from market_pipeline.plots.fidelity import plot_fidelity
from market_pipeline.quality.fidelity.compare import compare_books
from market_pipeline.quality.fidelity.report import Comparison, FidelityMetric
from market_pipeline_tests.quality.fidelity.made_books import (
    book_rows,
    compared_book,
    taken,
    walked_rows,
)

DAY = walked_rows(2_000)


@pytest.fixture(scope="module")
def found() -> Comparison:
    """A book that lost messages, and whose third bid has other sizes."""
    other = taken(DAY, [k for k in range(2_000) if k % 100])
    levels = other.levels.copy()
    levels[:, 2, 1] += 1
    own, its = compared_book(DAY), compared_book(other._replace(levels=levels))
    return compare_books(own, its, Fidelity())


def written(found: Comparison, tmp_path: Path) -> str:
    file = tmp_path / "page.html"
    write_fidelity_page(file, found)
    return file.read_text(encoding="utf-8")


def test_every_figure_is_told(found: Comparison, tmp_path: Path):
    """Each figure has a line, the worst first; grade and reason stand at the top."""
    page = written(found, tmp_path)
    places = [page.find(f'<th scope="row">{each.title}</th>') for each in found.metrics]
    assert -1 not in places
    worst = max(found.metrics, key=lambda each: each.ratio or 0.0)
    assert min(places) == page.find(f'<th scope="row">{worst.title}</th>')
    assert found.pair.reason in page
    assert '<span class="badge fail">fail</span>' in page


def test_what_others_wrote_is_escaped(found: Comparison, tmp_path: Path):
    """A name that is markup is text, on the page and in the plot."""
    page = written(replace(found, other="<script>alert(1)</script>"), tmp_path)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_same_comparison_gives_the_same_page(found: Comparison, tmp_path: Path):
    """No clock and no random number has a part in it."""
    assert written(found, tmp_path) == written(found, tmp_path)


def test_a_pair_that_was_not_comparable_has_a_page(tmp_path: Path):
    """Without a figure there is a page that says why."""
    none = compared_book(book_rows([]))
    page = written(compare_books(none, none, Fidelity()), tmp_path)
    assert "not comparable" in page
    assert "Nothing could be compared" in page


def test_bars_of_levels_and_ratios(found: Comparison):
    """A plot is well-formed, with a bar for the level that differs and one for each kind beyond."""
    shapes = ET.fromstring(plot_fidelity(found).as_inline())
    assert "made against made" == shapes.attrib["aria-label"]
    kinds = {each.metric for each in found.metrics if each.ratio}
    filled = [each.attrib["fill"] for each in shapes.iter("path") if each.get("fill") != "none"]
    of_grades = [colour for colour in filled if colour in {"#009e73", "#e69f00", "#d55e00"}]
    assert len(kinds) == len(of_grades)


def test_ratios_without_an_end_are_drawn(found: Comparison):
    """An infinite ratio and one of 0 have their place on a logarithmic scale."""
    metrics = [
        FidelityMetric(metric=f"m{k}", value=value, bound=0.0, ratio=value, grade="fail")
        for k, value in enumerate((inf, 0.0, 1e9))
    ]
    text = plot_fidelity(replace(found, metrics=metrics)).as_svg()
    assert "inf (fail)" in text
    assert "nan" not in text

"""`plot_fidelity`: how far a book is from the golden one, by level and by kind of figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.plots.drawing import ACCENT, INK, Drawing
from market_pipeline.plots.panel import Panel, round_ticks
from market_pipeline.plots.plot import Plot
from market_pipeline.quality.fidelity.report import Comparison, FidelityMetric, Grade

__all__ = ["GRADES", "plot_fidelity"]

GRADES: dict[Grade, str] = {"pass": "#009e73", "warn": "#e69f00", "fail": "#d55e00"}

_WIDTH, _LEVELS_HEIGHT, _TOP = 1000, 150, 36
_PANELS = (("level_mismatch", "messages that differ", 70), ("size_error", "size error", 560))
_PANEL_WIDTH = 400
_SIDES = {"bid": ("bids", ACCENT, -0.4), "ask": ("asks", "#cc79a7", 0.02)}
_BAR_LEVELS, _MOST_TICKS = 0.38, 5
_ROW, _BAR, _NAMES_WIDTH, _BARS_WIDTH = 22, 14, 230, 560
_LEAST, _MOST = 1e-3, 1e3
_DECADES = [(math.log10(ratio), f"{ratio:g}") for ratio in (1e-3, 1e-2, 0.1, 1, 10, 100, 1e3)]


def plot_fidelity(found: Comparison) -> Plot:
    """Each level's share of differing messages and size error, and the worst ratio of each kind.

    Args:
        found: As `compare` returns it.
    """
    metrics = found.metrics
    drawing = Drawing()
    for metric, name, left in _PANELS:
        shown = [each for each in metrics if each.metric == metric and each.grid_ms in (None, 100)]
        _draw_levels(drawing, left, name + (" at 100 ms" if metric == "size_error" else ""), shown)
    ratios = _worst_of_each(metrics)
    top = _TOP + _LEVELS_HEIGHT + 66
    drawing.text(_PANELS[0][2], top - 14, "worst ratio to the bound, by figure", is_bold=True)
    _draw_ratios(drawing, top, ratios)
    return Plot(drawing, _WIDTH, top + _ROW * len(ratios) + 40, found.title)


def _draw_levels(
    drawing: Drawing, left: float, name: str, metrics: Sequence[FidelityMetric]
) -> None:
    """Two bars for each level, as a share in percent."""
    drawing.text(left, 10, f"{name}, % by level", is_bold=True)
    x = left + 250
    for label, colour, _ in _SIDES.values():
        drawing.box(x, 5, 10, 10, colour)
        drawing.text(x + 14, 10, label)
        x += 60
    values = [(each, 100 * each.value) for each in metrics if math.isfinite(each.value)]
    most = max((value for _, value in values), default=0.0) or 0.1
    panel = Panel(
        left, _TOP, _PANEL_WIDTH, _LEVELS_HEIGHT, (0.4, DEPTH_LEVELS + 0.6), (0.0, 1.05 * most)
    )
    levels = [(float(level), str(level)) for level in (1, 5, 10, 15, 20)]
    panel.draw_axes(drawing, levels, round_ticks(0.0, 1.05 * most, _MOST_TICKS))
    drawing.text(left + _PANEL_WIDTH / 2, panel.bottom + 24, "level, 1 the best", "middle")
    if not values:
        drawing.text(left + 8, panel.top + panel.height / 2, "not compared")
    elif not any(value for _, value in values):
        drawing.text(left + 8, panel.top + panel.height / 2, "0 at every level")
    width = _BAR_LEVELS * _PANEL_WIDTH / (DEPTH_LEVELS + 0.2)
    for each, value in values:
        _, colour, offset = _SIDES[each.side or "bid"]
        at, tip = panel.x(np.array([(each.level or 1) + offset])), panel.y(np.array([value]))
        if value:
            drawing.box(float(at[0]), float(tip[0]), width, panel.bottom - float(tip[0]), colour)


def _worst_of_each(metrics: Sequence[FidelityMetric]) -> list[FidelityMetric]:
    """Of each kind of figure the one with the highest ratio, the worst kind first."""
    worst: dict[str, FidelityMetric] = {}
    for each in metrics:
        if each.ratio is not None:
            known = worst.get(each.metric)
            if known is None or each.ratio > (known.ratio or 0.0):
                worst[each.metric] = each
    return sorted(worst.values(), key=lambda each: -(each.ratio or 0.0))


def _draw_ratios(drawing: Drawing, top: float, metrics: Sequence[FidelityMetric]) -> None:
    """A bar of each figure on a logarithmic scale, with lines at the bounds of pass and warn."""
    left = _PANELS[0][2] + _NAMES_WIDTH
    span = (math.log10(_LEAST), math.log10(_MOST))
    panel = Panel(left, top, _BARS_WIDTH, _ROW * len(metrics), span, (0.0, 1.0))
    panel.draw_axes(drawing, _DECADES, ())
    for number, each in enumerate(metrics):
        ratio, middle = each.ratio or 0.0, top + (number + 0.5) * _ROW
        place = math.log10(min(max(ratio, _LEAST), _MOST))
        tip = float(panel.x(np.array([place]))[0])
        drawing.text(left - 8, middle, each.title, "end")
        if ratio > _LEAST:
            drawing.box(left, middle - _BAR / 2, tip - left, _BAR, GRADES[each.grade or "pass"])
        drawing.text(tip + 6, middle, f"{ratio:.3g} ({each.grade})")
    for bound in (1.0, 2.0):
        x = float(panel.x(np.array([math.log10(bound)]))[0])
        drawing.line(f"M{x:.1f} {top:.1f}v{panel.height:.1f}", INK, 1.2)
    drawing.text(left, panel.bottom + 28, "ratio: pass up to 1, warn up to 2, fail above")

"""A finished picture, which a notebook shows by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from market_pipeline.plots.drawing import Drawing

__all__ = ["Plot"]


@dataclass(frozen=True, slots=True, eq=False)
class Plot:
    """A picture as SVG: the last expression of a cell shows it, in Jupyter and in marimo.

    Attributes:
        drawing: What is to be seen.
        width, height: In pixels.
        title: What a screen reader says of it.
    """

    drawing: Drawing
    width: float
    height: float
    title: str

    def __repr__(self) -> str:
        return f"Plot({self.title!r}, {self.width:g} x {self.height:g})"

    def as_inline(self) -> str:
        """The picture as an element of a page that has its own colours."""
        return self.drawing.as_inline(self.width, self.height, self.title)

    def as_svg(self) -> str:
        """The picture as a document of its own."""
        return self.drawing.as_image(self.width, self.height)

    _repr_svg_ = as_svg
    _repr_html_ = as_svg

    def save(self, file: Path | str) -> None:
        """Writes the picture as an SVG file, which any browser opens."""
        Path(file).write_text(self.as_svg(), encoding="utf-8")

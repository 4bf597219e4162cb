"""How a metric is declared: its name, kind, unit, attributes, bounds of buckets, and one sentence.

Names are dotted and without units, as OpenTelemetry has them; the unit is written in UCUM. An
attribute has as many values as there are steps, tables, venues, instruments, streams, sinks or
receivers: never a file, a run or a day, with which series would grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["COMMIT_BOUNDS_S", "Kind", "Metric", "Metrics"]

Kind = Literal["counter", "gauge", "histogram"]

COMMIT_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Bounds of the buckets of what puts rows where they are safe."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: Dotted, as it is recorded.
        kind: What is done with its values: added up, replaced by the next, or sorted into buckets.
        unit: In UCUM; what is counted stands in braces.
        attributes: What its series are distinguished by, beside the role of the process.
        description: One sentence.
        bounds: Upper bounds of a histogram's buckets, in the unit.
        stale_s: After so long a gauge that nobody renewed says nothing any more, as its process
            ended; None for one that stays true until the next run.
    """

    name: str
    kind: Kind
    unit: str
    attributes: tuple[str, ...]
    description: str
    bounds: tuple[float, ...] = ()
    stale_s: float | None = None


class Metrics(dict[str, Metric]):
    """Metrics by their names, in the order of the documentation."""

    def declare(
        self,
        name: str,
        kind: Kind,
        unit: str,
        attributes: str,
        description: str,
        bounds: tuple[float, ...] = (),
        stale_s: float | None = None,
    ) -> Metric:
        """Adds one; its name is without the package's, its attributes stand between spaces."""
        names = tuple(attributes.split())
        made = Metric(f"market_pipeline.{name}", kind, unit, names, description, bounds, stale_s)
        self[made.name] = made
        return made

"""What the raw objects of a day say about how the object store delivered them."""

from __future__ import annotations

from market_pipeline.quality.figures.raw import DeliveryFigures
from market_pipeline.quality.findings import Finding, Measured, first_marked
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["measure_delivery"]


def measure_delivery(day: InstrumentDay) -> Measured:
    """The remarks on an instrument's objects, and each as a place; nothing if they lie in a folder.

    Those of all three tables, in the order of deltas, snapshots and trades.
    """
    objects = (day.raw.deltas, day.raw.snapshots, day.raw.trades)
    of_objects = [found for each in objects if (found := each.remarks(day.instrument)) is not None]
    if not of_objects:
        return Measured()
    remarks = [remark for found in of_objects for remark in found]
    findings = [
        Finding(check="delivery", place=place, file=path, note=f"{text}.")
        for place, (path, text) in first_marked(remarks)
    ]
    return Measured(
        (DeliveryFigures(delivery_remarks=tuple(text for _, text in remarks)),), findings
    )

"""What a failed run died of, in the words of our own error if there is one."""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from market_pipeline.errors import MarketPipelineError

__all__ = ["first_failure"]


def first_failure(events: Iterable[dg.DagsterEvent]) -> str | None:
    """The first failed step and its error: ours if one is among the causes, else the innermost.

    Args:
        events: A run's events; those that are no step failure are passed over.

    Returns:
        `step: message`; None if no step failed.
    """
    ours = {kind.__name__ for kind in MarketPipelineError.__subclasses__()}
    for event in events:
        if not event.is_step_failure:
            continue
        error = event.step_failure_data.error
        while error is not None and error.cause is not None and error.cls_name not in ours:
            error = error.cause
        if error is not None:
            return f"{event.step_key}: {error.message.strip()}"
    return None

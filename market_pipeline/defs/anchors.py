"""Anchors of the audit log that runs left in Dagster's event log, where its writers do not write.

Each run that validates a day notes how far the log was. Whoever cuts the log off, or makes it anew,
has to change the event log as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg

__all__ = ["AUDIT_ANCHOR", "noted_anchors"]

AUDIT_ANCHOR = "audit_anchor"
"""The name of the metadata of `validation_report`."""

_MOST = 1_000


def noted_anchors(instance: dg.DagsterInstance) -> Iterator[tuple[str, dict[str, Any]]]:
    """The run and what it noted, `{"folder", "sequence", "code"}`; of the newest thousand runs."""
    asset = dg.AssetKey("validation_report")
    for record in instance.fetch_materializations(asset, limit=_MOST).records:
        materialization = record.asset_materialization
        noted = materialization and materialization.metadata.get(AUDIT_ANCHOR)
        if isinstance(noted, dg.JsonMetadataValue) and isinstance(noted.value, dict):
            yield record.run_id, noted.value

"""What a look at the health records: what is due and not there, what will expire, the backup."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta

from market_pipeline.health.report import ExpectedDay, Health
from market_pipeline.telemetry.metrics.recording import flush, record
from market_pipeline.telemetry.metrics.table import BACKLOG, BACKUP_END, DISK_FREE, EXPIRY, NEWEST

__all__ = ["record_health"]

_THERE = {"available", "degraded"}


def record_health(health: Health) -> None:
    """Records the days that were expected, by venue, the first end of what a setting names, that
    of the last backup, and what the disks have left; writes what it recorded.
    """
    for venue, days in _by_venue(health.expected).items():
        there = [each.day for each in days if each.found in _THERE]
        record(BACKLOG, len(days) - len(there), venue=venue)
        if there:
            end = datetime.combine(max(there) + timedelta(days=1), time(), UTC)
            record(NEWEST, end.timestamp(), venue=venue)
    for each in sorted(health.expiries, key=lambda each: -each.at_s):  # the first one stays
        record(EXPIRY, each.at_s, kind=each.kind, setting=each.setting)
    record(BACKUP_END, health.backup_s)
    for disk in health.disks:
        record(DISK_FREE, disk.free, folder=disk.folder)
    flush()


def _by_venue(expected: Iterable[ExpectedDay]) -> dict[str, list[ExpectedDay]]:
    venues = defaultdict[str, list[ExpectedDay]](list)
    for each in expected:
        venues[each.instrument.partition(":")[0]].append(each)
    return venues

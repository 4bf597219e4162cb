"""Disks that will be full soon, by how fast their free space has gone lately."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from market_pipeline.config.env_copies import dagster_home
from market_pipeline.config.settings import Settings
from market_pipeline.doctor.finding import Finding
from market_pipeline.doctor.folders import FREE_DISK_ERROR_BYTES, FREE_DISK_WARN_BYTES
from market_pipeline.machine import nearest_folder

__all__ = ["FreeBytes", "check_disks", "free_bytes", "with_sample"]

_SAMPLE_SECONDS, _KEPT_SECONDS = 1_800.0, 7 * 86_400.0
_LEAST_SPAN_SECONDS = 6 * 3_600.0
_SECONDS_PER_DAY = 86_400.0
_WARN_DAYS, _ERROR_DAYS = 14.0, 3.0
_ROOM = "Free some space, keep less (`market-pipeline prune --help`), or use a larger disk."


class FreeBytes(msgspec.Struct, frozen=True):
    """What a disk had left at a Unix time; `folder` is one that lies on it."""

    folder: str
    at_s: float
    free: int


def free_bytes(settings: Settings, now_s: float) -> list[FreeBytes]:
    """What each disk has left that the data, the lake or Dagster's home lies on."""
    home = dagster_home()
    folders = [settings.data_dir, settings.lake_path, *([Path(home)] if home else [])]
    disks: dict[int, FreeBytes] = {}
    for folder in folders:
        there = nearest_folder(folder.absolute())
        free = shutil.disk_usage(there).free
        disks.setdefault(there.stat().st_dev, FreeBytes(str(folder), now_s, free))
    return [*disks.values()]


def with_sample(samples: Sequence[FreeBytes], now: Sequence[FreeBytes]) -> list[FreeBytes]:
    """The samples that are kept: a week of them, one of each disk in half an hour."""
    kept = [*samples]
    for each in now:
        kept = [sample for sample in kept if 0 <= each.at_s - sample.at_s <= _KEPT_SECONDS]
        own = [sample.at_s for sample in kept if sample.folder == each.folder]
        last_s = max(own, default=-_KEPT_SECONDS)
        if each.at_s - last_s >= _SAMPLE_SECONDS:
            kept.append(each)
    return kept


def check_disks(samples: Sequence[FreeBytes], now: Sequence[FreeBytes]) -> Iterator[Finding]:
    """Is there room, and will there be for days to come?"""
    for each in now:
        before = [sample for sample in samples if sample.folder == each.folder]
        days = _days_left([*before, each])
        soon = "" if days is None else f", full in {days:,.1f} days as it went lately"
        text = f"{each.free / 10**9:,.1f} GB are free for {each.folder}{soon}"
        left = np.inf if days is None else days
        if each.free < FREE_DISK_ERROR_BYTES or left < _ERROR_DAYS:
            yield "error", text, _ROOM
        elif each.free < FREE_DISK_WARN_BYTES or left < _WARN_DAYS:
            yield "warn", text, _ROOM
        else:
            yield "ok", text


def _days_left(samples: Sequence[FreeBytes]) -> float | None:
    """When there is nothing left, by a straight line through the samples; None for never, or where
    they are of too short a time.
    """
    at_s = np.array([each.at_s for each in samples])
    if at_s[-1] - at_s.min() < _LEAST_SPAN_SECONDS:
        return None
    free = np.array([each.free for each in samples], np.float64)
    slope = float(np.polyfit(at_s - at_s.mean(), free, 1)[0])
    return None if slope >= 0 else float(free[-1]) / -slope / _SECONDS_PER_DAY

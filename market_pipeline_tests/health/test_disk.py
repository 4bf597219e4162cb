from __future__ import annotations

import pytest

from market_pipeline.config.settings import Settings
from market_pipeline.health.disk import FreeBytes, check_disks, free_bytes, with_sample

GB = 10**9
HOUR_S = 3_600.0
DAY_S = 24 * HOUR_S


def line(*, free_gb: float, gb_a_day: float, hours: int) -> list[FreeBytes]:
    """What a disk had left at each hour, the last one now."""
    return [
        FreeBytes("/data", hour * HOUR_S, int((free_gb + gb_a_day * (hours - hour) / 24) * GB))
        for hour in range(hours + 1)
    ]


@pytest.mark.parametrize(
    ("free_gb", "gb_a_day", "hours", "status"),
    [
        (100, 10, 24, "warn"),
        (100, 6, 24, "ok"),
        (100, 40, 24, "error"),
        (100, 40, 3, "ok"),
        (100, -40, 24, "ok"),
        (4, 0, 24, "warn"),
        (0.4, 0, 24, "error"),
    ],
)
def test_when_it_will_be_full(free_gb, gb_a_day, hours, status):
    """Full within 14 days warns, within 3 is an error; a few hours say nothing of days."""
    *before, now = line(free_gb=free_gb, gb_a_day=gb_a_day, hours=hours)
    ((found, text, *_),) = check_disks(before, [now])

    assert status == found
    if hours == 24 and gb_a_day > 0:
        assert f"full in {free_gb / gb_a_day:,.1f} days" in text


def test_samples_of_a_week_are_kept():
    """One in half an hour, of each disk, none older than a week, and none of the future."""
    kept: list[FreeBytes] = []
    for minute in range(0, 10 * 24 * 60, 10):
        now = [FreeBytes(folder, minute * 60.0, 1) for folder in ("/a", "/b")]
        kept = with_sample(kept, now)

    assert 2 * (7 * 48 + 1) >= len(kept) >= 2 * 7 * 48 - 2
    assert [FreeBytes("/a", 5.0, 1)] == with_sample(kept, [FreeBytes("/a", 5.0, 1)])


def test_each_disk_once(tmp_path):
    """Folders of one disk are one, also where they are not there yet."""
    found = free_bytes(Settings(data_dir=tmp_path / "none" / "data"), 7.0)

    assert len(found) == len({each.folder for each in found})
    assert str(tmp_path / "none" / "data") == found[0].folder
    assert found[0].free > 0

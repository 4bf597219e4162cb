"""Whether a backup is too long ago."""

from __future__ import annotations

import os

from market_pipeline.health.backup import backup_end, check_backup

HOUR_S = 3_600.0


def test_a_day_and_two_hours(tmp_path):
    """A backup is good for 26 h from when its file was touched; one that never was is not."""
    stamp = tmp_path / "ended"
    never = [*check_backup(backup_end(stamp), 40 * HOUR_S)]
    stamp.touch()
    os.utime(stamp, (HOUR_S, HOUR_S))
    ((good, said),) = check_backup(backup_end(stamp), 27 * HOUR_S)
    ((late, *_),) = check_backup(backup_end(stamp), 27.1 * HOUR_S)

    assert ("ok", "a backup ended 26.0 h ago", "warn") == (good, said, late)
    assert [("warn", "no backup has ended, and one is due each day")] == [
        each[:2] for each in never
    ]

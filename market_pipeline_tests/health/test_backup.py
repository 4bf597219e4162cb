"""Whether a backup is too long ago."""

from __future__ import annotations

import os

import pytest

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


def test_a_time_that_is_none(tmp_path):
    """One far ahead would be good for long; that of a folder is of the files in it."""
    ((slow, *_),) = check_backup(2 * HOUR_S, 1 * HOUR_S)
    ((ahead, text, _),) = check_backup(40 * HOUR_S, 1 * HOUR_S)

    assert ("ok", "warn", True) == (slow, ahead, "dated 39.0 h ahead" in text)
    with pytest.raises(IsADirectoryError):
        backup_end(tmp_path)

"""Where backups go: a run does without it, so only the doctor loads what makes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from market_pipeline.backup.create import backup_folder
from market_pipeline.config.settings import Settings
from market_pipeline.doctor.finding import Finding
from market_pipeline.doctor.folders import unusable

__all__ = ["check_backup"]


def check_backup(settings: Settings) -> Iterator[Finding]:
    """Can the next backup be written, if there is a folder for it?"""
    if settings.backup_folder is None:
        return
    folder = backup_folder(settings)
    folders = [folder, *filter(Path.is_dir, folder.iterdir())]
    yield unusable(folders, (), "PIPELINE_BACKUP_FOLDER") or (
        "ok",
        f"backups can be written to {folder}",
    )

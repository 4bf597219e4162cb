"""Whether the group of readers can read what it may."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Iterator

from market_pipeline.config.settings import Settings
from market_pipeline.doctor.finding import Finding
from market_pipeline.security.access import members
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["check_access"]


def check_access(settings: Settings) -> Iterator[Finding]:
    """Who reads what is published, and does that group reach it? Only if the settings name one."""
    group, warehouse = settings.readers_group, Warehouse(settings.data_dir)
    if group is None or not warehouse.data_dir.is_dir():
        return
    number, names = members(group)
    owner = pwd.getpwuid(warehouse.data_dir.stat().st_uid).pw_name
    for folder in (warehouse.data_dir, warehouse.tables_dir, warehouse.warehouse_dir):
        if not folder.is_dir() or folder.stat().st_gid != number:
            yield (
                "warn",
                f"{folder} is not there, or not of the group {group}",
                "Let `market-pipeline access` show what it would do, and `--apply` it.",
            )
            return
    for folder in warehouse.data_dir.resolve().parents:
        found = folder.stat()
        needed = stat.S_IXOTH | (stat.S_IXGRP if found.st_gid == number else 0)
        if not found.st_mode & needed:
            yield (
                "warn",
                f"the group {group} does not come through {folder}",
                f"Let others pass: `chmod o+x {shlex.quote(str(folder))}`, or move the data "
                "folder, as to /srv.",
            )
            return
    if os.geteuid() == warehouse.data_dir.stat().st_uid and number not in os.getgroups():
        yield (
            "warn",
            f"{owner} is not of the group {group}, and cannot let it read what is published",
            "`market-pipeline access --apply` makes it so, for what is started afterwards.",
        )
        return
    readers = ", ".join(name for name in names if name != owner) or "nobody yet"
    yield "ok", f"of {group} read tables and warehouse: {readers}"

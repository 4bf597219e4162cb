"""What libraries read again for each thing that they make, read once in a process of the tests."""

from __future__ import annotations

from functools import cache

from alembic.config import Config
from alembic.script import ScriptDirectory
from botocore.loaders import JSONFileLoader

__all__ = ["read_once"]


def read_once() -> None:
    """Has later databases of Dagster and clients of stores share what the first of them read.

    Dagster's migrations are 90 files, read for each database, also for the two in memory that every
    context has: four fifths of the making. What describes the services took most of the opening of
    a store; clients of one session share it as well.
    """
    read, known = ScriptDirectory.from_config, dict[str | None, ScriptDirectory]()

    def from_config(config: Config) -> ScriptDirectory:
        folder = config.get_main_option("script_location")
        if folder not in known:
            known[folder] = read(config)
        return known[folder]

    ScriptDirectory.from_config = from_config  # type: ignore[method-assign, assignment]
    load_file = cache(JSONFileLoader().load_file)
    JSONFileLoader.load_file = staticmethod(load_file)  # type: ignore[method-assign]

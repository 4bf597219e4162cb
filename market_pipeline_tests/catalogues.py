"""Catalogues for tests that have more to do than to wait until each is drawn."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from market_pipeline.tables import with_catalogue
from market_pipeline.warehouse.layout import PRIVATE_FILE, Warehouse

__all__ = ["drawn_catalogue", "drawn_working"]


def drawn_catalogue(data_dir: Path) -> Warehouse:
    """What `with_catalogue` gives in a new folder, made of `drawn_working`."""
    drawn_working(data_dir)
    return with_catalogue(data_dir)


def drawn_working(data_dir: Path) -> Warehouse:
    """A new folder with a copy of a working database without rows, and no catalogue.

    The first refresh of one then finds all views there; to draw them takes most of a second.
    """
    warehouse = Warehouse(data_dir)
    if not warehouse.working_database.exists():
        warehouse.prepare()
        warehouse.working_database.write_bytes(_without_rows())
        warehouse.working_database.chmod(PRIVATE_FILE)
    return warehouse


@cache
def _without_rows() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return with_catalogue(Path(folder)).working_database.read_bytes()

"""Catalogues for tests that have more to do than to wait until each is drawn."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from market_pipeline.tables import with_catalogue
from market_pipeline.warehouse.layout import PRIVATE_FILE, Warehouse

__all__ = ["drawn_catalogue"]


def drawn_catalogue(data_dir: Path) -> Warehouse:
    """What `with_catalogue` gives in a new folder, by a copy of a working database without rows.

    To draw the views of one takes most of a second.
    """
    warehouse = Warehouse(data_dir)
    if not warehouse.working_database.exists():
        warehouse.prepare()
        warehouse.working_database.write_bytes(_without_rows())
        warehouse.working_database.chmod(PRIVATE_FILE)
    return with_catalogue(data_dir)


@cache
def _without_rows() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return with_catalogue(Path(folder)).working_database.read_bytes()

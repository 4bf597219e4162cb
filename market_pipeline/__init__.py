"""Trusted level-2 order book history: raw vendor days in, rebuilt books and verdicts out."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

__all__ = ["__version__", "connect"]

__version__ = version("market-pipeline")


def connect(data_dir: Path | str | None = None) -> duckdb.DuckDBPyConnection:
    """Opens a read-only DuckDB connection on everything published: `books.bbo` and the rest.

    It shows one state for as long as it is open and never makes the pipeline wait.

    Args:
        data_dir: The data folder; by default the one of the settings in force.

    Raises:
        SettingsError: If no folder is given and the settings are not usable.
        WarehouseBusyError: If a shell keeps the catalogue open for writing.
    """
    # Imported here, so that `import market_pipeline` alone stays instant.
    from market_pipeline.lake import catalogue  # noqa: PLC0415
    from market_pipeline.settings import load_settings  # noqa: PLC0415
    from market_pipeline.tables import with_catalogue  # noqa: PLC0415

    folder = Path(data_dir) if data_dir is not None else load_settings().data_dir
    with_catalogue(folder)
    return catalogue.connect(folder)

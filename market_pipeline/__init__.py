"""Trusted level-2 order book history: raw vendor days in, rebuilt books and verdicts out."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from market_pipeline.notebook.book import Book
    from market_pipeline.notebook.compared import compare
    from market_pipeline.notebook.events import events
    from market_pipeline.notebook.instant import book_at, books_at
    from market_pipeline.notebook.loaders import (
        load_bbo,
        load_depth,
        load_funding,
        load_intervals,
        load_open_interest,
        load_trades,
    )
    from market_pipeline.notebook.metric_loaders import (
        load_bars,
        load_checkpoint_depth,
        load_daily,
        load_information_bars,
        load_metrics,
    )
    from market_pipeline.notebook.rebuild import rebuild
    from market_pipeline.notebook.rebuilt import RebuiltBook
    from market_pipeline.notebook.replay import ReplayedMessage, replay
    from market_pipeline.notebook.sampled import asof_quotes, depth_matrix
    from market_pipeline.notebook.update_counts import update_counts
    from market_pipeline.plots.fidelity import plot_fidelity
    from market_pipeline.plots.ladder import plot_book
    from market_pipeline.plots.plot import Plot
    from market_pipeline.plots.price_levels import plot_depth
    from market_pipeline.plots.published import plot_day
    from market_pipeline.plots.scatter import plot_scatter
    from market_pipeline.plots.series import plot_series

    __version__: str

__all__ = [
    "Book",
    "Plot",
    "RebuiltBook",
    "ReplayedMessage",
    "__version__",
    "asof_quotes",
    "book_at",
    "books_at",
    "compare",
    "connect",
    "depth_matrix",
    "events",
    "load_bars",
    "load_bbo",
    "load_checkpoint_depth",
    "load_daily",
    "load_depth",
    "load_funding",
    "load_information_bars",
    "load_intervals",
    "load_metrics",
    "load_open_interest",
    "load_trades",
    "plot_book",
    "plot_day",
    "plot_depth",
    "plot_fidelity",
    "plot_scatter",
    "plot_series",
    "rebuild",
    "replay",
    "update_counts",
]

_IMPORTED_WHEN_USED = {
    "Book": "market_pipeline.notebook.book",
    "Plot": "market_pipeline.plots.plot",
    "RebuiltBook": "market_pipeline.notebook.rebuilt",
    "asof_quotes": "market_pipeline.notebook.sampled",
    "ReplayedMessage": "market_pipeline.notebook.replay",
    "book_at": "market_pipeline.notebook.instant",
    "depth_matrix": "market_pipeline.notebook.sampled",
    "books_at": "market_pipeline.notebook.instant",
    "compare": "market_pipeline.notebook.compared",
    "events": "market_pipeline.notebook.events",
    "load_bars": "market_pipeline.notebook.metric_loaders",
    "load_bbo": "market_pipeline.notebook.loaders",
    "load_checkpoint_depth": "market_pipeline.notebook.metric_loaders",
    "load_daily": "market_pipeline.notebook.metric_loaders",
    "load_depth": "market_pipeline.notebook.loaders",
    "load_funding": "market_pipeline.notebook.loaders",
    "load_information_bars": "market_pipeline.notebook.metric_loaders",
    "load_intervals": "market_pipeline.notebook.loaders",
    "load_metrics": "market_pipeline.notebook.metric_loaders",
    "load_open_interest": "market_pipeline.notebook.loaders",
    "load_trades": "market_pipeline.notebook.loaders",
    "plot_book": "market_pipeline.plots.ladder",
    "plot_day": "market_pipeline.plots.published",
    "plot_depth": "market_pipeline.plots.price_levels",
    "plot_fidelity": "market_pipeline.plots.fidelity",
    "plot_scatter": "market_pipeline.plots.scatter",
    "plot_series": "market_pipeline.plots.series",
    "rebuild": "market_pipeline.notebook.rebuild",
    "replay": "market_pipeline.notebook.replay",
    "update_counts": "market_pipeline.notebook.update_counts",
}

# Polars, which looks here as it is imported, has its allocator give memory back half a second after
# its last use; a rebuild asks for it again with the next row group, for a tenth of its CPU time.
# And it has an arena for four threads in each core, which all keep such memory: 125 MB of a rebuild
# on two cores. A few large columns at a time need no second one.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000,narenas:1")
# Arrow looks here. Its own default kept twice what a rebuild holds in it.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")


def __getattr__(name: str) -> Any:
    """Imports what notebooks use when it is asked for, and looks up the version: `import
    market_pipeline` stays instant, and Ctrl-C soon after the start of a verb ends it silently.
    """
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("market-pipeline")
    if name not in _IMPORTED_WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_IMPORTED_WHEN_USED[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def connect(data_dir: Path | str | None = None) -> duckdb.DuckDBPyConnection:
    """Opens a read-only DuckDB connection on everything published: `books.bbo` and the rest.

    It shows one state for as long as it is open and never makes the pipeline wait.
    To write, open a database of your own and ATTACH the catalogue READ_ONLY: one that somebody
    wrote into is built anew here, and what was written is moved to `warehouse/set-aside`.

    Args:
        data_dir: The data folder; by default the one of the settings in force.

    Raises:
        SettingsError: If no folder is given and the settings are not usable.
        WarehouseBusyError: If this process has the catalogue open for writing, or another one keeps
            a lock.
        PublishError: If the catalogue is not as it was published and this user may not build it.
    """
    # Imported here, so that `import market_pipeline` alone stays instant.
    from pathlib import Path  # noqa: PLC0415

    from market_pipeline.config.settings import load_settings  # noqa: PLC0415
    from market_pipeline.tables import open_catalogue  # noqa: PLC0415

    return open_catalogue(Path(data_dir) if data_dir is not None else load_settings().data_dir)

"""What a backup has: files that are written once, and files that change.

In a path of either is also how the file lies: one that is sealed has the name `NAME.sealed`, and is
never opened for a backup.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from market_pipeline.audit.log import log_files
from market_pipeline.audit.record import AUDIT_FOLDER
from market_pipeline.config.settings import Settings
from market_pipeline.golden.keep import GOLDEN_FOLDER
from market_pipeline.security.ring import KEYS_FOLDER
from market_pipeline.security.stored import is_sealed, stat_as_it_lies, stored_in
from market_pipeline.shown import shown
from market_pipeline.sources.recording import CONVERTER
from market_pipeline.sources.recording.format import SUFFIX as RECORDING_SUFFIX
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["DATABASE_SUFFIXES", "Root", "Source", "changing", "written_once"]

Root = Literal["data", "lake", "dagster_home", "settings"]
"""The folder that a path counts from; `settings` holds files that lie anywhere."""

DATABASE_SUFFIXES = {".sqlite", ".db"}
"""Of SQLite's files, which are copied by SQLite itself."""

_LIVE, _DEAD_LETTERS = "live", "alerts"
_DELTA_LOG = "_delta_log"
_SETTLED_SECONDS = 86_400.0
"""A file of a live capture that was not written to for so long is not written to any more."""


class Source(NamedTuple):
    """A file by its plain name, which lies plain or sealed, and where it counts from."""

    root: Root
    folder: Path
    file: Path


def written_once(settings: Settings, *, raw: bool, tables: bool) -> Iterator[Source | str]:
    """What never changes once it is there: closed recordings, golden samples, full audit files.

    Args:
        settings: Where all of it lies.
        raw: Also all other files of the lake.
        tables: Also the files of the published tables.

    Returns:
        Files in order, and as a text what of them is left out, with the reason.

    Raises:
        OSError: A folder cannot be read: what lies in it would be missed.
    """
    data, lake = settings.data_dir, settings.lake_path
    recorded = lake / CONVERTER.name
    of_lake = _root_of(lake, data)
    yield from _below(recorded, *of_lake, lambda path: path.name.endswith(RECORDING_SUFFIX))
    yield from _below(data / GOLDEN_FOLDER, "data", data)
    yield from (_found("data", data, path) for path in log_files(data / AUDIT_FOLDER)[:-1])
    yield from _below(data / _LIVE, "data", data, _is_settled)
    if raw:
        yield from _below(lake, *of_lake, left_out=recorded)
    if tables:
        # First what names the files: those that come meanwhile are named by nobody.
        deltas = sorted(Warehouse(data).tables_dir.glob(f"*/*/{_DELTA_LOG}"))
        for log in deltas:
            yield from _below(log, "data", data)
        for log in deltas:
            yield from _below(log.parent, "data", data, left_out=log)


def changing(settings: Settings, home: Path | None) -> Iterator[Source | str]:
    """What changes, in an order in which it may be copied one by one.

    Dagster's history comes before the working database, and both before the published tables: what
    the former say was made is in the latter. What is left out is a text, as of `written_once`.

    Args:
        settings: Where the data folder is, and the files of settings; never `.env`, nor a master
            key.
        home: `DAGSTER_HOME`; None without one.
    """
    data, state = settings.data_dir, Warehouse(settings.data_dir).state_dir
    if home is not None:
        places = ("*.db", "*/*.db", "history/runs/*.db")  # the last ones are of Dagster's default
        found = sorted(path for place in places for path in home.glob(place))
        yield from _present("dagster_home", home, [home / "dagster.yaml", *found])
    yield from _present("data", data, sorted(state.glob("*.sqlite")))
    yield from _present("data", data, [Warehouse(data).working_database, state / "health.json"])
    audit = data / AUDIT_FOLDER
    yield from _present("data", data, [*log_files(audit)[-1:], audit / "settings.json"])
    yield from _present("data", data, sorted((data / _DEAD_LETTERS).glob("*.jsonl")))
    yield from _below(data / _LIVE, "data", data, lambda path: not _is_settled(path))
    yield from _present("data", data, sorted((data / KEYS_FOLDER).glob("*")))
    names: set[str] = set()
    for file in (settings.instruments_file, settings.config_file):
        if not file.is_file():  # a link is followed, as settings are mounted by one
            continue
        if file.name in names:
            yield f"{file}: another file of settings has its name; rename one of them"
        else:
            names.add(file.name)
            yield Source("settings", file.parent, file)


def _root_of(lake: Path, data: Path) -> tuple[Root, Path]:
    return ("data", data) if lake.is_relative_to(data) else ("lake", lake)


def _present(root: Root, folder: Path, files: list[Path]) -> Iterator[Source | str]:
    """Those that are regular files as they lie; a sealed one and its slots are two of them."""
    for file in files:
        if (file.is_file() or file.is_symlink()) and not _is_passing(file):
            yield _found(root, folder, file)


def _found(root: Root, folder: Path, file: Path) -> Source | str:
    """A file, or why it is left out."""
    if file.is_symlink():
        return f"{shown(file)}: a link, which is not followed"
    if not str(file).isprintable():
        return f"{shown(file)}: no manifest can hold its name. Rename it."
    return Source(root, folder, file)


def _below(
    folder: Path,
    root: Root,
    base: Path,
    wanted: Callable[[Path], bool] = lambda path: True,
    left_out: Path | None = None,
) -> Iterator[Source | str]:
    """The files below a folder by their plain names; none that begins with a dot, as locks do."""
    for at, folders, names in os.walk(folder, onerror=_refuse):
        here = Path(at)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and here / name != left_out
        )
        links = [here / name for name in (*folders, *names) if (here / name).is_symlink()]
        yield from (_found(root, base, link) for link in sorted(links))
        for path in stored_in(here) if names else ():
            if path not in links and not path.is_dir() and not _is_passing(path) and wanted(path):
                yield _found(root, base, path)


def _is_passing(path: Path) -> bool:
    return path.name.startswith(".") or path.suffix in {".partial", ".lock"}


def _is_settled(path: Path) -> bool:
    if is_sealed(path):  # for good
        return True
    with suppress(FileNotFoundError):  # removed meanwhile, which whoever opens it finds
        return time.time() - stat_as_it_lies(path).st_mtime > _SETTLED_SECONDS
    return True


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # removed meanwhile, or never made
        raise error

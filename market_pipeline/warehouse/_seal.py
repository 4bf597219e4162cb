"""Keep the catalogue as it was published, also from users who open it for writing.

DuckDB opens a file for writing unless asked not to. It writes a log beside the file, and
whoever opens the file afterwards replays that log, whichever file bears the name by then. So a link
to nowhere takes the log's place: DuckDB reads it as no log, and refuses to commit because it cannot
make one, to root too, whom no file mode stops. The link's target names the file that was
published, so that a change that came another way (by a hard link, from a DuckDB before 1.5) shows.
"""

from __future__ import annotations

import logging
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

from market_pipeline.errors import PublishError
from market_pipeline.warehouse.layout import Warehouse, make_private_folder

__all__ = ["check_seal", "seal", "set_aside"]

_LOG = logging.getLogger(__name__)
# No process has the number 0, and nobody makes a folder in /proc.
_NOWHERE = Path("/proc/0/open-the-catalogue-read-only")


def seal(warehouse: Warehouse, coming: Path) -> None:
    """Close the place of the log, and name the file that is about to become the catalogue.

    The file that it replaces stays named if it is as it was published, so that at no moment there
    is a catalogue without a seal of its own.

    Args:
        warehouse: Whose catalogue; the caller holds its lock.
        coming: The finished file; it must not change any more.
    """
    names = [_name(coming)]
    if _is_sealed(warehouse):
        names.append(_name(warehouse.catalogue))
    link = coming.with_suffix(".seal")
    link.symlink_to(_NOWHERE.joinpath(*names))
    link.replace(warehouse.catalogue_log)


def check_seal(warehouse: Warehouse) -> str:
    """The name that tells the present catalogue from those before and after it.

    Raises:
        PublishError: It is not the file that was published, or a log lies beside it.
    """
    if not _is_sealed(warehouse):
        raise PublishError(
            "the catalogue is not as it was published: somebody wrote into it, or copied it here",
            next_step=(
                "Run the pipeline for any day, or `market-pipeline verdict`: it is built anew, "
                f"and what was written is kept in {warehouse.set_aside_dir}."
            ),
            file=warehouse.catalogue,
        )
    return _name(warehouse.catalogue)


def set_aside(warehouse: Warehouse) -> None:
    """Keep what others wrote into the catalogue, with its log, as a database of its own.

    Nothing happens to a catalogue that is as it was published, or that a release before seals made.

    Args:
        warehouse: Whose catalogue; the caller holds its lock and is about to replace the file.
    """
    catalogue, log = warehouse.catalogue, warehouse.catalogue_log
    has_log = log.exists() and not log.is_symlink()
    # A catalogue of a release before has neither the link nor the mode.
    was_sealed = catalogue.exists() and (log.is_symlink() or _is_read_only(catalogue))
    if _is_sealed(warehouse) or not (has_log or was_sealed):
        return
    make_private_folder(warehouse.set_aside_dir)
    kept = warehouse.set_aside_dir / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S.%f}Z.duckdb"
    if catalogue.exists():
        # A second name and not a move: who opens the catalogue meanwhile still finds one.
        os.link(catalogue, kept)
        kept.chmod(kept.stat().st_mode & stat.S_IRWXU)  # readers get the one that is rebuilt
    if has_log:
        log.rename(kept.with_name(f"{kept.name}.wal"))
    _LOG.warning(
        "Somebody wrote into %s, or copied it here: it is built anew from what is published, and "
        "what was there is kept in %s. To write, open a database of your own and ATTACH the "
        "catalogue READ_ONLY.",
        catalogue,
        kept,
    )


def _is_sealed(warehouse: Warehouse) -> bool:
    if not warehouse.catalogue.exists():
        return False
    # Before the link is read: a refresh in between leaves this name in its own seal.
    name = _name(warehouse.catalogue)
    if not warehouse.catalogue_log.is_symlink():
        return False
    target = warehouse.catalogue_log.readlink()
    return target.is_relative_to(_NOWHERE) and name in target.parts


def _name(file: Path) -> str:
    """Size and time of a file: whatever writes into it changes at least the time."""
    status = file.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def _is_read_only(file: Path) -> bool:
    return not file.stat().st_mode & 0o222

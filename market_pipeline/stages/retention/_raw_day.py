"""A raw day in the local lake, and whether the store still has each file of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from market_pipeline.errors import SealError
from market_pipeline.security.stored import is_stored, stored_at, stored_in, stored_size
from market_pipeline.sources.raw_names import Series, Shard
from market_pipeline.stages.raw.days import RawFile, is_object
from market_pipeline.stages.retention.prune import Candidate
from market_pipeline.warehouse.ledger import LEDGER_NAME, Ledger

__all__ = ["NO_STORE", "raw_day"]

NO_STORE = "the store could not be asked, so nothing is known of it"
_LEFT_OVER = re.compile(r"\.([0-9]{1,9}\.snappy\.parquet)\.incoming.*|\.objects\.json\..*\.partial")


def raw_day(
    folder: Path, series: Series, day: date, listed: Mapping[str, RawFile] | None
) -> Candidate | None:
    """What may be pruned of a day's folder; None if nothing is left in it but its ledger.

    Args:
        folder, series, day: Where it lies, and what it is of.
        listed: The objects of the day at the store, by name; None if the store could not be asked.
    """
    if folder.is_symlink():
        return None
    ledger = Ledger(folder)
    own: list[tuple[Path, int]] = []
    strange: Path | None = None
    last_copy: tuple[str, Path] | None = None
    closed: Path | None = None
    for path in stored_in(folder):
        if path.name == LEDGER_NAME:
            continue
        shard, left_over = Shard.of_name(path.name), _LEFT_OVER.fullmatch(path.name)
        if stored_at(path).is_symlink() or not is_stored(path) or not (shard or left_over):
            strange = strange or path
            continue
        own.append((path, stored_size(path)))
        if listed is None or last_copy is not None or (shard and shard.is_gone):
            continue
        try:
            why = _not_at_store(path, shard, ledger, listed)
        except SealError:
            closed = closed or path
            continue
        last_copy = (why, path) if why else None
    if not own and strange is None:
        return None
    stays = None
    if strange is not None:
        stays = "its folder holds something that no fetch put there"
    elif listed is None:
        stays = NO_STORE
    elif closed is not None:
        stays = "no key that is set opens a file that the ledger does not know"
    about = strange or closed or (last_copy[1] if last_copy else None)
    return Candidate(
        "raw",
        series.table,
        series.instrument,
        day,
        files=len(own),
        bytes=sum(size for _, size in own),
        paths=tuple(own),
        again="the store has it",
        last_copy=last_copy[0] if last_copy else None,
        stays=stays,
        example=f"{about.parent.name}/{about.name}" if about else None,
    )


def _not_at_store(
    path: Path, shard: Shard | None, ledger: Ledger, listed: Mapping[str, RawFile]
) -> str | None:
    """Why a raw file is a last copy; None if the store has it, or it is no whole one.

    Raises:
        SealError: Only its MD5 would tell, and it cannot be opened.
    """
    name = shard.object if shard else _LEFT_OVER.sub(r"\1", path.name)
    known = (ledger.in_place if shard else ledger.arrived).get(name)
    if not shard and known is None:
        return None  # the beginning of a download
    if known is not None and shard and known.file != path.name:
        return "an earlier version, which the store has no more"
    at_store = listed.get(f"{path.parent.name}/{name}")
    if at_store is None:
        return "the store does not have it"
    if not is_object(path, known, at_store.bytes, at_store.mark):
        return "the store has other bytes of it"
    return None

"""The names of a raw lake, below a folder and below a store's prefix alike, and what is none.

    <table>/exchange=<E>/symbol=<S>/dt=<YYYY-MM-DD>/<N>.snappy.parquet

A shard that changed at an object store lies beside the earlier one as `<N>.v<K>.snappy.parquet`, K
from 2, and `<N>.v<K>.gone` says that from then on it is no part of the day. N may be written with
zeros before it, but two names of one number (`1` and `00001`) are one shard reported twice, and a
Parquet file that begins with a number and is named otherwise (`1.gz.parquet`, `1.SNAPPY.PARQUET`)
may be one too: with either, nobody can say what the day is. A folder of nothing but such files
holds no shard.

A shard may lie sealed, as `<name>.sealed`; it is known by its plain name here and wherever it is
listed.

A shard is a regular file, or a link to one. What is named so and is none (a pipe, which would keep
its reader waiting for ever, a folder, a link that leads nowhere) is never opened, and the day is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import NamedTuple

from market_pipeline.errors import LakeFileError
from market_pipeline.security.stored import is_stored, stored_in
from market_pipeline.warehouse.ledger import GONE

__all__ = [
    "Series",
    "Shard",
    "day_name",
    "day_of",
    "days_below",
    "folder_shards",
    "live_shards",
    "refuse_names",
    "series_below",
    "shard_versions",
]

_SERIES = re.compile(r"(.+)/exchange=([^/]+)/symbol=([^/]+)")
_DAY = re.compile(r"dt=([0-9]{4}-[0-9]{2}-[0-9]{2})")
_NUMBER, _VERSION = r"([0-9]{1,9})", r"\.v([2-9]|[1-9][0-9]{1,8})"
_SHARD = re.compile(
    rf"{_NUMBER}(?:{_VERSION})?\.snappy\.parquet|{_NUMBER}{_VERSION}{re.escape(GONE)}"
)
_NUMBERED = re.compile(r"(\d+).*\.parquet", re.IGNORECASE | re.DOTALL)


class Series(NamedTuple):
    """A raw table of an instrument, which has a folder for each day."""

    table: str
    exchange: str
    symbol: str

    @property
    def folder(self) -> str:
        """Its folder below the lake, without a slash at the end."""
        return f"{self.table}/exchange={self.exchange}/symbol={self.symbol}"

    def day_folder(self, day: date) -> str:
        """That of a day, below the lake."""
        return f"{self.folder}/{day_name(day)}"

    @property
    def instrument(self) -> str:
        """The instrument as VENUE:SYMBOL."""
        return f"{self.exchange}:{self.symbol}"

    @classmethod
    def of_folder(cls, folder: str) -> Series | None:
        """The series whose `folder` it is; None if it is that of none."""
        matched = _SERIES.fullmatch(folder)
        return cls(*matched.groups()) if matched else None


def series_below(root: Path, table: str) -> list[Series]:
    """The series of a table that have a folder below a lake, in order of their folders.

    A link may lead into a folder that is the user's own, and is passed over.
    """
    folders = [
        folder.relative_to(root).as_posix()
        for folder in sorted((root / table).glob("exchange=*/symbol=*"))
        if folder.is_dir() and not folder.is_symlink() and not folder.parent.is_symlink()
    ]
    return [series for series in map(Series.of_folder, folders) if series is not None]


def day_name(day: date) -> str:
    """The folder of a day in that of a series."""
    return f"dt={day.isoformat()}"


def day_of(name: str) -> date | None:
    """The day whose folder is named so; None for any other name, also of one written otherwise."""
    matched = _DAY.fullmatch(name)
    try:
        return date.fromisoformat(matched[1]) if matched else None
    except ValueError:
        return None


def days_below(folder: Path) -> list[date]:
    """The days that have a folder in that of a series, in order."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(day for day in map(day_of, names) if day is not None)


class Shard(NamedTuple):
    """What the name of a file in a day's folder says.

    Attributes:
        digits: The number as it is written.
        version: From 1.
        is_gone: The file only says that the shard is no part of the day any more.
    """

    digits: str
    version: int = 1
    is_gone: bool = False

    @property
    def name(self) -> str:
        """The file's name."""
        version = "" if self.version == 1 else f".v{self.version}"
        return f"{self.digits}{version}{GONE if self.is_gone else '.snappy.parquet'}"

    @property
    def object(self) -> str:
        """The name of its first version, which is that of the object at a store."""
        return Shard(self.digits).name

    @classmethod
    def of_object(cls, name: str) -> Shard | None:
        """The shard whose object at a store is named so; None if it is none."""
        shard = cls.of_name(name)
        return shard if shard and shard.object == name else None

    @classmethod
    def of_name(cls, name: str) -> Shard | None:
        """The shard that is named so; None if it is none."""
        matched = _SHARD.fullmatch(name)
        if matched is None:
            return None
        digits, version, gone, gone_version = matched.groups()
        return cls(gone or digits, int(gone_version or version or 1), gone is not None)


def shard_versions(folder: Path) -> dict[str, Shard]:
    """The newest version of each shard in a day's folder, by the name of its object."""
    newest: dict[str, Shard] = {}
    for path in stored_in(folder) if folder.is_dir() else ():
        found = Shard.of_name(path.name) if is_stored(path) else None
        known = found and newest.get(found.object)
        if found and (known is None or known.version < found.version):
            newest[found.object] = found
    return newest


def live_shards(folder: Path) -> list[Path]:
    """The shards of a day in numeric order, whether or not two of them are one; no others.

    Of a shard with several versions the newest is meant, and one that is gone since is left out.
    """
    live = [shard for shard in shard_versions(folder).values() if not shard.is_gone]
    return [folder / shard.name for shard in sorted(live, key=lambda each: int(each.digits))]


def folder_shards(folder: Path) -> list[Path]:
    """As `live_shards`, of a folder of which everybody can say what it holds.

    Raises:
        LakeFileError: See `refuse_names`; or something that is no file is named as a shard.
    """
    live = live_shards(folder)
    others = []
    for path in stored_in(folder) if folder.is_dir() else ():
        if not Shard.of_name(path.name):
            others.append(path.name)
        elif not is_stored(path):
            raise LakeFileError(
                "What is named as a shard of a day is no file",
                next_step="Put the file in its place or take it away, then run the day again.",
                file=path,
                expected="a file, or a link to one",
                found="a folder, a pipe or a link that leads nowhere",
            )
    refuse_names([*(path.name for path in live), *others], folder)
    return live


def refuse_names(names: Iterable[str], folder: Path | str) -> None:
    """Refuses names of which two are one shard, and beside shards such as may be that of one.

    Args:
        names: What a day's folder holds, or a store lists below it; of versions the newest.
        folder: Which folder, for the message.

    Raises:
        LakeFileError: There are two names of one number, or one that is none of the layout's.
    """
    named = sorted(names)
    if not any(map(Shard.of_name, named)):
        return
    by_number: dict[int, list[str]] = {}
    for name in named:
        if matched := _NUMBERED.fullmatch(name):
            by_number.setdefault(int(matched[1]), []).append(name)
    for same in by_number.values():
        if len(same) > 1:
            raise LakeFileError(
                "Two files are named as the same shard of a day",
                next_step="Take away those that are no part of the day, then run the day again.",
                file=folder,
                expected="one file for each number",
                found=" and ".join(same),
            )
        if not Shard.of_name(same[0]):
            raise LakeFileError(
                "A Parquet file with a number is not named as a shard",
                next_step="Name it so or take it out of the folder, then run the day again.",
                file=folder,
                expected="<N>.snappy.parquet",
                found=same[0],
            )

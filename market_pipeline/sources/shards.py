"""The names of the shards in a day's folder of the raw lake, and what such a folder may not hold.

A shard is `<N>.snappy.parquet`. One that changed at an object store lies beside the earlier one as
`<N>.v<K>.snappy.parquet`, K from 2, and `<N>.v<K>.gone` says that from then on it is no part of the
day. N may be written with zeros before it, but two names of one number (`1` and `00001`) are one
shard reported twice, and a Parquet file that begins with a number and is named otherwise
(`1.gz.parquet`, `1.SNAPPY.PARQUET`) may be one too: with either, nobody can say what the day is.
A folder of nothing but such files holds no shard.

A shard is a regular file, or a link to one. What is named so and is none (a pipe, which would keep
its reader waiting for ever, a folder, a link that leads nowhere) is never opened, and the day is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from market_pipeline.errors import LakeFileError

__all__ = ["ShardVersion", "folder_shards", "live_shards", "refuse_names", "shard_versions"]

_NUMBER, _VERSION = r"([0-9]{1,9})", r"\.v([2-9]|[1-9][0-9]{1,8})"
_SHARD = re.compile(rf"{_NUMBER}(?:{_VERSION})?\.snappy\.parquet|{_NUMBER}{_VERSION}\.gone")
_NUMBERED = re.compile(r"(\d+).*\.parquet", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class ShardVersion:
    """The newest version of a shard that lies in a folder.

    Attributes:
        version: From 1.
        path: The file.
        is_gone: The file only says that the shard is no part of the day any more.
    """

    version: int
    path: Path
    is_gone: bool


def shard_versions(folder: Path) -> dict[str, ShardVersion]:
    """The newest version of each shard in a day's folder, by the digits its name begins with."""
    newest: dict[str, ShardVersion] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        matched = _SHARD.fullmatch(path.name)
        if matched is None or not path.is_file():
            continue
        number, version, gone, gone_version = matched.groups()
        found = ShardVersion(int(gone_version or version or 1), path, gone is not None)
        key = gone or number
        if key not in newest or newest[key].version < found.version:
            newest[key] = found
    return newest


def live_shards(folder: Path) -> list[Path]:
    """The shards of a day in numeric order, whether or not two of them are one; no others.

    Of a shard with several versions the newest is meant, and one that is gone since is left out.
    """
    versions = shard_versions(folder).items()
    newest = [(int(number), each.path) for number, each in versions if not each.is_gone]
    return [path for _, path in sorted(newest)]


def folder_shards(folder: Path) -> list[Path]:
    """As `live_shards`, of a folder of which everybody can say what it holds.

    Raises:
        LakeFileError: See `refuse_names`; or something that is no file is named as a shard.
    """
    live = live_shards(folder)
    others = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not _SHARD.fullmatch(path.name):
            others.append(path.name)
        elif not path.is_file():
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
    if not any(map(_SHARD.fullmatch, named)):
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
        if not _SHARD.fullmatch(same[0]):
            raise LakeFileError(
                "A Parquet file with a number is not named as a shard",
                next_step="Name it so or take it out of the folder, then run the day again.",
                file=folder,
                expected="<N>.snappy.parquet",
                found=same[0],
            )

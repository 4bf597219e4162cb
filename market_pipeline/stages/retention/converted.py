"""What converters made of other vendors' days, and whether they could make it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from market_pipeline.config.settings import Settings
from market_pipeline.security.stored import is_stored
from market_pipeline.sources.raw_names import day_of, series_below
from market_pipeline.stages.raw.convert import CONVERTED_FOLDER, MADE_FOLDER, DayRecord, read_record
from market_pipeline.stages.raw.days import VendorFile, has_size
from market_pipeline.stages.retention.prune import Candidate

__all__ = ["ConvertedDays"]


@dataclass(frozen=True, slots=True)
class _Record:
    """What a converter wrote of a day that it made."""

    path: Path
    source: Path
    instrument: str
    day: date
    known: DayRecord


class ConvertedDays:
    """The days that converters made, as their records tell.

    A vendor's file counts as the one that was used if it has the same size.

    Args:
        settings: Where the lake with the vendors' files is, and the data folder.
        before: Only days before this one.
    """

    def __init__(self, settings: Settings, before: date) -> None:
        self._lake = settings.lake_path
        self._records = list(_records(settings.data_dir / CONVERTED_FOLDER, before))
        self._made_of = {
            frozenset((file.path, file.bytes) for file in each.known.files): each
            for each in self._records
            if each.known.made
        }
        self._files = {file.reference: file for each in self._records for file in each.known.files}

    def has_all(self, made_from: Sequence[str] | None) -> bool:
        """Whether the vendor's files that a manifest names, as `sha256  path`, are all there."""
        return bool(made_from) and all(
            each in self._files and self._has(self._files[each]) for each in made_from or ()
        )

    def _has(self, file: VendorFile) -> bool:
        return has_size(self._lake / file.path, file.bytes)

    def record_of(self, folder: str, files: Mapping[Path, int]) -> Path | None:
        """The lock file of the day that was made of these files and no others, and is still there.

        Args:
            folder: Their folder, below the lake.
            files: The files with their sizes.
        """
        found = frozenset((f"{folder}/{path.name}", size) for path, size in files.items())
        each = self._made_of.get(found)
        is_there = each is not None and all(
            has_size(each.source / path, size) for path, size in each.known.made
        )
        return each.path.with_suffix(".lock") if each is not None and is_there else None

    def candidates(self, before: date) -> Iterator[Candidate]:
        """What is left of each day before one."""
        for record in self._records:
            made = [(record.source / path, size) for path, size in record.known.made]
            paths = tuple((path, size) for path, size in made if is_stored(path))
            if record.day >= before or not paths:
                continue
            gone = next((file.path for file in record.known.files if not self._has(file)), None)
            yield Candidate(
                "raw",
                record.source.name,
                record.instrument,
                record.day,
                files=len(paths),
                bytes=sum(size for _, size in paths),
                paths=paths,
                again="its converter makes it again",
                last_copy=gone and "a vendor's file it was made from is gone or has changed",
                example=gone,
                lock=record.path.with_suffix(".lock"),
            )


def _records(converted: Path, before: date) -> Iterator[_Record]:
    for source in sorted(converted.glob("*")):
        for series in series_below(source, MADE_FOLDER):
            for path in sorted((source / series.folder).glob("*.json")):
                day, known = day_of(path.stem), read_record(path)
                # Of a record that cannot be read its converter makes the day anew.
                if day is not None and day < before and known is not None:
                    yield _Record(path, source, series.instrument, day, known)

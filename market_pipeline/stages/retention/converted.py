"""What converters made of other vendors' days, and whether they could make it again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from market_pipeline.config.settings import Settings
from market_pipeline.stages.raw.convert import CONVERTED_FOLDER
from market_pipeline.stages.retention.prune import Candidate

__all__ = ["ConvertedDays"]

_DAY = re.compile(r"dt=(\d{4}-\d\d-\d\d)")


@dataclass(frozen=True, slots=True)
class _Record:
    """What a converter wrote of a day that it made."""

    path: Path
    source: str
    instrument: str
    day: date
    known: dict[str, Any]


class ConvertedDays:
    """The days that converters made, as their records tell.

    A vendor's file counts as the one that was used if it has the same size.

    Args:
        settings: Where the lake with the vendors' files is, and the data folder.
        before: Only days before this one.
    """

    def __init__(self, settings: Settings, before: date) -> None:
        self._lake = settings.lake_path
        self._folder = settings.data_dir / CONVERTED_FOLDER
        self._records = list(_records(self._folder, before))
        self._sizes = {
            f"{file['sha256']}  {file['path']}": (file["path"], file["bytes"])
            for record in self._records
            for file in record.known["files"]
        }

    def has_all(self, made_from: Sequence[str] | None) -> bool:
        """Whether the vendor's files that a manifest names, as `sha256  path`, are all there."""
        return bool(made_from) and all(
            each in self._sizes and _has(self._lake, *self._sizes[each]) for each in made_from or ()
        )

    def candidates(self, before: date) -> Iterator[Candidate]:
        """What is left of each day before one."""
        for record in self._records:
            own = [
                (self._folder / record.source / path, size) for path, size in record.known["made"]
            ]
            paths = tuple((path, size) for path, size in own if path.is_file())
            if record.day >= before or not paths:
                continue
            gone = next(
                (
                    file["path"]
                    for file in record.known["files"]
                    if not _has(self._lake, file["path"], file["bytes"])
                ),
                None,
            )
            yield Candidate(
                "raw",
                record.source,
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
    for path in sorted(converted.glob("*/made/exchange=*/symbol=*/dt=*.json")):
        matched = _DAY.fullmatch(path.stem)
        source, _, exchange, symbol = path.relative_to(converted).parts[:4]
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            day = date.fromisoformat(matched[1]) if matched else None
            whole = {"files", "made"} <= known.keys()
        except (OSError, ValueError, AttributeError):
            continue  # its converter makes the day and the record anew
        if whole and day is not None and day < before:
            venue, name = exchange.removeprefix("exchange="), symbol.removeprefix("symbol=")
            yield _Record(path, source, f"{venue}:{name}", day, known)


def _has(lake: Path, path: str, size: int) -> bool:
    try:
        return (lake / path).stat().st_size == size
    except OSError:
        return False

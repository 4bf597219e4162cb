"""What the live capture recorded, and whether a day of the graph was made of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from market_pipeline.security.stored import stored_at, stored_in, stored_size
from market_pipeline.sources.raw_names import day_of
from market_pipeline.sources.recording import CONVERTER
from market_pipeline.sources.recording.format import PARTIAL_SUFFIX, SUFFIX
from market_pipeline.stages.retention.converted import ConvertedDays
from market_pipeline.stages.retention.prune import Candidate

__all__ = ["recorded_days"]


def recorded_days(
    lake: Path, converted: ConvertedDays, before: date, converted_goes_before: date | None
) -> Iterator[Candidate]:
    """The recorded days of every symbol in a lake, each as a whole.

    Args:
        lake: Where `recording/<exchange>/<symbol>/<day>` lie.
        converted: What was made of them.
        before: Only days before this one.
        converted_goes_before: What converters made of days before this one is due itself, and can
            be made again of recordings only; None if it stays.
    """
    root = lake / CONVERTER.name
    is_golden = (lake / "manifest.json").is_file()  # a lake that is a golden sample
    for folder in sorted(root.glob("*/*/*")):
        day = day_of(f"dt={folder.name}")
        if day is None or day >= before or folder.is_symlink() or not folder.is_dir():
            continue
        paths = stored_in(folder)
        own = [
            each
            for each in paths
            if each.name.endswith(SUFFIX) and not stored_at(each).is_symlink()
        ]
        sizes = tuple((each, stored_size(each)) for each in own)
        record = converted.record_of(folder.relative_to(lake).as_posix(), dict(sizes))
        stays = "it is a golden sample" if is_golden else None
        if any(each.name.endswith(PARTIAL_SUFFIX) for each in paths):
            stays = stays or "a file of it is not closed"
        elif len(own) < len(paths):
            stays = stays or "its folder holds something that no recorder put there"
        elif converted_goes_before is not None and day < converted_goes_before:
            stays = stays or "what was made of it is due as well, and is made again of it only"
        if paths:
            yield Candidate(
                "recording",
                CONVERTER.name,
                f"{folder.parent.parent.name}:{folder.parent.name}",
                day,
                files=len(own),
                bytes=sum(size for _, size in sizes),
                paths=sizes,
                again="its day was converted, and what was made of it stays",
                last_copy=None if record else "no day of the graph was made of these files",
                stays=stays,
                lock=record,
            )

"""Finds the lines of a log that belong together, across the files of all processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from market_pipeline.telemetry.logs.files import log_files
from market_pipeline.telemetry.logs.process_log import LEVELS, Line, decode

__all__ = ["Search"]


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for; all of it has to be so.

    Attributes:
        run: How the id of the run begins; empty for any.
        day: A UTC day, written YYYY-MM-DD: lines of its runs, whenever these ran, and those of no
            run that were written on it. Empty for any.
        instruments: Ids, of which one is named by the line; none for any line.
        least: The least level, as of `logging`.
    """

    run: str = ""
    day: str = ""
    instruments: frozenset[str] = frozenset()
    least: int = 0

    def lines(self, folder: Path) -> list[tuple[str, Line]]:
        """The lines by time, each as it is kept too; what is no line is passed over."""
        files = [path for path in log_files(folder) if _written_s(path) >= self._since_s]
        runs = frozenset[str]()
        if self.day:
            # Who ends a run that lost its process knows the run only.
            of_day = (line for _, line in _lines(files, self.day) if line.day == self.day)
            runs = frozenset(line.run for line in of_day)
        found = [pair for pair in _lines(files, self.run) if self._takes(pair[1], runs)]
        return sorted(found, key=lambda each: each[1].time)

    @property
    def _since_s(self) -> float:
        """When the earliest of the lines may have been written: no run of a day is before it."""
        if not self.day:
            return 0.0
        return datetime.strptime(self.day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()

    def _takes(self, line: Line, runs: frozenset[str]) -> bool:
        of_day = line.run in runs if line.run else line.time.startswith(self.day)
        return (
            LEVELS.get(line.level, 0) >= self.least
            and line.run.startswith(self.run)
            and (not self.day or of_day)
            and (not self.instruments or line.instrument in self.instruments)
        )


def _written_s(path: Path) -> float:
    """When a file was last written to; long ago if a process that begins one removed it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("-inf")


def _lines(files: list[Path], having: str) -> Iterator[tuple[str, Line]]:
    """The lines that have a text in them, which is looked for first: to decode is slower."""
    wanted = having.encode(errors="surrogateescape")
    for path in files:
        with suppress(FileNotFoundError), path.open("rb") as file:
            for raw in file:
                if wanted not in raw:
                    continue
                try:
                    yield raw.rstrip(b"\n").decode(), decode(raw)
                # A part of one, of a disk that was full, or what nobody of ours wrote.
                except (ValueError, RecursionError):
                    continue

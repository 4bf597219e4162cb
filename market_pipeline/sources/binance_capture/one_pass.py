"""One pass over capture files for several tables: each line goes to the readers that want it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from market_pipeline.sources.binance_capture.frames import check_json
from market_pipeline.sources.binance_capture.lines import (
    Findings,
    FindingsOfAll,
    read_blocks,
    split_line,
)
from market_pipeline.sources.binance_capture.parsed import Lines, Parser

__all__ = ["BATCH_ROWS", "TableReader", "read_once"]

BATCH_ROWS = 1 << 18
"""A batch that has as many rows is given."""

Batch_co = TypeVar("Batch_co", covariant=True)


class TableReader(ABC, Generic[Batch_co]):
    """Makes one table of what it is given: the lines of the files, in their order.

    Attributes:
        findings: Receives everything that is left out, and lines and files that are damaged.
    """

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self._ready: list[Batch_co] = []

    def begin_file(self, file: Path) -> None:
        """The lines that follow are those of a file."""

    @abstractmethod
    def wants(self, text: bytes) -> bool:
        """Whether a line's JSON is of a kind that is read; any other need only be JSON."""

    @abstractmethod
    def take_line(self, line: int, ts_receipt_ns: int, text: bytes) -> None:
        """Takes a line that it wants and that the kernel left alone."""

    def take(self, lines: Lines) -> None:
        """Takes consecutive lines of which the kernel left none alone."""

    def end_file(self) -> None:
        """The file ended."""

    def end(self) -> None:
        """The last file ended."""

    def taken(self) -> Sequence[Batch_co]:
        """The batches that were filled since it was asked last."""
        ready, self._ready = self._ready, []
        return ready


def read_once(
    files: Sequence[Path], parser: Parser, readers: Sequence[TableReader[Batch_co]]
) -> Iterator[Batch_co]:
    """Yields the batches of all readers, those of each in their order, from one decoding of a file.

    Raises:
        LakeFileError: If a file cannot be read, see `read_blocks`.
    """
    damage = FindingsOfAll([reader.findings for reader in readers])
    for file in files:
        for reader in readers:
            reader.begin_file(file)
        for first, lines, text in read_blocks(file, damage):
            _take_block(parser.parse(file, first, lines, text), text, readers, damage)
            yield from _taken(readers)
        for reader in readers:
            reader.end_file()
        yield from _taken(readers)
    for reader in readers:
        reader.end()
    yield from _taken(readers)


def _taken(readers: Sequence[TableReader[Batch_co]]) -> Iterator[Batch_co]:
    for reader in readers:
        yield from reader.taken()


def _take_block(
    block: Lines, text: bytes, readers: Sequence[TableReader[Batch_co]], damage: Findings
) -> None:
    begin, end = 0, len(block.columns)
    for index in (*block.left(), end):
        if begin < index:
            lines = block.part(begin, index)
            for reader in readers:
                reader.take(lines)
        if index < end:
            number = block.first + index
            found = split_line(block.file, number, text[block.bounds(index)], damage)
            if found is not None:
                _take_line(block.file, number, *found, readers)
        begin = index + 1


def _take_line(
    file: Path,
    number: int,
    ts_receipt_ns: int,
    text: bytes,
    readers: Sequence[TableReader[Batch_co]],
) -> None:
    others = []
    for reader in readers:
        if reader.wants(text):
            reader.take_line(number, ts_receipt_ns, text)
        else:
            others.append(reader.findings)
    if others:
        check_json(file, number, text, FindingsOfAll(others))

"""Every error this package raises on purpose: one root and a closed list of children.

An error carries its parts as attributes (which exchange, symbol, day, file, row, column; what was
expected and what was found) and its text ends with what to do next. The attributes are as they came
in, without secrets; in the text each part is fit to be shown, whoever chose its characters.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Literal

from market_pipeline.scrub.scrubber import scrubbed
from market_pipeline.shown import shown

__all__ = [
    "AuditError",
    "BackupError",
    "CheckpointError",
    "DomainError",
    "InstrumentsError",
    "LakeFileError",
    "MachineError",
    "MarketPipelineError",
    "MissingDataError",
    "PublishError",
    "SchemaError",
    "SealError",
    "SettingsError",
    "SimulationError",
    "StoreError",
    "VenueError",
    "WarehouseBusyError",
    "error_text",
    "is_of_machine",
    "machine_errno",
    "naming",
]

_OF_MACHINE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),
        *(errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN),
    }
)
"""What the next instrument would meet too, even where it looks like the fault of a file."""

_OF_FOLDERS = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR, errno.ESTALE})
"""The machine's where nobody took it for the fault of a file."""

_MAX_TEXT = 600

# How libraries that are not written in Python name the number of an error of the system.
_NUMBER = re.compile(r"os error (\d+)|\[[Ee]rrno (\d+)\]|Os \{ code: (\d+)")
_WORDS = {
    os.strerror(number): number for number in sorted(_OF_MACHINE | _OF_FOLDERS - {errno.EAGAIN})
} | {
    "database or disk is full": errno.ENOSPC,  # these four are SQLite's
    "attempt to write a readonly database": errno.EROFS,
    "unable to open database file": errno.EACCES,
    "disk I/O error": errno.EIO,
    "failed to map segment from shared object": errno.ENOMEM,
    "can't start new thread": errno.EAGAIN,
}
# At the end of a message or of a line: before that there may be what a vendor chose.
_REASON = re.compile(rf"({'|'.join(map(re.escape, _WORDS))})(?: \(os error \d+\))?[\W]*?(?:\n|$)")
_LIBRARIES = frozenset(
    {
        *("duckdb", "_duckdb", "polars", "pyarrow", "_internal", "deltalake", "pyo3_runtime"),
        *("sqlite3", "sqlalchemy", "botocore"),
    }
)
_IN_RUST = {"_internal", "deltalake", "pyo3_runtime"}


class MarketPipelineError(Exception):
    """Something a user can understand and act upon went wrong.

    Args:
        problem: One sentence saying what is wrong, without the parts below.
        next_step: One sentence saying what to do next.
        exchange, symbol, day: Which instrument and UTC day it concerns, if any.
        file: The file it concerns, if any.
        row: Zero-based row of that file, if any.
        column: The column (or setting) it concerns, if any.
        expected, found: What was expected and what was found, as text.
    """

    def __init__(
        self,
        problem: str,
        *,
        next_step: str,
        exchange: str | None = None,
        symbol: str | None = None,
        day: date | None = None,
        file: Path | str | None = None,
        row: int | None = None,
        column: str | None = None,
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        self.problem = scrubbed(problem)
        self.next_step = scrubbed(next_step)
        self.exchange = exchange
        self.symbol = symbol
        self.day = day
        self.file = str(file) if file is not None else None
        self.row = row
        self.column = column
        self.expected = None if expected is None else scrubbed(expected)
        self.found = None if found is None else scrubbed(found)
        super().__init__(self._text())

    def _text(self) -> str:
        instrument = f"{self.exchange}:{self.symbol}" if self.exchange and self.symbol else None
        names = ("day", "file", "row", "column", "expected", "found")
        parts = {"instrument": instrument} | {name: getattr(self, name) for name in names}
        located = ", ".join(
            f"{name}={shown(part)}" for name, part in parts.items() if part is not None
        )
        where = f" ({located})" if located else ""
        return f"{shown(self.problem.rstrip('.'))}{where}. {self.next_step}"


class SettingsError(MarketPipelineError):
    """The settings are not usable; `problems` lists every reason at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        listed = "".join(f"\n  - {shown(problem)}" for problem in self.problems)
        count = len(self.problems)
        super().__init__(
            f"{count} setting{'s are' if count != 1 else ' is'} not usable",
            next_step=f"Fix what is listed, then run `market-pipeline doctor`:{listed}",
        )


class InstrumentsError(MarketPipelineError):
    """The instruments file is not usable, or an instrument was asked for that it does not hold."""


class LakeFileError(MarketPipelineError):
    """A raw file cannot be read: truncated, not Parquet, or damaged inside."""


class SchemaError(MarketPipelineError):
    """A raw file does not have the columns or types of its table."""


class MissingDataError(MarketPipelineError):
    """An instrument has no raw file, or no row, for a day."""


class DomainError(MarketPipelineError):
    """A raw value is outside its domain: a price at or below zero, a negative or infinite size."""


class CheckpointError(MarketPipelineError):
    """A book checkpoint is damaged, of another day, or of another format."""


class PublishError(MarketPipelineError):
    """A partition could not be published; the one that was there before still is."""


class WarehouseBusyError(MarketPipelineError):
    """Another process held the warehouse lock for longer than the configured wait."""


class MachineError(MarketPipelineError):
    """The machine did not give what was needed: room, a right, memory, a further file.

    `file` is where, `expected` what was needed, `found` what there was. `machine.in_our_words`
    makes it of what the system and the libraries say.
    """


class SealError(MarketPipelineError):
    """A sealed file, or a key, is not usable: missing, wrong, destroyed or tampered with."""


class AuditError(MarketPipelineError):
    """An access could not be recorded, and is refused therefore, or the record cannot be read."""


class BackupError(MarketPipelineError):
    """A backup cannot be made, or is not as it was made."""


class SimulationError(MarketPipelineError):
    """A simulated day was asked for that cannot be made."""


class VenueError(MarketPipelineError):
    """A live venue cannot be recorded as it is asked for, or its endpoint cannot be trusted.

    Args:
        problem: One sentence saying what is wrong.
        next_step: One sentence saying what to do next.
        address: The address or venue that it concerns.
        expected, found: What is needed and what was met.
    """

    def __init__(
        self,
        problem: str,
        *,
        next_step: str,
        address: str,
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        self.address = address
        super().__init__(problem, next_step=next_step, file=address, expected=expected, found=found)


class StoreError(MarketPipelineError):
    """The object store did not give what it was asked for, or it could not be kept.

    Args:
        problem: One sentence saying what is wrong.
        kind: `forbidden` (no right to it), `missing` (no such bucket or object), `unavailable` (it
            cannot be reached, or answers with errors of its own), `cut` (the connection broke or
            stood still in the middle), `mismatch` (the bytes are not those of the object that was
            listed).
        next_step: One sentence saying what to do next.
        uri: The `s3://` address it concerns.
        found: What was met.
    """

    def __init__(
        self,
        problem: str,
        *,
        kind: Literal["forbidden", "missing", "unavailable", "cut", "mismatch"],
        next_step: str,
        uri: str,
        found: str | None = None,
    ) -> None:
        self.kind = kind
        self.uri = uri
        super().__init__(problem, next_step=next_step, file=uri, found=found)


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Has an error of the system name a place, where a library or a descriptor names none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(place)
        raise


def is_of_machine(error: BaseException, *, of_raw_files: bool = False) -> bool:
    """Whether an error is the machine's and not an instrument's: the next one would meet it too.

    That is no memory, no room on the disk, no further file to open, a folder that may not be used,
    or a warehouse that another process keeps. Such an error ends the run, which is then repeated;
    every other one that a single instrument meets is recorded as a failure of that instrument, and
    the others go on.

    Args:
        error: What was raised.
        of_raw_files: Whether nothing but raw files was looked at: a folder of theirs that may not
            be used is the failure of its instrument.
    """
    if isinstance(error, MachineError | WarehouseBusyError):
        return True
    number = machine_errno(error)
    if number in _OF_MACHINE:
        return True
    ours = isinstance(error, MarketPipelineError)
    return number in _OF_FOLDERS and not ours and not of_raw_files


def machine_errno(error: BaseException) -> int | None:
    """The number of the system's error that an error is, or came of; None if there is none.

    Libraries that are not written in Python tell it in the text alone, and no memory as a class.
    """
    seen: BaseException | None = error
    while seen is not None:
        number = _own_errno(seen)
        if number is not None:
            return number
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return None


def _own_errno(error: BaseException) -> int | None:
    if isinstance(error, MarketPipelineError):
        return None
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryException":
        return errno.ENOMEM
    text = str(error)
    if isinstance(error, OSError):
        number = _NUMBER.search(text)
        # pyarrow raises one without a number for a file that is damaged.
        return error.errno or (int(next(filter(None, number.groups()))) if number else None)
    library = type(error).__module__.partition(".")[0]
    if library in _LIBRARIES or isinstance(error, RuntimeError | ImportError):
        match = _REASON.search(text)
        if match:
            return _WORDS[match[1]]
        number = _NUMBER.search(text) if library in _IN_RUST else None
        return int(next(filter(None, number.groups()))) if number else None
    return None


def error_text(error: BaseException) -> str:
    """The class and the message of an error in one line, fit to be shown."""
    text = shown(" ".join(str(error).split()), _MAX_TEXT)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

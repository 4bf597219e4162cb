"""What a recording file is worth: whether it is closed, and whether every byte is as written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from market_pipeline.errors import LakeFileError, SealError
from market_pipeline.security.stored import is_stored, open_stored, plain_name, stored_size
from market_pipeline.sources.recording.format import (
    BLOCK,
    END,
    PARTIAL_SUFFIX,
    SUFFIX,
    Footer,
    Header,
    closed_name,
)
from market_pipeline.sources.recording.open_file import is_being_written
from market_pipeline.sources.recording.reader import (
    Damage,
    read_footer,
    read_header,
    read_recording,
)

__all__ = ["CheckedFile", "FileState", "RecordedFile", "check_recording", "find_recordings"]
__all__ += ["hash_of", "read_facts"]

_READ_BYTES = 1 << 20


class FileState(StrEnum):
    """How the writing of a file ended."""

    CLOSED = "closed"
    RECOVERED = "recovered"
    """A process left it open; it was closed at its last whole block."""
    LEFT_OPEN = "left open"
    WRITTEN = "being written"
    UNREADABLE = "unreadable"
    """Its header or its footer is damaged."""
    LOCKED = "locked"
    """It was closed and sealed, and nothing here opens it: no key, or it was changed since."""

    @property
    def is_closed(self) -> bool:
        """Whether it has its footer, by whoever closed it."""
        return self in (FileState.CLOSED, FileState.RECOVERED, FileState.LOCKED)


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """What header and footer of a file say; of one that is not closed there is no footer.

    Path and size are those of the plain file where it is sealed.
    """

    path: Path
    state: FileState
    size_bytes: int
    header: Header | None = None
    footer: Footer | None = None

    @property
    def records(self) -> int:
        """How many records it has."""
        return sum(each.records for each in self.footer.index) if self.footer else 0

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """The least and the greatest wall clock of its records, ns UTC."""
        if self.footer is None or not self.footer.index:
            return None
        index = self.footer.index
        return min(e.first_wall_ns for e in index), max(e.last_wall_ns for e in index)


class CheckedFile(msgspec.Struct, frozen=True):
    """What was found of a file, every byte read.

    Attributes:
        sha256: Of all its bytes, in hexadecimal; empty where they cannot be had.
        records: Those in whole blocks.
        damages: What is damaged, and where; none if it is as it was written.
    """

    path: Path
    state: FileState
    size_bytes: int
    sha256: str
    records: int
    damages: tuple[Damage, ...]


def find_recordings(places: Iterable[Path]) -> list[Path]:
    """Recordings among files and below folders, also those that are not closed, by name.

    One that is sealed is found by its plain name, and once where it lies both ways.
    """
    found = set()
    for place in places:
        named = (each for each in place.rglob("*") if each.is_file()) if place.is_dir() else [place]
        own = {plain_name(each) for each in named}
        found |= set(filter(None, map(_present, own))) if place.is_dir() else own
    return sorted(found)


def read_facts(path: Path) -> RecordedFile:
    """What a file says of itself, from its header and its footer alone.

    A `.partial` one that its writer has closed since it was found is read by the name it has now.

    Raises:
        OSError: It is not there.
    """
    try:
        size = stored_size(path)
    except FileNotFoundError:
        if not path.name.endswith(PARTIAL_SUFFIX):
            raise
        path = closed_name(path)
        size = stored_size(path)
    header = footer = None
    try:
        header = read_header(path)
        if path.name.endswith(PARTIAL_SUFFIX):
            state = FileState.WRITTEN if is_being_written(path) else FileState.LEFT_OPEN
        else:
            footer = read_footer(path)
            is_whole = footer.recovered_bytes is None
            state = FileState.CLOSED if is_whole else FileState.RECOVERED
    except SealError:
        state = FileState.LOCKED
    except LakeFileError:
        state = FileState.UNREADABLE
    except FileNotFoundError:
        if not path.name.endswith(PARTIAL_SUFFIX):
            raise
        return read_facts(closed_name(path))
    return RecordedFile(path, state, size, header, footer)


def check_recording(path: Path) -> CheckedFile:
    """Reads every byte of a file and compares it with its checksums and its footer.

    Of one that nothing here opens there is no hash, and that is its damage.

    Raises:
        OSError: It is not there; see `read_facts`.
    """
    facts = read_facts(path)
    try:
        return _checked(facts.path, facts)
    except SealError as error:
        damage = Damage(facts.path, 0, facts.size_bytes, f"{error.problem}: {error.found}")
        return CheckedFile(facts.path, facts.state, facts.size_bytes, "", facts.records, (damage,))
    except FileNotFoundError:
        if not facts.path.name.endswith(PARTIAL_SUFFIX):
            raise
        return check_recording(path)  # its writer has closed it meanwhile


def _checked(path: Path, facts: RecordedFile) -> CheckedFile:
    damages: list[Damage] = []
    found: list[tuple[int, int]] = []
    try:
        for chunk in read_recording(path, damages.append):
            found.append((chunk.offset, chunk.kind.size))
    except LakeFileError as error:
        damages.append(Damage(path, 0, facts.size_bytes, error.found or error.problem))
    if facts.footer is not None:
        damages += _against_footer(path, facts.footer, found) if not damages else ()
    elif not damages and facts.state is FileState.UNREADABLE:
        damages.append(Damage(path, 0, BLOCK.size, "no header, or one that is not known here"))
    records = sum(count for _, count in found)
    return CheckedFile(path, facts.state, facts.size_bytes, hash_of(path), records, tuple(damages))


def hash_of(path: Path, size: int | None = None) -> str:
    """The SHA-256 of a file, or of so many bytes at its beginning, in hexadecimal."""
    found, left = hashlib.sha256(), stored_size(path) if size is None else size
    with open_stored(path) as file:
        while data := file.read(min(_READ_BYTES, left)):
            found.update(data)
            left -= len(data)
    return found.hexdigest()


def _against_footer(path: Path, footer: Footer, found: list[tuple[int, int]]) -> tuple[Damage, ...]:
    """Where whole blocks are not those that the footer counts."""
    expected = [(each.offset, each.records) for each in footer.index]
    for mine, theirs in zip(found, expected, strict=False):
        if mine != theirs:
            return (Damage(path, mine[0], 0, f"{mine[1]} records, the footer has {theirs}"),)
    if len(found) != len(expected):
        return (Damage(path, 0, 0, f"{len(found)} blocks, the footer has {len(expected)}"),)
    with open_stored(path) as file:
        file.seek(-END.size, 2)
        offset, _ = END.unpack(file.read(END.size))
    if hash_of(path, offset) != footer.sha256:
        return (Damage(path, 0, offset, "other bytes than the footer has the SHA-256 of"),)
    return ()


def _present(path: Path) -> Path | None:
    """A recording by the name it has now, as it may have been closed since it was listed."""
    if path.name.endswith(PARTIAL_SUFFIX) and not path.exists():
        path = closed_name(path)
    return path if path.name.endswith((SUFFIX, PARTIAL_SUFFIX)) and is_stored(path) else None

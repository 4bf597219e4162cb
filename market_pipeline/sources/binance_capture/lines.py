"""The lines of a capture file, and what is found wrong with a capture.

A line is `<local stamp> <JSON>`, the file is gzip. What is damaged is passed over and reported;
what comes before it is used. Whatever a file unpacks to, a block and a line of it are held at a
time.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from market_pipeline.errors import LakeFileError
from market_pipeline.security.stored import open_stored
from market_pipeline.shown import shown
from market_pipeline.sources.memory_limits import LINE_BYTES

__all__ = ["MEANING", "FindingKind", "Findings", "FindingsOfAll", "LineFinding"]
__all__ += ["read_blocks", "read_lines", "split_line", "to_ns"]


_CHUNK_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 20
_STAMP_DIGITS = 19
_GZIP_MAGIC = b"\x1f\x8b"
_SHOWN_BYTES = 60
_SHOWN_FOUND = 200


class FindingKind(StrEnum):
    """What can be wrong with a capture; `MEANING` has a sentence for each."""

    TRUNCATED_LINE = "truncated_line"
    UNDECODABLE = "undecodable"
    TRUNCATED_GZIP = "truncated_gzip"
    DAMAGED_GZIP = "damaged_gzip"
    UNKNOWN_SYMBOL = "unknown_symbol"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    GAP = "gap"
    SNAPSHOT_OUT_OF_DATE = "snapshot_out_of_date"
    NOTHING_TRADED = "nothing_traded"


MEANING: dict[FindingKind, str] = {
    FindingKind.TRUNCATED_LINE: "The line ends before its JSON does; it is left out.",
    FindingKind.UNDECODABLE: (
        "The line is no stamp and JSON, or its frame lacks a field or has a value outside its "
        "domain; it is left out."
    ),
    FindingKind.TRUNCATED_GZIP: (
        "The file ends before its gzip stream does; this line and all after it are not there."
    ),
    FindingKind.DAMAGED_GZIP: (
        "The gzip stream is damaged or fails its checksum; from this line on nothing is read."
    ),
    FindingKind.UNKNOWN_SYMBOL: "The frame is about another symbol; it is left out.",
    FindingKind.DUPLICATE: "The frame just before this one came again; it is left out.",
    FindingKind.OUT_OF_ORDER: (
        "The frame is older than one before it and would put old values over newer ones; it is "
        "left out."
    ),
    FindingKind.GAP: "The frame does not continue the one before it: something was lost.",
    FindingKind.SNAPSHOT_OUT_OF_DATE: (
        "No message continues this snapshot, or a newer snapshot came before it."
    ),
    FindingKind.NOTHING_TRADED: (
        "The venue numbered a trade outside the market at no price and of no quantity; it is left "
        "out."
    ),
}


@dataclass(frozen=True, slots=True)
class LineFinding:
    """Something wrong at a line (counted from 1), with what was expected and found there."""

    kind: FindingKind
    file: Path
    line: int
    expected: str
    found: str


class Findings:
    """What one reader found wrong: how often for each kind, and where, for the first hundred.

    Every reader tells of damaged files and lines, so give each its own.

    Attributes:
        counts: Findings by kind; a kind that was not found is absent and reads as 0.
        located: The first 100 of each kind, in the order they were found.
    """

    LOCATED_PER_KIND = 100

    def __init__(self) -> None:
        self.counts: Counter[FindingKind] = Counter()
        self.located: list[LineFinding] = []

    def add(self, kind: FindingKind, file: Path, line: int, expected: str, found: str) -> None:
        """Counts a finding and keeps where it is."""
        self.counts[kind] += 1
        if self.counts[kind] <= self.LOCATED_PER_KIND:
            self.located.append(LineFinding(kind, file, line, expected, shown(found, _SHOWN_FOUND)))

    def is_next_id(self, last: int | None, new: int, name: str, file: Path, line: int) -> bool:
        """Whether an id that rises by one is above the last one; tells if it is not the next."""
        if last is None or new == last + 1:
            return True
        kind = FindingKind.GAP
        if new <= last:
            kind = FindingKind.DUPLICATE if new == last else FindingKind.OUT_OF_ORDER
        self.add(kind, file, line, f"{name}={last + 1}", f"{name}={new}")
        return new > last


class FindingsOfAll(Findings):
    """Passes on what is found to several readers' findings, and keeps nothing itself."""

    def __init__(self, each: Sequence[Findings]) -> None:
        super().__init__()
        self._each = each

    def add(self, kind: FindingKind, file: Path, line: int, expected: str, found: str) -> None:
        """Adds the finding to all of them."""
        for findings in self._each:
            findings.add(kind, file, line, expected, found)


def to_ns(stamp: int) -> int | None:
    """A stamp as ns since the epoch: 13 digits are ms, 16 are µs, 19 are ns; None for any other."""
    if 10**12 <= stamp < 10**13:
        return stamp * 1_000_000
    if 10**15 <= stamp < 10**16:
        return stamp * 1_000
    return stamp if 10**18 <= stamp < 2**63 else None


def read_lines(
    file: Path, findings: Findings, *, containing: bytes = b""
) -> Iterator[tuple[int, int, bytes]]:
    """Yields (line number from 1, ts_receipt_ns, JSON text) of every line that begins as one.

    The JSON is not looked into. A line at which the gzip stream breaks off is not used. With
    `containing` only lines with these bytes are looked at.

    Raises:
        LakeFileError: See `read_blocks`.
    """
    for first, _, text in read_blocks(file, findings):
        if containing in text:
            for number, line in enumerate(text[:-1].split(b"\n"), first):
                if containing in line:
                    found = split_line(file, number, line, findings)
                    if found is not None:
                        yield number, *found


def split_line(
    file: Path, number: int, line: bytes, findings: Findings
) -> tuple[int, bytes] | None:
    """A line's (ts_receipt_ns, JSON text); None, and a finding, if it does not begin as one."""
    stamp, _, text = line.partition(b" ")
    is_stamp = stamp.isdigit() and len(stamp) <= _STAMP_DIGITS
    ts_receipt_ns = to_ns(int(stamp)) if is_stamp else None
    if text and ts_receipt_ns is not None:
        return ts_receipt_ns, text
    kind = FindingKind.TRUNCATED_LINE if line.isdigit() else FindingKind.UNDECODABLE
    findings.add(kind, file, number, "a stamp, a space and JSON", repr(line[:_SHOWN_BYTES]))
    return None


def read_blocks(file: Path, findings: Findings) -> Iterator[tuple[int, int, bytes]]:
    """Yields (number of the first line from 1, how many lines, text with their breaks), in blocks.

    Raises:
        LakeFileError: If the file cannot be opened or is no gzip at all, or at a line of more than
            `LINE_BYTES`.
    """
    number = 1
    # In parts until it ends, or a long line would be copied with every block.
    rest: list[bytes] = []
    rest_bytes = 0
    for block in _inflated(file):
        if isinstance(block, _Broken):
            findings.add(block.kind, file, number, "a whole gzip stream", block.found)
            return
        end = block.rfind(b"\n") + 1
        if end:
            text = b"".join((*rest, block[:end]))
            rest, rest_bytes = [], 0
            lines = text.count(b"\n")
            yield number, lines, text
            number += lines
        rest.append(block[end:])
        rest_bytes += len(block) - end
        if rest_bytes > LINE_BYTES:
            raise _too_long(file, number, rest[0])
    if rest_bytes:
        yield number, 1, b"".join((*rest, b"\n"))


def _too_long(file: Path, number: int, begin: bytes) -> LakeFileError:
    return LakeFileError(
        f"Line {number} of the capture does not end",
        next_step="Check that this is a capture, or cut the line out of it, then rerun this day.",
        file=file,
        row=number - 1,
        expected=f"a line of at most {LINE_BYTES} bytes",
        found=f"a longer one, from {begin[:_SHOWN_BYTES]!r}",
    )


@dataclass(frozen=True, slots=True)
class _Broken:
    """Comes last, where the gzip stream could not be read to its end."""

    kind: FindingKind
    found: str


def _inflated(file: Path) -> Iterator[bytes | _Broken]:
    """Yields the decompressed bytes of all gzip members of a file, and last where they break."""
    try:
        raw = open_stored(file)
    except OSError as error:
        raise LakeFileError(
            "The capture cannot be opened",
            next_step="Check the path, or list the files of the folder again.",
            file=file,
            expected="a gzip file",
            found=str(error),
        ) from error
    with raw:
        data = raw.read(_CHUNK_BYTES)
        if not _GZIP_MAGIC.startswith(data[:2]):
            raise LakeFileError(
                "The capture is not a gzip file",
                next_step="Check that this is a capture, or compress it with gzip.",
                file=file,
                expected=f"first bytes {_GZIP_MAGIC.hex(' ')}",
                found=data[:2].hex(" "),
            )
        member = zlib.decompressobj(wbits=31)
        while data:
            before = member.copy()
            try:
                text = member.decompress(data, _BLOCK_BYTES)
            except zlib.error as error:
                yield _up_to_damage(before, data)
                yield _Broken(FindingKind.DAMAGED_GZIP, str(error))
                return
            yield text
            if member.eof:
                data = member.unused_data or raw.read(_CHUNK_BYTES)
                if data:
                    member = zlib.decompressobj(wbits=31)
            else:
                data = member.unconsumed_tail or raw.read(_CHUNK_BYTES)
    if not member.eof:
        # What did not fit into the last block.
        yield member.flush()
        yield _Broken(FindingKind.TRUNCATED_GZIP, "the end of the file")


def _up_to_damage(member: zlib._Decompress, data: bytes) -> bytes:
    """What can still be read of a chunk that zlib refused as a whole."""
    parts = []
    for at in range(len(data)):
        try:
            parts.append(member.decompress(data[at : at + 1]))
        except zlib.error:
            break
    return b"".join(parts)

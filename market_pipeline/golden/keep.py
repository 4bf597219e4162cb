"""Keeps a span of recordings as a golden sample, and makes one sample of several hosts' samples.

A sample is a folder that is there whole or not at all. Its files lie in it as they lay in the lake,
so that the folder can be used as a lake.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from market_pipeline.errors import LakeFileError, MissingDataError
from market_pipeline.golden.figures import measure
from market_pipeline.golden.manifest import (
    MANIFEST,
    VERSION,
    GoldenFile,
    Manifest,
    edited_parts,
    read_manifest,
    utc,
    write_manifest,
)
from market_pipeline.golden.provenance import FrameOrigins
from market_pipeline.security.stored import copy_stored, is_stored, stored_at, stored_size
from market_pipeline.sources.recording import CONVERTER
from market_pipeline.sources.recording.check import (
    FileState,
    RecordedFile,
    find_recordings,
    hash_of,
    read_facts,
)
from market_pipeline.sources.recording.heads import venue_of
from market_pipeline.sources.recording.hours import HOUR_NS
from market_pipeline.sources.recording.proof import FoundGap
from market_pipeline.sources.recording.reader import read_header
from market_pipeline.sources.recording.union import by_host, file_name
from market_pipeline.warehouse.layout import make_private_folder, sync, written_whole
from market_pipeline.warehouse.locks import locking

__all__ = ["FRAMES", "GAPS", "GOLDEN_FOLDER", "is_linked", "keep", "merge", "recordings_of"]

GOLDEN_FOLDER = "golden"
"""Below the data folder; nothing in it is ever pruned."""

FRAMES, GAPS = "frames.parquet", "gaps.jsonl"
"""Of merged samples: which file each frame came from, and every gap that was found."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def keep(
    lake: Path,
    data_dir: Path,
    name: str,
    instrument: tuple[str, str],
    span_ns: tuple[int, int] | None = None,
    label: str = "",
) -> Manifest:
    """Copies the recordings of a span into a sample of its own.

    Args:
        lake: The folder of the lake, below which the recorder writes.
        data_dir: The data folder.
        name: Of the sample: letters, digits, `.`, `_` and `-`.
        instrument: Exchange and symbol as the recordings have them, such as BINANCE and BTCUSDT.
        span_ns: From when to before when, ns UTC; None is all that is recorded, but for files that
            are being written.
        label: What is to be remembered of it.

    Raises:
        MissingDataError: Nothing of the span is recorded.
        LakeFileError: A file of it is not closed or is damaged, or the name is taken or no name.
    """
    exchange, symbol = instrument
    files = list(_in_span(lake / CONVERTER.name, exchange, symbol, span_ns))
    if not files:
        raise MissingDataError(
            "There is no recording of the span",
            next_step="`market-pipeline recording list` shows what there is.",
            exchange=exchange,
            symbol=symbol,
            file=lake / CONVERTER.name / exchange / symbol,
            expected="a recording" if span_ns is None else " to ".join(map(utc, span_ns)),
        )
    spans = [each.span_ns for each in files if each.span_ns is not None]
    if span_ns is None:
        span_ns = min(first for first, _ in spans), max(last for _, last in spans) + 1
    with _new_sample(data_dir, name) as folder:
        hashes = {}
        for each in files:
            path = each.path.relative_to(lake)
            hashes[str(path)] = _copy(each.path, folder / path)
        return _finish(folder, name, label, instrument, span_ns, hashes)


def merge(data_dir: Path, name: str, samples: Sequence[Path], label: str | None = None) -> Manifest:
    """Makes one sample of several that recorded the same streams on several hosts.

    It has the files of all of them, whose union by the venue's ids and the bytes of frames is what
    is read; and it says of each frame which file it came from, and of each gap who filled it.

    Args:
        data_dir: The data folder.
        name: Of the new sample.
        samples: Folders of samples, also ones that were copied here from another host.
        label: Of the new one; without it those of the others.

    Raises:
        LakeFileError: They are of different symbols or are not as they were kept, or see `keep`.
    """
    found = {folder: read_manifest(folder) for folder in samples}
    of = {(each.exchange, each.symbol) for each in found.values()}
    if len(of) != 1:
        raise LakeFileError(
            "The samples are not of one symbol",
            next_step="Merge samples of the same streams.",
            file=samples[-1],
            expected="one exchange and symbol",
            found=", ".join(sorted(":".join(each) for each in of)),
        )
    for folder, each in found.items():
        if edited := edited_parts(each):
            raise LakeFileError(
                "The manifest of a golden sample was edited",
                next_step="Bring the sample back from a copy, or leave it out.",
                file=folder / MANIFEST,
                expected="the hash of each of its parts",
                found=f"another hash of {', '.join(edited)}",
            )
    labels = dict.fromkeys(each.label for each in found.values() if each.label)
    merged = {hash_of(folder / MANIFEST): each.name for folder, each in found.items()}
    with _new_sample(data_dir, name) as folder:
        hashes: dict[str, str] = {}
        for source, each in found.items():
            for file in each.files:
                if file.path not in (FRAMES, GAPS):
                    _copy_kept(source, file, folder / file.path, hashes)
        span_ns = min(m.start_ns for m in found.values()), max(m.end_ns for m in found.values())
        text = " / ".join(labels) if label is None else label
        return _finish(folder, name, text, of.pop(), span_ns, hashes, merged)


def recordings_of(folder: Path, manifest: Manifest) -> list[Path]:
    """The recordings of a sample that are there; what a link leads to is not."""
    paths = [folder / each.path for each in manifest.files if not is_linked(folder, each.path)]
    return [each for each in paths if each.name not in (FRAMES, GAPS) and is_stored(each)]


def is_linked(folder: Path, path: str) -> bool:
    """Whether a path below a folder leads over a link, so perhaps to what is not of the folder."""
    at = stored_at(folder / path)
    return at.resolve() != folder.resolve() / path.rpartition("/")[0] / at.name


def _in_span(
    root: Path, exchange: str, symbol: str, span_ns: tuple[int, int] | None
) -> Iterator[RecordedFile]:
    for path in find_recordings([root / exchange / symbol] if (root / exchange).is_dir() else []):
        facts = read_facts(path) if is_stored(path) else None
        if facts is None or (facts.header and facts.header.symbol != symbol):
            continue
        if facts.state is FileState.LOCKED:
            read_header(path)  # says what keeps it from being opened
        if span_ns is None and facts.state is FileState.WRITTEN:
            continue  # what is recorded so far is what is closed
        begun_ns = facts.header.start_wall_ns if facts.header else 0
        # Its clock may have been set back since, for as long as its hour.
        if span_ns is not None and not facts.footer and begun_ns >= span_ns[1] + HOUR_NS:
            continue
        if not facts.state.is_closed:
            raise LakeFileError(
                "A recording of the span is not closed",
                next_step="Wait for the end of its hour, or close what a killed recorder left with "
                "`market-pipeline recording recover`.",
                file=path,
                expected="a file with its footer",
                found=facts.state,
            )
        own_ns = facts.span_ns
        if own_ns is None or (span_ns and (own_ns[0] >= span_ns[1] or own_ns[1] < span_ns[0])):
            continue
        if not path.name.isprintable():
            raise LakeFileError(
                "A recording of the span has a name that no manifest can hold",
                next_step="Rename it as the recorder names its files.",
                file=path,
                expected="printable text",
            )
        yield facts


@contextmanager
def _new_sample(data_dir: Path, name: str) -> Iterator[Path]:
    """A folder that has its name once the block ends well, and else is gone."""
    root = data_dir / GOLDEN_FOLDER
    make_private_folder(root)
    with locking(root / ".lock", name="the golden samples"):
        if not _NAME.fullmatch(name) or os.path.lexists(root / name):
            raise LakeFileError(
                "The golden sample cannot have that name",
                next_step="Choose another name; a sample is never replaced.",
                file=root / name,
                expected="letters, digits, `.`, `_` and `-`, and no sample of that name",
                found=name,
            )
        for left in root.glob(".*.partial"):
            shutil.rmtree(left)
        folder = root / f".{name}.{uuid4().hex}.partial"
        make_private_folder(folder)
        try:
            yield folder
            folder.rename(root / name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        sync(root)


def _copy(source: Path, target: Path) -> str:
    """Copies a file, sealed if it is, and gives the SHA-256 of what is in the copy."""
    make_private_folder(target.parent)
    copy_stored(source, target)
    return hash_of(target)


def _copy_kept(source: Path, file: GoldenFile, target: Path, hashes: dict[str, str]) -> None:
    """Copies a file of a sample, unless another sample has brought the same bytes."""
    found, expected = "a link", f"SHA-256 {file.sha256}"
    if not is_linked(source, file.path):
        if file.path not in hashes:
            hashes[file.path] = _copy(source / file.path, target)
        found = f"SHA-256 {hashes[file.path]}"
    if found != expected:
        raise LakeFileError(
            "A file of a golden sample is not the one that was kept",
            next_step="`market-pipeline golden verify` says what is wrong with a sample; leave it "
            "out, or bring the file back from a copy.",
            file=source / file.path,
            expected=expected,
            found=found,
        )


def _finish(
    folder: Path,
    name: str,
    label: str,
    instrument: tuple[str, str],
    span_ns: tuple[int, int],
    hashes: dict[str, str],
    merged: dict[str, str] | None = None,
) -> Manifest:
    """Measures what a folder has, and writes its manifest; `hashes` are those of its recordings."""
    exchange, symbol = instrument
    venue = venue_of(exchange)
    hosts = by_host(find_recordings([folder]))
    if merged:
        with FrameOrigins(folder / FRAMES) as origins, _gap_lines(folder / GAPS, hosts) as on_gap:
            figures = measure(venue, hosts, span_ns, on_frame=origins.take, on_gap=on_gap)
    else:
        figures = measure(venue, hosts, span_ns)
    hashes |= {name: hash_of(folder / name) for name in (FRAMES, GAPS) if merged}
    files = (
        GoldenFile(path, stored_size(folder / path), sha256)
        for path, sha256 in sorted(hashes.items())
    )
    manifest = Manifest(
        VERSION, name, label, venue.name, exchange, symbol, *span_ns,
        f"market-pipeline {version('market-pipeline')}", merged or {}, tuple(files), figures,
    )  # fmt: skip
    write_manifest(folder, manifest)
    return read_manifest(folder)


@contextmanager
def _gap_lines(path: Path, hosts: Sequence[Sequence[Path]]) -> Iterator[Callable[[FoundGap], None]]:
    """Writes each gap as a line of JSON, with the host that lacked it by name."""
    names = [read_header(files[0]).host for files in hosts]
    with written_whole(path) as file:

        def write(gap: FoundGap) -> None:
            line = {
                **gap._asdict(),
                "host": None if gap.host is None else names[gap.host],
                "filled_by": gap.filled_by and file_name(gap.filled_by),
            }
            file.write(json.dumps(line).encode() + b"\n")

        yield write

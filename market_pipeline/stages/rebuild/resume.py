"""What a rebuild leaves behind so that, once killed, it is resumed where it was.

One file per instrument and day in the staging folder: the state after some message and the finished
files up to it. It is replaced atomically, and believed only if it is whole and was made by the same
code from the same raw files with the same options.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec
import numpy as np

from market_pipeline.books.evidence import SPAN
from market_pipeline.books.intervals import IntervalsState
from market_pipeline.books.rebuild_state import RebuildState
from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import CheckpointError
from market_pipeline.warehouse.layout import Warehouse, make_private_folder, written_whole
from market_pipeline.warehouse.staging import StagedFile

__all__ = ["SavedRebuild", "forget_rebuilds", "load_rebuild", "package_digest", "save_rebuild"]

FORMAT = 5
_NEXT_STEP = "Nothing to do: the rebuild starts over."


@dataclass(frozen=True, slots=True)
class SavedRebuild:
    """A rebuild between two messages.

    Attributes:
        state: The book and its counters.
        intervals: The intervals under way.
        files: By table, the finished files of the rows up to here, in order.
        done: Whether the day is complete and only to be published.
    """

    state: RebuildState
    intervals: IntervalsState
    files: dict[str, list[StagedFile]]
    done: bool


class _Body(msgspec.Struct):
    """What a file holds after its head; other code's `saved` need not be readable by this."""

    made_from: dict[str, str]
    saved: msgspec.Raw


def save_rebuild(
    warehouse: Warehouse,
    instrument: Instrument,
    day: date,
    made_from: Mapping[str, str],
    saved: SavedRebuild,
) -> None:
    """Replaces what was saved of an instrument and day.

    Args:
        warehouse: Whose staging folder.
        instrument, day: Which rebuild.
        made_from: What its output follows from (inputs, parameters, code), each as text.
        saved: The rebuild; its files must lie in the staging folder.
    """
    raw = msgspec.Raw(msgspec.msgpack.encode(saved, enc_hook=_encoded))
    body = msgspec.msgpack.encode(_Body(dict(made_from), raw))
    make_private_folder(warehouse.staging_dir)
    with written_whole(_path(warehouse, instrument, day)) as file:
        file.write(f"{FORMAT} {hashlib.sha256(body).hexdigest()}\n".encode() + body)


def load_rebuild(
    warehouse: Warehouse, instrument: Instrument, day: date, made_from: Mapping[str, str]
) -> SavedRebuild | None:
    """What was saved of an instrument and day; None where nothing was.

    Raises:
        CheckpointError: It is damaged, of another format, instrument or day, was made by other
            code, of other inputs or with other parameters.
    """
    path = _path(warehouse, instrument, day)
    if not path.exists():
        return None

    def refused(problem: str, expected: object, found: object) -> CheckpointError:
        return CheckpointError(
            problem,
            next_step=_NEXT_STEP,
            exchange=instrument.venue,
            symbol=instrument.symbol,
            day=day,
            file=path,
            expected=str(expected),
            found=str(found),
        )

    head, _, content = path.read_bytes().partition(b"\n")
    version, _, digest = head.decode(errors="replace").partition(" ")
    if version != str(FORMAT):
        raise refused("The saved rebuild is of another format", FORMAT, version[:20])
    actual = hashlib.sha256(content).hexdigest()
    if digest != actual:
        raise refused("The saved rebuild is damaged", f"SHA-256 {digest[:64]}", actual)
    body = _body.decode(content)
    differing = sorted(dict(body.made_from.items() ^ made_from.items()))
    if differing:
        raise refused(
            f"The saved rebuild was made from something else: {', '.join(differing)}",
            {name: made_from.get(name) for name in differing},
            {name: body.made_from.get(name) for name in differing},
        )
    return _saved.decode(body.saved)


def forget_rebuilds(warehouse: Warehouse, instruments: Iterable[Instrument], day: date) -> None:
    """Removes what was saved of a day's rebuilds; they are published."""
    for instrument in instruments:
        _path(warehouse, instrument, day).unlink(missing_ok=True)


def _path(warehouse: Warehouse, instrument: Instrument, day: date) -> Path:
    return warehouse.scratch_file(day, instrument.id, "resume")


@cache
def package_digest() -> str:
    """Names the state of all code of the package, of which any part may change what is rebuilt."""
    digest = hashlib.sha256()
    package = Path(str(files("market_pipeline")))
    for source in sorted(package.rglob("*.py")):
        digest.update(f"{source.relative_to(package)}\n".encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def _encoded(value: object) -> object:
    """An array, or a path, as values that every file can hold.

    Not in numpy's format, whose heads of arrays are parsed as Python: in CPython 3.11 that fails
    while another thread does so too, if only to log a traceback ("AST constructor recursion depth
    mismatch").
    """
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return str(value)


def _decoded(kind: type, value: object) -> object:
    if issubclass(kind, Path):
        return Path(str(value))
    dtype, shape, content = msgspec.convert(value, tuple[str, tuple[int, ...], bytes])
    # All structured arrays are of intervals.
    array = np.frombuffer(content, SPAN if dtype == SPAN.str else dtype)
    return array.reshape(shape).copy()


_body = msgspec.msgpack.Decoder(_Body)
_saved = msgspec.msgpack.Decoder(SavedRebuild, dec_hook=_decoded)

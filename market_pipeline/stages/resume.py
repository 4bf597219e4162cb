"""What a rebuild leaves behind so that, once killed, it goes on where it was.

One file per instrument and day in the staging folder: the state after some message and the finished
files up to it. It is replaced atomically, and believed only if it is whole and was made by the same
code from the same raw files with the same options.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from market_pipeline.books.integers import OffStep, OffStepCount
from market_pipeline.books.intervals import IntervalsState
from market_pipeline.books.keyframe import RebuildState
from market_pipeline.books.state import Repairs
from market_pipeline.errors import CheckpointError
from market_pipeline.instruments import Instrument
from market_pipeline.lake.layout import PRIVATE_FILE, Warehouse, make_private_folder, sync
from market_pipeline.lake.staging import StagedFile

__all__ = ["SavedRebuild", "forget_rebuilds", "load_rebuild", "save_rebuild"]

FORMAT = 1
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
    files: Mapping[str, list[StagedFile]]
    done: bool


def save_rebuild(
    warehouse: Warehouse,
    instrument: Instrument,
    day: date,
    made_from: Mapping[str, Any],
    saved: SavedRebuild,
) -> None:
    """Replaces what was saved of an instrument and day.

    Args:
        warehouse: Whose staging folder.
        instrument, day: Which rebuild.
        made_from: What its output follows from (code, raw files, options), as JSON values.
        saved: The rebuild; its files must lie in the staging folder.
    """
    state, intervals = saved.state, saved.intervals
    arrays: dict[str, Any] = {
        "registers": state.registers,
        "bid_price_ticks": state.bid_price_ticks,
        "bid_size_lots": state.bid_size_lots,
        "ask_price_ticks": state.ask_price_ticks,
        "ask_size_lots": state.ask_size_lots,
        "open": intervals.open,
        "found": intervals.found,
        "repairs": np.stack(intervals.repairs),
    }
    described = {
        "made_from": dict(made_from),
        "done": saved.done,
        "off_tick": _described(state.off_tick),
        "off_lot": _described(state.off_lot),
        "intervals": {
            name: getattr(intervals, name)
            for name in ("messages", "time_ns", "sequence_number", "flags")
        },
        "files": {
            table: [asdict(file) | {"path": file.path.name} for file in files]
            for table, files in saved.files.items()
        },
    }
    buffer = io.BytesIO()
    np.savez(buffer, described=np.array(json.dumps(described)), **arrays)
    body = buffer.getvalue()
    head = f"{FORMAT} {hashlib.sha256(body).hexdigest()}\n".encode()
    make_private_folder(warehouse.staging_dir)
    path = _path(warehouse, instrument, day)
    fresh = path.with_suffix(f".{os.getpid()}.partial")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(head + body)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    sync(path.parent)


def load_rebuild(
    warehouse: Warehouse, instrument: Instrument, day: date, made_from: Mapping[str, Any]
) -> SavedRebuild | None:
    """What was saved of an instrument and day; None where nothing was.

    Raises:
        CheckpointError: It is damaged, of another format, instrument or day, was made by other
            code, from other raw files or with other options.
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

    head, _, body = path.read_bytes().partition(b"\n")
    version, _, digest = head.decode(errors="replace").partition(" ")
    if version != str(FORMAT):
        raise refused("The saved rebuild is of another format", FORMAT, version[:20])
    actual = hashlib.sha256(body).hexdigest()
    if digest != actual:
        raise refused("The saved rebuild is damaged", f"SHA-256 {digest[:64]}", actual)
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        described = json.loads(str(arrays["described"]))
        # Compared as JSON, which knows no difference between a tuple and a list.
        wanted = json.loads(json.dumps(dict(made_from)))
        if described["made_from"] != wanted:
            differing = sorted(
                name
                for name in wanted.keys() | described["made_from"].keys()
                if wanted.get(name) != described["made_from"].get(name)
            )
            raise refused(
                f"The saved rebuild was made from something else: {', '.join(differing)}",
                {name: wanted.get(name) for name in differing},
                {name: described["made_from"].get(name) for name in differing},
            )
        state = RebuildState(
            registers=arrays["registers"],
            bid_price_ticks=arrays["bid_price_ticks"],
            bid_size_lots=arrays["bid_size_lots"],
            ask_price_ticks=arrays["ask_price_ticks"],
            ask_size_lots=arrays["ask_size_lots"],
            off_tick=_off_step_count(described["off_tick"]),
            off_lot=_off_step_count(described["off_lot"]),
        )
        intervals = IntervalsState(
            **described["intervals"],
            open=arrays["open"],
            found=arrays["found"],
            repairs=Repairs._make(arrays["repairs"]),
        )
    files = {
        table: [
            StagedFile(**{**file, "path": warehouse.staging_dir / file["path"]}) for file in files
        ]
        for table, files in described["files"].items()
    }
    return SavedRebuild(state, intervals, files, described["done"])


def forget_rebuilds(warehouse: Warehouse, instruments: Iterable[Instrument], day: date) -> None:
    """Removes what was saved of a day's rebuilds; they are published."""
    for instrument in instruments:
        _path(warehouse, instrument, day).unlink(missing_ok=True)


def _path(warehouse: Warehouse, instrument: Instrument, day: date) -> Path:
    return warehouse.staging_dir / f"{day.isoformat()}-{quote(instrument.id, safe='-_.')}.resume"


def _described(count: OffStepCount) -> dict[str, Any]:
    first = [asdict(step) | {"file": str(step.file)} for step in count.first]
    return {"losses": count.losses, "first": first}


def _off_step_count(described: Mapping[str, Any]) -> OffStepCount:
    first = [OffStep(**{**step, "file": Path(step["file"])}) for step in described["first"]]
    return OffStepCount(described["losses"], first)

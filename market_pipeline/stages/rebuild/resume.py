"""What a rebuild leaves behind so that, once killed, it is resumed where it was.

One file per instrument and day in the staging folder: the state after some message and the finished
files up to it. It is replaced atomically, and believed only if it is whole and was made by the same
code from the same raw files with the same options.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from market_pipeline.books.evidence import SPAN
from market_pipeline.books.integers import OffStep, OffStepCount
from market_pipeline.books.intervals import IntervalsState
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.lookback import LookbackState
from market_pipeline.books.marking import LastSnapshot
from market_pipeline.books.rebuild_state import RebuildState
from market_pipeline.books.state import BboRows, DepthRows, History, Repairs
from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import CheckpointError
from market_pipeline.warehouse.layout import Warehouse, make_private_folder, written_whole
from market_pipeline.warehouse.staging import StagedFile

__all__ = ["SavedRebuild", "forget_rebuilds", "load_rebuild", "package_digest", "save_rebuild"]

FORMAT = 4
_LEVELS = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")
_LOOKBACK = tuple(
    each.name for each in fields(LookbackState) if each.name not in ("bbo", "depth", "keyframes")
)
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
        made_from: What its output follows from (inputs, parameters, code), as JSON values.
        saved: The rebuild; its files must lie in the staging folder.
    """
    state, intervals = saved.state, saved.intervals
    keyframes = state.lookback.keyframes if state.lookback else []
    described = {
        "made_from": dict(made_from),
        "done": saved.done,
        "off_tick": _described(state.off_tick),
        "off_lot": _described(state.off_lot),
        "last_snapshot": state.last_snapshot,
        "lookback": state.lookback and {name: getattr(state.lookback, name) for name in _LOOKBACK},
        "keyframes": [
            {
                each.name: getattr(keyframe, each.name)
                for each in fields(Keyframe)
                if each.name not in _LEVELS
            }
            for keyframe in keyframes
        ],
        "intervals": {
            name: getattr(intervals, name)
            for name in ("messages", "time_ns", "sequence_number", "flags")
        },
        "files": {
            table: [asdict(file) | {"path": file.path.name} for file in files]
            for table, files in saved.files.items()
        },
    }
    arrays = _arrays_of(state, intervals)
    # Not in numpy's format, whose heads of arrays are parsed as Python: in CPython 3.11 that fails
    # while another thread does so too, if only to log a traceback ("AST constructor recursion depth
    # mismatch").
    described["arrays"] = {name: (each.dtype.str, each.shape) for name, each in arrays.items()}
    body = b"\n".join(
        [json.dumps(described).encode(), b"".join(map(np.ndarray.tobytes, arrays.values()))]
    )
    head = f"{FORMAT} {hashlib.sha256(body).hexdigest()}\n".encode()
    make_private_folder(warehouse.staging_dir)
    with written_whole(_path(warehouse, instrument, day)) as file:
        file.write(head + body)


def _arrays_of(state: RebuildState, intervals: IntervalsState) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "registers": state.registers,
        "bid_price_ticks": state.bid_price_ticks,
        "bid_size_lots": state.bid_size_lots,
        "ask_price_ticks": state.ask_price_ticks,
        "ask_size_lots": state.ask_size_lots,
        "open": intervals.open.view(np.int64),
        "found": intervals.found.view(np.int64),
        "repairs": np.stack(intervals.repairs),
        **_named("history", state.history),
        **_named("bbo", state.lookback and state.lookback.bbo),
        **_named("depth", state.lookback and state.lookback.depth),
    }
    for number, keyframe in enumerate(state.lookback.keyframes if state.lookback else []):
        arrays |= {f"keyframe{number}.{name}": getattr(keyframe, name) for name in _LEVELS}
    return arrays


def load_rebuild(
    warehouse: Warehouse, instrument: Instrument, day: date, made_from: Mapping[str, Any]
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

    head, _, body = path.read_bytes().partition(b"\n")
    version, _, digest = head.decode(errors="replace").partition(" ")
    if version != str(FORMAT):
        raise refused("The saved rebuild is of another format", FORMAT, version[:20])
    actual = hashlib.sha256(body).hexdigest()
    if digest != actual:
        raise refused("The saved rebuild is damaged", f"SHA-256 {digest[:64]}", actual)
    text, _, values = body.partition(b"\n")
    described = json.loads(text)
    # Compared as JSON, which knows no difference between a tuple and a list.
    current = json.loads(json.dumps(dict(made_from)))
    if described["made_from"] != current:
        differing = sorted(
            name
            for name in current.keys() | described["made_from"].keys()
            if current.get(name) != described["made_from"].get(name)
        )
        raise refused(
            f"The saved rebuild was made from something else: {', '.join(differing)}",
            {name: current.get(name) for name in differing},
            {name: described["made_from"].get(name) for name in differing},
        )
    return _restored(described, values, warehouse.staging_dir)


def _restored(described: Mapping[str, Any], values: bytes, staging_dir: Path) -> SavedRebuild:
    arrays = _arrays(described["arrays"], values)
    state = RebuildState(
        registers=arrays["registers"],
        bid_price_ticks=arrays["bid_price_ticks"],
        bid_size_lots=arrays["bid_size_lots"],
        ask_price_ticks=arrays["ask_price_ticks"],
        ask_size_lots=arrays["ask_size_lots"],
        off_tick=_off_step_count(described["off_tick"]),
        off_lot=_off_step_count(described["off_lot"]),
        history=_of_names("history", History, arrays),
        last_snapshot=LastSnapshot(*described["last_snapshot"])
        if described["last_snapshot"]
        else None,
        lookback=_lookback(described, arrays),
    )
    intervals = IntervalsState(
        **described["intervals"],
        open=arrays["open"].view(SPAN),
        found=arrays["found"].view(SPAN),
        repairs=Repairs._make(arrays["repairs"]),
    )
    files = {
        table: [StagedFile(**{**file, "path": staging_dir / file["path"]}) for file in files]
        for table, files in described["files"].items()
    }
    return SavedRebuild(state, intervals, files, described["done"])


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


def _arrays(described: Mapping[str, tuple[str, list[int]]], values: bytes) -> dict[str, Any]:
    """The arrays that were written one after the other, by name."""
    arrays, offset = {}, 0
    for name, (dtype, shape) in described.items():
        count = math.prod(shape)
        array = np.frombuffer(values, dtype, count, offset).reshape(shape).copy()
        arrays[name] = array
        offset += array.nbytes
    return arrays


def _named(prefix: str, arrays: Any) -> dict[str, Any]:
    """The arrays of a named tuple by their names; none of None."""
    if arrays is None:
        return {}
    return {f"{prefix}.{name}": array for name, array in arrays._asdict().items()}


def _of_names(prefix: str, kind: Any, arrays: Mapping[str, Any]) -> Any:
    """The named tuple that `_named` took apart; None if there was none."""
    names = [f"{prefix}.{name}" for name in kind._fields]
    return kind._make(arrays[name] for name in names) if names[0] in arrays else None


def _lookback(described: Mapping[str, Any], arrays: Mapping[str, Any]) -> LookbackState | None:
    if described["lookback"] is None:
        return None
    keyframes = [
        Keyframe(**each, **{name: arrays[f"keyframe{number}.{name}"] for name in _LEVELS})
        for number, each in enumerate(described["keyframes"])
    ]
    return LookbackState(
        bbo=_of_names("bbo", BboRows, arrays),
        depth=_of_names("depth", DepthRows, arrays),
        keyframes=keyframes,
        **described["lookback"],
    )


def _described(count: OffStepCount) -> dict[str, Any]:
    first = [asdict(step) | {"file": str(step.file)} for step in count.first]
    return {"losses": count.losses, "first": first}


def _off_step_count(described: Mapping[str, Any]) -> OffStepCount:
    first = [OffStep(**{**step, "file": Path(step["file"])}) for step in described["first"]]
    return OffStepCount(described["losses"], first)

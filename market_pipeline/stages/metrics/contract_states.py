"""Stages the funding and the open interest of the instruments that have any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import DomainError, LakeFileError, SchemaError, SealError
from market_pipeline.metrics.contract_states import ContractState, StateRows
from market_pipeline.stages.metrics.measured import make_each
from market_pipeline.stages.provenance import made_of_each
from market_pipeline.stages.raw.objects import RawObjects
from market_pipeline.stages.rebuild.quarantine import keep_bad_file
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import MadeOf
from market_pipeline.warehouse.staging import StagedFile, StagedWriter

__all__ = ["StateCounts", "StatesDay", "states_day", "states_made_of"]


def states_made_of(
    state: ContractState, day: date, instruments: Sequence[Instrument], raw: RawObjects
) -> dict[str, MadeOf]:
    """By id, what a table of contracts' states follows from."""

    def made_of(instrument: Instrument) -> MadeOf:
        return MadeOf(tuple(raw.made_from(state.manifest, instrument, day)), {})

    return made_of_each(day, instruments, made_of)


@dataclass(frozen=True, slots=True)
class StateCounts:
    """How many rows an instrument has, and how many were left out (see `StateRows`)."""

    rows: int
    repeated: int
    other_day: int


@dataclass(frozen=True, slots=True)
class StatesDay:
    """The staged rows of a day.

    Attributes:
        staged: A file for each instrument that has a raw file.
        withdrawn: Ids of the others; what was published of them before is withdrawn.
        counts: By id, of each file.
        without: By id, why one with a raw file has nothing.
    """

    staged: list[StagedFile] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    counts: dict[str, StateCounts] = field(default_factory=dict)
    without: dict[str, str] = field(default_factory=dict)


def states_day(
    state: ContractState,
    day: date,
    instruments: Sequence[Instrument],
    raw: RawObjects,
    warehouse: Warehouse,
    lake: Path,
    warn: Callable[[str], None] = lambda _: None,
) -> StatesDay:
    """The rows of a table of states of a day; a file that cannot be used is kept aside.

    Args:
        state: Which table.
        day: The UTC day.
        instruments: Of which contracts; one without a raw file is no fault.
        raw: The day's registered objects of the raw table.
        warehouse: Where to stage and to keep aside.
        lake: The folder that the objects' paths count from.
        warn: Called with the instrument of which nothing can be published, and why.

    Raises:
        Exception: What is the machine's (`errors.is_of_machine`).
    """

    def files_of(instrument: Instrument) -> list[Path] | None:
        return raw.files_if_any(instrument)[0] or None

    def staged(instrument: Instrument, files: list[Path]) -> tuple[StagedFile, StateCounts]:
        try:
            found = StateRows.of(state.read(files), state.table, instrument, day)
        except (LakeFileError, SchemaError, DomainError, SealError) as error:
            keep_bad_file(warehouse, lake, raw, error)
            raise
        with StagedWriter(warehouse, state.table, instrument.id) as writer:
            writer.write(found.rows.to_arrow())
        counts = StateCounts(found.rows.height, found.repeated, found.other_day)
        return writer.staged, counts

    made = make_each(day, instruments, files_of, staged, state.raw.name, warn)
    return StatesDay(
        [file for file, _ in made.made.values()],
        [each.id for each in instruments if each.id not in made.made],
        {name: counts for name, (_, counts) in made.made.items()},
        made.without,
    )

"""Compares a day's published books with the golden ones that the instruments file names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from market_pipeline.books.tables import BBO, DEPTH, INTERVALS
from market_pipeline.config.fidelity import BookAddress
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.values import JsonValue
from market_pipeline.errors import InstrumentsError
from market_pipeline.quality.fidelity.books import ComparedBook
from market_pipeline.quality.fidelity.compare import compare_books
from market_pipeline.quality.fidelity.report import (
    FIDELITY_METRICS,
    FIDELITY_REPORT,
    Comparison,
    FidelityMetricRow,
    FidelityRow,
)
from market_pipeline.stages.fidelity.books import published_book
from market_pipeline.stages.metrics.measured import make_each
from market_pipeline.stages.provenance import made_of_each, published_inputs
from market_pipeline.stages.published_rows import of_instrument
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import MadeOf
from market_pipeline.warehouse.read import current_files
from market_pipeline.warehouse.tables import Table

__all__ = ["COMPARED", "COMPARED_BOOKS", "FidelityDay", "fidelity_day", "fidelity_made_of"]
__all__ += ["golden_of", "warehouse_of"]

COMPARED: tuple[Table, ...] = (FIDELITY_REPORT, FIDELITY_METRICS)
"""The tables that are made together."""
COMPARED_BOOKS: tuple[Table, ...] = (BBO, DEPTH, INTERVALS)
"""What is read of both books, in this order."""


@dataclass(frozen=True, slots=True)
class FidelityDay:
    """The comparisons of a day.

    Attributes:
        comparisons: By instrument id.
        rows, metrics: Rows of `quality.fidelity_report` and `quality.fidelity_metrics`.
        without: By id, why one that has a golden book and a book of the day was not compared.
        failed: Ids of those among them that may be when the day is run again, though nothing they
            are made of changes.
    """

    comparisons: dict[str, Comparison]
    rows: pl.DataFrame
    metrics: pl.DataFrame
    without: dict[str, str]
    failed: frozenset[str]


def fidelity_day(
    day: date,
    instruments: Sequence[Instrument],
    warehouse: Warehouse,
    warn: Callable[[str], None] = lambda _: None,
) -> FidelityDay:
    """Compares each instrument that names a golden book and has a book of its own that day.

    Whatever goes wrong with one instrument, the others are compared.

    Args:
        day: The UTC day.
        instruments: Whose books.
        warehouse: Where they are published, and the golden ones too that name no data folder.
        warn: Called with the instrument that is not compared though it has a book, and why.
    """

    def books_of(instrument: Instrument) -> tuple[ComparedBook, ComparedBook] | str | None:
        address = golden_of(instrument)
        if address is None or not current_files(warehouse, BBO, day, {instrument.id}):
            return None
        golden = warehouse_of(address, warehouse)
        if not current_files(golden, BBO, day, {address.instrument}):
            return f"Its golden book {address} has nothing of {day}."
        return (
            published_book(golden, address.instrument, day),
            published_book(warehouse, instrument.id, day),
        )

    def compared(instrument: Instrument, books: tuple[ComparedBook, ComparedBook]) -> Comparison:
        return compare_books(*books, instrument.fidelity)

    found = make_each(day, instruments, books_of, compared, "fidelity report", warn)
    pairs, metrics = [], []
    for instrument in instruments:
        comparison = found.made.get(instrument.id)
        if comparison is not None:
            whose = {"exchange": instrument.venue, "symbol": instrument.symbol, "dt": day}
            # As it is configured: where a data folder lies is no part of a row.
            golden = instrument.fidelity.golden
            pairs.append(FidelityRow.taken_from(comparison.pair, **whose, golden=golden))
            metrics += [FidelityMetricRow.taken_from(each, **whose) for each in comparison.metrics]
    return FidelityDay(
        found.made,
        FIDELITY_REPORT.frame(pairs),
        FIDELITY_METRICS.frame(metrics),
        found.without,
        frozenset(found.failed),
    )


def fidelity_made_of(
    day: date, instruments: Sequence[Instrument], published: pl.DataFrame, warehouse: Warehouse
) -> dict[str, MadeOf]:
    """By id, what an instrument's comparison follows from.

    Only of those that name a golden book, and those of which rows are published, which are to go.

    Args:
        day: The UTC day.
        instruments: Whose.
        published: The day's rows of `quality.fidelity_report`.
        warehouse: Where their books are published.
    """
    concerned = [
        each
        for each in instruments
        if golden_of(each) or not published.filter(of_instrument(each)).is_empty()
    ]
    own = [published_inputs(warehouse, table, day) for table in COMPARED_BOOKS if concerned]

    def made_of(instrument: Instrument) -> MadeOf:
        address = golden_of(instrument)
        if address is None:
            return MadeOf((), {"golden": None})
        its = warehouse_of(address, warehouse)
        golden: list[JsonValue] = [
            each.sha256
            for table in COMPARED_BOOKS
            for each in published_inputs(its, table, day).get(address.instrument, ())
        ]
        parameters: dict[str, JsonValue] = {
            "fidelity": instrument.fidelity.model_dump(mode="json"),
            "golden_sha256": golden,
        }
        inputs = tuple(each for table in own for each in table.get(instrument.id, ()))
        return MadeOf(inputs, parameters)

    return made_of_each(day, concerned, made_of)


def golden_of(instrument: Instrument) -> BookAddress | None:
    """The golden book that an instrument names; None if it names none."""
    given = instrument.fidelity.golden
    return None if given is None else BookAddress(given)


def warehouse_of(address: BookAddress, own: Warehouse) -> Warehouse:
    """Where a golden book is published.

    Raises:
        InstrumentsError: Its data folder is not there.
    """
    if address.data_dir is None:
        return own
    if not address.data_dir.is_dir():
        raise InstrumentsError(
            "The data folder of a golden book is not there",
            next_step="Correct `golden` in the instruments file, or mount the folder.",
            file=address.data_dir,
            expected="a data folder in which its book is published",
            found="nothing",
        )
    return Warehouse(address.data_dir)

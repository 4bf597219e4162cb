"""`compare`: how far one book of an instrument is from another, published or captured."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from market_pipeline.audit.record import record
from market_pipeline.books.tables import BBO
from market_pipeline.config.fidelity import BookAddress, Fidelity
from market_pipeline.config.instruments import load_instruments
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.errors import DomainError
from market_pipeline.notebook._captured_book import capture_files, captured_book
from market_pipeline.notebook.times import utc_day
from market_pipeline.quality.fidelity.books import ComparedBook
from market_pipeline.quality.fidelity.compare import compare_books
from market_pipeline.quality.fidelity.report import Comparison
from market_pipeline.stages.fidelity.books import published_book
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["compare"]


def compare(
    golden: str | Path,
    other: str | Path,
    day: date | str | None = None,
    *,
    instrument: str | None = None,
    data_dir: Path | str | None = None,
    progress: Callable[[str, int], None] = lambda _stage, _messages: None,
) -> Comparison:
    """Compares two books of one instrument: messages, time grids, distributions.

    The bounds are those of the measured instrument in the instruments file of the settings in
    force, or the defaults. Memory does not grow with the books.

    Args:
        golden: The book that is right: published, as `VENUE:SYMBOL`, or `VENUE:SYMBOL@FOLDER` of
            another data folder; or a capture of Binance's streams (`….gz`), or a folder of such
            files, whose names are their order.
        other: The book that is measured; given alike.
        day: The UTC day of published books: a date, or text as 2024-08-08.
        instrument: Whose lines of a capture to take; by default those of the published book.
        data_dir: The data folder of published books that name none; by default the one of the
            settings in force.
        progress: Called with what is done and how many messages of both books were read for it.

    Returns:
        The pair (`pair`), every figure (`metrics`, and `figures` as a frame in the columns of
        `quality.fidelity_metrics`), graded as docs/fidelity.md says; `plot_fidelity` draws it.

    Raises:
        DomainError: A book is given as something else, or no day of a published one.
        MissingDataError: A book is not published, or a capture has nothing of the instrument.
        LakeFileError, SchemaError, InstrumentsError: A capture cannot be read.
        SettingsError: The settings are not usable.
    """
    settings = load_settings()
    warehouse = Warehouse(Path(data_dir) if data_dir is not None else settings.data_dir)
    given = str(golden), str(other)
    ids = [instrument or BookAddress(each).instrument for each in reversed(given)]
    with TemporaryDirectory(prefix="market-pipeline-compare-") as folder:
        books = [
            _book(each, whose, warehouse, day, Path(folder, str(number)))
            for number, (each, whose) in enumerate(zip(given, ids, strict=True))
        ]
        rule = _rule({BookAddress(given[1]).instrument, instrument}, settings)
        return compare_books(books[0], books[1], rule, progress)


def _book(
    given: str, of_counterpart: str, warehouse: Warehouse, day: date | str | None, folder: Path
) -> ComparedBook:
    """The book that an argument names; a capture's lines are those of its counterpart."""
    files = capture_files(Path(given))
    if files:
        return captured_book(files, of_counterpart, folder)
    address = BookAddress(given)
    if ":" not in address.instrument:
        raise DomainError(
            "A book to compare is neither published nor captured",
            next_step="Check the spelling, or the path of the capture.",
            column="book",
            expected="VENUE:SYMBOL, VENUE:SYMBOL@FOLDER, a capture (….gz) or a folder of captures",
            found=given,
        )
    if day is None:
        raise DomainError(
            "A published book is of a day, and none is given",
            next_step="Give the UTC day.",
            column="day",
            expected="a day as 2024-08-08",
            found="none",
        )
    of = Warehouse(address.data_dir) if address.data_dir else warehouse
    found = published_book(of, address.instrument, utc_day("day", day))
    what = {"table": BBO.sql_name, "instruments": [address.instrument], "days": [f"{day}"]}
    record(of.data_dir, "read", what)
    return found


def _rule(names: set[str | None], settings: Settings) -> Fidelity:
    """The bounds of the measured instrument, if it is configured; else the defaults."""
    if not settings.instruments_file.exists():
        return Fidelity()
    configured = load_instruments(settings.instruments_file)
    return next((each.fidelity for each in configured if each.id in names), Fidelity())

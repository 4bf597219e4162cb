"""The converter itself: which files are a day's, and which reader each of them is for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import LakeFileError
from market_pipeline.sources.binance_capture.linking import MARKET_OF_VENUE, capture_symbol
from market_pipeline.sources.converter import ConverterFacts
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.tardis_csv._books import convert_books, convert_lone_snapshots
from market_pipeline.sources.tardis_csv._ticker import convert_ticker
from market_pipeline.sources.tardis_csv._trades import convert_trades
from market_pipeline.sources.tardis_csv.reading import (
    BOOK_25,
    DATA_TYPES,
    INCREMENTAL,
    TICKER,
    TRADES,
    Whose,
)

__all__ = ["CONVERTER", "TardisCsv", "tardis_exchange", "tardis_symbol"]


def tardis_exchange(instrument: Instrument) -> str:
    """The venue as Tardis spells it: BINANCE_FUTURES is binance-futures."""
    return instrument.venue.lower().replace("_", "-")


def tardis_symbol(instrument: Instrument) -> str:
    """The symbol as Tardis spells it, which is the venue's own: BTC-USDT-PERP is BTCUSDT there.

    Only Binance's are translated; of other venues, write the venue's own symbol.
    """
    market = MARKET_OF_VENUE.get(instrument.venue)
    if market is None or "-" not in instrument.symbol:
        return instrument.symbol
    return capture_symbol(market, instrument.symbol)


class TardisCsv:
    """The converter for the files of `DATA_TYPES`."""

    name = "tardis_csv"
    version = 1
    facts = ConverterFacts(
        message="Rows with equal `local_timestamp`; a block of `is_snapshot` rows is a message "
        "of its own.",
        clock="`timestamp` is the exchange's time (the time of receipt where it gives none), "
        "`local_timestamp` that of receipt; both in microseconds.",
        sequence="Numbers the messages of the day in their order; it is not the venue's.",
        gap="A block of `is_snapshot` rows in the middle of a day proves that the connection began "
        "anew; there are no sequence numbers, so any other gap is suspected by silence.",
        seed="The first block of `is_snapshot` rows; the rows before it are not seeded.",
        ids_prove=True,
    )

    def find(self, lake: Path, instrument: Instrument, day: date) -> list[Path]:
        """The day's files below `<lake>/tardis_csv/`, named as Tardis's client or server does."""
        exchange, symbol = tardis_exchange(instrument), tardis_symbol(instrument)
        root = lake / self.name
        found = []
        for data_type in DATA_TYPES:
            places = (
                root / f"{exchange}_{data_type}_{day.isoformat()}_{symbol}.csv.gz",
                root / exchange / data_type / f"{day:%Y/%m/%d}" / f"{symbol}.csv.gz",
            )
            found += [place for place in places if place.is_file()]
        return found

    def convert(
        self, files: Sequence[Path], out: RawWriter, instrument: Instrument, day: date
    ) -> None:
        """See `Converter`; the files are those of `find`, distinguished by their data type.

        Raises:
            LakeFileError: There are two files of a data type, one named as Tardis's client does and
                one as its server does. See the readers for other errors.
        """
        whose = Whose(tardis_exchange(instrument), tardis_symbol(instrument), day)
        by_type: dict[str, Path] = {}
        for file in files:
            (data_type,) = [each for each in DATA_TYPES if _is(file, each)]
            if data_type in by_type:
                raise LakeFileError(
                    f"Two files are the {data_type} of a day",
                    next_step="Take one of them away, then run the day again.",
                    file=file,
                    expected="one file for each data type",
                    found=f"{by_type[data_type]} too",
                )
            by_type[data_type] = file
        incremental, book = by_type.get(INCREMENTAL), by_type.get(BOOK_25)
        if incremental is not None:
            convert_books(out, incremental, book, whose)
        elif book is not None:
            convert_lone_snapshots(out, book, whose)
        if TRADES in by_type:
            convert_trades(out, by_type[TRADES], whose)
        if TICKER in by_type:
            convert_ticker(out, by_type[TICKER], whose)


CONVERTER = TardisCsv()


def _is(file: Path, data_type: str) -> bool:
    return f"_{data_type}_" in file.name or data_type in file.parts

"""The converter of captures: raw tables of what the readers give, every proven loss in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import InstrumentsError
from market_pipeline.security.stored import is_stored, stored_in
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch, Trades
from market_pipeline.sources.binance_capture.lines import MEANING, Findings
from market_pipeline.sources.binance_capture.linking import (
    MARKET_OF_VENUE,
    Market,
    capture_symbol,
)
from market_pipeline.sources.binance_capture.readers import TableFindings, read_tables
from market_pipeline.sources.converter import ConverterFacts
from market_pipeline.sources.raw_writer import RawWriter

__all__ = ["CONVERTER", "BinanceCapture"]


class BinanceCapture:
    """The converter for websocket captures of Binance spot, USD-M and COIN-M."""

    name = "binance_capture"
    version = 2
    facts = ConverterFacts(
        message="One frame; its rows share `sequence_number`, the event's last update id.",
        clock="The event time `E` (of trades the match time `T`), and the local stamp.",
        sequence="The event's last update id `u`, which only rises.",
        gap="Every event names the event it continues, so lost messages are proven; besides, a gap "
        "is suspected by silence.",
        seed="The first REST snapshot that the events continue.",
        ids_prove=True,
    )

    def find(self, lake: Path, instrument: Instrument, day: date) -> list[Path]:
        """Files `<lake>/binance_capture/<market>/<symbol>_<YYYYMMDD>*.gz`, plain or sealed."""
        market = MARKET_OF_VENUE.get(instrument.venue)
        if market is None:
            return []
        stem = f"{capture_symbol(market, instrument.symbol).lower()}_{day:%Y%m%d}"
        folder = lake / self.name / market
        named = stored_in(folder) if folder.is_dir() else []
        of_day = [file for file in named if file.name.startswith(stem) and file.suffix == ".gz"]
        return [file for file in of_day if is_stored(file)]

    def convert(
        self, files: Sequence[Path], out: RawWriter, instrument: Instrument, day: date
    ) -> None:
        """See `Converter`. What a reader finds wrong is noted, after the name of its table."""
        market = _market_of(instrument)
        symbol = capture_symbol(market, instrument.symbol)
        findings = TableFindings(Findings(), Findings(), Findings())
        for batch in read_tables(files, market, symbol, findings):
            match batch:
                case DeltaBatch():
                    out.deltas(batch)
                case SnapshotBatch():
                    out.snapshots(batch)
                case Trades():
                    out.trades(batch)
        for table, each in findings._asdict().items():
            _note(out, table, each)


CONVERTER = BinanceCapture()


def _market_of(instrument: Instrument) -> Market:
    market = MARKET_OF_VENUE.get(instrument.venue)
    if market is None:
        raise InstrumentsError(
            "The venue is none that captures are read of",
            expected=", ".join(MARKET_OF_VENUE),
            found=instrument.venue,
            next_step="Correct venue or source in the instruments file.",
        )
    return market


def _note(out: RawWriter, table: str, findings: Findings) -> None:
    for kind, count in findings.counts.items():
        first = next(each for each in findings.located if each.kind is kind)
        out.note(
            f"{table}: {kind.value} ({MEANING[kind].rstrip('.')})",
            f"line {first.line} of {first.file.name}, expected {first.expected}, "
            f"found {first.found}",
            count,
        )

"""Where raw days come from: the instruments file, and the lake in a folder or an object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from market_pipeline.config.instruments import Instrument, load_instruments
from market_pipeline.config.settings import Settings
from market_pipeline.doctor.finding import Finding
from market_pipeline.errors import InstrumentsError
from market_pipeline.sources.crypto_lake import DELTAS
from market_pipeline.sources.raw_names import Series
from market_pipeline.sources.registry import converter_of, is_converter
from market_pipeline.stages.raw.days import FolderDays

__all__ = ["check_instruments", "check_lake", "check_store"]


def check_instruments(settings: Settings, instruments: list[Instrument]) -> Iterator[Finding]:
    """Is the instruments file valid? Hands its instruments on for the check of the lake."""
    path = settings.instruments_file
    try:
        instruments.extend(load_instruments(path))
    except InstrumentsError as error:
        next_step = error.next_step
        if not path.exists():
            next_step = (
                "Copy instruments.example.yaml to that path and edit it, or set "
                "PIPELINE_INSTRUMENTS_FILE."
            )
        found = f"{path}: {error.problem}:{error.found or ''}"
        yield "error", found, next_step
        return
    count = len(instruments)
    yield "ok", f"{path}: {count} instrument{'s' if count > 1 else ''}"


def check_lake(lake: Path, instruments: list[Instrument]) -> Iterator[Finding]:
    """Can the folder be read, and does it hold days of the instruments?"""
    if not lake.is_dir():
        yield (
            "error",
            f"{lake} {'is not a folder' if lake.exists() else 'does not exist'}",
            "Set PIPELINE_LAKE_URI to the folder of the raw days, or let `make demo` simulate one.",
        )
        return
    try:
        next(lake.iterdir(), None)
    except OSError as error:
        yield (
            "error",
            f"{lake} cannot be read: {error.strerror}",
            "Fix its permissions, or set PIPELINE_LAKE_URI to a folder that you may read.",
        )
        return
    if not instruments:
        yield "ok", f"{lake} can be read; no instruments to look for"
        return
    without = [each.id for each in instruments if not _has_a_day(lake, each)]
    yield _days_found(f"{lake} holds", len(instruments), without, "or fetch their days")


def _days_found(subject: str, asked: int, without: list[str], otherwise: str) -> Finding:
    """The finding that a lake has days of the instruments but those it is without."""
    found = f"{subject} days of {asked - len(without)} of {asked} instruments"
    if not without:
        return "ok", found
    return (
        "warn",
        f"{found}; none of {', '.join(without)}",
        "Check how the instruments file spells them against the folders "
        f"book_delta_v2/exchange=…/symbol=… of the lake, {otherwise}.",
    )


def _deltas(instrument: Instrument) -> Series:
    return Series(DELTAS.name, instrument.venue, instrument.symbol)


def _has_a_day(lake: Path, instrument: Instrument) -> bool:
    if is_converter(instrument.source):
        converter_of(instrument.source)
        return any(path.is_file() for path in (lake / instrument.source).rglob("*"))
    return any(FolderDays(lake).files(_deltas(instrument)))


def check_store(settings: Settings, instruments: list[Instrument]) -> Iterator[Finding]:
    """Does the store hold days of the instruments? One listing for each exchange."""
    # boto3 takes half a second to load, which a lake in a folder need not wait for.
    from market_pipeline.store.client import open_store  # noqa: PLC0415
    from market_pipeline.store.objects import Patience  # noqa: PLC0415

    patience = Patience(attempts=2, connect_seconds=5.0, read_seconds=15.0)
    store = open_store(settings, patience=patience)
    if store is None:
        return
    with store:
        asked = [each for each in instruments if not is_converter(each.source)]
        venues = sorted({f"{_deltas(each).folder.rpartition('/')[0]}/" for each in asked})
        symbols = {folder for venue in venues for folder in store.folders(venue)}
        if not venues:
            next(store.folders(), None)  # whether it may be listed at all
        subject = f"{store.address.uri} can be listed with credentials from {store.credentials}"
        if store.address.anonymous:
            subject = f"{store.address.uri} can be listed without credentials"
    if not asked:
        yield "ok", f"{subject}; no instruments to look for"
        return
    without = [each.id for each in asked if f"{_deltas(each).folder}/" not in symbols]
    yield _days_found(f"{subject} and holds", len(asked), without, "or PIPELINE_LAKE_URI's prefix")

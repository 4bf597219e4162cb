"""What a converter is: it turns another vendor's files into raw tables of the Crypto Lake contract.

All later stages read that contract, so a new vendor needs a converter and nothing else. Converters
come with the package (`tardis_csv`, `binance_capture`) or from another one, by an entry point of
the group `market_pipeline.converters`; `docs/sources/own.md` says how to write one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

from market_pipeline.config.instruments import (
    BUILT_IN_CONVERTERS,
    CONVERTERS_GROUP,
    NATIVE_SOURCES,
    Instrument,
    known_sources,
)
from market_pipeline.errors import InstrumentsError
from market_pipeline.sources.raw_writer import RawWriter

__all__ = ["Converter", "ConverterFacts", "converter_of", "is_converter"]


@dataclass(frozen=True, slots=True)
class ConverterFacts:
    """What holds for every day of a converter, a sentence each.

    Attributes:
        message: What the boundary of a message is.
        clock: What the two times are.
        sequence: What a sequence number is.
        gap: What shows that messages are lost.
        seed: What a day's book begins with.
        ids_prove: Whether the converter proves lost messages (`lost_before`); else silence
            suspects.
    """

    message: str
    clock: str
    sequence: str
    gap: str
    seed: str
    ids_prove: bool = False


@runtime_checkable
class Converter(Protocol):
    """Turns one instrument's day of a vendor's files into raw tables.

    Attributes:
        name: The source as the instruments file names it.
        version: Raise it when the same files would give other rows; converted days are then made
            anew.
        facts: For the documentation, and for the gap check.
    """

    name: str
    version: int
    facts: ConverterFacts

    def find(self, lake: Path, instrument: Instrument, day: date) -> Sequence[Path]:
        """The vendor's files of the day below `lake`, in their order; none if it is not there.

        By convention they lie below `lake / name`. It is called often, so it should only look for
        names and open nothing.
        """
        ...

    def convert(
        self, files: Sequence[Path], out: RawWriter, instrument: Instrument, day: date
    ) -> None:
        """Reads the files in bounded memory and gives their rows, in order, to `out`.

        Raises:
            MarketPipelineError: If a file cannot be used; the day is set aside then.
        """
        ...


def is_converter(source: str) -> bool:
    """Whether days of this source are converted before anything reads them."""
    return source not in NATIVE_SOURCES


def converter_of(source: str) -> Converter:
    """The converter of a source.

    Raises:
        InstrumentsError: There is none of that name, several packages bring one, or it cannot be
            loaded.
    """
    if source in BUILT_IN_CONVERTERS:
        built_in: Converter = import_module(f"market_pipeline.sources.{source}").CONVERTER
        return built_in
    entries = list(entry_points(group=CONVERTERS_GROUP, name=source))
    if len(entries) != 1:
        packages = ", ".join(sorted(str(entry.dist and entry.dist.name) for entry in entries))
        raise InstrumentsError(
            f"The source {source} has {'several converters' if entries else 'no converter'}",
            expected=f"one of {', '.join(known_sources())}",
            found=f"{source}{f' of {packages}' if entries else ''}",
            next_step="Correct the instruments file, or install one package with that converter.",
        )
    (entry,) = entries
    try:
        made = entry.load()
        converter = made() if isinstance(made, type) else made
    except Exception as error:
        raise _unusable(source, entry.value, f"{type(error).__name__}: {error}") from error
    if not isinstance(converter, Converter) or converter.name != source:
        raise _unusable(source, entry.value, repr(converter))
    return converter


def _unusable(source: str, value: str, found: str) -> InstrumentsError:
    return InstrumentsError(
        f"The converter of the source {source} cannot be used",
        expected=f"{value} to be a market_pipeline.sources.converter.Converter named {source}",
        found=found,
        next_step="Fix or remove the package that brings it (docs/sources/own.md).",
    )

"""What a converter is: it turns another vendor's files into raw tables of the Crypto Lake contract.

All later stages read that contract, so a new vendor needs a converter and nothing else. Converters
come with the package (`tardis_csv`, `binance_capture`) or from another one, by an entry point of
the group `market_pipeline.converters`; `docs/sources/own.md` says how to write one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol, runtime_checkable

from market_pipeline.config.instruments import Instrument
from market_pipeline.sources.raw_writer import RawWriter

__all__ = ["Converter", "ConverterFacts"]


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

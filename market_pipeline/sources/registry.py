"""Every source by its name: its converter if it has one, and what shows that messages are lost.

The names are in `config.instruments`, which refuses any other with all that is wrong in the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points

from market_pipeline.config.instruments import (
    BUILT_IN_CONVERTERS,
    CONVERTERS_GROUP,
    Source,
    known_sources,
)
from market_pipeline.errors import InstrumentsError
from market_pipeline.sources.converter import Converter

__all__ = ["GAP_EVIDENCE", "GapEvidence", "converter_of", "gap_evidence", "is_converter"]


@dataclass(frozen=True, slots=True)
class GapEvidence:
    """What shows that messages of a source are lost.

    Attributes:
        ids_prove: Its ids link each message to the one before, so a broken link proves a loss.
        sentence: The rule, as the documentation says it.
    """

    ids_prove: bool
    sentence: str


GAP_EVIDENCE: dict[str, GapEvidence] = {
    "crypto_lake": GapEvidence(
        ids_prove=False,
        sentence="The sequence number is the venue's last update id, which jumps by thousands "
        "between neighbouring messages: a jump proves nothing, and a gap is suspected by silence.",
    ),
    "simulated": GapEvidence(
        ids_prove=False,
        sentence="As Crypto Lake, whose layout it writes: a gap is suspected by silence.",
    ),
}
"""The gap rule of every source whose days lie in the lake as the pipeline reads them."""


def gap_evidence(source: Source) -> GapEvidence:
    """The gap rule of a source; that of a converter is among its facts.

    Raises:
        InstrumentsError: The converter cannot be loaded.
    """
    if source in GAP_EVIDENCE:
        return GAP_EVIDENCE[source]
    facts = converter_of(source).facts
    return GapEvidence(facts.ids_prove, facts.gap)


def is_converter(source: str) -> bool:
    """Whether days of this source are converted before anything reads them."""
    return source not in GAP_EVIDENCE


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

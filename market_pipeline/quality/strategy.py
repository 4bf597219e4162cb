"""Which way of rebuilding a day its raw data allows, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from market_pipeline.errors import StoreError
from market_pipeline.quality.measures.domain import REFUSED, DomainFault
from market_pipeline.quality.profile import Profile
from market_pipeline.quality.words import measured
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, RawTable

__all__ = ["MAX_BACKWARD_SHARE", "Strategy", "StrategyName", "choose_strategy"]

StrategyName = Literal["full_deltas", "snapshots_only", "none"]

MAX_BACKWARD_SHARE = 0.01
"""Deltas of which a larger share of messages go backwards in sequence have no order to apply them
in: sizes are absolute, so each message out of its place leaves wrong levels behind.
"""

# A snapshot's level without a usable price or size is taken to be absent.
_REFUSED = {DELTAS.name: REFUSED, SNAPSHOTS.name: (DomainFault.NULL,)}
_WORDS = {DELTAS.name: "deltas", SNAPSHOTS.name: "snapshots"}


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a day is rebuilt.

    Attributes:
        name: full_deltas, snapshots_only (a row per snapshot), or none.
        reason: Why, in a sentence.
    """

    name: StrategyName
    reason: str

    @property
    def table(self) -> RawTable:
        """What the book is rebuilt from, or would be if anything could be used."""
        return SNAPSHOTS if self.name == "snapshots_only" else DELTAS


def choose_strategy(profiles: Sequence[Profile]) -> Strategy:
    """The strategy for one instrument and day from its rows of `lake.profiles`.

    The deltas are used if they can be read, have rows, hold no value that a reader refuses, have
    sequence numbers that tell one message from the next, and at most `MAX_BACKWARD_SHARE` of their
    messages go backwards. Else the snapshots are, on the same terms but for the sequence numbers,
    which only place snapshots among deltas. Without any row nothing is known against the deltas,
    and they are used.
    """
    if not profiles:
        return Strategy("full_deltas", "The raw tables were not looked through.")
    tables = {profile.raw_table: profile for profile in profiles}
    against_deltas = _against(DELTAS.name, tables) or _against_order(tables[DELTAS.name])
    if against_deltas is None:
        deltas = tables[DELTAS.name]
        return Strategy(
            "full_deltas",
            f"All {deltas.rows:,} deltas can be applied, in {deltas.messages:,} messages.",
        )
    against_snapshots = _against(SNAPSHOTS.name, tables)
    if against_snapshots is None:
        return Strategy(
            "snapshots_only",
            f"{_capital(against_deltas)}; {_number(measured(tables[SNAPSHOTS.name].rows))}.",
        )
    return Strategy("none", f"{_capital(against_deltas)}; {against_snapshots}.")


def _against(name: str, tables: Mapping[str, Profile]) -> str | None:
    """Why no row of a table can be used, as a part of a sentence; None if nothing speaks for it."""
    profile, rows = tables.get(name), _WORDS[name]
    if profile is None:
        return f"there is no file of {rows}"
    if profile.status == "missing":
        if profile.failure_kind == StoreError.__name__:
            return f"the {rows} could not all be fetched: {(profile.failure or '').rstrip('.')}"
        return f"there is no file of {rows}"
    if profile.status != "usable":
        return f"the {rows} cannot be read"  # the file's own error is reported beside it
    if not profile.rows:
        return f"the files of {rows} hold none"
    for kind in _REFUSED[name]:
        count = getattr(profile, kind)
        if count:
            place = next(place for place in profile.places if place.kind == kind)
            return (
                f"{kind.replace('_', ' ')} in the {rows}: {count:,}, first {place.column} "
                f"{place.value} in {place.file}, row {place.row}"
            )
    return None


def _against_order(deltas: Profile) -> str | None:
    """Why deltas that can be read cannot be applied one after the other; None if they can."""
    messages, backwards = measured(deltas.messages), measured(deltas.sequence_backwards)
    if messages > 1 and not deltas.sequence_changes:
        return (
            f"all {messages:,} messages of the deltas have the sequence number "
            f"{deltas.first_sequence_number}"
        )
    if backwards > MAX_BACKWARD_SHARE * messages:
        place = next(place for place in deltas.places if place.kind == "sequence_backwards")
        return (
            f"{backwards:,} of {messages:,} messages of the deltas go backwards in "
            f"sequence, which is more than {MAX_BACKWARD_SHARE:.0%}, first {place.value} after "
            f"{place.expected} in {place.file}, row {place.row}"
        )
    return None


def _number(snapshots: int) -> str:
    return "1 snapshot is there" if snapshots == 1 else f"{snapshots:,} snapshots are there"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]

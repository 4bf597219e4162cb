"""The instruments file: which venue and symbol, from which source, in which steps, with what rules.

An instrument's id is `VENUE:SYMBOL`. Venue and symbol become folder names, so their characters are
limited to those that are safe in a path.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from market_pipeline.config.fidelity import Fidelity
from market_pipeline.config.information_bars import InformationBars
from market_pipeline.config.steps import Step
from market_pipeline.config.thresholds import Thresholds
from market_pipeline.config.values import Amount, Instant, JsonValue, StrictModel
from market_pipeline.config.yaml_files import nearest_known, read_yaml_mapping
from market_pipeline.errors import InstrumentsError

__all__ = [
    "BUILT_IN_CONVERTERS",
    "CONVERTERS_GROUP",
    "NATIVE_SOURCES",
    "Instrument",
    "Policies",
    "Source",
    "known_sources",
    "listed_on",
    "load_instruments",
    "select_instruments",
]

_VENUE = re.compile(r"[A-Z0-9][A-Z0-9_]{0,63}")
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9._-]{0,63}")

NATIVE_SOURCES = ("crypto_lake", "simulated")
"""Sources whose days lie in the lake in the raw layout that the pipeline reads."""

BUILT_IN_CONVERTERS = ("tardis_csv", "binance_capture", "recording")
"""Sources whose files the package itself turns into that layout."""

CONVERTERS_GROUP = "market_pipeline.converters"
"""The entry points with which another package adds a source of its own."""


def known_sources() -> tuple[str, ...]:
    """The names an instrument's `source` may have, those of installed packages last."""
    own = (*NATIVE_SOURCES, *BUILT_IN_CONVERTERS)
    added = {entry.name for entry in entry_points(group=CONVERTERS_GROUP)}
    return (*own, *sorted(added.difference(own)))


def _source(value: str) -> str:
    if value not in NATIVE_SOURCES + BUILT_IN_CONVERTERS and value not in known_sources():
        raise ValueError(f"must be one of {', '.join(known_sources())}")
    return value


Source = Annotated[str, AfterValidator(_source)]


def _venue(value: str) -> str:
    if not _VENUE.fullmatch(value):
        raise ValueError(
            "expected upper-case letters, digits and _ (at most 64), such as BINANCE_FUTURES"
        )
    return value


def _symbol(value: str) -> str:
    if not _SYMBOL.fullmatch(value) or ".." in value:
        raise ValueError(
            "expected upper-case letters, digits, - . _ (at most 64, no two dots in a row), such "
            "as BTC-USDT-PERP"
        )
    return value


_Venue = Annotated[str, AfterValidator(_venue)]
_Symbol = Annotated[str, AfterValidator(_symbol)]


class GapRule(StrictModel):
    """Which times without a message are gaps of a source without dense ids: it changes the book.

    The day's usual time between messages is a quantile of them (`quality.measures.silences`).
    """

    silence_floor_seconds: Amount = Field(
        1.0, description="A silence shorter than this is never a suspected gap."
    )
    silence_quantile: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.999, description="The quantile of the day's times between messages that counts as usual."
    )
    silence_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        5.0, description="A silence is suspected beyond this many times the usual time."
    )
    quiet_floor_seconds: Amount = Field(
        60.0, description="A silence that nothing shows a loss in is a hole only beyond this."
    )
    outage_floor_seconds: Amount = Field(
        5.0, description="A silence that no trade or snapshot contradicts is no outage up to this."
    )
    outage_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        50.0, description="A silence of more than this many times the usual time is an outage."
    )
    outage_chance: Annotated[float, Field(gt=0, le=1)] = Field(
        0.001,
        description="A shorter one is, if the rhythm around it makes one so long less often a day.",
    )


class Policies(StrictModel):
    """What the rebuild does when a book is in doubt; every action it takes is recorded."""

    resync: Literal["never", "when_invalid", "always"] = Field(
        "when_invalid", description="When a later snapshot replaces the rebuilt book."
    )
    crossed: Literal["flag", "uncross", "resync"] = Field(
        "flag",
        description="What a crossed book calls for besides its flag.",
    )
    crossed_resync_seconds: Amount = Field(
        2.0,
        description="With `crossed: resync`, the seconds a book may stay crossed before it.",
    )
    seed: Literal["first_snapshot", "previous_close"] = Field(
        "first_snapshot",
        description="What a day begins with.",
    )


class Instrument(StrictModel):
    """One instrument of one venue. `tick` and `lot` are exact, or "infer" to take the day's own."""

    venue: _Venue = Field(description="The venue as the raw lake spells it, such as BINANCE.")
    symbol: _Symbol = Field(description="The symbol as the raw lake spells it, such as BTC-USDT.")
    source: Source = Field(description="The raw format its days are in.")
    tick: Step = Field(
        "infer", description="The price step in quote currency; infer takes it from each day."
    )
    lot: Step = Field(
        "infer", description="The size step in base units; infer takes it from each day."
    )
    listed: Instant | None = Field(
        None, description="When it began to trade, UTC; none: before the first day."
    )
    delisted: Instant | None = Field(
        None, description="When it ceased to trade, UTC; none: it still does."
    )
    policies: Policies = Field(Policies(), description="What the rebuild does when in doubt.")
    gap_rule: GapRule = Field(GapRule(), description="Which silences are gaps.")
    bars: InformationBars = Field(InformationBars(), description="Its bars of equal activity.")
    thresholds: Thresholds = Field(Thresholds(), description="When a figure warns or fails.")
    fidelity: Fidelity = Field(Fidelity(), description="Which golden book it is compared with.")
    market_events: bool = Field(
        False, description="Whether its event stream is published, as books.market_events."
    )

    @model_validator(mode="after")
    def _is_not_its_own_golden_book(self) -> Self:
        if self.fidelity.golden == self.id:
            raise ValueError("fidelity.golden is the instrument itself, which it always equals")
        return self

    @model_validator(mode="after")
    def _is_listed_before_it_is_delisted(self) -> Self:
        if self.listed and self.delisted and self.delisted <= self.listed:
            raise ValueError("delisted is not after listed")
        return self

    @property
    def id(self) -> str:
        """`VENUE:SYMBOL`."""
        return f"{self.venue}:{self.symbol}"

    def listed_within(self, day: date) -> tuple[datetime, datetime]:
        """From when until when of a UTC day it is listed; twice the same time if it is not."""
        start = datetime.combine(day, time(), UTC)
        end = start + timedelta(days=1)
        begin = start if self.listed is None else min(max(start, self.listed), end)
        return begin, end if self.delisted is None else min(max(begin, self.delisted), end)

    def expected_seconds(self, day: date) -> float:
        """How much of a UTC day it is listed, so that data of it is expected."""
        begin, end = self.listed_within(day)
        return (end - begin).total_seconds()

    def is_listed_on(self, day: date) -> bool:
        """Whether it is listed at any time of a UTC day."""
        return self.expected_seconds(day) > 0


class _Defaults(StrictModel):
    """Values for every instrument that does not state its own."""

    source: Source | None = None
    policies: Policies = Policies()
    gap_rule: GapRule = GapRule()
    bars: InformationBars = InformationBars()
    thresholds: Thresholds = Thresholds()
    fidelity: Fidelity = Fidelity()


def load_instruments(path: Path) -> tuple[Instrument, ...]:
    """Read the instruments of a file, in its order.

    The file holds `instruments:`, a list, and may hold `defaults:` with `source`, `policies`,
    `gap_rule`, `bars`, `thresholds` and `fidelity`; a key an instrument states itself takes
    precedence over the same key there.

    Raises:
        InstrumentsError: The file is missing, not YAML, or any entry is not usable. `found` lists
            every problem, one a line; `file` is the path.
    """
    content, problems = read_yaml_mapping(path)
    instruments: list[Instrument] = []
    if not problems:
        problems.extend(
            _unknown_key("", key, _TOP_LEVEL) for key in sorted(content.keys() - _TOP_LEVEL)
        )
        defaults = _read_defaults(content, problems)
        instruments = _read_entries(content.get("instruments"), defaults, problems)
    if problems:
        count = len(problems)
        raise InstrumentsError(
            f"The instruments file has {count} problem{'s' if count > 1 else ''}",
            file=path,
            found="".join(f"\n  - {problem}" for problem in problems),
            next_step="Correct the file (docs/instruments.md shows one), then run "
            "`market-pipeline doctor`.",
        )
    return tuple(instruments)


def select_instruments(
    instruments: Sequence[Instrument], ids: Sequence[str]
) -> tuple[Instrument, ...]:
    """The instruments with these ids, in the order of the file; no ids at all means every one.

    Raises:
        InstrumentsError: An id is not configured; `found` names them, `expected` those that are.
    """
    if not ids:
        return tuple(instruments)
    known = [instrument.id for instrument in instruments]
    unknown = sorted(set(ids) - set(known))
    if unknown:
        raise InstrumentsError(
            "An instrument was asked for that is not configured",
            expected=f"one of {', '.join(known)}" if known else "no instrument is configured",
            found=", ".join(unknown),
            next_step="Write it as VENUE:SYMBOL, or add it to the instruments file.",
        )
    return tuple(instrument for instrument in instruments if instrument.id in ids)


def listed_on(day: date, instruments: Iterable[Instrument]) -> tuple[Instrument, ...]:
    """The instruments that data of a UTC day is expected of, in their order."""
    return tuple(each for each in instruments if each.is_listed_on(day))


_TOP_LEVEL = {"defaults", "instruments"}


def _read_defaults(content: Mapping[str, JsonValue], problems: list[str]) -> dict[str, JsonValue]:
    """What `defaults:` states itself, as plain values to lay under each entry."""
    given = content.get("defaults", {})
    try:
        return _Defaults.model_validate(given).model_dump(exclude_unset=True)
    except ValidationError as error:
        problems.extend(_sentences("defaults", _Defaults, error))
    # A stand-in, so that each entry is validated on its own; the file is refused whatever follows.
    return {"source": "simulated"}


def _read_entries(
    entries: object, defaults: Mapping[str, JsonValue], problems: list[str]
) -> list[Instrument]:
    if not isinstance(entries, list) or not entries:
        problems.append("instruments: expected a list of at least one instrument")
        return []
    instruments: list[Instrument] = []
    first_place: dict[str, str] = {}
    for index, entry in enumerate(entries):
        place = f"instruments[{index}]"
        if not isinstance(entry, dict):
            problems.append(f"{place}: expected keys and values such as `venue: BINANCE`")
            continue
        if "venue" in entry and "symbol" in entry:
            place = f"{place} ({entry['venue']}:{entry['symbol']})"
        try:
            instrument = Instrument.model_validate(_over(defaults, entry))
        except ValidationError as error:
            problems.extend(_sentences(place, Instrument, error))
            continue
        if instrument.id in first_place:
            problems.append(f"{place}: the same instrument is already {first_place[instrument.id]}")
            continue
        first_place[instrument.id] = f"instruments[{index}]"
        instruments.append(instrument)
    return instruments


def _over(
    defaults: Mapping[str, JsonValue], entry: Mapping[str, JsonValue]
) -> dict[str, JsonValue]:
    """The entry laid over the defaults; each group of options key by key."""
    merged = {**defaults, **entry}
    for part in ("policies", "gap_rule", "bars", "thresholds", "fidelity"):
        general, own = defaults.get(part), entry.get(part)
        if isinstance(general, dict) and isinstance(own, dict):
            merged[part] = {**general, **own}
    return merged


def _sentences(place: str, model: type[BaseModel], error: ValidationError) -> list[str]:
    return [_sentence(place, model, detail) for detail in error.errors(include_url=False)]


def _sentence(place: str, model: type[BaseModel], detail: ErrorDetails) -> str:
    """One problem as a sentence: where, what was expected, and what was found."""
    *parents, key = [str(part) for part in detail["loc"] if part != "decimal"] or [""]
    where = ".".join([place, *parents])
    if detail["type"] == "extra_forbidden":
        for parent in parents:
            nested = model.model_fields[parent].annotation
            assert isinstance(nested, type)
            model = nested
        return _unknown_key(where, key, model.model_fields)
    where = ".".join(part for part in (where, key) if part)
    if detail["type"] == "missing":
        return f"{where}: expected a value, but the key is not there"
    reason = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    hint = "; put it in quotes" if detail["type"] == "string_type" else ""
    return f"{where}: {reason}{hint}; found {reprlib.repr(detail['input'])}"


def _unknown_key(place: str, key: str, known: Iterable[str]) -> str:
    where = f"{place}: " if place else ""
    return f"{where}unknown key {key}; {nearest_known(key, known)}"

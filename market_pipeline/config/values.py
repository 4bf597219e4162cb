"""Types of settings and of the instruments file: what a value must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time
from itertools import pairwise
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from market_pipeline.config.data_path import data_path

__all__ = [
    "AbsolutePath",
    "Amount",
    "Count",
    "DataPath",
    "Day",
    "Instant",
    "Integer",
    "JsonValue",
    "Names",
    "OptionalInteger",
    "OptionalPath",
    "OptionalText",
    "Real",
    "SettingsModel",
    "Share",
    "StrictModel",
    "Widths",
    "absolute_path",
    "blank_is_none",
    "filled_path",
    "texts",
]

JsonValue: TypeAlias = "str | float | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
"""What a JSON text can say."""


def filled_path(value: object) -> object:
    """The value, unless it is blank."""
    if isinstance(value, str) and not value.strip():
        raise ValueError(
            "expected a path but it is empty"
        )  # Path("") would mean the current folder
    return value


def absolute_path(value: Path) -> Path:
    """The path from the root, with `~` as the home folder."""
    try:
        return value.expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"expected a path but its `~` has no home folder: {error}") from error


def blank_is_none(value: object) -> object:
    """The value, or None if it is blank: a line `KEY=` of `.env` sets nothing."""
    return None if isinstance(value, str) and not value.strip() else value


def texts(value: object) -> object:
    """The texts of a list with commas, as the environment has it; others as they are."""
    if isinstance(value, str):
        return [each.strip() for each in value.split(",") if each.strip()]
    return value


def _number_not_bool(value: object) -> object:
    if isinstance(value, bool):  # YAML's `yes` would otherwise count as 1
        raise ValueError("expected a number but it is a true/false value")
    return value


def _calendar_day(value: object) -> object:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError("expected a calendar day written YYYY-MM-DD") from None
    if not isinstance(value, date):  # a bare number would be taken as seconds since 1970
        raise ValueError("expected a calendar day written YYYY-MM-DD")
    return value


_YEARS = range(1679, 2262)
"""Those whose times, in any zone, are a number of ns in 64 bits."""


def _instant(value: object) -> object:
    """A time of UTC of a calendar day, which is its beginning, or of a time that says its zone."""
    if isinstance(value, str):
        try:
            value = datetime.combine(date.fromisoformat(value), time(), UTC)
        except ValueError:
            with suppress(ValueError):
                value = datetime.fromisoformat(str(value))
    if isinstance(value, datetime) and value.tzinfo is not None:
        # By the year as it is written: near the calendar's ends another zone has no such time.
        if value.year not in _YEARS:
            raise ValueError(f"expected a year from {_YEARS[0]} to {_YEARS[-1]}")
        return value.astimezone(UTC)
    raise ValueError("expected a day written YYYY-MM-DD, or a time such as 2024-03-05T08:00:00Z")


_SECONDS_PER_DAY = 86_400


def _numbers_of_text(value: object) -> object:
    """The numbers of a text with commas, as the environment has a list; others as they are."""
    if isinstance(value, str):
        return [each.strip() for each in value.split(",")]
    return [value] if isinstance(value, int) else value


def _each_divides_the_next(widths: tuple[int, ...]) -> tuple[int, ...]:
    divided = all(wide % narrow == 0 for narrow, wide in pairwise((*widths, _SECONDS_PER_DAY)))
    if not divided or not widths or len(set(widths)) < len(widths):
        raise ValueError("expected ascending numbers of seconds, each dividing the next and 86400")
    return widths


AbsolutePath = Annotated[Path, BeforeValidator(filled_path), AfterValidator(absolute_path)]
DataPath = Annotated[AbsolutePath, AfterValidator(data_path)]
OptionalPath = Annotated[
    Annotated[Path, AfterValidator(absolute_path)] | None, BeforeValidator(blank_is_none)
]
Names = Annotated[tuple[str, ...], BeforeValidator(texts)]
OptionalText = Annotated[str | None, BeforeValidator(blank_is_none)]
Integer = Annotated[int, BeforeValidator(_number_not_bool)]
OptionalInteger = Annotated[Integer | None, BeforeValidator(blank_is_none)]
Widths = Annotated[
    tuple[Annotated[Integer, Field(ge=1, le=_SECONDS_PER_DAY)], ...],
    BeforeValidator(_numbers_of_text),
    AfterValidator(_each_divides_the_next),
]
Real = Annotated[float, BeforeValidator(_number_not_bool), Field(allow_inf_nan=False)]
Day = Annotated[date, BeforeValidator(_calendar_day)]
Instant = Annotated[datetime, BeforeValidator(_instant)]

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class SettingsModel(BaseModel):
    """Settings or a section of them: no unknown key, immutable, and no value in an error's text."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True
    )


class StrictModel(BaseModel):
    """A part of the instruments file; a value of another type is refused, and not converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

"""Figures in words, as checks and findings say them."""

from __future__ import annotations

from typing import TypeVar

from market_pipeline.quality.intervals import SECONDS_PER_DAY

__all__ = ["measured", "number_of", "seconds_text", "share_text", "time_text"]

_T = TypeVar("_T")


def measured(figure: _T | None) -> _T:
    """The figure, which a rebuilt day must have.

    Raises:
        ValueError: It is None.
    """
    if figure is None:
        raise ValueError("a rebuilt day has every figure; build its row with build_report")
    return figure


def seconds_text(figure: float | None) -> str:
    """Seconds to the millisecond, without trailing zeros."""
    text = f"{measured(figure):,.3f}".rstrip("0").rstrip(".")
    return f"{text} s"


def share_text(share: float | None) -> str:
    """A share as a percentage."""
    return f"{measured(share):.4%}"


def time_text(ts_ns: int | None) -> str:
    """The time of day of an instant, to the microsecond."""
    micros = measured(ts_ns) // 1_000 % (SECONDS_PER_DAY * 1_000_000)
    seconds, fraction = divmod(micros, 1_000_000)
    minutes, second = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{second:02}.{fraction:06} UTC"


def number_of(count: int | None, noun: str) -> str:
    """A count and its noun, in the plural if need be."""
    known = measured(count)
    return f"{known:,} {noun}{'' if known == 1 else 's'}"

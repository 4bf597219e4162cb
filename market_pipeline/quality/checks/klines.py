"""Whether the published minute bars are the venue's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, outcome
from market_pipeline.quality.findings import FindingRow, first_and_worst
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.quality.words import number_of, time_text

__all__ = ["KLINES", "check_klines", "kline_places"]

KLINES = Check(
    name="klines",
    sentence="Every closed kline that was recorded is the published bar of its minute.",
    asset="bars",
    severity="WARN",
    degrades="never",
)


def check_klines(found: Mapping[int, Sequence[str]]) -> CheckOutcome | None:
    """Counts the klines that differ; not asked where none was compared.

    Args:
        found: What each compared kline has otherwise than our bar, by its start, ns UTC.
    """
    if not found:
        return None
    different = _different(found)
    faults = []
    if different:
        start_ns, differences = different[0]
        text = (
            f"klines that are not our bars: {len(different):,} of {len(found):,}, first that of "
            f"{time_text(start_ns)} (ours, the venue's): {'; '.join(differences)}"
        )
        faults.append(Fault("WARN", float(len(different)), 0.0, text))
    return outcome(
        KLINES,
        faults,
        figure=float(len(different)),
        threshold=0.0,
        fine=f"{number_of(len(found), 'kline')} compared, none differs from our bar.",
    )


def kline_places(
    exchange: str, symbol: str, day: date, found: Mapping[int, Sequence[str]], width_seconds: int
) -> list[FindingRow]:
    """The first klines that differ, as findings, and the one in which most does.

    Args:
        exchange, symbol, day: What they are of.
        found: See `check_klines`.
        width_seconds: Of each kline.
    """
    different = _different(found)
    sizes = [len(differences) for _, differences in different]
    worst = sizes.index(max(sizes)) if sizes else 0
    return [
        FindingRow(
            exchange=exchange,
            symbol=symbol,
            dt=day,
            check=KLINES.name,
            place=place,
            ts_receipt_ns=start_ns,
            end_ns=start_ns + width_seconds * NS_PER_SECOND,
            value=f"kline of {width_seconds:,} s",
            note=f"Our bar, the venue's kline: {'; '.join(differences)}.",
        )
        for at, place in first_and_worst(len(different), worst)
        for start_ns, differences in [different[at]]
    ]


def _different(found: Mapping[int, Sequence[str]]) -> list[tuple[int, Sequence[str]]]:
    return sorted((start_ns, each) for start_ns, each in found.items() if each)

"""Which columns of the books the fidelity report's are made of; the golden book's are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.quality.fidelity.report import FidelityMetric, FidelityPair

__all__ = ["FIDELITY_COLUMNS"]

_Sources = list[tuple[str, str]]

_VALID = [("book_bbo", "flags"), ("book_intervals", "first_message"), ("book_intervals", "cause")]
_NUMBERS = [("book_bbo", "sequence_number")]
_RECEIPT, _EXCHANGE = [("book_bbo", "ts_receipt_ns")], [("book_bbo", "ts_origin_ns")]
_TIMES = [*_RECEIPT, *_EXCHANGE]
_UNITS = {"price": "ticks", "size": "lots"}


def _levels(part: str) -> _Sources:
    """Prices or sizes of all levels of both sides."""
    columns = [("book_bbo", f"{side}_{part}_{_UNITS[part]}") for side in ("bid", "ask")]
    return columns + [
        ("book_depth", f"{side}_{level}_{part}_{_UNITS[part]}")
        for side in ("bid", "ask")
        for level in range(DEPTH_LEVELS)
    ]


_LEVELS = [*_levels("price"), *_levels("size")]
_SURE = [("book_depth", f"{side}_levels_confirmed") for side in ("bid", "ask")]
_EVERYTHING = [*_NUMBERS, *_TIMES, *_VALID, *_LEVELS, *_SURE]
_FIRST = [*_NUMBERS, *_VALID, *_LEVELS]


def _sources(column: str) -> _Sources | None:
    """What one column of either table is made of; None for a name."""
    if column in {"metric", "level", "grid_ms", "bound", "golden", "notes"}:
        return None
    if "_shift" in column:
        return [*_NUMBERS, *(_RECEIPT if column.startswith("receipt") else _EXCHANGE)]
    if column in {"golden_price", "other_price", "golden_size", "other_size"}:
        return [*_NUMBERS, *_VALID, *_levels(column.partition("_")[2])]
    if column in {"matched", "only_golden", "only_other", "matched_by"}:
        return _NUMBERS
    if column in {"compared", "golden_invalid", "other_invalid"}:
        return [*_NUMBERS, *_VALID]
    if column in {"start_ns", "common_seconds", "clock"}:
        return _TIMES
    if (column.endswith("_seconds") and column != "longest_run_seconds") or column == "blocks":
        return [*_TIMES, *_VALID]
    if column.endswith(("_number", "_ns")) or "run" in column or "differing" in column:
        return [*_FIRST, *(_RECEIPT if column.endswith(("_ns", "_seconds")) else ())]
    return _EVERYTHING


def _of(names: Sequence[str]) -> Iterator[tuple[str, _Sources]]:
    for name in names:
        sources = _sources(name)
        if sources is not None:
            yield name, sources


FIDELITY_COLUMNS: Mapping[str, Mapping[str, _Sources]] = {
    "fidelity_report": dict(_of(FidelityPair.names())),
    "fidelity_metrics": dict(_of(FidelityMetric.names())),
}

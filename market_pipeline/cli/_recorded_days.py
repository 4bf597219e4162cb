"""What is recorded of each symbol and day, as `market-pipeline recording list` shows it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.table import Table

from market_pipeline.cli.output import bytes_text

if TYPE_CHECKING:
    from market_pipeline.sources.recording.check import RecordedFile
    from market_pipeline.sources.recording.journal import JournalDay, LeftJournal

__all__ = ["days_table", "recorded_days"]

_Day = tuple[str, str, str]
"""Exchange, symbol and day; empty is what cannot be read, or what a journal has no entry of."""


def recorded_days(
    facts: Iterable[RecordedFile], journals: Iterable[LeftJournal]
) -> list[dict[str, Any]]:
    """Files and left journals by exchange, symbol and day, in this order.

    The records of a journal may be in the files too; they are counted by themselves.
    """

    def day(each: RecordedFile) -> _Day:
        header = each.header
        of = ("", "") if header is None else (header.exchange, header.symbol)
        return *of, each.path.parent.name

    days = {key: _of_files(key, list(own)) for key, own in groupby(sorted(facts, key=day), day)}
    for journal in journals:
        for key, own in _days_of(journal).items():
            _add_journal(days.setdefault(key, _of_files(key, [])), journal, own)
    return [days[key] for key in sorted(days)]


def _of_files(day: _Day, files: list[RecordedFile]) -> dict[str, Any]:
    exchange, symbol, name = day
    footers = [each.footer for each in files if each.footer is not None]
    spans = [each.span_ns for each in files if each.span_ns is not None]
    return {
        "exchange": exchange,
        "symbol": symbol,
        "day": name,
        "hosts": sorted({each.header.host for each in files if each.header}),
        "records": sum(each.records for each in files),
        "bytes": sum(each.size_bytes for each in files),
        "first_ns": min((first for first, _ in spans), default=None),
        "last_ns": max((last for _, last in spans), default=None),
        "gaps": sum(each.kinds.get("gap", 0) for each in footers),
        "drops": sum(each.kinds.get("drop", 0) for each in footers),
        "journal_records": 0,
        "files": [{"file": str(e.path), "state": e.state, "records": e.records} for e in files],
    }


def _days_of(journal: LeftJournal) -> dict[_Day, JournalDay | None]:
    exchange = "" if journal.of is None else journal.of.exchange
    if not journal.days:
        return {(exchange, "", ""): None}
    return {(exchange, *day): own for day, own in journal.days.items()}


def _add_journal(day: dict[str, Any], journal: LeftJournal, own: JournalDay | None) -> None:
    from market_pipeline.sources.recording.check import FileState

    state = FileState.UNREADABLE if journal.of is None else FileState.LEFT_OPEN
    if journal.of is not None:
        day["hosts"] = sorted({*day["hosts"], journal.of.host})
    records = 0
    if own is not None:
        records = own.records
        for name, choice, at_ns in (("first_ns", min, own.first_ns), ("last_ns", max, own.last_ns)):
            day[name] = at_ns if day[name] is None else choice(day[name], at_ns)
    day["journal_records"] += records
    day["files"].append({"file": str(journal.path), "state": state, "records": records})


def days_table(days: Iterable[dict[str, Any]]) -> Table:
    """The days as a table, a line for each."""
    table = Table(title="Recordings", title_justify="left")
    for name in ("exchange", "symbol", "day", "hosts"):
        table.add_column(name)
    for name in ("files", "not closed", "records", "in journals", "size", "gaps", "drops"):
        table.add_column(name, justify="right")
    for name in ("first UTC", "last UTC"):
        table.add_column(name, no_wrap=True)
    for day in days:
        open_files = sum(not each["state"].is_closed for each in day["files"])
        numbers = (len(day["files"]), open_files, day["records"], day["journal_records"])
        table.add_row(
            *(day[name] for name in ("exchange", "symbol", "day")),
            ", ".join(day["hosts"]),
            *(f"{number:,}" for number in numbers),
            bytes_text(day["bytes"]),
            f"{day['gaps']:,}",
            f"{day['drops']:,}",
            *(_clock(day[name]) for name in ("first_ns", "last_ns")),
        )
    return table


def _clock(wall_ns: int | None) -> str:
    return "" if wall_ns is None else f"{datetime.fromtimestamp(wall_ns / 1e9, UTC):%H:%M:%S}"

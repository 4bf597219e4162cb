"""The converter of recordings: the union of all hosts and connections, read as a capture is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import load_settings
from market_pipeline.security.master import ring_of
from market_pipeline.security.ring import KeyRing
from market_pipeline.security.stored import is_sealed, is_stored, stored_in
from market_pipeline.sources.binance_capture import CONVERTER as CAPTURES
from market_pipeline.sources.binance_capture import MARKET_OF_VENUE, capture_symbol
from market_pipeline.sources.converter import ConverterFacts
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.recording.format import SUFFIX
from market_pipeline.sources.recording.heads import Heads, venue_of
from market_pipeline.sources.recording.proof import FoundGap, SpanProof
from market_pipeline.sources.recording.reader import Damage
from market_pipeline.sources.recording.union import (
    by_host,
    export_collector_form,
    file_name,
    received,
)
from market_pipeline.telemetry.metrics.recording import record
from market_pipeline.telemetry.metrics.table import RECORDING_GAPS

__all__ = ["RecordingConverter"]

_CLOSES_WITHIN = timedelta(minutes=5)
_NO_END_NS = 2**63 - 1


class RecordingConverter:
    """The converter for this package's own recordings of Binance spot, USD-M and COIN-M."""

    name = "recording"
    version = 1
    facts: ConverterFacts = replace(
        CAPTURES.facts,
        clock="The event time `E` (of trades the match time `T`), and the wall clock of the host "
        "that had the frame first.",
        gap="Every event names the event it continues, so what no connection of any host received "
        "is proven; besides, a gap is suspected by silence.",
    )

    def find(self, lake: Path, instrument: Instrument, day: date) -> list[Path]:
        """Files `<lake>/recording/<exchange>/<symbol>/<YYYY-MM-DD>/*.recording`, by name.

        Sealed ones are among them, by their plain names.
        None before the day is over and its last hour closed: each hour would make the day again.
        """
        market = MARKET_OF_VENUE.get(instrument.venue)
        end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        if market is None or datetime.now(UTC) < end + _CLOSES_WITHIN:
            return []
        symbol = capture_symbol(market, instrument.symbol)
        folder = lake / self.name / instrument.venue / symbol / day.isoformat()
        named = stored_in(folder) if folder.is_dir() else []
        return [file for file in named if file.name.endswith(SUFFIX) and is_stored(file)]

    def convert(
        self, files: Sequence[Path], out: RawWriter, instrument: Instrument, day: date
    ) -> None:
        """See `Converter`. Damaged blocks are noted and passed over; their frames may be a gap.

        Noted by hour are gaps that another host or connection filled, and those that are left.
        """
        heads = Heads(venue_of(instrument.venue))
        found = {(outcome, hour): 0 for outcome in ("filled", "left") for hour in range(24)}

        def note(damage: Damage) -> None:
            where = f"byte {damage.offset} of {damage.path.name}: {damage.found}"
            out.note("damaged bytes of a recording", where, damage.size_bytes)

        def note_gap(gap: FoundGap) -> None:
            hour = datetime.fromtimestamp(gap.wall_ns // 1_000_000_000, UTC)
            outcome = "left" if gap.filled_by is None else "filled"
            found[outcome, hour.hour] += 1
            kind = f"{outcome} gaps of {gap.stream}"
            by = "" if gap.filled_by is None else f", filled from {file_name(gap.filled_by)}"
            out.note(f"{kind} in the hour of {hour:%H}:00 UTC", f"after id {gap.after_id}{by}")

        hosts = by_host(files)
        proof = SpanProof(heads, hosts, 0, _NO_END_NS, note_gap)
        with TemporaryDirectory(prefix="market-pipeline-recording-") as folder:
            united = Path(folder, f"{day}.gz")
            frames = (arrival for arrival, _ in proof.union(received(hosts, note)))
            export_collector_form(frames, united, _ring_of(files), "captures")
            CAPTURES.convert([united], out, instrument, day)
        for (outcome, of_hour), gaps in found.items():
            attributes = {"outcome": outcome, "hour": f"{of_hour:02}"}
            record(RECORDING_GAPS, gaps, venue=instrument.venue, **attributes)


def _ring_of(files: Sequence[Path]) -> KeyRing | None:
    """What seals the union of recordings, so that nothing of sealed ones lies plain on the disk."""
    return ring_of(load_settings()) if any(map(is_sealed, files)) else None

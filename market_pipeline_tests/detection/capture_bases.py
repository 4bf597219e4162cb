"""Clean beginnings of real captures that faults are put into."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from market_pipeline.config.instruments import Instrument
from market_pipeline_tests.detection.bases import finish, head
from market_pipeline_tests.detection.faults.capture_day import CaptureDay, Line
from market_pipeline_tests.detection.faults.day import INVENTED, NUMBER, RawDay
from market_pipeline_tests.detection.truth import full_book
from market_pipeline_tests.naive.capture import VenueBook, naive_depth, venue_procedure
from market_pipeline_tests.quality.sample import read_table, sample_root
from market_pipeline_tests.sources.capture_sample import SETS

__all__ = ["CAPTURE_BASES", "prepare_capture"]

EVENTS = 1_200
SNAPSHOT_EVERY = 150
CAPTURE_BASES = {
    "spot capture": ("spot", False),
    "COIN-M capture": ("coinm", False),
    "COIN-M capture with snapshots": ("coinm", True),
}
"""By name: the market, and whether snapshots come again and again, as a recorder asks for them."""


def prepare_capture(root: Path, name: str) -> Path:
    """Prepares the beginning of a real capture; returns the file that `load_base` takes."""
    market, has_snapshots = CAPTURE_BASES[name]
    of = next(each for each in SETS if each.market == market)
    day = date.fromisoformat(of.days[0])
    lake = RawDay.read(sample_root() / "lake", of.venue, of.our_symbol, day)
    messages = dict(
        zip(lake.messages.first(NUMBER).tolist(), range(len(lake.messages)), strict=True)
    )
    lines = list(_lines(of.files(sample_root())[0], messages))
    if has_snapshots:
        lines = _with_snapshots(lines, root)
    capture = CaptureDay(market, of.venue, of.our_symbol, day, tuple(lines))
    (account,) = full_book(
        read_table("truth/rest_snapshot", of.venue, of.our_symbol, day),
        [lake.deltas],
        applies_own_number=of.venue != "BINANCE",
    )
    # The symbol is another one, so that the neighbour is read from tables and not from captures.
    elsewhere = RawDay.read(sample_root() / "lake", "BINANCE_FUTURES", "BTC-USDT-PERP", day)
    instrument = Instrument(venue=of.venue, symbol=of.our_symbol, source="binance_capture")
    return finish(
        root / name.replace(" ", "-"), name, capture, head(elsewhere), [account], instrument
    )


def _lines(file: Path, messages: dict[int, int]) -> Iterable[Line]:
    """The lines up to the last event wanted, without those that no reader looks at."""
    events = 0
    with gzip.open(file) as opened:
        for raw in opened:
            text = raw.rstrip(b"\n")
            if b"@bookTicker" in text:
                continue
            kind = "depth" if b'"depthUpdate"' in text else "other"
            message = INVENTED
            if b"lastUpdateId" in text:
                kind = "rest"
            elif kind == "depth":
                message = messages[Line(text, kind, INVENTED).frame["u"]]
                events += 1
            yield Line(text, kind, message)
            if events == EVENTS:
                return


def _with_snapshots(lines: list[Line], folder: Path) -> list[Line]:
    """The lines with a snapshot of the true book behind every so many events."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "clean.gz"
    file.write_bytes(gzip.compress(b"".join(line.text + b"\n" for line in lines), 1))
    events, (rest,) = naive_depth([file])
    answers = {}
    for number, (event, book) in enumerate(venue_procedure(events, rest), 1):
        if number % SNAPSHOT_EVERY == 0:
            answers[event.line - 1] = _answer(event.last, book, lines[event.line - 1].stamp)
    made: list[Line] = []
    for at, line in enumerate(lines):
        made.append(line)
        if at in answers:
            made.append(answers[at])
    return made


def _answer(last_update_id: int, book: VenueBook, stamp: bytes) -> Line:
    bids, asks = ([[str(p), str(s)] for p, s in side] for side in book.sides(1_000))
    frame = {"lastUpdateId": last_update_id, "bids": bids, "asks": asks}
    return Line(stamp + b" " + json.dumps(frame, separators=(",", ":")).encode(), "rest", INVENTED)

"""Small capture files and frames in the venue's form."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from market_pipeline.sources.binance_capture import Findings

SYMBOL = {"spot": "BTCUSDT", "usdm": "BTCUSDT", "coinm": "BTCUSD_PERP"}
BEGIN_MS = 1_723_161_600_000

Levels = Sequence[tuple[str, str]]


def depth(
    market: str, ids: tuple[int, int], bids: Levels = (), asks: Levels = (), **changed: object
) -> dict:
    """A depth event that continues `ids[0]` and ends at `ids[1]`; on futures its `U` tells less."""
    start, last = ids
    frame: dict[str, object] = {"e": "depthUpdate", "E": BEGIN_MS + last, "s": SYMBOL[market]}
    if market == "spot":
        frame |= {"U": start + 1, "u": last}
    else:
        frame |= {"T": BEGIN_MS + last, "U": last, "u": last, "pu": start}
    return frame | {"b": [list(level) for level in bids], "a": [list(a) for a in asks]} | changed


def rest(last_update_id: int, bids: Levels, asks: Levels, **more: object) -> dict:
    """A REST snapshot."""
    sides = {"bids": [list(level) for level in bids], "asks": [list(level) for level in asks]}
    return {"lastUpdateId": last_update_id} | more | sides


def trade(trade_id: int, **changed: object) -> dict:
    """A trade in which the buyer was the maker."""
    frame = {"e": "trade", "E": BEGIN_MS, "T": BEGIN_MS + trade_id, "s": "BTCUSDT", "t": trade_id}
    return frame | {"p": "100.5", "q": "0.25", "m": True} | changed


def line(frame: dict, at: int = 0, *, stream: str | None = None) -> bytes:
    """A line received `at` ms after the beginning, enveloped if a stream is named."""
    body = frame if stream is None else {"stream": stream, "data": frame}
    return f"{(BEGIN_MS + at) * 10**6} {json.dumps(body, separators=(',', ':'))}".encode()


def capture(path: Path, lines: Sequence[bytes]) -> Path:
    """A capture file of these lines."""
    path.write_bytes(gzip.compress(b"".join(each + b"\n" for each in lines), mtime=0))
    return path


def told(findings: Findings) -> list[tuple[str, str, int]]:
    """(kind, file name, line) of every finding."""
    return [(each.kind.value, each.file.name, each.line) for each in findings.located]


def column(batches: Sequence[object], name: str) -> list:
    """A column of all batches as one list."""
    return [value for batch in batches for value in np.asarray(getattr(batch, name)).tolist()]

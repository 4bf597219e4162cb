"""The plain twins of the capture's kernel: one that takes no line, and one of json and Decimal."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np

from market_pipeline.sources.binance_capture.frame_kernel import END, KIND, LEFT, ROW

Pairs = list[tuple[Decimal, Decimal]]


def naive_parse_lines(
    text: np.ndarray, symbol: np.ndarray, is_spot: bool, seen: np.ndarray, lines: np.ndarray, *_
) -> int:
    """Leaves all lines alone, so that each is decoded as a JSON text of its own."""
    ends = np.flatnonzero(text == ord("\n"))
    lines[: ends.size, KIND], lines[: ends.size, ROW] = LEFT, 0
    lines[: ends.size, END] = ends
    return 0


def naive_frame(market: str, symbol: str, line: bytes) -> tuple[str, list[int], Pairs]:
    """What a good line holds: its kind, its times, ids and counts, its prices and sizes."""
    stamp, _, text = line.partition(b" ")
    whole = json.loads(text)
    assert isinstance(whole, dict)
    frame = whole["data"] if b'"data"' in text else whole
    receipt_ns = _ns(int(stamp))
    if b'"depthUpdate"' in text:
        assert symbol == frame["s"]
        start = frame["U"] - 1 if market == "spot" else frame["pu"]
        counts = [len(frame["b"]), len(frame["a"])]
        integers = [receipt_ns, _ns(frame["E"]), start, frame["u"], *counts]
        return "depth", integers, [_pair(*level) for level in frame["b"] + frame["a"]]
    if b'"trade"' in text:
        assert symbol == frame["s"] and isinstance(frame["m"], bool)
        integers = [receipt_ns, _ns(frame["T"]), int(not frame["m"]), frame["t"]]
        return "trade", integers, [_pair(frame["p"], frame["q"])]
    assert b'"lastUpdateId"' not in text
    return "other", [receipt_ns], []


def _ns(stamp: int) -> int:
    return stamp * 10 ** {13: 6, 16: 3, 19: 0}[len(str(stamp))]


def _pair(price: str, size: str) -> tuple[Decimal, Decimal]:
    assert Decimal(price) > 0 <= Decimal(size)
    return Decimal(price), Decimal(size)

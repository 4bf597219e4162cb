from __future__ import annotations

import json

from benchmarks.capture import record_made
from benchmarks.capture_venue import SYMBOLS, frames
from market_pipeline.sources.recording.check import check_recording, find_recordings
from market_pipeline.sources.venues.binance import BINANCE_SPOT
from market_pipeline.sources.venues.reading import FrameReader


def test_made_frames_are_the_venue_s():
    """They are of 64 streams, and their ids follow each other."""
    reader, made = FrameReader(BINANCE_SPOT), frames()
    some = [next(made) for _ in range(128)]
    heads = [reader.classify(each[each.index(b"{") :]) for each in some]
    assert 64 == len({head.stream for head in heads})
    assert [1, 2] == [head.last_id for head in heads if head.stream == f"depth:{SYMBOLS[5]}"]
    assert all(json.loads(each[each.index(b"{") :])["data"] for each in some)


def test_all_frames_are_recorded(tmp_path):
    """What is timed is what is written."""
    assert record_made(tmp_path, 20_000)["rate_k"] > 0
    checked = [check_recording(path) for path in find_recordings([tmp_path])]
    assert (20_000, []) == (
        sum(e.records for e in checked),
        [d for e in checked for d in e.damages],
    )

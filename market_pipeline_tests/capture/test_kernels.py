"""The machine code of a capture is there before its first frame."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOADS = """
import asyncio, gc, sys
from decimal import Decimal
from itertools import islice
from pathlib import Path
from market_pipeline.books.scale import Scale
from market_pipeline.capture.book import LiveBook
from market_pipeline.capture.derived import Derived
from market_pipeline.capture.kernels import load_kernels
from market_pipeline.capture.replay import Replay
from market_pipeline.capture.simulated import SIMULATED, simulated_day, simulated_settings
from market_pipeline.capture.sinks import JsonLines
from market_pipeline.config.settings import Settings
from market_pipeline.jit import _Kernel
from market_pipeline.sources.venues import VENUES
from market_pipeline.sources.venues.reading import FrameReader
from market_pipeline_tests.capture.test_book import kraken_frame

def loaded():
    kernels = [each for each in gc.get_objects() if isinstance(each, _Kernel)]
    return sorted((each.py_func.__qualname__, str(each.signatures)) for each in kernels)

load_kernels(with_metrics=True)
before, folder = loaded(), Path(sys.argv[1])
settings = simulated_settings(Settings(data_dir=folder)).capture
derived = Derived(settings, SIMULATED, {}, {"lines": JsonLines(folder)})
given = islice(simulated_day(settings.symbols), 3_000)
replay = Replay(given, settings, SIMULATED, report=lambda *_: None, derived=derived)
asyncio.run(replay.run(asyncio.Event()))
reader, scale = FrameReader(VENUES["kraken"]), Scale.of(Decimal("0.1"))
book = LiveBook(reader, scale, scale)
for n, kind in enumerate(("snapshot", "update", "snapshot")):
    sides = {"bids": [(1e6 * n + 1, 0.05), (2, 1)], "asks": [(1e6 * n + 2, 1)]}
    frame = kraken_frame(kind, 0, **sides)
    book.take(frame, reader.classify(frame), n)
    book.sides()
assert before == loaded(), {*loaded()} - {*before}
print(*sorted(path.stem for path in folder.glob("*.jsonl")))
"""


@pytest.mark.slow
def test_frames_load_no_more(tmp_path):
    """Books, bars and metrics of thousands of messages need no kernel that was not loaded, and no
    book whose venue has a depth and a checksum, whose price jumps or has a size that is no lot.
    """
    done = subprocess.run(
        [sys.executable, "-c", LOADS, tmp_path], capture_output=True, text=True, check=False
    )
    assert ("bars best_quotes touch_metrics\n", 0) == (done.stdout, done.returncode), done.stderr

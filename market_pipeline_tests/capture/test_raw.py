"""The threads between the event loop and the files."""

from __future__ import annotations

import gc
import sys

from market_pipeline.capture.files import RecordingFiles
from market_pipeline.capture.raw import EntryWriter
from market_pipeline.sources.recording.format import Entry, RecordKind


def test_the_interpreter_is_as_before_afterwards(tmp_path):
    """While it writes, the collector looks at few objects seldom and threads give way sooner."""
    before = gc.get_threshold(), sys.getswitchinterval()
    files = RecordingFiles(tmp_path, "BINANCE", "host", "run")
    writer = EntryWriter(
        files, flush_s=0.001, sync_s=60.0, on_full=lambda full: None, on_refused=lambda why: None
    )
    writer.start()
    try:
        writer.put(Entry("X", RecordKind.FRAME, 0, 0, 1, "depth:X", b"{}"))
        during = gc.get_threshold(), sys.getswitchinterval()
    finally:
        writer.stop()
    assert during[0][0] > before[0][0]
    assert during[1] < before[1]
    assert before == (gc.get_threshold(), sys.getswitchinterval())
    assert 1 == len(list(tmp_path.rglob("*.recording")))

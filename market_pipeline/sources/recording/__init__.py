"""Source `recording`: this package's own live captures, byte for byte as the venue sent them.

A file holds an instrument's hour of one recorder; `docs/sources/recording.md` has its format.
"""

from __future__ import annotations

from market_pipeline.sources.recording.converter import RecordingConverter
from market_pipeline.sources.recording.footer import ClosedRecording
from market_pipeline.sources.recording.format import RecordKind
from market_pipeline.sources.recording.hours import HourlyRecorder
from market_pipeline.sources.recording.reader import read_recording, recover
from market_pipeline.sources.recording.writer import RecordingOf, RecordingWriter

__all__ = ["CONVERTER", "ClosedRecording", "HourlyRecorder", "RecordKind", "RecordingOf"]
__all__ += ["RecordingWriter", "read_recording", "recover"]

CONVERTER = RecordingConverter()

from __future__ import annotations

import pytest

from benchmarks.captures import capture_figures, made_capture, real_captures
from market_pipeline.sources.binance_capture import Findings, TableFindings, read_tables
from market_pipeline.sources.binance_capture.lines import read_blocks


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A small made capture."""
    monkeypatch.setenv("BENCH_FOLDER", str(tmp_path))
    return made_capture(200)


def test_nothing_is_wrong_with_the_made_capture(made):
    """It has the frames asked for, of every kind, and an unbroken stream."""
    findings = TableFindings(Findings(), Findings(), Findings())
    batches = list(read_tables(made.files, "usdm", "BTCUSDT", findings))
    assert [{}, {}, {}] == [dict(each.counts) for each in findings]
    assert {"DeltaBatch", "SnapshotBatch", "Trades"} == {type(each).__name__ for each in batches}
    frames = sum(lines for _, lines, _ in read_blocks(made.files[0], Findings()))
    assert 200 <= frames < 220


@pytest.mark.slow
def test_all_rates_are_measured(made):
    """Figures with their bars, in frames of all files."""
    figures = capture_figures("made", [made, made], 1)
    assert [300, 500, None, None] == [each.bar for each in figures]
    assert {"captures, made, 416 frames"} == {each.group for each in figures}


def test_real_captures_are_missed_with_a_sentence(tmp_path, monkeypatch):
    """Where the sample data is not, the error says how to name its folder."""
    monkeypatch.setenv("MARKET_PIPELINE_SAMPLE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="MARKET_PIPELINE_SAMPLE_DATA"):
        real_captures()

from __future__ import annotations

import os

import pytest

from market_pipeline.config.settings import load_settings
from market_pipeline.errors import SettingsError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current folder and none of our variables."""
    for name in [name for name in os.environ if name.upper().startswith("PIPELINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestSection:
    def test_sources_of_a_section(self, folder, monkeypatch):
        """Flag over environment over `.env` over config.yaml, key by key."""
        (folder / "config.yaml").write_text(
            "capture: {venue: a, redundancy: 1, symbols: [X, Y], fill_ms: 1}\n"
        )
        (folder / ".env").write_text(
            "PIPELINE_CAPTURE__REDUNDANCY=3\nPIPELINE_CAPTURE__FILL_MS=2\n"
        )
        monkeypatch.setenv("PIPELINE_CAPTURE__FILL_MS", "3")
        capture = load_settings(capture__venue="b").capture
        assert ("b", 3, ("X", "Y"), 3.0) == (
            *(capture.venue, capture.redundancy),
            *(capture.symbols, capture.fill_ms),
        )

    def test_refusals_name_the_key(self, folder, monkeypatch):
        """Refused values, unknown keys and a section that is none are named as they were spelt."""
        (folder / "config.yaml").write_text("capture: {redundancy: 9, venu: x}\n")
        monkeypatch.setenv("PIPELINE_CAPTURE__STREAMS", "depth,nonsense")
        with pytest.raises(SettingsError) as refused:
            load_settings()
        text = "\n".join(refused.value.problems)
        assert "config.yaml: capture.redundancy: " in text
        assert "capture.venu is not a known key (did you mean capture.venue?)" in text
        assert "environment: PIPELINE_CAPTURE__STREAMS: " in text
        (folder / "config.yaml").write_text("capture: binance_spot\n")
        with pytest.raises(SettingsError, match="capture is a section"):
            load_settings()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(
                ("symbols", text)
                for text in ("A,A", "A,a", "../../x", "A/../B", "/A", "A\\B", "A B")
            ),
            *(("symbols", text) for text in ("A\x07", "A/", "A" * 65)),
            *(("streams", "depth,depth"), ("sinks", "jsonl,jsonl")),
            *(("flush_ms", text) for text in ("0", "-1", "nan", "inf", "1e300", "1e-300")),
            *(("sync_seconds", text) for text in ("0", "1e9", "-inf")),
        ],
        ids=repr,
    )
    def test_absurd_values(self, monkeypatch, name, value):
        """Values that no capture can do with are refused by the name of their setting."""
        monkeypatch.setenv(f"PIPELINE_CAPTURE__{name.upper()}", value)
        with pytest.raises(SettingsError, match=f"PIPELINE_CAPTURE__{name.upper()}: "):
            load_settings()

    def test_a_key_given_twice(self, folder, monkeypatch):
        """A key that stands twice in a source is a problem, in every source that can hold it so."""
        (folder / ".env").write_text("PIPELINE_THREADS=1\nPIPELINE_THREADS=2\n")
        (folder / "config.yaml").write_text("capture:\n  venue: a\n  venue: b\n")
        monkeypatch.setenv("PIPELINE_DEPTH_INTERVAL_MS", "100")
        monkeypatch.setenv("pipeline_depth_interval_ms", "250")
        with pytest.raises(SettingsError) as refused:
            load_settings()
        env_file, yaml_file, environment = (
            next(p for p in refused.value.problems if p.startswith(source))
            for source in (".env", "config.yaml", "environment")
        )
        assert "PIPELINE_THREADS a second time" in env_file
        assert "the key venue is given twice" in yaml_file
        assert "given twice" in environment

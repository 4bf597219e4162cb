"""Settings of a process that runs for days."""

from __future__ import annotations

from market_pipeline.config import current
from market_pipeline.config.current import CurrentSettings
from market_pipeline.config.settings import load_settings


def test_read_anew_in_time(tmp_path, monkeypatch, caplog):
    """Within a minute they are those of before, then those of now; what is refused changes nothing
    and is one warning, until it is put right.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_THREADS", "1")
    settings = CurrentSettings(load_settings(), load_settings)
    monkeypatch.setenv("PIPELINE_THREADS", "2")
    assert 1 == settings().threads
    monkeypatch.setattr(current, "_ANEW_S", 0.0)
    settings = CurrentSettings(settings(), load_settings)
    found = []
    for given in ("2", "none", "none", "3"):
        monkeypatch.setenv("PIPELINE_THREADS", given)
        found.append(settings().threads)
    assert [2, 2, 2, 3] == found
    (warning,) = caplog.messages
    assert "the settings of before are used: 1 setting is not usable" in warning

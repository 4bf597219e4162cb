"""Keys for tests that seal: the settings of this process name them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from market_pipeline.config.settings import load_settings
from market_pipeline.security.master import ring_of
from market_pipeline.security.ring import KeyRing, Purpose

MASTER = bytes(range(32))
MASTER_TEXT = base64.b64encode(MASTER).decode()


def use_keys(
    monkeypatch: pytest.MonkeyPatch, data_dir: Path, *purposes: Purpose, seal: str = ""
) -> KeyRing:
    """Has this process open, and with `seal` also seal, with keys for some purposes."""
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(data_dir))
    monkeypatch.setenv("PIPELINE_MASTER_KEY", MASTER_TEXT)
    monkeypatch.setenv("PIPELINE_SEAL", seal)
    ring = ring_of(load_settings())
    for purpose in purposes:
        ring.new(purpose)
    return ring

from __future__ import annotations

import os

import pytest

from market_pipeline.config.providers import forget_provided
from market_pipeline.config.settings import ENV_PREFIX
from market_pipeline_tests.store.servers import no_credentials


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current folder, no setting, no credential, and no provider asked before."""
    for name in list(os.environ):
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)
    no_credentials(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    forget_provided()
    return tmp_path


@pytest.fixture
def setting(monkeypatch):
    """Sets what stands in the section `secrets`."""

    def put(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"{ENV_PREFIX}SECRETS__{name.upper()}", str(value))

    return put

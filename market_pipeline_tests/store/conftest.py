from __future__ import annotations

from functools import cache

import botocore.loaders
import pytest


@pytest.fixture(scope="session", autouse=True)
def read_once():
    """Let boto3 read its description of S3 once: each client would take 0.1 s for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", cache(botocore.loaders.create_loader))
        yield

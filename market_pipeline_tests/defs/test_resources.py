from __future__ import annotations

from types import SimpleNamespace

import pytest

from market_pipeline_tests.defs.conftest import START

pytestmark = pytest.mark.usefixtures("instruments")


def context(**tags: str) -> SimpleNamespace:
    """As much of a step's context as is looked at."""
    return SimpleNamespace(run=SimpleNamespace(tags=tags), partition_key=START.isoformat())


@pytest.mark.parametrize(
    ("force", "tags", "looked"),
    [
        (False, {}, True),
        (True, {}, False),
        (False, {"market_pipeline/force": "true"}, False),
        (False, {"market_pipeline/force": "True"}, False),
        (False, {"market_pipeline/force": "false"}, True),
    ],
)
def test_force(force: bool, tags: dict[str, str], looked: bool):
    """With `force` in the config, or the tag, a run does not look at what is published."""
    from market_pipeline.defs.resources import Pipeline
    from market_pipeline.stages.provenance import BOOKS

    recorded = Pipeline(force=force).recorded(context(**tags), BOOKS)

    assert looked == (recorded is not None)

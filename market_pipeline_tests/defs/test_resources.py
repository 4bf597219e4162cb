from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import dagster as dg
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


@pytest.mark.parametrize(
    ("tags", "asked"),
    [
        ({"dagster/partition": "2024-07-01"}, ["BINANCE:BTC-USDT"]),
        ({"dagster/partition": "2024-06-30"}, ["BINANCE:BTC-USDT", "BINANCE:ETH-USDT"]),
        ({}, ["BINANCE:BTC-USDT", "BINANCE:ETH-USDT"]),
    ],
    ids=["a day after it", "its last day", "no day"],
)
def test_who_is_not_listed(folder: Path, tags: dict[str, str], asked: list[str]):
    """A run of a day is about the instruments that are listed on it."""
    from market_pipeline.defs.resources import Pipeline

    file = folder / "instruments.yaml"
    file.write_text(file.read_text() + "  delisted: 2024-07-01\n")

    @dg.op(required_resource_keys={"pipeline"})
    def selected(context) -> list[str]:
        return [each.id for each in context.resources.pipeline.selected]

    @dg.job(resource_defs={"pipeline": Pipeline()})
    def asking() -> None:
        selected()

    assert asked == asking.execute_in_process(tags=tags).output_for_node("selected")

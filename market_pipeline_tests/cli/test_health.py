"""Of the verb `health` what `--enforce` runs, and what it does not."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

from typer.testing import CliRunner

from market_pipeline.cli import health
from market_pipeline.cli.app import app
from market_pipeline.health.memory import Memory
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.locks import holding

INSTRUMENTS = Path(__file__).parents[2] / "instruments.example.yaml"


def test_days_are_run_by_one_look_that_is_remembered(tmp_path, monkeypatch):
    """None while the look before still runs its own, none where the try cannot be noted, and none
    by `--audit`, which notes which would be.
    """
    shutil.copy(INSTRUMENTS, tmp_path / "instruments.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    warehouse = Warehouse(tmp_path / "data")
    runs = []
    monkeypatch.setattr(health, "run_days", lambda days, *_: runs.append(len(days)) or [])
    monkeypatch.setattr(health, "print_failed", lambda _: None)

    def looked(*more: str) -> str:
        return CliRunner().invoke(app, ["health", "--days", "1", *more]).output

    def enforced(*, elsewhere: bool = False) -> tuple[int, int]:
        """How many runs there were, and how many tries are remembered."""
        with ExitStack() as stack:
            if elsewhere:
                stack.enter_context(holding(warehouse, "health"))
            looked("--enforce")
        return len(runs), sum(Memory.of(warehouse).tries.values())

    said = json.loads(looked("--audit", "--json"))
    memory = Memory.of(warehouse)
    assert (1, said["to_run"], {}, []) == (
        *(len(memory.audited), memory.audited, memory.tries, runs),
    )
    assert "does not go with" in looked("--audit", "--enforce")
    assert (0, 0) == enforced(elsewhere=True)
    assert (1, 1) == enforced()
    (warehouse.state_dir / "health.json").unlink()
    (warehouse.state_dir / "health.json").mkdir()
    assert (1, 0) == enforced()

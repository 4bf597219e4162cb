from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from market_pipeline.quality.checks.bar_rows import BAR_ROWS
from market_pipeline.quality.checks.features import FEATURES
from market_pipeline.quality.checks.klines import KLINES
from market_pipeline.quality.evaluate import CHECKS
from market_pipeline.quality.fidelity.check import FIDELITY
from market_pipeline.tables import TABLES
from market_pipeline_tests.defs.workspace import Workspace

SNAPSHOT = Path(__file__).parent / "snapshots" / "definitions.yaml"


def print_definitions() -> None:
    """Prints what Dagster was given as YAML; runs in a process with settings of its own."""
    from market_pipeline.definitions import defs

    yaml.safe_dump(describe(defs.get_repository_def()), sys.stdout, sort_keys=False, width=100)


def describe(repository: Any) -> dict[str, Any]:
    """Every part of the definitions that a user or a schedule can see, in a fixed order."""
    graph = repository.asset_graph
    checks = {key: graph.get_check_spec(key) for key in graph.asset_check_keys}
    return {
        "assets": {
            node.key.to_user_string(): {
                "description": node.description,
                "group": node.group_name,
                "kinds": sorted(node.kinds),
                "owners": sorted(node.owners),
                "tags": {
                    name: value
                    for name, value in sorted(node.tags.items())
                    if not name.startswith("dagster/kind/")
                },
                "deps": names(node.parent_keys),
                "partitions": partitions(node.partitions_def),
                "io_manager_key": node.io_manager_key,
                "schema": node.metadata["schema"],
                "columns": len(node.metadata["dagster/column_schema"].columns),
                "op": node.assets_def.op.name,
                "checks": {
                    key.name: {
                        "description": spec.description,
                        "blocking": spec.blocking,
                        "partitions": partitions(spec.partitions_def),
                        "deps": names(dep.asset_key for dep in spec.additional_deps),
                    }
                    for key, spec in sorted(checks.items())
                    if key.asset_key == node.key
                },
            }
            for node in sorted(graph.asset_nodes, key=lambda node: node.key)
        },
        "jobs": {
            job.name: {
                "description": job.description,
                "executor": job.executor_def.name,
                "ops": sorted(node.name for node in job.nodes),
                "partitions": partitions(job.partitions_def),
            }
            for job in sorted(repository.get_all_jobs(), key=lambda job: job.name)
            if not job.name.startswith("__")
        },
        "schedules": {
            schedule.name: {
                "description": schedule.description,
                "job": schedule.job_name,
                "cron": schedule.cron_schedule,
                "timezone": schedule.execution_timezone,
                "status": schedule.default_status.value,
            }
            for schedule in repository.schedule_defs
        },
        "sensors": {
            sensor.name: {
                "description": sensor.description,
                "job": sensor.job_name if sensor.has_jobs else None,
                "seconds_between": sensor.minimum_interval_seconds,
                "status": sensor.default_status.value,
            }
            for sensor in repository.sensor_defs
        },
        "resources": sorted(repository.get_top_level_resources()),
    }


def names(keys: Iterable[Any]) -> list[str]:
    return sorted(key.to_user_string() for key in keys)


def partitions(definition: Any) -> str:
    return f"{definition.cron_schedule} {definition.timezone} from {definition.start:%Y-%m-%d}"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """Settings of its own, so that those of this machine do not show."""
    root = tmp_path_factory.mktemp("definitions")
    return Workspace(root, root / "lake", start_date=date(2024, 1, 1))


@pytest.fixture(scope="module")
def found(workspace) -> str:
    """The definitions as YAML."""
    finished = workspace.call(print_definitions).finish()
    assert 0 == finished.exit_code, finished.errors
    return finished.output


def test_snapshot(found: str):
    """The definitions are those of the snapshot, which a reviewer reads in every change of it."""
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.parent.mkdir(exist_ok=True)
        SNAPSHOT.write_text(found, encoding="utf-8")

    assert SNAPSHOT.read_text(encoding="utf-8") == found, (
        "The definitions changed. If that is meant, renew the snapshot and commit it: "
        f"UPDATE_SNAPSHOTS=1 python -m pytest {Path(__file__).name}"
    )


def test_every_table_is_an_asset(found: str):
    """Each published table has its asset, in the group of its schema, managed by its storage."""
    assets = yaml.safe_load(found)["assets"]
    expected = {
        name: (table.schema, "lake_tables" if table.storage == "delta" else "small_tables")
        for name, table in TABLES.items()
    }

    assert expected == {
        name: (asset["group"], asset["io_manager_key"]) for name, asset in assets.items()
    }
    assert {"lake", "books", "quality", "metrics"} == {group for group, _ in expected.values()}


def test_every_check_is_an_asset_check(found: str):
    """Each check of the report, and that of the bars, is on one asset with its own sentence."""
    assets = yaml.safe_load(found)["assets"].values()
    told = {
        name: check["description"] for asset in assets for name, check in asset["checks"].items()
    }

    checks = (*CHECKS, BAR_ROWS, KLINES, FEATURES, FIDELITY)
    assert {check.name: check.sentence for check in checks} == told


def test_importing_the_definitions_writes_nothing(workspace: Workspace, found: str):
    """A look at the definitions makes no folder: a UI that lists them may not own the data."""
    assert found
    assert not workspace.data_dir.exists()

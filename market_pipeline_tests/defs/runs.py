"""Runs of all assets that do nothing, for tests of who asks for runs."""

from collections.abc import Collection, Sequence
from datetime import date

import dagster as dg

from market_pipeline.tables import TABLES


def finished_run(
    instance: dg.DagsterInstance,
    day: date,
    *,
    fails: bool = False,
    instruments: Sequence[str] = (),
    without: Collection[str] = (),
) -> None:
    """A run of a day that has just ended.

    Args:
        instance: Which the run is recorded in.
        day: Of which day.
        fails: Whether the last asset fails.
        instruments: Ids of those it is about; none for all.
        without: Assets that it does not make.
    """

    @dg.multi_asset(
        specs=[dg.AssetSpec(name) for name in TABLES],
        partitions_def=dg.DailyPartitionsDefinition("2024-01-01"),
        can_subset=True,
        required_resource_keys={"pipeline"},
    )
    def everything(context: dg.AssetExecutionContext):
        for key in sorted(context.op_execution_context.selected_asset_keys):
            yield dg.MaterializeResult(asset_key=key)
        if fails:
            raise RuntimeError("as it was told to")

    @dg.resource(config_schema={"instruments": [str]})
    def pipeline(_) -> None:
        """Has the configuration of the true one."""

    dg.materialize(
        [everything],
        instance=instance,
        raise_on_error=False,
        partition_key=str(day),
        selection=[name for name in TABLES if name not in without],
        resources={"pipeline": pipeline},
        run_config={"resources": {"pipeline": {"config": {"instruments": list(instruments)}}}},
    )


def run_under_way(
    instance: dg.DagsterInstance,
    day: date,
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED,
) -> None:
    """A run of a day that has not ended."""
    instance.add_run(
        dg.DagsterRun(job_name="daily_books", status=status, tags={"dagster/partition": str(day)})
    )

"""The funding and the open interest of a day's contracts."""

from collections.abc import Iterator
from dataclasses import asdict

import dagster as dg
import polars as pl

from market_pipeline.defs.describe import table_metadata
from market_pipeline.defs.files_output import files_output
from market_pipeline.defs.interrupts import run_step
from market_pipeline.defs.io_managers import PartitionFiles
from market_pipeline.defs.options import options
from market_pipeline.defs.partitions import DAILY, day_of
from market_pipeline.defs.resources import Pipeline
from market_pipeline.defs.step_times import makes
from market_pipeline.metrics.contract_states import CONTRACT_STATES, ContractState
from market_pipeline.stages.metrics.contract_states import states_day, states_made_of
from market_pipeline.stages.raw.objects import RawObjects
from market_pipeline.warehouse.staging import staging_in_use

__all__ = ["ASSETS"]


def _state_asset(name: str, state: ContractState) -> dg.AssetsDefinition:
    @dg.asset(
        name=name,
        partitions_def=DAILY,
        ins={"raw": dg.AssetIn(state.manifest.name)},
        **options(name),
    )
    @makes
    @run_step
    def publish(
        context: dg.AssetExecutionContext, pipeline: Pipeline, raw: pl.DataFrame
    ) -> Iterator[dg.Output[PartitionFiles]]:
        """Publish the rows of the contracts that have any; others are no fault."""
        day, lake = day_of(context), pipeline.settings.lake_path
        objects = RawObjects(lake, raw)
        made_of = states_made_of(state, day, pipeline.selected, objects)
        unchanged = pipeline.unchanged(context, (state.table,), made_of)
        made = [each for each in pipeline.selected if each.id not in unchanged]
        # Until the output is published: Dagster does that while this generator waits.
        with staging_in_use(pipeline.warehouse):
            found = states_day(
                state, day, made, objects, pipeline.warehouse, lake, context.log.warning
            )
            counts = [{"instrument": id_} | asdict(each) for id_, each in found.counts.items()]
            yield files_output(
                *(context, name, found.staged, found.withdrawn),
                made_of=made_of,
                unchanged=unchanged,
                without=found.without,
                is_green=lambda _: True,  # who has no contract misses nothing
                more={"instruments": table_metadata(counts)},
            )

    return publish


ASSETS = [_state_asset(name, state) for name, state in CONTRACT_STATES.items()]

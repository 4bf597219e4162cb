"""The output of an asset whose instruments lie in files of their own, made now or unchanged."""

from collections.abc import Callable, Mapping, Sequence

import dagster as dg

from market_pipeline.defs.describe import (
    Metadata,
    files_metadata,
    unchanged_table,
    without_table,
)
from market_pipeline.defs.io_managers import PartitionFiles
from market_pipeline.defs.partitions import green_if
from market_pipeline.stages.recorded_day import UnchangedDay
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.lineage import MadeOf
from market_pipeline.warehouse.staging import StagedFile

__all__ = ["files_output", "has_rows"]


def has_rows(files: Sequence[StagedFile]) -> bool:
    """Whether any file of a day has a row."""
    return any(file.rows for file in files)


def files_output(
    context: dg.AssetExecutionContext,
    asset: str,
    staged: Sequence[StagedFile],
    withdrawn: Sequence[str],
    *,
    made_of: Mapping[str, MadeOf],
    unchanged: Mapping[str, UnchangedDay],
    without: Mapping[str, str],
    is_green: Callable[[Sequence[StagedFile]], bool],
    more: Metadata | None = None,
    output_name: str = "result",
) -> dg.Output[PartitionFiles]:
    """The output that publishes them, with what the UI shows of it.

    Args:
        context: Of the step.
        asset: The asset of the output.
        staged: The files made now.
        withdrawn: Ids of which what was published before is withdrawn.
        made_of: By id, what each was made of.
        unchanged: By id, what was not made again.
        without: By id, why an instrument has nothing here.
        is_green: Says whether the day is there (`green_if`) by its files, made now or unchanged.
        more: Metadata of this asset alone.
        output_name: Of a step with several outputs.
    """
    name = TABLES[asset].sql_name
    kept = [file for each in unchanged.values() for file in each.files[name]]
    files = sorted([*kept, *staged], key=lambda file: file.instrument)
    metadata = {
        **files_metadata(files),
        **(more or {}),
        "without": without_table(without),
        "unchanged": unchanged_table(unchanged),
    }
    return dg.Output(
        PartitionFiles(
            staged, withdrawn, {file.instrument: made_of[file.instrument] for file in staged}
        ),
        output_name=output_name,
        metadata=green_if(is_green(files), context, asset, metadata),
    )

"""The fidelity report: each instrument's day against its golden book."""

from collections.abc import Iterator
from dataclasses import replace

import dagster as dg

from market_pipeline.defs.describe import Line, table_metadata, unchanged_table, without_table
from market_pipeline.defs.interrupts import run_step
from market_pipeline.defs.io_managers import PartitionRows, PublishedRows, published_together
from market_pipeline.defs.options import options
from market_pipeline.defs.partitions import DAILY, day_of, green_if
from market_pipeline.defs.resources import Pipeline
from market_pipeline.defs.step_times import makes
from market_pipeline.quality.fidelity.report import (
    FIDELITY_REPORT,
    FidelityRow,
)
from market_pipeline.stages.fidelity.day import COMPARED, fidelity_day, fidelity_made_of
from market_pipeline.stages.recorded_day import with_unchanged
from market_pipeline.warehouse.working import read_rows

__all__ = ["ASSETS"]


@dg.multi_asset(
    name="compare_day",
    outs={table.name: dg.AssetOut(**options(table.name)) for table in COMPARED},
    deps=["book_bbo", "book_depth", "book_intervals"],
    partitions_def=DAILY,
)
@makes
@run_step
def compare_day(
    context: dg.AssetExecutionContext, pipeline: Pipeline
) -> Iterator[dg.Output[PartitionRows | PublishedRows]]:
    """Compare the day's books with the golden books that the instruments file names."""
    day, warehouse = day_of(context), pipeline.warehouse
    published = read_rows(warehouse, FIDELITY_REPORT, day)
    made_of = fidelity_made_of(day, pipeline.selected, published, warehouse)
    concerned = [each for each in pipeline.selected if each.id in made_of]
    unchanged = pipeline.unchanged(context, COMPARED, made_of) if concerned else {}
    made = [each for each in concerned if each.id not in unchanged]
    compared = fidelity_day(day, made, warehouse, context.log.warning)
    # What failed is compared again by the next run, though it would be of the same.
    made_of |= {
        name: replace(made_of[name], parameters={"failed": compared.without[name]})
        for name in compared.failed
    }
    rows = with_unchanged(FIDELITY_REPORT, compared.rows, unchanged, concerned)
    made_of = {each.id: made_of[each.id] for each in made}
    frames = zip(COMPARED, (compared.rows, compared.metrics), strict=True)
    outputs = {table.name: PartitionRows(frame, made, made_of) for table, frame in frames}
    for name, output in published_together(outputs).items():
        metadata = {
            "pairs": table_metadata([_line(row) for row in FidelityRow.read(rows)]),
            "without": without_table(compared.without),
            "unchanged": unchanged_table(unchanged),
        }
        yield dg.Output(
            output,
            output_name=name,
            # Where nobody names a golden book nothing is missing.
            metadata=green_if(not (concerned and rows.is_empty()), context, name, metadata),
        )


def _line(row: FidelityRow) -> Line:
    return {
        "instrument": row.instrument_id,
        "golden": row.golden,
        "grade": row.grade,
        "compared": row.compared,
        "first divergence": row.first_divergence_number,
        "why": row.reason,
    }


ASSETS = [compare_day]

"""The real captures against their ground truth, figure by figure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.scale import Scale
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch
from market_pipeline.sources.binance_capture import (
    BookTickerBatch,
    Findings,
    read_book_ticker,
    read_deltas,
    read_snapshots,
    read_trades,
)
from market_pipeline_tests.naive.canonical import canonical_book
from market_pipeline_tests.naive.capture import naive_depth, venue_procedure
from market_pipeline_tests.sources.capture_files import column
from market_pipeline_tests.sources.capture_sample import (
    SETS,
    CaptureSet,
    joined,
    rebuilt,
    steps_of,
    until,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("of", SETS, ids=lambda each: each.name),
]

TOUCH = ("bid_0_price", "bid_0_size", "ask_0_price", "ask_0_size")


@dataclass(frozen=True)
class Read:
    """A set as the source gives it."""

    batch: DeltaBatch
    snapshots: list[SnapshotBatch]
    steps: list[Scale]
    findings: list[Findings]
    truth: dict


@cache
def read(of: CaptureSet, root: Path) -> Read:
    files, findings = of.files(root), [Findings(), Findings()]
    deltas = list(read_deltas(files, of.market, of.symbol, findings[0]))
    snapshots = list(read_snapshots(files, of.market, of.symbol, findings[1]))
    steps = steps_of(deltas, snapshots)
    return Read(joined(deltas), snapshots, steps, findings, of.truth(root))


@cache
def read_tickers(of: CaptureSet, root: Path) -> tuple[list[BookTickerBatch], Findings]:
    findings = Findings()
    return list(read_book_ticker(of.files(root), of.symbol, findings)), findings


def sha256(frame: Keyframe, steps: list[Scale], levels: int | None = None) -> str:
    cut = replace(
        frame,
        **{
            name: getattr(frame, name)[:levels]
            for name in (
                "bid_price_ticks",
                "bid_size_lots",
                "ask_price_ticks",
                "ask_size_lots",
            )
        },
    )
    return hashlib.sha256(canonical_book(cut, *steps).encode()).hexdigest()


def test_counts_are_the_truth_and_nothing_is_wrong(of: CaptureSet, sample_data: Path):
    """Events, rows, removals, snapshots, trades and best bids are all there; no gap is proven.

    The stream begins without a snapshot, so the first message alone is in `gap_rows`.
    """
    one, files = read(of, sample_data), of.files(sample_data)
    tickers, of_tickers = read_tickers(of, sample_data)
    findings = [*one.findings, of_tickers, Findings()]
    trades = list(read_trades(files, of.symbol, findings[-1]))
    messages = np.count_nonzero(np.diff(one.batch.sequence_number, prepend=-1))
    found = {
        "depthUpdate": messages,
        "bookTicker": len(column(tickers, "update_id")),
        "trade": sum(batch.price.size for batch in trades),
        "rest_snapshot": len(column(one.snapshots, "sequence_number")),
    }
    depth = one.truth["depth"]
    assert one.truth["counts"] == found
    assert (depth["level_rows"], depth["rows_size_zero"]) == (
        one.batch.size.size,
        np.count_nonzero(one.batch.size == 0),
    )
    assert ([], [0]) == (
        [each for one_of in findings for each in one_of.located],
        one.batch.gap_rows.tolist(),
    )
    quantity = sum(batch.quantity.sum() for batch in trades)
    assert abs(float(one.truth["trades"]["sum_qty"]) - quantity) < 1e-6


def test_the_book_is_the_truth_at_every_checkpoint(of: CaptureSet, sample_data: Path):
    """Full book and top 20 have the SHA-256 of the independent book, also at each file's end."""
    one = read(of, sample_data)
    rebuild = one.truth["rebuild"]
    points = {point["u"]: point for point in rebuild["checkpoints"] + rebuild["end_of_file"]}
    differing = []
    for last, point in points.items():
        run = rebuilt([until(one.batch, last)], one.snapshots, one.steps, levels=0)
        expected = (point["sha256_full"], point["sha256_top20"], 0)
        book = run.closing
        flags = book.flags & INVALIDATING
        if expected != (sha256(book, one.steps), sha256(book, one.steps, 20), flags):
            differing.append(point["applied"])
    assert ([], True) == (differing, len(points) > 5)


def test_best_bid_and_ask_agree_with_the_venue_s_own(of: CaptureSet, sample_data: Path):
    """By update id they agree on as many messages as the truth says: all, or all but two.

    Our messages from the snapshot on are those of the truth, and so is their best bid and ask.
    """
    one = read(of, sample_data)
    run = rebuilt([one.batch], one.snapshots, one.steps, levels=0)
    seeded = run.flags & INVALIDATING == 0
    ours = pl.DataFrame(
        {"sequence_number": run.sequence_number}
        | {
            name: scale.to_floats(run.top[:, place])
            for name, scale, place in zip(TOUCH, one.steps * 2, (0, 1, 2, 3), strict=True)
        }
    ).filter(seeded)
    reference = of.truth_table(sample_data, "reference_bbo").select(ours.columns)
    assert ours.equals(reference)

    tickers, _ = read_tickers(of, sample_data)
    names = ("update_id", "bid_price", "bid_size", "ask_price", "ask_size")
    theirs = pl.DataFrame(
        {
            name: column(tickers, own)
            for name, own in zip(("sequence_number", *TOUCH), names, strict=True)
        }
    )
    assert theirs.equals(of.truth_table(sample_data, "book_ticker").select(theirs.columns))

    last = theirs["sequence_number"].max()
    pairs = ours.filter(pl.col("sequence_number") <= last).join_asof(
        theirs, on="sequence_number", suffix="_theirs"
    )
    agree = pairs.select(
        price=(pl.col("bid_0_price") == pl.col("bid_0_price_theirs"))
        & (pl.col("ask_0_price") == pl.col("ask_0_price_theirs")),
        all=pl.all_horizontal(pl.col(name) == pl.col(f"{name}_theirs") for name in TOUCH),
    )
    expected = one.truth["rebuild"]["agree_by_update_id_asof"]
    found = {
        "compared": agree.height,
        "price_exact": agree["price"].sum(),
        "price_and_size_exact": agree["all"].sum(),
    }
    assert {name: expected[name] for name in found} == found


def test_the_twin_gives_the_truth_at_the_first_thousand(of: CaptureSet, sample_data: Path):
    """The plain twin, which makes snapshots for other tests, is right where it is checked."""
    rebuild = of.truth(sample_data)["rebuild"]
    points = {point["applied"]: point for point in rebuild["checkpoints"][:2]}
    lines = max(point["line"] for point in points.values())
    events, rests = naive_depth(of.files(sample_data)[:1], lines)
    found = {}
    for applied, (event, book) in enumerate(venue_procedure(events, rests[0]), 1):
        if applied in points:
            found[applied] = (event.last, event.line, book.sha256(), book.sha256(20))
    names = ("u", "line", "sha256_full", "sha256_top20")
    assert found == {k: tuple(point[name] for name in names) for k, point in points.items()}

"""What a rebuild makes of evidence and of bad feeds, from its rows to its figures."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from market_pipeline.books import rebuild as driver
from market_pipeline.books.flags import BookFlag
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.rebuild import Pause, Rebuild, RebuildOptions
from market_pipeline.sources.batches import SnapshotBatch
from market_pipeline_tests.books.test_rebuild import LOT, TICK, batch_of, collected


def snapshots_of(*told: tuple[int, float], levels: int = 1) -> SnapshotBatch:
    """Snapshots of (number, bid size at 99.9), of so many levels a side."""
    number = np.array([number for number, _ in told], np.int64)
    steps = np.arange(levels) / 10
    sizes = np.ones((number.size, levels))
    bid_sizes = sizes.copy()
    bid_sizes[:, 0] = [size for _, size in told]
    return SnapshotBatch(
        file=Path("book"),
        first_row=0,
        ts_receipt_ns=number * 10**9 + 5,
        sequence_number=number,
        bid_price=np.round(np.tile(999.9 - steps, (number.size, 1)), 1),
        bid_size=bid_sizes,
        ask_price=np.round(np.tile(1000.1 + steps, (number.size, 1)), 1),
        ask_size=sizes,
    )


class TestEvidence:
    def test_a_snapshot_that_disagrees_puts_the_rows_before_it_in_doubt(self):
        """From the last one that agreed up to where the book was replaced, two messages later."""
        rows = [(k, True, 5.0, float(k)) for k in range(1, 15)]
        rebuild = Rebuild(TICK, LOT)
        snapshots = [snapshots_of((1, 1.0), (4, 1.0), (8, 2.0), (13, 2.0))]
        bbo, _, _ = collected(rebuild, [batch_of(rows)], snapshots)
        failed = int(BookFlag.SNAPSHOT_MISMATCH)
        assert [257, *[0] * 3, *[failed] * 6, *[0] * 4] == bbo["flags"].to_list()
        verified = [False, *[True] * 3, *[False] * 6, *[True] * 3, False]
        assert verified == bbo["verified"].to_list()
        assert (1, 1) == (rebuild.figures["snapshots_mismatched"], rebuild.figures["resyncs"])

    def test_snapshots_of_the_message_before(self):
        """All misplaced by one: the book is never replaced, and its rows are verified."""
        rows = [(k, True, 999.9, float(k)) for k in range(1, 30)]
        snapshots = [snapshots_of((1, 1.0), *((k, k - 1.0) for k in range(2, 30)))]
        rebuild = Rebuild(TICK, LOT)
        bbo, _, _ = collected(rebuild, [batch_of(rows)], snapshots)
        assert [257, *[0] * 28] == bbo["flags"].to_list()
        assert [False, *[True] * 27, False] == bbo["verified"].to_list()
        figures = rebuild.figures
        assert (0, 28, 28) == tuple(
            figures[name] for name in ("resyncs", "snapshots_misplaced", "snapshots_mismatched")
        )

    def test_a_frozen_series(self):
        """Snapshots that repeat one content are stale, and replace nothing."""
        rows = [(k, True, 999.9, float(k)) for k in range(1, 30)]
        snapshots = [snapshots_of(*((k, float(min(k, 10))) for k in range(1, 30)))]
        rebuild = Rebuild(TICK, LOT)
        bbo, _, _ = collected(rebuild, [batch_of(rows)], snapshots)
        assert [257, *[0] * 28] == bbo["flags"].to_list()
        # As long as the book of then is remembered they agree with a message of before.
        figures = rebuild.figures
        assert (0, 16, 3) == tuple(
            figures[name] for name in ("resyncs", "snapshots_misplaced", "snapshots_stale")
        )

    def test_a_number_that_stands_still(self):
        """Snapshots that go on under a number that one of them matched by are taken for nothing."""
        rows = [(k, True, 999.9, float(k)) for k in (*range(1, 11), *range(20, 30))]
        at_rest = [(10, float(size)) for size in range(10, 20)]
        told = [
            *((k, float(k)) for k in range(1, 10)),
            *at_rest,
            *((k, float(k)) for k in range(20, 30)),
        ]
        rebuild = Rebuild(TICK, LOT)
        bbo, _, _ = collected(rebuild, [batch_of(rows)], [snapshots_of(*told)])
        assert [round(size * 1_000) for *_, size in rows] == bbo["bid_size_lots"].to_list()
        assert [257, *[0] * 19] == bbo["flags"].to_list()
        figures = rebuild.figures
        assert (0, 0, 9) == tuple(
            figures[name] for name in ("resyncs", "snapshots_mismatched", "snapshots_bad_number")
        )

    def test_a_deep_snapshot_that_waits(self):
        """One of more levels than the far arrays hold beside it ends like any other."""
        rows = [(k, True, 5.0, float(k)) for k in range(1, 9)]
        batch, deep = snapshots_of((1, 1.0)), snapshots_of((4, 2.0), levels=5_000)
        rebuild = Rebuild(TICK, LOT)
        bbo, _, frames = collected(rebuild, [batch_of(rows)], [batch, deep])
        assert (1, 5_001) == (rebuild.figures["resyncs"], frames[-1].bid_price_ticks.size)
        assert 8 == bbo.height

    def test_a_file_that_stands_twice(self):
        """The second time is dropped; the rows and the book are those of the first."""
        rows = [(k, True, 90.0 + k / 10, 1.0) for k in range(1, 40)]
        once, _, (frame,) = collected(Rebuild(TICK, LOT), [batch_of(rows)])
        rebuild = Rebuild(TICK, LOT)
        twice, _, (other,) = collected(rebuild, [batch_of(rows), batch_of(rows)])
        assert once.drop("verified").equals(twice.drop("verified").head(39))
        assert 38 == rebuild.figures["repeated_messages"]
        assert frame.bid_price_ticks.tolist() == other.bid_price_ticks.tolist()

    def test_one_stamp_of_another_day(self):
        """It costs its own row, and the rows around it are those of the day."""
        batch = batch_of([(k, True, 90.0 + k / 10, 1.0) for k in range(1, 40)])
        batch.ts_receipt_ns[20] += 90_000 * 10**9
        rebuild = Rebuild(TICK, LOT, RebuildOptions(day=date(1970, 1, 1)))
        bbo, _, _ = collected(rebuild, [batch])
        bad = int(BookFlag.BAD_TS_RECEIPT)
        assert [257 | bad * (k == 20) for k in range(39)] == bbo["flags"].to_list()

    def test_messages_of_another_day(self):
        """They are rows, flagged, and counted."""
        batch = batch_of([(k, True, 90.0 + k / 10, 1.0) for k in range(86_390, 86_410)])
        rebuild = Rebuild(TICK, LOT, RebuildOptions(day=date(1970, 1, 1)))
        bbo, _, _ = collected(rebuild, [batch])
        outside = int(BookFlag.OUTSIDE_DAY)
        assert [257] * 10 + [257 | outside] * 10 == bbo["flags"].to_list()
        assert 10 == rebuild.figures["outside_day_messages"]

    def test_pauses(self):
        """The state may be taken after every sixteenth keyframe of a quiet day, and at the end."""
        rows = [(k, True, 90.0 + k / 10, 1.0) for k in range(1, 101)]
        rebuild = Rebuild(TICK, LOT, RebuildOptions(keyframe_seconds=5))
        blocks = list(rebuild.blocks([batch_of(rows)]))
        pauses = [block for block in blocks if isinstance(block, Pause)]
        assert [False, True] == [pause.last for pause in pauses]
        assert 21 == sum(isinstance(block, Keyframe) for block in blocks)

    def test_a_busy_day_pauses_at_each_keyframe(self, monkeypatch: pytest.MonkeyPatch):
        """Nothing waits for further keyframes where there are enough rows."""
        monkeypatch.setattr(driver, "_BBO_ROWS", 8)
        rows = [(k, True, 90.0 + k / 10, 1.0) for k in range(1, 11)]
        rebuild = Rebuild(TICK, LOT, RebuildOptions(keyframe_seconds=5))
        pauses = [block for block in rebuild.blocks([batch_of(rows)]) if isinstance(block, Pause)]
        assert [False, False, True] == [pause.last for pause in pauses]

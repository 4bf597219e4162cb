from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_pipeline.errors import LakeFileError, MissingDataError
from market_pipeline.sources import crypto_lake
from market_pipeline.sources.crypto_lake import TRADES, day_shards, read_trades
from market_pipeline.stages.survey import survey_day
from market_pipeline_tests.stages.days import (
    BTC,
    DAY,
    EVERY_NS,
    START_NS,
    delta_rows,
    instrument,
    write_day,
)


def trades_of(lake: Path):
    return read_trades(day_shards(lake, TRADES, BTC.venue, BTC.symbol, DAY))


def without(rows: pa.Table, first: int, last: int) -> pa.Table:
    """The rows without the messages from number `first` to `last`."""
    number = pc.divide(pc.subtract(rows["receipt_timestamp"], START_NS), EVERY_NS)
    return rows.filter(pc.or_(pc.less(number, first), pc.greater(number, last)))


class TestSteps:
    def test_configured(self, lake: Path):
        """A configured tick and lot are taken as they are, whatever the data shows."""
        files = write_day(lake, BTC)
        survey = survey_day(BTC, DAY, files, trades_of(lake))

        assert (Decimal("0.1"), Decimal("0.001")) == (
            survey.price_scale.step,
            survey.size_scale.step,
        )

    @pytest.mark.parametrize(("tick", "lot"), [("infer", "0.001"), ("0.1", "infer")])
    def test_inferred(self, lake: Path, tick, lot):
        """What is to be inferred is the day's own step, the other stays as configured."""
        of = instrument(tick=tick, lot=lot)
        survey = survey_day(of, DAY, write_day(lake, of), trades_of(lake))

        assert (Decimal("0.1"), Decimal(1) if lot == "infer" else Decimal("0.001")) == (
            survey.price_scale.step,
            survey.size_scale.step,
        )

    def test_a_day_of_removals(self, lake: Path):
        """A day that only removes levels shows no lot; its sizes are still representable."""
        rows = delta_rows().drop_columns(["size"])
        rows = rows.append_column("size", pa.array(np.zeros(rows.num_rows)))
        of = instrument(lot="infer")
        survey = survey_day(of, DAY, write_day(lake, of, deltas=rows), trades_of(lake))

        assert Decimal(1) == survey.size_scale.step


class TestGaps:
    def test_none(self, lake: Path):
        """A day without a silence has no gap."""
        survey = survey_day(BTC, DAY, write_day(lake, BTC), trades_of(lake))

        assert [] == survey.gap_ends_ns.tolist()

    @pytest.mark.parametrize("shards", [1, 7])
    def test_ends_with_the_next_message(self, lake: Path, shards):
        """A silence while trades go on ends with the first message after it, shards or not."""
        rows = without(delta_rows(), 1_000, 1_100)
        files = write_day(lake, BTC, deltas=rows, shards=shards)
        survey = survey_day(BTC, DAY, files, trades_of(lake))

        assert [START_NS + 1_101 * EVERY_NS + 3_000_000] == survey.gap_ends_ns.tolist()

    def test_a_message_across_batches_is_one(self, lake: Path, monkeypatch: pytest.MonkeyPatch):
        """Where batches cut a message in two, its second part is no message of its own."""
        files = write_day(lake, BTC, deltas=without(delta_rows(), 500, 700))
        whole = survey_day(BTC, DAY, files, trades_of(lake))
        monkeypatch.setattr(crypto_lake, "_BATCH_ROWS", 3)
        cut = survey_day(BTC, DAY, files, trades_of(lake))

        assert [1] == [whole.gap_ends_ns.size]
        assert whole.gap_ends_ns.tolist() == cut.gap_ends_ns.tolist()

    def test_a_hole_without_trades_either(self, lake: Path):
        """After a long hole with neither messages nor trades the book is in doubt as well."""
        files = write_day(lake, BTC, deltas=without(delta_rows(), 1_000, 1_100), trades=False)
        survey = survey_day(BTC, DAY, files, read_trades([]))

        assert [START_NS + 1_101 * EVERY_NS + 3_000_000] == survey.gap_ends_ns.tolist()


class TestErrors:
    @pytest.mark.parametrize("shards", [1, 3])
    def test_no_row(self, lake: Path, shards):
        """Files without any row are missing data, not an empty book."""
        files = write_day(lake, BTC, deltas=delta_rows(0), shards=shards)
        with pytest.raises(MissingDataError) as caught:
            survey_day(BTC, DAY, files, trades_of(lake))

        assert ("BTC-USDT", DAY, str(files[0]), "0 rows") == (
            caught.value.symbol,
            caught.value.day,
            caught.value.file,
            caught.value.found,
        )

    def test_a_bad_file(self, lake: Path):
        """A file that cannot be read is an error before anything is made of the others."""
        files = write_day(lake, BTC, shards=2)
        files[1].write_bytes(b"PAR1")
        with pytest.raises(LakeFileError) as caught:
            survey_day(BTC, DAY, files, trades_of(lake))

        assert str(files[1]) == caught.value.file

import os
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from market_pipeline.errors import SimulationError
from market_pipeline.sources.simulated import Fault, FaultKind, demo_plan, simulate
from market_pipeline.sources.simulated import _writer as writer_module
from market_pipeline_tests.sources.simulated.days import (
    DAY,
    NEXT_DAY,
    digests,
    folder,
    instrument,
    read,
)

BITCOIN = instrument()
ETHER = instrument("ETH-USDT-PERP", tick=Decimal("0.01"), start_price=Decimal("2500.00"))


def run(root, instruments=(BITCOIN,), start=DAY, end=DAY, **settings):
    return simulate(root, instruments, start, end, **{"messages_per_day": 500, **settings})


class TestDeterminism:
    def test_same_arguments_same_bytes(self, tmp_path):
        """Two simulations with equal arguments write equal files."""
        for root in ("one", "two"):
            run(tmp_path / root, end=NEXT_DAY, messages_per_day=5_000, truth=tmp_path / root)

        assert digests(tmp_path / "one") == digests(tmp_path / "two")

    def test_order_of_instruments_does_not_matter(self, tmp_path):
        """Neither the order of the instruments nor their company changes a byte."""
        run(tmp_path / "one", [BITCOIN, ETHER])
        run(tmp_path / "two", [ETHER, BITCOIN])
        run(tmp_path / "alone", [ETHER])
        alone = digests(tmp_path / "alone")

        assert digests(tmp_path / "one") == digests(tmp_path / "two")
        assert alone.items() <= digests(tmp_path / "one").items()

    def test_another_seed_gives_another_day(self, tmp_path):
        """Every file differs with another seed."""
        run(tmp_path / "one")
        run(tmp_path / "two", [instrument(seed=8)])
        one, two = digests(tmp_path / "one"), digests(tmp_path / "two")

        assert one.keys() == two.keys()
        assert not set(one.values()) & set(two.values())

    def test_instruments_of_one_seed_differ(self, tmp_path):
        """Two symbols with otherwise equal arguments have different days."""
        run(tmp_path, [BITCOIN, instrument("XBT-USDT-PERP")])

        assert not read(tmp_path, "trades").equals(read(tmp_path, "trades", "XBT-USDT-PERP"))

    def test_compiled_and_interpreted_kernel_agree(self, tmp_path):
        """Without compilation the kernel writes the same bytes."""
        run(tmp_path / "compiled")
        script = (
            "from datetime import date; from decimal import Decimal; from pathlib import Path; "
            "from market_pipeline.sources.simulated import SimulatedInstrument, simulate; "
            f"simulate(Path({str(tmp_path / 'interpreted')!r}), [{BITCOIN!r}], "
            f"date.fromisoformat('{DAY}'), date.fromisoformat('{DAY}'), messages_per_day=500)"
        )
        environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
        subprocess.run([sys.executable, "-c", script], check=True, env=environment)

        assert digests(tmp_path / "compiled") == digests(tmp_path / "interpreted")


class TestFiles:
    def test_returns_the_files_written(self, tmp_path):
        """The returned paths are exactly the files below the folders, sorted."""
        files = run(tmp_path, [ETHER, BITCOIN], end=NEXT_DAY, shards=2, truth=tmp_path / "truth")

        assert sorted(file for file in tmp_path.rglob("*") if file.is_file()) == files
        assert len(files) == 2 * 2 * (5 * 2 + 1)

    def test_truth_has_every_message(self, tmp_path):
        """The reference has one row for each message of the deltas."""
        run(tmp_path, truth=tmp_path)
        messages = read(tmp_path, "book_delta_v2")["sequence_number"].unique(maintain_order=True)

        assert messages.to_list() == read(tmp_path, "reference_bbo")["sequence_number"].to_list()

    def test_reports_progress_in_the_callers_thread(self, tmp_path):
        """Each instrument's day is one line, in the order of the days and instruments."""
        lines = []
        run(
            tmp_path,
            [ETHER, BITCOIN],
            end=NEXT_DAY,
            progress=lambda line: lines.append((threading.current_thread(), line)),
        )

        assert {threading.current_thread()} == {thread for thread, _ in lines}
        assert [f"{one.id} {day}" for day in (DAY, NEXT_DAY) for one in (ETHER, BITCOIN)] == [
            line.split(": ")[0] for _, line in lines
        ]


class TestExistingDays:
    def test_are_refused(self, tmp_path):
        """A day that is there is refused, and nothing at all is written."""
        run(tmp_path)
        before = digests(tmp_path)

        with pytest.raises(SimulationError, match="already there") as refused:
            run(tmp_path, [ETHER, BITCOIN])
        assert (DAY, BITCOIN.symbol) == (refused.value.day, refused.value.symbol)
        assert before == digests(tmp_path)

    def test_are_replaced_on_request(self, tmp_path):
        """Overwriting leaves the files of the later simulation only."""
        run(tmp_path / "one", shards=3)
        run(tmp_path / "one", overwrite=True, messages_per_day=700)
        run(tmp_path / "two", messages_per_day=700)

        assert digests(tmp_path / "one") == digests(tmp_path / "two")


class TestFailure:
    def test_leaves_no_file_of_the_day(self, tmp_path, monkeypatch):
        """A day that fails half way leaves neither finished nor partial files."""
        write = writer_module.DayWriter.write

        def fail_on_day_two(self, batch):
            if str(NEXT_DAY) in str(self._folder) and self._table == "book":
                raise OSError(28, "No space left on device", str(self._folder))
            return write(self, batch)

        monkeypatch.setattr(writer_module.DayWriter, "write", fail_on_day_two)
        with pytest.raises(OSError, match="No space left on device"):
            run(tmp_path, end=NEXT_DAY)
        assert {f"dt={DAY}"} == {Path(path).parent.name for path in digests(tmp_path)}

    def test_names_the_folder_that_cannot_be_made(self, tmp_path):
        """A lake that is a file is an error that names it."""
        (tmp_path / "lake").write_text("not a folder")

        with pytest.raises(OSError, match=str(tmp_path / "lake")):
            run(tmp_path / "lake")

    def test_full_disk(self, tmp_path, full_at):
        """A file that may not grow names the lake, and no partial file is left."""
        with full_at(20_000), pytest.raises(OSError, match="File too large") as failed:
            run(tmp_path)
        assert str(tmp_path) == failed.value.filename
        assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]


class TestArguments:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"instruments": []}, "at least one instrument"),
            ({"instruments": [BITCOIN, BITCOIN]}, "each only once"),
            ({"start": NEXT_DAY}, "ends before it begins"),
            ({"shards": 0}, "so many shards"),
            ({"messages_per_day": 0}, "so many messages"),
        ],
    )
    def test_that_make_no_simulation_are_refused(self, tmp_path, changes, message):
        """Arguments that describe no simulation are refused before anything is written."""
        with pytest.raises(SimulationError, match=message):
            run(tmp_path, **changes)
        assert not any(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "faults",
        [
            [("missing_day", "DOGE-USDT", DAY, 0, 0)],
            [("missing_day", BITCOIN.symbol, NEXT_DAY, 0, 0)],
            [
                ("silence_gap", BITCOIN.symbol, DAY, 100, 60),
                ("crossed_minute", BITCOIN.symbol, DAY, 159, 60),
            ],
            [
                ("missing_day", BITCOIN.symbol, DAY, 0, 0),
                ("truncated_file", BITCOIN.symbol, DAY, 0, 0),
            ],
            [
                ("silence_gap", BITCOIN.symbol, DAY, 100, 60),
                ("silence_gap", BITCOIN.symbol, DAY, 159, 60),
            ],
        ],
    )
    def test_faults_that_fit_nowhere_are_refused(self, tmp_path, faults):
        """A fault of a day that is not simulated, or in another's span, is refused."""
        planted = [
            Fault(kind=FaultKind(kind), symbol=symbol, day=day, at_s=at_s, duration_s=duration_s)
            for kind, symbol, day, at_s, duration_s in faults
        ]

        with pytest.raises(SimulationError, match="cannot be planted"):
            run(tmp_path, faults=planted)

    def test_faults_side_by_side_are_allowed(self, tmp_path):
        """A fault may begin when another ends, and a skew may lie over both."""
        spans = [("silence_gap", 100, 60), ("crossed_minute", 160, 60), ("silence_gap", 220, 60)]
        faults = [
            Fault(
                kind=FaultKind(kind),
                symbol=BITCOIN.symbol,
                day=DAY,
                at_s=at_s,
                duration_s=duration_s,
            )
            for kind, at_s, duration_s in spans
        ]
        skew = Fault(
            kind=FaultKind.CLOCK_SKEW,
            symbol=BITCOIN.symbol,
            day=DAY,
            at_s=0,
            duration_s=86_400,
            offset_ms=5,
        )

        assert len(run(tmp_path, faults=[*faults, skew])) == 5


class TestDemo:
    def test_plan_can_be_simulated(self, tmp_path):
        """The demo's three days are written, one of them with a truncated file."""
        plan = demo_plan()
        files = run(
            tmp_path, plan.instruments, plan.start, plan.end, faults=plan.faults, truth=None
        )
        clean, faulty = plan.instruments
        cut = folder(tmp_path, "book_delta_v2", faulty.symbol, plan.end) / "1.snappy.parquet"

        assert len(files) == 3 * 2 * 5
        assert {clean.symbol} == {one.symbol for one in plan.instruments} - {
            fault.symbol for fault in plan.faults
        }
        with pytest.raises(ValueError, match="Parquet"):
            pq.ParquetFile(cut)

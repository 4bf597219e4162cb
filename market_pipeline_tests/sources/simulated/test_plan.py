from datetime import date, timedelta
from decimal import Decimal

import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import SimulationError
from market_pipeline.sources.simulated import Fault, FaultKind, demo_plan, range_plan
from market_pipeline_tests.sources.simulated.days import DAY, instrument


class TestSimulatedInstrument:
    def test_becomes_an_entry_of_the_instruments_file(self):
        """The configured instrument has the same id and steps, and the simulated source."""
        expected = Instrument(
            venue="SIMULATED",
            symbol="BTC-USDT-PERP",
            source="simulated",
            tick=Decimal("0.1"),
            lot=Decimal("0.001"),
        )

        assert expected == instrument().as_instrument()
        assert expected.id == instrument().id

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"symbol": "btc/usdt"}, "symbol"),
            ({"venue": "../x"}, "venue"),
            ({"tick": Decimal(0)}, "tick"),
            ({"tick": "infer"}, "tick"),
            ({"lot": Decimal("1234567")}, "lot"),
            ({"start_price": Decimal("60000.05")}, "start_price"),
            ({"start_price": Decimal("100")}, "start_price"),
            ({"start_price": Decimal("1e20")}, "start_price"),
            ({"seed": -1}, "seed"),
            ({"typical_lots": 0}, "typical_lots"),
        ],
    )
    def test_refuses_values_it_cannot_use(self, changes, message):
        """An unusable value is refused with its name."""
        with pytest.raises(SimulationError, match=message):
            instrument(**changes)


class TestFault:
    @pytest.mark.parametrize(
        ("kind", "values", "message"),
        [
            ("silence_gap", {}, "within the day"),
            ("silence_gap", {"at_s": -1, "duration_s": 5}, "within the day"),
            ("crossed_minute", {"at_s": 86_390, "duration_s": 60}, "within the day"),
            ("off_tick_price", {"at_s": float("nan"), "duration_s": 60}, "within the day"),
            ("silence_gap", {"duration_s": 5, "drift_ppm": 3}, "only a clock skew"),
            ("clock_skew", {"duration_s": 5}, "needs an offset"),
            ("clock_skew", {"duration_s": 5, "step_ms": 3, "step_at_s": 6}, "is not within"),
            ("truncated_file", {"at_s": 5}, "takes no times"),
            ("missing_day", {"duration_s": 5}, "takes no times"),
        ],
    )
    def test_refuses_figures_that_make_no_fault(self, kind, values, message):
        """Times outside the day and figures of another kind are refused."""
        with pytest.raises(SimulationError, match=message):
            Fault(kind=FaultKind(kind), symbol="BTC-USDT-PERP", day=DAY, **values)


class TestDemoPlan:
    def test_has_a_fault_on_each_day_of_one_instrument(self):
        """The first instrument is clean; the other has something every day."""
        plan = demo_plan()
        clean, faulty = plan.instruments

        assert {faulty.symbol} == {fault.symbol for fault in plan.faults}
        assert {6, 7, 8} == {fault.day.day for fault in plan.faults}
        assert len(plan.faults) == len({fault.kind for fault in plan.faults}) == 5
        assert clean.symbol != faulty.symbol


class TestRangePlan:
    def test_one_fault_a_day_in_turn(self):
        """Kinds and instruments take turns; the first instrument is always clean."""
        kinds = (FaultKind.BAD_VALUE, FaultKind.CLOCK_SKEW, FaultKind.MISSING_DAY)
        plan = range_plan(DAY, DAY + timedelta(days=4), 3, kinds)

        assert [
            (DAY + timedelta(days=n), kinds[n % 3], ("SIM002-USDT-PERP", "SIM003-USDT-PERP")[n % 2])
            for n in range(5)
        ] == [(each.day, each.kind, each.symbol) for each in plan.faults]

    def test_every_kind_has_a_usual_time(self):
        """A month of one instrument has each kind of fault, and none without one asked for."""
        end = date(2025, 1, 31)
        plan = range_plan(date(2025, 1, 1), end, 1, tuple(FaultKind))

        assert set(FaultKind) == {each.kind for each in plan.faults}
        assert (31, ()) == (len(plan.faults), range_plan(date(2025, 1, 1), end, 1).faults)

    def test_instruments_differ(self):
        """Many instruments have ids of their own, and more than one tick."""
        plan = range_plan(DAY, DAY, 40)

        assert 40 == len({each.id for each in plan.instruments})
        assert len({each.tick for each in plan.instruments}) > 1

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from market_pipeline.alerts.outbox import Outbox
from market_pipeline.errors import MissingDataError
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.locks import holding
from market_pipeline_tests.alerts.factory import an_alert

DAY = "2024-08-08"
FAILED = {
    "instrument": "BINANCE:BTC-USDT",
    "severity": "WARN",
    "figure": 5.0,
    "threshold": 0.0,
    "summary": "One gap.",
}


def a_run(instance: dg.DagsterInstance, *, failed=(), passed=(), error: Exception | None = None):
    """A run whose check `gap` says something, and that may die of an error afterwards."""

    @dg.asset(check_specs=[dg.AssetCheckSpec("gap", asset="book_bbo")])
    def book_bbo():
        outcomes = {"day": DAY, "failed": list(failed), "passed": list(passed)}
        check = dg.AssetCheckResult(
            check_name="gap",
            passed=not failed,
            metadata={"outcomes": dg.MetadataValue.json(outcomes)},
        )
        yield dg.MaterializeResult(check_results=[check])

    @dg.asset(deps=[book_bbo])
    def book_metrics():
        if error is not None:
            raise RuntimeError("outside") from error

    return dg.materialize(
        [book_bbo, book_metrics],
        instance=instance,
        raise_on_error=False,
        tags={"dagster/partition": DAY},
    )


@pytest.fixture
def instance():
    """An instance that is forgotten."""
    with dg.instance_for_test() as made:
        yield made


@pytest.fixture
def outbox(folder: Path) -> Outbox:
    """The outbox that the sensors fill."""
    return Outbox(Warehouse(folder / "data"))


@pytest.fixture
def tick(folder: Path, instruments, instance):
    """Evaluates a sensor as Dagster would, from the cursor of the tick before; its reason."""
    from market_pipeline.defs.alerts import run_alerts
    from market_pipeline.defs.resources import Pipeline

    cursor: list[str | None] = [None]

    def evaluate(sensor: Any = run_alerts, *, keep_cursor: bool = True) -> str:
        with dg.build_sensor_context(
            instance=instance, cursor=cursor[0], resources={"pipeline": Pipeline()}
        ) as context:
            if sensor is not run_alerts:
                return sensor.evaluate_tick(context).skip_message
            found = sensor(context)
        if keep_cursor:
            cursor[0] = found.cursor
        return found.skip_reason.skip_message

    return evaluate


def told(outbox: Outbox) -> list[tuple[str, str | None, str]]:
    """What is in the outbox, the oldest first."""
    return [
        (each.alert.kind, each.alert.instrument, each.alert.summary)
        for each in reversed(outbox.deliveries())
    ]


@pytest.mark.slow
class TestRunAlerts:
    def test_history_is_not_told(self, tick, instance, outbox: Outbox):
        """Runs that ended before the first look are old news."""
        a_run(instance, failed=[FAILED])

        assert "1 runs ended, 0 new alerts." == tick()
        assert [] == told(outbox)

    def test_failed_check(self, tick, instance, outbox: Outbox):
        """A failed check is told with its figures, run and day; those that passed are not."""
        tick()
        run = a_run(instance, failed=[FAILED], passed=["BINANCE:ETH-USDT"])
        tick()
        (delivery,) = outbox.deliveries()

        assert ("check_failed", "gap", 5.0, 0.0, DAY, run.run_id) == (
            delivery.alert.kind,
            delivery.alert.check,
            delivery.alert.figure,
            delivery.alert.threshold,
            str(delivery.alert.day),
            run.run_id,
        )

    def test_good_run(self, tick, instance, outbox: Outbox):
        """A run without a failure is not told."""
        tick()
        a_run(instance, passed=["BINANCE:BTC-USDT"])

        assert "1 runs ended, 0 new alerts." == tick()
        assert [] == told(outbox)

    def test_failed_run(self, tick, instance, outbox: Outbox):
        """The first failed step and our own error; the checks it made before are told too."""
        tick()
        error = MissingDataError("There is no raw file", next_step="Fetch the day.")
        run = a_run(instance, failed=[FAILED], error=error)
        tick()
        (_, _, summary) = told(outbox)[1]

        assert ["check_failed", "run_failed"] == [kind for kind, _, _ in told(outbox)]
        assert "book_metrics: " in summary
        assert "There is no raw file. Fetch the day." in summary
        assert (DAY, run.run_id) == (
            str(outbox.deliveries()[0].alert.day),
            outbox.deliveries()[0].alert.run_id,
        )

    def test_cancelled_run(self, tick, instance, outbox: Outbox):
        """A run that somebody stopped is told as a warning."""
        tick()
        run = instance.create_run_for_job(_job())
        instance.report_run_canceled(run)
        tick()

        assert [("run_cancelled", "WARN")] == [
            (each.alert.kind, each.alert.severity) for each in outbox.deliveries()
        ]

    def test_a_lost_cursor_tells_nothing_twice(self, tick, instance, outbox: Outbox):
        """A daemon that dies before its cursor is kept reads the same runs again."""
        tick()
        a_run(instance, failed=[FAILED])

        assert ["1 runs ended, 1 new alerts.", "1 runs ended, 0 new alerts."] == [
            tick(keep_cursor=False),
            tick(),
        ]
        assert 1 == len(told(outbox))

    def test_again_after_it_passed(self, tick, instance, outbox: Outbox):
        """The same finding is told once, and once more when the check had passed in between."""
        tick()
        for failed in (True, True, False, True):
            a_run(
                instance,
                failed=[FAILED] if failed else [],
                passed=[] if failed else [FAILED["instrument"]],
            )
        tick()

        assert 2 == len(told(outbox))

    @pytest.mark.parametrize(
        ("location", "job", "ours"),
        [("here", "x", True), ("there", "x", False), (None, "x", False), (None, "mine", True)],
    )
    def test_runs_of_other_code(self, location, job, ours, folder: Path):
        """A run of another code location is not ours; one of none is, if we have such a job."""
        from market_pipeline.defs.alerts import _is_ours

        context = SimpleNamespace(
            code_location_origin=SimpleNamespace(location_name="here"),
            repository_def=SimpleNamespace(has_job={"mine"}.__contains__),
        )
        origin = location and SimpleNamespace(location_name=location)

        assert ours == _is_ours(context, SimpleNamespace(remote_job_origin=origin, job_name=job))


def _job() -> dg.JobDefinition:
    @dg.op
    def nothing() -> None:
        pass

    @dg.job
    def some_job() -> None:
        nothing()

    return some_job


def test_late_days(tick, outbox: Outbox):
    """Days without a verdict are told once, however often is looked."""
    from market_pipeline.defs.alerts import late_day_alerts

    said = [tick(late_day_alerts) for _ in range(2)]

    assert [
        "6 days of instruments are late, 6 of them new.",
        "6 days of instruments are late, 0 of them new.",
    ] == said
    assert {"day_late"} == {kind for kind, _, _ in told(outbox)}


def test_delivery(tick, instance, outbox: Outbox, caplog):
    """What is in the outbox goes to the log, without any receiver configured; then it is empty."""
    from market_pipeline.defs.alerts import alert_delivery

    tick()
    run = a_run(instance, failed=[FAILED])
    tick()

    assert ["1 sent, 0 failed, 0 now dead letters.", "0 sent, 0 failed, 0 now dead letters."] == [
        tick(alert_delivery),
        tick(alert_delivery),
    ]
    assert [
        "WARN gap BINANCE:BTC-USDT 2024-08-08: One gap. | figure 5, threshold 0 | "
        f"http://127.0.0.1:3000/runs/{run.run_id} | docs/checks/gap.md"
    ] == [record.getMessage() for record in caplog.records if "One gap" in record.getMessage()]


def test_a_delivery_that_could_not_work_says_so(tick, outbox: Outbox):
    """A receiver to which another turn is sending is named, with what waits for it; no silence."""
    from market_pipeline.defs.alerts import alert_delivery

    outbox.take([an_alert()], ["log", "webhook-gone"], now_s=time.time() - 7_200)
    with holding(Warehouse(outbox.path.parents[1]), "alerts-log"):
        said = tick(alert_delivery)

    assert said.startswith(
        "0 sent, 1 failed, 0 now dead letters. "
        "Left alone, as another turn is sending to them: log. log: 1 wait, the oldest for 7,2"
    )
    assert said.endswith(" s (no such receiver is configured now).")


def test_a_warehouse_that_cannot_be_used(tick, outbox: Outbox, monkeypatch):
    """What failed for want of one is reported: neither the outbox nor its delivery needs it."""
    from market_pipeline.defs.alerts import alert_delivery

    monkeypatch.setattr("market_pipeline.defs.resources.with_catalogue", lambda _: 1 / 0)
    outbox.take([an_alert()], ["log"], now_s=time.time())

    assert ["0 runs ended, 0 new alerts.", "1 sent, 0 failed, 0 now dead letters."] == [
        tick(),
        tick(alert_delivery),
    ]


def test_stopped_captures(tick):
    """Where nothing is recorded none has stopped."""
    from market_pipeline.defs.alerts import stopped_capture_alerts

    assert "0 symbols are recorded no more, 0 of them new." == tick(stopped_capture_alerts)

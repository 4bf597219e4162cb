"""The real daemon and receivers on loopback: each fault is told once, whatever dies in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster._core.scheduler.instigation import InstigatorTick

from market_pipeline.alerts.late import LOOK_BACK_DAYS
from market_pipeline.alerts.outbox import Outbox
from market_pipeline.alerts.targets import Target
from market_pipeline.config.instruments import load_instruments
from market_pipeline.quality.evaluate import evaluate
from market_pipeline.quality.row import ReportRow
from market_pipeline.sources.simulated import Fault, FaultKind, simulate
from market_pipeline_tests.alerts.bad_receivers import bad_receivers, hanging_resolver, posting
from market_pipeline_tests.alerts.factory import an_alert
from market_pipeline_tests.alerts.receiver import Receiver
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.defs.workspace import PATIENCE_SECONDS, Workspace, hours_of_today
from market_pipeline_tests.sources.simulated.days import instrument

pytestmark = pytest.mark.slow

GOOD, BAD = instrument("GOOD-USD"), instrument("BAD-USD", seed=8)
DAEMON = """
from dagster._daemon import cli, controller

controller.RELOAD_WORKSPACE_INTERVAL = 3_600
cli.main()
"""
"""`dagster-daemon` with one code server: another would replace it each minute, at 6 s of CPU."""

ABSENT_DAY, SILENT_DAY, LAST_DAY = (date(2025, 3, 3) + timedelta(days=n) for n in range(3))


@pytest.fixture(scope="module")
def receivers() -> Iterator[tuple[Receiver, Receiver]]:
    """A webhook that is down, and a Slack that is up."""
    webhook, slack = Receiver(), Receiver().open()
    yield webhook, slack
    webhook.close()
    slack.close()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, receivers) -> Workspace:
    """Three days of a good instrument, and a bad one that is absent, silent for two hours and off
    the grid, and absent.
    """
    root = tmp_path_factory.mktemp("alerts")
    webhook, slack = receivers
    made = Workspace(
        root / "pipeline",
        root / "lake",
        start_date=ABSENT_DAY,
        more={
            "PIPELINE_ALERT_WEBHOOK_URLS": webhook.url("/secret-path"),
            "PIPELINE_ALERT_SLACK_URLS": slack.url("/secret-path"),
            "PIPELINE_ALERT_INTERVAL_SECONDS": "3",
            "PIPELINE_ALERT_FIRST_RETRY_SECONDS": "0.5",
            "PIPELINE_ALERT_LONGEST_RETRY_SECONDS": "4",
            "PIPELINE_ALERT_ATTEMPTS": "1000",
            "PIPELINE_CHECKPOINT_SECONDS": "21600",
            "PIPELINE_VENDOR_LAG_HOURS": hours_of_today(),
        },
    )
    made.configure(GOOD, BAD)
    faults = [
        Fault(kind=kind, symbol=BAD.symbol, day=SILENT_DAY, at_s=at_s, duration_s=7_200)
        for kind, at_s in ((FaultKind.SILENCE_GAP, 21_600), (FaultKind.OFF_TICK_PRICE, 50_400))
    ]
    span = {"messages_per_day": 8_000, "snapshot_interval_s": 20.0}
    simulate(made.lake, [GOOD], ABSENT_DAY, LAST_DAY, **span)
    simulate(made.lake, [BAD], SILENT_DAY, SILENT_DAY, faults=faults, **span)
    return made


@contextmanager
def daemon(workspace: Workspace) -> Iterator[subprocess.Popen[bytes]]:
    """`dagster-daemon run`, and nothing of its group left afterwards."""
    log = workspace.root / "daemon.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", DAEMON, "run"],
            cwd=REPOSITORY,  # where workspace.yaml is
            env=workspace.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def eventually(workspace: Workspace, look: Callable[[], bool], expected: str) -> None:
    """Waits until it is so."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not look():
        if time.monotonic() > end:
            log = (workspace.root / "daemon.log").read_text(errors="replace")[-4_000:]
            pytest.fail(f"not within {PATIENCE_SECONDS} s: {expected}\n{log}")
        time.sleep(1)  # a look takes long where many ticks are kept


def ticks(instance: dg.DagsterInstance, name: str) -> list[InstigatorTick]:
    """The looks that a sensor took, the newest first."""
    for state in instance.all_instigator_state():
        if state.name == name:
            return list(instance.get_ticks(state.instigator_origin_id, state.selector_id))
    return []


def failed_checks(workspace: Workspace) -> Counter[tuple[str, str, str]]:
    """Check, instrument and day of each failure, from the published figures themselves."""
    instruments = {each.id: each for each in load_instruments(workspace.instruments_file)}
    rows = workspace.sql("SELECT * FROM quality.validation_report").to_dicts()
    return Counter(
        (outcome.check.name, row.instrument_id, str(row.dt))
        for row in map(ReportRow.from_record, rows)
        for outcome in evaluate(row, instruments[row.instrument_id].thresholds)
        if not outcome.passed
    )


def told(payload: dict[str, Any]) -> tuple[str, str, str]:
    """Check, instrument and day of a webhook's payload."""
    (alert,) = payload["alerts"]
    labels = alert["labels"]
    return labels["check"], labels["instrument"], labels["day"]


def named(receiver: Receiver) -> list[str]:
    """The checks that a receiver was told of, in the order in which it first heard of them."""
    return list(dict.fromkeys(each["commonLabels"]["check"] for each in receiver.taken))


def test_each_failed_check_is_told_once(workspace: Workspace, receivers):
    """A backfill of good and bad days, a killed daemon, a receiver that is down, a day again."""
    webhook, slack = receivers
    outbox = Outbox(workspace.warehouse)
    with workspace.instance() as instance, daemon(workspace) as first:
        eventually(workspace, lambda: bool(ticks(instance, "run_alerts")), "a first look")
        submitted = workspace.command(
            "dagster",
            *("job", "backfill", "-j", "daily_books", "-w", str(REPOSITORY / "workspace.yaml")),
            *("--from", str(ABSENT_DAY), "--to", str(SILENT_DAY), "--noprompt"),
        )
        assert 0 == submitted.returncode, submitted.stderr
        eventually(
            workspace,
            lambda: any(each.alert.check == "gap" for each in outbox.deliveries(["waiting"])),
            "an alert that waits",
        )
        first.kill()  # its code server goes on for a while, and so do its runs
        webhook.answers[:] = [500, 503, 429]
        webhook.open()
        with daemon(workspace):
            ended = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])
            eventually(workspace, lambda: instance.get_runs_count(ended) == 2, "the backfill")
            again = workspace.run_days(SILENT_DAY, LAST_DAY)
            assert 1 == again.exit_code, again.errors
            seen = len(ticks(instance, "run_alerts")) + 2
            eventually(workspace, lambda: len(ticks(instance, "run_alerts")) > seen, "more looks")
            eventually(workspace, lambda: not outbox.deliveries(["waiting"]), "all delivered")

    failed = failed_checks(workspace)
    found = Counter(map(told, webhook.taken))
    # The real yesterday and the days before it are late: nothing was simulated for them.
    late = Counter({each: count for each, count in found.items() if each[2] > str(LAST_DAY)})
    assert {"gap", "precision", "completeness", "freshness"} <= {check for check, _, _ in failed}
    assert {("SIMULATED:BAD-USD", day) for day in map(str, (SILENT_DAY, ABSENT_DAY, LAST_DAY))} == {
        (name, day) for _, name, day in failed
    }
    assert failed + late == found
    assert ({1}, 2 * LOOK_BACK_DAYS) == (set(found.values()), len(late))
    assert len(webhook.taken) == len(slack.taken)
    assert b"secret-path" not in (workspace.root / "daemon.log").read_bytes()


def test_a_good_receiver_beside_every_bad_one(tmp_path: Path):
    """It has each alert while no bad one has any; a look says what waits for those, and why.

    An alert comes a second time where a busy machine answered later than the pipeline waits.
    """
    good, checks = Receiver().open(), ["gap", "skew", "reference_replay"]
    search_path = [hanging_resolver(tmp_path / "resolver"), os.environ.get("PYTHONPATH", "")]
    with bad_receivers() as urls, ExitStack() as stack:
        workspace = Workspace(
            tmp_path / "pipeline",
            tmp_path / "lake",
            start_date=datetime.now(UTC).date(),  # no day is late
            more={
                "PYTHONPATH": os.pathsep.join(filter(None, search_path)),
                "PIPELINE_ALERT_WEBHOOK_URLS": ",".join([*urls.values(), good.url()]),
                "PIPELINE_ALERT_INTERVAL_SECONDS": "1",
                "PIPELINE_ALERT_TIMEOUT_SECONDS": "2",
                "PIPELINE_ALERT_FIRST_RETRY_SECONDS": "0.5",
                "PIPELINE_ALERT_LONGEST_RETRY_SECONDS": "10",  # each attempt is a process
                "PIPELINE_ALERT_ATTEMPTS": "1000",
            },
        )
        workspace.configure(GOOD)
        outbox = Outbox(workspace.warehouse)
        names = [Target("webhook", url).name for url in (*urls.values(), good.url())]
        instance, process = (
            stack.enter_context(each) for each in (workspace.instance(), daemon(workspace))
        )
        for number, check in enumerate(checks, start=1):
            outbox.take([an_alert(check=check)], names, now_s=time.time())
            eventually(workspace, lambda number=number: len(named(good)) == number, check)
            eventually(
                workspace,
                lambda: sum(each.failing for each in outbox.standings()) == len(urls),
                "an attempt with each bad receiver",
            )
        under_way = posting(psutil.Process(process.pid))
        looks = ticks(instance, "alert_delivery")
    good.close()

    assert checks == named(good)
    assert {len(checks)} == {each.waiting for each in outbox.standings() if each.failing}
    assert len(under_way) <= len(names)
    assert [] == [tick.error for tick in looks if tick.is_failure]
    said = next(tick.skip_reason for tick in looks if tick.skip_reason)
    assert [] == [name for name in names[:-1] if f"{name}: " not in said]
    assert " wait, the oldest for " in said
    assert "(no answer within 2 s)" in said

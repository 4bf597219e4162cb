from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from market_pipeline.alerts.outbox import Outbox
from market_pipeline.cli.alerts import alerts
from market_pipeline.cli.app import app
from market_pipeline_tests.alerts.factory import an_alert
from market_pipeline_tests.alerts.receiver import Receiver
from market_pipeline_tests.defs.workspace import Workspace

VERBS = ("list", "receivers", "test", "retry")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes whatever comes."""
    made = Receiver().open()
    yield made
    made.close()


@pytest.fixture
def alerted(tmp_path: Path, receiver: Receiver) -> Workspace:
    """A pipeline with one receiver and without the log."""
    more = {"PIPELINE_ALERT_SLACK_URLS": receiver.url("/hunter2"), "PIPELINE_ALERT_LOG": "no"}
    return Workspace(tmp_path / "alerted", tmp_path / "lake", more=more)


def ran(workspace: Workspace, *arguments: str) -> Result:
    """What a verb of the group does in this process."""
    return CliRunner().invoke(app, ["alerts", *arguments], env=workspace.environment())


def put_in(workspace: Workspace, state: str, error: str | None = None) -> None:
    """An alert in a state, for the receiver that is configured and for one that is not."""
    outbox = Outbox(workspace.warehouse)
    (name,) = [each["target"] for each in json.loads(ran(workspace, "test", "--json").stdout)]
    outbox.take([an_alert()], [name, "webhook-gone"], now_s=time.time())
    for delivery in outbox.deliveries():
        outbox.mark(delivery, state, now_s=time.time(), error=error)


def test_test(alerted: Workspace, receiver: Receiver):
    """Every receiver gets a message that says of itself that it is a test; 1 if one refuses it."""
    taken = alerted.run("alerts", "test")
    receiver.answers[:] = [500]
    refused = alerted.run("alerts", "test", "--json")
    ((result,), (message,)) = json.loads(refused.output), receiver.taken

    assert (0, 1) == (taken.exit_code, refused.exit_code)
    assert "it answered 500" == result["error"]
    assert "Nothing is wrong" in message["text"]
    assert "hunter2" not in taken.output + taken.errors + refused.output + refused.errors


def test_list(alerted: Workspace):
    """All that was sent is shown, and as JSON in full; without a dead letter the code is 0."""
    put_in(alerted, "sent")
    table, as_json = ran(alerted, "list"), ran(alerted, "list", "--json")
    first, _ = json.loads(as_json.stdout)

    assert (0, 0) == (table.exit_code, as_json.exit_code)
    assert "BINANCE:BTC-USDT" in table.stdout
    assert ("sent", "gap", "2024-08-08") == (
        first["state"],
        first["alert"]["check"],
        first["alert"]["day"],
    )


def test_receivers(alerted: Workspace):
    """Each receiver with what waits how long and its last attempts; 1 if one did not take it."""
    first = ran(alerted, "receivers", "--json")
    put_in(alerted, "waiting", "it answered 500")
    table, as_json = (ran(alerted, "receivers", *more) for more in ((), ("--json",)))
    (fresh,), (slack, gone) = json.loads(first.stdout), json.loads(as_json.stdout)

    assert (0, 1, 1) == (first.exit_code, table.exit_code, as_json.exit_code)
    assert (True, 0, None, False) == (
        fresh["configured"],
        fresh["waiting"],
        fresh["oldest_waits_seconds"],
        fresh["failing"],
    )
    assert (slack["target"], True, 1, True) == (
        fresh["target"],
        slack["configured"],
        slack["waiting"],
        slack["oldest_waits_seconds"] >= 0 and slack["failing"],
    )
    assert ("webhook-gone", False, None) == (gone["target"], gone["configured"], gone["sent_s"])
    assert "webhook-gone (configured no more)" in table.stdout
    assert "it answered 500" in table.stdout


def test_dead_letters(alerted: Workspace):
    """They make the exit code 1; `retry` lets them wait again, but not without a receiver."""
    put_in(alerted, "dead", "it answered 500")
    listed = ran(alerted, "list", "--state", "waiting", "--json")
    retried = ran(alerted, "retry", "--json")
    waiting = json.loads(ran(alerted, "list", "--state", "waiting", "--json").stdout)

    assert (1, [], 1) == (listed.exit_code, json.loads(listed.stdout), retried.exit_code)
    assert {"waiting": 1, "dead": 1} == json.loads(retried.stdout)
    assert [True] == [each["target"].startswith("slack-") for each in waiting]


def test_wrong_usage(alerted: Workspace):
    """A state that there is not is refused with those that there are."""
    refused = alerted.run("alerts", "list", "--state", "lost")

    assert 2 == refused.exit_code
    assert "expected waiting, sent or dead" in refused.errors


def test_help_tells_the_exit_codes():
    """Each verb of the group explains itself."""
    told = {verb: CliRunner().invoke(alerts, [verb, "--help"]).output for verb in VERBS}

    assert [] == [verb for verb, text in told.items() if "Exit code 0" not in text]

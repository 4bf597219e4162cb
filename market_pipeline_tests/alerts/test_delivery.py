from __future__ import annotations

import json
import logging
import stat
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.alerts.delivery import Delivered, Patience, deliver
from market_pipeline.alerts.outbox import Outbox
from market_pipeline.alerts.targets import Target
from market_pipeline.config.settings import load_settings
from market_pipeline.telemetry.bridge.sums import Bridge
from market_pipeline.telemetry.metrics.recording import begin
from market_pipeline.warehouse.locks import holding
from market_pipeline_tests.alerts.factory import LINKS, an_alert
from market_pipeline_tests.alerts.receiver import Receiver
from market_pipeline_tests.telemetry.figures import names_of

PATIENCE = Patience(2.0, 3, 1e-6, 1e-6, turn_seconds=60.0)
ALERTS = [an_alert(), an_alert(check="skew"), an_alert(check="crossed")]


@pytest.fixture
def turn(warehouse, outbox: Outbox):
    """One turn over some receivers, for which alerts wait since they were first seen."""

    def take_turn(*receivers: Receiver, patience: Patience = PATIENCE) -> Delivered:
        targets = [Target("webhook", receiver.url()) for receiver in receivers]
        outbox.take(ALERTS, [target.name for target in targets], now_s=time.time())
        return deliver(warehouse, targets, LINKS, patience)

    return take_turn


def checks(receiver: Receiver) -> list[str]:
    """What a receiver took."""
    return [payload["commonLabels"]["check"] for payload in receiver.taken]


def test_everything_once(turn, receiver: Receiver):
    """Each alert is sent in order, and not again in the next turn."""
    assert [Delivered(sent=3), Delivered()] == [turn(receiver), turn(receiver)]
    assert ["gap", "skew", "crossed"] == checks(receiver)


def test_turns_are_recorded(turn, warehouse, receiver: Receiver):
    """Every row of the table that is about alerts is there, with attempts and what waits."""
    begin(load_settings(data_dir=warehouse.data_dir), "daemon")
    receiver.answers[:] = [500]
    turn(receiver)
    begin(load_settings(data_dir=warehouse.data_dir, metrics=False), "daemon")
    bridge = Bridge(warehouse.data_dir / "metrics")
    bridge.update()
    families = dict(bridge.families(0))
    assert names_of("alerts") == families.keys()
    attempts = families["market_pipeline.alerts.attempts"].series.values()
    assert {"sent": 0, "failed": 1, "dead": 0} == {
        each.labels["outcome"]: each.value for each in attempts
    }
    (waiting,) = families["market_pipeline.alerts.waiting"].series.values()
    assert 3 == waiting.value


def test_a_receiver_that_was_down_gets_everything_once(turn, receiver: Receiver):
    """Refused connections, errors and silence lose nothing, and hold up nobody else."""
    down = Receiver()
    assert Delivered(sent=3, failed=1) == turn(down, receiver)
    down.answers[:] = [500, 429]
    down.open()
    assert [Delivered(failed=1), Delivered(failed=1)] == [turn(down), turn(down)]
    down.seconds = 600.0
    down.answers[:] = [503]
    assert Delivered(failed=1) == turn(down)
    down.seconds = 0.0
    while turn(down) != Delivered():
        pass
    down.close()

    assert sorted(["gap", "skew", "crossed"]) == sorted(checks(down))
    assert ["gap", "skew", "crossed"] == checks(receiver)


def test_a_failed_attempt_ends_the_turn(turn, receiver: Receiver):
    """Those behind it wait for the next turn, without an attempt of theirs being counted."""
    receiver.answers[:] = [500]

    assert [Delivered(failed=1), Delivered(sent=3)] == [turn(receiver), turn(receiver)]
    assert 4 == len(receiver.asked)


def test_dead_letters(turn, warehouse, outbox: Outbox, receiver: Receiver, caplog):
    """After the last attempt an alert is a line of the dead letters, told loudly, tried no more."""
    receiver.answers[:] = [500] * 9
    turns = [turn(receiver) for _ in range(10)]
    file = warehouse.data_dir / "alerts" / "dead-letter.jsonl"
    letters = [json.loads(text) for text in file.read_text().splitlines()]

    assert (9, 3) == (sum(each.failed for each in turns), sum(each.dead for each in turns))
    assert Delivered() == turns[-1]
    assert {("gap", 3), ("skew", 3), ("crossed", 3)} == {
        (each["alert"]["check"], each["attempts"]) for each in letters
    }
    assert (0o600, 0o700) == tuple(
        stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent)
    )
    loud = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert 3 == len([record for record in loud if "alerts retry" in record.getMessage()])
    assert receiver.url() not in file.read_text() + caplog.text

    outbox.revive([Target("webhook", receiver.url()).name], now_s=time.time())
    assert Delivered(sent=3) == turn(receiver)


def test_died_between_sending_and_noting(turn, outbox: Outbox, receiver: Receiver):
    """The alert is sent again, equal to the first: at least once, and to be told as the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outbox, "mark", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            turn(receiver)
    turn(receiver)
    first, *others = receiver.taken

    assert 3 == len(others)
    assert first in others


def test_an_outbox_that_cannot_be_written(turn, receiver: Receiver):
    """Nothing is sent, because it would be sent again in each turn until there is room."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outbox, "begin", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            turn(receiver)

    assert [] == receiver.taken
    assert Delivered(sent=3) == turn(receiver)


def test_one_turn_at_a_time_for_each_receiver(turn, warehouse, receiver: Receiver):
    """One to which another process sends is left alone, which is said; the others have theirs."""
    other = Receiver().open()
    name = Target("webhook", other.url()).name
    with holding(warehouse, f"alerts-{name}"):
        assert Delivered(sent=3, busy=(name,)) == turn(receiver, other)

    assert Delivered(sent=3) == turn(receiver, other)
    assert ["gap", "skew", "crossed"] == checks(receiver) == checks(other)
    other.close()


def test_a_receiver_that_never_ends_holds_up_no_later_turn(turn, outbox, receiver: Receiver):
    """Its attempt ends in time, so that the next turn has its lock and everybody's news."""
    silent = Receiver(seconds=600.0).open()
    targets = [Target("webhook", each.url()).name for each in (receiver, silent)]
    first = turn(receiver, silent)
    outbox.take([an_alert(check="reference_replay")], targets, now_s=time.time())

    assert [Delivered(sent=3, failed=1), Delivered(sent=1, failed=1)] == [
        first,
        turn(receiver, silent),
    ]
    assert ["gap", "skew", "crossed", "reference_replay"] == checks(receiver)
    silent.close()


def test_a_receiver_that_is_configured_no_more(turn, warehouse, outbox: Outbox, receiver: Receiver):
    """Its alerts wait as if it were down."""
    outbox.take(ALERTS, ["webhook-gone"], now_s=time.time())

    assert Delivered(failed=1) == deliver(warehouse, [], LINKS, PATIENCE)
    assert {None, "no such receiver is configured now"} == {
        each.error for each in outbox.deliveries(["waiting"])
    }


def test_retry_after_is_heeded(turn, outbox: Outbox, receiver: Receiver):
    """A receiver that asks for time gets it, up to the longest wait, for whatever waits for it."""
    receiver.answers[:] = [429]
    receiver.headers["Retry-After"] = "100000"
    before = time.time()
    patient = replace(PATIENCE, longest_retry_seconds=500.0)

    assert [Delivered(failed=1), Delivered()] == [turn(receiver, patience=patient) for _ in "ab"]
    (name,) = outbox.receivers_due(before + 560.0)
    (waits,) = [each for each in outbox.deliveries() if each.attempts]
    assert [] == outbox.receivers_due(before + 500.0)
    assert (name, True) == (waits.target, 500.0 <= waits.next_attempt_s - before < 560.0)


def test_many_that_take_nothing(turn, outbox: Outbox, receiver: Receiver):
    """Of these some are tried in a turn, then the others; who takes alerts is always tried."""
    assert Delivered(sent=3) == turn(receiver)
    gone = [f"webhook-gone-{number}" for number in range(20)]
    outbox.take(
        [an_alert(check="bars")], [*gone, Target("webhook", receiver.url()).name], now_s=1.0
    )

    assert Delivered(sent=1, failed=16) == turn(receiver)
    assert Delivered(failed=16) == turn(receiver)
    assert {1, 2} == {each.attempts for each in outbox.deliveries(["waiting"])}


def test_the_turn_ends_in_time(turn, receiver: Receiver):
    """A turn that has no time left sends one; the rest is for the next ones."""
    hurried = replace(PATIENCE, turn_seconds=0.0)

    assert [Delivered(sent=1), Delivered(sent=2)] == [
        turn(receiver, patience=hurried),
        turn(receiver),
    ]


@pytest.mark.parametrize(("interval", "seconds"), [(1, 0.5), (12, 7.0), (3_600, 20.0)])
def test_a_turn_is_over_within_the_interval(interval, seconds):
    """With its last attempt if it has the time for one, and in any case within a sensor's tick."""
    settings = load_settings(alert_interval_seconds=interval)

    assert seconds == Patience.of(settings).turn_seconds


@given(st.integers(1, 5_000), st.floats(1e-3, 1e4, allow_nan=False), st.floats(1e-3, 1e6))
def test_waits_double_up_to_the_longest(attempts, first, longest):
    """The wait lies between half and all of the doubled one, and never above the longest."""
    exact = first
    for _ in range(min(attempts, 100) - 1):
        exact = min(exact * 2, longest)
    exact = min(exact, longest)
    wait = Patience(1.0, 20, first, longest, 20.0).wait_after(attempts)

    assert exact * 0.4999 <= wait <= exact * 1.0001

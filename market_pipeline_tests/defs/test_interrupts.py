from __future__ import annotations

import signal
import sys
import time
import weakref

import pytest
from dagster._core.errors import DagsterExecutionInterruptedError, raise_execution_interrupts
from dagster._utils.interrupts import capture_interrupts

from market_pipeline.defs.interrupts import raise_lost_interrupts_again


class Kept:
    """Of which a weak reference can be held."""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_lost_in_a_callback(sent: signal.Signals, monkeypatch: pytest.MonkeyPatch):
    """An interrupt whose exception is lost, because an object went away just then, ends the step,
    in a run of Dagster's own processes as in one of ours.
    """
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    raise_lost_interrupts_again()
    before = signal.getsignal(signal.SIGTERM)
    kept = Kept()
    callback = weakref.ref(kept, lambda _: signal.raise_signal(sent))
    raised = pytest.raises(DagsterExecutionInterruptedError)
    with capture_interrupts(), raised, raise_execution_interrupts():
        del kept
        time.sleep(60)
    signal.signal(signal.SIGTERM, before)

    assert callback() is None


def test_other_exceptions(monkeypatch: pytest.MonkeyPatch):
    """What else cannot be raised is left to the hook of before."""
    left: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: left.append(lost.exc_value))
    raise_lost_interrupts_again()
    kept = Kept()
    callback = weakref.ref(kept, lambda _: 1 // 0)
    del kept

    assert callback() is None
    assert [ZeroDivisionError] == [type(error) for error in left]

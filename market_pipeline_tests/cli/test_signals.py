from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import typer

from market_pipeline.cli.signals import shield_from_sigint, stoppable
from market_pipeline_tests.defs.workspace import PATIENCE_SECONDS

DAY = "2024-08-08"

DEAF = """
import ctypes, os, signal
from threading import Timer
from market_pipeline.cli import signals

signals._DEAF_SECONDS = 0.1
mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
with signals.stoppable("2024-08-08"):
    Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    while True:
        library.pthread_mutex_lock(mutex)
"""


class TestSignals:
    @pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
    def test_outside_a_step(self, sent: signal.Signals, capsys: pytest.CaptureFixture[str]):
        """One for which Dagster raises `KeyboardInterrupt` ends with the word and its own code."""
        found = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as a day run in-process left it
        try:
            with pytest.raises(typer.Exit) as ended, stoppable(DAY):
                signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # as Dagster does
                signal.raise_signal(sent)
                time.sleep(60)
        finally:
            left = signal.signal(signal.SIGTERM, found)

        assert 128 + sent == ended.value.exit_code
        assert f"stopped by {sent.name} at {DAY}" in capsys.readouterr().err
        assert signal.SIG_DFL == left

    def test_while_something_is_finalized(self, monkeypatch: pytest.MonkeyPatch):
        """What a handler raises there is not printed, and any other error is."""
        printed: list[type[BaseException]] = []
        monkeypatch.setattr(sys, "unraisablehook", lambda lost: printed.append(lost.exc_type))

        class Finalized:
            def __init__(self, error: BaseException) -> None:
                self.error = error

            def __del__(self) -> None:
                raise self.error

        with stoppable(DAY):
            for error in (KeyboardInterrupt(), ValueError()):
                Finalized(error)

        assert [ValueError] == printed

    def test_helpers_of_a_step(self):
        """What Dagster starts to keep a step's output does not see Ctrl-C, and can be ended."""

        @contextmanager
        def capture(_: object) -> Iterator[subprocess.Popen[bytes]]:
            with subprocess.Popen(["sleep", str(PATIENCE_SECONDS)]) as helper:
                yield helper
                helper.terminate()

        manager = SimpleNamespace(capture_logs=capture)
        shield_from_sigint(manager)
        with manager.capture_logs(["step"]) as helper:
            helper.send_signal(signal.SIGINT)

        assert -signal.SIGTERM == helper.returncode
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def test_deaf(self):
        """A process that waits inside a library, and hears no signal, is ended all the same."""
        ended = subprocess.run(
            [sys.executable, "-c", DEAF], check=False, capture_output=True, text=True
        )
        assert 128 + signal.SIGINT == ended.returncode
        assert "ended 0.1 s after SIGINT at 2024-08-08, because the run did not" in ended.stderr

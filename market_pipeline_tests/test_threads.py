from __future__ import annotations

import _thread
import gc
import logging
import subprocess
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait

import pytest

from market_pipeline import threads
from market_pipeline.errors import is_of_machine
from market_pipeline.threads import Stopped, ThreadDied, Workers, check_stopped

PATIENCE_SECONDS = 30

_LITTLE_MEMORY = """
import importlib.util, resource, sys, threading
spec = importlib.util.spec_from_file_location("threads", sys.argv[1])
threads = importlib.util.module_from_spec(spec)
spec.loader.exec_module(threads)
with threads.Workers(1, "first") as pool:
    pool.submit(int).result()
pages = int(open("/proc/self/statm").read().split()[0])
most = pages * resource.getpagesize() + int(sys.argv[2])
unlimited = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (most, unlimited[1]))
pools = [threads.Workers(1, "more") for _ in range(8)]
may_end = threading.Event()
told = []
try:
    for pool in pools:
        pool.submit(may_end.wait, 20)
    pools[-1].submit(int).result()
except MemoryError as error:
    told.append(error)
may_end.set()
resource.setrlimit(resource.RLIMIT_AS, unlimited)
print("died" if told else "done")
"""


class _Killed(BaseException):
    """What a thread dies of."""


def die(*_: object) -> None:
    """In the place of what tells the result: runs out of memory there."""
    raise MemoryError


def until(happened) -> bool:
    end = time.monotonic() + PATIENCE_SECONDS
    while not happened() and time.monotonic() < end:
        time.sleep(0.005)
    return happened()


def go_on(begun: threading.Event) -> None:
    """A job that only ends when it is given up."""
    begun.set()
    while True:
        check_stopped()
        time.sleep(0.005)


class TestPool:
    def test_results(self):
        """Jobs come back in order, by no more threads than allowed, and no thread stays."""
        before, makers = _thread._count(), set()

        def square(number: int) -> int:
            makers.add(threading.get_ident())
            return number * number

        with Workers(3, "squares") as pool:
            squares = list(pool.map(square, range(50)))

        assert [number * number for number in range(50)] == squares
        assert 1 <= len(makers) <= 3
        assert before == _thread._count()

    @pytest.mark.parametrize("error", [ZeroDivisionError, TimeoutError, _Killed, SystemExit])
    def test_what_a_job_raises(self, error):
        """Whatever a job raises comes out where it is waited for, and the thread goes on."""

        def fail() -> None:
            raise error

        with Workers(1, "errors") as pool:
            with pytest.raises(error):
                pool.submit(fail).result()
            assert 0 == pool.submit(int).result()

    def test_nothing_is_kept(self):
        """What a job was given is freed with its end, without the collector of cycles."""
        freed = []

        class Large:
            def __del__(self) -> None:
                freed.append(1)

        gc.disable()
        try:
            with Workers(1, "frees") as pool:
                job = pool.submit(id, Large())
                job.result()
        finally:
            gc.enable()

        assert ([1], True) == (freed, job.done())

    def test_a_limit_of_time(self):
        """Who waits only for some time is told when it is over."""
        may_end = threading.Event()
        with Workers(1, "slow") as pool:
            job = pool.submit(may_end.wait, PATIENCE_SECONDS)
            with pytest.raises(TimeoutError):
                job.result(0.01)
            may_end.set()
            assert job.result()

    def test_after_the_end(self):
        """A pool that was ended takes no job."""
        pool = Workers(1, "over")
        pool.shutdown()
        with pytest.raises(RuntimeError, match="over: no job is taken"):
            pool.submit(int)


class TestDeadThread:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch):
        monkeypatch.setattr(threads, "_LOOK_SECONDS", 0.02)

    def test_who_waits_is_told(self, monkeypatch):
        """A thread that dies while it tells its result fails all jobs, as the machine's fault."""
        may_end, before = threading.Event(), _thread._count()
        pool = Workers(1, "dies")
        first, second = pool.submit(may_end.wait, PATIENCE_SECONDS), pool.submit(int)
        monkeypatch.setattr(first, "set_result", die)
        may_end.set()
        for job in (first, second):
            with pytest.raises(ThreadDied, match=r"a thread \(dies\) ended") as caught:
                job.result()
            assert is_of_machine(caught.value)
        pool.shutdown()

        assert before == _thread._count()

    def test_an_error_that_cannot_be_told(self, monkeypatch):
        """Nor does a job whose error cannot be told for want of memory keep anybody waiting."""
        may_fail = threading.Event()

        def fail() -> None:
            may_fail.wait(PATIENCE_SECONDS)
            raise ValueError

        with pytest.raises(ThreadDied), Workers(1, "dies") as pool:
            job = pool.submit(fail)
            monkeypatch.setattr(job, "set_exception", die)
            may_fail.set()
            assert until(lambda: pool._lives[0]() is None)
            monkeypatch.undo()
            job.result()

    def test_who_waits_in_another_way(self, monkeypatch):
        """`look` fails the jobs for those who wait for any of several."""
        may_end = threading.Event()
        with pytest.raises(ThreadDied), Workers(1, "dies") as pool:
            jobs = {pool.submit(may_end.wait, PATIENCE_SECONDS)}
            for job in jobs:
                monkeypatch.setattr(job, "set_result", die)
            may_end.set()
            done = set()
            while not done:
                pool.check()
                done, _ = wait(jobs, 0.02, FIRST_COMPLETED)
            done.pop().result()

    def test_no_thread_can_be_started(self, monkeypatch):
        """Where the system gives no thread, that is the machine's fault and is said at once."""

        def refuse(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(_thread, "start_new_thread", refuse)
        with pytest.raises(ThreadDied, match="can't start new thread"):
            Workers(1, "none").submit(int)

    @pytest.mark.slow
    @pytest.mark.parametrize("spare_kb", [8_200, 8_204, 8_208, 8_212, 8_216, 8_220, 8_300, 80_000])
    def test_little_memory(self, spare_kb):
        """However little memory is left for a thread, also if for its stack only, a wait ends."""
        ended = subprocess.run(
            [sys.executable, "-c", _LITTLE_MEMORY, threads.__file__, str(spare_kb << 10)],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

        assert ended.stdout.strip() in {"died", "done"}, ended.stderr


class TestStop:
    def test_an_error_stops_the_others(self):
        """Leaving by an error ends jobs under way at their next check; others never begin."""
        begun = threading.Event()
        with pytest.raises(ZeroDivisionError), Workers(1, "stopped") as pool:
            running, waiting = pool.submit(go_on, begun), pool.submit(int)
            assert begun.wait(PATIENCE_SECONDS)
            raise ZeroDivisionError

        with pytest.raises(Stopped):
            running.result()
        with pytest.raises(CancelledError):
            waiting.result()

    def test_pools_of_jobs_stop_too(self):
        """A job that waits for a pool of its own is stopped, and so is that pool's job."""
        begun, before = threading.Event(), _thread._count()

        def outer() -> None:
            with Workers(1, "inner") as inner:
                inner.submit(go_on, begun).result()

        with pytest.raises(ZeroDivisionError), Workers(1, "outer") as pool:
            pool.submit(outer)
            assert begun.wait(PATIENCE_SECONDS)
            raise ZeroDivisionError

        assert until(lambda: before == _thread._count())

    def test_what_does_not_stop_is_left_behind(self, monkeypatch, caplog):
        """A job that never checks is waited for a bounded time, and that is logged."""
        monkeypatch.setattr(threads, "_GRACE_SECONDS", 0.05)
        begun, may_end = threading.Event(), threading.Event()

        def deaf() -> None:
            begun.set()
            may_end.wait(PATIENCE_SECONDS)

        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(ZeroDivisionError),
            Workers(1, "deaf") as pool,
        ):
            pool.submit(deaf)
            assert begun.wait(PATIENCE_SECONDS)
            raise ZeroDivisionError
        told = [record.getMessage() for record in caplog.records]
        may_end.set()

        assert ["1 threads (deaf) did not stop and are left behind"] == told

    def test_outside_of_pools(self):
        """Work that no pool runs is never stopped."""
        assert check_stopped() is None

    def test_no_thread_keeps_the_process(self):
        """A process ends although a thread of a pool that nobody closed still works."""
        program = (
            "import time; from market_pipeline.threads import Workers; "
            "Workers(1, 'left').submit(time.sleep, 600)"
        )
        ended = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)

        assert 0 == ended.returncode

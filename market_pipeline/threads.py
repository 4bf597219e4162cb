"""Threads that work off jobs, and waits for them that always come to an end.

The standard library's pool waits for ever where memory runs out: for a thread that died while it
set the result of its job, and for one that died before it began, which `Thread.start` waits for
without a limit. It also lets nobody go: after an interrupt it waits for every job that runs. Here

- whoever waits looks twice a second whether the threads still live, and learns if one died;
- leaving the block of a pool by an error or an interrupt stops its jobs, and those of pools that
  they started, at their next `check_stopped`; what does not stop in time is left behind;
- no thread keeps the process from ending.
"""

from __future__ import annotations

import _thread
import logging
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future, InvalidStateError, wait
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Literal, ParamSpec, TypeVar

__all__ = ["Stopped", "ThreadDied", "Workers", "check_stopped"]

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 10.0
"""How long jobs that were asked to stop are waited for; a batch of a day takes about a second."""

_Result = TypeVar("_Result")
_Given = ParamSpec("_Given")


class Stopped(BaseException):
    """The job of this thread was given up; no error, so nobody is to record it as one."""


class ThreadDied(MemoryError):
    """A thread could not be started, or ended without saying what became of its job."""


class _OfThread(threading.local):
    """What the pools that wait for this thread tell it to stop with."""

    stops: tuple[threading.Event, ...] = ()


_HERE = _OfThread()


def check_stopped() -> None:
    """Ends the job of this thread if it was given up; to be called by work that goes on for long.

    Raises:
        Stopped: It was.
    """
    if any(stop.is_set() for stop in _HERE.stops):
        raise Stopped


class _Life:
    """Lives as long as a thread, which holds the only reference; also one that never begins."""

    __slots__ = ("__weakref__",)


class _Job(Future[_Result]):
    def __init__(self, workers: Workers, call: Callable[[], _Result]) -> None:
        super().__init__()
        self._workers = workers
        self._call: Callable[[], _Result] | None = call

    def run(self) -> None:
        call, self._call = self._call, None  # what it holds is freed with its end
        if call is None or not self.set_running_or_notify_cancel():
            return
        try:
            result = call()
        except BaseException as error:
            with suppress(InvalidStateError):  # it was given up for dead
                self.set_exception(error)
            del self  # or the error would hold it, and it the error
        else:
            with suppress(InvalidStateError):
                self.set_result(result)

    def result(self, timeout: float | None = None) -> _Result:
        until = None if timeout is None else time.monotonic() + timeout
        while not self.done():
            left = _LOOK_SECONDS if until is None else until - time.monotonic()
            if not wait([self], max(0.0, min(left, _LOOK_SECONDS))).done:
                if left <= 0:
                    break
                check_stopped()
                self._workers.check()
        return super().result(0)


_AnyJob = _Job[Any]


class Workers(Executor):
    """A pool of threads, used as those of the standard library.

    Args:
        count: The most threads; they are started when there is work for them.
        name: What they do, for errors and the log.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = max(1, count), name
        self._queue: SimpleQueue[_AnyJob | None] = SimpleQueue()
        self._unended: set[_AnyJob] = set()
        self._lives: list[weakref.ref[_Life]] = []
        self._lock = threading.Lock()
        self._is_closed = False
        self._one_ended = threading.Event()
        self._stop = threading.Event()
        self._stops = (*_HERE.stops, self._stop)

    def submit(
        self, fn: Callable[_Given, _Result], /, *args: _Given.args, **kwargs: _Given.kwargs
    ) -> Future[_Result]:
        """Has a thread call it, in a copy of the context (`contextvars`) it is called in here.

        Raises:
            ThreadDied: There is no thread, and none can be started.
        """
        job = _Job(self, partial(copy_context().run, fn, *args, **kwargs))
        with self._lock:
            if self._is_closed:
                raise RuntimeError(f"{self._name}: no job is taken after the end")
            if len(self._lives) < min(self._count, len(self._unended) + 1):
                self._start()
            self._unended.add(job)
            job.add_done_callback(self._unended.discard)
            self._queue.put(job)
        return job

    def check(self) -> None:
        """Fails every job if a thread died before its time; for who waits in another way."""
        dead = sum(life() is None for life in self._lives)
        if not dead or (self._is_closed and dead < len(self._lives)):
            return
        self._drain()
        for job in list(self._unended):
            with suppress(InvalidStateError):
                job.set_exception(
                    ThreadDied(
                        f"a thread ({self._name}) ended without saying what became of its work; "
                        "most likely the memory was used up"
                    )
                )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more jobs; without `wait` returns while they run."""
        with self._lock:
            self._is_closed = True
            if cancel_futures:
                for job in self._drain():
                    job.cancel()
            for _ in self._lives:
                self._queue.put(None)
        if wait:
            self._join(float("inf"))

    def stop(self) -> None:
        """Gives every job up, and waits a while for those that run."""
        self._stop.set()
        self.shutdown(wait=False, cancel_futures=True)
        left = self._join(_GRACE_SECONDS)
        if left:
            _LOG.warning("%d threads (%s) did not stop and are left behind", left, self._name)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> Literal[False]:
        if error is None:
            self.shutdown()
        else:
            self.stop()
        return False

    def _start(self) -> None:
        life = _Life()
        ended = self._one_ended
        seen = weakref.ref(life, lambda _: ended.set())
        try:
            # Not `Thread.start`: it waits for a thread that dies before it begins.
            _thread.start_new_thread(_work, (life, self._queue, self._stops))
        except RuntimeError as error:
            if not self._lives:
                raise ThreadDied(f"no thread ({self._name}) can be started: {error}") from error
        else:
            self._lives.append(seen)

    def _drain(self) -> list[_AnyJob]:
        jobs = []
        with suppress(Empty):
            while True:
                job = self._queue.get_nowait()
                if job is not None:
                    jobs.append(job)
        return jobs

    def _join(self, seconds: float) -> int:
        """Waits until all threads have ended; how many have not in that time."""
        until = time.monotonic() + seconds
        while True:
            self._one_ended.clear()
            left = sum(life() is not None for life in self._lives)
            if not left or time.monotonic() >= until:
                return left
            self._one_ended.wait(_LOOK_SECONDS)


def _work(
    life: _Life, queue: SimpleQueue[_AnyJob | None], stops: tuple[threading.Event, ...]
) -> None:
    """Of a thread: works jobs off until there is None."""
    # What started this thread holds it until the thread ends. This frame must not: the errors of
    # jobs hold frames, and whoever keeps such an error would keep the dead alive.
    del life
    _HERE.stops = stops
    try:
        while (job := queue.get()) is not None:
            job.run()
            del job
    except BaseException:  # whoever waits for the job learns of it
        _LOG.critical("a thread ended without saying what became of its work", exc_info=True)

"""Work that overlaps: while one batch is worked on the next is read and the last is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from market_pipeline.threads import Workers

__all__ = ["Background", "read_ahead"]

_Item = TypeVar("_Item")
_WAITING_JOBS = 2


def read_ahead(items: Iterable[_Item], *, overlap: bool = True) -> Iterator[_Item]:
    """Yields the items in order; the one after is made by another thread meanwhile.

    What making an item raises is raised where that item would have come. Without `overlap` there is
    no other thread: where every core has work of its own, a second thread only costs.
    """
    source = iter(items)
    if not overlap:
        yield from source
        return
    end = object()
    with Workers(1, "read-ahead") as pool:
        coming: Future[Any] = pool.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, source, end)
            yield item
            del item  # or it would be held while the next one is waited for


class Background:
    """Runs jobs one after the other in a thread of its own; a context manager.

    `add` waits while two jobs are not done, so what they hold stays bounded. What a job raises is
    raised by a later `add` or `settle`. Without `overlap` each job is done when `add` returns.
    """

    def __init__(self, *, overlap: bool = True) -> None:
        self._pool = Workers(1, "background") if overlap else None
        self._jobs: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def add(self, job: Callable[..., None], *arguments: Any) -> None:
        """Runs a job after those before it."""
        if self._pool is None:
            job(*arguments)
            return
        while len(self._jobs) >= _WAITING_JOBS:
            self._jobs.popleft().result()
        self._jobs.append(self._pool.submit(job, *arguments))

    def settle(self) -> None:
        """Waits until all jobs are done."""
        while self._jobs:
            self._jobs.popleft().result()

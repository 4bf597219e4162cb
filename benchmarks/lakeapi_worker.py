"""Runs lakeapi's `OrderBookUpdater` on arrays from a folder; started with the rivals' Python.

It is driven as its users drive it: the updater is made from a frame, `process_next_update` applies
one message, and `get_bests` reads the book. The frame and the updater are made before the clock
starts. lakeapi has no top N: the 20 best of each side are taken as its own pruning takes them, by
sorting the keys in compiled code.

It reads one task a line (`bests`, `tops`, `results`) and answers each with a line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]
from lakeapi.orderbook import OrderBookUpdater  # type: ignore[import-not-found,unused-ignore]
from numba import njit

from benchmarks.measure import cpu_seconds

_TOP = 20


@njit
def _write_top(book, best_is_highest, prices, sizes):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    levels = sorted(book.keys(), reverse=best_is_highest)
    for rank in range(min(len(levels), prices.size)):
        prices[rank] = levels[rank]
        sizes[rank] = book[levels[rank]]


class Worker:
    """The passes over one feed.

    Args:
        folder: Holds the columns as `.npy` and takes the results.
        top_rows: The top 20 is taken on so many first rows, because it is slow.
    """

    def __init__(self, folder: Path, top_rows: int) -> None:
        self._folder = folder
        names = ("received_time", "sequence_number", "side_is_bid", "price", "size")
        columns = {name: np.load(folder / f"{name}.npy") for name in names}
        self._frame = pd.DataFrame(columns)
        self._first_rows = self._frame.iloc[:top_rows]
        self._updater: OrderBookUpdater = None
        messages = 1 + np.count_nonzero(np.diff(columns["received_time"][:top_rows]))
        self._tops = [np.zeros((messages, _TOP)) for _ in range(4)]

    def bests(self) -> float:
        """CPU seconds of best bid and ask after every message."""
        return cpu_seconds(self._read_bests, lambda: self._begin(self._frame))

    def tops(self) -> float:
        """CPU seconds of the top 20 of both sides after every message of the first rows."""
        return cpu_seconds(self._read_tops, lambda: self._begin(self._first_rows))

    def results(self) -> float:
        """Writes what is read after every message to the folder, and times nothing.

        `<task>.npy` is float64 (messages, 4) or (messages, 4, 20): bid price, bid size, ask price,
        ask size; `<task>_ends.npy` is the row after each message.
        """
        self._begin(self._frame)
        ends, bests = [], []
        while end := self._updater.process_next_update():
            bid, ask = self._updater.get_bests()
            ends.append(end)
            bests.append((bid, self._updater.bid[bid], ask, self._updater.ask[ask]))
        self._begin(self._first_rows)
        top_ends = self._read_tops()
        for name, values in (
            ("bests", np.array(bests)),
            ("bests_ends", np.array(ends)),
            ("tops", np.stack(self._tops, axis=1)),
            ("tops_ends", np.array(top_ends)),
        ):
            np.save(self._folder / f"{name}.npy", values)
        return 0.0

    def _begin(self, frame: pd.DataFrame) -> None:
        self._updater = OrderBookUpdater(frame)

    def _read_bests(self) -> None:
        updater = self._updater
        while updater.process_next_update():
            updater.get_bests()

    def _read_tops(self) -> list[int]:
        updater = self._updater
        bid_price, bid_size, ask_price, ask_size = self._tops
        ends: list[int] = []
        while end := updater.process_next_update():
            row = len(ends)
            _write_top(updater.bid, True, bid_price[row], bid_size[row])
            _write_top(updater.ask, False, ask_price[row], ask_size[row])
            ends.append(end)
        return ends


def main() -> None:
    """Answers tasks until standard input ends."""
    worker = Worker(Path(sys.argv[1]), int(sys.argv[2]))
    tasks = {"bests": worker.bests, "tops": worker.tops, "results": worker.results}
    for line in sys.stdin:
        sys.stdout.write(json.dumps({"cpu_s": tasks[line.strip()]()}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

"""What became of an object of a raw day when it was to be fetched, and how far a fetch is."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from market_pipeline.errors import StoreError

__all__ = ["ACTIONS", "Action", "FetchProgress", "FetchStopped", "FetchedObject"]

Action = Literal[
    "fetched", "changed", "unchanged", "gone", "replaced", "waiting", "unasked", "failed"
]
ACTIONS: tuple[Action, ...] = get_args(Action)
"""What may become of an object."""


@dataclass(frozen=True, slots=True)
class FetchedObject:
    """One object of an instrument's day of a raw table, and what became of it.

    Attributes:
        name: Its name in the day's folder of the store.
        uri: Where it is, or was, at the store.
        etag, bytes, sha256: The store's tag of the version that is local, its size and its hash;
            None if not known. Of an object of which nothing is local, tag and size as listed.
        version: 1, and one more for each time its bytes were found changed.
        path: The local file that is part of the day; None if there is none.
        action: fetched (for the first time), changed (fetched as a further version), unchanged,
            gone (the store has it no more, the local file is still part of the day), replaced (gone
            while other objects of the day came or changed, so no part of it any more), waiting (it
            has come, and is no part of the day until the others have), unasked (the store could not
            be listed), failed (it could not be fetched).
        downloaded_bytes: What this call downloaded of it.
        failure: Why it could not be listed or fetched.
        is_damaged: The local file has no longer the bytes that were fetched.
    """

    name: str
    uri: str
    etag: str | None
    bytes: int | None
    sha256: str | None
    version: int
    path: Path | None
    action: Action
    downloaded_bytes: int = 0
    failure: StoreError | None = None
    is_damaged: bool = False

    @property
    def verified_sha256(self) -> str | None:
        """The hash of the local file, which the fetch has taken or compared; None if it has not."""
        return None if self.path is None or self.is_damaged else self.sha256

    @property
    def remark(self) -> str | None:
        """What speaks against the object at the store, in a sentence; None if nothing does."""
        remarks = []
        if self.version > 1:
            remarks.append(
                f"its bytes changed since it was first fetched, this is version {self.version}"
            )
        if self.action == "gone":
            remarks.append("it is gone from the store, and the local copy is used")
        if self.action == "replaced":
            remarks.append(
                "it is gone from the store, where others took its place, and is not used"
            )
        used = "" if self.path is None else ", and the local copy is used"
        if self.action == "waiting":
            remarks.append(f"it has come, but not all of its day{used}")
        if self.failure is not None:
            could_not = "be asked for" if self.action == "unasked" else "be fetched"
            remarks.append(f"it could not {could_not}{used}: {self.failure}")
        if self.is_damaged:
            remarks.append("the local copy has no longer the bytes that were fetched")
        return f"The object {self.uri}: {'; '.join(remarks)}" if remarks else None


class FetchStopped(Exception):
    """The fetch an object belongs to was given up."""


class FetchProgress:
    """How far a fetch is; updated by many threads, read by any.

    Attributes:
        expected, done: How many objects are to be downloaded as far as they are listed, and of how
            many that came to an end, good or bad.
        expected_bytes, arrived_bytes: The same in bytes.
        actions: How many objects there were of each `Action` so far.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self.expected = self.done = self.expected_bytes = self.arrived_bytes = 0
        self.actions: Counter[Action] = Counter()

    def expect(self, size: int) -> None:
        """An object of so many bytes is to be downloaded."""
        with self._lock:
            self.expected += 1
            self.expected_bytes += size

    def arrived(self, count: int) -> None:
        """So many bytes have come.

        Raises:
            FetchStopped: `stop` was called.
        """
        if self._stopped:
            raise FetchStopped
        with self._lock:
            self.arrived_bytes += count

    def ended(self, size: int, arrived: int) -> None:
        """A download came to an end; of its `size`, so many bytes had come."""
        with self._lock:
            self.done += 1
            self.expected_bytes -= size - arrived

    def became(self, action: Action) -> None:
        """That became of an object."""
        with self._lock:
            self.actions[action] += 1

    def stop(self) -> None:
        """Has every download end at its next bytes; what has come stays."""
        self._stopped = True

    def __str__(self) -> str:
        return (
            f"{self.done:,} of {self.expected:,} objects, {self.arrived_bytes / 1e6:,.1f} of "
            f"{self.expected_bytes / 1e6:,.1f} MB"
        )

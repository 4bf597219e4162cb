"""The process through which the output of a step goes: scrubs it, keeps it and shows it.

It is started by `compute_logs` and imports nothing but `scrub`, so that it is there in some
hundredths of a second. It ends when nobody has the pipes open any more.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
from contextlib import suppress
from pathlib import Path

from market_pipeline.scrub.scrubber import learn, scrubbed

__all__ = ["main"]

_READ_BYTES = 1 << 16
_IDLE_SECONDS = 0.2
"""A line that is not ended is shown after that time: a question, or a bar of progress."""
_MOST_HELD = 1 << 16
"""Of a longer line the beginning is written; the rest waits for what a secret may go on with."""
_TAIL = 1_000


class _Stream:
    """One stream: where it goes, and the line that is not ended."""

    def __init__(self, shown: int, path: Path) -> None:
        self._shown = shown
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._held = b""

    def take(self, data: bytes) -> None:
        """Takes what came, and writes the lines that it ends."""
        lines, newline, self._held = (self._held + data).rpartition(b"\n")
        self._write(lines + newline)
        if len(self._held) > _MOST_HELD:
            self._write(self._held[:-_TAIL])
            self._held = self._held[-_TAIL:]

    def flush(self) -> None:
        """Writes the line that is not ended."""
        self._write(self._held)
        self._held = b""

    def _write(self, data: bytes) -> None:
        if not data:
            return
        clean = scrubbed(data.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        for descriptor in (self._shown, self._file):
            left = memoryview(clean)
            with suppress(OSError):  # a closed terminal, a full disk: the other one is served
                while left:
                    left = left[os.write(descriptor, left) :]


class _Secrets:
    """The secrets that the step's process knows, a line of JSON each."""

    def __init__(self, source: int) -> None:
        self.source = source
        self._held = b""
        os.set_blocking(source, False)

    def hear(self) -> bool:
        """Learns what has come so far: the step sends a secret before it writes it.

        Returns:
            Whether more may come.
        """
        with suppress(BlockingIOError):
            while data := os.read(self.source, _READ_BYTES):
                *lines, self._held = (self._held + data).split(b"\n")
                learn(*(json.loads(line) for line in lines))
            return False
        return True


def main(arguments: list[str]) -> None:
    """Goes on until every stream has ended.

    Args:
        arguments: Where secrets come from, then of each stream its source, the descriptor where it
            is shown, and its file.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # what the step says to that is kept too
        signal.signal(number, signal.SIG_IGN)
    secrets = _Secrets(int(arguments[0]))
    with selectors.DefaultSelector() as selector:
        # Also while nothing is written: the step waits where the pipe is full of secrets.
        selector.register(secrets.source, selectors.EVENT_READ)
        streams = {}
        for source, shown, path in zip(*(arguments[n::3] for n in (1, 2, 3)), strict=True):
            streams[int(source)] = _Stream(int(shown), Path(path))
            selector.register(int(source), selectors.EVENT_READ)
        while streams:
            ready = [key.fd for key, _ in selector.select(_IDLE_SECONDS)]
            if secrets.source in ready and not secrets.hear():
                selector.unregister(secrets.source)
            for source in streams.keys() & {*ready}:
                data = os.read(source, _READ_BYTES)
                secrets.hear()
                streams[source].take(data)
                if not data:
                    streams.pop(source).flush()
                    selector.unregister(source)
            for stream in () if ready else streams.values():
                stream.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
